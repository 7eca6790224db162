"""Stories of hedging crossed with faults: each outside call with each fault, and a death on both sides of each commit.

Most of it plays in one process, whose deaths are an error that nothing may catch, with no write after it; what is called
SIGKILL is one, in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tests.chaos.hedging.bed import Bed, hedging_bed
from tests.chaos.hedging.commits import Commit, Commits
from tests.chaos.hedging.near import BREAKS
from tests.chaos.hedging.stories import STORIES
from tests.chaos.process import ProductProcess
from tests.databases import make_ledger
from twins.faults import Fault

LEDGER = "ledger"
CROSSES = " / "
TRANSPORT = ("drop_request", "drop_answer", "http_500", "http_500_after", "garbage", "http_429")
RANGE = "too_large"
"""Concerns questions for a range of blocks alone: the nth of those."""
LATE, LATE_S, GIVES_UP_S = "late", 2.6, 2.0
"""The caller has given up when the request gets through. Wall seconds, so many that on a busy machine no other call is late."""
OF_THE_NODE: dict[str, dict[str, dict[str, object]]] = {
    "eth_getLogs": {"lag": {"blocks": 50}, "removed": {}, "jumbled": {}, "too_large": {"blocks": 3}},
    "eth_getBlockByNumber": {"lag": {"blocks": 50}, "silent_chain": {}},
}
OF_ALPACA: dict[str, dict[str, object]] = {
    "reject": {},
    "cancel_unfilled": {},
    "overfill": {"factor": "1.25"},
    "slow": {"seconds": 40},
    "suspend": {"seconds": 40},
    "hidden": {"seconds": 8},
    "odd_status": {"status": "not_heard_of"},
    "refuse": {"message": "insufficient buying power", "status": 403, "code": 40310000},
    "refuse recorded": {"message": "qty is required", "recorded": True},
}
OF_SCHWAB: dict[str, dict[str, object]] = {
    "reject": {},
    "partial_cancel": {"fraction": "0.5"},
    "no_location": {},
    "wrong_location": {},
    "status": {"word": "NOT_HEARD_OF"},
}
WRITES = ("orders:place", "order:place", "token:refresh_token", "token:authorization_code")
MOST_OF_A_WRITE = 6
MONEY = frozenset(
    {
        "plan_intent",
        "record_ready",
        "mark_submitted",
        "mark_resending",
        "record_unknown",
        "record_working",
        "confirm",
        "attempt_dead",
        "fail_unsent",
        "book_window",
        "reverse_from",
        "keep_token",
    }
)
"""Commits each of whose occurrences counts; of the others the first and the last do."""
DIES = ("dies before", "dies after")
KILLED_AT_A_COMMIT = ("SIGKILL before", "SIGKILL after")
KILLED_AT_A_CALL = ("SIGKILL when it arrives", "SIGKILL after it was applied")
TAKEN_OVER = ("taken over when it arrives", "taken over after it was applied")
STOPPED = ("stopped and taken over when it arrives", "stopped and taken over after it was applied")
TWO = "two at once"
OWN_PROCESS = (*KILLED_AT_A_COMMIT, *KILLED_AT_A_CALL, *STOPPED, TWO)
PLAYED_WITHIN_S = 240.0


@dataclass(frozen=True)
class Crossing:
    """One story at one broker with one thing gone wrong: a fault at the nth call of a name, or a death at the nth commit."""

    story: str
    broker: str
    where: tuple[str, str]
    nth: int
    fault: str

    @property
    def name(self) -> str:
        return f"{self.story} at {self.broker}{CROSSES}{' '.join(self.where)}#{self.nth}{CROSSES}{self.fault}"

    @classmethod
    def of(cls, name: str) -> Crossing:
        """The one of this name. Raises ValueError where it is no name of one."""
        played, where, fault = name.split(CROSSES)
        (story, _, broker), (call, _, nth) = played.rpartition(" at "), where.rpartition("#")
        venue, _, call = call.partition(" ")
        return cls(story, broker, (venue, call), int(nth), fault)

    @property
    def is_in_its_own_process(self) -> bool:
        return self.fault in OWN_PROCESS

    @property
    def is_write(self) -> bool:
        return self.where[1] in WRITES or self.where[1] in MONEY


async def play(url: str, folder: Path, one: Crossing) -> None:
    """Play it, let later lives take up what is left, then hold the books against the twins. Raises AssertionError."""
    story = STORIES[one.story]
    async with asyncio.timeout(PLAYED_WITHIN_S):
        async with hedging_bed(url, one.broker, folder, start_ms=story.start_ms) as bed:
            planned = _armed(bed, one)
            with bed.near.sockets(one.fault in BREAKS):
                await story.act(bed)
            _disarm(bed)
            if one.fault == TWO:
                await _two_at_once(bed)
            bed.timeout_s = 10.0
            await bed.level()
            # What one order was filled above what was asked for is no less where another was filled in part.
            surplus = (filled - _asked(bed, ref) for ref, (_, filled) in bed.orders_filled().items())
            bed.verify(more=sum((max(one, Decimal(0)) for one in surplus), Decimal(0)))
            _check_reached(bed, one, planned)


def _armed(bed: Bed, one: Crossing) -> list[Fault]:
    """Let the thing go wrong when its turn comes; return what was planned at a twin."""
    bed.timeout_s = GIVES_UP_S if one.fault == LATE else 10.0
    if one.fault in DIES:
        bed.commits.point = Commit(one.where[1], one.nth, one.fault == DIES[0])
    elif one.fault in KILLED_AT_A_COMMIT:
        _killed_at_a_commit(bed, Commit(one.where[1], one.nth, one.fault == KILLED_AT_A_COMMIT[0]))
    elif one.fault in (*KILLED_AT_A_CALL, *TAKEN_OVER, *STOPPED):
        bed.watched.point = (one.where, one.nth)
        bed.watched.is_before = one.fault.endswith("when it arrives")
        bed.watched.seen.clear()
        bed.watched.act = bed.taken_over
        if one.fault not in TAKEN_OVER:
            _at_a_call(bed, stops=one.fault in STOPPED)
    elif one.fault != TWO:
        fault = _fault(one)
        bed.plan.add(fault)
        return [fault]
    return []


def _fault(one: Crossing) -> Fault:
    venue, call = one.where[0], re.escape(one.where[1])  # several calls of one request are joined by "+"
    kind, args, after = one.fault, dict[str, object](), one.nth - 1
    if kind == LATE:
        return Fault(venue, "delay", call, after=after, delay_s=LATE_S)
    if kind == "no such method":
        return Fault(venue, "one_endpoint", call, after=after, args={"how": "rpc_error", "code": -32601})
    if venue == "raindex" and kind in OF_THE_NODE.get(one.where[1], {}):
        args = OF_THE_NODE[one.where[1]][kind]
        call = ".*" if kind in ("too_large", "silent_chain") else call
    elif venue == "alpaca" and kind in OF_ALPACA:
        args, call = OF_ALPACA[kind], "order:.*"
        after -= _fills_a_part_first(one.story, kind)
        kind = kind.split()[0]
    elif venue == "schwab" and kind in OF_SCHWAB:
        args, call = OF_SCHWAB[kind], ".*"
    elif venue == "schwab" and kind == "hide":
        args, call = {"count": 1}, "order:list"
    elif kind == "invalid_grant":
        call = ".*"
    return Fault(venue, kind, call, after=after, args=dict(args))


def _fills_a_part_first(story: str, kind: str) -> bool:
    """Whether the story's first order is filled in part, so that such a fault is not asked for before the second."""
    return story in ("live", "cancelled") and kind in ("overfill", "suspend")


