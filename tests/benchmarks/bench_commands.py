"""What a command costs before it does anything: processor time and memory of `evenkeel --help` and `evenkeel status`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Row, at_most, at_most_times
from tests.carry.rig import story_rig

RUNS = 7
HELP_TIMES, STATUS_TIMES, STATUS_MB = 0.25, 0.8, 110.0
"""Of the processor time that importing Prefect takes, as every command did before it imported only what it needs.

Where they were set, `status` took 2.2 s then and may take 1.0 s, `--help` 0.3 s; the former `status` is 1.75 times the import
on every machine tried, so 1.0 s of it is 0.8 times the import, and 0.3 s is 0.24. Seconds alone follow the machine: the same
tree took 0.82 s and 1.85 s on one host within a week.
"""
PEER = "importing Prefect"
_LAUNCH = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, used = os.wait4(child, 0)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Of a process of its own, because the system counts the memory of whoever starts a command as the command's."""


def cost(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Processor time (seconds, user and system) and largest memory (MB) of `python …`, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCH, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    status, seconds, rss = done.stdout.split()
    assert status == "0", done.stderr
    return float(seconds), float(rss) / (1e6 if sys.platform == "darwin" else 1e3)


def least(*commands: list[str], environment: dict[str, str]) -> list[tuple[float, float]]:
    """Of several rounds the cheapest run of each command, after one that fills the caches: whatever else runs only adds."""
    rounds = [[cost(arguments, environment) for arguments in commands] for _ in range(RUNS + 1)][1:]
    return [
        (min(seconds for seconds, _ in runs), min(rss for _, rss in runs))
        for runs in zip(*rounds, strict=True)
    ]


def shown(environment: dict[str, str]) -> dict[str, Any]:
    """What `evenkeel status` says."""
    command = [sys.executable, "-m", "app.cli", "status", "--json"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=True)
    return dict(json.loads(done.stdout))


async def rows() -> list[Row]:
    """An open position stands in the ledger and on both venues; `status` compares them as it always does."""
    with tempfile.TemporaryDirectory() as cache:
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
        async with story_rig(Path(cache) / "desk") as rig:
            await rig.entered(asset="SOL", protocol=1)
            environment = compiled | {"EVENKEEL_CONFIG": str(rig.config.resolve())}
            found = shown(environment)
            assert len(found["positions"]) == 1 and not found["unowned_legs"] and not found["unreadable"]
            (help_s, help_mb), (status_s, status_mb), (prefect_s, _) = least(
                ["-m", "app.cli", "--help"],
                ["-m", "app.cli", "status"],
                ["-c", "from prefect import flow, task"],
                environment=environment,
            )
    name = f"processor time, least of {RUNS}"
    return [
        at_most_times(f"evenkeel --help, {name}", help_s, "s", HELP_TIMES, PEER, prefect_s),
        Row("evenkeel --help, memory", round(help_mb, 1), "MB"),
        at_most_times(f"evenkeel status, {name}", status_s, "s", STATUS_TIMES, PEER, prefect_s),
        at_most("evenkeel status, memory", status_mb, "MB", STATUS_MB),
    ]
