"""A position beside a back-test of the same hours, money and settings: which trades each made, and why the money differs.

The two differ on purpose in what a back-test cannot know: what trading really cost, what moved between the orders of the two
legs, and what a token traded at. Each of these is named. Where inside an hour the price and the perpetual's premium stood, and
from which second on a leg earned, is not in the series either: the back-test goes along the moments at which the position saw
prices, and a note says what the hours' candles would have given. What remains is what the back-test gets wrong of a position's
life, held against what the position paid to trade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from analytics.carry.attribution import Attribution
from analytics.carry.legs import LongEvent
from analytics.carry.report import Report
from analytics.research.market import Market
from analytics.research.results import Run
from evenkeel.clock import as_datetime
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from state.carry.models import Position
from strategy.carry.keeping_size import PAID_FIRST
from tasks.carry.books.report import long_events, short_fills
from tasks.carry.books.report_reading import Booked
from tasks.carry.watching.alerts import WATCHED_RULES
from tasks.research.assumptions import Assumptions
from tasks.research.backtest import limits_at, span_of
from tasks.research.hedging import below_a_lot, between_legs, staked_by
from tasks.research.moments import Orders, by_hour, done_ms, in_one_go, moments_of, yields_seen
from tasks.research.simulation import ENDED, Simulation

CENT = 2
KINDS = {
    "entry": "enter",
    "exit": "exit",
    "resize": "rebalance",
    "grow": "grown",
    "reserve": "paid in",
    "liquidation": "liquidated",
}
"""A trade of the back-test, and what the account of a position calls it. Nobody transfers money in this comparison."""
COSTS = {
    "fees": ("fees_hyperliquid", "fees_asgard", "fees_dex"),
    "slippage": ("slippage_long", "slippage_short"),
    "gas": ("gas", "tips"),
}
CARRY = {"funding": "funding", "lending": "lending", "staking": "staking", "borrowing": "borrow"}
WHY = {
    "fees": "what was paid, beside the cost model of the settings",
    "slippage": "what was paid, beside the cost model of the settings",
    "gas": "what was paid, beside the cost model of the settings",
    "premium": "the perpetual over the oracle by the prices and quantities of our orders, beside the back-test's",
    "peg": "what the token traded at, beside its redemption value",
    "redemption": "what the token's redemption rate grew by as it was read, beside the yields of the series",
    "below a lot": "what the short's lots left open of the long, by what SOL moved until the next order",
    "between the legs": "what SOL moved while one leg stood without the other; a back-test trades both at once",
}
"""The differences that are named, and where each comes from."""


@dataclass(frozen=True)
class Pair:
    """A kind of trade in an hour: how often the position made it, and the back-test."""

    hour_ms: int
    kind: str
    position: int
    backtest: int

    @property
    def same(self) -> bool:
        """Whether both did it in this hour. How often says how the price moved inside the hour, which was not recorded."""
        return (self.position > 0) == (self.backtest > 0)


@dataclass(frozen=True)
class Item:
    """What one source gave, USD, income positive. `why` names a difference that is no fault of the back-test; "" for others."""

    name: str
    position_usd: Decimal
    backtest_usd: Decimal

    @property
    def difference_usd(self) -> Decimal:
        return self.position_usd - self.backtest_usd

    @property
    def why(self) -> str:
        return WHY.get(self.name, "")


@dataclass(frozen=True)
class Parity:
    """The comparison. `costs_usd` is what the position paid to trade, above zero."""

    position_id: str
    first_ms: int
    last_ms: int
    pairs: list[Pair]
    items: list[Item]
    costs_usd: Decimal
    notes: list[str]
    """What the series lack or assume, and where the back-test was made to end."""

    @property
    def same_trades(self) -> bool:
        """Whether both made the same trades in the same hours."""
        return all(one.same for one in self.pairs)

    @property
    def difference_usd(self) -> Decimal:
        return sum((one.difference_usd for one in self.items), Decimal(0))

    @property
    def unexplained_usd(self) -> Decimal:
        """What of the difference is not named."""
        return sum((one.difference_usd for one in self.items if not one.why), Decimal(0))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; USD rounded to the cent."""
        return {
            "position_id": self.position_id,
            "from": _stamp(self.first_ms),
            "to": _stamp(self.last_ms),
            "same_trades": self.same_trades,
            "trades": [
                {
                    "hour": _stamp(one.hour_ms),
                    "kind": one.kind,
                    "position": one.position,
                    "backtest": one.backtest,
                }
                for one in self.pairs
            ],
            "items": [
                {
                    "name": one.name,
                    "position_usd": _cents(one.position_usd),
                    "backtest_usd": _cents(one.backtest_usd),
                    "difference_usd": _cents(one.difference_usd),
                    "why": one.why,
                }
                for one in self.items
            ],
            "difference_usd": _cents(self.difference_usd),
            "unexplained_usd": _cents(self.unexplained_usd),
            "costs_usd": _cents(self.costs_usd),
            "notes": self.notes,
        }