def _killed_at_a_commit(bed: Bed, point: Commit) -> None:
    """Each life is a process of its own until one of them is killed at its commit."""
    counted = _counted(bed)
    counted.write_text("")

    def prepare() -> None:
        """In the new process: go on counting where the last one stopped."""
        commits = Commits(point, lambda: os.kill(os.getpid(), signal.SIGKILL))
        commits.seen.update(counted.read_text().split())
        count = commits.seen

        class Kept(Counter[str]):
            def __setitem__(self, name: str, number: int) -> None:
                super().__setitem__(name, number)
                with counted.open("a") as file:
                    file.write(name + "\n")

        commits.seen = Kept()
        Counter.update(commits.seen, count)
        commits.count_for_good()

    bed.prepare = prepare
    bed.outside = lambda: counted.read_text().split().count(point.name) < point.nth


def _counted(bed: Bed) -> Path:
    """Where processes of their own note their commits."""
    return bed.folder / "commits"


def _at_a_call(bed: Bed, *, stops: bool) -> None:
    """Each life is a process of its own until the call has come: then it is killed, or stopped while another takes over."""
    running: list[ProductProcess] = []

    async def act() -> None:
        if not stops:
            running[-1].kill()
            return
        running[-1].suspend()
        await bed.taken_over()
        running[-1].resume()

    bed.begun = running.append
    bed.outside = lambda: not bed.watched.reached
    bed.watched.act = act
    bed.watched.is_lost = bed.watched.is_before and not stops


