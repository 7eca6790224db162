"""A position on an hourly market whose orders are done at any second: what its ledger holds, and the account of it.

Inside an hour of the market the price goes along open, an extreme, the other one and close, and the premium swings around the
hour's mean. The position earns by the second and is paid by the hour. Between entry and exit its monitor pays debt back from
the wallet where the product's rule asks for that, with an order that is done a little later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

from analytics.carry.attribution import VenueChange, attribute
from analytics.carry.life import LifeEvent
from analytics.carry.report import Report
from analytics.research.account import Account
from analytics.research.market import Market
from evenkeel.legs import (
    CARRY,
    FundingPayment,
    IntentKind,
    LegReceipt,
    LegSide,
    LendingChange,
    PositionStatus,
)
from evenkeel.settings.settings import Settings
from evenkeel.types import Fill, IntentState, VenueName
from evenkeel.units import HOUR_MS, HOURS_PER_YEAR
from state.carry.models import Position, PositionSnapshot
from state.ledger_models import FillRow
from state.models import Intent
from strategy.carry.keeping_size import reserve_repayment
from strategy.carry.limits import CarryLimits
from strategy.carry.sizing import short_qty_for, size_position
from tasks.carry.books.report import long_events, long_marks, short_fills
from tasks.carry.books.report_reading import Booked
from tasks.research.backtest import limits_at
from tasks.research.readings import Entered, book_of, knowledge

WALLET, MARGIN = Decimal(50_000), Decimal(50_000)
SWING = 0.0003
"""Of the premium around its mean, inside an hour."""


def exact(value: float, places: int = 9) -> Decimal:
    return Decimal(repr(round(value, places)))


@dataclass
class Held:
    """Both legs as their venues keep them, from the first order on."""

    market: Market
    chance: Random
    tick_ms: int = 900_000
    limits: CarryLimits = field(default_factory=lambda: limits_at(Settings(), 3))
    at_ms: int = 0
    wallet: float = float(WALLET)
    tokens: float = 0.0
    debt: float = 0.0
    short: Decimal = Decimal(0)
    intents: list[Intent] = field(default_factory=list)
    fills: list[FillRow] = field(default_factory=list)
    funding: list[FundingPayment] = field(default_factory=list)
    snapshots: list[PositionSnapshot] = field(default_factory=list)
    paid_in_ms: list[int] = field(default_factory=list)
    entered: Entered | None = None
    due: tuple[int, float] | None = None
    """An order that is on its way: when it is done, and USD of debt."""

    def __post_init__(self) -> None:
        self.known = knowledge(self.market, self.limits)

    # --- the market inside its hours ---

    def _row(self, name: str, at_ms: int) -> float:
        return float(getattr(self.market, name)[self.market.hour_at(at_ms)])

    def premium(self, at_ms: int) -> float:
        turn = 2 * math.pi * (at_ms % HOUR_MS) / HOUR_MS
        return self._row("premium", at_ms) + SWING * math.sin(turn)

    def oracle(self, at_ms: int) -> float:
        hour = self.market.hour_at(at_ms)
        extremes = [self._row("low", at_ms), self._row("high", at_ms)]
        Random(hour).shuffle(extremes)
        points = [self._row("open", at_ms), *extremes, self._row("close", at_ms)]
        third, within = divmod((at_ms % HOUR_MS) / HOUR_MS * 3, 1)
        start, end = points[int(third)], points[int(third) + 1]
        return (start + (end - start) * within) / (1 + self.premium(at_ms))

    def mark(self, at_ms: int) -> float:
        return self.oracle(at_ms) * (1 + self.premium(at_ms))

    def passes(self, until_ms: int) -> None:
        """Interest by the second, the payment of every full hour, and the ticks of the monitor."""
        next_tick = self.at_ms + self.tick_ms
        while self.at_ms < until_ms:
            hour_ms = (self.at_ms // HOUR_MS + 1) * HOUR_MS
            then = min(hour_ms, until_ms, next_tick, *([] if self.due is None else [self.due[0]]))
            hours = (then - self.at_ms) / HOUR_MS
            self.tokens *= 1 + self._row("lend_apr", self.at_ms) * hours / HOURS_PER_YEAR
            self.debt *= 1 + self._row("borrow_apr", self.at_ms) * hours / HOURS_PER_YEAR
            if then == hour_ms and self.short:
                self._paid(then)
            self.at_ms = then
            if self.due is not None and then == self.due[0]:
                self._repay(self.due[1])
            if then == next_tick:
                next_tick += self.tick_ms
                self._tick(then)

    def _paid(self, hour_ms: int) -> None:
        rate = self._row("funding", hour_ms - 1)
        usdc = self.short * exact(self.oracle(hour_ms - 1) * rate)
        self.funding.append(
            FundingPayment(
                venue=VenueName.HYPERLIQUID,
                account="0xa",
                coin="SOL",
                hour_ms=hour_ms,
                time_ms=hour_ms + 40,
                usdc=usdc,
                position_size=-self.short,
                funding_rate_hourly=exact(rate, 12),
            )
        )

    def _tick(self, at_ms: int) -> None:
        oracle = exact(self.oracle(at_ms))
        detail = {
            "tokens": str(exact(self.tokens)),
            "debt_usd": str(exact(self.debt)),
            "token_price_usd": str(oracle),
            "redemption_rate": "1",
        }
        self.snapshots.append(
            PositionSnapshot(
                position_id="sol-1",
                at_ms=at_ms,
                long_price_usd=oracle,
                short_price_usd=exact(self.mark(at_ms)),
                funding_rate_hourly=exact(self._row("funding", at_ms), 12),
                detail=detail,
            )
        )
        if self.entered is not None and self.due is None and (usd := self._reserve(at_ms)):
            self.due = (at_ms + self.chance.randint(400, 6_000), usd)

    def _reserve(self, at_ms: int) -> float:
        """What the product's rule would pay back from the wallet now, USD."""
        assert self.entered is not None
        now = Account(
            wallet_usd=self.wallet,
            margin_usd=float(MARGIN),
            oracle_usd=self.oracle(at_ms),
            mark_usd=self.mark(at_ms),
            tokens=self.tokens,
            debt_usd=self.debt,
            short_qty=float(self.short),
        )
        known = self.known[self.market.hour_at(at_ms) - 1]
        book = book_of(now, self.market.venues, self.entered, known, 0.0)
        usd = reserve_repayment(book, exact(self.wallet), self.limits)
        return float(usd) if usd > self.limits.risk.min_rebalance_usd else 0.0

    # --- orders ---

    def buy_long(self, usd: float, equity_usd: float, fee_bps: float) -> None:
        fee, slip = usd * fee_bps / 10_000, usd * self.chance.uniform(0, 6) / 10_000
        tokens = (usd - fee - slip) / self.oracle(self.at_ms)
        self._long(IntentKind.OPEN, tokens, usd - equity_usd, usd - fee, -equity_usd, fee)

    def _repay(self, usd: float) -> None:
        self._long(IntentKind.RESIZE, 0.0, -usd, 0.0, -usd, 0.0)
        self.paid_in_ms.append(self.at_ms)
        self.due = None

    def sell_long(self, fee_bps: float) -> None:
        gross = self.tokens * self.oracle(self.at_ms)
        fee, got = gross * fee_bps / 10_000, gross * (1 - self.chance.uniform(0, 6) / 10_000)
        self._long(IntentKind.CLOSE, -self.tokens, -self.debt, got, got - fee - self.debt, fee)

    def _long(
        self, kind: IntentKind, tokens: float, debt: float, swapped: float, wallet: float, fee: float
    ) -> None:
        oracle = exact(self.oracle(self.at_ms))
        change = LendingChange(
            tokens_before=exact(self.tokens),
            tokens_after=exact(max(0.0, self.tokens + tokens)),
            debt_before_usd=exact(self.debt),
            debt_after_usd=exact(max(0.0, self.debt + debt)),
            swap_token_qty=exact(abs(tokens)),
            swap_usdc_qty=exact(swapped),
            wallet_usdc_delta=exact(wallet),
            protocol_fee_usd=exact(fee),
            gas_lamports=0,
        )
        self.tokens, self.debt = max(0.0, self.tokens + tokens), max(0.0, self.debt + debt)
        self.wallet += wallet
        mark = {
            "at_ms": self.at_ms,
            "sol_price_usd": str(oracle),
            "token_price_usd": str(oracle),
            "redemption_rate": "1",
        }
        receipt = LegReceipt(
            ref=f"tx{len(self.intents)}",
            done_qty=change.swap_token_qty,
            avg_price_usd=oracle if tokens else None,
            lending=change,
            settled_ms=self.at_ms,
            detail={"mark": mark},
        )
        self._book(LegSide.LONG, kind, receipt)

    def trade_short(self, kind: IntentKind, sold: Decimal, fee_bps: float) -> None:
        """Sell so much of the perpetual (below zero: buy it back), at the price of this second."""
        oracle, mid = exact(self.oracle(self.at_ms)), exact(self.mark(self.at_ms))
        worse = exact(self.chance.uniform(0, 3) / 10_000)
        price = mid * (1 - worse if sold > 0 else 1 + worse)
        self.short += sold
        fill = Fill(
            fill_id=f"fill{len(self.fills)}",
            venue=VenueName.HYPERLIQUID,
            asset="SOL",
            side="sell" if sold > 0 else "buy",
            qty=abs(sold),
            price_usd=price,
            fee_usd=abs(sold) * price * exact(fee_bps / 10_000),
            time_ms=self.at_ms,
        )
        mark = {
            "at_ms": self.at_ms,
            "sol_price_usd": str(oracle),
            "token_price_usd": str(oracle),
            "redemption_rate": "1",
        }
        receipt = LegReceipt(
            ref=fill.fill_id,
            done_qty=fill.qty,
            avg_price_usd=price,
            fills=[fill],
            settled_ms=self.at_ms,
            detail={"mark": mark, "reference_px": str(mid)},
        )
        self._book(LegSide.SHORT, kind, receipt)
        row: dict[str, Any] = fill.model_dump(include=set(FillRow.model_fields))
        self.fills.append(FillRow(**row, business=CARRY, subject="sol-1", part=LegSide.SHORT))

    def _book(self, side: LegSide, kind: IntentKind, receipt: LegReceipt) -> None:
        self.intents.append(
            Intent(
                intent_id=f"i{len(self.intents)}",
                business=CARRY,
                subject="sol-1",
                part=side,
                venue="asgard" if side is LegSide.LONG else "hyperliquid",
                kind=kind,
                step=len(self.intents),
                state=IntentState.CONFIRMED,
                order={},
                result=receipt.model_dump(mode="json"),
                created_ms=self.at_ms,
                updated_ms=self.at_ms,
            )
        )


