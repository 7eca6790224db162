"""A Prefect server that is out of order before a story begins: the story runs without it, and is reported as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evenkeel.legs import PositionStatus
from tests.carry.rig import Rig, story_rig

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
ENTER = ("enter", "--asset", "SOL", "--protocol", "1")


@contextmanager
def out_of_order(how: str) -> Iterator[str]:
    """A server that is healthy by its own word. To all else it is mute, answers 500, or is gone at the first call."""
    over, asked = threading.Event(), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/health") and not (how == "gone" and asked):
                return self._say(200, b"true")
            asked.append(self.path)
            if how == "mute":
                over.wait(60)
            elif how == "500":
                return self._say(500, b'{"exception_message": "Internal Server Error"}')
            self.close_connection = True
            return None

        do_POST = do_GET

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def command(rig: Rig, folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "EVENKEEL_CONFIG": str(rig.config),
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments, "--json"],
        capture_output=True, text=True, env=environment, cwd=folder, timeout=150, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["mute", "500", "gone"])
async def test_an_entry_that_prefect_cannot_begin_is_made_without_it(tmp_path: Path, how: str) -> None:
    async with story_rig(tmp_path) as rig:
        with out_of_order(how) as url:
            ran = command(rig, tmp_path, url, *ENTER)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["status"] == "OPEN" and "runs without it" in ran.stderr, ran.stderr
        assert "went on" not in ran.stderr
        rig.assert_hedged()
        assert len(rig.sells()) == 1 and rig.opened_longs() == 1


@pytest.mark.parametrize("how", ["mute", "500", "gone"])
async def test_an_exit_never_asks_prefect(tmp_path: Path, how: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        with out_of_order(how) as url:
            began = time.monotonic()
            ran = command(rig, tmp_path, url, "exit", "--reason", "seen in the books")
            took_s = time.monotonic() - began
        assert ran.returncode == 0 and ran.stderr == "", ran.stderr
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED
        assert rig.desk.store.carry.position(position_id).close_reason == "seen in the books"
        assert took_s < 40, "most of it is the import of Prefect"
