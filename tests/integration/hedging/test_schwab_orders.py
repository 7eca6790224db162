"""Orders at Schwab: placed once, found by what they order, their fills counted in every status."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from evenkeel.errors import OperatorError, Retryable, VenueRefused
from evenkeel.types import Confirmed, IntentSpec, Outcome, Receipt, Rejected, Signed, Unknown, Working
from tests.schwab_rig import SchwabRig, schwab_rig
from twins.schwab.book import Order
from venues.schwab.orders import LISTED_LATE_MS
from venues.schwab.venue import LIFE_MS, SLACK_MS

ASK, BID = Decimal("150.27"), Decimal("150.23")


def stored(signed: Signed) -> Signed:
    return Signed(key=json.loads(json.dumps(signed.key)), wire=None)


def receipt_of(outcome: Outcome[Receipt]) -> Receipt:
    assert isinstance(outcome, Confirmed), outcome
    return outcome.value


def so_far(outcome: Outcome[Receipt]) -> Receipt:
    assert isinstance(outcome, Working) and outcome.so_far is not None, outcome
    return outcome.so_far


def orders(rig: SchwabRig) -> list[Order]:
    return list(rig.twin.book.orders.values())


async def sent(rig: SchwabRig, **order: str) -> tuple[IntentSpec, Signed, Outcome[Receipt]]:
    intent = rig.intent(**order)
    signed = await rig.signed(intent)
    return intent, signed, await rig.venue.send(intent, signed)


async def test_a_filled_order_is_confirmed_with_shares_price_and_id() -> None:
    async with schwab_rig() as rig:
        _, _, outcome = await sent(rig)
        found = receipt_of(outcome)
        (order,) = orders(rig)
        assert (found.ref, found.done_qty, found.avg_price_usd) == (str(order.order_id), Decimal(10), ASK)
        assert Decimal(found.detail["usd"]) == 10 * ASK and found.fills == []
        assert (await rig.venue.holdings())["AMD"].qty == 10
        assert await rig.venue.cash() == Decimal(1_000_000) - 10 * ASK
        sold = receipt_of((await sent(rig, side="sell", qty="4"))[2])
        assert (sold.done_qty, sold.avg_price_usd) == (Decimal(4), BID)


async def test_an_order_walks_to_its_end_and_its_id_is_in_every_answer() -> None:
    async with schwab_rig() as rig:
        rig.twin.book.walk_ms = 500
        intent, signed, outcome = await sent(rig)
        seen = []
        for _ in range(10):
            if isinstance(outcome, Confirmed):
                break
            seen.append(so_far(outcome).detail["status"])
            assert so_far(outcome).ref == str(orders(rig)[0].order_id)
            assert so_far(outcome).done_qty == 0
            rig.later(0.5)
            outcome = await rig.venue.find(intent, signed)
        assert seen == ["AWAITING_RELEASE_TIME", "QUEUED", "WORKING"]
        assert receipt_of(outcome).done_qty == 10


async def test_what_was_filled_before_a_cancel_counts_and_nothing_filled_is_rejected() -> None:
    async with schwab_rig() as rig:
        rig.fault("partial_cancel", fraction="0.3")
        assert receipt_of((await sent(rig))[2]).done_qty == 3
        rig.fault("reject", words="Trading is halted.")
        rejected = (await sent(rig))[2]
        assert isinstance(rejected, Rejected) and rejected.seen and "Trading is halted" in rejected.reason


async def test_increments_are_cumulative_while_it_works_and_a_partial_fill_has_no_status_of_its_own() -> None:
    async with schwab_rig() as rig:
        rig.fault("hold")
        intent, signed, outcome = await sent(rig)
        assert so_far(outcome).done_qty == 0
        (order,) = orders(rig)
        rig.twin.book.fill(order.order_id, Decimal(4))
        first = so_far(await rig.venue.find(intent, signed))
        assert (first.done_qty, first.avg_price_usd, first.detail["status"]) == (Decimal(4), ASK, "WORKING")
        rig.twin.control("price", {"symbol": "AMD", "usd": "152"})
        rig.twin.book.fill(order.order_id, Decimal(6))
        last = receipt_of(await rig.venue.find(intent, signed))
        assert last.done_qty == 10 and Decimal(last.detail["usd"]) == 4 * ASK + 6 * Decimal("152.02")


@pytest.mark.parametrize("fault", ["drop_answer", "http_500_after", "garbage"])
async def test_a_lost_answer_is_found_by_what_was_ordered_after_a_restart(fault: str) -> None:
    async with schwab_rig() as rig:
        rig.fault(fault, "order:place")
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Unknown), outcome
        found = receipt_of(await rig.venue_for().find(intent, stored(signed)))
        assert found.ref == str(orders(rig)[0].order_id) and len(orders(rig)) == 1


async def test_an_answer_without_a_location_is_followed_by_the_list() -> None:
    async with schwab_rig() as rig:
        rig.fault("no_location")
        assert receipt_of((await sent(rig))[2]).ref == str(orders(rig)[0].order_id)
        assert rig.calls("order:list") == 1


async def test_an_order_that_was_answered_as_placed_is_never_called_dead_though_no_list_shows_it() -> None:
    async with schwab_rig() as rig:
        rig.fault("no_location")
        rig.fault("hide", "order:list", times=-1)
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Working)
        rig.running.faults.clear()
        assert receipt_of(await rig.venue.find(intent, signed)).done_qty == 10


async def test_a_location_that_names_another_order_is_not_believed() -> None:
    async with schwab_rig() as rig:
        rig.twin.control("foreign", {"symbol": "NVDA", "instruction": "BUY", "quantity": 1})
        rig.fault("wrong_location")
        assert receipt_of((await sent(rig))[2]).ref == str(orders(rig)[1].order_id)
        assert "not the order that was placed" in str(rig.client.oddities.words())


@pytest.mark.parametrize("fault", ["drop_request", "http_500", "http_429"])
async def test_a_lost_order_is_dead_only_once_its_window_is_over_and_two_lists_lack_it(fault: str) -> None:
    async with schwab_rig() as rig:
        rig.fault(fault, "order:place")
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Unknown)
        again = rig.venue_for()
        rig.later(LIFE_MS / 1000 - 1)
        early = await again.find(intent, stored(signed))
        assert isinstance(early, Unknown) and early.answered
        rig.later(2)
        listed = rig.calls("order:list")
        dead = await again.find(intent, stored(signed))
        assert isinstance(dead, Rejected) and not dead.seen
        assert rig.calls("order:list") == listed + 2
        assert orders(rig) == []


async def test_an_order_that_is_listed_late_is_found_by_the_second_list() -> None:
    async with schwab_rig() as rig:
        rig.fault("drop_answer", "order:place")
        intent, signed, _ = await sent(rig)
        rig.later(LIFE_MS / 1000 + 1)
        rig.fault("hide", "order:list")
        assert receipt_of(await rig.venue_for().find(intent, stored(signed))).done_qty == 10


async def test_a_row_that_cannot_be_read_may_be_ours_and_proves_nothing() -> None:
    async with schwab_rig() as rig:
        rig.fault("drop_request", "order:place")
        intent, signed, _ = await sent(rig)
        rig.later(LIFE_MS / 1000 + 1)
        rig.fault("odd_row", "order:list", times=-1, path="", row={"orderId": None, "status": 7})
        found = await rig.venue_for().find(intent, stored(signed))
        assert isinstance(found, Unknown) and found.answered and "can be read" in found.reason


async def test_of_two_candidates_the_operator_decides_and_then_his_is_taken() -> None:
    async with schwab_rig() as rig:
        rig.fault("drop_answer", "order:place")
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Unknown)
        rig.twin.control("foreign", {"symbol": "AMD", "instruction": "BUY", "quantity": 10})
        found = await rig.venue_for().find(intent, stored(signed))
        assert isinstance(found, Unknown) and found.answered and "the operator decides" in found.reason
        rig.later(LIFE_MS / 1000 + 1)
        late = await rig.venue_for().find(intent, stored(signed))
        assert isinstance(late, Unknown), "time decides nothing"
        ours = str(orders(rig)[0].order_id)
        rig.claims[ours] = intent.intent_id
        assert receipt_of(await rig.venue_for().find(intent, stored(signed))).ref == ours


async def test_an_order_that_another_attempt_has_is_no_candidate() -> None:
    async with schwab_rig() as rig:
        first, _, outcome = await sent(rig)
        rig.fault("drop_request", "order:place")
        second, signed, lost = await sent(rig)
        assert isinstance(lost, Unknown)
        assert isinstance(await rig.venue.find(second, signed), Unknown), "this process knows whose it is"
        rig.claims[receipt_of(outcome).ref] = first.intent_id
        assert isinstance(await rig.venue_for().find(second, stored(signed)), Unknown)
        rig.later(LIFE_MS / 1000 + 1)
        assert isinstance(await rig.venue_for().find(second, stored(signed)), Rejected)


@pytest.mark.parametrize(
    "other", [{"symbol": "NVDA"}, {"instruction": "SELL"}, {"quantity": 11}, {"late": 200}, {"early": 60}]
)
async def test_an_order_of_another_symbol_side_quantity_or_time_is_no_candidate(
    other: dict[str, Any],
) -> None:
    async with schwab_rig() as rig:
        rig.twin.book.shares["AMD"] = Decimal(100)
        foreign = {"symbol": "AMD", "instruction": "BUY", "quantity": 10} | other
        if "early" in other:
            rig.twin.control("foreign", foreign)
            rig.later((SLACK_MS + 2_000) / 1000)
        rig.fault("drop_request", "order:place")
        intent, signed, _ = await sent(rig)
        rig.later(other.get("late", 0))
        if "early" not in other:
            rig.twin.control("foreign", foreign)
        rig.later(LIFE_MS / 1000 + 1)
        assert isinstance(await rig.venue_for().find(intent, stored(signed)), Rejected)


@pytest.mark.parametrize("named", [True, False])
async def test_an_order_that_was_replaced_is_followed_and_what_it_filled_counts(named: bool) -> None:
    async with schwab_rig() as rig:
        rig.fault("hold", times=2)
        intent, signed, _ = await sent(rig)
        (first,) = orders(rig)
        rig.twin.book.fill(first.order_id, Decimal(3))
        rig.twin.control("replace", {"order": first.order_id, "quantity": 7, "named": named})
        second = orders(rig)[1]
        found = so_far(await rig.venue_for().find(intent, stored(signed)))
        assert (found.ref, found.done_qty) == (str(first.order_id), Decimal(3))
        assert found.detail["orders"] == [str(first.order_id), str(second.order_id)]
        rig.twin.book.fill(second.order_id, Decimal(7))
        done = receipt_of(await rig.venue.find(intent, signed))
        assert done.done_qty == 10 and Decimal(done.detail["usd"]) == 10 * ASK


async def test_an_unknown_status_is_work_and_named() -> None:
    async with schwab_rig() as rig:
        rig.fault("status", word="PENDING_SOMETHING_NEW")
        intent, signed, outcome = await sent(rig)
        assert isinstance(outcome, Working)
        assert "PENDING_SOMETHING_NEW" in str(rig.client.oddities.words())
        other = await sent(rig, symbol="NVDA")
        assert isinstance(other[2], Confirmed)
        assert "PENDING_SOMETHING_NEW" in str(rig.client.oddities.words()), "another order does not end it"
        orders(rig)[0].shown_as = ""
        assert isinstance(await rig.venue.find(intent, signed), Confirmed)
        assert "PENDING_SOMETHING_NEW" not in str(rig.client.oddities.words())


async def test_shares_without_their_executions_wait_for_a_price_and_count_in_the_end() -> None:
    async with schwab_rig() as rig:
        rig.fault("field", "order:read", times=-1, path="orderActivityCollection", value=[])
        intent, signed, outcome = await sent(rig)
        assert so_far(outcome).done_qty == 0 and "not all executions" in outcome.reason  # type: ignore[union-attr]
        rig.later(LISTED_LATE_MS / 1000 + 1)
        late = receipt_of(await rig.venue.find(intent, signed))
        assert (late.done_qty, late.avg_price_usd) == (Decimal(10), None)
        assert "10.0 shares filled" in str(rig.client.oddities.words())


async def test_only_executions_make_a_price() -> None:
    async with schwab_rig() as rig:
        other = {"activityType": "ORDER_ACTION", "executionLegs": [{"quantity": 5, "price": 1, "time": None}]}
        rig.fault("odd_row", "order:read", times=-1, path="orderActivityCollection", row=other)
        assert receipt_of((await sent(rig))[2]).avg_price_usd == ASK


async def test_nothing_is_ever_sent_again() -> None:
    async with schwab_rig() as rig:
        rig.fault("drop_request", "order:place")
        intent, signed, _ = await sent(rig)
        assert isinstance(await rig.venue.resend(intent, signed), Unknown)
        assert rig.calls("order:place") == 1


async def test_an_order_that_waited_too_long_before_it_left_does_not_leave() -> None:
    async with schwab_rig() as rig:
        intent = rig.intent()
        signed = await rig.signed(intent)
        rig.later(61)
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        assert rig.calls("order:place") == 0


async def test_orders_that_no_settings_allow_are_refused_before_anything_leaves() -> None:
    async with schwab_rig() as rig:
        for changes in ({"qty": "1.5"}, {"qty": "0.5"}, {"qty": "501"}, {"symbol": "ZZZ"}, {"qty": "NaN"}):
            with pytest.raises(VenueRefused):
                await rig.venue.build(rig.bad_intent(**changes))
        intent = rig.intent()
        built = await rig.venue.build(intent)
        built.payload["body"] = built.payload["body"].replace('"quantity":10', '"quantity":11')
        with pytest.raises(VenueRefused):
            await rig.venue.sign(intent, built)
        assert rig.calls("order:place") == 0


async def test_the_twin_takes_whole_shares_only() -> None:
    async with schwab_rig() as rig:
        answer = await rig.client.place(
            rig.twin.book.hash_value,
            (await rig.signed(rig.intent())).wire.replace(":10,", ":1.5,"),  # type: ignore[union-attr]
        )
        assert isinstance(answer, Rejected) and "whole number" in answer.reason


async def test_429_has_us_wait_before_an_order_is_built_and_uses_up_nothing() -> None:
    async with schwab_rig() as rig:
        rig.fault("http_429", "order:place", retry_after="45")
        intent, signed, lost = await sent(rig)
        assert isinstance(lost, Unknown)
        asked = len(rig.running.faults.calls)
        with pytest.raises(Retryable, match="45 s"):
            await rig.venue.build(rig.intent())
        assert isinstance(await rig.venue.find(intent, signed), Unknown)
        assert len(rig.running.faults.calls) == asked, "nothing is asked while it has us wait"
        rig.later(46)
        assert receipt_of((await sent(rig, qty="2"))[2]).done_qty == 2


async def test_a_symbol_has_the_name_that_the_broker_gives_it() -> None:
    async with schwab_rig() as rig:
        rig.twin.market.prices["AMDX"] = Decimal(20)
        rig.venue = rig.venue_for(AMD="AMDX")
        assert receipt_of((await sent(rig))[2]).avg_price_usd == Decimal(20)
        assert set(await rig.venue.holdings()) == {"AMD"}
        assert await rig.venue.price("AMD") == 20 and (await rig.venue.asset("AMD")).symbol == "AMD"


async def test_without_a_login_nothing_is_built() -> None:
    async with schwab_rig() as rig:
        rig.store.rows.clear()
        with pytest.raises(OperatorError, match="evenkeel auth schwab"):
            await rig.venue_for().build(rig.intent())
