"""One scenario's world: twins as a snapshot left them, served behind a crossing, and processes of the product before them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.demo import stage
from evenkeel.settings.settings import load_settings
from state.store import Store
from tests.chaos.crossing import CallNames, Crossing, Point
from tests.chaos.invariants import Excuse, Findings, Truth, check, check_secrets
from tests.chaos.program import Ended, Hook, Program, Step
from tests.worlds import flat_world
from twins.clock import TwinClock
from twins.faults import Fault
from twins.serve import BuiltTwins, RunningTwins, TwinOptions, build_twins, serving

ENTER: Step = ("enter", {"asset": "SOL", "protocol": 1})
STRATEGY = {"deployment_pct": "0.5", "leverage": 3}
PATIENT, HASTY = "10", "1.0"
"""Seconds after which a client gives a call up; a call that is to be given up is given up soon."""


@dataclass
class Snapshot:
    """Twins and ledger at one moment. It is kept by forking: the processes that play on it get copies."""

    name: str
    twins: BuiltTwins
    folder: Path
    at_ms: int


@dataclass
class Scene:
    """What a scenario plays with."""

    folder: Path
    config: Path
    twins: RunningTwins
    crossing: Crossing
    mutate: Hook | None = None
    entries: int = 1
    excuses: list[Excuse] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    busy: asyncio.Future[None] | None = None
    """Something that goes on beside the story, to be awaited before it is judged."""
    program: Program = field(init=False)
    _made: int = 0

    def start(self, *steps: Step, patience_s: str = PATIENT, prepare: Hook | None = None) -> Program:
        """A process that tells these stories, one after another."""
        self._made += 1
        timeouts = {f"EVENKEEL_{name}__TIMEOUT_S": patience_s for name in ("HYPERLIQUID", "SOLANA", "ASGARD")}

        def both() -> None:
            for hook in (self.mutate, prepare):
                if hook is not None:
                    hook()

        program = Program(
            self.folder,
            f"{self._made}-{steps[0][0]}",
            list(steps),
            self.config,
            timeouts | self.environment,
            both,
        )
        self.crossing.kill = program.kill
        self.program = program
        return program

    async def run(self, *steps: Step, patience_s: str = PATIENT, prepare: Hook | None = None) -> Ended:
        """The same, to its end."""
        return await self.start(*steps, patience_s=patience_s, prepare=prepare).end()

    # --- the world ---

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

    def heal(self) -> None:
        """No fault and no halt from here on."""
        self.twins.faults.clear()
        self.crossing.arm(None)
        self.crossing.each_call = lambda: None
        self.twins.hyperliquid.control("resume", {})
        self.twins.chain.control("resume", {})

    @property
    def account(self) -> dict[str, str]:
        return {"address": self.twins.keys["hyperliquid"]["account_address"], "coin": "SOL"}

    @property
    def live_pda(self) -> str:
        """The one lending position that holds something."""
        (held,) = [one for one in self.twins.asgard.control("ledger", {})["positions"] if one["live"]]
        return str(held["pda"])

    def findings(self) -> Findings:
        """All invariants, now."""
        store = Store.open(load_settings(self.config).database.url, self.twins.world)  # type: ignore[arg-type]
        try:
            found = check(Truth.read(self.twins), store, excuses=self.excuses, entries=self.entries)
        finally:
            store.close()
        check_secrets(found, self.folder, self.twins.keys)
        return found


@asynccontextmanager
async def scene(snapshot: Snapshot, folder: Path, mutate: Hook | None = None) -> AsyncIterator[Scene]:
    """The snapshot's twins, served from the snapshot's moment on, with a copy of its ledger."""
    built = snapshot.twins
    built.world.clock = TwinClock(snapshot.at_ms, stepped=True)
    names: CallNames = {
        "hyperliquid": built.hyperliquid.call_name,
        "asgard": built.asgard.call_name,
        "solana": _rpc_name,
    }
    crossing = Crossing(built.world, built.faults, names)
    folder.mkdir(parents=True, exist_ok=True)
    for path in snapshot.folder.glob("evenkeel.db*"):
        shutil.copy(path, folder / path.name)
    async with serving(built, crossing.around) as running:
        config = stage.write_settings(folder, running.announcement(), STRATEGY, "")
        yield Scene(folder, config, running, crossing, mutate)


def _rpc_name(method: str, path: str, body: bytes) -> str:
    return f"rpc:{json.loads(body)['method']}" if body else f"{method} {path}"


# --- snapshots ---------------------------------------------------------------------------------------------------

Making = Callable[[Scene], Any]


def make_snapshot(name: str, folder: Path, making: Making | None = None) -> Snapshot:
    """Fresh twins and an empty ledger, lived on by `making`. The caller must have no running event loop."""
    built = build_twins(TwinOptions(stepped=True), flat_world())
    snapshot = Snapshot(name, built, folder, built.world.now_ms())
    folder.mkdir(parents=True, exist_ok=True)
    Store.upgrade(f"sqlite:///{folder.resolve() / 'evenkeel.db'}")
    if making is not None:

        async def live() -> None:
            async with scene(snapshot, folder / "making") as being:
                await making(being)
                being.heal()
                for path in being.folder.glob("evenkeel.db*"):
                    shutil.copy(path, folder / path.name)
                snapshot.at_ms = being.now_ms

        asyncio.run(live())
        built.faults.calls.clear()
    return snapshot


async def _entered(being: Scene) -> None:
    done = await being.run(ENTER)
    assert done.code == 0 and done.answers[0]["status"] == "OPEN", done


async def _entered_hours_ago(being: Scene) -> None:
    await _entered(being)
    being.later(3 * 3600)


async def _drifted(being: Scene) -> None:
    await _entered_hours_ago(being)
    being.market(sol_price=180.0)


def _cut_short(point: Point, deed: str, story: Step, before: Making | None = None) -> Making:
    async def making(being: Scene) -> None:
        if before is not None:
            await before(being)
        being.crossing.arm(point, deed)
        done = await being.run(story)
        assert done.killed and being.crossing.met == 1, done

    return making


SNAPSHOTS: dict[str, Making | None] = {
    "funded": None,
    "entered": _entered_hours_ago,
    "drifted": _drifted,
    # an entry that died with its order filled, and one that died when its long had just landed
    "half entered": _cut_short(Point("hyperliquid exchange:order", 1), "kill after it was applied", ENTER),
    "long alone": _cut_short(
        Point("asgard POST /submit-create-position-tx", 1), "kill after it was applied", ENTER
    ),
    "half left": _cut_short(
        Point("asgard POST /submit-close-position-tx", 1),
        "kill when it arrives",
        ("exit", {}),
        _entered_hours_ago,
    ),
}


def clean_up(folder: Path) -> None:
    """Remove a scenario's folder; its keys are of no use to anybody once its twins are gone."""
    shutil.rmtree(folder, ignore_errors=True)
