"""The dry run: what became of an order is a function of its key, whoever asks and however often."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest

from evenkeel.errors import Retryable, VenueRefused
from evenkeel.types import Confirmed, IntentSpec, Signed
from tests.databases import ManualClock
from venues.broker_rules import OrderRules, decimals_of, text_of
from venues.dry_run.venue import CAPABILITIES, DryRunVenue

D = Decimal


class Prices:
    usd: Decimal | None = D("187.55")

    async def of(self, symbol: str) -> Decimal | None:
        return self.usd


def venue(prices: Prices, clock: ManualClock) -> DryRunVenue:
    rules = OrderRules({"AAPL": D(50)}, CAPABILITIES)
    return DryRunVenue(
        rules, prices.of, clock, cash=lambda: D(5000), held=lambda: {"AAPL": D(3), "MSFT": D(0)}
    )


def intent(qty: str = "1.5", side: str = "sell") -> IntentSpec:
    order = {"symbol": "AAPL", "side": side, "qty": qty, "marked_ms": 1}
    return IntentSpec(
        intent_id="h-1",
        business="hedging",
        subject="AAPL",
        venue="dry-run",
        kind="hedge",
        step=1,
        order=order,
    )


async def test_the_key_alone_says_what_was_done_at_which_price_and_when() -> None:
    prices, clock = Prices(), ManualClock()
    first = venue(prices, clock)
    signed = await first.sign(intent(), await first.build(intent()))
    stored = Signed(key=json.loads(json.dumps(signed.key)), wire=None)
    at_ms = clock.now_ms()
    prices.usd, clock.ms = D(1), clock.ms + 86_400_000
    after = venue(prices, clock)
    answers = [await after.find(intent(), stored), await first.send(intent(), signed)]
    answers += [await after.resend(intent(), stored), await after.find(intent(), stored)]
    assert all(one == answers[0] for one in answers)
    (found, *_) = answers
    assert isinstance(found, Confirmed)
    receipt = found.value
    assert (receipt.done_qty, receipt.avg_price_usd, receipt.settled_ms) == (D("1.5"), D("187.55"), at_ms)
    assert receipt.ref == signed.key["client_order_id"] and "h-1" in receipt.ref


async def test_without_a_price_there_is_no_order() -> None:
    prices = Prices()
    prices.usd = None
    with pytest.raises(Retryable, match="no price"):
        await venue(prices, ManualClock()).build(intent())


async def test_it_is_always_open_also_when_clocks_change() -> None:
    days = (await venue(Prices(), ManualClock()).calendar(date(2026, 3, 7), date(2026, 3, 9))).sessions
    assert [(one.close_ms - one.open_ms) // 3_600_000 for one in days] == [24, 23, 24]
    assert [one.close_ms for one in days[:2]] == [one.open_ms for one in days[1:]]


async def test_it_has_what_it_is_given_and_takes_only_what_the_rules_allow() -> None:
    on = venue(Prices(), ManualClock())
    assert await on.cash() == 5000 and {name: one.qty for name, one in (await on.holdings()).items()} == {
        "AAPL": 3
    }
    assert (await on.asset("AAPL")).fractionable
    for order in (intent(qty="51"), intent(qty="0.1234567891"), intent(side="hold")):
        with pytest.raises(VenueRefused):
            await on.build(order)
    built = await on.build(intent())
    built.payload["qty"] = "40"
    with pytest.raises(VenueRefused, match="the payload's qty"):
        await on.sign(intent(), built)


@pytest.mark.parametrize(
    ("qty", "text", "places"),
    [
        ("100", "100", 0),
        ("1E-9", "0.000000001", 9),
        ("1.500", "1.5", 1),
        ("1E+2", "100", 0),
        ("0.10", "0.1", 1),
    ],
)
def test_a_quantity_is_written_without_exponent_and_counted_without_zeros(
    qty: str, text: str, places: int
) -> None:
    assert (text_of(D(qty)), decimals_of(D(qty))) == (text, places)
