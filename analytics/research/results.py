"""The result of a back-test: what was earned a year, at what drawdown, in how much of the time, and how large it stayed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evenkeel.units import HOURS_PER_YEAR

DELEVERAGING = "deleveraging"


@dataclass(frozen=True, slots=True)
class Trade:
    """Something that was done: `kind` is entry, exit, resize, grow, reserve, transfer, liquidation or deleveraging. USD."""

    at_ms: int
    kind: str
    rule: str
    notional_usd: float
    """Of the long, after it."""
    cost_usd: float
    reason: str


@dataclass(slots=True)
class Run:
    """One pass over a market. Columns are by hour, at its end, from `first_ms` on."""

    first_ms: int
    capital_usd: float
    equity: list[float] = field(default_factory=list)
    notional: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)
    """Notional that the equity of the time would carry at the leverage that was asked for."""
    trades: list[Trade] = field(default_factory=list)
    items: dict[str, float] = field(default_factory=dict)
    alerts: dict[str, int] = field(default_factory=dict)
    """By rule: hours in which it spoke without acting."""
    gap_hours: int = 0
    """Hours without a price: nothing was decided in them."""
    unrated_hours: int = 0
    """Hours in which something was held and funding or a rate was not recorded: what that gave or took is missing."""
    premium_usd: float = 0.0
    """Of the item `price`: what the perpetual's premium gave between the sales and the purchases of the short."""
    below_a_lot_usd: float = 0.0
    """Of the item `price`: what SOL's price gave on what the short's lots left open of the long."""
    between_legs_usd: float = 0.0
    """Of the item `price`: what it gave from a liquidation of one leg until the other one followed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run comes to. Shares and rates are fractions, `net_apr` simple on the capital of both legs."""

    hours: int
    net_usd: float
    net_apr: float
    max_drawdown: float
    time_in_market: float
    mean_notional_share: float
    """Of the target, over the hours in the market; 0 where there is none."""
    entries: int
    exits: int
    resizes: int
    liquidations: int
    transfers: int


def summarise(run: Run) -> Summary:
    """Return the sums of a run. Raises ValueError where it has no hour."""
    if not run.equity:
        raise ValueError("a back-test of no hour has no result")
    equity, notional = np.array(run.equity), np.array(run.notional)
    held = notional > 0
    net = float(equity[-1]) - run.capital_usd
    shares = notional[held] / np.array(run.target)[held]
    kinds = [one.kind for one in run.trades]
    return Summary(
        hours=len(equity),
        net_usd=net,
        net_apr=net / run.capital_usd * HOURS_PER_YEAR / len(equity),
        max_drawdown=float(drawdowns(run).max()),
        time_in_market=float(held.mean()),
        mean_notional_share=float(shares.mean()) if held.any() else 0.0,
        entries=kinds.count("entry"),
        exits=kinds.count("exit"),
        resizes=sum(kinds.count(kind) for kind in ("resize", "grow", "reserve")),
        liquidations=kinds.count("liquidation"),
        transfers=kinds.count("transfer"),
    )


def drawdowns(run: Run) -> np.ndarray:
    """Return of each hour how far the equity lies under its peak so far, the capital included, as a fraction."""
    equity = np.array(run.equity)
    peaks = np.maximum.accumulate(np.concatenate(([run.capital_usd], equity)))[1:]
    return np.asarray(1 - equity / peaks)


def by_rule(run: Run) -> dict[str, dict[str, float]]:
    """Return of each rule how often it acted, what its orders cost, and in how many hours it only spoke."""
    rows: dict[str, dict[str, float]] = {}
    for trade in run.trades:
        row = rows.setdefault(trade.rule, {"acted": 0, "cost_usd": 0.0, "alerts": 0})
        row["acted"] += 1
        row["cost_usd"] += trade.cost_usd
    for rule, hours in run.alerts.items():
        rows.setdefault(rule, {"acted": 0, "cost_usd": 0.0, "alerts": 0})["alerts"] = hours
    return dict(sorted(rows.items()))
