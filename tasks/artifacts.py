"""Put results where people look in the Prefect UI. Only after acting, only when a flow run is there, never in the way."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from tasks.step import in_flow_run

log = logging.getLogger("evenkeel.artifacts")
TIMEOUT_S = 5.0
"""With the server down an artifact call would block for over a minute."""


async def show_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """A table artifact; its key keeps a version history."""
    if in_flow_run():
        from prefect.artifacts import acreate_table_artifact

        await _bounded(acreate_table_artifact(table=rows, key=key, description=description))


async def show_markdown(key: str, text: str, description: str) -> None:
    """A markdown artifact."""
    if in_flow_run():
        from prefect.artifacts import acreate_markdown_artifact

        await _bounded(acreate_markdown_artifact(markdown=text, key=key, description=description))


async def show_picture(key: str, picture: Path, description: str) -> None:
    """A PNG inside a markdown artifact, so that it needs no file server."""
    encoded = base64.b64encode(picture.read_bytes()).decode()
    await show_markdown(key, f"![{description}](data:image/png;base64,{encoded})", description)


async def _bounded(call: Awaitable[Any]) -> None:
    try:
        await asyncio.wait_for(call, TIMEOUT_S)
    except Exception as error:  # reporting must never break what it reports on
        log.warning("artifact could not be shown: %r", error)
