"""Let the venue push prices to whoever watches in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tasks.carry.desk import CarryDesk
from venues.shared import ended


@asynccontextmanager
async def prices_streamed(desk: CarryDesk) -> AsyncIterator[None]:
    """Keep one connection for all accounts of this process meanwhile, where the settings want one. Nothing waits for it."""
    stream = desk.stream
    if stream is None:
        yield
        return
    stream.heard.append(desk.danger.moved)
    task = asyncio.create_task(stream.run())
    try:
        yield
    finally:
        stream.heard.remove(desk.danger.moved)
        await ended([task])
