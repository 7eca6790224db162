"""What a settlement says, on logs of a real chain and on made ones: dollars by transfers, never by the event alone."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

from evenkeel.errors import NotUnderstood
from venues.evm.answers import Log, data
from venues.evm.codec import Event
from venues.ostium.contracts import (
    CLOSE_TIMED_OUT,
    CLOSED,
    FEES,
    LIMIT_CANCELED,
    LIMIT_CLOSED,
    LIMIT_PLACED,
    LIQUIDATED,
    OPEN_CANCELED,
    OPEN_TIMED_OUT,
    REFUNDED,
    TRANSFER,
)
from venues.ostium.moves import Move, moves_of
from venues.ostium.settlement import Settled, settlements

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data")
CALLBACKS, TRADING, USDC = ("0x" + digit * 40 for digit in "abc")
TRADER, OTHER, VAULT = ("0x" + digit * 40 for digit in "123")


def log(address: str, event: Event, place: int = 0, **values: Any) -> Log:
    topics, types, plain = [event.topic], [], []
    for kind, name, is_indexed in event.fields:
        if is_indexed:
            topics.append("0x" + encode((kind,), (values[name],)).hex())
        else:
            types.append(kind)
            plain.append(values[name])
    return Log(address, tuple(topics), encode(types, plain), 9, "0x" + "0" * 64, "0x" + "9" * 64, place)


def closed(usdc: str, order: int = 7, trade: int = 3, share: int = 10_000) -> Log:
    return log(CALLBACKS, CLOSED, orderId=order, tradeId=trade, price=150 * 10**18, priceImpactP=0, percentProfit=0,
               usdcSentToTrader=int(Decimal(usdc) * 10**6), percentageClosed=share)  # fmt: skip


def transfer(usdc: str, to: str = TRADER, token: str = USDC) -> Log:
    return log(token, TRANSFER, sender=VAULT, receiver=to, value=int(Decimal(usdc) * 10**6))


def refunded(usdc: str, trade: int = 3) -> Log:
    return log(
        CALLBACKS, REFUNDED, tradeId=trade, trader=TRADER, pairIndex=9, amount=int(Decimal(usdc) * 10**6)
    )


def canceled(reason: int) -> Log:
    return log(CALLBACKS, OPEN_CANCELED, orderId=7, trader=TRADER, pairIndex=9, cancelReason=reason)


def fees(order: int = 7, trade: int = 3, rollover: int = 5) -> Log:
    return log(
        CALLBACKS, FEES, orderId=order, tradeId=trade, trader=TRADER, rolloverFees=rollover, fundingFees=0
    )


@pytest.mark.skipif(not DATA.is_dir(), reason="no recorded data (EVENKEEL_DATA or ../shared/data)")
def test_the_logs_of_a_real_open_and_close() -> None:
    recorded = json.loads((DATA / "ostium" / "settlement_logs.json").read_text())

    def read(name: str) -> list[Any]:
        rows = [
            Log(
                one["address"],
                tuple(one["topics"]),
                data(one["data"]),
                1,
                "0x" + "0" * 64,
                "0x" + "1" * 64,
                place,
            )
            for place, one in enumerate(recorded[name]["logs"])
        ]
        callbacks = next(one.address for one in rows if one.topics[0] != TRANSFER.topic)
        usdc = next((one.address for one in rows if one.topics[0] == TRANSFER.topic), USDC)
        return settlements(rows, callbacks, callbacks, usdc)

    [opened] = read("open")
    assert (opened.kind, opened.order_id, opened.trade_id) == (Settled.OPENED, 2, 2)
    assert opened.trade.collateral == 999 and opened.trade.leverage == 10 and opened.trade.is_long
    assert opened.deposit_usdc == 1000, "with the fees that the venue names, all that was paid for it"
    assert opened.price == 65_001 and opened.asset_qty == Decimal("0.153689943231642590")
    [done] = read("close")
    assert (done.kind, done.order_id, done.trade_id, done.share) == (Settled.CLOSED, 3, 2, 1)
    assert (done.price, done.paid_usdc, done.refund_usdc) == (64_999, Decimal("998.692628"), 1)
    assert not done.is_liquidation
    # 1,000 were given for the opening: 999 of collateral and the oracle fee.
    assert done.paid_usdc - 1000 == Decimal("-1.307372")


def test_a_market_close_below_the_liquidation_margin_paid_nothing_whatever_its_event_says() -> None:
    liquidated = log(CALLBACKS, LIQUIDATED, orderId=7, tradeId=3, trader=TRADER, amount=20 * 10**6)
    [done] = settlements(
        [fees(), liquidated, closed("20"), transfer("0.1"), refunded("0.1")], CALLBACKS, TRADING, USDC
    )
    assert (done.paid_usdc, done.refund_usdc, done.is_liquidation, done.why) == (
        0,
        Decimal("0.1"),
        True,
        "liquidation",
    )


def test_a_close_pays_what_was_transferred_and_not_what_the_event_names() -> None:
    [done] = settlements(
        [fees(), transfer("18"), closed("20"), transfer("0.1"), refunded("0.1")], CALLBACKS, TRADING, USDC
    )
    assert done.paid_usdc == 18
    assert done.rollover_usdc == Decimal("-0.000005")


def test_of_two_closes_in_one_transaction_each_has_its_own_transfer() -> None:
    rows = [
        fees(7, 3), transfer("18"), closed("18", 7, 3),
        fees(8, 4), transfer("5.5"), closed("5.5", 8, 4, share=2_500),
    ]  # fmt: skip
    first, second = settlements(rows, CALLBACKS, TRADING, USDC)
    assert (first.paid_usdc, second.paid_usdc, second.share) == (18, Decimal("5.5"), Decimal("0.25"))
    # Where the amounts do not fit, nothing is guessed.
    rows[4] = transfer("5.4")
    assert settlements(rows, CALLBACKS, TRADING, USDC)[1].paid_usdc is None


def test_what_other_contracts_say_counts_for_nothing() -> None:
    false = log(OTHER, CLOSED, orderId=9, tradeId=9, price=1, priceImpactP=0, percentProfit=0, usdcSentToTrader=10**12,
                percentageClosed=10_000)  # fmt: skip
    [done] = settlements(
        [false, fees(), transfer("18"), transfer("500", token=OTHER), closed("18")], CALLBACKS, TRADING, USDC
    )
    assert (done.order_id, done.paid_usdc) == (7, 18)


def test_a_trader_nobody_names_is_taken_from_what_is_known_and_else_nothing_is_paid() -> None:
    rows = [transfer("18"), closed("18")]
    assert settlements(rows, CALLBACKS, TRADING, USDC)[0].paid_usdc is None
    assert settlements(rows, CALLBACKS, TRADING, USDC, {3: TRADER})[0].paid_usdc == 18


def test_a_stop_of_the_keepers_and_a_cancelled_order() -> None:
    stop = log(CALLBACKS, LIMIT_CLOSED, orderId=7, tradeId=3, orderType=1, price=10**18, priceImpactP=0, percentProfit=0,
               usdcSentToTrader=18 * 10**6)  # fmt: skip
    [done] = settlements([fees(), transfer("18"), stop], CALLBACKS, TRADING, USDC)
    assert (done.why, done.share, done.paid_usdc) == ("stop", 1, 18)
    [gone] = settlements(
        [log(CALLBACKS, OPEN_CANCELED, orderId=7, trader=TRADER, pairIndex=9, cancelReason=3)],
        CALLBACKS,
        TRADING,
        USDC,
    )
    assert (gone.kind, gone.why, gone.trade_id) == (Settled.OPEN_CANCELED, "slippage", None)
    [new] = settlements(
        [log(CALLBACKS, OPEN_CANCELED, orderId=7, trader=TRADER, pairIndex=9, cancelReason=77)],
        CALLBACKS,
        TRADING,
        USDC,
    )
    assert new.why == "reason 77"


def test_an_odd_log_of_the_venue_is_not_understood() -> None:
    odd = closed("20")
    with pytest.raises(NotUnderstood):
        settlements(
            [Log(odd.address, odd.topics, odd.data[:40], 9, odd.block_hash, odd.transaction, 0)],
            CALLBACKS,
            TRADING,
            USDC,
        )
    with pytest.raises(NotUnderstood, match="of 10000"):
        settlements([closed("20", share=10_001)], CALLBACKS, TRADING, USDC)


def trade(usdc: str, trader: str = TRADER, slot: int = 0) -> tuple[Any, ...]:
    return (int(Decimal(usdc) * 10**6), 145 * 10**18, 0, 0, trader, 300, 9, slot, True, False)


def placed(usdc: str, slot: int = 0) -> Log:
    return log(TRADING, LIMIT_PLACED, slot, trader=TRADER, pairIndex=9, index=slot, trade=trade(usdc, slot=slot),
               orderType=1, builderFee=("0x" + "0" * 40, 0))  # fmt: skip


def withdrawn(slot: int = 0) -> Log:
    return log(TRADING, LIMIT_CANCELED, trader=TRADER, pairIndex=9, index=slot)


def between(sender: str, receiver: str, usdc: str, token: str = USDC) -> Log:
    return log(token, TRANSFER, sender=sender, receiver=receiver, value=int(Decimal(usdc) * 10**6))


def test_what_an_order_that_waits_cost_is_what_was_transferred() -> None:
    def read(*rows: Log) -> list[Move]:
        return moves_of(rows, TRADING, VAULT, USDC, TRADER)

    [one] = read(between(TRADER, VAULT, "100"), between(TRADER, VAULT, "7", OTHER), placed("100"))
    assert (one.kind, one.slot, one.usdc, one.type) == (Settled.PLACED, 0, 100, 1)
    wire = one.wire(5)
    assert (Decimal(wire["paid_usdc"]), wire["why"], Decimal(wire["price"])) == (-100, "limit", 145)
    both = read(between(TRADER, VAULT, "100"), placed("100"), between(TRADER, VAULT, "60"), placed("60", 1))
    assert [(move.slot, move.usdc) for move in both] == [(0, 100), (1, 60)]
    with pytest.raises(NotUnderstood, match="several things"):
        read(between(TRADER, VAULT, "160"), placed("100"), placed("60", 1))
    [back] = read(between(VAULT, TRADER, "99.9"), between(OTHER, TRADER, "5"), withdrawn(3))
    assert (back.kind, back.slot, back.usdc) == (Settled.WITHDRAWN, 3, Decimal("99.9"))
    with pytest.raises(NotUnderstood, match="several things"):
        read(between(VAULT, TRADER, "99.9"), withdrawn(3), between(VAULT, TRADER, "49.9"), withdrawn(4))
    assert (
        read(between(OTHER, VAULT, "100"), Log(OTHER, placed("1").topics, placed("1").data, 9, "", "", 0))
        == []
    )


def test_an_order_that_was_taken_back_in_time_gave_back_all_of_it() -> None:
    order = (1, 150 * 10**18, 100, trade("100"), 0)
    late = log(TRADING, OPEN_TIMED_OUT, orderId=7, order=order)
    [gone] = settlements([between(VAULT, TRADER, "100"), late], CALLBACKS, TRADING, USDC)
    assert (gone.kind, gone.trader, gone.refund_usdc) == (Settled.OPEN_CANCELED, TRADER, 100)
    assert gone.why == "no keeper settled it in time"
    with pytest.raises(NotUnderstood, match="nothing came back"):
        settlements([between(VAULT, TRADER, "99"), late], CALLBACKS, TRADING, USDC)
    dropped = log(TRADING, CLOSE_TIMED_OUT, orderId=8, tradeId=3, order=order)
    refund = log(TRADING, REFUNDED, tradeId=3, trader=TRADER, pairIndex=9, amount=100_000)
    [close] = settlements([between(VAULT, TRADER, "0.1"), refund, dropped], CALLBACKS, TRADING, USDC)
    assert (close.kind, close.trade_id, close.refund_usdc) == (Settled.CLOSE_CANCELED, 3, Decimal("0.1"))
