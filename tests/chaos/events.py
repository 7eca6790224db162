"""What happens in handwritten scenarios: a venue out of reach, a locked database, wrong clocks, races, a dead server."""

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
from tests.chaos.findings import Outage
from tests.chaos.interceptor import NO_FAULT, Point
from tests.chaos.prefect_server import Server
from tests.chaos.process import Ended, Misbehaved, ProductProcess, Step, misbehaved, summary
from tests.chaos.scenarios import Script
from tests.chaos.testbed import LONG_TIMEOUT, Testbed

Event = Callable[[Any], Awaitable[None] | None]


def answer_of(done: Ended) -> str:
    """What the process decided. Raises Misbehaved where it ended in a way that no fault excuses."""
    if found := misbehaved(done):
        raise Misbehaved(found[0][1])
    return summary(done)


def at(point: Point, event: Event, *steps: Step, timeout_s: str = LONG_TIMEOUT) -> Script:
    """The story runs, and something happens right before this call."""

    async def script(bed: Testbed) -> str:
        bed.interceptor.arm(point, NO_FAULT, lambda: event(bed))
        answer = answer_of(await bed.run(*steps, timeout_s=timeout_s))
        if bed.interceptor.reached != 1:
            raise Misbehaved(f"{point} never came: {answer}")
        return answer

    return script


def first(event: Event, *steps: Step, timeout_s: str = LONG_TIMEOUT) -> Script:
    """Something has happened before the story begins."""

    async def script(bed: Testbed) -> str:
        if (doing := event(bed)) is not None:
            await doing
        return answer_of(await bed.run(*steps, timeout_s=timeout_s))

    return script


# --- what happens --------------------------------------------------------------------------------------------


def out_of_reach(
    part: str, seconds: float, begin: Callable[[Testbed], None], end: Callable[[Testbed], None]
) -> Event:
    """The venue of one part is out of reach for so many seconds of world time."""

    def event(bed: Testbed) -> None:
        began = bed.now_ms
        begin(bed)
        bed.outages.append(Outage(part, began, began + int(seconds * 1000)))

        def end_in_time() -> None:
            if bed.now_ms >= began + seconds * 1000:
                end(bed)
                bed.interceptor.each_call = lambda: None

        bed.interceptor.each_call = end_in_time

    return event


def failing(venue: str, part: str, seconds: float, kind: str = "http_500", call: str = ".*") -> Event:
    return out_of_reach(
        part,
        seconds,
        lambda bed: bed.fault(venue, kind, call),
        lambda bed: bed.twins.faults.clear(),
    )


def controlled(twin: str, op: str, **body: Any) -> Event:
    """A control command to one twin."""

    def event(bed: Testbed) -> None:
        twins: dict[str, Any] = {
            "chain": bed.twins.chain,
            "hyperliquid": bed.twins.hyperliquid,
            "asgard": bed.twins.asgard,
        }
        twins[twin].control(op, body)

    return event


def fault(venue: str, kind: str, call: str = ".*", times: int = 1, **args: Any) -> Event:
    return lambda bed: bed.fault(venue, kind, call, times=times, **args)


def database_locked(seconds: float) -> Event:
    """Somebody else holds the right to write, for so many seconds of the wall."""

    def event(bed: Testbed) -> None:
        def hold() -> None:
            with closing(sqlite3.connect(bed.folder / "evenkeel.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                other.execute("ROLLBACK")

        bed.busy = asyncio.get_running_loop().run_in_executor(None, hold)

    return event


async def suspended(bed: Testbed) -> None:
    """The machine is suspended for a minute: the process stands still, the world does not."""
    began = bed.now_ms
    bed.process.suspend()
    bed.later(60)
    bed.outages.append(Outage("*", began, bed.now_ms))
    bed.process.resume()


# --- clocks ----------------------------------------------------------------------------------------------------


def clock_jumps(point: Point, seconds: int, *steps: Step) -> Script:
    """Our host's clock jumps at this call and stays wrong by so much; the venues' clocks are right."""

    async def script(bed: Testbed) -> str:
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

        bed.interceptor.arm(point, NO_FAULT, jump)
        answer = answer_of(await bed.run(*steps, prepare=wrong_clock))
        if bed.interceptor.reached != 1:
            raise Misbehaved(f"{point} never came: {answer}")
        return answer

    return script


# --- more than one process ---------------------------------------------------------------------------------------


def race(*steps: Step, at_point: Point | None = None) -> Script:
    """All at once, each in a process of its own; with a point, the others start when the first one gets there."""

    async def script(bed: Testbed) -> str:
        processes: list[ProductProcess] = []

        def others() -> None:
            processes.extend(bed.start(step) for step in steps[1:])

        if at_point is not None:
            bed.interceptor.arm(at_point, NO_FAULT, others)
        processes.append(bed.start(steps[0]))
        if at_point is None:
            others()
        answers = [answer_of(await processes[0].end())]
        answers += [answer_of(await process.end()) for process in processes[1:]]
        if at_point is not None and bed.interceptor.reached != 1:
            raise Misbehaved(f"{at_point} never came: {answers}")
        return "; ".join(answers)

    return script


def two_take_over(point: Point, fault: str, step: Step, takeover: Step) -> Script:
    """One process dies at this call, and two others take up its work at once."""

    async def script(bed: Testbed) -> str:
        bed.interceptor.arm(point, fault)
        died = await bed.run(step)
        if not died.killed:
            raise Misbehaved(f"{point} never came: {died.code} {died.last_lines}")
        processes = [bed.start(takeover), bed.start(takeover)]
        return "; ".join([answer_of(await process.end()) for process in processes])

    return script


# --- Prefect -------------------------------------------------------------------------------------------------------


def prefect_dies(point: Point, *arguments: str, restarted: bool) -> Script:
    """The Prefect server of a command (run as a flow) is killed at this call; with `restarted` another one starts."""

    async def script(bed: Testbed) -> str:
        server = Server(bed.folder / "prefect")
        bed.environment["PREFECT_HOME"] = str(bed.folder / "prefect-of-the-command")
        server.start()
        try:
            text = bed.config.read_text().replace('api_url = ""', f'api_url = "{server.api_url}"')
            bed.config.write_text(text)

            def kill() -> None:
                server.kill()
                if restarted:
                    server.start(wait=False)

            bed.interceptor.arm(point, NO_FAULT, kill)
            command: Step = ("evenkeel", {"arguments": list(arguments)})
            done = await bed.start(command).end(limit_s=170)
            if bed.interceptor.reached != 1:
                raise Misbehaved(f"{point} never came: {done.last_lines}")
            return answer_of(done)
        finally:
            server.kill()
            bed.config.write_text(bed.config.read_text().replace(server.api_url, ""))

    return script
