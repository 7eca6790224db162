"""What is judged of managed accounts, as alerts of the ledger: each condition once, cleared when it ends.

What follows from the ledger alone (a deployment that was revoked, a charge that is not paid) is judged whole: an alert of these
kinds whose condition is not among those that stand is over. What is read at the venue is cleared by a reading alone.
"""

from __future__ import annotations

from evenkeel.clock import Clock
from evenkeel.types import VenueName
from state.accounts.models import ChargeRow, DeploymentState, TradeState
from state.accounts.store import ENDED
from state.store import Store
from state.watch_models import TRIPPED_BY, Severity
from strategy.accounts.conditions import (
    AGENT_ENDS,
    ALLOWANCE,
    BREAKERS,
    MODE,
    OUTSTANDING,
    REVOKED,
    STALE,
    STOP_MOVED,
    TAKEN_BACK,
    UNGUARDED,
    UNPAYABLE,
    UNWATCHED,
    VENUE,
    Finding,
    Judged,
)
from strategy.accounts.share import ChargeState
from tasks.accounts.booking import USER

OF_THE_LEDGER = frozenset({REVOKED, OUTSTANDING, STALE, STOP_MOVED})
"""Kinds of which every subject that stands is known from the ledger."""
LIVE = (TradeState.PENDING, TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)
ACCOUNTS_WATCH, HYPERLIQUID_WATCH = "accounts", "accounts-hyperliquid"
"""Watches of managed accounts, each its lease, its heartbeat, and the subject of its alert."""
HYPERLIQUID = VenueName.HYPERLIQUID.value
WATCHES = {ACCOUNTS_WATCH: VenueName.OSTIUM.value, HYPERLIQUID_WATCH: HYPERLIQUID}
"""Which venue each watches."""


def judge_ledger(store: Store) -> Judged:
    """What the ledger says of deployments, charges and trades: all that stands, and nothing else does."""
    accounts, found = store.accounts, dict[tuple[str, str], Finding | None]()
    trades = accounts.trades(*LIVE, venue=None)
    held = {(one.venue, one.account) for one in trades if one.deployment_id is not None}
    venue_of = {one.agent_id: one.venue for one in accounts.agents()}
    for one in accounts.deployments(DeploymentState.REVOKED, venue=None):
        unguarded = (venue_of[one.agent_id], one.account) in held
        then = (
            "its trades are guarded by the stops that stand at the venue alone"
            if unguarded
            else "it has no trade"
        )
        text = f"{one.account} lets another act for him: {one.deployment_id} may do nothing; {then}"
        found[REVOKED, one.deployment_id] = Finding(text=text, critical=unguarded)
    for charge in accounts.charges(ChargeState.OUTSTANDING):
        text = f"{charge.usdc} USDC of {charge.account} could not be pulled: {charge.why}"
        found[OUTSTANDING, charge.charge_id] = Finding(text=text)
    for trade in trades:
        if trade.state is TradeState.STALE:
            text = (
                f"the chain shows another trade than {trade.trade_id} in the place of {trade.name}, or none"
            )
            if trade.venue == HYPERLIQUID:
                text = f"Hyperliquid shows another position than {trade.name}, and its fills do not say why"
            found[STALE, trade.name] = Finding(text=text, critical=True)
        if trade.stop_by == USER and trade.deployment_id is not None:
            text = f"the stop of {trade.name} was moved to {trade.stop} by the user: it is his, and no longer trails"
            if trade.stop is None:
                text = f"the stop of {trade.name} was taken away by the user: none is placed until he hands it back"
            found[STOP_MOVED, trade.name] = Finding(text=text)
    return found


