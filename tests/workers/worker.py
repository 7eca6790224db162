"""A worker without Prefect: does at once what it reads from its standard input, each as a run would, and says how it ended."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from evenkeel.errors import EvenkeelError
from evenkeel.settings.settings import Settings, load_settings
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.exit import ExitRequest, exit_position
from tasks.carry.desk import open_desk


async def done(settings: Settings, name: str, request: dict[str, Any]) -> tuple[str, str]:
    """The state that a run of it would end in, and what it says."""
    try:
        if name.startswith("enter"):
            async with open_desk(settings, account=request["account"]) as desk:
                await enter_position(desk, EnterRequest(**request))
        else:
            async with open_desk(settings, position_id=request["position_id"]) as desk:
                await exit_position(desk, ExitRequest(**request))
    except EvenkeelError as fault:
        return "Failed", f"{type(fault).__name__}: {fault}"
    except Exception as bug:
        return "Crashed", f"{type(bug).__name__}: {bug}"
    return "Completed", ""


async def main(config: str) -> None:
    """Say that it is ready, read what is wanted, do it, and print the answers as one line of JSON."""
    settings = load_settings(Path(config))
    print("ready", flush=True)
    wanted = json.loads(await asyncio.to_thread(sys.stdin.readline))
    print(json.dumps(await asyncio.gather(*(done(settings, *one) for one in wanted))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
