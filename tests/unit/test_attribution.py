"""Attribution sums to what wallet and venues show, for any life, and shows exactly what the books miss."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.attribution import ITEMS, Attribution, VenueChange, attribute, plain
from analytics.legs import GasCost, LongEvent, LongMark, ShortFill, split_long, split_short
from evenkeel.types import Fill, FundingPayment, LendingChange, VenueName

D = Decimal
TINY = D("1e-9")
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


def decimals(low: str, high: str, places: int = 6) -> st.SearchStrategy[Decimal]:
    return st.decimals(D(low), D(high), places=places, allow_nan=False)


RATES = decimals("0", "0.0005", 8)
STEP = st.one_of(
    st.tuples(st.just("drift"), RATES, RATES, decimals("-0.2", "0.2"), RATES, decimals("0.9", "1.02")),
    st.tuples(st.just("mark")),
    st.tuples(st.just("close part"), decimals("0.01", "0.9"), decimals("-0.002", "0.02"), decimals("0", "3")),
    st.tuples(st.just("deleverage"), decimals("0.01", "0.3"), decimals("-0.002", "0.02"), decimals("0", "3")),
    st.tuples(st.just("lever up"), decimals("1", "2000"), decimals("-0.002", "0.02"), decimals("0", "3")),
    st.tuples(st.just("repay"), decimals("0.01", "0.5")),
)


def live(steps: list[tuple], margin: Decimal, leverage: Decimal) -> Books:
    books = Books()
    books.open(margin, leverage, D("0.0007"), D("1.25"))
    for name, *args in steps:
        if name == "drift":
            books.drift(*args)
        elif name == "mark":
            books.mark()
        elif name == "close part":
            books.sell("resize", args[0], args[0], args[1], args[2])
        elif name == "deleverage":
            tokens = books.tokens * args[0]
            usdc = tokens * books.token_price * (1 - args[1])
            books.trade("resize", -tokens, usdc, args[2] - usdc, args[2])
        elif name == "lever up":
            books.trade(
                "resize", args[0] / (books.token_price * (1 + args[1])), args[0], args[0] + args[2], args[2]
            )
        else:
            books.trade("resize", D(0), D(0), -books.debt * args[0], D(0))
    return books


LIVES = st.builds(live, st.lists(STEP, max_size=14), decimals("500", "50000", 2), decimals("1", "4", 2))


@given(LIVES)
@settings(max_examples=150, deadline=None)
def test_items_of_a_closed_long_leg_sum_to_the_wallet_flow(books: Books) -> None:
    books.close()
    split = split_long(books.events, books.marks)
    assert abs(sum(split.items.values()) - books.wallet) < TINY
    assert split.equity_usd == 0
    assert abs(split.wallet_flow_usd - books.wallet) < TINY


@given(LIVES)
@settings(max_examples=100, deadline=None)
def test_items_of_an_open_long_leg_sum_to_wallet_flow_and_present_value(books: Books) -> None:
    books.at_ms += 1
    books.mark()
    split = split_long(books.events, books.marks)
    assert abs(sum(split.items.values()) - books.wallet - books.equity()) < TINY
    assert abs(split.equity_usd - books.equity()) < TINY


@given(LIVES)
@settings(max_examples=60, deadline=None)
def test_marks_refine_the_split_and_leave_the_sum(books: Books) -> None:
    books.close()
    with_marks = split_long(books.events, books.marks).items
    without = split_long(books.events).items
    assert abs(sum(with_marks.values()) - sum(without.values())) < TINY
    for same in ("slippage_long", "fees_dex", "fees_asgard"):
        assert with_marks[same] == without[same]


FILL = st.tuples(
    st.sampled_from(["buy", "sell"]),
    decimals("0.01", "50", 2),
    decimals("20", "400", 3),
    decimals("-0.01", "0.01", 5),
)


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


@given(st.lists(FILL, min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_price_and_slippage_of_a_flat_short_are_the_venues_closed_pnl(rows: list[tuple]) -> None:
    fills = short_fills(rows)
    split = split_short(fills)
    realised = sum((row.fill.closed_pnl_usd or D(0) for row in fills), D(0))
    assert abs(split.items["price_short"] + split.items["slippage_short"] - realised) < TINY
    assert split.items["fees_hyperliquid"] == -sum(row.fill.fee_usd for row in fills)
    assert split.open_qty == 0
    assert split.checks == []


def test_an_open_short_is_valued_at_the_mark() -> None:
    fills = short_fills([("sell", D(10), D(150), D("-0.001"))])[:1]
    split = split_short(fills, mark_price_usd=D(140))
    assert split.items["price_short"] == D(100)
    assert split.items["slippage_short"] == D("-1.5")
    assert split.open_qty == -10


def payment(hour: int, usdc: str, coin: str = "SOL") -> FundingPayment:
    at = T0 // HOUR_MS * HOUR_MS + hour * HOUR_MS
    return FundingPayment(
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


def test_a_consistent_life_leaves_no_residual() -> None:
    found = attributed(*whole_life())
    assert abs(found.residual_usd) < TINY
    assert found.agrees
    assert found.checks == []
    assert not found.is_open
    assert tuple(found.items) == ITEMS
    assert found.items["funding"] == D("0.172")
    assert found.items["lending"] > 0 > found.items["borrow"]
    assert found.items["staking"] > 0
    assert found.items["fees_asgard"] == D("-3.3")
    assert found.items["gas"] < 0 and found.items["tips"] < 0
    assert abs(found.earned_usd + found.paid_usd - found.net_usd) < TINY
    rest = found.price_net_usd + found.items["lst_basis"]
    assert abs(found.carry_usd + found.costs_usd + rest - found.net_usd) < TINY
    assert found.net_apr is not None
    assert abs(found.net_apr - found.net_usd / 5000 * D("87.6")) < TINY


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_funding_payment_is_the_residual(missing: int) -> None:
    books, fills, funding, venue = whole_life()
    left = funding[:missing] + funding[missing + 1 :]
    found = attributed(books, fills, left, venue)
    assert abs(found.residual_usd - funding[missing].usdc) < TINY
    assert abs(found.residual_hyperliquid_usd - funding[missing].usdc) < TINY
    assert abs(found.residual_solana_usd) < TINY
    assert found.agrees == (abs(funding[missing].usdc) <= D("0.01"))


@pytest.mark.parametrize("missing", range(3))
def test_a_missing_fill_is_the_residual(missing: int) -> None:
    books, fills, funding, venue = whole_life()
    gone = fills[missing].fill
    found = attributed(books, fills[:missing] + fills[missing + 1 :], funding, venue)
    cash = gone.qty * gone.price_usd * (-1 if gone.side == "buy" else 1) - gone.fee_usd
    assert abs(found.residual_usd - cash) < TINY
    assert any("should be flat" in line for line in found.checks)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_transaction_is_the_residual_in_usdc_and_gas(missing: int) -> None:
    books, fills, funding, venue = whole_life()
    gone = books.events.pop(missing)
    if missing == 2:
        books.at_ms += 1
        books.tokens = books.debt = D(0)
        books.mark()
    found = attributed(books, fills, funding, venue)
    assert abs(found.residual_solana_usd - gone.change.wallet_usdc_delta) < TINY
    assert abs(found.residual_gas_usd + D("0.000075") * venue.sol_price_after_usd) < TINY
    assert any("unexplained" in line for line in found.checks)


def test_gaps_of_opposite_sign_do_not_pass_for_agreement() -> None:
    books, fills, funding, venue = whole_life()
    shifted = venue.model_copy(
        update={
            "hyperliquid_after_usd": venue.hyperliquid_after_usd + 7,
            "wallet_usdc_after": venue.wallet_usdc_after - 7,
        }
    )
    found = attributed(books, fills, funding, shifted)
    assert abs(found.residual_usd) < TINY
    assert not found.agrees


def test_what_is_in_the_books_twice_is_named() -> None:
    books, fills, funding, venue = whole_life()
    found = attributed(books, [*fills, fills[0]], [*funding, funding[0]], venue)
    assert any("fill 0 is in the books twice" in line for line in found.checks)
    assert any("funding of SOL" in line for line in found.checks)
    assert found.residual_hyperliquid_usd != 0


def test_a_transaction_that_does_not_add_up_is_named() -> None:
    books, *_ = whole_life()
    event = books.events[1]
    change = event.change.model_copy(update={"wallet_usdc_delta": event.change.wallet_usdc_delta + 3})
    books.events[1] = event.model_copy(update={"change": change})
    split = split_long(books.events)
    assert any("tx1" in line and "wallet" in line for line in split.checks)


def test_plain_sol_has_neither_staking_nor_basis_and_price_is_exposure_times_move() -> None:
    books = Books()
    books.open(D(1000), D(2), D(0), D(0))
    tokens = books.tokens
    books.drift(D(0), D("0.001"), D("0.1"), D(0), D(1))
    books.close(slip=D(0))
    items = split_long(books.events).items
    assert items["staking"] == items["lst_basis"] == items["lending"] == 0
    assert items["borrow"] == -D(1000) * D("0.001")
    assert abs(items["price_long"] - tokens * 15) < TINY
    assert abs(items["slippage_long"] + items["fees_dex"]) < TINY


def test_a_position_that_never_held_anything_costs_its_gas_only() -> None:
    venue = VenueChange(
        hyperliquid_before_usd=D(10),
        hyperliquid_after_usd=D(10),
        wallet_usdc_before=D(10),
        wallet_usdc_after=D(10),
        sol_lamports_spent=5_000,
        sol_price_after_usd=D(140),
    )
    found = attribute(
        long_events=[],
        short_fills=[],
        funding=[],
        venue=venue,
        capital_usd=D(0),
        opened_ms=T0,
        ended_ms=T0,
        other_gas=[GasCost(ref="failed", at_ms=T0, gas_lamports=5_000, sol_price_usd=D(150))],
    )
    assert found.net_usd == D("-0.00075")
    assert found.residual_usd == 0
    assert found.net_apr is None
    assert "net_apr" not in found.as_strings()


def test_strings_are_plain_decimals() -> None:
    told = attributed(*whole_life()).as_strings()
    assert set(ITEMS) < set(told)
    assert told["residual_usd"] == "0.000000"
    assert all("E" not in value and not value.startswith("-0.000000") for value in told.values())
    assert plain(D("-0.0000001")) == "0.000000"
    assert plain(D("1e3")) == "1000.000000"
