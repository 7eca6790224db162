"""The trade's stories under one mutation: what each must never do, by the venues' own ledgers, and what it must name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from evenkeel.errors import EvenkeelError
from evenkeel.legs import LegSide, PositionStatus
from flows.carry.enter import EnterRequest, EntryStatus, enter_position
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.flatten import flatten_everything
from flows.carry.monitor import UNDONE, MonitorRequest, watch_position
from flows.carry.report import ReportRequest, account_for
from flows.carry.scan import ScanRequest, scan_markets
from state.watch_models import Alert
from tasks.carry.books.collect import collect_everything
from tasks.carry.entering import entry
from tasks.carry.watching.seen import Seen, read_position
from tests.carry.rig import ORDER, Rig, story_rig
from tests.fuzz.mutations import Mutation, mutations_of
from tests.fuzz.recording import Answers, Recorder
from tests.interruptions import hooked
from twins.faults import Fault

LIMITS = {"stale_exit_after_s": "20", "outage_exit_after_s": "15", "breach_duration_s": "10"}
"""Short, so that what would close something does so within one watch."""
STRATEGY = {"breach_poll_interval_s": "8"}
"""A tick every 8 s while something is odd: enough of them to run each of those limits out."""
WATCHED_S = 45
WALL_S = 1800.0
"""Far beyond what a story takes on the busiest machine: one that is still going then hangs."""
NAKED = Decimal("0.5")
ENTRY: dict[str, Any] = {"asset": "jitoSOL", "protocol": 1}
ORDER_RECORD = "info:orderStatus"
"""Asked only about an order whose answer is lost."""
FILLS = "userFills"
"""What is booked from such a figure stays in the books, contradicts the venue, and keeps every later entry back."""
MOVED = Decimal("0.01")
"""The market stands: a figure that moves further was read wrong."""


FIGURES = {
    "sol_price_usd": "price of SOL",
    "token_price_usd": f"price of {ENTRY['asset']}",
    "lend_apr": "lending rate",
    "borrow_apr": "borrowing rate",
    "funding_expected_hourly": "expected funding",
    "context.mark_px": "mark price",
    "context.mid_px": "no book",
}
"""What a person calls them."""
UNJUDGED = frozenset({"short.entry_price_usd"})
"""Figures that no decision reads: they may be absent in silence."""


def is_hedged(rig: Rig) -> bool:
    """Both venues hold the same, or both nothing."""
    return abs(rig.long_sol() - rig.short_qty()) <= NAKED


class Session:
    """One rig for many mutations; an open position stays for the stories that must not change it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.position_id: str | None = None
        self.spoiled = False
        """Whether this rig is of no further use."""

    async def opened(self) -> str:
        """The open position, entered where there is none."""
        if self.position_id is None or self.rig.status(self.position_id) is not PositionStatus.OPEN:
            self.position_id = await self.rig.entered(**ENTRY)
        return self.position_id

    async def left(self) -> None:
        """Close the position, where one is open."""
        if self.position_id is not None:
            await exit_position(self.rig.desk, ExitRequest(position_id=self.position_id))
            self.position_id = None

    def alerts(self) -> dict[tuple[str, str], Alert]:
        return {(row.kind, row.subject): row for row in self.rig.desk.store.alerts(open_only=True)}


