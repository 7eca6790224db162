"""Watch all managed accounts for as long as there are any: one process at a time by its lease, one run after the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from pydantic import Field

from evenkeel.errors import EvenkeelError, LostRace
from evenkeel.settings.settings import Settings, load_settings
from evenkeel.units import DAY_MS
from flows.accounts.watched import ACCOUNTS, WHAT
from flows.forms import Form
from flows.handover import NextRun, go_on
from flows.running import settings_for_run
from tasks.accounts.alerts import ACCOUNTS_WATCH, HYPERLIQUID_WATCH
from tasks.accounts.desks import AnyDesk, wanted_watches, watched_desk
from tasks.accounts.watcher import AccountsWatcher, Watched

log = logging.getLogger("evenkeel.accounts")
AGAIN_S = 1.0
"""Wall seconds until the lease, which is kept by wall time, is asked for again while another process watches."""
MEANWHILE_S = 30.0
"""Wall seconds until a watch without Prefect that could not begin is tried again."""


class AccountsWatchRequest(Form):
    """What to watch, and until when."""

    watch: str = Field(
        default=ACCOUNTS_WATCH,
        description=f"which accounts, all of them in one run: {ACCOUNTS_WATCH} (Ostium), {HYPERLIQUID_WATCH}",
    )
    until_ms: int | None = Field(
        default=None,
        description="end of this watch, ms UTC; empty: a served run hands over to a fresh one each day, any other goes on",
    )


def by_nobody(subject: str, is_due: bool) -> bool:
    """Nobody goes on with a watch."""
    return False


async def watch_accounts(
    desk: AnyDesk,
    request: AccountsWatchRequest,
    watched_by_next: Callable[[str, bool], bool] = by_nobody,
) -> Watched:
    """Watch until `until_ms`, or until `watched_by_next` says yes, which hears whether the day is over. While another process
    holds the lease this one waits for it, so that no moment between two is watched by nobody.
    """
    core = desk.desk
    ends_ms = request.until_ms or core.clock.now_ms() + DAY_MS
    done = Watched()

    def goes_on() -> bool:
        is_over = core.clock.now_ms() >= ends_ms
        return not (is_over and request.until_ms) and not watched_by_next(desk.watch, is_over)

    while goes_on():
        try:
            async with core.exclusive(desk.watch, WHAT) as fence:
                watcher = AccountsWatcher(desk, fence, done=done)
                while goes_on():
                    await watcher.tick()
                    done = watcher.done
                    await core.clock.sleep(watcher.pace_s)
                return done
        except LostRace as busy:
            log.info("%s", busy)
            await asyncio.sleep(AGAIN_S)
    return done


def watch_meanwhile(answered: threading.Event) -> None:
    """Watch in this process, without Prefect, until that has `answered`; its runs wait for the lease until then. Where the
    business is off nothing is done.
    """
    while not answered.is_set():
        try:
            settings = load_settings()
            if not (watches := wanted_watches(settings)):
                return
            asyncio.run(_watch_until_followed(settings, watches, answered))
        except EvenkeelError as fault:  # the settings
            log.warning("managed accounts cannot be watched here yet: %s", fault)
            answered.wait(MEANWHILE_S)


async def _watch_until_followed(settings: Settings, watches: list[str], answered: threading.Event) -> None:
    """Watch each venue by itself: what one cannot be asked for now must not end the other's watch."""

    def is_followed(subject: str, is_due: bool) -> bool:
        return answered.is_set()

    async def one(watch: str) -> None:
        while not answered.is_set():
            try:
                async with watched_desk(settings, watch) as desk:
                    await watch_accounts(desk, AccountsWatchRequest(watch=watch), is_followed)
            except EvenkeelError as fault:  # a key, the chain
                log.warning("%s cannot be watched here yet: %s", watch, fault)
                await asyncio.to_thread(answered.wait, MEANWHILE_S)

    await asyncio.gather(*(one(watch) for watch in watches))


async def _watch_on(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """Hook: a watch that failed or crashed is followed by another one."""
    await go_on(ACCOUNTS, flow_run, state)


@flow(
    name="watch-accounts",
    flow_run_name="watch-{request.watch}",
    on_failure=[_watch_on],
    on_crashed=[_watch_on],
)
async def watch(request: AccountsWatchRequest) -> Watched:
    """One long run that watches all managed accounts; served, it hands over to a fresh run once a day."""
    asked = request.model_dump(mode="json")
    with settings_for_run() as settings:
        async with (
            watched_desk(settings, request.watch) as desk,
            NextRun(ACCOUNTS, desk.desk.store, asked) as next_run,
        ):
            return await watch_accounts(desk, request, next_run.watches)