def note(store: Store, judged: Judged) -> None:
    """Raise what begins to stand or has changed, close what is over. Alerts about what has ended (a trade, a deployment that
    was revoked) end with it.
    """
    standing = {(row.kind, row.subject): row for row in store.alerts(open_only=True)}
    for (kind, subject), finding in judged.items():
        row = standing.get((kind, subject))
        if finding is not None:
            severity = Severity.CRITICAL if finding.critical else Severity.WARNING
            if row is None or (row.text, row.severity) != (finding.text, severity):
                store.alert(kind, severity, finding.text, subject=subject, exact=True)
        elif row is not None:
            store.ack_alert(kind, subject=subject)
    for kind, subject in standing:
        if (kind, subject) not in judged and _is_over(store, kind, subject):
            store.ack_alert(kind, subject=subject)
    _trip(store, judged)


def _is_over(store: Store, kind: str, subject: str) -> bool:
    if kind in OF_THE_LEDGER:
        return True
    if kind in (UNPAYABLE, UNGUARDED):
        return store.accounts.trade(subject).state in ENDED
    of_deployment = kind in (ALLOWANCE, AGENT_ENDS, MODE)
    return of_deployment and store.accounts.deployment(subject).state is DeploymentState.REVOKED


def _trip(store: Store, judged: Judged) -> None:
    """Refuse openings while the venue is in trouble, in every process of this ledger; never a close or a stop."""
    tripped = {one.breaker for one in store.active_pauses() if one.scope == VENUE}
    for kind in BREAKERS:
        if (kind, VENUE) not in judged:
            continue
        if judged[kind, VENUE] is not None and kind not in tripped:
            store.trip(VENUE, kind)
        elif judged[kind, VENUE] is None and kind in tripped:
            store.resume(VENUE, TRIPPED_BY + kind, note="the chain shows that it is over")


def alert_taken_back(store: Store, charge: ChargeRow) -> None:
    """Alert a person to a charge that was paid for a settlement which the chain took back: no program pays it back."""
    text = (
        f"{charge.usdc} USDC of {charge.account} were pulled ({charge.transaction}) for order {charge.order_id}, which the "
        "chain has taken back: compare its settlement of now, and pay back what was too much"
    )
    store.alert(TAKEN_BACK, Severity.CRITICAL, text, subject=charge.charge_id, news=True)


# --- whether somebody watches ---


def last_watched_ms(store: Store, watch: str = ACCOUNTS_WATCH) -> int | None:
    """When every account of a watch was last watched with success, ms UTC; None where there is nothing to watch. Where
    nobody ever has, it is when the oldest of them was stored.
    """
    accounts, venue = store.accounts, WATCHES[watch]
    live = [one for one in accounts.deployments(venue=venue) if one.state is not DeploymentState.REVOKED]
    since = [
        *(one.created_ms for one in live),
        *(one.created_ms for one in accounts.trades(*LIVE, venue=venue)),
    ]
    if not since:
        return None
    seen = [one.at_ms for one in store.heartbeats() if one.name == watch]
    return max(seen, default=min(since))


def alarm_unwatched(
    store: Store, clock: Clock, after_s: float, why: str = "", watch: str = ACCOUNTS_WATCH
) -> float | None:
    """Raise the alert where nobody has watched the accounts with success for so long; return for how many seconds, None where
    all is well. The next tick that succeeds closes it.
    """
    last_ms = last_watched_ms(store, watch)
    age_s = 0.0 if last_ms is None else (clock.now_ms() - last_ms) / 1000
    if age_s <= after_s:
        return None
    where = "managed accounts" + (" on Hyperliquid" if watch == HYPERLIQUID_WATCH else "")
    text = f"{where}: no tick has succeeded for more than {after_s:.0f} s{': ' if why else ''}{why}"
    if not any(row.kind == UNWATCHED and row.text == text for row in store.open_alerts_of(watch)):
        store.alert(UNWATCHED, Severity.CRITICAL, text, subject=watch, exact=True)
    return age_s


def is_watched(store: Store, watch: str = ACCOUNTS_WATCH) -> None:
    """A tick has succeeded."""
    if any(row.kind == UNWATCHED for row in store.open_alerts_of(watch)):
        store.ack_alert(UNWATCHED, subject=watch)
