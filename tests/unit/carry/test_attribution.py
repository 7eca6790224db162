"""Attribution sums to what wallet and venues show, for any life, and shows exactly what the books miss."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.carry.attribution import ITEMS, VenueChange, attribute, plain
from analytics.carry.legs import GasCost, LongEvent, ShortFill, split_long, split_short
from evenkeel.legs import LendingChange
from evenkeel.types import Fill, VenueName
from tests.carry.lives import T0, Books, attributed, short_fills, whole_life

D = Decimal
TINY = D("1e-9")


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


def test_a_mark_taken_on_the_other_side_of_a_transaction_is_not_interest() -> None:
    books = Books()
    books.open(D(2500), D(3), D(0), D(0))
    books.drift(D("0.0001"), D("0.0002"), D(0), D(0), D(1))
    books.sell("resize", D("0.4"), D("0.4"), D(0), D(0))
    books.mark()
    moved = {"sol_price_usd": books.sol * D("1.01"), "token_price_usd": books.token_price * D("1.01")}
    books.marks[-1] = books.marks[-1].model_copy(update={"at_ms": books.events[-1].at_ms - 1, **moved})
    books.close()
    with_mark = split_long(books.events, books.marks).items
    assert with_mark == split_long(books.events).items
    assert 0 < with_mark["lending"] < 1


def test_a_mark_from_before_the_last_transaction_does_not_value_the_leg() -> None:
    books = Books()
    books.open(D(2500), D(3), D(0), D(0))
    books.mark()
    books.drift(D("0.0001"), D("0.0002"), D("0.01"), D(0), D(1))
    books.sell("resize", D("0.4"), D("0.4"), D(0), D(0))
    split = split_long(books.events, books.marks)
    assert abs(split.equity_usd - books.equity()) < TINY
    assert split.checks == ["the long leg is open and valued as after its last transaction"]


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
    values = attributed(*whole_life()).as_strings()
    assert set(ITEMS) < set(values)
    assert values["residual_usd"] == "0.000000"
    assert all("E" not in value and not value.startswith("-0.000000") for value in values.values())
    assert plain(D("-0.0000001")) == "0.000000"
    assert plain(D("1e3")) == "1000.000000"


def test_a_discount_at_the_exit_is_basis_and_not_a_move_of_the_price() -> None:
    """Sold at the index, bought back 2 USD under it while the index stood still: all of it is basis."""

    def fill(side: str, price: int) -> Fill:
        return Fill(
            fill_id=side,
            venue=VenueName.HYPERLIQUID,
            asset="SOL",
            side=side,
            qty=D(10),
            price_usd=D(price),
            time_ms=T0,
        )

    sold, bought = fill("sell", 200), fill("buy", 198)
    split = split_short(
        [
            ShortFill(fill=sold, reference_price_usd=D(200), index_price_usd=D(200)),
            ShortFill(fill=bought, reference_price_usd=D(198), index_price_usd=D(200)),
        ]
    )
    assert split.items["basis"] == D(20)
    assert split.items["price_short"] == 0
    assert split.items["slippage_short"] == 0


def test_what_a_lender_seized_is_an_item_of_its_own() -> None:
    """A liquidation of a part, the forgiven debt of one that took everything, and margin that a backstop took."""
    books = Books()
    books.open(D(2500), D(3), D("0.0007"), D("2"))
    books.drift(D("0.0001"), D("0.0002"), D("-0.3"), D(0), D(1))
    tokens, debt, price = books.tokens, books.debt, books.token_price
    seized, repaid = D("7.5"), D(700)

    def took(ref: str, left: Decimal, owed: Decimal) -> None:
        books.at_ms += 1000
        change = LendingChange(
            tokens_before=books.tokens,
            tokens_after=left,
            debt_before_usd=books.debt,
            debt_after_usd=owed,
            swap_token_qty=books.tokens - left,
            swap_usdc_qty=books.debt - owed,
            wallet_usdc_delta=D(0),
            protocol_fee_usd=D(0),
            gas_lamports=0,
        )
        books.events.append(
            LongEvent(
                ref=ref,
                kind="liquidated",
                at_ms=books.at_ms,
                change=change,
                sol_price_usd=price,
                token_price_usd=price,
            )
        )
        books.tokens, books.debt = left, owed

    took("part", tokens - seized, debt - repaid)
    took("rest", D(0), D(0))
    split = split_long(books.events)
    assert split.checks == [] and split.equity_usd == 0
    expected = -(seized * price - repaid) - ((tokens - seized) * price - (debt - repaid))
    assert abs(split.items["liquidation"] - expected) <= TINY
    assert abs(sum(split.items.values(), D(0)) - books.wallet) <= TINY, (
        "what is left of the wallet is all there is"
    )

    short = split_short([], margin_seized_usd=D("12.5"))
    assert short.items["liquidation"] == D("-12.5")
