"""Plays one life: processes of the product, one at a time, against twins in this process, on a clock that only they move."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.findings import Outage
from tests.chaos.interceptor import LATE_CALLS
from tests.chaos.process import Ended, Hook, ProductProcess, Step, misbehaved
from tests.chaos.seeded.calls import replied
from tests.chaos.seeded.lives import Chapter, Life
from tests.chaos.seeded.virtual import OwnTime, VirtualLoop, adopt
from tests.chaos.seeded.wire import LIMIT_S, Pipe, Reply, Request, announced, applied, call_through
from tests.chaos.testbed import TwinsAccess, _rpc_name
from twins.serve import BuiltTwins

if TYPE_CHECKING:
    from tests.chaos.business import Business
    from tests.chaos.seeded.kinds import SeededLives

ADDRESSES = {
    "http://127.0.0.1:1001": "hyperliquid",
    "http://127.0.0.1:1002": "solana",
    "http://127.0.0.1:1003": "asgard",
}
"""Where the product believes its venues to be. Nothing listens there."""
LATENCY_MS = 40
WATCHED_S = 150.0
"""A position is watched for so long after a chapter's command and its last fault."""
CALLS_OF_A_PROCESS = 30_000
RUNS_OF_A_CHAPTER = 12
"""How often the supervisor starts a process again in one chapter."""


@dataclass
class WorldTime:
    """The world's clock as the time of an event loop."""

    twins: BuiltTwins

    @property
    def ms(self) -> int:
        return self.twins.world.now_ms()

    def advance_to(self, ms: int) -> None:
        self.twins.world.clock.advance_to(ms)


