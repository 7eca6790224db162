"""Lives of positions kept by a model of lender, wallet and account that knows nothing of attribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from analytics.carry.attribution import Attribution, VenueChange, attribute
from analytics.carry.legs import GasCost, LongEvent, LongMark, ShortFill
from evenkeel.legs import FundingPayment, LendingChange
from evenkeel.types import Fill, VenueName

D = Decimal
HOUR_MS = 3_600_000
T0 = 1_800_000_000_000
NONE, ONE, PRICE = D(0), D(1), D(150)


@dataclass
class Books:
    """A long leg lived on a model of a lender and a wallet that know nothing of attribution."""

    wallet: Decimal = NONE
    tokens: Decimal = NONE
    debt: Decimal = NONE
    at_ms: int = T0
    sol: Decimal = PRICE
    rate: Decimal = ONE
    peg: Decimal = ONE
    lamports: int = 0
    events: list[LongEvent] = field(default_factory=list)
    marks: list[LongMark] = field(default_factory=list)

    @property
    def token_price(self) -> Decimal:
        return self.sol * self.rate * self.peg

    def equity(self) -> Decimal:
        return self.tokens * self.token_price - self.debt

    def drift(self, lend: Decimal, borrow: Decimal, sol: Decimal, staking: Decimal, peg: Decimal) -> None:
        self.at_ms += HOUR_MS
        self.tokens *= 1 + lend
        self.debt *= 1 + borrow
        self.sol *= 1 + sol
        self.rate *= 1 + staking
        self.peg = peg

    def mark(self) -> None:
        self.marks.append(
            LongMark(
                at_ms=self.at_ms,
                tokens=self.tokens,
                debt_usd=self.debt,
                sol_price_usd=self.sol,
                token_price_usd=self.token_price,
                redemption_rate=self.rate,
            )
        )

    def trade(
        self,
        kind: str,
        tokens: Decimal,
        usdc: Decimal,
        borrowed: Decimal,
        fee: Decimal,
        dex_fee: Decimal = D(0),
    ) -> None:
        """Signed `tokens` bought for `usdc`, with `borrowed` more debt; what is left moves the wallet."""
        self.at_ms += 1000
        cash = borrowed - (usdc if tokens > 0 else -usdc) - fee
        change = LendingChange(
            tokens_before=self.tokens,
            tokens_after=self.tokens + tokens,
            debt_before_usd=self.debt,
            debt_after_usd=self.debt + borrowed,
            swap_token_qty=abs(tokens),
            swap_usdc_qty=usdc,
            wallet_usdc_delta=cash,
            protocol_fee_usd=fee,
            gas_lamports=65_000,
            tip_lamports=10_000,
        )
        self.events.append(
            LongEvent(
                ref=f"tx{len(self.events)}",
                kind=kind,
                at_ms=self.at_ms,
                change=change,
                sol_price_usd=self.sol,
                token_price_usd=self.token_price,
                redemption_rate=self.rate,
                dex_fee_usd=dex_fee,
            )
        )
        self.wallet += cash
        self.tokens += tokens
        self.debt += borrowed
        self.lamports += 75_000

    def open(self, margin: Decimal, leverage: Decimal, slip: Decimal, fee: Decimal) -> None:
        usdc = margin * leverage - fee
        self.trade("open", usdc / (self.token_price * (1 + slip)), usdc, margin * (leverage - 1), fee)

    def sell(self, kind: str, share: Decimal, repay_share: Decimal, slip: Decimal, fee: Decimal) -> None:
        tokens = self.tokens * share
        usdc = tokens * self.token_price * (1 - slip)
        self.trade(kind, -tokens, usdc, -self.debt * repay_share, fee, dex_fee=usdc / 10_000)

    def close(self, slip: Decimal = D("0.001")) -> None:
        self.sell("close", D(1), D(1), slip, D("0.5"))


def short_fills(rows: list[tuple]) -> list[ShortFill]:
    """Fills whose `closed_pnl_usd` follows the venue's average-entry rule, ending flat."""
    fills: list[ShortFill] = []
    size, entry = D(0), D(0)

    def add(side: str, qty: Decimal, reference: Decimal, slip: Decimal) -> None:
        nonlocal size, entry
        price = reference * (1 + slip)
        signed = qty if side == "buy" else -qty
        closed = D(0)
        if size * signed >= 0:
            entry = (entry * abs(size) + price * qty) / (abs(size) + qty)
        else:
            closing = min(abs(size), qty)
            closed = closing * (price - entry) * (1 if size > 0 else -1)
            entry = price if qty > abs(size) else entry
        size += signed
        fill = Fill(
            fill_id=str(len(fills)),
            venue=VenueName.HYPERLIQUID,
            asset="SOL",
            side=side,
            qty=qty,
            price_usd=price,
            fee_usd=qty * price * D("0.00045"),
            closed_pnl_usd=closed,
            time_ms=T0 + len(fills),
        )
        fills.append(ShortFill(fill=fill, reference_price_usd=reference))

    for row in rows:
        add(*row)
    if size:
        add("buy" if size < 0 else "sell", abs(size), D(123), D("0.0004"))
    return fills