def held(
    market: Market,
    chance: Random,
    settings: Settings,
    entered_ms: int,
    closed_ms: int,
    apart_ms: int = 4_000,
    tick_ms: int = 900_000,
) -> tuple[Booked, Report]:
    """Return a position whose first order is done at `entered_ms` and whose last one begins at `closed_ms`, with `apart_ms`
    between the orders of its two legs.
    """
    costs, leverage = settings.strategy.costs, 3
    limits = limits_at(settings, leverage)
    size = size_position("SOL", WALLET, MARGIN, leverage, limits.strategy, limits.risk).size
    assert size is not None
    fee_bps = float(costs.short_taker_fee_bps)
    one = Held(market, chance, tick_ms, limits, at_ms=entered_ms)
    one.buy_long(float(size.position_usd), float(size.per_leg_usd), float(costs.long_open_fee_bps))
    one.passes(entered_ms + apart_ms)
    whole = short_qty_for(exact(one.tokens), Decimal(1))
    first = (whole * Decimal("0.6")).quantize(Decimal("0.01"))
    one.trade_short(IntentKind.OPEN, first, fee_bps)
    one.passes(one.at_ms + 1_500)
    one.trade_short(IntentKind.OPEN, whole - first, fee_bps)
    opened_ms = one.at_ms
    long_distance = 1 - one.debt / (one.tokens * one.oracle(opened_ms) * market.venues.lender.threshold)
    one.entered = Entered(leverage, long_distance, None, float(size.position_usd))
    one.passes(closed_ms)
    one.trade_short(IntentKind.CLOSE, -one.short, fee_bps)
    one.passes(closed_ms + apart_ms)
    one.sell_long(float(costs.long_close_fee_bps))
    position = Position(
        position_id="sol-1",
        asset="SOL",
        protocol=1,
        status=PositionStatus.CLOSED,
        leverage=Decimal(leverage),
        facts={"before": {"wallet_usdc": str(WALLET), "hyperliquid_usd": str(MARGIN)}},
        close_reason="asked for by the operator",
        created_ms=entered_ms - 2_000,
        updated_ms=one.at_ms,
        opened_ms=opened_ms,
        closed_ms=one.at_ms,
    )
    booked = Booked(
        position, one.at_ms, one.intents, {}, one.fills, frozenset(), [], one.funding, [], one.snapshots, []
    )
    return booked, _account(booked, one.paid_in_ms)