@dataclass
class Played:
    """What came of a life. `problems` are (kind, text); `trace` is a hash of all calls, their outcomes and the ledger's
    rows.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    naked_s: float = 0.0
    trace: str = ""
    calls: int = 0
    processes: int = 0
    never_came: list[str] = field(default_factory=list)
    """Calls that a fault waited for in vain."""
    recorded: dict[str, dict[str, int]] = field(default_factory=dict)
    """By command of a chapter, the calls of its command and the watch after it."""
    notes: list[str] = field(default_factory=list)
    """What the processes decided."""


@dataclass
class _CallFault:
    pattern: str
    fault: str
    nth: int = 0
    """0: each call that matches."""
    until_ms: int | None = None
    seen: int = 0
    hits: int = 0
    event: Callable[[], None] | None = None
    change: Callable[[bytes], bytes] | None = None

    def strikes(self, name: str, now_ms: int) -> bool:
        if re.fullmatch(self.pattern, name) is None or (
            self.until_ms is not None and now_ms >= self.until_ms
        ):
            return False
        self.seen += 1
        struck = self.nth in (0, self.seen)
        self.hits += struck
        return struck


class Playing(TwinsAccess):
    """One life as it goes on. Kinds of faults call the methods of the second part."""

    def __init__(
        self,
        business: Business,
        lives: SeededLives,
        built: BuiltTwins,
        folder: Path,
        mutate: Hook | None = None,
        watched_s: float = WATCHED_S,
    ) -> None:
        self.business, self.lives, self.folder, self._mutate = business, lives, folder, mutate
        self._watched_s = watched_s
        urls = {venue: url for url, venue in ADDRESSES.items()} | {"control": "http://127.0.0.1:1004"}
        twins = built.running(urls, {}, lambda: 0.0)
        super().__init__(twins)
        self._built = built
        self.config = business.write_settings(folder, twins.announcement())
        self._loop = VirtualLoop(WorldTime(built))
        self._names = {
            "hyperliquid": built.hyperliquid.call_name,
            "asgard": built.asgard.call_name,
            "solana": _rpc_name,
        }
        self.played = Played()
        self.environment = dict(lives.environment)
        self.skew_ms = 0
        self.has_reason = False
        """Whether something has happened for which a position may be closed."""
        self.began_ms = self.now_ms
        """When the chapter began."""
        self.answers: list[dict[str, Any]] = []
        """What the command of this chapter answered."""
        self._trace = hashlib.sha256()
        self._seen: Counter[str] = Counter()
        self._call_faults: list[_CallFault] = []
        self._agenda: list[tuple[int, int, Callable[[], Awaitable[Any] | None]]] = []
        self._entered = 0
        self._held_back: list[tuple[int, Callable[[], Awaitable[Any]]]] = []
        self._process: ProductProcess | None = None

    # --- a life -----------------------------------------------------------------------------------------------

    def play(self, life: Life) -> Played:
        """Every chapter, then the end of the life and the check of everything that must hold."""
        asyncio.set_event_loop(self._loop)
        for chapter in life.chapters:
            self._chapter(chapter)
        self.lives.after(self, life)
        found = self.lives.check(self, self.played)
        self.played.problems += found.problems
        self.played.naked_s = found.naked_s
        for row in self.lives.ledger(self):
            self._trace.update(row.encode() + b"\n")
        self.played.trace = self._trace.hexdigest()
        self._loop.close()
        return self.played

    def _chapter(self, chapter: Chapter) -> None:
        self.later(chapter.after_h * 3600)
        for step in self.lives.before(self, chapter.what):
            self.run(step)
        self._seen.clear()
        self.began_ms = self.now_ms
        kinds = [(self.lives.kind(fault.kind), fault.params) for fault in chapter.faults]
        for kind, params in kinds:
            kind.begin(self, params)
        self.has_reason |= any(kind.is_reason_to_leave(params) for kind, params in kinds)
        held = [] if chapter.what in self.lives.leaving or self.has_reason else self.lives.held(self)
        self.answers = []
        if command := self.lives.commands[chapter.what]:
            done = self.run(*command)
            self.answers = done.answers
            self.played.notes.append(f"{chapter.what}: {done.code} {str(done.answers[-1:])[:300]}")
        lasts_s = max((kind.lasts_s(params) for kind, params in kinds), default=0.0)
        self.tend_until(
            self.began_ms
            + int(max(lasts_s, (self.now_ms - self.began_ms) / 1000) * 1000 + self._watched_s * 1000)
        )
        self.played.recorded.setdefault(chapter.what, dict(self._seen))
        self.end_faults()
        for one in held:
            if one not in self.lives.held(self):
                text = f"{one} was closed in the chapter {chapter.what!r}, in which nothing endangered it"
                self.played.problems.append(("needless exit", text))

    def tend_until(self, until_ms: int) -> None:
        """The supervised process, started again whenever it ends, until then."""
        for _ in range(RUNS_OF_A_CHAPTER):
            left_s = (until_ms - self.now_ms) / 1000
            if left_s < 1 or not self.lives.is_anything_open(self):
                break
            done = self.run(self.lives.tend(left_s))
            self.played.notes.append(f"tend: {done.code} {str(done.answers[-1:])[:300]}")
            self.later(1)
        self.later(max(0.0, (until_ms - self.now_ms) / 1000))

    def end_faults(self) -> None:
        """What is still on its way gets through, and nothing is disturbed from here on."""
        for one in self._call_faults:
            if one.nth and not one.hits:
                self.played.never_came.append(f"{one.pattern}#{one.nth}")
        self._call_faults.clear()
        held, self._held_back = self._held_back, []
        for _, apply in held:
            self._loop.run_until_complete(apply())
        waiting, self._agenda = sorted(self._agenda), []
        for due_ms, _, event in waiting:
            self.twins.world.clock.advance_to(due_ms)
            self._do(event)
        self.heal()

    def heal(self) -> None:
        """No fault, no halt and no wrong clock from here on."""
        self.twins.faults.clear()
        self.twins.hyperliquid.control("resume", {})
        self.twins.chain.control("resume", {})
        self.skew_ms = 0

    # --- what kinds of faults use -------------------------------------------------------------------------------

    def on_call(
        self,
        pattern: str,
        fault: str,
        nth: int = 0,
        lasts_s: float | None = None,
        event: Callable[[], None] | None = None,
        change: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Apply a fault to the `nth` call ("venue call", a regular expression) of this chapter, or with 0 to each one for
        so many seconds. `event` is called right before; `change` makes another answer of the twin's.
        """
        until_ms = None if lasts_s is None else self.now_ms + int(lasts_s * 1000)
        self._call_faults.append(_CallFault(pattern, fault, nth, until_ms, event=event, change=change))

    def at(self, after_s: float, event: Callable[[], Awaitable[Any] | None]) -> None:
        """Do something so many seconds after now, of world time."""
        self._entered += 1
        heapq.heappush(self._agenda, (self.now_ms + int(after_s * 1000), self._entered, event))

    def end_fault(self, venue: str, kind: str, call: str) -> None:
        """A fault that a twin was set to is over."""
        plan = self.twins.faults
        plan.faults = [one for one in plan.faults if (one.venue, one.kind, one.call) != (venue, kind, call)]

    def outage(self, part: str, lasts_s: float) -> None:
        """From now on the venue of this part does not answer for so long: such time alone is nobody's fault."""
        self.outages.append(Outage(part, self.now_ms, self.now_ms + int(lasts_s * 1000)))

    def kill_process(self) -> None:
        """SIGKILL for the process that runs."""
        assert self._process is not None
        self._process.kill()

    def hold_back(self, apply: Callable[[], Awaitable[Any]]) -> None:
        """Let a request get through only when other calls have been answered: two questions about what became of it."""
        self._held_back.append((self.played.calls + LATE_CALLS, apply))

    async def apply(self, venue: str, request: Request) -> Reply:
        """Let a twin do its work; returns what it answers."""
        return await applied(self._built.apps[venue], request)

    # --- processes ------------------------------------------------------------------------------------------------

    def run(self, *steps: Step) -> Ended:
        """One process of the product, from its start to its end, whatever that is."""
        ours, theirs = socket.socketpair()
        pipe_of_child = Pipe(theirs)
        ours.settimeout(LIMIT_S)
        began_ms, fd = self.now_ms, theirs.fileno()

        own = OwnTime(began_ms)  # the process's own once it is forked
        functions = self.business.steps

        def prepare() -> None:
            own.skew_ms = self.skew_ms
            adopt(own)
            call_through(pipe_of_child, own)
            if self._mutate is not None:
                self._mutate()

        self.played.processes += 1
        name = f"{self.played.processes}-{steps[0][0]}"
        process = ProductProcess(
            self.folder,
            name,
            list(steps),
            {step: announced(function, pipe_of_child, own) for step, function in functions.items()},
            self.config,
            self.environment,
            prepare,
            keep=fd,
        )
        pipe_of_child.close()
        pipe = Pipe(ours)
        self._process = process
        killed, why = False, ""
        for _ in range(CALLS_OF_A_PROCESS):
            try:
                request = pipe.receive()
            except TimeoutError:
                why = f"it neither called nor ended within {LIMIT_S:.0f} s of the wall"
                break
            if request is None:
                break
            if isinstance(request, int):  # a step is done, at this time
                self._happen(request)
                self.twins.world.clock.advance_to(request)
                continue
            reply = self._handled(request)
            if reply is None:
                killed = True
                break
            pipe.send(reply)
        else:
            why = f"it made {CALLS_OF_A_PROCESS} calls"
        if why:
            process.kill()
        done = process.ended(why)
        pipe.close()
        self.played.problems += misbehaved(done, killed=killed)
        self._note(f"{name} ended with {done.code}")
        return done

    def _note(self, text: str) -> None:
        self._trace.update(f"{self.now_ms} {text}\n".encode())

    # --- calls ------------------------------------------------------------------------------------------------------

    def later(self, seconds: float) -> None:
        """World time passes, and what is due in it happens."""
        until_ms = self.now_ms + int(seconds * 1000)
        self._happen(until_ms)
        super().later((until_ms - self.now_ms) / 1000)

    def _happen(self, until_ms: int) -> None:
        while self._agenda and self._agenda[0][0] <= until_ms:
            due_ms, _, event = heapq.heappop(self._agenda)
            self.twins.world.clock.advance_to(due_ms)
            self._do(event)

    def _do(self, event: Callable[[], Awaitable[Any] | None]) -> None:
        doing = event()
        if doing is not None:
            self._loop.run_until_complete(_awaited(doing))

    def _handled(self, request: Request) -> Reply | None:
        """The reply to one call, or None where its caller was killed."""
        self._happen(request.at_ms)
        self.twins.world.clock.advance_to(request.at_ms)
        self._built.lst.refresh()
        venue = ADDRESSES[f"http://{request.netloc}"]
        name = f"{venue} {self._names[venue](request.method, request.path, request.body)}"
        self._seen[name] += 1
        self.played.calls += 1
        struck = [one for one in self._call_faults if one.strikes(name, self.now_ms)]
        for one in struck:
            if one.event is not None:
                one.event()
        fault = struck[-1].fault if struck else ""
        reply = self._loop.run_until_complete(replied(self, fault, venue, name, request))
        digest = hashlib.sha256(request.body).hexdigest()[:16]
        if reply is None:
            self._note(f"{name} {digest} {fault}: killed")
            return None
        for one in struck:
            if one.change is not None and reply.status == 200 and not fault:
                reply = replace(reply, body=one.change(reply.body))
        self._note(f"{name} {digest} {fault}: {reply.status} {hashlib.sha256(reply.body).hexdigest()[:16]}")
        if struck and fault:
            return self._sent(reply)
        for count, apply in self._held_back:
            if count <= self.played.calls:
                self._loop.run_until_complete(apply())
        self._held_back = [one for one in self._held_back if one[0] > self.played.calls]
        return self._sent(reply)

    def _sent(self, reply: Reply) -> Reply:
        return Reply(
            reply.status, reply.headers, reply.body, self.now_ms, reply.after_ms or LATENCY_MS, self.skew_ms
        )


async def _awaited(doing: Awaitable[Any]) -> Any:
    return await doing
