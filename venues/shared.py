"""Readings that several accounts of one process want at the same moment, made once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from evenkeel.clock import Clock
from venues.ratebudget import Lane, in_lane

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class SharedReads:
    """Of what nobody's account changes: prices, rates, the chain's height. An answer that is younger than `fresh_ms` serves
    again, and who asks while it is on its way gets the same one.
    """

    def __init__(self, clock: Clock, fresh_ms: int) -> None:
        self.clock = clock
        self.fresh_ms = fresh_ms
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._known: dict[Hashable, tuple[int, Any]] = {}

    async def once(self, name: Hashable, reading: Callable[[], Awaitable[T]]) -> T:
        """Return what `reading` gives, or what it has just given to somebody else. An error is everybody's who waited for it,
        and is kept for nobody.
        """
        known = self._known.get(name)
        if known is not None and 0 <= self.clock.now_ms() - known[0] < self.fresh_ms:
            value: T = known[1]
            return value
        task = self._under_way.get(name)
        if task is None:
            with in_lane(Lane.URGENT):  # somebody in danger may ask for it while it is on its way
                task = self._under_way[name] = asyncio.ensure_future(self._read(name, reading))
        # Shielded: who gives up waiting takes the answer from nobody else.
        found: T = await asyncio.shield(task)
        return found

    async def close(self) -> None:
        """Break off what is on its way: nobody waits for it any more."""
        await ended(self._under_way.values())

    async def _read(self, name: Hashable, reading: Callable[[], Awaitable[T]]) -> T:
        asked_ms = self.clock.now_ms()
        try:
            value = await reading()
            oldest = self.clock.now_ms() - self.fresh_ms
            self._known = {key: known for key, known in self._known.items() if known[0] > oldest}
            self._known[name] = (asked_ms, value)
            return value
        finally:
            self._under_way.pop(name, None)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these and wait until they are over, whatever they end with."""
    found = list(tasks)
    for task in found:
        task.cancel()
    await asyncio.gather(*found, return_exceptions=True)


async def once_for_all(shared: SharedReads | None, name: Hashable, reading: Callable[[], Awaitable[T]]) -> T:
    """Return what `reading` gives, shared where anything is."""
    return await (reading() if shared is None else shared.once(name, reading))


class Gathered(Generic[K, T]):
    """Questions about single things, asked together: what comes within `wait_s` wall seconds is one call of at most `most`."""

    def __init__(
        self, together: Callable[[Sequence[K]], Awaitable[dict[K, T]]], wait_s: float, most: int
    ) -> None:
        self._together, self._wait_s, self._most = together, wait_s, most
        self._waiting: dict[K, asyncio.Future[T | None]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def ask(self, keys: Sequence[K]) -> dict[K, T]:
        """Return the answers by key; one that has none is left out. Raises what the call raised that it was part of."""
        loop = asyncio.get_running_loop()
        mine = {}
        for key in keys:
            if key not in self._waiting:
                if not self._waiting:
                    self._begin()
                self._waiting[key] = loop.create_future()
            mine[key] = self._waiting[key]
        found = {key: await asyncio.shield(one) for key, one in mine.items()}
        return {key: value for key, value in found.items() if value is not None}

    async def close(self) -> None:
        """Break off what is on its way: nobody waits for it any more."""
        await ended(self._calls)

    def _begin(self) -> None:
        call = asyncio.ensure_future(self._call())
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self) -> None:
        asked: dict[K, asyncio.Future[T | None]] = {}
        try:
            await asyncio.sleep(self._wait_s)
            asked, self._waiting = self._waiting, {}
            await self._ask_all(asked)
        finally:  # broken off: nobody waits for an answer that never comes, and the next question begins anew
            left, self._waiting = (asked, self._waiting) if asked else (self._waiting, {})
            for future in left.values():
                future.cancel()

    async def _ask_all(self, asked: dict[K, asyncio.Future[T | None]]) -> None:
        keys = list(asked)
        for start in range(0, len(keys), self._most):
            some = keys[start : start + self._most]
            try:
                found = await self._together(some)
            except BaseException as error:
                for key in some:
                    if not asked[key].done():
                        asked[key].set_exception(error)
                        asked[key].exception()  # who has given up waiting never fetches it
                if not isinstance(error, Exception):
                    raise
                continue
            for key in some:
                if not asked[key].done():
                    asked[key].set_result(found.get(key))