def payment(hour: int, usdc: str, coin: str = "SOL") -> FundingPayment:
    at = T0 // HOUR_MS * HOUR_MS + hour * HOUR_MS
    return FundingPayment(
        venue="hyperliquid",
        account="0xAb",
        coin=coin,
        hour_ms=at,
        time_ms=at + 35,
        usdc=D(usdc),
        position_size=D("-10"),
        funding_rate_hourly=D("0.0000125"),
    )


def whole_life() -> tuple[Books, list[ShortFill], list[FundingPayment], VenueChange]:
    """An LST position: open, two drifts, a deleverage, close; and balances kept by hand beside it."""
    books = Books(rate=D("1.2"))
    books.open(D(2500), D(3), D("0.0007"), D("2"))
    books.drift(D("0.0001"), D("0.0002"), D("0.05"), D("0.0003"), D("0.998"))
    books.mark()
    tokens = D(5)
    usdc = tokens * books.token_price * D("0.999")
    books.trade("resize", -tokens, usdc, D("0.8") - usdc, D("0.8"))
    books.drift(D("0.0001"), D("0.0002"), D("-0.12"), D("0.0003"), D("1.001"))
    books.close()
    fills = short_fills([("sell", D(30), D(150), D("-0.0004")), ("sell", D(20), D("150.2"), D("-0.0002"))])
    funding = [payment(hour, usdc) for hour, usdc in enumerate(["0.093", "-0.041", "0.12", "0.0"])]
    cash = sum(
        (-(r.fill.qty if r.fill.side == "buy" else -r.fill.qty) * r.fill.price_usd for r in fills), D(0)
    )
    fees = sum((r.fill.fee_usd for r in fills), D(0))
    venue = VenueChange(
        hyperliquid_before_usd=D(2600),
        hyperliquid_after_usd=D(2600) + 100 + cash - fees + sum(p.usdc for p in funding),
        hyperliquid_deposits_usd=D(100),
        wallet_usdc_before=D(9000),
        wallet_usdc_after=D(9000) + books.wallet - 100,
        wallet_external_usdc=D(-100),
        sol_lamports_spent=books.lamports + 5_000,
        sol_price_after_usd=books.sol,
    )
    return books, fills, funding, venue


def attributed(
    books: Books, fills: list[ShortFill], funding: list[FundingPayment], venue: VenueChange
) -> Attribution:
    return attribute(
        long_events=books.events,
        long_marks=books.marks,
        short_fills=fills,
        funding=funding,
        venue=venue,
        capital_usd=D(5000),
        opened_ms=T0,
        ended_ms=T0 + 100 * HOUR_MS,
        other_gas=[GasCost(ref="failed", at_ms=T0, gas_lamports=5_000, sol_price_usd=D(150))],
    )
