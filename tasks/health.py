"""How the venues' servers have answered lately: counted below the clients, so that no call of theirs is missed."""

from __future__ import annotations

import asyncio
from collections import deque

import httpx

from evenkeel.clock import Clock
from evenkeel.tls import tls
from venues.ratebudget import RateBudget

REMEMBERED = 256
"""Failed calls kept for each host."""
CONNECTIONS = 20
"""To a host at a time, all of them kept: more calls than that wait their turn, instead of opening a connection for each."""


class CallLog:
    """Calls by host, and which of them failed: no answer, 429 or 5xx. A refusal is an answer, but for a node that lets us in
    no more.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[str, deque[int]] = {}
        self._row: dict[str, deque[int]] = {}
        self._made: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self.budgets: dict[str, RateBudget] = {}
        """What the calls to a host are weighed by, where they are."""

    def expect(self, host: str) -> None:
        """From now on this host is listed, with no failed call until one is noted."""
        self._failed.setdefault(host, deque(maxlen=REMEMBERED))
        self._row.setdefault(host, deque(maxlen=REMEMBERED))
        self._made.setdefault(host, 0)
        self._failures.setdefault(host, 0)

    def note(self, host: str, ok: bool) -> None:
        """One call to an expected host has ended."""
        self._made[host] += 1
        if ok:
            self._row[host].clear()
            return
        self._failures[host] += 1
        now = self._clock.now_ms()
        self._failed[host].append(now)
        self._row[host].append(now)

    def failed_ms(self) -> dict[str, tuple[int, ...]]:
        """When calls failed, by host, oldest first."""
        return {host: tuple(times) for host, times in self._failed.items()}

    def counted(self) -> dict[str, dict[str, float]]:
        """Calls, failed calls and weight since this process began, by host, as a heartbeat keeps them."""
        weights = {host: budget.spent for host, budget in self.budgets.items()}
        return {"venue_calls": {**self._made}, "venue_failures": {**self._failures}, "venue_weight": weights}

    def in_a_row(self, window_s: int, within_s: int | None = None) -> dict[str, int]:
        """Calls that failed one after another, up to the last one made, within `window_s` of it.

        `within_s`: a last call longer ago than this says nothing of now.
        """
        oldest_ms = 0 if within_s is None else self._clock.now_ms() - within_s * 1000
        return {
            host: sum(1 for at in times if at >= times[-1] - window_s * 1000)
            if times and times[-1] >= oldest_ms
            else 0
            for host, times in self._row.items()
        }


class CountedTransport(httpx.AsyncBaseTransport):
    """The ordinary transport, which also notes how each call ended.

    `shut_out`: statuses by which this host says that it lets us in no more, which is as bad as no answer. `connections`: so
    many calls are made at a time; the others wait here, and one that is given up meanwhile is none of the host's. Each
    connection is a pool of its own: one pool of many looks through all its connections, and all who wait, at every call.
    """

    def __init__(
        self, host: str, log: CallLog, shut_out: frozenset[int] = frozenset(), connections: int = CONNECTIONS
    ) -> None:
        self._shut_out = shut_out
        self._host = host
        self._log = log
        self._each = [
            httpx.AsyncHTTPTransport(
                trust_env=False,
                verify=tls(),
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            )
            for _ in range(connections)
        ]
        self._free = asyncio.LifoQueue[httpx.AsyncHTTPTransport]()
        for one in self._each:
            self._free.put_nowait(one)
        log.expect(host)

    async def aclose(self) -> None:
        """Close every connection."""
        for one in self._each:
            await one.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        connection = await self._free.get()
        try:
            response = await connection.handle_async_request(request)
            await response.aread()
        except BaseException:  # it fails, or is given up by whoever waited for it
            self._log.note(self._host, ok=False)
            await (
                connection.aclose()
            )  # else one that was given up while it began would keep its place for ever
            raise
        finally:
            self._free.put_nowait(connection)
        status = response.status_code
        self._log.note(self._host, ok=status != 429 and status < 500 and status not in self._shut_out)
        return response
