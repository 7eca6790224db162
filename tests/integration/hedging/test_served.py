"""`evenkeel hedging run` as a supervisor has it: it says that it is up, and a SIGTERM ends it between two passes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from tests.databases import database_fixtures
from tests.hedging_rig import hedging_rig, host_settings, keys_of
from tests.integration.hedging.test_waking import set_up

databases, url, _store = database_fixtures("sqlite")
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(900)
async def test_it_is_ready_hedges_and_ends_cleanly_when_it_is_asked_to(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig:
        rig.world.clock.stepped = False
        rig.world.clock.set_speed(1.0)
        set_up(rig)
        rig.trade("AAPL", "sell", "3")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(str(tmp_path / "notify"))
            supervisor.setblocking(False)
            async with host_settings(rig, url, tmp_path) as config:
                with keys_of(rig.keys["trading"]):
                    process = await asyncio.create_subprocess_exec(
                        *(
                            sys.executable,
                            "-m",
                            "app.cli",
                            "--config",
                            str(config),
                            "hedging",
                            "run",
                            "--json",
                        ),
                        env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PYTHONPATH": str(ROOT)},
                        stdin=DEVNULL,
                        stdout=PIPE,
                        stderr=PIPE,
                    )
                try:
                    async with asyncio.timeout(120):
                        loop = asyncio.get_running_loop()
                        assert await loop.sock_recv(supervisor, 100) == b"READY=1"
                        while rig.broker.streams.listening != 1 or not rig.account.orders:
                            await asyncio.sleep(0.05)
                        process.send_signal(signal.SIGTERM)
                        said, errors = await process.communicate()
                finally:
                    if process.returncode is None:
                        process.kill()
                assert process.returncode == 0, errors.decode()
                assert b'"failed": 0' in said and b"Traceback" not in errors
        [lease] = rig.store.leases()
        assert not lease.owner, "the next one begins at once"
        assert len(rig.account.orders) == 1
