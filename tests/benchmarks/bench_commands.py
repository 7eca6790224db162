"""What a command costs before it does anything: processor time and memory of `evenkeel --help` and `evenkeel status`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Row, at_most
from tests.carry.rig import story_rig

RUNS = 7
HELP_S, STATUS_S, STATUS_MB = 0.3, 1.0, 110.0
_LAUNCH = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, used = os.wait4(child, 0)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Of a process of its own, because the system counts the memory of whoever starts a command as the command's."""


def cost(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Processor time (seconds, user and system) and largest memory (MB) of `evenkeel …`, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCH, "-m", "app.cli", *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    status, seconds, rss = done.stdout.split()
    assert status == "0", done.stderr
    return float(seconds), float(rss) / (1e6 if sys.platform == "darwin" else 1e3)


def least(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Of several runs the cheapest, after one that fills the caches: whatever else runs here only adds."""
    found = [cost(command, environment) for _ in range(RUNS + 1)][1:]
    return min(seconds for seconds, _ in found), min(rss for _, rss in found)


def shown(environment: dict[str, str]) -> dict[str, Any]:
    """What `evenkeel status` says."""
    command = [sys.executable, "-m", "app.cli", "status", "--json"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=True)
    return dict(json.loads(done.stdout))


async def rows() -> list[Row]:
    """An open position stands in the ledger and on both venues; `status` compares them as it always does."""
    with tempfile.TemporaryDirectory() as cache:
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
        help_s, help_mb = least(["--help"], compiled)
        async with story_rig(Path(cache) / "desk") as rig:
            await rig.entered(asset="SOL", protocol=1)
            environment = compiled | {"EVENKEEL_CONFIG": str(rig.config.resolve())}
            found = shown(environment)
            assert len(found["positions"]) == 1 and not found["unowned_legs"] and not found["unreadable"]
            status_s, status_mb = least(["status"], environment)
    name = f"processor time, least of {RUNS}"
    return [
        at_most(f"evenkeel --help, {name}", help_s, "s", HELP_S),
        Row("evenkeel --help, memory", round(help_mb, 1), "MB"),
        at_most(f"evenkeel status, {name}", status_s, "s", STATUS_S),
        at_most("evenkeel status, memory", status_mb, "MB", STATUS_MB),
    ]
