"""What `venues/protocol.py` asks of an adapter, run over every one of them: what the twin shows is what counts."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from inspect import iscoroutinefunction

import pytest

from evenkeel.errors import OperatorError, VenueRefused
from evenkeel.legs import Capabilities, LegView
from evenkeel.types import (
    Built,
    Confirmed,
    IntentSpec,
    Outcome,
    Receipt,
    Rejected,
    Signed,
    Unknown,
    VenueName,
    Working,
)
from tests.conformance.adapter import Adapter
from tests.conformance.adapters import ADAPTERS, LotAdapter
from tests.second_business import LotVenue
from venues.protocol import OrderVenue

TIMES_ASKED = 40
"""How often an attempt is asked about within the time that its proof may take."""
ORDER_METHODS = ("build", "sign", "send", "find", "resend")

each = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda one: str(one.name))
each_that_can_lose = pytest.mark.parametrize(
    "adapter", [one for one in ADAPTERS if one.lost_requests], ids=lambda one: str(one.name)
)
"""Every adapter but those that have nothing between them and their books."""


def each_fault(which: str) -> pytest.MarkDecorator:
    """Every adapter with each of its own faults of one kind."""
    pairs = [(one, fault) for one in ADAPTERS for fault in getattr(one, which)]
    names = [f"{one.name}-{fault}" for one, fault in pairs]
    return pytest.mark.parametrize(("adapter", "fault"), pairs, ids=names)


async def signed_order(on: Adapter) -> tuple[IntentSpec, Signed]:
    intent = await on.order()
    return intent, await on.venue.sign(intent, await on.venue.build(intent))


def stored(signed: Signed) -> Signed:
    """What a restart leaves of an attempt: its key, as the ledger gives it back."""
    return Signed(key=json.loads(json.dumps(signed.key, sort_keys=True)), wire=None)


async def confirmed(on: Adapter, venue: OrderVenue, intent: IntentSpec, signed: Signed) -> Receipt:
    """Ask until it is confirmed. On the way it may be unknown or worked on, and is never called rejected."""
    for _ in range(TIMES_ASKED):
        found = await venue.find(intent, signed)
        if isinstance(found, Confirmed):
            return found.value
        assert isinstance(found, Unknown | Working), found
        if isinstance(found, Working):
            assert found.ask_after_s > 0 and found.reason
        await on.later(on.done_after_s / (TIMES_ASKED - 2))
    raise AssertionError(f"not confirmed within {on.done_after_s} s")


async def rejected(on: Adapter, venue: OrderVenue, intent: IntentSpec, signed: Signed) -> str:
    """Ask until it is rejected, and return the proof. The first answer must not be that yet."""
    for asked in range(TIMES_ASKED):
        found = await venue.find(intent, signed)
        if isinstance(found, Rejected):
            assert asked > 0, "called dead while its bytes could still be executed"
            return found.reason
        assert isinstance(found, Unknown), found
        await on.later(on.dead_after_s / (TIMES_ASKED - 2))
    raise AssertionError(f"not proved dead within {on.dead_after_s} s")


def test_every_venue_of_the_product_is_here() -> None:
    assert {*VenueName} <= {one.name for one in ADAPTERS}


@each
async def test_it_has_every_method_and_a_known_name(adapter: type[Adapter]) -> None:
    async with adapter.opened() as on:
        intent = await on.order()
        assert on.venue.name == adapter.name == intent.venue
        assert on.restarted().name == on.venue.name
        for name in ORDER_METHODS:
            assert iscoroutinefunction(getattr(on.venue, name)), name


@each
async def test_a_venue_of_legs_declares_what_it_can_do_with_them(adapter: type[Adapter]) -> None:
    async with adapter.opened() as on:
        legs, capabilities = getattr(on.venue, "legs", None), getattr(on.venue, "capabilities", None)
        assert (legs is None) == (not isinstance(capabilities, Capabilities))
        if legs is None:
            return
        assert isinstance(capabilities, Capabilities)
        assert await legs() == []
        intent, signed = await signed_order(on)
        await on.venue.send(intent, signed)
        receipt = await confirmed(on, on.venue, intent, signed)
        (leg,) = await legs()
        assert isinstance(leg, LegView)
        assert (leg.venue, leg.side) == (on.venue.name, intent.part)
        assert abs(leg.qty / receipt.done_qty - 1) < Decimal("0.001")


@each
async def test_a_venue_of_legs_says_whether_one_can_be_closed_and_does_nothing(
    adapter: type[Adapter],
) -> None:
    async with adapter.opened() as on:
        can_close = getattr(on.venue, "can_close", None)
        assert (can_close is None) == (getattr(on.venue, "legs", None) is None)
        if can_close is None:
            return
        intent, signed = await signed_order(on)
        await on.venue.send(intent, signed)
        await confirmed(on, on.venue, intent, signed)
        (leg,) = await on.venue.legs()  # type: ignore[attr-defined]
        order = await on.closing_order(leg)
        before = on.state(), on.sent()
        said = await can_close(order)
        assert said.provable and not said.reason, said
        said = await can_close(order | {"size": "0", "position_pda": "nobody"})
        assert not said.provable and said.answered and "\n" not in said.reason, said
        on.cut_off()
        said = await can_close(order)
        assert not said.provable and not said.answered and said.reason, said
        assert (on.state(), on.sent()) == before


@each
async def test_a_bad_order_is_refused_and_nothing_has_happened(adapter: type[Adapter]) -> None:
    async with adapter.opened() as on:
        before = on.state()
        for what, intent in (await on.bad_orders()).items():
            with pytest.raises((VenueRefused, OperatorError)) as refused:
                await on.venue.build(intent)
            assert "\n" not in str(refused.value), what
        assert (on.state(), on.sent()) == (before, [])


@each
async def test_building_and_signing_have_no_effect(adapter: type[Adapter]) -> None:
    async with adapter.opened() as on:
        before = on.state()
        intent = await on.order()
        built = await on.venue.build(intent)
        json.dumps(built.note)
        signed = await on.venue.sign(intent, built)
        assert (on.state(), on.sent()) == (before, [])
        assert signed.wire is not None


@each
async def test_the_key_is_json_names_one_attempt_and_holds_no_secret(adapter: type[Adapter]) -> None:
    async with adapter.opened() as on:
        intent, first = await signed_order(on)
        await on.later(1)
        second = await on.venue.sign(intent, await on.venue.build(intent))
        assert stored(first).key == first.key
        assert first.key != second.key
        for shown in (json.dumps(first.key), repr(first), repr(on.venue)):
            assert not on.secret or on.secret not in shown


@each
async def test_an_order_is_executed_once_and_the_receipt_says_what_was_done(adapter: type[Adapter]) -> None:
    async with adapter.opened() as on:
        intent, signed = await signed_order(on)
        answer = await on.venue.send(intent, signed)
        assert isinstance(answer, Confirmed | Working), answer
        receipt = await confirmed(on, on.venue, intent, signed)
        assert isinstance(answer, Working) or answer.value.fills == receipt.fills
        assert type(receipt).model_validate(json.loads(receipt.model_dump_json())) == receipt
        assert receipt.done_qty > 0
        if on.names_fills:
            assert receipt.done_qty == sum(fill.qty for fill in receipt.fills)
            assert {fill.venue for fill in receipt.fills} == {on.venue.name}
        else:
            price = receipt.avg_price_usd
            assert receipt.fills == [] and (
                price is not None and price > 0 if on.has_price else price is None
            )
            assert receipt.done_qty == on.asked(intent)
        assert on.executed() == 1
        assert len(set(on.sent())) == 1


@each_fault("lost_answers")
async def test_a_lost_answer_is_unknown_and_a_restarted_process_finds_what_happened(
    adapter: type[Adapter], fault: str
) -> None:
    async with adapter.opened() as on:
        intent, signed = await signed_order(on)
        on.disturb(fault)
        answer = await on.venue.send(intent, signed)
        assert isinstance(answer, Unknown) and answer.reason
        on.heal()
        receipt = await confirmed(on, on.restarted(), intent, stored(signed))
        assert receipt.done_qty > 0
        assert on.executed() == 1
        assert len(set(on.sent())) == 1


@each_fault("lost_requests")
async def test_a_lost_request_is_unknown_until_it_is_dead_and_then_rejected_with_the_proof(
    adapter: type[Adapter], fault: str
) -> None:
    async with adapter.opened() as on:
        before = on.state()
        intent, signed = await signed_order(on)
        on.disturb(fault)
        answer = await on.venue.send(intent, signed)
        assert isinstance(answer, Unknown) and answer.reason
        on.heal()
        assert len(await rejected(on, on.restarted(), intent, stored(signed))) > 10, "the proof, in words"
        assert isinstance(await on.venue.resend(intent, signed), Rejected | Unknown)
        await on.later(on.done_after_s)
        assert isinstance(await on.venue.find(intent, signed), Rejected)
        assert (on.state(), on.executed()) == (before, 0)


@each_fault("lost_requests")
async def test_the_same_bytes_are_sent_again_and_executed_once(adapter: type[Adapter], fault: str) -> None:
    async with adapter.opened() as on:
        intent, signed = await signed_order(on)
        on.disturb(fault)
        assert isinstance(await on.venue.send(intent, signed), Unknown)
        on.heal()
        assert on.executed() == 0
        if not on.resends:
            assert isinstance(await on.venue.resend(intent, signed), Unknown)
            assert (on.executed(), len(on.sent())) == (0, 1), "a copy would be a second order"
            return
        assert isinstance(await on.venue.resend(intent, signed), Confirmed | Working)
        await confirmed(on, on.venue, intent, signed)
        again = await on.venue.resend(intent, signed)
        assert not isinstance(again, Rejected), "what refuses a copy says nothing of the first"
        await on.later(on.done_after_s)
        assert on.executed() == 1
        assert len(on.sent()) >= 2 and len(set(on.sent())) == 1


@each_fault("lost_answers")
async def test_what_was_executed_is_never_called_rejected_however_late_it_is_asked(
    adapter: type[Adapter], fault: str
) -> None:
    async with adapter.opened() as on:
        intent, signed = await signed_order(on)
        on.disturb(fault)
        assert isinstance(await on.venue.send(intent, signed), Unknown)
        on.heal()
        await on.later(on.dead_after_s)
        assert not isinstance(await on.venue.resend(intent, signed), Rejected)
        await confirmed(on, on.restarted(), intent, stored(signed))
        assert on.executed() == 1


@each_that_can_lose
async def test_without_its_bytes_nothing_new_is_sent(adapter: type[Adapter]) -> None:
    """After a restart only the key is left: the same bytes go again where it holds them, else none do."""
    async with adapter.opened() as on:
        intent, signed = await signed_order(on)
        on.disturb(adapter.lost_requests[0])
        assert isinstance(await on.venue.send(intent, signed), Unknown)
        on.heal()
        before = on.sent()
        answer = await on.restarted().resend(intent, stored(signed))
        assert set(on.sent()) == set(before)
        if on.sent() == before:
            assert isinstance(answer, Unknown) and on.executed() == 0
        else:
            await confirmed(on, on.venue, intent, signed)
            assert on.executed() == 1


@each_that_can_lose
async def test_a_venue_that_cannot_be_asked_makes_it_unknown(adapter: type[Adapter]) -> None:
    async with adapter.opened() as on:
        intent, signed = await signed_order(on)
        on.disturb(adapter.lost_answers[0])
        assert isinstance(await on.venue.send(intent, signed), Unknown)
        on.heal()
        on.cut_off()
        for ask in (on.venue.find, on.venue.resend):
            answer = await ask(intent, signed)
            assert isinstance(answer, Unknown) and answer.reason
        on.heal()
        await confirmed(on, on.restarted(), intent, stored(signed))
        assert on.executed() == 1


class RaisesWhenLost(LotVenue):
    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        self.exchange.place(signed.key["client_id"], Decimal(1), signed.key["expires_ms"])
        return Unknown("not reached when the answer is lost")


class SignsAgain(LotVenue):
    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        await self._clock.sleep(1)
        return await self.send(intent, await self.sign(intent, await self.build(intent)))


class GivesUpEarly(LotVenue):
    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        found = await super().find(intent, signed)
        return Rejected("the exchange has no such order") if isinstance(found, Unknown) else found


class BelievesTheCopy(LotVenue):
    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return await self.send(intent, signed)


class ForgetsTheExpiry(LotVenue):
    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        signed = await super().sign(intent, built)
        self._expires_ms = signed.key.pop("expires_ms")
        return signed

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return await super().send(intent, self._whole(signed))

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return await super().find(intent, self._whole(signed))

    def _whole(self, signed: Signed) -> Signed:
        return Signed({**signed.key, "expires_ms": self._expires_ms}, signed.wire)


@pytest.mark.parametrize(
    ("venue", "test", "fault"),
    [
        (
            RaisesWhenLost,
            test_a_lost_answer_is_unknown_and_a_restarted_process_finds_what_happened,
            "drop_answer",
        ),
        (SignsAgain, test_the_same_bytes_are_sent_again_and_executed_once, "drop_request"),
        (
            GivesUpEarly,
            test_a_lost_request_is_unknown_until_it_is_dead_and_then_rejected_with_the_proof,
            "drop_request",
        ),
        (
            BelievesTheCopy,
            test_what_was_executed_is_never_called_rejected_however_late_it_is_asked,
            "drop_answer",
        ),
        (
            ForgetsTheExpiry,
            test_a_lost_request_is_unknown_until_it_is_dead_and_then_rejected_with_the_proof,
            "drop_request",
        ),
    ],
)
async def test_the_suite_finds_what_it_is_for(
    venue: type[LotVenue], test: Callable[[type[Adapter], str], Awaitable[None]], fault: str
) -> None:
    class Broken(LotAdapter):
        venue_type = venue

    with pytest.raises((AssertionError, TimeoutError, AttributeError)):
        await test(Broken, fault)
