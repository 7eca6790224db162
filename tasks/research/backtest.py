"""A back-test as it is asked for: the product's settings over a span of a market, beside always-in and at twice the cost."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from analytics.research.market import Market
from analytics.research.results import DELEVERAGING, Run, by_rule, summarise
from evenkeel.clock import as_datetime
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from strategy.carry.limits import CarryLimits
from strategy.carry.sizing import check_leverage
from tasks.research.assumptions import Assumptions
from tasks.research.simulation import Simulation

CENT = 2
RATE = 6


@dataclass(frozen=True)
class Deleveraged:
    """The scenario of an auto-deleveraging, beside the run without it."""

    due_ms: int
    share: float
    without: Run
    has_price: bool
    """Whether a price follows in the span: by none, nothing can be closed."""

    def as_dict(self, run: Run) -> dict[str, Any]:
        """JSON-able: what it cost in USD, and what was done in the two hours after it. Where no short was open, or no price
        follows, nothing happened.
        """
        place = next((at for at, one in enumerate(run.trades) if one.kind == DELEVERAGING), None)
        after = [] if place is None else run.trades[place + 1 :]
        at_ms = self.due_ms if place is None else run.trades[place].at_ms
        why_not = "no short was open" if self.has_price else "no price follows in the span"
        return {
            "at": _stamp(at_ms),
            "share": self.share,
            "happened": place is not None,
            "why_not": why_not if place is None else None,
            "cost_usd": round(self.without.equity[-1] - run.equity[-1], CENT),
            "without": figures(self.without),
            "then": [
                {
                    "at": _stamp(one.at_ms),
                    "kind": one.kind,
                    "rule": one.rule,
                    "cost_usd": round(one.cost_usd, CENT),
                    "reason": one.reason,
                }
                for one in after
                if one.at_ms <= at_ms + 2 * HOUR_MS
            ],
        }


@dataclass(frozen=True)
class Backtest:
    """One market, one span, and the runs over it."""

    market: Market
    leverage: int
    first: int
    last: int
    """Hours of the market: from `first` up to, and without, `last`."""
    run: Run
    always_in: Run
    twice_the_cost: Run
    deleveraged: Deleveraged | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able. Rates and shares are fractions, `net_apr` a simple yearly rate on the capital of both legs."""
        return {
            "asset": self.market.asset,
            "source": self.market.source,
            "leverage": self.leverage,
            "from": _stamp(self.market.start_ms(self.first)),
            "to": _stamp(self.market.start_ms(self.last)),
            "capital_usd": self.run.capital_usd,
            **figures(self.run),
            "baseline": figures(self.always_in),
            "twice_the_cost": figures(self.twice_the_cost),
            "attribution_usd": {name: round(usd, CENT) for name, usd in self.run.items.items()},
            "rules": {
                name: {what: round(value, CENT) for what, value in row.items()}
                for name, row in by_rule(self.run).items()
            },
            "deleveraging": None if self.deleveraged is None else self.deleveraged.as_dict(self.run),
            "gap_hours": self.run.gap_hours,
            "unrated_hours": self.run.unrated_hours,
            "notes": list(self.market.notes),
        }

    def write(self, folder: Path) -> list[Path]:
        """Write every hour's equity and notional, and every trade, as CSV, and a picture."""
        folder.mkdir(parents=True, exist_ok=True)
        hours, trades = folder / "hours.csv", folder / "trades.csv"
        with hours.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["time_utc", "equity_usd", "notional_usd", "target_usd", "always_in_equity_usd"])
            for place, equity in enumerate(self.run.equity):
                rows.writerow(
                    [
                        _stamp(self.run.first_ms + (place + 1) * HOUR_MS),
                        round(equity, CENT),
                        round(self.run.notional[place], CENT),
                        round(self.run.target[place], CENT),
                        round(self.always_in.equity[place], CENT),
                    ]
                )
        with trades.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["time_utc", "kind", "rule", "notional_usd", "cost_usd", "reason"])
            for one in self.run.trades:
                rows.writerow(
                    [
                        _stamp(one.at_ms),
                        one.kind,
                        one.rule,
                        round(one.notional_usd, CENT),
                        round(one.cost_usd, CENT),
                        one.reason,
                    ]
                )
        from analytics.research.charts import save_backtest_chart

        title = (
            f"{self.market.asset} {self.leverage}x against its short: the rules on {self.market.source} hours"
        )
        return [hours, trades, *save_backtest_chart(self.run, self.always_in, title, folder / "backtest")]


def figures(run: Run) -> dict[str, Any]:
    """The sums of one run, rounded to what they are worth."""
    found = asdict(summarise(run))
    return {
        name: round(value, CENT if name.endswith("_usd") else RATE) if isinstance(value, float) else value
        for name, value in found.items()
    }


def backtest(
    market: Market,
    settings: Settings,
    leverage: int | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    assumed: Assumptions | None = None,
) -> Backtest:
    """Run the product's rules over a span of a market. Raises OperatorError where leverage or span cannot be."""
    limits = limits_at(settings, leverage)
    first, last = span_of(market, since_ms, until_ms)
    base = assumed or Assumptions()

    def run(assumptions: Assumptions) -> Run:
        return Simulation(market, limits, assumptions, first, last).run()

    due_ms, scenario = base.deleveraged_ms, None
    if due_ms is not None:
        if not market.start_ms(first) <= due_ms < market.start_ms(last):
            raise OperatorError(f"an auto-deleveraging at {_stamp(due_ms)} lies outside of the span")
        without = run(replace(base, deleveraged_ms=None))
        prices = market.close[market.hour_at(due_ms) : last]
        scenario = Deleveraged(due_ms, base.deleveraged_share, without, bool((prices == prices).any()))
    return Backtest(
        market=market,
        leverage=limits.strategy.leverage,
        first=first,
        last=last,
        run=run(base),
        always_in=run(replace(base, always_in=True)),
        twice_the_cost=run(replace(base, cost_factor=base.cost_factor * 2)),
        deleveraged=scenario,
    )


def limits_at(settings: Settings, leverage: int | None) -> CarryLimits:
    """The limits of these settings at another leverage. Raises OperatorError where it is out of bounds."""
    strategy = settings.strategy
    if leverage is not None:
        check = check_leverage(Decimal(leverage), settings.limits)
        if not check.ok:
            raise OperatorError(check.reason)
        strategy = strategy.model_copy(update={"leverage": leverage})
    return CarryLimits(risk=settings.limits, strategy=strategy)


def span_of(market: Market, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
    """Hours of the span; what is left empty is the whole market, from the first hour that has a price and lending rates.
    Raises OperatorError where it holds none.
    """
    first = _first_whole(market) if since_ms is None else max(0, market.hour_at(since_ms))
    last = len(market) if until_ms is None else min(len(market), market.hour_at(until_ms))
    if first >= last:
        begin, end = _stamp(market.first_ms), _stamp(market.start_ms(len(market)))
        raise OperatorError(f"the span holds no hour of the series, which run from {begin} to {end}")
    if market.open[first] != market.open[first]:
        raise OperatorError(
            f"no price was recorded at {_stamp(market.start_ms(first))}: begin at an hour that has one"
        )
    return first, last


def _first_whole(market: Market) -> int:
    whole = ~np.isnan(market.open + market.lend_apr + market.borrow_apr)
    return int(np.argmax(whole)) if whole.any() else 0


def _stamp(at_ms: int) -> str:
    return f"{as_datetime(at_ms):%Y-%m-%dT%H:%M}"
