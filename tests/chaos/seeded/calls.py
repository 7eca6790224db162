"""Faults of one call of a seeded life: the names of the interceptor's, on stepped time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.chaos.interceptor import LATE_WORLD_S, refusal
from tests.chaos.seeded.wire import HUNG_UP, SILENT, Reply, Request
from twins.faults import Fault

if TYPE_CHECKING:
    from tests.chaos.seeded.playing import Playing


async def replied(playing: Playing, fault: str, venue: str, name: str, request: Request) -> Reply | None:
    """Return what becomes of a call that meets this fault ("": none), or None where its caller was killed.

    Raises ValueError for a fault that is none.
    """

    async def apply() -> Reply:
        return await playing.apply(venue, request)

    async def answered() -> Reply:
        """By a twin that may keep silent; then its caller gives up."""
        try:
            async with asyncio.timeout(request.timeout_s):
                return await apply()
        except TimeoutError:
            return Reply(SILENT)

    silence = Reply(SILENT, after_ms=int(request.timeout_s * 1000))
    match fault:
        case "":
            return await answered()
        case "kill when it arrives" | "kill after it was applied":
            if fault.endswith("applied"):
                await apply()
            playing.kill_process()
            return None
        case "request lost":
            return Reply(HUNG_UP)
        case "answer lost":
            await apply()
            return Reply(HUNG_UP)
        case "30 s late":
            playing.at(LATE_WORLD_S, apply)
            return silence
        case "late, after a tick":
            playing.hold_back(apply)
            return Reply(HUNG_UP, after_ms=1000)  # so early that an order in it has not expired yet
        case "429":
            return Reply(429, body=b"rate limited")
        case "500 before":
            return Reply(500, body=b'{"error": "internal server error"}')
        case "500 after":
            await apply()
            return Reply(502, body=b"<html><h1>502 Bad Gateway</h1></html>")
        case "garbage":
            await apply()
            return Reply(200, body=b"<html>\x00 not what you asked for")
        case "refused":
            words = refusal(venue, name.partition(" ")[2], request.body)
            if words is None:
                playing.twins.faults.add(Fault(venue, "reject", ".*"))
                return await answered()
            status, body, kind = words
            return Reply(status, [(b"content-type", kind)], body)
        case "partial fill":
            playing.twins.faults.add(
                Fault("hyperliquid", "partial_fill", "exchange:order", args={"fraction": "0.6"})
            )
            return await answered()
    raise ValueError(f"no fault of a call is named {fault!r}")
