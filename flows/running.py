"""The desk that a flow run works at."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from evenkeel.settings import load_settings
from tasks.desk import Desk, open_desk


@asynccontextmanager
async def desk_for_run() -> AsyncIterator[Desk]:
    """The desk of this host's settings (`EVENKEEL_CONFIG`, else `evenkeel.toml`), closed at the end of the run."""
    named = os.environ.get("EVENKEEL_CONFIG")
    async with open_desk(load_settings(Path(named) if named else None)) as desk:
        yield desk
