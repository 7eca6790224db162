"""Whole lives of positions on both venues, by a model of their accounts that knows nothing of attribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random
from typing import Any

from evenkeel.legs import CARRY, FundingPayment, IntentKind, LegReceipt, LegSide, LendingChange
from evenkeel.types import Decided, Fill, IntentState, VenueName
from evenkeel.units import LAMPORTS_PER_SOL
from state.models import Intent
from tests.carry.market_path import HOUR_MS, MarketPath
from venues.hyperliquid.models import WireFill
from venues.hyperliquid.orders import OrderKey, receipt_of

D = Decimal
MICRO, NANO = D("0.000001"), D("0.000000001")
PDA = "pda"
ZERO, FUNDED = D(0), D(60_000)
"""USDC on each side at the start."""


def rounded(value: Decimal, to: Decimal = MICRO) -> Decimal:
    return value.quantize(to, ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Happened:
    """One thing to be booked: an order's receipt, or what a venue took by itself."""

    at_ms: int
    intent: Intent | None = None
    receipt: LegReceipt | None = None
    seizure: dict[str, Any] | None = None
    forced: Fill | None = None


@dataclass
class History:
    """Both accounts as their venues keep them, and what happened to them, in order of time."""

    position_id: str
    path: MarketPath
    chance: Random
    at_ms: int = 0
    wallet_usdc: Decimal = FUNDED
    lamports: int = 10**9
    gas_usd: Decimal = ZERO
    tokens: Decimal = ZERO
    debt: Decimal = ZERO
    cash: Decimal = FUNDED
    """Of the perpetuals account: without what is not realised."""
    short: Decimal = ZERO
    entry_px: Decimal = ZERO
    lost_margin: Decimal = ZERO
    happened: list[Happened] = field(default_factory=list)
    funding: list[FundingPayment] = field(default_factory=list)
    snapshots: list[tuple[int, Decimal, Decimal]] = field(default_factory=list)
    """Time, tokens and debt, as a monitor saw the long."""
    steps: dict[tuple[LegSide, IntentKind], int] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        self.at_ms = self.path.start_ms + self.chance.randrange(60_000, HOUR_MS)
        self.began_ms = self.at_ms

    # --- what both hold ---

    @property
    def short_value(self) -> Decimal:
        """Of the perpetuals account, at the mid."""
        return self.cash + self.short * (self.entry_px - self.path.mid(self.at_ms))

    @property
    def long_equity(self) -> Decimal:
        return self.tokens * self.path.token(self.at_ms) - self.debt

    # --- time ---

    def passes(self, until_ms: int) -> None:
        """Interest of both sides, and the payment of every full hour on the way."""
        while self.at_ms < until_ms:
            hour_ms = (self.at_ms // HOUR_MS + 1) * HOUR_MS
            then = min(hour_ms, until_ms)
            share = D(then - self.at_ms) / HOUR_MS
            self.at_ms = then
            self.tokens = rounded(self.tokens * (1 + D("0.000004") * share), NANO)
            self.debt = rounded(self.debt * (1 + D("0.000009") * share))
            if then == hour_ms and self.short:
                rate = self.path.premium(then - 1) / 8
                usdc = rounded(self.short * self.path.oracle(then) * rate)
                self.cash += usdc
                self.funding.append(
                    FundingPayment(
                        venue=VenueName.HYPERLIQUID,
                        account="0xa",
                        coin="SOL",
                        hour_ms=then,
                        time_ms=then + 40,
                        usdc=usdc,
                        position_size=-self.short,
                        funding_rate_hourly=rate,
                    )
                )
            if then == hour_ms and self.tokens and self.chance.random() < 0.7:
                self.snapshots.append((then, self.tokens, self.debt))

    def soon(self, least_ms: int = 300, most_ms: int = 5_000) -> None:
        self.passes(self.at_ms + self.chance.randint(least_ms, most_ms))

    # --- the long ---

    def swap(self, kind: IntentKind, tokens: Decimal, borrowed: Decimal, op: str) -> None:
        """Buy (above zero) or sell so many tokens, with so much more debt; what is left moves the wallet."""
        decided, seen_ms = self._decided(), self.at_ms
        seen = {
            "sol_price_usd": str(self.path.oracle(seen_ms)),
            "redemption_rate": str(self.path.rate(seen_ms)),
            "at_ms": seen_ms,
        }
        # A transaction may land long after it was built, and its block is stamped in whole seconds.
        lands_ms = self.at_ms + self.chance.choice((1_000, 4_000, 40_000))
        self.passes(-(-lands_ms // 1000) * 1000)
        slip = D(self.chance.randint(-3, 25)) / 10_000
        price = self.path.token(self.at_ms) * (1 + slip if tokens > 0 else 1 - slip)
        if kind is IntentKind.CLOSE:  # of what is there now, interest of the last seconds with it
            tokens, borrowed = -self.tokens, -self.debt
        usdc = rounded(abs(tokens) * price)
        fee = rounded(usdc * D("0.0002"))
        wallet = borrowed - (usdc if tokens > 0 else -usdc) - fee
        self._landed(kind, op, tokens, usdc, borrowed, wallet, fee, decided, seen if tokens else None)

    def repay(self, usdc: Decimal) -> None:
        """Repay debt from idle USDC: nothing is swapped, and no price is read for it."""
        decided = self._decided()
        self.soon()
        self.passes(-(-self.at_ms // 1000) * 1000)
        repaid = min(usdc, rounded(self.debt / 2))
        self._landed(IntentKind.RESIZE, "repay_debt", D(0), D(0), -repaid, -repaid, D(0), decided, None)

    def _landed(
        self,
        kind: IntentKind,
        op: str,
        tokens: Decimal,
        usdc: Decimal,
        borrowed: Decimal,
        wallet: Decimal,
        fee: Decimal,
        decided: Decided | None,
        seen: dict[str, Any] | None,
    ) -> None:
        gas, tip = self.chance.randint(5_000, 90_000), self.chance.choice((0, 10_000))
        change = LendingChange(
            tokens_before=self.tokens,
            tokens_after=self.tokens + tokens,
            debt_before_usd=self.debt,
            debt_after_usd=self.debt + borrowed,
            swap_token_qty=abs(tokens),
            swap_usdc_qty=usdc,
            wallet_usdc_delta=wallet,
            protocol_fee_usd=fee,
            gas_lamports=gas,
            tip_lamports=tip,
        )
        self.tokens, self.debt = change.tokens_after, change.debt_after_usd
        self.wallet_usdc += wallet
        self._pay_gas(gas + tip)
        signature = f"{self.position_id}-tx{self._next()}"
        price = usdc / abs(tokens) if tokens else None
        fills = [] if price is None else [
            Fill(
                fill_id=signature,
                venue=VenueName.ASGARD,
                asset=self.path.asset,
                side="buy" if tokens > 0 else "sell",
                qty=abs(tokens),
                price_usd=price,
                fee_usd=fee,
                order_ref=PDA,
                time_ms=self.at_ms,
            )
        ]  # fmt: skip
        detail = {"op": op, "protocol": 1, "signatures": [signature]} | ({"seen": seen} if seen else {})
        receipt = LegReceipt(
            ref=PDA,
            done_qty=abs(tokens),
            avg_price_usd=price,
            fills=fills,
            lending=change,
            settled_ms=self.at_ms,
            detail=detail,
        )
        order = {"op": op, "asset": self.path.asset, "protocol": 1}
        self._book(LegSide.LONG, kind, order, receipt, decided)

    def lender_takes(self, share: Decimal) -> None:
        """The lender sells a part below its price, and repays debt with it."""
        self.soon()
        price = rounded(self.path.token(self.at_ms))
        taken = rounded(self.tokens * share, NANO)
        repaid = min(self.debt, rounded(taken * price * D("0.95")))
        seizure = {
            "ref": f"{self.position_id}-seizure{self._next()}",
            "tokens_before": self.tokens,
            "tokens_after": self.tokens - taken,
            "debt_before_usd": self.debt,
            "debt_after_usd": self.debt - repaid,
            "price_usd": self.chance.choice((None, price)),
        }
        self.tokens, self.debt = self.tokens - taken, self.debt - repaid
        self.happened.append(Happened(self.at_ms, seizure=seizure))
        self.soon(1_000)

    # --- the short ---

    def trade(self, kind: IntentKind, signed: Decimal) -> None:
        """Buy (above zero) or sell so much, in one order that fills in parts at worse and worse prices."""
        decided, is_buy, built_ms = self._decided(), signed > 0, self.at_ms
        mid = self.path.mid(built_ms)
        key = OrderKey(
            account="0xa",
            coin="SOL",
            cloid=f"0x{self.position_id}{self._next()}",
            nonce=built_ms,
            expires_after=built_ms + 10_000,
            payload="{}",
            signer="0xa",
            built_at_ms=built_ms,
            is_buy=is_buy,
            size=abs(signed),
            limit_px=mid,
            reference_px=mid,
            szi_before=-self.short,
            position_time_ms=built_ms,
            # What only reduces asks for no oracle.
            oracle_px=None if is_buy else self.path.oracle(built_ms),
        )
        self.soon(100, 2_000)
        parts = self.chance.randint(1, 3)
        left, rows = abs(signed), list[WireFill]()
        for part in range(parts):
            size = left if part == parts - 1 else rounded(left / 2, D("0.01"))
            left -= size
            worse = D(part + self.chance.randint(0, 3)) / 10_000
            price = rounded(self.path.mid(self.at_ms) * (1 + worse if is_buy else 1 - worse), D("0.001"))
            rows.append(self._fill(size, price, is_buy, oid=self.number, cloid=key.cloid))
        receipt = LegReceipt.model_validate(receipt_of(key, rows).model_dump())
        self._book(LegSide.SHORT, kind, {"is_buy": is_buy}, receipt, decided)
        self.soon()

    def take(self, share: Decimal, backstop: bool) -> None:
        """The venue buys a part of the short back by itself; a backstop keeps margin besides."""
        self.soon()
        size = rounded(self.short * share, D("0.01"))
        if not size:
            return
        price = rounded(self.path.mid(self.at_ms) * D("1.004"), D("0.001"))
        row = self._fill(size, price, is_buy=True, oid=self._next(), cloid=None)
        if backstop:
            kept = rounded(self.cash / 50)
            self.cash -= kept
            self.lost_margin += kept
        self.happened.append(Happened(self.at_ms, forced=_fill_of(row)))
        self.soon(1_000)

    def _fill(self, size: Decimal, price: Decimal, is_buy: bool, oid: int, cloid: str | None) -> WireFill:
        fee, gain = rounded(size * price * D("0.00045")), D(0)
        if is_buy:
            gain = size * (self.entry_px - price)
            self.short -= size
        else:
            held = self.short + size
            self.entry_px = (self.entry_px * self.short + price * size) / held
            self.short = held
        self.cash += gain - fee
        return WireFill(
            coin="SOL",
            px=price,
            sz=size,
            side="B" if is_buy else "A",
            time=self.at_ms,
            start_position=D(0),
            closed_pnl=gain,
            oid=oid,
            fee=fee,
            tid=self._next(),
            cloid=cloid,
        )

    # --- the rest ---

    def _pay_gas(self, lamports: int) -> None:
        self.lamports -= lamports
        self.gas_usd += D(lamports) / LAMPORTS_PER_SOL * self.path.oracle(self.at_ms)

    def _decided(self) -> Decided | None:
        decided = Decided(price_usd=self.path.oracle(self.at_ms), at_ms=self.at_ms)
        self.soon()
        return self.chance.choice((decided, None))

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _book(
        self,
        side: LegSide,
        kind: IntentKind,
        order: dict[str, Any],
        receipt: LegReceipt,
        decided: Decided | None,
    ) -> None:
        step = self.steps.get((side, kind), 0)
        self.steps[side, kind] = step + 1
        kept = {} if decided is None else {"decided": decided.model_dump(mode="json")}
        intent = Intent(
            intent_id=f"{self.position_id}-{side}-{kind}-{step}",
            business=CARRY,
            subject=self.position_id,
            part=side,
            venue="asgard" if side is LegSide.LONG else "hyperliquid",
            kind=kind,
            step=step,
            state=IntentState.CONFIRMED,
            order=order | kept,
            created_ms=receipt.settled_ms,
            updated_ms=receipt.settled_ms,
        )
        self.happened.append(Happened(receipt.settled_ms, intent=intent, receipt=receipt))


def _fill_of(row: WireFill) -> Fill:
    return Fill(
        fill_id=row.fill_id,
        venue=VenueName.HYPERLIQUID,
        asset=row.coin,
        side="buy",
        qty=row.sz,
        price_usd=row.px,
        fee_usd=row.fee or D(0),
        closed_pnl_usd=row.closed_pnl,
        order_ref=str(row.oid),
        time_ms=row.time,
    )
