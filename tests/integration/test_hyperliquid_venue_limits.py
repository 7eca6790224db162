"""Many orders and many reads at once: nonces never collide, and the request budget keeps clear of the venue's limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from evenkeel.types import Confirmed, Rejected
from tests.integration.hyperliquid_rig import Rig, hyperliquid_rig
from venues.hyperliquid.client import HyperliquidClient


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with hyperliquid_rig() as found:
        yield found


async def test_orders_signed_at_once_never_collide(rig: Rig) -> None:
    """One signer, two venue objects, twenty orders in flight: every nonce is used once."""
    other = rig.venue_for()
    intents = [rig.intent(size="1") for _ in range(20)]
    signed = [
        await (rig.venue, other)[n % 2].sign(one, await rig.venue.build(one)) for n, one in enumerate(intents)
    ]
    pairs = list(zip(intents, signed, strict=True))
    outcomes = await asyncio.gather(*(rig.venue.send(one, key) for one, key in pairs))
    assert all(isinstance(one, Confirmed) for one in outcomes), outcomes
    assert await rig.position() == -20
    found = [await other.find(one, key) for one, key in pairs]
    assert all(isinstance(one, Confirmed) and one.value.done_qty == 1 for one in found)


async def test_the_default_budget_keeps_clear_of_the_limit_of_the_venue() -> None:
    async with hyperliquid_rig() as rig:
        rig.twin.ip_weight_per_minute = 1200
        async with HyperliquidClient(rig.url, rig.clock) as client:
            for _ in range(75):
                await client.meta()
            found = await client.funding_history("SOL", rig.world.now_ms() - 1000 * 3_600_000)
        assert len(found) > 900
        assert rig.calls("info:meta") == 75


@pytest.mark.parametrize("call", ["info:orderStatus", "info:userFillsByTime"])
async def test_one_answer_of_the_venue_is_not_needed_to_prove_an_order(rig: Rig, call: str) -> None:
    """What was filled shows in the other list of fills, and without a record in the fills that carry our cloid."""
    rig.fault("http_500", call, times=-1)
    done = rig.intent()
    signed = await rig.signed(done)
    rig.fault("drop_answer", "exchange:order", times=1)
    await rig.venue.send(done, signed)
    found = await rig.venue.find(done, signed)
    assert isinstance(found, Confirmed) and found.value.done_qty == 10

    rig.fault("no_liquidity")
    refused = rig.intent()
    signed = await rig.signed(refused)
    await rig.venue.send(refused, signed)
    rig.later(60)
    assert isinstance(await rig.venue.find(refused, signed), Rejected)
