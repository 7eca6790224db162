"""What grows with time: Prefect's database by a position and day, with a hosted monitor. Time is stepped; bytes are counted."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.flow_engine import AsyncFlowRunEngine

from app.prefect_server import CLIENT_SETTINGS
from evenkeel.units import HOUR_MS
from flows.carry.monitor import MonitorRequest, monitor
from tests.benchmarks.rows import Row, at_most
from tests.carry.rig import story_rig
from tests.prefect_rig import server_in_use

PACE_S = 30
DATABASE_MB = 3.0
HEARTBEATS, HOURS = 500, (1, 4)


async def rows() -> list[Row]:
    """Measure it on a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return await database_of_prefect(Path(folder))


async def database_of_prefect(folder: Path, hours: tuple[int, int] = HOURS) -> list[Row]:
    """Bytes that a day of a hosted monitor leaves there: its beginning, and what each further hour adds. Heartbeats go by wall
    time, so that some are sent at once, and counted.
    """
    with server_in_use(folder) as server:
        path = server.home / "prefect.db"
        async with story_rig(folder / "rig", strategy={"poll_interval_s": PACE_S}) as rig:
            name = await rig.entered(asset="jitoSOL", protocol=1)
            os.environ["EVENKEEL_CONFIG"] = str(rig.config)
            try:
                sizes = [await _settled(path)]
                for each in hours:
                    await rig.desk.clock.refresh()
                    until_ms = rig.desk.clock.now_ms() + each * HOUR_MS
                    done = await monitor(MonitorRequest(position_id=name, until_ms=until_ms))
                    assert done.status == "OPEN", done
                    sizes.append(await _settled(path))
            finally:
                del os.environ["EVENKEEL_CONFIG"]
        async with get_client() as client:
            run = (await client.read_flow_runs(limit=1))[0]
        engine: Any = AsyncFlowRunEngine(flow=monitor, flow_run=run)
        resource, related = engine._build_heartbeat_event_template()
        for _ in range(HEARTBEATS):
            engine._emit_flow_run_heartbeat(resource, related)
        await _arrived(server.url, "prefect.flow-run.heartbeat")
        sizes.append(await _settled(path))
    first, second, sent = (later - before for before, later in pairwise(sizes))
    hourly = max(second - first, 0) / (hours[1] - hours[0])  # each run has a beginning of its own
    own = (first + (24 - hours[0]) * hourly) / 2**20
    heartbeats = (
        sent / HEARTBEATS * 86_400 / int(CLIENT_SETTINGS["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) / 2**20
    )
    return [
        Row("a monitor's day in Prefect's database, without heartbeats", round(own, 2), "MB"),
        Row("one heartbeat there", round(sent / HEARTBEATS), "bytes"),
        at_most("Prefect's database, a position and day", own + heartbeats, "MB", DATABASE_MB),
    ]


async def _arrived(url: str, event: str) -> None:
    """Wait until the server has written that many of an event."""
    body = {"filter": {"event": {"name": [event]}}, "limit": 1}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http, asyncio.timeout(300):
        while True:
            answer = await http.post(f"{url}/events/filter", json=body)
            if answer.raise_for_status().json()["total"] >= HEARTBEATS:
                return
            await asyncio.sleep(0.5)


async def _settled(path: Path) -> int:
    """The size, once it has not changed for some seconds: the server writes later than it is asked."""
    size, same = -1, 0
    while same < 6:
        await asyncio.sleep(1)
        now = size_of(path)
        same, size = (same + 1, size) if now == size else (0, now)
    return size


def size_of(path: Path) -> int:
    """Bytes of a database's file, with everything written into it."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages, each = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    db.close()
    return int(pages * each)


if __name__ == "__main__":
    for row in asyncio.run(rows()):
        print(f"{row.name}: {row.value:g} {row.unit} {row.bar} {'' if row.ok else 'NO'}")
