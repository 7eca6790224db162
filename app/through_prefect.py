"""Run a story as a Prefect flow where a server answers, so that it is seen there; it never depends on that server.

A flow that has not begun its story within seconds, or fails before it, is given up, and the story is run without it.
What has begun is never run a second time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from rich.console import Console

from app.prefect_server import prefect_answers, server_url
from evenkeel.errors import EvenkeelError, OperatorError

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

R = TypeVar("R")
BEGIN_S = 10.0
"""What a server gets to take note of a run before the story is run without it; it takes one or two on a slow host."""
err = Console(stderr=True)
gone = False
"""Set when Prefect failed under a command: its client would then wait at exit, seconds for each unsent event."""


def note(text: str) -> None:
    """One line for the operator, apart from the answer."""
    err.print(f"evenkeel: {text}", style="dim", soft_wrap=True, markup=False, highlight=False)


async def as_flow(settings: Settings, name: str, call: Callable[[], Coroutine[Any, Any, R]]) -> R | None:
    """Run as a Prefect flow where a server answers; None where the story has not begun, and is then to be run bare.

    Raises what the story raises, and OperatorError where Prefect failed after the story had begun.
    """
    url = server_url(settings)
    if not url:
        return None
    if not await asyncio.to_thread(prefect_answers, url):
        note(f"Prefect does not answer at {url}: {name} runs without it; the ledger is complete either way")
        return None
    from flows.running import Beginning, beginning

    story = Beginning()
    beginning.set(story)
    run = asyncio.ensure_future(_tagged(name, call))
    try:
        begun = asyncio.ensure_future(story.begun.wait())
        await asyncio.wait({run, begun}, timeout=BEGIN_S, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if not run.done() and not story.begun.is_set():
            story.withdrawn = True  # should the run come through now, it finds that it is not wanted any more
            run.cancel()
            run.add_done_callback(_forget)
            _without(name, f"took no note of the run within {BEGIN_S:.0f} s")
            return None
        return await run
    except EvenkeelError:
        raise
    except Exception as error:
        if not story.begun.is_set():
            _without(name, f"could not begin the run ({type(error).__name__})")
            return None
        if not _of_prefect(error):
            raise
        _give_up()
        raise OperatorError(
            f"Prefect failed while {name} ran ({type(error).__name__}); the work went on without it: "
            "`evenkeel status` says how it ended"
        ) from error
    finally:
        beginning.set(None)


def _of_prefect(error: Exception) -> bool:
    """Whether it is the client or the server that failed; our own stories let no such error out."""
    import httpx

    return any(
        isinstance(one, httpx.HTTPError) or type(one).__module__.partition(".")[0] == "prefect"
        for one in (error, error.__cause__)
    )


async def _tagged(name: str, call: Callable[[], Coroutine[Any, Any, R]]) -> R:
    from prefect import tags

    with tags("evenkeel", name):
        return await call()


def _without(name: str, why: str) -> None:
    _give_up()
    note(f"Prefect {why}: {name} runs without it; the ledger is complete either way")


def _give_up() -> None:
    global gone
    gone = True


def _forget(run: asyncio.Future[Any]) -> None:
    """Whatever a run that was given up ends with is nobody's error."""
    if not run.cancelled():
        run.exception()


def leave(code: int) -> NoReturn:
    """End the process; at once where Prefect failed, whose client would go on waiting for its server."""
    if gone:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
