"""The Prefect server dies while a story runs: its steps go on, whatever tags the flow was started with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STORY = """
import asyncio, sys, time
from contextlib import ExitStack
from pathlib import Path
from app.prefect_server import prefect_answers, prefect_server, use_prefect

home = Path(sys.argv[1])
server = ExitStack()
url = server.enter_context(prefect_server(home))
use_prefect(url, home)
from prefect import flow, tags
from tasks.step import step

@step("put something on the wire", tags=("wire",))
async def act(n: int) -> int:
    return n + 1

@step("put something else on the wire", tags=("danger",))
async def act_again(n: int) -> int:
    return n + 1

@flow(name="story")
async def story() -> None:
    assert await act(1) == 2
    server.close()
    assert not prefect_answers(url)
    began = time.monotonic()
    assert await act_again(2) == 3  # of another tag: Prefect keeps for 5 s what it heard of the limits of the first
    sys.stdout.write(f"acted in {time.monotonic() - began:.2f} s\\n")
    sys.stdout.flush()
    import os
    os._exit(0)  # the flow's own end would be reported to the server that is gone

with tags("evenkeel", "monitor"):
    asyncio.run(story())
"""


def test_a_step_acts_at_once_with_the_server_gone(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", STORY, str(tmp_path / "prefect")],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    assert float(ran.stdout.split("acted in ")[1].split()[0]) < 5