async def monitor(session: Session, mutation: Mutation) -> list[str]:
    """A watch closes nothing, and says by name what it cannot judge."""
    rig, desk = session.rig, session.rig.desk
    position_id = await session.opened()
    position = desk.store.carry.position(position_id)
    long_leg = desk.store.carry.leg(position_id, LegSide.LONG)
    await desk.clock.refresh()
    calm = await read_position(desk, position, long_leg)
    known = set(session.alerts())
    fault = _begin(rig, mutation)
    until_ms = desk.clock.now_ms() + WATCHED_S * 1000
    result = await watch_position(desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
    judged = fault.hits and not mutation.is_far_off
    wrong = _misread(calm, await read_position(desk, position, long_leg)) if judged else []
    found = []
    done = [one for one in result.actions if not one.startswith(UNDONE)]
    if result.status is not PositionStatus.OPEN or done:
        found.append(f"the watch ended {result.status} after {done}")
        session.spoiled = True
    if not is_hedged(rig):
        found.append(f"one leg alone: long {rig.long_sol():.3f}, short {rig.short_qty():.3f}")
        session.spoiled = True
    raised = {key: row for key, row in session.alerts().items() if key not in known}
    if wrong and not any(_names(row, mutation, wrong) for row in raised.values()):
        texts = "; ".join(row.text for row in raised.values()) or "nothing"
        found.append(f"{', '.join(wrong)} could not be read, and no alert names it: {texts}")
    rig.heal()
    if raised:
        until_ms = desk.clock.now_ms() + 1000
        await watch_position(desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
    return found


def _begin(rig: Rig, mutation: Mutation) -> Fault:
    """From now on the venue answers so. Where only a lost answer lets us ask at all, that is lost as well."""
    if mutation.call == ORDER_RECORD:
        rig.fault("hyperliquid", "drop_answer", ORDER)
    return rig.fault(mutation.venue, "field", **mutation.fault)


def _figures(seen: Any, name: str = "") -> dict[str, Any]:
    """Every figure of a reading, however deep; not its times."""
    if isinstance(seen, dict):
        found: dict[str, Any] = {}
        for key, value in seen.items():
            if not str(key).endswith("_ms"):
                found |= _figures(value, f"{name}.{key}" if name else str(key))
        return found
    return {name: seen}


def _misread(calm: Seen, seen: Seen) -> list[str]:
    """Figures that were there before and are not now, or that have moved while the market stood."""
    before, after = _figures(calm.model_dump()), _figures(seen.model_dump())
    wrong = []
    for name, value in before.items():
        if name in UNJUDGED or value is None or isinstance(value, str | tuple | bool):
            continue
        now = after.get(name)
        if now is None or abs(Decimal(str(now)) - Decimal(str(value))) > MOVED * max(
            abs(Decimal(str(value))), MOVED
        ):
            wrong.append(name)
    return wrong


def _names(row: Alert, mutation: Mutation, wrong: list[str]) -> bool:
    """Whether the alert says what is odd: the field, the call, or the figure that is missing for it."""
    call = re.split(r"[ :/]", mutation.call)[-1]
    fields = [str(part) for part in mutation.path if isinstance(part, str)]
    figures = [part for name in wrong for part in (*name.split("."), FIGURES.get(name, name))]
    text = f"{row.kind} {row.subject} {row.text}".lower().replace("_", " ")
    return any(word.lower().replace("_", " ") in text for word in (*fields, *figures, call))


async def leave(session: Session, mutation: Mutation) -> list[str]:
    """An exit ends level, and flat once the venues speak as before."""

    async def story(position_id: str) -> None:
        await exit_position(session.rig.desk, ExitRequest(position_id=position_id))

    return await _closed(session, mutation, story)


async def flatten(session: Session, mutation: Mutation) -> list[str]:
    """So does the kill switch."""

    async def story(position_id: str) -> None:
        await flatten_everything(session.rig.desk, "fuzz", within_s=60)

    found = await _closed(session, mutation, story)
    session.rig.desk.store.resume("all")
    return found


async def _closed(session: Session, mutation: Mutation, story: Callable[[str], Awaitable[None]]) -> list[str]:
    rig = session.rig
    position_id = await session.opened()
    _begin(rig, mutation)
    with suppress(EvenkeelError):
        await story(position_id)
    found = []
    if not is_hedged(rig):
        found.append(f"one leg alone: long {rig.long_sol():.3f}, short {rig.short_qty():.3f}")
    rig.heal()
    rig.later(130)
    await rig.recovered()
    if rig.status(position_id) not in (PositionStatus.CLOSED, PositionStatus.FAILED):
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
    if not rig.flat:
        found.append(f"not flat afterwards: long {rig.long_sol():.3f}, short {rig.short_qty():.3f}")
        session.spoiled = True
    session.position_id = None
    return found


async def enter(session: Session, mutation: Mutation) -> list[str]:
    """An entry opens both legs or none, or waits for a venue with both."""
    await session.left()
    _begin(session.rig, mutation)
    return await _entered(session, mutation)


async def hedge(session: Session, mutation: Mutation) -> list[str]:
    """So does one whose venues answer so once the long is held; and no figure that is far off alone unwinds it."""
    await session.left()
    with hooked(entry, "hedge", before=lambda: _begin(session.rig, mutation)):
        return await _entered(session, mutation)


async def _entered(session: Session, mutation: Mutation) -> list[str]:
    rig = session.rig
    try:
        result = await enter_position(rig.desk, EnterRequest(**ENTRY))
    except EvenkeelError:
        result = None
    found = []
    if result is not None and result.status is EntryStatus.CLOSED and mutation.is_far_off:
        found.append(f"the entry was unwound: {result.reasons}")
    if not is_hedged(rig):
        found.append(f"one leg alone: long {rig.long_sol():.3f}, short {rig.short_qty():.3f}, {result}")
    rig.heal()
    rig.later(130)
    await rig.recovered()
    live = [one for one in rig.desk.store.carry.positions() if one.closed_ms is None]
    if not is_hedged(rig) or bool(live) == rig.flat:
        found.append(
            f"after recovery {len(live)} positions, long {rig.long_sol():.3f}, short {rig.short_qty():.3f}"
        )
        session.spoiled = True
    session.position_id = live[0].position_id if live else None
    return found


async def _read_only(
    session: Session, mutation: Mutation, story: Callable[[str], Awaitable[Any]]
) -> list[str]:
    rig = session.rig
    position_id = await session.opened()
    _begin(rig, mutation)
    with suppress(EvenkeelError):
        await story(position_id)
    rig.heal()
    return []


async def scan(session: Session, mutation: Mutation) -> list[str]:
    return await _read_only(session, mutation, lambda _: scan_markets(session.rig.desk, ScanRequest()))


async def collect(session: Session, mutation: Mutation) -> list[str]:
    return await _read_only(session, mutation, lambda _: collect_everything(session.rig.desk))


async def report(session: Session, mutation: Mutation) -> list[str]:
    desk = session.rig.desk
    return await _read_only(session, mutation, lambda one: account_for(desk, ReportRequest(position_id=one)))


Story = Callable[[Session, Mutation], Awaitable[list[str]]]
STORIES: dict[str, Story] = {
    "monitor": monitor,
    "exit": leave,
    "flatten": flatten,
    "enter": enter,
    "hedge": hedge,
    "scan": scan,
    "collect": collect,
    "report": report,
}


async def play(session: Session, story: str, mutation: Mutation) -> list[str]:
    """What a story did wrong under a mutation; an exception outside of the tree of errors is one of those things."""
    try:
        async with asyncio.timeout(WALL_S):
            return await STORIES[story](session, mutation)
    except TimeoutError:
        session.spoiled = True
        return [f"still going after {WALL_S:.0f} s"]
    except Exception as error:
        session.spoiled = True
        return [f"{type(error).__name__}: {error}"]
    finally:
        session.rig.heal()
        if mutation.is_believed and FILLS in mutation.call:
            session.spoiled = True


@asynccontextmanager
async def session_in(folder: Path) -> AsyncIterator[Session]:
    """A fresh rig, on an hour in which something was paid."""
    async with story_rig(folder, limits=LIMITS, strategy=STRATEGY) as rig:
        yield Session(rig)


@dataclass(frozen=True)
class Recorded:
    """Every answer of a whole life, which calls the watch makes, and the names by which rows of ours are known."""

    answers: Answers
    watched: frozenset[tuple[str, str]]
    ours: tuple[str, ...]


async def recorded(folder: Path) -> Recorded:
    """Live a life, and keep what the venues answered."""
    recorder = Recorder()
    async with session_in(folder) as session:
        desk = session.rig.desk
        for client, venue in (
            (desk.short.client._http, "hyperliquid"),  # type: ignore[attr-defined]
            (desk.long.client._http, "asgard"),
            (desk.long.rpc._http, "solana"),
        ):
            recorder.listen(client, venue)
        await scan_markets(desk, ScanRequest())
        session.rig.fault("hyperliquid", "drop_answer", ORDER)
        position_id = await session.opened()
        session.rig.fund("1.5")
        session.rig.later(2 * 3600)
        await desk.clock.refresh()
        until_ms = desk.clock.now_ms() + 40_000
        recorder.calls.clear()
        await watch_position(desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
        watched = frozenset(recorder.calls)
        await account_for(desk, ReportRequest(position_id=position_id))
        leg = desk.store.carry.open_legs()
        ours = ("SOL", "jitoSOL", *(one.ref for one in leg), desk.long.wallet, desk.short.address)
        await exit_position(desk, ExitRequest(position_id=position_id))
    return Recorded(recorder.answers, watched, ours)


async def all_mutations(folder: Path) -> tuple[list[Mutation], list[Mutation]]:
    """Every mutation of every answer of a life, in an order that does not change; and those of calls of the watch."""
    life = await recorded(folder)
    found = [
        one
        for (venue, call), body in sorted(life.answers.items())
        for one in mutations_of(venue, call, body, life.ours, far_off=True)
    ]
    every = list({one.name: one for one in found}.values())
    return every, [one for one in every if (one.venue, one.call) in life.watched]