def parity(
    booked: Booked, report: Report, market: Market, settings: Settings, since_ms: int | None = None
) -> Parity:
    """Run the rules over the market from the hour of `since_ms` (else that of the entry) to the hour in which the position
    ended, with the money that lay on both sides before its entry. Raises OperatorError where that cannot be compared.
    """
    position = booked.position
    wallet, margin = _money_before(position)
    if position.closed_ms is None or position.opened_ms is None:
        raise OperatorError(
            f"{position.position_id} is {position.status}: a position is compared once it was open and is closed"
        )
    if position.protocol != market.venues.protocol:
        raise OperatorError(
            f"{position.position_id} borrowed on protocol {position.protocol}; the series are of {market.venues.protocol}"
        )
    began_ms = position.created_ms if since_ms is None else since_ms
    # The desk decided by the yield that it knew of; what the token earned is in its redemption rate.
    assumed_apr = float(settings.staking.assumed_apr(market.asset))
    market = replace(market, staking_apr=yields_seen(market, booked.snapshots, assumed_apr))
    longs, shorts = long_events(booked), short_fills(booked)
    resized = position.facts.get("rebalances", [])
    orders = in_one_go(longs, shorts, [position.opened_ms, *(int(one["at_ms"]) for one in resized)])
    moments = moments_of(orders, booked.snapshots)
    ended_ms = done_ms(position.closed_ms, orders) // HOUR_MS * HOUR_MS
    if ended_ms > market.start_ms(len(market)):
        raise OperatorError(
            f"the series end at {_stamp(market.start_ms(len(market)))}, before {position.position_id} did at {_stamp(ended_ms)}"
        )
    left_by_rule = (position.close_reason or "").partition(":")[0] in WATCHED_RULES
    # The rules decide for the first time where the hour before is over.
    first, last = span_of(market, began_ms // HOUR_MS * HOUR_MS - HOUR_MS, ended_ms)
    assumed = Assumptions(
        capital_usd=float(wallet + margin),
        margin_share=float(margin / (wallet + margin)),
        deploys_share=True,
        closes_at_end=True,
        asks_at_end=left_by_rule,
        reads_running_rates=True,
        transfer_delay_hours=None,
    )
    limits = limits_at(settings, int(position.leverage))
    seen = replace(assumed, seen=by_hour(moments, position.created_ms))
    run = Simulation(market, limits, seen, first, last).run()
    by_candles = Simulation(market, limits, assumed, first, last).run()
    return Parity(
        position_id=position.position_id,
        first_ms=market.start_ms(first),
        last_ms=market.start_ms(last),
        pairs=_pairs(booked, report, run, orders, left_by_rule=left_by_rule),
        items=items_of(
            report.attribution,
            run,
            between_legs(longs, shorts),
            below_a_lot(longs, shorts),
            _of_series(market, longs),
        ),
        costs_usd=-report.attribution.costs_usd,
        notes=_notes(run, by_candles, market, len(moments), left_by_rule=left_by_rule),
    )


def _notes(run: Run, by_candles: Run, market: Market, moments: int, *, left_by_rule: bool) -> list[str]:
    found = []
    if moments:
        found.append(
            f"the back-test goes along the {moments} moments at which the position saw prices, and trades at them: "
            f"{_words(run)}; along the hours' candles and mean premiums it would have been {_words(by_candles)}"
        )
    if any(one.rule == ENDED.rule for one in run.trades):
        found.append(
            "the back-test still held the position where a rule had closed it, and was made to end there"
            if left_by_rule
            else "the position was not closed by a rule: the back-test was made to end with it"
        )
    if run.gap_hours:
        found.append(f"{run.gap_hours} hours have no price: the back-test decided nothing in them")
    if run.unrated_hours:
        found.append(
            f"{run.unrated_hours} hours of the back-test have no funding or no lending rate: nothing was booked in them"
        )
    return [*found, *market.notes]


def _words(run: Run) -> str:
    return f"{len(run.trades)} trades and {sum(run.items.values()):.2f} USD, {run.premium_usd:.2f} USD of it by the premium"


def _money_before(position: Position) -> tuple[Decimal, Decimal]:
    """USDC of the wallet and USD on the perpetual's venue when the entry began. Raises OperatorError where neither is known."""
    before = position.facts.get("before") or {}
    found = [before.get(name) for name in ("wallet_usdc", "hyperliquid_usd")]
    if None in found:
        raise OperatorError(f"{position.position_id} does not say what lay on both sides before its entry")
    wallet, margin = (Decimal(str(one)) for one in found)
    if wallet <= 0 or margin <= 0:
        raise OperatorError(
            f"{position.position_id} began with {wallet} USDC in the wallet and {margin} USD on the perpetual's venue: "
            "a back-test needs some on both"
        )
    return wallet, margin


def _pairs(
    booked: Booked, report: Report, run: Run, orders: Sequence[Orders], *, left_by_rule: bool
) -> list[Pair]:
    """Every kind of trade of either, by the hour in which its orders were done. An end that the back-test was made to is an
    exit of its own only where the position was not closed by a rule either. What was paid in first is a part of the growth.
    """
    resized = booked.position.facts.get("rebalances", [])
    of_growth = {int(one["at_ms"]) for one in resized if str(one["reason"]).endswith(PAID_FIRST)}
    did = [
        (done_ms(one.at_ms, orders) // HOUR_MS, KINDS["grow"] if one.at_ms in of_growth else one.kind)
        for one in report.events
        if one.kind in KINDS.values()
    ]
    did += [(one.at_ms // HOUR_MS, KINDS["liquidation"]) for one in booked.liquidations]
    simulated = [
        (one.at_ms // HOUR_MS, KINDS[one.kind])
        for one in run.trades
        if one.kind in KINDS and not (left_by_rule and one.rule == ENDED.rule)
    ]
    return [
        Pair(hour * HOUR_MS, kind, did.count((hour, kind)), simulated.count((hour, kind)))
        for hour, kind in sorted({*did, *simulated})
    ]


def _of_series(market: Market, longs: Sequence[LongEvent]) -> Decimal:
    """Return by what share of its growth as read the redemption rate grew in the series, between the same hours; 1 where either
    did not grow.
    """
    read = staked_by(longs)
    if not read:
        return Decimal(1)
    times = sorted(one.at_ms for one in longs)
    first, last = (
        float(market.redemption[max(market.hour_at(at_ms) - 1, 0)]) for at_ms in (times[0], times[-1])
    )
    grown = last / first - 1
    return Decimal(repr(grown)) / read if grown > 0 else Decimal(1)


def items_of(
    attribution: Attribution, run: Run, between: Decimal, below: Decimal, of_series: Decimal
) -> list[Item]:
    """Return every source of money of both, once; they sum to the net result of each. `of_series`: the share of what was earned
    by staking that the yields of the series make.
    """
    live = attribution.items

    def of(*names: str) -> Decimal:
        return sum((live[name] for name in names), Decimal(0))

    def simulated(usd: float) -> Decimal:
        return Decimal(repr(usd))

    otherwise = of("staking") * (1 - of_series)
    found = [
        Item(name, of(item) - (otherwise if name == "staking" else 0), simulated(run.items[name]))
        for name, item in CARRY.items()
    ]
    found += [
        Item("redemption", otherwise, Decimal(0)),
        Item(
            "hedge",
            of("price_long", "price_short") - between - below,
            simulated(run.items["price"] - run.premium_usd - run.below_a_lot_usd - run.between_legs_usd),
        ),
        Item("below a lot", below, simulated(run.below_a_lot_usd)),
        Item("between the legs", between, simulated(run.between_legs_usd)),
        Item("liquidation", of("liquidation"), simulated(run.items["liquidation"])),
        Item("premium", of("basis"), simulated(run.premium_usd)),
        Item("peg", of("lst_basis"), Decimal(0)),
    ]
    found += [Item(name, of(*names), simulated(run.items[name])) for name, names in COSTS.items()]
    assert set(live) == {name for names in ({*CARRY.values()}, *COSTS.values()) for name in names} | {
        "price_long",
        "price_short",
        "liquidation",
        "basis",
        "lst_basis",
    }, f"an item of the account is not compared: {sorted(live)}"
    return found


def _stamp(at_ms: int) -> str:
    return f"{as_datetime(at_ms):%Y-%m-%dT%H:%M}"


def _cents(usd: Decimal) -> str:
    return f"{usd:.{CENT}f}"
