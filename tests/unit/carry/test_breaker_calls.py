"""How failed calls are counted: in a row, close together, and only what is no answer."""

from __future__ import annotations

import asyncio
import contextlib
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
    log.expect(HYPERLIQUID)
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


async def test_who_gives_up_waiting_for_a_connection_has_made_no_call_and_keeps_none() -> None:
    began, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            began.set()
            await may_answer.wait()
            writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    log = CallLog(StandingClock())
    transport = CountedTransport(HYPERLIQUID, log, connections=1)
    async with server, httpx.AsyncClient(transport=transport) as client:
        first = asyncio.create_task(client.get(url))
        await began.wait()
        second = asyncio.create_task(client.get(url))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert not log.failed_ms()[HYPERLIQUID]
        may_answer.set()
        assert (await first).text == "ok"
        assert (await client.get(url)).text == "ok", "who gave up waiting keeps no connection"
    assert log.counted()["venue_calls"] == {HYPERLIQUID: 2}


async def test_a_call_given_up_at_any_point_of_its_way_gives_its_connection_back() -> None:
    """Seen: one that was given up while it began to connect held its place in the pool for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\no")
                await writer.drain()
                writer.write(b"k")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    transport = CountedTransport(HYPERLIQUID, CallLog(StandingClock()), connections=1)
    async with server, httpx.AsyncClient(transport=transport) as client:
        for turns in range(30):
            call = asyncio.create_task(client.get(url, timeout=5))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert (await client.get(url, timeout=5)).text == "ok", (
                f"given up after {turns} turns of the loop"
            )
