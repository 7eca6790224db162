"""Whole lives of carry positions: which commands a chapter may hold, how a life is drawn, how it ends and is judged."""

from __future__ import annotations

import json
import random
from contextlib import closing
from decimal import Decimal

from sqlalchemy import MetaData, create_engine, text

from evenkeel.legs import CARRY, PositionStatus
from evenkeel.settings.settings import load_settings
from state.store import Store
from tasks.carry.closing.close_out import ENDED
from tasks.carry.mark import LIVE
from tests.chaos.carry.invariants import VenueLedgers, check
from tests.chaos.carry.kinds import KINDS
from tests.chaos.carry.stories import ENTER, EXIT, FLATTEN, REBALANCE, RECOVER
from tests.chaos.findings import Findings, check_secrets
from tests.chaos.process import Step
from tests.chaos.seeded.kinds import Calls, Kind, SeededLives
from tests.chaos.seeded.lives import Chapter, Life, Planned
from tests.chaos.seeded.playing import Played, Playing

COMMANDS: dict[str, tuple[Step, ...]] = {
    "enter": (ENTER,),
    "watch": (),
    "rebalance": (REBALANCE,),
    "collect": (("collect", {}),),
    "recover": (RECOVER,),
    "exit": (EXIT,),
    "flatten": (FLATTEN,),
}
MIDDLE = ("watch", "watch", "watch", "rebalance", "collect", "recover")
ENDS = ("exit", "flatten")
HOURS = (1.0, 2.0, 3.0, 5.0, 8.0)
UNTIMED = {"leases", "heartbeats", "alembic_version"}
"""Tables that name the process which wrote them."""


def tend(seconds: float) -> Step:
    return ("tend", {"seconds": seconds})


def draw_life(chance: random.Random, calls: Calls) -> Life:
    """An entry, one to three chapters, a way out, and three to six faults spread over them, at most two in a chapter."""
    whats = [
        "enter",
        *(chance.choice(MIDDLE) for _ in range(chance.choice((1, 1, 2, 3)))),
        "exit" if chance.random() < 0.75 else "flatten",
    ]
    faults: list[list[Planned]] = [[] for _ in whats]
    weights = [2, *(1 for _ in whats[2:]), 2]  # most can go wrong where both legs change
    for _ in range(chance.choice((3, 3, 4, 4, 5, 6))):
        (at,) = chance.choices(range(len(whats)), weights)
        if len(faults[at]) == 2:
            continue
        if (planned := _drawn(chance, whats[at], calls)) is not None:
            faults[at].append(planned)
    return Life(
        tuple(
            Chapter(what, chance.choice(HOURS) if at else 0.0, tuple(faults[at]))
            for at, what in enumerate(whats)
        )
    )


def _drawn(chance: random.Random, what: str, calls: Calls) -> Planned | None:
    fitting = [kind for kind in KINDS if what in (kind.chapters or (what,))]
    kind: Kind = chance.choices(fitting, [one.weight for one in fitting])[0]
    params = kind.draw(chance, calls[what])
    return None if params is None else Planned(kind.name, params)


def _store(playing: Playing) -> Store:
    return Store.open(load_settings(playing.config).database.url, playing.twins.world)  # type: ignore[arg-type]


def is_anything_open(playing: Playing) -> bool:
    with closing(_store(playing)) as store:
        return bool(store.carry.positions(LIVE) or store.unfinished_intents(CARRY))


def held(playing: Playing) -> list[str]:
    with closing(_store(playing)) as store:
        return [one.position_id for one in store.carry.positions([PositionStatus.OPEN])]


def before(playing: Playing, what: str) -> tuple[Step, ...]:
    """A chapter other than an entry meets an open position: where none is left, another one is entered first."""
    return () if what == "enter" or is_anything_open(playing) else (ENTER,)


AFTERWARDS: tuple[Step, ...] = (
    ("recover", {}),
    ("level", {}),
    ("rest", {"seconds": 2.5 * 3600}),
    ("recover", {}),
    ("status", {}),
)


def after(playing: Playing, life: Life) -> None:
    """Everything is healed, and whatever is open is left; hours later the last funding is collected."""
    problems = playing.played.problems
    for _ in range(4):
        with closing(_store(playing)) as store:
            left = [one for one in store.carry.positions() if one.status not in ENDED]
        if not left:
            break
        playing.run(EXIT if left[0].status is PositionStatus.OPEN else RECOVER)
        playing.later(5)
    done = playing.run(*AFTERWARDS)
    if done.code != 0:
        problems.append(("other", f"recovery ended with {done.code}: {done.answers[-1:] or done.last_lines}"))
        return
    first, _, _, second, status = done.answers
    for recovery in (first, second):
        if not recovery["clean"]:
            problems.append(("unfinished", f"recovery was not clean: {recovery}"))
    for name in ("unfinished_intents", "unowned_legs", "unreadable"):
        if status[name]:
            problems.append(("unfinished", f"status shows {name}: {status[name]}"))
    for position in status["positions"]:
        problems.append(("unfinished", f"nothing disturbs it, and it is not left: {position}"))


def check_life(playing: Playing, played: Played) -> Findings:
    """Every invariant, by the venues' own ledgers, and that neither venue holds anything."""
    venues = VenueLedgers.read(playing.twins)
    with closing(_store(playing)) as store:
        entries = len(store.carry.positions())
        found = check(venues, store, outages=playing.outages, entries=entries)
    if venues.short_qty != 0 or any(one["live"] and Decimal(one["tokens"]) for one in venues.lending):
        found.add(
            "unowned leg", f"at the end {venues.short_qty} SOL are short and the lender holds something"
        )
    check_secrets(found, playing.folder, playing.twins.keys)
    return found


def ledger(playing: Playing) -> list[str]:
    """Every row of every table, in order."""
    engine = create_engine(load_settings(playing.config).database.url)
    tables = MetaData()
    tables.reflect(engine)
    rows = []
    with engine.connect() as db:
        for name in sorted(set(tables.tables) - UNTIMED):
            found = sorted(
                json.dumps([str(cell) for cell in row]) for row in db.execute(text(f'SELECT * FROM "{name}"'))
            )
            rows += [f"{name} {row}" for row in found]
    engine.dispose()
    return rows


RECORDED = Life(
    tuple(
        Chapter(what, 1.0)
        for what in ("enter", "watch", "rebalance", "collect", "recover", "exit", "flatten")
    )
)
CARRY_LIVES = SeededLives(
    kinds=KINDS,
    commands=COMMANDS,
    tend=tend,
    draw_life=draw_life,
    is_anything_open=is_anything_open,
    held=held,
    leaving=ENDS,
    before=before,
    after=after,
    check=check_life,
    environment={"EVENKEEL_STRATEGY__BREACH_POLL_INTERVAL_S": "5"},
    recorded=RECORDED,
    ledger=ledger,
)
