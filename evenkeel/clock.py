"""The one clock that everything which waits or stamps is given: the system's, or the world's behind the twins."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

import httpx

from evenkeel.errors import Retryable
from evenkeel.tls import tls


class Clock(Protocol):
    """Milliseconds UTC and a way to wait for them to pass."""

    def now_ms(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...

    async def refresh(self) -> None:
        """Agree with the source of time again, before something with a deadline is signed."""


def as_datetime(ms: int) -> datetime:
    """Milliseconds UTC as an aware datetime."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def ms_of_date(text: str | None) -> int | None:
    """Milliseconds UTC of a date as headers of HTTP have it; None for what is none, and for numbers beyond any date."""
    try:
        found = parsedate_to_datetime(text or "")
    except (TypeError, ValueError, OverflowError):
        return None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * 1000


class SystemClock:
    """Real time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def refresh(self) -> None:
        """The system clock needs no agreement."""


class WorldClock:
    """The clock of a running `evenkeel twins serve`, so that both sides agree on nonces, expiries and funding hours.

    The twins publish an anchor (world time at a reading of the machine-wide monotonic clock) and a speed. Where the
    world is *stepped*, a sleep moves the world forward at once instead of waiting for it.
    """

    _REFRESH_NS = 50_000_000

    def __init__(self, control_url: str, timeout_s: float = 10.0) -> None:
        self._url = control_url.rstrip("/")
        self._timeout_s = timeout_s
        self._http: httpx.AsyncClient | None = None
        self._read_at_ns = 0
        answer = httpx.get(f"{self._url}/control/clock", timeout=timeout_s, trust_env=False, verify=tls())
        self._anchor(answer.json())

    def _anchor(self, body: dict[str, float]) -> None:
        self._world_ms = float(body["world_ms"])
        self._mono_ns = int(body["mono_ns"])
        self._speed = float(body["speed"])
        self._stepped = bool(body["stepped"])
        self._read_at_ns = time.monotonic_ns()

    def now_ms(self) -> int:
        return int(self._world_ms + (time.monotonic_ns() - self._mono_ns) / 1e6 * self._speed)

    async def refresh(self) -> None:
        """Read the anchor again: another process may have stepped the world."""
        try:
            self._anchor((await self._client().get(f"{self._url}/control/clock")).json())
        except httpx.HTTPError as error:
            raise Retryable(
                f"world clock {self._url} does not answer: {error!r}. Are the twins running?"
            ) from error

    async def sleep(self, seconds: float) -> None:
        if not self._stepped:
            await asyncio.sleep(seconds / self._speed)
            return
        body = {"until_ms": self.now_ms() + seconds * 1000}
        try:
            answer = await self._client().post(f"{self._url}/control/clock/advance", json=body)
        except httpx.HTTPError as error:
            raise Retryable(
                f"world clock {self._url} does not answer: {error!r}. Are the twins running?"
            ) from error
        self._anchor(answer.json())
        await asyncio.sleep(0)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=self._timeout_s, trust_env=False, verify=tls())
        return self._http
