"""Orders on the twin: three outcomes, identical bytes executed once, partial fills, and the proof of
death."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from evenkeel.errors import OperatorError, Retryable, VenueRefused
from evenkeel.types import Confirmed, Rejected, Signed, Unknown
from tests.integration.hyperliquid_rig import ORDER_CALL, Rig, hyperliquid_rig
from venues.hyperliquid.orders import cloid_of


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with hyperliquid_rig() as found:
        yield found


def stored(signed: Signed) -> Signed:
    """What is left of an attempt after a restart: the key, through JSON that does not keep the order of its
    fields."""
    return Signed(key=json.loads(json.dumps(signed.key, sort_keys=True)), wire=None)


async def test_a_short_is_opened_within_the_bound_and_its_fills_carry_the_fees(rig: Rig) -> None:
    intent = rig.intent(size="12.345", bps="30")
    built = await rig.venue.build(intent)
    assert built.note["size"] == "12.34" and built.note["asset"] == 5
    mid, limit = Decimal(built.note["reference_px"]), Decimal(built.note["limit_px"])
    assert mid * (1 - Decimal("0.003")) <= limit < mid
    outcome = await rig.venue.send(intent, await rig.venue.sign(intent, built))
    assert isinstance(outcome, Confirmed)
    receipt = outcome.value
    assert receipt.done_qty == Decimal("12.34") == sum(fill.qty for fill in receipt.fills)
    assert receipt.avg_price_usd is not None and limit <= receipt.avg_price_usd <= mid
    fees = sum(fill.fee_usd for fill in receipt.fills)
    assert abs(fees - receipt.done_qty * receipt.avg_price_usd * Decimal("0.00045")) < Decimal("0.0001")
    assert all(fill.side == "sell" and fill.order_ref == receipt.detail["cloid"] for fill in receipt.fills)
    assert await rig.position() == Decimal("-12.34")


async def test_the_key_is_json_names_the_attempt_and_holds_no_secret(rig: Rig) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    key = json.loads(json.dumps(signed.key))
    assert key["cloid"] == cloid_of(intent.intent_id, key["nonce"]) and len(key["cloid"]) == 34
    assert key["expires_after"] == key["built_at_ms"] + 10_000
    assert json.loads(key["payload"])["action"]["orders"][0]["c"] == key["cloid"]
    assert "11" * 32 not in json.dumps(signed.key) and key["payload"] not in repr(signed)
    again = await rig.signed(intent)
    assert again.key["nonce"] > key["nonce"] and again.key["cloid"] != key["cloid"]


@pytest.mark.parametrize("kind", ["drop_answer", "http_500_after", "garbage"])
async def test_an_answer_lost_after_execution_is_unknown_and_then_found(rig: Rig, kind: str) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    rig.fault(kind)
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    found = await rig.venue.find(intent, stored(signed))
    assert isinstance(found, Confirmed) and found.value.done_qty == 10
    assert await rig.position() == -10 and rig.calls() == 1


@pytest.mark.parametrize("kind", ["drop_request", "http_500", "http_429"])
async def test_a_request_lost_before_execution_is_unknown_and_resent_with_the_same_bytes(
    rig: Rig, kind: str
) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    rig.fault(kind)
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    waiting = await rig.venue.find(intent, signed)
    assert isinstance(waiting, Unknown) and "may execute until" in waiting.reason
    resent = await rig.venue.resend(intent, stored(signed))
    assert isinstance(resent, Confirmed) and resent.value.done_qty == 10
    assert await rig.position() == -10


async def test_identical_bytes_execute_once(rig: Rig) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    rig.fault("drop_answer")
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    for _ in range(3):
        again = await rig.venue.resend(intent, stored(signed))
        assert isinstance(again, Confirmed) and again.value.done_qty == 10
    assert await rig.position() == -10 and rig.calls() == 4


async def test_a_second_send_of_an_executed_order_is_never_called_rejected(rig: Rig) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    assert isinstance(await rig.venue.send(intent, signed), Confirmed)
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    assert isinstance(await rig.venue.find(intent, signed), Confirmed)
    assert await rig.position() == -10


async def test_a_resent_close_is_found_although_nothing_is_left_to_reduce(rig: Rig) -> None:
    """The second copy could only hear that there is no position; that says nothing of the first."""
    await rig.done(rig.intent())
    close = rig.intent(is_buy=True, reduce_only=True)
    signed = await rig.signed(close)
    rig.fault("drop_answer")
    assert isinstance(await rig.venue.send(close, signed), Unknown)
    assert await rig.position() == 0
    rig.fault("reject", reason="Reduce only order would increase position.")
    resent = await rig.venue.resend(close, stored(signed))
    assert isinstance(resent, Confirmed) and resent.value.done_qty == 10


async def test_a_partial_fill_is_confirmed_with_what_was_done(rig: Rig) -> None:
    rig.fault("partial_fill", fraction="0.68")
    intent = rig.intent()
    signed = await rig.signed(intent)
    outcome = await rig.venue.send(intent, signed)
    assert isinstance(outcome, Confirmed)
    assert outcome.value.done_qty == Decimal("6.8") and outcome.value.detail["asked_qty"] == "10"
    found = await rig.venue.find(intent, stored(signed))
    assert isinstance(found, Confirmed) and found.value.fills == outcome.value.fills


async def test_a_partial_fill_whose_answer_is_lost_is_found_in_full(rig: Rig) -> None:
    rig.fault("partial_fill", fraction="0.68")
    rig.fault("drop_answer")
    intent = rig.intent()
    signed = await rig.signed(intent)
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    found = await rig.venue.find(intent, stored(signed))
    assert isinstance(found, Confirmed) and found.value.done_qty == Decimal("6.8")


async def test_a_refused_order_is_rejected_and_stays_rejected(rig: Rig) -> None:
    rig.fault("reject", reason="Insufficient margin to place order.")
    intent = rig.intent()
    signed = await rig.signed(intent)
    outcome = await rig.venue.send(intent, signed)
    assert isinstance(outcome, Rejected) and "Insufficient margin" in outcome.reason
    assert isinstance(await rig.venue.find(intent, signed), Rejected)
    assert await rig.position() == 0


@pytest.mark.parametrize("lost", [False, True])
async def test_an_order_that_matches_nothing_is_rejected(rig: Rig, lost: bool) -> None:
    rig.fault("no_liquidity")
    intent = rig.intent()
    signed = await rig.signed(intent)
    if lost:
        rig.fault("drop_answer")
        assert isinstance(await rig.venue.send(intent, signed), Unknown)
    else:
        sent = await rig.venue.send(intent, signed)
        assert isinstance(sent, Rejected) and "could not immediately match" in sent.reason
    found = await rig.venue.find(intent, signed)
    assert isinstance(found, Rejected) and found.reason.startswith("iocCancelRejected")


async def test_a_close_larger_than_the_position_that_matches_nothing_is_rejected_not_unknown(
    rig: Rig,
) -> None:
    """The venue shrinks it to the position first, so `sz` is below `origSz` without any fill."""
    await rig.done(rig.intent(size="5"))
    rig.fault("no_liquidity")
    close = rig.intent(is_buy=True, reduce_only=True, size="8")
    signed = await rig.signed(close)
    rig.fault("drop_answer")
    assert isinstance(await rig.venue.send(close, signed), Unknown)
    assert isinstance(await rig.venue.find(close, signed), Rejected)
    assert await rig.position() == -5


async def test_an_unseen_order_is_dead_only_after_its_expiry_and_the_grace(rig: Rig) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    rig.fault("drop_request")
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    rig.later(10.5)
    assert isinstance(await rig.venue.find(intent, signed), Unknown)
    rig.later(5)
    dead = await rig.venue.find(intent, stored(signed))
    assert isinstance(dead, Rejected) and "expired unseen" in dead.reason
    late = await rig.venue.resend(intent, stored(signed))
    assert isinstance(late, Rejected) and rig.calls() == 1
    assert await rig.position() == 0


async def test_the_venue_refuses_a_payload_after_its_expiry(rig: Rig) -> None:
    """The proof of death rests on this: the bytes themselves can no longer execute."""
    intent = rig.intent()
    signed = await rig.signed(intent)
    rig.later(16)
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    assert isinstance(await rig.venue.find(intent, signed), Rejected)
    assert await rig.position() == 0


async def test_an_expired_order_is_distinguished_from_another_order_that_moved_the_position(rig: Rig) -> None:
    lost = rig.intent(size="7")
    signed = await rig.signed(lost)
    rig.fault("drop_request")
    assert isinstance(await rig.venue.send(lost, signed), Unknown)
    await rig.done(rig.intent(size="3"))
    rig.later(16)
    dead = await rig.venue.find(lost, stored(signed))
    assert isinstance(dead, Rejected) and "-3" in dead.reason


async def test_an_order_hidden_by_a_lagging_index_is_never_declared_dead(rig: Rig) -> None:
    """The order filled, but record and fills show up long after its expiry: the position gives it away."""
    rig.fault("hidden_order", seconds=60)
    rig.fault("drop_answer")
    intent = rig.intent()
    signed = await rig.signed(intent)
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    rig.later(20)
    assert isinstance(await rig.venue.find(intent, signed), Unknown)
    rig.later(60)
    found = await rig.venue.find(intent, stored(signed))
    assert isinstance(found, Confirmed) and found.value.done_qty == 10


async def test_a_filled_answer_whose_fills_lag_is_unknown_until_they_are_listed(rig: Rig) -> None:
    rig.fault("hidden_order", seconds=60)
    intent = rig.intent()
    signed = await rig.signed(intent)
    sent = await rig.venue.send(intent, signed)
    assert isinstance(sent, Unknown) and "not listed yet" in sent.reason
    rig.later(60)
    assert isinstance(await rig.venue.find(intent, signed), Confirmed)


@pytest.mark.parametrize("call", ["info:orderStatus", "info:userFills.*", "info:clearinghouseState"])
async def test_a_lookup_that_cannot_read_is_unknown(rig: Rig, call: str) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    rig.fault("no_liquidity")
    assert isinstance(await rig.venue.send(intent, signed), Rejected)
    rig.fault("http_500", call, times=-1)
    assert isinstance(await rig.venue.find(intent, signed), Unknown)
    rig.plan.clear()
    assert isinstance(await rig.venue.find(intent, signed), Rejected)


async def test_reads_survive_short_trouble(rig: Rig) -> None:
    rig.fault("http_429", "info:.*", times=2)
    rig.fault("drop_answer", "info:.*", times=1)
    assert (await rig.done(rig.intent())).done_qty == 10


async def test_a_close_goes_out_by_the_mark_where_the_book_cannot_be_read_and_an_open_does_not(
    rig: Rig,
) -> None:
    await rig.done(rig.intent())
    rig.fault("http_500", "info:l2Book", times=-1)
    close = await rig.done(rig.intent(is_buy=True, reduce_only=True))
    assert close.done_qty == 10 and await rig.position() == 0
    with pytest.raises(Retryable, match="l2Book"):
        await rig.venue.build(rig.intent())


async def test_a_venue_that_does_not_answer_reads_is_retryable_and_nothing_is_sent(rig: Rig) -> None:
    rig.fault("drop_request", "info:.*", times=-1)
    with pytest.raises(Retryable):
        await rig.venue.build(rig.intent())
    assert rig.calls() == 0


async def test_what_cannot_be_ordered_is_refused_before_anything_is_sent(rig: Rig) -> None:
    with pytest.raises(VenueRefused, match="below the lot"):
        await rig.venue.build(rig.intent(size="0.009"))
    with pytest.raises(VenueRefused, match="minimum value"):
        await rig.venue.build(rig.intent(size="0.04"))
    with pytest.raises(VenueRefused, match="nothing to reduce"):
        await rig.venue.build(rig.intent(is_buy=True, reduce_only=True))
    with pytest.raises(OperatorError, match="lists no perpetual named 'NOPE'"):
        await rig.venue.build(rig.intent(coin="NOPE"))
    with pytest.raises(OperatorError, match="MATIC"):
        await rig.venue.build(rig.intent(coin="MATIC"))
    assert rig.calls() == 0


async def test_a_small_rest_may_be_closed_in_whole_but_not_in_part(rig: Rig) -> None:
    rig.world.overrides.sol_price = 200.0
    await rig.done(rig.intent(size="0.06"))
    rig.world.overrides.sol_price = 100.0
    with pytest.raises(VenueRefused, match="minimum value"):
        await rig.venue.build(rig.intent(is_buy=True, reduce_only=True, size="0.03"))
    receipt = await rig.done(rig.intent(is_buy=True, reduce_only=True, size="0.06"))
    assert receipt.done_qty == Decimal("0.06") and await rig.position() == 0


async def test_a_floor_of_the_strategy_is_respected(rig: Rig) -> None:
    intent = rig.intent(bps="100", limit_px="199.999")
    built = await rig.venue.build(intent)
    assert Decimal(built.note["limit_px"]) == Decimal("200")
    wide = await rig.venue.build(rig.intent(bps="10", limit_px="150"))
    assert Decimal(wide.note["limit_px"]) > 199


async def test_a_wallet_that_the_venue_does_not_know_is_rejected(rig: Rig) -> None:
    other = rig.venue_for(key="0x" + "77" * 32)
    intent = rig.intent()
    outcome = await other.send(intent, await other.sign(intent, await other.build(intent)))
    assert isinstance(outcome, Rejected) and "does not exist" in outcome.reason
    assert rig.calls(ORDER_CALL) == 1 and await rig.position() == 0


async def test_an_expired_close_is_distinguished_from_an_auto_deleveraging(rig: Rig) -> None:
    """The venue bought back a part meanwhile: a fill on our side, without a cloid, that is not ours."""
    await rig.done(rig.intent())
    close = rig.intent(is_buy=True, reduce_only=True)
    signed = await rig.signed(close)
    rig.fault("drop_request")
    assert isinstance(await rig.venue.send(close, signed), Unknown)
    rig.twin.control("adl", {"address": rig.address, "coin": "SOL", "fraction": "0.4"})
    rig.later(16)
    dead = await rig.venue.find(close, stored(signed))
    assert isinstance(dead, Rejected) and "-6.0 SOL" in dead.reason
    assert [fill.qty for fill in await rig.venue.fills(0)][-1] == 4


async def test_a_stale_position_proves_nothing_about_a_partial_fill(rig: Rig) -> None:
    rig.fault("partial_fill", fraction="0.5")
    rig.fault("drop_answer")
    intent = rig.intent()
    signed = await rig.signed(intent)
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    rig.fault("stale", "info:clearinghouseState", times=-1, age_s=120)
    assert isinstance(await rig.venue.find(intent, signed), Unknown)
    rig.plan.clear()
    found = await rig.venue.find(intent, signed)
    assert isinstance(found, Confirmed) and found.value.done_qty == 5


async def test_the_order_after_a_stale_position_read_is_still_accounted_for(rig: Rig) -> None:
    """The position at building time missed the fill of the order before; the fills name their own start."""
    await rig.done(rig.intent(size="4"))
    rig.later(0.05)
    lost = rig.intent(size="6")
    rig.fault("stale", "info:clearinghouseState", age_s=0.04)
    signed = await rig.signed(lost)
    lagging = Signed(key={**signed.key, "szi_before": "0"}, wire=None)
    rig.fault("drop_request")
    assert isinstance(await rig.venue.send(lost, lagging), Unknown)
    rig.later(16)
    assert isinstance(await rig.venue.find(lost, lagging), Rejected)


async def test_a_halted_venue_leaves_the_outcome_unknown_until_it_runs_again(rig: Rig) -> None:
    intent = rig.intent()
    signed = await rig.signed(intent)
    rig.twin.control("halt", {"mode": "502"})
    assert isinstance(await rig.venue.send(intent, signed), Unknown)
    rig.later(30)
    assert isinstance(await rig.venue.find(intent, signed), Unknown)
    rig.twin.control("resume", {})
    assert isinstance(await rig.venue.find(intent, signed), Rejected)
    assert await rig.position() == 0


async def test_a_venue_that_hangs_is_unknown_after_the_time_out() -> None:
    async with hyperliquid_rig(timeout_s=0.3) as rig:
        intent = rig.intent()
        signed = await rig.signed(intent)
        rig.twin.control("halt", {"mode": "timeout"})
        outcome = await rig.venue.send(intent, signed)
        assert isinstance(outcome, Unknown) and "ReadTimeout" in outcome.reason
        rig.twin.control("resume", {})
        assert isinstance(await rig.venue.resend(intent, signed), Confirmed)
        assert await rig.position() == -10


async def test_after_an_upgrade_every_ioc_is_rejected_and_not_retried_as_unknown(rig: Rig) -> None:
    rig.twin.control("post_only", {"on": True})
    intent = rig.intent()
    outcome = await rig.venue.send(intent, await rig.signed(intent))
    assert isinstance(outcome, Rejected) and "post-only" in outcome.reason
