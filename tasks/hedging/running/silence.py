"""Whether passes of hedging succeed, by the ledger alone: for the passes themselves, and for who watches them from outside."""

from __future__ import annotations

from evenkeel.settings.hedging import Hedging
from state.hedging.store import HedgingStore
from state.store import Store
from state.watch_models import Severity
from strategy.hedging.sessions import Day, Market, market_now, new_york_day

HEARTBEAT = "hedging"
SILENT = "hedging silent"
"""The alert of hedging in whose name no pass succeeded for longer than the settings allow, in an open market."""
UNWATCHED = "hedging not run"
"""The alert of an account whose fills nobody hedges under Prefect; the first pass closes it."""


def last_good_ms(store: Store) -> int | None:
    """Return when a pass succeeded last, ms UTC; where none ever has, when hedging was begun with this ledger; None before."""
    last = next((one for one in store.heartbeats() if one.name == HEARTBEAT), None)
    if last is not None:
        return int((last.detail or {}).get("good_ms", last.at_ms))
    bound = store.hedging.bound_account()
    return None if bound is None else bound.since_ms


def silent_s(store: Store, hedging: Hedging, since_ms: int) -> float | None:
    """Return for how many seconds no pass has succeeded, where that is too long; None where all is well, hedging is off, or its
    market is closed by the calendar that was read last. `since_ms`: from when on it counts where there never was one.
    """
    now = store.clock.now_ms()
    if not hedging.enabled or _market(store.hedging, hedging.broker, now) is Market.CLOSED:
        return None
    age_ms = now - (last_good_ms(store) or since_ms)
    return age_ms / 1000 if age_ms >= hedging.alert_silence_s * 1000 else None


def say_silence(store: Store, hedging: Hedging, why: str, since_ms: int) -> float | None:
    """Alert where no pass has succeeded for too long, whatever stops them; return for how long, None where all is well. The
    next pass that succeeds ends it.
    """
    age_s = silent_s(store, hedging, since_ms)
    if age_s is None:
        return None
    text = f"no pass of hedging succeeded for {age_s:.0f} s: {why}"
    store.alert(SILENT, Severity.CRITICAL, text, subject=HEARTBEAT)
    return age_s


def alarm_silent(store: Store, hedging: Hedging, since_ms: int) -> float | None:
    """The same from outside, where nobody knows why: an alert that the passes have raised themselves is left as it is."""
    age_s = silent_s(store, hedging, since_ms)
    if age_s is not None and not is_said(store):
        say_silence(store, hedging, "the process that hedges says nothing; is it running?", since_ms)
    return age_s


def is_said(store: Store) -> bool:
    """Whether the alert is open."""
    return SILENT in {one.kind for one in store.open_alerts_of(HEARTBEAT)}


def _market(hedging: HedgingStore, broker: str, now_ms: int) -> Market:
    """What the calendar in the ledger says of now; UNKNOWN where it does not have the day."""
    today = new_york_day(now_ms).isoformat()
    rows = hedging.sessions(broker, today, today)
    days = [
        Day.model_validate({"day": one.day, "open_ms": one.open_ms, "close_ms": one.close_ms}) for one in rows
    ]
    return market_now(days, now_ms)