async def _two_at_once(bed: Bed) -> None:
    """Two processes hedge the same exposure: one of them does."""
    for symbol in ("TSLA", "MSFT"):
        bed.trade(symbol, "sell", "3")
    pair = [bed.begin(), bed.begin()]
    for one in await asyncio.gather(*(process.end() for process in pair)):
        if one.code not in (0, 1):
            raise AssertionError(f"a process ended with {one.code}: {one.last_lines}")
        if one.code == 1 and not str(one.answers[-1].get("error", "")).startswith("LostRace"):
            raise AssertionError(f"refused for something else: {one.answers[-1]}")


def _disarm(bed: Bed) -> None:
    bed.outside, bed.prepare = (lambda: False), None
    bed.plan.clear()
    bed.understand()


def _asked(bed: Bed, ref: str) -> Decimal:
    """What the order was for that the broker knows by this name."""
    if bed.schwab is not None:
        return bed.schwab.book.orders[int(ref)].quantity
    return next(one.qty or Decimal(0) for one in bed.account.orders if one.id == ref)


def _check_reached(bed: Bed, one: Crossing, planned: list[Fault]) -> None:
    """Raise AssertionError where the thing did not go wrong: the crossing showed nothing then."""
    if one.fault == TWO:
        return
    if one.fault in KILLED_AT_A_COMMIT:
        reached = int(_counted(bed).read_text().split().count(one.where[1]) >= one.nth)
    elif one.where[0] == LEDGER:
        reached = bed.commits.reached
    elif planned:
        reached = sum(fault.hits for fault in planned)
    else:
        reached = bed.watched.reached
    if not reached:
        raise AssertionError("its call or commit never came")


# --- which there are ----------------------------------------------------------------------------------------------


async def crossings(home: Path) -> list[Crossing]:
    """Every one, by what the stories call and commit when nothing goes wrong."""
    found: list[Crossing] = []
    for name, story in STORIES.items():
        for broker in story.brokers:
            folder = home / f"{name} at {broker}".replace(" ", "-")
            seen = await _recorded(folder, name, broker)
            for where, count in sorted(seen.calls.items()):
                found += _at_calls(name, broker, where, count, seen)
            for commit, count in sorted(seen.commits.items()):
                found += _at_commits(name, broker, commit, count, seen)
            found.append(Crossing(name, broker, (LEDGER, "lease"), 1, TWO))
    return found


@dataclass(frozen=True)
class Recorded:
    """What a story does when nothing goes wrong. `ranges`: how often logs are asked for by a range of blocks."""

    calls: Counter[tuple[str, str]]
    commits: Counter[str]
    ranges: int
    calls_in_lives: frozenset[tuple[tuple[str, str], int]]
    commits_in_lives: frozenset[tuple[str, int]]


