"""What is judged of managed accounts, as alerts of the ledger: each condition once, cleared when it ends.

What follows from the ledger alone (a deployment that was revoked, a charge that is not paid) is judged whole: an alert of these
kinds whose condition is not among those that stand is over. What is read at the venue is cleared by a reading alone.
"""

from __future__ import annotations

from evenkeel.clock import Clock
from state.accounts.many import HYPERLIQUID, LIVE, OSTIUM
from state.accounts.models import ChargeRow, DeploymentState, TradeState
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
from tasks.accounts.waiting import is_waiting

OF_THE_LEDGER = frozenset({REVOKED, OUTSTANDING, STALE, STOP_MOVED})
"""Kinds of which every subject that stands is known from the ledger."""
OF_TRADES, OF_DEPLOYMENTS = (UNPAYABLE, UNGUARDED), (ALLOWANCE, AGENT_ENDS, MODE)
"""Kinds that are read at the venue, by what their subject is."""
ACCOUNTS_WATCH, HYPERLIQUID_WATCH = "accounts", "accounts-hyperliquid"
"""Watches of managed accounts, each its lease, its heartbeat, and the subject of its alert."""
WATCHES = {ACCOUNTS_WATCH: OSTIUM, HYPERLIQUID_WATCH: HYPERLIQUID}
"""Which venue each watches."""


def judge_ledger(store: Store) -> Judged:
    """What the ledger says of deployments, charges and trades: all that stands, and nothing else does."""
    accounts, found = store.accounts, dict[tuple[str, str], Finding | None]()
    revoked = accounts.deployments(DeploymentState.REVOKED, venue=None)
    held = accounts.holding({one.account for one in revoked})
    asked = accounts.trades(TradeState.PENDING, TradeState.STALE) if revoked else []
    venue_of = {one.agent_id: one.venue for one in accounts.agents()} if revoked else {}
    for one in revoked:
        unguarded = (venue_of[one.agent_id], one.account) in held
        waiting = sum(row.deployment_id == one.deployment_id and is_waiting(row) for row in asked)
        then = (
            "its trades are guarded by the stops that stand at the venue alone"
            if unguarded
            else "it has no trade"
        )
        if waiting:
            then += f", and {waiting} orders that wait for a price can be cancelled by its user alone"
        text = f"{one.account} lets another act for him: {one.deployment_id} may do nothing; {then}"
        found[REVOKED, one.deployment_id] = Finding(text=text, critical=unguarded)
    for charge in accounts.charges(ChargeState.OUTSTANDING):
        text = f"{charge.usdc} USDC of {charge.account} could not be pulled: {charge.why}"
        found[OUTSTANDING, charge.charge_id] = Finding(text=text)
    for trade in accounts.trades(TradeState.STALE, venue=None):
        what = f"trade than {trade.trade_id}" if trade.trade_id else "order than the one that waits"
        text = f"the chain shows another {what} in the place of {trade.name}, or none"
        if trade.venue == HYPERLIQUID:
            text = f"Hyperliquid shows another position than {trade.name}, and its fills do not say why"
        found[STALE, trade.name] = Finding(text=text, critical=True)
    for name, stop in accounts.stops_of_users():
        text = f"the stop of {name} was moved to {stop} by the user: it is his, and no longer trails"
        if stop is None:
            text = f"the stop of {name} was taken away by the user: none is placed until he hands it back"
        found[STOP_MOVED, name] = Finding(text=text)
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
    left = [one for one in standing if one not in judged]
    for kind, subject in [one for one in left if one[0] in OF_THE_LEDGER] + _over(store, left):
        store.ack_alert(kind, subject=subject)
    _trip(store, judged)


def _over(store: Store, standing: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Which of these alerts are about a trade that has ended, or a deployment that was revoked."""
    over = store.accounts.over(subject for kind, subject in standing if kind in OF_TRADES)
    found = [one for one in standing if one[0] in OF_TRADES and one[1] in over]
    if any(kind in OF_DEPLOYMENTS for kind, _ in standing):
        ended = store.accounts.deployments(DeploymentState.REVOKED, venue=None)
        revoked = {one.deployment_id for one in ended}
        found += [one for one in standing if one[0] in OF_DEPLOYMENTS and one[1] in revoked]
    return found


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
