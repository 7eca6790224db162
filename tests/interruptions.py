"""Something that happens at an exact step of our own code: a price moves before a call, or the process dies after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Killed(BaseException):
    """The process died here: nothing of ours may catch it."""


@contextmanager
def hooked(
    owner: Any,
    method: str,
    *,
    before: Callable[[], None] | None = None,
    after: Callable[[], None] | None = None,
    when: Callable[..., bool] = lambda *args, **kwargs: True,
    skip: int = 0,
) -> Iterator[list[int]]:
    """Let something happen right before or after one call (the first that `when` accepts after `skip`) of a method, or of a
    function of a module.

    The real method still does its work: this is how a price moves, or a process dies, at an exact step.
    """
    real, is_own = getattr(owner, method), method in vars(owner)
    seen = [0]

    def due(*args: Any, **kwargs: Any) -> bool:
        if not when(*args, **kwargs):
            return False
        seen[0] += 1
        return seen[0] == skip + 1

    async def waiting(*args: Any, **kwargs: Any) -> Any:
        mine = due(*args, **kwargs)
        if mine and before:
            before()
        result = await real(*args, **kwargs)
        if mine and after:
            after()
        return result

    def plain(*args: Any, **kwargs: Any) -> Any:
        mine = due(*args, **kwargs)
        if mine and before:
            before()
        result = real(*args, **kwargs)
        if mine and after:
            after()
        return result

    setattr(owner, method, waiting if asyncio.iscoroutinefunction(real) else plain)
    try:
        yield seen
    finally:
        if is_own:
            setattr(owner, method, real)
        else:
            delattr(owner, method)


def die() -> None:
    """For `hooked`: the process ends here."""
    raise Killed


async def killed(story: Awaitable[Any]) -> bool:
    """Whether the story was interrupted by a death."""
    try:
        await story
    except Killed:
        return True
    return False
