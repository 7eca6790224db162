"""How failed calls are counted: in a row, close together, and only what is no answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
import pytest

from tasks.carry.hosts import HYPERLIQUID
from tasks.health import CallLog, CountedTransport


@dataclass
class StandingClock:
    """Time that a test moves."""

    ms: int = 1_757_203_200_000

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)

    async def refresh(self) -> None:
        return None


def test_only_failures_close_together_and_without_a_success_between_are_a_row() -> None:
    clock = StandingClock()
    log = CallLog(clock)
    for _ in range(3):
        log.note(HYPERLIQUID, ok=False)
        clock.ms += 8_000
    assert log.in_a_row(15)[HYPERLIQUID] == 2, "the first is 16 s before the last"
    assert log.in_a_row(16)[HYPERLIQUID] == 3
    assert log.in_a_row(16, within_s=7)[HYPERLIQUID] == 0, "8 s ago says nothing of now"
    log.note(HYPERLIQUID, ok=True)
    assert log.in_a_row(16)[HYPERLIQUID] == 0
    assert len(log.failed_ms()[HYPERLIQUID]) == 3


@pytest.mark.parametrize(
    ("status", "failed"), [(200, 0), (400, 0), (404, 0), (429, 1), (500, 1), (502, 1), (503, 1)]
)
async def test_a_refusal_is_an_answer_and_an_overload_is_none(status: int, failed: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log = CallLog(StandingClock())
    async with server, httpx.AsyncClient(transport=CountedTransport(HYPERLIQUID, log)) as client:
        await client.get(f"http://127.0.0.1:{port}/")
    assert len(log.failed_ms()[HYPERLIQUID]) == failed


async def test_no_answer_and_one_given_up_count_as_failed() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log = CallLog(StandingClock())
    async with server, httpx.AsyncClient(transport=CountedTransport(HYPERLIQUID, log)) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.get(f"http://127.0.0.1:{port}/")
        assert len(log.failed_ms()[HYPERLIQUID]) == 1
        server.close()
        with pytest.raises(httpx.HTTPError):
            await client.get("http://127.0.0.1:9/")
    assert log.in_a_row(15)[HYPERLIQUID] == 2