async def _recorded(folder: Path, name: str, broker: str) -> Recorded:
    """Play a story undisturbed. Raises AssertionError where it fails by itself."""
    folder.mkdir(parents=True)
    story, url = STORIES[name], new_ledger(folder)
    async with hedging_bed(url, broker, folder, start_ms=story.start_ms) as bed:
        bed.watched.seen.clear()
        bed.commits.seen.clear()
        served = Fault("raindex", "too_large", times=-1, args={"blocks": 10**9})
        bed.plan.add(served)
        await story.act(bed)
        seen = Recorded(
            Counter(bed.watched.seen),
            Counter(bed.commits.seen),
            served.hits,
            frozenset(bed.watched.in_lives),
            frozenset(bed.commits.in_lives),
        )
        await bed.level()
        bed.verify()
    return seen


def _at_calls(story: str, broker: str, where: tuple[str, str], count: int, seen: Recorded) -> list[Crossing]:
    venue, call = where
    writes = call in WRITES
    places = _places(count, MOST_OF_A_WRITE) if writes else sorted({1, count})
    found = [
        Crossing(story, broker, where, nth, fault)
        for nth in places
        for fault in (*TRANSPORT, *((LATE,) if writes or nth == 1 else ()))
    ]
    if venue == "raindex":
        kinds = ("no such method", *(one for one in OF_THE_NODE.get(call, {}) if one != RANGE))
        found += [Crossing(story, broker, where, nth, kind) for nth in places for kind in kinds]
        if RANGE in OF_THE_NODE.get(call, {}):
            ranges = sorted({1, seen.ranges} - {0})
            found += [Crossing(story, broker, where, nth, RANGE) for nth in ranges if seen.ranges]
    if call in ("orders:place", "order:place"):
        kinds = tuple(OF_SCHWAB if venue == "schwab" else OF_ALPACA)
        found += [
            Crossing(story, broker, where, nth, kind)
            for nth in places
            for kind in kinds
            if nth > 1 or venue == "schwab" or not _fills_a_part_first(story, kind)
        ]
        if venue == "alpaca":
            found += [
                Crossing(story, broker, where, nth, kind)
                for nth in places
                for kind in ("unauthorized", "rate_limited")
            ]
    if call == "order:list":
        found.append(Crossing(story, broker, where, 1, "hide"))
    if call.startswith("token:"):
        found += [Crossing(story, broker, where, nth, "invalid_grant") for nth in places]
    own = (*KILLED_AT_A_CALL, *STOPPED) if writes else KILLED_AT_A_CALL[1:]
    for nth in places if writes else places[:1]:
        found += [Crossing(story, broker, where, nth, fault) for fault in TAKEN_OVER]
        if (where, nth) in seen.calls_in_lives:
            found += [Crossing(story, broker, where, nth, fault) for fault in own]
    return found


def _at_commits(story: str, broker: str, commit: str, count: int, seen: Recorded) -> list[Crossing]:
    places = _places(count, MOST_OF_A_WRITE) if commit in MONEY else sorted({1, count})
    found = [Crossing(story, broker, (LEDGER, commit), nth, fault) for nth in places for fault in DIES]
    in_lives = sum(name == commit for name, _ in seen.commits_in_lives)
    if commit in MONEY and in_lives:
        found += [Crossing(story, broker, (LEDGER, commit), 1, fault) for fault in KILLED_AT_A_COMMIT]
    return found


def _places(count: int, most: int) -> list[int]:
    """The first ones and the last."""
    return sorted({*range(1, min(count, most) + 1), count})


def new_ledger(folder: Path) -> str:
    """The URL of a fresh one."""
    url = f"sqlite:///{folder / 'evenkeel.db'}"
    make_ledger(url)
    return url


def sample(every: list[Crossing], size: int, seed: int) -> list[Crossing]:
    """So many of them, one of each fault first; the same seed gives the same."""
    pool = list(every)
    random.Random(seed).shuffle(pool)
    first: dict[str, Crossing] = {}
    for one in pool:
        first.setdefault(one.fault, one)
    rest = [one for one in pool if one not in first.values()]
    return [*first.values(), *rest][:size]
