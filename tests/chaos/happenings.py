"""What happens in scenarios that are more than one call gone wrong: halts, markets, lost legs, clocks, races, servers."""

from __future__ import annotations

import asyncio
import mmap
import sqlite3
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

from evenkeel.clock import WorldClock
from tests.chaos.crossing import Point
from tests.chaos.invariants import Excuse
from tests.chaos.prefect_server import Server
from tests.chaos.program import Ended, Misbehaved, Program, Step, misbehaved, words
from tests.chaos.scenarios import Script
from tests.chaos.scene import PATIENT, Scene

ORDER = Point("hyperliquid exchange:order", 1)
LEVERAGE = Point("hyperliquid exchange:updateLeverage", 1)
OPENING = Point("asgard POST /submit-create-position-tx", 1)
CLOSING = Point("asgard POST /submit-close-position-tx", 1)
RESIZING = Point("asgard POST /submit-position-update-tx", 1)
LANDED = Point("solana rpc:getTransaction", 1)
EXIT: Step = ("exit", {})
REBALANCE: Step = ("rebalance", {})
RECOVER: Step = ("recover", {})
FLATTEN: Step = ("flatten", {})
WATCH: Step = ("watch", {"seconds": 240.0, "interval_s": 30.0})
Happening = Callable[[Scene], Awaitable[None] | None]


def well(done: Ended) -> str:
    """What it said; raises where it ended in a way that no fault excuses."""
    if found := misbehaved(done):
        raise Misbehaved(found[0][1])
    return words(done)


def at(point: Point, happening: Happening, *steps: Step, patience_s: str = PATIENT) -> Script:
    """The story is told, and something happens the moment before this call."""

    async def script(being: Scene) -> str:
        being.crossing.arm(point, "nothing", lambda: happening(being))
        said = well(await being.run(*steps, patience_s=patience_s))
        if being.crossing.met != 1:
            raise Misbehaved(f"{point} never came: {said}")
        return said

    return script


def first(happening: Happening, *steps: Step, patience_s: str = PATIENT) -> Script:
    """Something has happened before the story begins."""

    async def script(being: Scene) -> str:
        if (doing := happening(being)) is not None:
            await doing
        return well(await being.run(*steps, patience_s=patience_s))

    return script


# --- what happens --------------------------------------------------------------------------------------------


def out_of_reach(
    leg: str, seconds: float, begin: Callable[[Scene], None], end: Callable[[Scene], None]
) -> Happening:
    """A venue is out of reach for so many seconds of world time."""

    def happening(being: Scene) -> None:
        began = being.now_ms
        begin(being)
        being.excuses.append(Excuse(leg, began, began + int(seconds * 1000)))

        def look() -> None:
            if being.now_ms >= began + seconds * 1000:
                end(being)
                being.crossing.each_call = lambda: None

        being.crossing.each_call = look

    return happening


def hyperliquid_halted(seconds: float, mode: str = "502") -> Happening:
    return out_of_reach(
        "short",
        seconds,
        lambda being: ask(being.twins.hyperliquid.control, "halt", {"mode": mode}),
        lambda being: ask(being.twins.hyperliquid.control, "resume", {}),
    )


def solana_halted(seconds: float) -> Happening:
    return out_of_reach(
        "long",
        seconds,
        lambda being: ask(being.twins.chain.control, "halt", {}),
        lambda being: ask(being.twins.chain.control, "resume", {}),
    )


def failing(venue: str, leg: str, seconds: float, kind: str = "http_500", call: str = ".*") -> Happening:
    return out_of_reach(
        leg,
        seconds,
        lambda being: being.fault(venue, kind, call),
        lambda being: being.twins.faults.clear(),
    )


def ask(control: Callable[[str, dict[str, Any]], dict[str, Any]], op: str, body: dict[str, Any]) -> None:
    control(op, body)


def told(twin: str, op: str, **body: Any) -> Happening:
    """An operator's word to one twin."""

    def happening(being: Scene) -> None:
        twins: dict[str, Any] = {
            "chain": being.twins.chain,
            "hyperliquid": being.twins.hyperliquid,
            "asgard": being.twins.asgard,
        }
        twins[twin].control(op, body)

    return happening


def fault(venue: str, kind: str, call: str = ".*", times: int = 1, **args: Any) -> Happening:
    return lambda being: being.fault(venue, kind, call, times=times, **args)


def hidden(seconds: float) -> Happening:
    """An order is filled, its answer is lost, and its record stays unseen for a while."""

    def happening(being: Scene) -> None:
        being.fault("hyperliquid", "hidden_order", times=1, seconds=seconds)
        being.fault("hyperliquid", "drop_answer", "exchange:order", times=1)

    return happening


