"""Logs of the published contract and what they mean to us; and logs that a hostile or careless side can make."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import NotUnderstood, OperatorError
from twins.raindex import logs
from twins.raindex.floats import float_of, packed
from twins.raindex.logs import Book, Order, Said
from venues.evm.answers import Log
from venues.raindex.events import TOPICS, AfterClear, Clear, Deposit, Take, decode
from venues.raindex.fills import FOREIGN_PAIR, OTHER_OWNER, ZERO, OrderBook, sort_logs
from venues.raindex.floats import decoded
from venues.raindex.types import Market

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data") / "raindex"
RECORDED = DATA / "orderbook_logs.json"
recorded = pytest.mark.skipif(
    not RECORDED.is_file(), reason="no recorded logs (EVENKEEL_DATA or ../shared/data)"
)

OURS, OTHER, TAKER = "0x" + "aa" * 20, "0x" + "bb" * 20, "0x" + "cc" * 20
USDC, COIN, NVDA, WETH, BOOK = ("0x" + one * 20 for one in ("01", "02", "03", "04", "05"))
MINE = OrderBook("base", BOOK, OURS, USDC, {COIN: Market("COIN"), NVDA: Market("NVDA")})
WRITER = Book(BOOK)


def order(owner: str = OURS, gets: str = USDC, gives: str = COIN) -> Order:
    return Order(owner, ((gets, bytes(32)),), ((gives, bytes(32)),))


def logs_of(*said: Said, transaction: int = 1, first_index: int = 0, block: int = 7) -> list[Log]:
    return [
        Log(
            one.address,
            one.topics,
            one.data,
            block,
            "0x" + "b1" * 32,
            f"0x{transaction:064x}",
            first_index + place,
        )
        for place, one in enumerate(said)
        if one.topics[0] in TOPICS
    ]


TWO, DOLLARS = float_of("2"), float_of("300")


def take(
    owner: str = OURS,
    gets: str = USDC,
    gives: str = COIN,
    *,
    given: bytes = TWO,
    got: bytes = DOLLARS,
    places: tuple[int, int] = (0, 0),
) -> Said:
    return WRITER.logs(TAKER, logs.Take(order(owner, gets, gives), given, got, places))[1]


def clear(alice: str, bob: str) -> list[Said]:
    """Alice sells 2 COIN for 300 USDC; bob, who buys, gets a little less: the clearer keeps the rest."""
    amounts = (float_of("2"), float_of("300"), float_of("300"), float_of("1.9"))
    return WRITER.logs(TAKER, logs.Clear(order(alice), order(bob, COIN, USDC), *amounts))


@recorded
def test_every_recorded_log_is_read_as_it_was_recorded() -> None:
    rows: dict[str, Any] = json.loads(RECORDED.read_text())
    kinds = {"TakeOrderV3": Take, "ClearV3": Clear, "AfterClearV2": AfterClear, "DepositV2": Deposit}
    checked = 0
    for row in rows["logs"]:
        log = Log(
            row["address"].lower(), tuple(row["topics"]), bytes.fromhex(row["data"][2:]), row["block"], "0x" + "b1" * 32,
            row["tx"], row["logIndex"],
        )  # fmt: skip
        if row["event"] not in kinds:
            with pytest.raises(NotUnderstood):
                decode(log)
            continue
        said = decode(log)
        assert isinstance(said, kinds[row["event"]])
        want = row.get("expected")
        if isinstance(said, Take):
            assert want["owner"] == said.order.owner
            assert want["in_token"] == said.order.inputs[said.input_index][0]
            assert want["out_token"] == said.order.outputs[said.output_index][0]
            assert want["taker_input"] == str(decoded(said.taker_input))
            assert want["taker_output"] == str(decoded(said.taker_output))
            checked += 1
        elif isinstance(said, AfterClear):
            got = {
                "aliceOutput": said.alice_output, "bobOutput": said.bob_output,
                "aliceInput": said.alice_input, "bobInput": said.bob_input,
            }  # fmt: skip
            assert want == {name: str(decoded(raw)) for name, raw in got.items()}
            checked += 1
    assert checked == sum("expected" in row for row in rows["logs"])


@recorded
def test_recorded_logs_are_three_fills_and_our_own_deposits() -> None:
    rows: dict[str, Any] = json.loads(RECORDED.read_text())
    book = OrderBook(
        "base",
        rows["logs"][0]["address"].lower(),
        rows["owner"].lower(),
        rows["usdc"].lower(),
        {rows["equity"].lower(): Market("COIN")},
    )
    logs = [
        Log(row["address"].lower(), tuple(row["topics"]), bytes.fromhex(row["data"][2:]), row["block"], "0x" + "b1" * 32,
            row["tx"], row["logIndex"])
        for row in rows["logs"] if row["topics"][0] in TOPICS
    ]  # fmt: skip
    found = sort_logs(book, logs)
    assert [(one.kind, one.side, str(one.tokens), str(one.usdc)) for one in found.trades] == [
        ("take", "sell", "0.034172366621067031", "4.999998166894664774827"),
        ("take", "buy", "0.0138", "2"),
        (
            "clear",
            "sell",
            "341.72379149381138213604707586951618" + "74560030618451717845499839389817",
            "50000",
        ),
    ]
    assert len(found.moves) == 3 and found.skipped == {OTHER_OWNER: 2} and not found.quarantined


def test_a_take_is_the_orders_side_and_not_the_takers() -> None:
    sold = sort_logs(MINE, logs_of(WRITER.context(TAKER), take())).trades
    bought = sort_logs(
        MINE, logs_of(take(gets=COIN, gives=USDC, given=float_of("300"), got=float_of("2")))
    ).trades
    assert [(one.side, one.tokens, one.usdc, one.market.symbol) for one in (*sold, *bought)] == [
        ("sell", Decimal(2), Decimal(300), "COIN"),
        ("buy", Decimal(2), Decimal(300), "COIN"),
    ]
    assert sold[0].log.index == 1


@pytest.mark.parametrize(
    ("alice", "bob", "tokens", "side"), [(OURS, OTHER, "2", "sell"), (OTHER, OURS, "1.9", "buy")]
)
def test_of_a_clear_our_own_sides_numbers_count(alice: str, bob: str, tokens: str, side: str) -> None:
    (found,) = sort_logs(MINE, logs_of(*clear(alice, bob))).trades
    assert (found.kind, found.side, str(found.tokens), str(found.usdc)) == ("clear", side, tokens, "300")
    assert found.log.index == 0


def test_several_fills_of_one_transaction_are_several() -> None:
    said = [
        *clear(OURS, OTHER),
        take(),
        WRITER.context(TAKER),
        take(given=float_of("5")),
        *clear(OTHER, OURS),
    ]
    found = sort_logs(MINE, logs_of(*said))
    assert [(one.log.index, str(one.tokens)) for one in found.trades] == [
        (0, "2"),
        (4, "2"),
        (6, "5"),
        (7, "1.9"),
    ]


def test_a_clear_takes_no_amounts_of_another_transaction_and_none_of_the_next_clear() -> None:
    first, second = clear(OURS, OTHER), clear(OURS, OTHER)
    lost = logs_of(first[0]) + logs_of(second[3], transaction=2, first_index=3)
    assert [one.why for one in sort_logs(MINE, lost).quarantined] == [
        "no amounts of this clear stand in its transaction"
    ]
    nested = sort_logs(MINE, logs_of(first[0], second[0], second[3]))
    assert [one.log.index for one in nested.trades] == [1]
    assert [one.log_index for one in nested.quarantined] == [0]


def test_what_is_none_of_our_business_is_counted_and_the_rest_goes_on() -> None:
    said = [
        take(OTHER),
        take(gives=WETH),
        take(gets=NVDA, gives=COIN),
        take(gets=WETH, gives=USDC),
        take(given=float_of("0")),
        *clear(OTHER, TAKER),
        take(),
    ]
    found = sort_logs(MINE, logs_of(*said))
    assert found.skipped == {OTHER_OWNER: 2, FOREIGN_PAIR: 3, ZERO: 1}
    assert [str(one.tokens) for one in found.trades] == ["2"] and not found.quarantined


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (take(given=packed(1, 2**31 - 1)), "its exponent is 2147483647"),
        (take(got=packed(2**223 - 1, 0)), "its value is above"),
        (take(given=float_of("-2")), "below zero"),
        (take(got=float_of("0")), "for no USDC"),
        (take(places=(1, 0)), "an input or output that the order does not have"),
        (take(places=(0, 9)), "an input or output that the order does not have"),
        (Said(BOOK, take().topics, take().data[:-40]), "bytes"),
    ],
)
def test_what_cannot_be_counted_is_put_aside_by_name_and_the_rest_goes_on(said: Said, why: str) -> None:
    found = sort_logs(MINE, logs_of(said, take(gives=NVDA)))
    assert [one.market.symbol for one in found.trades] == ["NVDA"]
    (aside,) = found.quarantined
    assert why in aside.why and aside.log_index == 0 and len(found.logs) == 2


def test_what_another_owner_does_with_odd_numbers_is_not_ours_to_judge() -> None:
    found = sort_logs(MINE, logs_of(take(OTHER, given=packed(1, 2**31 - 1))))
    assert not found.quarantined and found.skipped == {OTHER_OWNER: 1}


def test_both_sides_ours_is_for_a_person() -> None:
    (aside,) = sort_logs(MINE, logs_of(*clear(OURS, OURS))).quarantined
    assert aside.why == "both orders of the clear are ours"


def test_dust_is_a_fill_to_the_last_digit() -> None:
    (found,) = sort_logs(MINE, logs_of(take(given=float_of("6.9e-21"), got=float_of("1e-18")))).trades
    assert (str(found.tokens), str(found.usdc)) == ("6.9E-21", "1E-18")


@pytest.mark.parametrize("odd", ["0x" + "00" * 20, "0x" + "AA" * 20, "aa" * 20, "0x12"])
def test_addresses_that_are_none_are_refused(odd: str) -> None:
    with pytest.raises(OperatorError):
        OrderBook("base", BOOK, odd, USDC, {COIN: Market("COIN")})


def test_one_address_for_two_things_is_refused() -> None:
    with pytest.raises(OperatorError, match="two things"):
        OrderBook("base", BOOK, OURS, USDC, {USDC: Market("COIN")})