def _account(booked: Booked, paid_in_ms: list[int]) -> Report:
    """The account of the books alone: no balance of a venue is held against it."""
    zero, position = Decimal(0), booked.position
    attribution = attribute(
        long_events=long_events(booked),
        short_fills=short_fills(booked),
        funding=booked.funding,
        venue=VenueChange(
            hyperliquid_before_usd=zero,
            hyperliquid_after_usd=zero,
            wallet_usdc_before=zero,
            wallet_usdc_after=zero,
            sol_lamports_spent=0,
            sol_price_after_usd=Decimal(1),
        ),
        capital_usd=WALLET + MARGIN,
        opened_ms=booked.opened_ms,
        ended_ms=booked.ended_ms,
        long_marks=long_marks(booked.snapshots),
    )
    assert not attribution.checks, attribution.checks
    events = [
        LifeEvent(at_ms=booked.opened_ms, kind="enter", label="enter"),
        *(LifeEvent(at_ms=at_ms, kind="paid in", label="paid in") for at_ms in paid_in_ms),
        LifeEvent(at_ms=booked.ended_ms, kind="exit", label="exit"),
    ]
    return Report(
        position_id=position.position_id,
        title=position.position_id,
        status=position.status,
        opened_ms=booked.opened_ms,
        ended_ms=booked.ended_ms,
        attribution=attribution,
        events=events,
    )
