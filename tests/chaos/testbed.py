"""What one scenario runs on: twins as a snapshot left them, served behind an interceptor, and processes of the product."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from state.store import Store
from tests.chaos.findings import Outage
from tests.chaos.interceptor import CallNames, Interceptor, Point
from tests.chaos.process import Ended, Hook, ProductProcess, Step
from twins.clock import TwinClock
from twins.faults import Fault
from twins.serve import BuiltTwins, RunningTwins, serving

if TYPE_CHECKING:
    from tests.chaos.business import Business

LONG_TIMEOUT, SHORT_TIMEOUT = "10", "1.0"
"""Seconds after which a client gives a call up; the short one where the call is meant to be given up."""


@dataclass
class Snapshot:
    """Twins and ledger at one moment. It is kept by forking: the processes that play on it get copies."""

    business: Business
    name: str
    twins: BuiltTwins
    folder: Path
    at_ms: int


class TwinsAccess:
    """The world behind the twins, as events move it. `outages`: while who was out of reach, which excuses time alone."""

    def __init__(self, twins: RunningTwins) -> None:
        self.twins = twins
        self.outages: list[Outage] = []
        self.restore: list[Callable[[], None]] = []
        """What ends with everything else that is healed."""

    @property
    def now_ms(self) -> int:
        return self.twins.world.now_ms()

    def later(self, seconds: float) -> None:
        """World time passes, and the venues settle what it brings."""
        self.twins.world.clock.advance_to(self.now_ms + seconds * 1000)
        self.settle()

    def settle(self) -> None:
        self.twins.asgard.catch_up()
        self.twins.hyperliquid.catch_up()

    def market(self, **overrides: Any) -> None:
        """Move the market from now on; what has passed is settled by the market as it was."""
        self.settle()
        for name, value in overrides.items():
            assert hasattr(self.twins.world.overrides, name)
            setattr(self.twins.world.overrides, name, value)

    def fault(self, venue: str, kind: str, call: str = ".*", times: int = -1, **args: Any) -> None:
        self.twins.faults.add(Fault(venue, kind, call, times=times, args=args))


@dataclass
class Testbed(TwinsAccess):
    """The twins, the interceptor, the settings and the processes of one scenario."""

    business: Business
    folder: Path
    config: Path
    twins: RunningTwins
    interceptor: Interceptor
    mutate: Hook | None = None
    outages: list[Outage] = field(default_factory=list)
    restore: list[Callable[[], None]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    busy: asyncio.Future[None] | None = None
    """Something that goes on beside the story, to be awaited before the outcome is checked."""
    process: ProductProcess = field(init=False)
    """The one started last."""
    _made: int = 0

    def start(
        self, *steps: Step, timeout_s: str = LONG_TIMEOUT, prepare: Hook | None = None
    ) -> ProductProcess:
        """Start a process that does these steps, one after another."""
        self._made += 1
        timeouts = {f"EVENKEEL_{name}__TIMEOUT_S": timeout_s for name in ("HYPERLIQUID", "SOLANA", "ASGARD")}

        def both() -> None:
            for hook in (self.mutate, prepare):
                if hook is not None:
                    hook()

        process = ProductProcess(
            self.folder,
            f"{self._made}-{steps[0][0]}",
            list(steps),
            self.business.steps,
            self.config,
            timeouts | self.environment,
            both,
        )
        self.interceptor.kill = process.kill
        self.process = process
        return process

    async def run(self, *steps: Step, timeout_s: str = LONG_TIMEOUT, prepare: Hook | None = None) -> Ended:
        """Start such a process and wait for its end."""
        return await self.start(*steps, timeout_s=timeout_s, prepare=prepare).end()

    def heal(self) -> None:
        """No fault and no halt from here on."""
        self.twins.faults.clear()
        self.interceptor.arm(None)
        self.interceptor.each_call = lambda: None
        self.twins.hyperliquid.control("resume", {})
        self.twins.chain.control("resume", {})
        while self.restore:
            self.restore.pop()()


@asynccontextmanager
async def testbed(snapshot: Snapshot, folder: Path, mutate: Hook | None = None) -> AsyncIterator[Testbed]:
    """The snapshot's twins, served from the snapshot's moment on, with a copy of its ledger."""
    built = snapshot.twins
    built.world.clock = TwinClock(snapshot.at_ms, stepped=True)
    names: CallNames = {
        "hyperliquid": built.hyperliquid.call_name,
        "asgard": built.asgard.call_name,
        "solana": _rpc_name,
    }
    interceptor = Interceptor(built.world, built.faults, names)
    folder.mkdir(parents=True, exist_ok=True)
    for path in snapshot.folder.glob("evenkeel.db*"):
        shutil.copy(path, folder / path.name)
    async with serving(built, interceptor.around) as running:
        config = snapshot.business.write_settings(folder, running.announcement())
        yield Testbed(snapshot.business, folder, config, running, interceptor, mutate)


def _rpc_name(method: str, path: str, body: bytes) -> str:
    return f"rpc:{json.loads(body)['method']}" if body else f"{method} {path}"


# --- snapshots ---------------------------------------------------------------------------------------------------

Preparation = Callable[[Testbed], Awaitable[None]]


def make_snapshot(business: Business, name: str, folder: Path) -> Snapshot:
    """Fresh twins and an empty ledger, brought to where this snapshot is. The caller must have no running event loop."""
    built = business.build_twins()
    snapshot = Snapshot(business, name, built, folder, built.world.now_ms())
    folder.mkdir(parents=True, exist_ok=True)
    Store.upgrade(f"sqlite:///{folder.resolve() / 'evenkeel.db'}")
    if (prepare := business.snapshots[name]) is not None:

        async def live() -> None:
            async with testbed(snapshot, folder / "preparing") as bed:
                await prepare(bed)
                bed.heal()
                for path in bed.folder.glob("evenkeel.db*"):
                    shutil.copy(path, folder / path.name)
                snapshot.at_ms = bed.now_ms

        asyncio.run(live())
        built.faults.calls.clear()
    return snapshot


def killed_at(point: Point, fault: str, step: Step, before: Preparation | None = None) -> Preparation:
    """A snapshot in which a process was killed by this fault of this call."""

    async def prepare(bed: Testbed) -> None:
        if before is not None:
            await before(bed)
        bed.interceptor.arm(point, fault)
        done = await bed.run(step)
        assert done.killed and bed.interceptor.reached == 1, done

    return prepare


def clean_up(folder: Path) -> None:
    """Remove a scenario's folder; its keys are of no use to anybody once its twins are gone."""
    shutil.rmtree(folder, ignore_errors=True)
