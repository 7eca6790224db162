"""A Prefect server that can be killed and come back at the same address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from app.prefect_server import SERVER_SETTINGS, free_port, prefect_answers

START_S = 120.0


class Server:
    """Not running until started. It cannot outlive this process (`app.with_parent` sees to that)."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()
        self._guard: subprocess.Popen[bytes] | None = None
        self.api_url = f"http://127.0.0.1:{self._port}/api"

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, until it answers."""
        self._home.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= SERVER_SETTINGS | {
            "PREFECT_HOME": str(self._home.resolve()),
            "PREFECT_UI_API_URL": self.api_url,
            "PREFECT_API_URL": self.api_url,
        }
        command = [sys.executable, "-m", "app.with_parent", str(os.getpid())]
        command += [sys.executable, "-m", "prefect", "server", "start"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        with (self._home / "server.log").open("ab") as log:
            self._guard = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_S
        while wait and not prefect_answers(self.api_url):
            assert time.monotonic() < deadline, f"Prefect does not start: {self._home / 'server.log'}"
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL for the server and its whole group; nothing where none runs."""
        if self._guard is None:
            return
        children = Path(f"/proc/{self._guard.pid}/task/{self._guard.pid}/children")
        for pid in children.read_text().split() if children.exists() else []:
            try:
                os.killpg(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._guard.wait(timeout=20)
        self._guard = None
