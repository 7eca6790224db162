"""Metrics of managed accounts: trades and charges by state, what is owed, and how the watch went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from prometheus_client.core import GaugeMetricFamily, Metric

from state.accounts.models import DeploymentState, TradeState
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.alerts import LIVE, WATCHES, last_watched_ms


def account_metrics(store: Store) -> Iterator[Metric]:
    """Yield every metric; without an account those of the watch have no figure."""
    accounts = store.accounts
    deployments = GaugeMetricFamily("evenkeel_accounts_deployments", "Deployments.", labels=["state"])
    counted = Counter(one.state for one in accounts.deployments(venue=None))
    for state in DeploymentState:
        deployments.add_metric([state], counted[state])
    trades = GaugeMetricFamily("evenkeel_accounts_trades", "Trades that are not over.", labels=["state"])
    held = Counter(one.state for one in accounts.trades(*LIVE, venue=None))
    for live in LIVE:
        trades.add_metric([TradeState(live)], held[live])
    owed = GaugeMetricFamily(
        "evenkeel_accounts_owed_usdc", "Shares of profits to be pulled.", labels=["state"]
    )
    for charge in (ChargeState.DUE, ChargeState.OUTSTANDING):
        rows = accounts.charges(charge)
        owed.add_metric([charge], float(sum((one.usdc for one in rows), Decimal(0))))
    since = GaugeMetricFamily("evenkeel_accounts_last_tick_seconds", "Since a tick of the watch succeeded.")
    took = GaugeMetricFamily("evenkeel_accounts_tick_duration_seconds", "What the last tick took.")
    faults = GaugeMetricFamily(
        "evenkeel_accounts_tick_faults", "Accounts and trades of which something failed in it."
    )
    watched = [found for one in WATCHES if (found := last_watched_ms(store, one)) is not None]
    if watched:
        since.add_metric([], max(0.0, (store.clock.now_ms() - min(watched)) / 1000))
    ticks = [row for row in store.heartbeats() if row.name in WATCHES]
    if ticks:
        took.add_metric([], max(float(row.detail.get("took_s", 0)) for row in ticks))
        faults.add_metric([], sum(float(row.detail.get("faults", 0)) for row in ticks))
    yield from (deployments, trades, owed, since, took, faults)
