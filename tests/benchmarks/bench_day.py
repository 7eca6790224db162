"""A day of ticks at 10 positions, 2,880 of each: the memory of the process that ticks, at the end and after the first hour; and
what 100 accounts ask of Hyperliquid in their first minutes, books and needs of exits with everything else.

Time is stepped, 30 s from tick to tick, and every tick is the real one. The twins run in a process of their own, and so does
the watch: nothing of twins, tests or Prefect is counted with them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evenkeel.settings.settings import load_settings
from flows.carry.booked import collect
from state.store import Store
from tasks.carry.desk import open_desks
from tasks.carry.mark import LIVE
from tasks.carry.watching.watcher import Watcher
from tests.benchmarks.rows import Row, at_most

POSITIONS, TICKS, AN_HOUR = 10, 2_880, 120
PACE_S = 30.0
GROWN = 1.2
"""What the process may be at the end of what it is after the first hour."""
ACCOUNTS, MINUTES, SPEED = 100, 8, 4.0
"""Accounts, world minutes from the start of the watch, and by how much the world is faster than the wall."""
WEIGHT = 700.0


async def rows(
    positions: int = POSITIONS, ticks: int = TICKS, accounts: int = ACCOUNTS, minutes: int = MINUTES
) -> AsyncIterator[Row]:
    """Measure the memory of a day, then the weight of the first minutes."""
    found = [one async for one in _ticked_elsewhere(positions, ticks)]
    first_mb, last_mb, took_s = (found[-1][name] for name in ("first_mb", "last_mb", "took_s"))
    yield Row(f"memory after an hour of ticks at {positions} positions", round(first_mb, 1), "MB")
    yield Row(f"wall time of {ticks} ticks at each", round(took_s), "s")
    yield at_most(
        f"memory after {ticks} ticks at {positions} positions, of that after an hour",
        last_mb / first_mb,
        "times",
        GROWN,
    )
    weights = await _weights(accounts, minutes)
    listed = ", ".join(f"{one:.0f}" for one in weights)
    print(f"  weight of {accounts} accounts by minute of their watch: {listed}", flush=True)
    yield at_most(
        f"weight a minute of {accounts} accounts with their books, the most", max(weights), "weight", WEIGHT
    )


async def _ticked_elsewhere(positions: int, ticks: int) -> AsyncIterator[dict[str, float]]:
    """What a process that does nothing but tick says of itself, every six hours and at the end."""
    from app.demo.environment import write_settings
    from flows.carry.enter import EnterRequest, enter_position

    with tempfile.TemporaryDirectory() as folder, _twins(positions) as announced:
        keys = announced["keys"]
        announced = announced | {"keys": {"fleet": [keys]} | keys}
        strategy = {"deployment_pct": "0.2", "poll_interval_s": 30}
        config = write_settings(Path(folder), announced, strategy, "")
        settings = load_settings(config)
        Store.upgrade(settings.database.url)
        async with open_desks(settings) as desks:
            await desks[0].clock.sleep(20)
            for desk in desks:
                done = await enter_position(desk, EnterRequest(asset="SOL", protocol=1))  # type: ignore[arg-type]
                assert done.status == "OPEN", done
        command = ("-m", "tests.benchmarks.bench_day", "--config", str(config), "--ticks", str(ticks))
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                found = json.loads(line)
                words = f"{found['last_mb']:.1f} MB, {found['took_s']:.0f} s"
                print(f"  {found['ticks']:.0f} ticks: {words}", flush=True)
                yield found
            if await process.wait():
                raise RuntimeError(f"the process that ticks ended with {process.returncode}")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _tick(config: Path, ticks: int) -> None:
    """Tick so often at every live position of these settings, and print this process's megabytes."""
    async with open_desks(load_settings(config)) as desks:
        watchers = [
            Watcher(desk, position.position_id, is_monitor=True)
            for desk in desks
            for position in desk.store.carry.positions(LIVE)
        ]
        began, first_mb = time.monotonic(), 0.0
        for number in range(1, ticks + 1):
            await desks[0].clock.sleep(PACE_S)
            await asyncio.gather(*(one.tick() for one in watchers))
            desks[0].ticks.write()
            if number % AN_HOUR == 0:
                for desk in desks:
                    await collect(desk)
            if number == min(AN_HOUR, ticks // 2):
                first_mb = _resident_mb()
            if number % (6 * AN_HOUR) == 0 or number == ticks:
                said = {"ticks": number, "first_mb": first_mb, "last_mb": _resident_mb()}
                print(json.dumps(said | {"took_s": time.monotonic() - began}), flush=True)


def _resident_mb() -> float:
    """What this process holds once what nobody uses any more is given back."""
    gc.collect()
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def _weights(accounts: int, minutes: int) -> list[float]:
    """The weight of each minute from the start of `evenkeel watch`'s own loop, as the venue counts it."""
    from flows.carry.enter import EnterRequest, enter_position
    from flows.carry.watch import Watching
    from tests.carry.fleet import fleet_rig
    from tests.carry.rig import NO_RESERVE

    by_minute: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        strategy = {"poll_interval_s": 30, **NO_RESERVE}
        limits = {"max_total_exposure_usd": "1000000000"}
        async with fleet_rig(Path(folder), accounts, strategy=strategy, limits=limits) as rig:
            for desk in rig.desks:
                done = await enter_position(desk, EnterRequest(asset="SOL", protocol=1))  # type: ignore[arg-type]
                assert done.status == "OPEN", done
            venue, world = rig.twins.hyperliquid, rig.world
            await rig.desk.clock.sleep(120)
            from_ms = world.now_ms()
            add = venue._weights.add

            def counted(ip: str, weight: int, now_ms: int) -> None:
                by_minute[(now_ms - from_ms) // 60_000] += weight
                add(ip, weight, now_ms)

            def real_time() -> None:
                world.clock.stepped = False
                world.clock.set_speed(SPEED)
                venue._weights.add = counted  # type: ignore[method-assign]

            rig.on_twins(real_time)
            for desk in rig.desks:
                await desk.clock.refresh()
            ended = asyncio.Event()
            watching = asyncio.create_task(Watching(rig.desks).run(ended))
            try:
                await asyncio.sleep(minutes * 60 / SPEED)
            finally:
                ended.set()
                await watching
    return [float(by_minute[minute]) for minute in range(minutes)]


@contextmanager
def _twins(accounts: int) -> Iterator[dict[str, Any]]:
    """Twins of a flat market in a process of their own, whose time is stepped; yields where they are."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_day", "--twins", str(accounts)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


async def _serve(accounts: int) -> None:
    from tests.worlds import flat_world
    from twins.serve import TwinOptions, running_twins

    async with running_twins(TwinOptions(stepped=True, accounts=accounts), flat_world(stepped=True)) as twins:
        print(json.dumps(twins.announcement()), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("--twins", type=int, default=0)
    asked.add_argument("--config", type=Path, default=Path())
    asked.add_argument("--ticks", type=int, default=0)
    options = asked.parse_args()
    asyncio.run(_serve(options.twins) if options.twins else _tick(options.config, options.ticks))
