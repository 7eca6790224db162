"""Reads of one node that are made at the same moment, sent as one request: each is answered, refused or spoiled for itself.

A batch is JSON-RPC 2.0's own ("Batch"): answers come in any order, and belong to their calls by `id`. geth takes 1,000 calls of
one request and answers "batch too large" beyond that; providers advise 100 at most, and count each call of a batch as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

MOST_CALLS = 100
"""Of one request."""
TURNS = 10
"""Turns of the loop that a batch waits for those who are about to ask: reads that one `gather` begins are some levels deep."""
NO_ANSWER: Final = object()
"""What stands for a call that a batch left unanswered, because its answer would have been too large."""

Call: TypeAlias = tuple[str, list[Any]]
SendAll: TypeAlias = Callable[[Sequence[Call]], Awaitable[list[Any]]]
"""Sends a batch: for each call its result, the error that is its own, or NO_ANSWER. Raises TakesNone."""
SendOne: TypeAlias = Callable[[str, list[Any]], Awaitable[Any]]

_together: ContextVar[bool] = ContextVar("together", default=False)


class TakesNone(Exception):
    """The node takes no batch, or none of so many calls."""


@contextmanager
def together() -> Iterator[None]:
    """Send what is read inside at the same moment as one request, also by tasks that begin there. What changes something is
    always sent alone.
    """
    before = _together.set(True)
    try:
        yield
    finally:
        _together.reset(before)


def is_together() -> bool:
    """Return whether reads of this task are sent with others."""
    return _together.get()


class Batches:
    """The calls of one node that wait for each other. `most`: calls of one request; it shrinks where the node takes fewer, down
    to one, which is no batch any more.
    """

    def __init__(self, send_all: SendAll, send_one: SendOne) -> None:
        self.most = MOST_CALLS
        self._send_all, self._send_one = send_all, send_one
        self._waiting: list[tuple[Call, asyncio.Future[Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, method: str, params: list[Any]) -> Any:
        """Return what the call answers. Raises what is its own, or what the whole request raised."""
        if not self._waiting:
            task = asyncio.ensure_future(self._go())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(((method, params), future))
        return await future

    async def close(self) -> None:
        """Break off what is on its way: nobody waits for it any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, future in self._waiting:  # of a task that was broken off before it began
            future.cancel()
        self._waiting = []

    async def _go(self) -> None:
        mine: list[tuple[Call, asyncio.Future[Any]]] = []
        try:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            mine, self._waiting = self._waiting, []
            parts = [mine[start : start + self.most] for start in range(0, len(mine), self.most)]
            await asyncio.gather(*(self._part(one) for one in parts))
        finally:  # broken off: nobody waits for an answer that never comes
            if not mine:
                mine, self._waiting = self._waiting, []
            for _, future in mine:
                future.cancel()

    async def _part(self, part: Sequence[tuple[Call, asyncio.Future[Any]]]) -> None:
        try:
            answers = await self._answers([call for call, _ in part])
        except Exception as error:
            answers = [error] * len(part)
        for (_, future), answer in zip(part, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
                future.exception()  # who has given up waiting never fetches it
            else:
                future.set_result(answer)

    async def _answers(self, calls: Sequence[Call]) -> list[Any]:
        """Ask them in one request; in smaller ones where the node takes none so large, or leaves some unanswered."""
        if len(calls) == 1 or self.most == 1:
            return await asyncio.gather(*(self._send_one(*one) for one in calls), return_exceptions=True)
        try:
            found = await self._send_all(calls)
        except TakesNone:
            self.most = min(self.most, len(calls) // 2)
            return await self._in_parts(calls, max(1, self.most))
        left = [number for number, answer in enumerate(found) if answer is NO_ANSWER]
        if left:
            again = await self._in_parts([calls[number] for number in left], max(1, len(left) // 2))
            for number, answer in zip(left, again, strict=True):
                found[number] = answer
        return found

    async def _in_parts(self, calls: Sequence[Call], size: int) -> list[Any]:
        parts = [calls[start : start + size] for start in range(0, len(calls), size)]
        found = await asyncio.gather(*(self._answers(part) for part in parts), return_exceptions=True)
        answers: list[Any] = []
        for part, answered in zip(parts, found, strict=True):
            if isinstance(answered, BaseException):
                if not isinstance(answered, Exception):
                    raise answered
                answers += [answered] * len(part)
            else:
                answers += answered
        return answers