def price(usd: float) -> Happening:
    return lambda being: being.market(sol_price=usd)


def deleveraged(fraction: str) -> Happening:
    return lambda being: ask(being.twins.hyperliquid.control, "adl", being.account | {"fraction": fraction})


def short_liquidated(being: Scene) -> None:
    ask(being.twins.hyperliquid.control, "liquidate", being.account)


def long_liquidated(full: bool) -> Happening:
    return lambda being: ask(being.twins.asgard.control, "liquidate", {"pda": being.live_pda, "full": full})


def database_locked(seconds: float) -> Happening:
    """Somebody else holds the right to write, for so many seconds of the wall."""

    def happening(being: Scene) -> None:
        def hold() -> None:
            with closing(sqlite3.connect(being.folder / "evenkeel.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                other.execute("ROLLBACK")

        being.busy = asyncio.get_running_loop().run_in_executor(None, hold)

    return happening


async def suspended(being: Scene) -> None:
    """The machine sleeps for a minute: the process stands still, the world does not."""
    began = being.now_ms
    being.program.stop()
    being.later(60)
    being.excuses.append(Excuse("*", began, being.now_ms))
    being.program.go_on()


# --- clocks ----------------------------------------------------------------------------------------------------


def clock_jumps(point: Point, seconds: int, *steps: Step) -> Script:
    """Our host's clock jumps at this moment and stays wrong by so much; the venues' clocks are right."""

    async def script(being: Scene) -> str:
        shared = mmap.mmap(-1, 8)

        def wrong_clock() -> None:
            right = WorldClock.now_ms

            def now_ms(self: WorldClock) -> int:
                return right(self) + struct.unpack("q", shared[:8])[0]

            async def sleep(self: WorldClock, seconds: float) -> None:
                body = {"until_ms": right(self) + seconds * 1000}
                answer = await self._client().post(f"{self._url}/control/clock/advance", json=body)
                self._anchor(answer.json())

            WorldClock.now_ms, WorldClock.sleep = now_ms, sleep  # type: ignore[method-assign]

        def jump() -> None:
            shared[:8] = struct.pack("q", seconds * 1000)

        being.crossing.arm(point, "nothing", jump)
        said = well(await being.run(*steps, prepare=wrong_clock))
        if being.crossing.met != 1:
            raise Misbehaved(f"{point} never came: {said}")
        return said

    return script


# --- more than one process ---------------------------------------------------------------------------------------


def race(*stories: Step, at_point: Point | None = None) -> Script:
    """All at once, each in a process of its own; with a point, the others start when the first one gets there."""

    async def script(being: Scene) -> str:
        programs: list[Program] = []

        def others() -> None:
            programs.extend(being.start(story) for story in stories[1:])

        if at_point is not None:
            being.crossing.arm(at_point, "nothing", others)
        programs.append(being.start(stories[0]))
        if at_point is None:
            others()
        said = [well(await programs[0].end())]
        said += [well(await program.end()) for program in programs[1:]]
        if at_point is not None and being.crossing.met != 1:
            raise Misbehaved(f"{at_point} never came: {said}")
        return "; ".join(said)

    return script


def heir(point: Point, deed: str, story: Step, successor: Step) -> Script:
    """One process dies at this moment, and two others take up its work at once."""

    async def script(being: Scene) -> str:
        being.crossing.arm(point, deed)
        died = await being.run(story)
        if not died.killed:
            raise Misbehaved(f"{point} never came: {died.code} {died.last_words}")
        programs = [being.start(successor), being.start(successor)]
        return "; ".join([well(await program.end()) for program in programs])

    return script


# --- Prefect -------------------------------------------------------------------------------------------------------


def prefect_dies(point: Point, *arguments: str, restarted: bool) -> Script:
    """The server of a command (run as a flow) goes away at this moment; perhaps another one comes."""

    async def script(being: Scene) -> str:
        server = Server(being.folder / "prefect")
        being.environment["PREFECT_HOME"] = str(being.folder / "prefect-of-the-command")
        server.start()
        try:
            text = being.config.read_text().replace('api_url = ""', f'api_url = "{server.api_url}"')
            being.config.write_text(text)

            def gone() -> None:
                server.kill()
                if restarted:
                    server.start(wait=False)

            being.crossing.arm(point, "nothing", gone)
            command: Step = ("evenkeel", {"arguments": list(arguments)})
            done = await being.start(command).end(patience_s=170)
            if being.crossing.met != 1:
                raise Misbehaved(f"{point} never came: {done.last_words}")
            return well(done)
        finally:
            server.kill()
            being.config.write_text(being.config.read_text().replace(server.api_url, ""))

    return script
