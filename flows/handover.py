"""The restart chain of a watch: a monitor run is followed by the next one until its subject has ended.

Every question to Prefect is bounded in time, and none is on the way of a danger: with its server gone one would otherwise
block for more than a minute. Two monitors of one subject are harmless (its lease lets one of them act), none is not; so in
doubt one is asked for. What a business watches, and by which deployment, it says in a `Watch`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import DeploymentStatus, FlowRun
from prefect.context import FlowRunContext
from prefect.states import Scheduled

from evenkeel.errors import OperatorError, Retryable
from evenkeel.units import DAY_MS, HOUR_MS
from flows.running import ledger_for_run
from state.store import Store
from tasks.leases import described, own_name

log = logging.getLogger("evenkeel.monitor")
TIMEOUT_S = 20.0
"""Wall seconds for one question to Prefect."""
BEGIN_S = 120.0
"""Wall seconds in which a run that was asked for must have begun: hosts look for new ones every ten seconds."""
AGAIN_S, LIVED_S = 60.0, 20.0
"""Wall seconds after which a failed watch is taken up that had not lived so long: whatever ends it at once must not become a
tight loop. One that had is taken up at once.
"""


@dataclass(frozen=True)
class Watch:
    """What a business watches: the handover asks for its monitors and names nothing of it itself."""

    deployment: str
    """Of its monitor, as "flow/deployment"."""

    parameter: str
    """The field of the monitor's request that names the subject."""

    live: Callable[[Store], list[str]]
    """Subjects that have not ended, oldest first. Raises Retryable while the ledger is busy."""

    alarm: Callable[[Store, str, str], None]
    """Raise the alert that a subject may be watched by nobody, and why; the first tick of a monitor closes it."""

    last_by: Callable[[Store, str], str]
    """Which process looked at a subject last, in words; "" where none did."""


class Asked(NamedTuple):
    """The run that Prefect holds ready, if it does; `fault` says why it may not begin, and is empty where it will."""

    run: FlowRun | None
    fault: str = ""


async def ask(deployment: UUID | str, parameters: dict[str, Any], key: str, after_s: float = 0.0) -> Asked:
    """A monitor run for a request (as JSON), `after_s` wall seconds from now; the same run again for the
    same key. Takes `TIMEOUT_S` at most and raises nothing: what Prefect does must never end a watch.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S), get_client() as client:
            if isinstance(deployment, str):
                found = await client.read_deployment_by_name(deployment)
            else:
                found = await client.read_deployment(deployment)
            run = await client.create_flow_run_from_deployment(
                found.id,
                parameters={"request": parameters},
                state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=after_s)),
                idempotency_key=f"monitor-{key}",
            )
    except Exception as error:
        log.warning("no monitor could be had of Prefect (%s): %r", key, error)
        return Asked(None, f"Prefect did not take the order ({type(error).__name__})")
    hosted = found.status is not DeploymentStatus.NOT_READY
    return Asked(
        run,
        "" if hosted else f"nobody hosts the deployment {found.name}: is `python -m flows.serve` running?",
    )


async def have_watched(
    watch: Watch, store: Store, subjects: Iterable[str], occasion: str, *, by_us: bool = False
) -> bool:
    """Ask for a monitor of each subject, once an occasion. Where none can be had, or nobody hosts it (`by_us`: we are
    about to), the ledger gets an alert, which the first tick of a monitor closes. False where Prefect did not answer.
    """
    had = True
    for subject in subjects:
        key, request = f"{subject}-{occasion}", {watch.parameter: subject}
        asked = await ask(watch.deployment, request, key)
        if asked.run is not None and _is_over(asked.run):  # of this occasion, and it watches no longer
            asked = await ask(watch.deployment, request, f"{key}-{asked.run.id}")
        if asked.run is None or (asked.fault and not by_us):
            _alarm(watch, store, subject, asked.fault)
        had = had and asked.run is not None
    return had


async def watch_from_here(watch: Watch, store: Store, subjects: Iterable[str], occasion: str) -> None:
    """At the end of a run that a deployment started: what it leaves live gets a monitor. At a terminal the operator is
    there to start one.
    """
    if own_run() is None:
        return
    try:
        wanted = watch.live(store)
        await have_watched(watch, store, [one for one in subjects if one in wanted], occasion)
    except Retryable as error:
        log.warning("no monitor was asked for: %s", error)


def own_run() -> FlowRun | None:
    """The run that executes us, where it belongs to a deployment. `prefect.runtime` would ask the server, and block."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    return run if run is not None and run.deployment_id is not None else None


