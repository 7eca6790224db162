"""Sees to it that somebody looks at live positions and managed accounts, and hedges; it needs neither Prefect nor a key.

It reads the ledger alone. Where nobody has looked for too long it raises `not watched`, or `accounts not watched`, where no
pass of hedging has succeeded for too long in an open market `hedging silent`, and where nobody goes on with a rebalance
`rebalance left`; while all is well, and people would hear of it if it were not, it calls a dead man's switch at somebody
else's, which alone can report that this host or the sender is gone.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from app.metrics.serving import metrics
from app.supervised import ALIVE, ALIVE_S, READY, STOPPING, notify, when_asked_to_end
from evenkeel.errors import Retryable
from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.accounts.alerts import WATCHES
from tasks.accounts.alerts import alarm_unwatched as alarm_accounts
from tasks.carry.last_ticks import LastTick, alarm_overdue, last_ticks, overdue_after_s
from tasks.hedging.rebalancing.left import alarm_left
from tasks.hedging.running.silence import alarm_silent, last_good_ms
from tasks.messages.waiting import unheard

log = logging.getLogger("evenkeel.watchdog")
PING_TIMEOUT_S = 10.0


async def _rest(ended: asyncio.Event, seconds: float) -> None:
    """Until then, or until asked to end. The supervisor hears of us often: rounds may be minutes apart."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not ended.is_set() and (left := until - loop.time()) > 0:
        notify(ALIVE)
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), min(left, ALIVE_S))


@dataclass
class Watchdog:
    """One round after the other. What goes on is written to the log once, when it begins and when it is over."""

    settings: Settings
    store: Store
    _overdue: set[str] = field(default_factory=set)
    _accounts_s: float | None = None
    """Seconds since managed accounts were watched last with success, where that is too long ago."""
    _hedging_s: float | None = None
    """Seconds since a pass of hedging succeeded last, where that is too long ago."""
    _began_ms: int = 0
    """Of the first round: from when on hedging that was never begun counts as silent."""
    _blind: str = ""
    _unheard: str = ""
    """Why nobody would hear of an alert."""
    _unanswered: str = ""
    """Why the dead man's switch could not be called."""

    async def run(self) -> None:
        """Until the process is asked to end (SIGTERM, SIGINT)."""
        ended = asyncio.Event()
        when_asked_to_end(ended.set)
        after = overdue_after_s(self.settings)
        log.warning("the watchdog runs: a position without a look for %.0f s is not watched", after)
        with metrics(self.settings, self.settings.metrics.watchdog_port):
            notify(READY)
            while not ended.is_set():
                await self.round()
                await _rest(ended, self.pause_s())
            notify(STOPPING)

    def pause_s(self) -> float:
        """Seconds until the next round: sooner than usual where a position will be overdue before."""
        every, after = float(self.settings.watchdog.every_s), overdue_after_s(self.settings)
        try:
            left = [after - one.age_s for one in last_ticks(self.store)]
            if self.settings.hedging.enabled and (good_ms := last_good_ms(self.store)) is not None:
                age_s = (self.store.clock.now_ms() - good_ms) / 1000
                left.append(self.settings.hedging.alert_silence_s - age_s)
        except Retryable:
            return every
        return min([every, *(one + 0.1 for one in left if one >= 0)])

    async def round(self) -> list[LastTick]:
        """Judge every live position once; return those that nobody has looked at for too long. Never raises for a ledger that
        cannot be read: then nothing is known, and the switch is not called.
        """
        await self.store.clock.refresh()
        try:
            found = alarm_overdue(self.store, overdue_after_s(self.settings))
            after_s = float(self.settings.watchdog.after_s)
            ages = [alarm_accounts(self.store, self.store.clock, after_s, watch=one) for one in WATCHES]
            self._accounts_s = max((one for one in ages if one is not None), default=None)
            self._began_ms = self._began_ms or self.store.clock.now_ms()
            self._hedging_s = alarm_silent(self.store, self.settings.hedging, self._began_ms)
            if self.settings.hedging.enabled:
                alarm_left(self.store, self.settings.hedging)
            self.store.requests.lapse()
            nobody_hears = unheard(self.settings, self.store)
        except Retryable as error:
            if str(error) != self._blind:
                log.critical("the ledger cannot be read, so that nobody knows who is watched: %s", error)
            self._blind = str(error)
            return []
        if self._blind:
            log.warning("the ledger can be read again")
        self._blind = ""
        self._say(found, nobody_hears)
        all_well = not (found or nobody_hears) and self._accounts_s is None and self._hedging_s is None
        if all_well and self.settings.watchdog.ping_url:
            await self._ping()
        return found

    def _say(self, found: list[LastTick], nobody_hears: str) -> None:
        if _kind(nobody_hears) != _kind(self._unheard):
            if nobody_hears:
                log.critical("nobody hears of an alert: %s", nobody_hears)
            else:
                log.warning("alerts are delivered again")
        self._unheard = nobody_hears
        now = {one.position_id for one in found}
        for one in found:
            if one.position_id not in self._overdue:
                log.critical(
                    "%s is not watched: nobody has looked at it for %.0f s", one.position_id, one.age_s
                )
        for name in sorted(self._overdue - now):
            log.warning("%s is looked at again, or has ended", name)
        self._overdue = now

    async def _ping(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=PING_TIMEOUT_S) as http:
                answer = await http.get(self.settings.watchdog.ping_url)
            fault = "" if answer.is_success else f"it answered {answer.status_code}"
        except httpx.HTTPError as error:
            fault = f"{type(error).__name__}"
        if fault and fault != self._unanswered:
            log.error("the dead man's switch could not be called: %s", fault)
        elif self._unanswered and not fault:
            log.warning("the dead man's switch answers again")
        self._unanswered = fault


def _kind(why: str) -> str:
    """What is wrong, without for how long."""
    return re.sub(r"\d+", "", why)
