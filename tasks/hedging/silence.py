"""Whether anybody hedges: the age of the last pass that succeeded, by the ledger alone, for who watches without a desk."""

from __future__ import annotations

from evenkeel.settings.hedging import Hedging
from state.store import Store
from state.watch_models import Severity
from strategy.hedging.sessions import new_york_day

HEARTBEAT = "hedging"
SILENT = "hedging silent"
"""The alert of hedging in whose name no pass succeeded for longer than the settings allow, in an open market."""


def say_silence(store: Store, hedging: Hedging, why: str) -> bool:
    """Alert where no pass succeeded for too long, whatever stops them; for whoever makes or watches the passes. False where one
    did.
    """
    age_ms = store.clock.now_ms() - (_last_good_ms(store) or 0)
    if age_ms < hedging.alert_silence_s * 1000:
        return False
    store.alert(
        SILENT,
        Severity.CRITICAL,
        f"no pass of hedging succeeded for {age_ms // 1000} s: {why}",
        subject=HEARTBEAT,
    )
    return True


def alarm_silence(store: Store, hedging: Hedging) -> float | None:
    """Raise the alert where hedging has begun once and no pass has succeeded for too long, though the broker's stored calendar
    has a session now or does not know the day. Return for how many seconds, None where all is well. A good pass closes it.
    """
    last_ms, now_ms = _last_good_ms(store), store.clock.now_ms()
    if not hedging.enabled or last_ms is None or not _may_be_open(store, hedging, now_ms):
        return None
    said = say_silence(store, hedging, "nobody makes one, or none can begin; the log of the hedging has why")
    return (now_ms - last_ms) / 1000 if said else None


def _last_good_ms(store: Store) -> int | None:
    last = next((one for one in store.heartbeats() if one.name == HEARTBEAT), None)
    return None if last is None else int((last.detail or {}).get("good_ms", last.at_ms))


def _may_be_open(store: Store, hedging: Hedging, now_ms: int) -> bool:
    """Whether the market is open, and has been for as long as silence may last; a day that was not read may be."""
    today = new_york_day(now_ms).isoformat()
    [*days] = store.hedging.sessions(hedging.broker, today, today)
    if not days:
        return True
    day = days[0]
    if day.open_ms is None or day.close_ms is None:
        return False
    return day.open_ms + hedging.alert_silence_s * 1000 <= now_ms < day.close_ms