class NextRun:
    """What a monitor run does about the next run at the end of its day, and where its host is gone. Leaving the context drops
    an open question.
    """

    def __init__(self, watch: Watch, store: Store, request: dict[str, Any]) -> None:
        self._watch = watch
        self._store = store
        self._clock = store.clock
        self._request = request
        self._host = os.getppid()
        self._asking: asyncio.Task[bool] | None = None
        self._again_ms = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def watches(self, subject: str, is_due: bool) -> bool:
        """Whether the next run has begun to watch, so that this one may end. Where it `is_due` it is asked for, beside the
        watch, and this answers at once; an hour (of the injected clock) goes by before it asks again. Without a deployment
        there is no next run.

        A run whose host is gone is not followed, but the next host begins one for every subject: it ends once that looks.
        """
        mine = own_run()
        if mine is None:
            return False
        if os.getppid() != self._host and self._is_watched_by_another(subject):
            log.warning("%s: the host of this run is gone, and another process watches", subject)
            return True
        if not is_due or self._clock.now_ms() < self._again_ms:
            return False
        if self._asking is None:
            self._asking = asyncio.create_task(self._follow(mine, subject))
        if not self._asking.done():
            return False
        begun = self._asking.result()
        self._asking, self._again_ms = None, self._clock.now_ms() + HOUR_MS
        if not begun:
            log.warning("%s: no next run has begun; this one goes on for another hour", subject)
        return begun

    def _is_watched_by_another(self, subject: str) -> bool:
        try:
            return self._watch.last_by(self._store, subject) not in ("", described(own_name()))
        except Retryable:
            return False

    async def _follow(self, mine: FlowRun, subject: str) -> bool:
        """The next run of this subject's day: should two runs watch it, they end in one. A day's run that is over, or is
        this very one, is not the next.
        """
        assert mine.deployment_id is not None
        parameters = self._request | {self._watch.parameter: subject, "until_ms": None}
        day = f"{subject}-after-{self._clock.now_ms() // DAY_MS}"
        run = (await ask(mine.deployment_id, parameters, day)).run
        if run is not None and (run.id == mine.id or _is_over(run)):
            run = (await ask(mine.deployment_id, parameters, f"{day}-{mine.id}")).run
        return run is not None and await _begins(run)


async def _begins(run: FlowRun) -> bool:
    """Whether a run is executed before long: nobody may host the deployment, or all places may be taken."""
    try:
        async with asyncio.timeout(BEGIN_S), get_client() as client:
            while True:
                run = await client.read_flow_run(run.id)
                if _is_over(run) or (run.state is not None and run.state.is_running()):
                    return not _is_over(run)
                await asyncio.sleep(1.0)
    except Exception as error:
        log.warning("the next monitor run %s has not begun: %r", run.id, error)
        return False


def _is_over(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


async def go_on(watch: Watch, flow_run: FlowRun, state: Any) -> None:
    """For the hook of a monitor that failed or crashed: the same request again, at once, or where it had hardly lived a minute
    later and once a minute for a subject. Called in the dying run, or by its host where the process was killed. A subject that
    has ended needs no watch.
    """
    if flow_run.deployment_id is None or await _was_cancelled(flow_run):
        return
    parameters = dict(flow_run.parameters.get("request") or {})
    after_s = again_after_s(flow_run, datetime.now(UTC))
    named, occasion = (
        parameters.get(watch.parameter),
        f"again-{int(time.time() // 60)}" if after_s else f"after-{flow_run.id}",
    )
    try:
        with ledger_for_run() as store:
            wanted = [one for one in watch.live(store) if named in (None, one)]
            for subject in wanted:
                asked = await ask(
                    flow_run.deployment_id,
                    parameters | {watch.parameter: subject},
                    f"{subject}-{occasion}",
                    after_s,
                )
                then = asked.fault or (
                    f"the next one starts in {after_s:.0f} s" if after_s else "the next one starts now"
                )
                _alarm(watch, store, subject, f"its monitor ended {state.name}; {then}")
    except (OperatorError, Retryable) as fault:
        log.warning("the ledger cannot say what is live, so %s is watched again: %s", named, fault)
        await ask(flow_run.deployment_id, parameters, f"{named}-{occasion}", after_s)


def again_after_s(run: FlowRun, now: datetime) -> float:
    """Wall seconds until the run that follows one that has ended now; 0 where it lived, from when it was due, for a while."""
    due = run.expected_start_time
    return 0.0 if due is not None and (now - due).total_seconds() >= LIVED_S else AGAIN_S


async def _was_cancelled(run: FlowRun) -> bool:
    """Cancelling is the operator's stop button, even where the process died before it could say so."""
    try:
        async with asyncio.timeout(TIMEOUT_S), get_client() as client:
            states = await client.read_flow_run_states(run.id)
    except Exception:
        return False
    latest = sorted(states, key=lambda one: one.timestamp, reverse=True)
    since_it_ran = itertools.takewhile(lambda one: not one.is_running(), latest)
    return any(one.is_cancelling() or one.is_cancelled() for one in since_it_ran)


def _alarm(watch: Watch, store: Store, subject: str, why: str) -> None:
    try:
        watch.alarm(store, subject, why)
    except Retryable as error:
        log.warning("%s is not watched (%s), and the ledger could not note it: %s", subject, why, error)
