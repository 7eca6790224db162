"""A step of a story: a Prefect task inside a flow run, and the same plain coroutine everywhere else.

The monitor's danger path, the kill switch and `evenkeel recover` must work with the Prefect server down, so a story never
needs Prefect. `Desk` and other live objects are passed as arguments; tasks here are never cached by their inputs.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from evenkeel.clock import Clock
from evenkeel.errors import NOT_NOW

P = ParamSpec("P")
R = TypeVar("R")
RESULTS = Path("out/prefect-results")
"""Where JSON results of harmless steps are kept: explicit, so that two attempts cannot look in two places."""


def in_flow_run() -> bool:
    """Whether a Prefect flow run is executing us. Does not import Prefect when nobody has."""
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


def step(
    run_name: str | None = None,
    *,
    retries: int = 0,
    tags: tuple[str, ...] = (),
    result_key: str | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Make a coroutine function a step.

    `run_name` is a format string over the arguments. `retries` apply to `NOT_NOW` only, with growing, jittered waits;
    give them to reads, and to nothing that puts an order on the wire except by resuming an intent. `result_key` persists
    the JSON result under that key (a format string over `parameters`), for steps that may run again harmlessly. `tags`
    group the steps in the UI, in front of the task's name. They are never given to Prefect as tags: Prefect asks its
    server for a concurrency slot for each tagged task run, and with the server gone the run fails before it begins.
    """

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        made: list[Any] = []

        @functools.wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if not in_flow_run():
                return await function(*args, **kwargs)
            if not made:
                made.append(_task(function, run_name, retries, tags, result_key))
            with _untagged():  # `with tags(…)` around a flow would reach into every task run
                return await made[0](*args, **kwargs)

        return call

    return decorate


async def retried(
    clock: Clock, read: Callable[[], Awaitable[R]], *, within_s: float = 60.0, every_s: float = 2.0
) -> R:
    """Read again and again while the venue has an error; after `within_s` the last error is raised.

    For what must be known before a story goes on and where nothing is lost by waiting; never while half of a trade is done.
    """
    deadline_ms = clock.now_ms() + int(within_s * 1000)
    while True:
        try:
            return await read()
        except NOT_NOW:
            if clock.now_ms() >= deadline_ms:
                raise
        await clock.sleep(every_s)


def _untagged() -> AbstractContextManager[Any]:
    from prefect.context import TagsContext

    return TagsContext(current_tags=set())


def _task(
    function: Callable[..., Awaitable[Any]],
    run_name: str | None,
    retries: int,
    tags: tuple[str, ...],
    result_key: str | None,
) -> Any:
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.tasks import exponential_backoff

    options: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
    if result_key is not None:
        options = {
            "persist_result": True,
            "result_storage_key": result_key,
            "result_storage": RESULTS.resolve(),
            "result_serializer": "json",
        }
    return task(
        name="/".join((*tags, function.__name__)),
        task_run_name=run_name,
        retries=retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=1) if retries else 0,
        retry_jitter_factor=0.5 if retries else None,
        retry_condition_fn=_may_succeed_later if retries else None,
        **options,
    )(function)


async def _may_succeed_later(task: Any, task_run: Any, state: Any) -> bool:
    try:
        await state.aresult(raise_on_failure=True)
    except NOT_NOW:
        return True
    except Exception:
        return False
    return False
