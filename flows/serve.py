"""Host the watches of this machine in one long-lived process: `python -m flows.serve` under a supervisor.

Monitors are served, not sent to a work pool: a worker that stops kills its flow processes without their `finally`, while
`serve` passes the signal on and lets them end. There is no concurrency limit: a restart of the Prefect server would end
the holders of its slots within minutes. One writer a position is kept by the lease in our own ledger.

Whenever it starts, it asks for a watch of all that lives (every position, the managed accounts, and the hedging where it
is switched on), so that a supervisor's restart resumes every watch; what begins later and is watched by nobody is asked for
too. Until a run of Prefect looks at a position, which takes
another process many seconds, it looks itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import prefect
from prefect.schedules import Interval
from prefect.settings import PREFECT_API_URL

from evenkeel.errors import OperatorError, Retryable
from evenkeel.settings.rebalancing import Rebalancing
from flows.accounts.watch import AccountsWatchRequest
from flows.accounts.watch import watch as watch_accounts
from flows.accounts.watch import watch_meanwhile as watch_accounts_meanwhile
from flows.accounts.watched import ACCOUNTS
from flows.begun import Begun, watch_what_begins
from flows.carry.monitor import MonitorRequest, monitor
from flows.carry.watch import watch_meanwhile
from flows.carry.watched import POSITIONS
from flows.handover import Watch, have_watched
from flows.hedging.hedge import HedgeRequest, hedge, hedge_meanwhile
from flows.hedging.rebalance import rebalance_scheduled
from flows.hedging.watched import ACCOUNTS as HEDGING
from flows.hedging.watched import hedging_accounts, rebalancing_here
from flows.running import ledger_for_run
from state.store import Store

log = logging.getLogger("evenkeel.monitor")
NAME = POSITIONS.deployment.partition("/")[2]
WATCHES: tuple[Watch, ...] = (POSITIONS, ACCOUNTS, HEDGING)
"""Of every business, in the order in which they are resumed."""
AT_ONCE = 8
"""Monitors that this process hosts at the same time; each is a process of about 100 MB."""

POLL_S = 3.0
"""Wall seconds between two questions to Prefect for runs to begin: a watch that has ended is taken up so much later at most."""
RETRY_S = 3.0
"""Wall seconds until the ledger, or Prefect, is asked again at the start."""


def resume_watches(begun: Begun | None = None) -> None:
    """Ask for a watch of all that lives, once a start of this process; again until ledger and Prefect answer. No ledger yet is
    waited for too: after a boot its database may come up later than we do. `begun` is given what was asked for.
    """
    start, logged = f"start-{uuid4().hex[:12]}", ""
    while True:
        try:
            with ledger_for_run() as store:
                if begun is not None:
                    begun.known(store)
                if asyncio.run(_have_all_watched(store, start)):
                    return
        except (OperatorError, Retryable) as fault:
            if str(fault) != logged:
                logged = str(fault)
                log.warning("no watch can be resumed yet: %s", logged)
        time.sleep(RETRY_S)


def watch_all() -> None:
    """See to it that all that lives is watched, and then all that begins."""
    begun = Begun(WATCHES)
    resume_watches(begun)
    watch_what_begins(begun)


async def _have_all_watched(store: Store, occasion: str) -> bool:
    had = [await have_watched(one, store, one.live(store), occasion, by_us=True) for one in WATCHES]
    return all(had)


def answers(http: httpx.Client) -> bool:
    """Whether Prefect's server does, or none is set. Its own client would try for half a minute."""
    address = PREFECT_API_URL.value()
    try:
        return not address or http.get(f"{address}/health").is_success
    except httpx.HTTPError:
        return False


def deployment() -> Any:
    """What is hosted, for `prefect.serve`. Parameters are defaults, so that a run can be started without any."""
    return monitor.to_deployment(
        name=NAME,
        tags=["evenkeel", "monitor"],
        description="Watch one open position until it is closed; each day a fresh run takes over.",
        parameters={"request": MonitorRequest().model_dump(mode="json")},
    )


def accounts_deployment() -> Any:
    """The same of the managed accounts' watch."""
    return watch_accounts.to_deployment(
        name=NAME,
        tags=["evenkeel", "watch-accounts"],
        description="Watch all managed accounts; each day a fresh run takes over.",
        parameters={"request": AccountsWatchRequest().model_dump(mode="json")},
    )


def hedging_deployment() -> Any:
    """The same of hedging, where it is switched on."""
    return hedge.to_deployment(
        name=HEDGING.deployment.partition("/")[2],
        tags=["evenkeel", "hedge"],
        description="Hedge the fills of our orders on chain; each day a fresh run takes over.",
        parameters={"request": HedgeRequest().model_dump(mode="json")},
    )


def rebalancing_deployment(rebalancing: Rebalancing) -> Any:
    """The same of what `rebalance.auto` does, by a schedule where that is set. A run that the schedule of another day has left
    finds `auto` off, and does nothing.
    """
    every = timedelta(minutes=rebalancing.every_minutes)
    return rebalance_scheduled.to_deployment(
        name=NAME,
        tags=["evenkeel", "hedging-rebalance"],
        description="Propose what is out of its band and carry out what rebalance.auto approves; nothing without it.",
        schedules=[Interval(every, slug="by-itself")] if rebalancing.auto else [],
    )


def _beside(work: Callable[..., None], *given: Any) -> None:
    threading.Thread(target=work, args=given, name=work.__name__, daemon=True).start()


def main() -> None:
    """Serve until SIGTERM. A stop does not pause the deployment, so that the next start takes runs again at once."""
    answered = threading.Event()
    _beside(watch_meanwhile, answered)
    hosted, watches = [deployment(), accounts_deployment()], [watch_accounts_meanwhile]
    if hedging_accounts():
        hosted.append(hedging_deployment())
        watches.append(hedge_meanwhile)
    if (rebalancing := rebalancing_here()) is not None:
        hosted.append(rebalancing_deployment(rebalancing))
    with httpx.Client(timeout=5, trust_env=False) as http:  # one: each reads all certificates anew
        if not answers(http):
            log.warning("Prefect does not answer: this process watches meanwhile")
            for meanwhile in watches:
                _beside(meanwhile, answered)
        while not answers(http):
            time.sleep(0.5)
    answered.set()
    _beside(watch_all)
    prefect.serve(*hosted, pause_on_shutdown=False, limit=AT_ONCE, query_seconds=POLL_S)


if __name__ == "__main__":
    main()
