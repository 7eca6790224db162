"""The adapter before Alpaca's twin: what was ordered once is there once, and only proof makes an order dead."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import Retryable, VenueRefused
from evenkeel.types import Confirmed, Rejected, Signed, Unknown, Working
from tests.alpaca_rig import PLACE, AlpacaRig, alpaca_rig
from venues.alpaca.client import Access

D = Decimal
both = pytest.mark.parametrize("is_broker", [False, True], ids=["trading", "broker"])


async def confirmed(rig: AlpacaRig, **order: str) -> Confirmed:  # type: ignore[type-arg]
    """An order that nothing disturbs, asked about until it is filled."""
    intent, signed = await rig.signed(**order)
    assert isinstance(await rig.venue.send(intent, signed), Working)
    rig.later(1)
    found = await rig.venue.find(intent, signed)
    assert isinstance(found, Confirmed), found
    return found


@both
async def test_an_order_is_accepted_then_filled_and_cash_and_shares_follow(is_broker: bool) -> None:
    async with alpaca_rig(is_broker=is_broker) as rig:
        before = await rig.venue.cash()
        found = await confirmed(rig, qty="0.123456789")
        receipt = found.value
        assert receipt.done_qty == D("0.123456789") and receipt.avg_price_usd == D("260.06")
        assert receipt.fills == [] and receipt.detail["status"] == "filled"
        assert await rig.venue.cash() == before - receipt.done_qty * D("260.06")
        assert {name: one.qty for name, one in (await rig.venue.holdings()).items()} == {
            "AAPL": D("0.123456789")
        }
        sold = (await confirmed(rig, side="sell", qty="0.1")).value
        assert sold.avg_price_usd == D("259.94")
        assert (await rig.venue.holdings())["AAPL"].qty == D("0.023456789")
        assert rig.calls(PLACE) == 2


async def test_a_part_is_working_and_what_was_filled_before_a_cancel_is_confirmed() -> None:
    async with alpaca_rig() as rig:
        rig.fault("partial", fraction="0.4", then="cancel", after_s=20)
        intent, signed = await rig.signed()
        await rig.venue.send(intent, signed)
        rig.later(1)
        found = await rig.venue.find(intent, signed)
        assert isinstance(found, Working) and found.so_far is not None and found.so_far.done_qty == 4
        rig.later(30)
        found = await rig.venue.find(intent, signed)
        assert isinstance(found, Confirmed) and found.value.done_qty == 4
        assert found.value.detail["status"] == "canceled"


@pytest.mark.parametrize("kind", ["reject", "cancel_unfilled"])
async def test_an_end_with_nothing_filled_is_rejected_and_seen(kind: str) -> None:
    async with alpaca_rig() as rig:
        rig.fault(kind)
        intent, signed = await rig.signed()
        await rig.venue.send(intent, signed)
        rig.later(1)
        found = await rig.venue.find(intent, signed)
        assert isinstance(found, Rejected) and found.seen


async def test_more_than_was_asked_for_is_what_was_filled() -> None:
    async with alpaca_rig() as rig:
        rig.fault("overfill", factor="1.1")
        assert (await confirmed(rig)).value.done_qty == 11


async def test_a_status_that_nobody_knows_is_working_and_named_until_it_is_one_again() -> None:
    async with alpaca_rig() as rig:
        rig.fault("odd_status", status="in_dreams")
        intent, signed = await rig.signed()
        answer = await rig.venue.send(intent, signed)
        assert isinstance(answer, Working) and "in_dreams" in answer.reason and answer.ask_after_s >= 60
        assert "in_dreams" in rig.client.oddities.words()["alpaca order of AAPL"]
        other, other_signed = await rig.signed(symbol="MSFT")
        await rig.venue.send(other, other_signed)
        assert await rig.venue.seen_orders(0, with_open=True) and await rig.client.open_orders() is not None
        assert "in_dreams" in rig.client.oddities.words()["alpaca order of AAPL"], (
            "nothing else says that it is over"
        )
        rig.account.orders[0].shown = None
        assert isinstance(await rig.venue.find(intent, signed), Confirmed)
        assert rig.client.oddities.words()["alpaca order of AAPL"] == ""


async def test_a_suspended_order_is_not_dead() -> None:
    async with alpaca_rig() as rig:
        rig.fault("suspend", seconds=3600)
        intent, signed = await rig.signed()
        await rig.venue.send(intent, signed)
        rig.later(600)
        assert isinstance(await rig.venue.find(intent, signed), Working)
        rig.later(3600)
        assert isinstance(await rig.venue.find(intent, signed), Confirmed)


async def test_an_order_that_was_replaced_is_followed() -> None:
    async with alpaca_rig() as rig:
        rig.fault("replace")
        intent, signed = await rig.signed()
        await rig.venue.send(intent, signed)
        rig.later(1)
        await rig.client.cash()
        rig.later(1)
        found = await rig.venue.find(intent, signed)
        assert isinstance(found, Confirmed) and found.value.done_qty == 10
        assert found.value.ref == rig.account.orders[1].id


async def test_an_order_that_was_replaced_half_way_is_for_the_operator() -> None:
    async with alpaca_rig() as rig:
        rig.fault("replace", fraction="0.3")
        intent, signed = await rig.signed()
        await rig.venue.send(intent, signed)
        for _ in range(2):
            rig.later(1)
            await rig.client.cash()
        found = await rig.venue.find(intent, signed)
        assert isinstance(found, Working) and "operator decides" in found.reason


async def test_a_duplicate_is_adopted() -> None:
    async with alpaca_rig() as rig:
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Working)
        assert isinstance(await rig.venue.send(intent, signed), Confirmed | Working)
        assert len(rig.account.orders) == 1


async def test_a_refusal_of_an_order_that_was_placed_all_the_same_is_not_believed() -> None:
    async with alpaca_rig() as rig:
        rig.fault("refuse", message="internal wonder", recorded=True)
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Confirmed | Working)
        assert len(rig.account.orders) == 1


async def test_a_duplicate_that_is_not_shown_is_unknown() -> None:
    async with alpaca_rig() as rig:
        rig.fault("refuse", code=40010001, message="client_order_id must be unique")
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Unknown)


@pytest.mark.parametrize(
    ("order", "meaning"),
    [
        ({"qty": "0.001"}, "below the least order"),
        ({"side": "sell", "qty": "0.5"}, "may not sell short"),
        ({"side": "sell", "qty": "5"}, "may not sell short"),
        ({"symbol": "TSLA", "qty": "1000"}, "not enough buying power"),
    ],
)
async def test_a_refusal_says_what_it_means(order: dict[str, str], meaning: str) -> None:
    async with alpaca_rig() as rig:
        rig.account.cash = D(1000)
        intent, signed = await rig.signed(**order)
        found = await rig.venue.send(intent, signed)
        assert isinstance(found, Rejected) and meaning in found.reason and not found.seen
        assert rig.account.orders == []


async def test_an_order_that_cannot_be_processed_is_asked_for_twice_before_the_refusal_is_believed() -> None:
    async with alpaca_rig() as rig:
        rig.account.fractional = False
        intent, signed = await rig.signed(qty="1.5")
        found = await rig.venue.send(intent, signed)
        assert isinstance(found, Rejected) and "whole shares" in found.reason
        assert rig.calls("orders:by_client_id") == 2


async def test_a_404_of_a_proxy_proves_nothing() -> None:
    async with alpaca_rig() as rig:
        intent, signed = await rig.signed()
        rig.fault("one_endpoint", PLACE, how="404")
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        rig.fault("one_endpoint", "orders:by_client_id", times=-1, how="404")
        for _ in range(3):
            rig.later(60)
            assert isinstance(await rig.venue.find(intent, signed), Unknown)


async def test_that_it_is_not_there_is_no_proof_while_it_may_be_on_its_way_and_then_only_twice() -> None:
    async with alpaca_rig() as rig:
        intent, signed = await rig.signed()
        rig.fault("drop_request", PLACE)
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        rig.later(29)
        assert isinstance(await rig.venue.find(intent, signed), Unknown)
        assert rig.calls("orders:by_client_id") == 1
        rig.later(2)
        before_ms = rig.clock.now_ms()
        found = await rig.venue.find(intent, signed)
        assert isinstance(found, Rejected) and "asked twice" in found.reason
        assert rig.calls("orders:by_client_id") == 3 and rig.clock.now_ms() >= before_ms + 2000


async def test_an_order_that_is_found_by_the_second_answer_is_not_dead() -> None:
    async with alpaca_rig() as rig:
        rig.fault("hidden", seconds=32)
        rig.fault("drop_answer", PLACE)
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        rig.later(31)
        assert isinstance(await rig.venue.find(intent, signed), Confirmed)


async def test_an_order_that_is_shown_late_is_not_called_dead() -> None:
    async with alpaca_rig() as rig:
        rig.fault("hidden", seconds=25)
        rig.fault("drop_answer", PLACE)
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        for _ in range(24):
            rig.later(1)
            assert isinstance(await rig.venue.find(intent, signed), Unknown)
        rig.later(2)
        assert isinstance(await rig.venue.find(intent, signed), Confirmed)


async def test_bytes_do_not_leave_once_they_may_be_called_dead() -> None:
    async with alpaca_rig() as rig:
        intent, signed = await rig.signed()
        rig.later(16)
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        assert rig.calls(PLACE) == 0


async def test_a_limit_is_back_pressure_for_every_call_until_it_is_over() -> None:
    async with alpaca_rig() as rig:
        rig.fault("rate_limited", "account", headers={"retry-after": "30"})
        with pytest.raises(Retryable, match=r"30\.0 s"):
            await rig.venue.cash()
        with pytest.raises(Retryable, match="fewer calls"):
            await rig.venue.build(rig.intent())
        assert rig.calls("account") == 1
        rig.later(31)
        assert await rig.venue.cash() > 0


async def test_a_limit_may_be_named_by_its_reset_or_not_at_all() -> None:
    async with alpaca_rig() as rig:
        reset = rig.clock.now_ms() // 1000 + 20
        rig.fault("rate_limited", "account", headers={"x-ratelimit-reset": str(reset)})
        with pytest.raises(Retryable, match=r"again in (19|20)\."):
            await rig.venue.cash()
        rig.later(21)
        assert await rig.venue.cash() > 0
        for wait in ("1.0", "2.0"):
            rig.fault("rate_limited", "account", headers={})
            with pytest.raises(Retryable, match=rf"again in {wait} s"):
                await rig.venue.cash()
        assert await rig.venue.cash() > 0, "a short pause is waited for"


async def test_a_limit_on_a_placement_leaves_it_unknown_until_the_same_bytes_go_again() -> None:
    async with alpaca_rig() as rig:
        rig.fault("rate_limited", PLACE, headers={"retry-after": "2"})
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        assert isinstance(await rig.venue.resend(intent, signed), Working)
        assert len(rig.account.orders) == 1


async def test_an_order_of_a_closed_night_is_accepted_and_filled_at_the_open() -> None:
    async with alpaca_rig() as rig:
        rig.later(10 * 3600)  # 20:00 in New York
        intent, signed = await rig.signed()
        answer = await rig.venue.send(intent, signed)
        assert isinstance(answer, Working) and "accepted" in answer.reason
        rig.later(3600)
        found = await rig.venue.find(intent, signed)
        assert isinstance(found, Working) and found.ask_after_s == 60
        rig.later(13 * 3600)
        assert isinstance(await rig.venue.find(intent, signed), Confirmed)


@both
async def test_a_wrong_key_is_a_refusal_and_is_shown_nowhere(is_broker: bool) -> None:
    async with alpaca_rig(is_broker=is_broker) as rig:
        secret = "not-the-secret-of-anybody"
        intent, signed = await rig.signed()
        rig.client.access = Access("PKNOBODY", secret, rig.client.access.account_id)
        found = await rig.venue.send(intent, signed)
        assert isinstance(found, Rejected) and "key may not" in found.reason
        with pytest.raises(VenueRefused) as refused:
            await rig.venue.cash()
        for shown in (
            str(refused.value),
            found.reason,
            repr(rig.client),
            repr(rig.client.access),
            repr(rig.venue),
        ):
            assert secret not in shown


async def test_a_key_that_is_not_let_in_for_a_moment_loses_nothing() -> None:
    async with alpaca_rig() as rig:
        rig.fault("unauthorized", PLACE)
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Rejected)
        intent, signed = await rig.signed()
        await rig.venue.send(intent, signed)
        rig.fault("unauthorized", "orders:by_client_id", times=2)
        for _ in range(2):
            assert isinstance(await rig.venue.find(intent, signed), Unknown)
        assert isinstance(await rig.venue.find(intent, signed), Confirmed)


async def test_a_403_in_words_that_nobody_knows_is_asked_about() -> None:
    async with alpaca_rig() as rig:
        rig.fault("refuse", status=403, code=40310000, message="something new", recorded=True)
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Confirmed | Working)
        rig.fault("refuse", status=403, code=40310000, message="something new")
        intent, signed = await rig.signed()
        found = await rig.venue.send(intent, signed)
        assert isinstance(found, Rejected) and "something new" in found.reason


async def test_another_process_finds_an_order_by_its_key_alone() -> None:
    async with alpaca_rig() as rig:
        rig.fault("http_500_after", PLACE)
        intent, signed = await rig.signed()
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
        other = rig.new_venue()
        key_alone = Signed(key=signed.key, wire=None)
        assert isinstance(await other.resend(intent, key_alone), Unknown)
        assert isinstance(await other.find(intent, key_alone), Confirmed)
        assert rig.calls(PLACE) == 1
