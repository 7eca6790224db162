"""What an entry is refused for on figures of the last moment: prices, fees, funding, and room above the exit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import CARRY
from flows.carry.exit import ExitRequest, exit_position
from tests.carry.rig import OPEN_SUBMIT, Rig, story_rig
from tests.interruptions import hooked
from twins.asgard.venue import PROTOCOLS, TOKENS
from twins.hyperliquid.meta import UNIVERSE
from venues.asgard.building import locks_of

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
SOL_INDEX = next(i for i, asset in enumerate(UNIVERSE) if asset.name == "SOL")


def assert_nothing_held(rig: Rig) -> None:
    """Whatever was tried is gone from both venues, and no row of ours claims a leg."""
    assert rig.flat
    assert not [leg for leg in rig.desk.store.carry.open_legs()]
    assert not rig.desk.store.unfinished_intents(CARRY)


async def test_a_dear_fill_counts_as_where_the_fall_began(tmp_path: Path) -> None:
    """SOL rose after the plan, the long was filled on the rise, and then it fell: 1.2 % from the fill, 0.8 % from the plan."""
    async with story_rig(tmp_path) as rig:

        def rise() -> None:
            rig.market(sol_price=200.9)
            rig.later(1)  # a block swaps at the price of its own time

        with (
            hooked(rig.desk.long, "sign", before=rise),
            hooked(rig.desk.long, "send", after=lambda: rig.market(sol_price=198.45)),
        ):
            result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "CLOSED" and "stop at" in result.reasons[0], result
        assert_nothing_held(rig)
        assert not rig.account()["orders"], "no short may be sold into the fall"


@pytest.mark.parametrize("price", [201.1, 198.9])
async def test_a_price_that_left_the_plan_signs_no_long(tmp_path: Path, price: float) -> None:
    """Read again after the build, right before the signature: up or down, what was decided is not what would be bought."""
    async with story_rig(tmp_path) as rig:
        with hooked(rig.desk.long, "build", before=lambda: rig.market(sol_price=price)):
            result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "FAILED" and "the plan's 200.0" in result.reasons[0], result
        assert "limit 0.500 %" in result.reasons[0]
        assert_nothing_held(rig)
        assert rig.opened_longs() == 0 and not rig.account()["orders"]
        assert not rig.calls("asgard", OPEN_SUBMIT) and not rig.calls("solana", "rpc:sendTransaction")
        rig.market(sol_price=200.0)
        await rig.entered(**SOL_ON_KAMINO)


async def test_a_price_that_left_before_anything_was_sent_sends_no_setting_either(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        before = rig.fingerprint()
        store = rig.desk.store.carry
        with hooked(store, "create_position", after=lambda: rig.market(sol_price=197.0)):
            result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "FAILED" and "1.500 % below the plan's" in result.reasons[0], result
        assert rig.fingerprint() == before


async def test_a_second_attempt_at_the_long_reads_the_prices_again(tmp_path: Path) -> None:
    """The first attempt is proved dead after a minute in which the market went on."""
    async with story_rig(tmp_path) as rig:
        rig.fault("asgard", "http_500", OPEN_SUBMIT, times=-1)
        rig.fault("solana", "drop_request", "rpc:sendTransaction", times=-1)
        with hooked(rig.desk.long, "send", after=lambda: rig.market(sol_price=203.0)):
            result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "FAILED" and "above the plan's" in result.reasons[0], result
        assert rig.opened_longs() == 0 and not rig.account()["orders"]
        assert_nothing_held(rig)


async def test_without_a_price_at_the_last_moment_nothing_is_signed(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        blind = lambda: rig.fault("hyperliquid", "http_500", "info:metaAndAssetCtxs", times=-1)
        with hooked(rig.desk.store.carry, "create_position", after=blind):
            result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "FAILED", result
        assert rig.opened_longs() == 0 and not rig.calls("solana", "rpc:sendTransaction")


async def test_one_sample_of_the_premium_decides_nothing(tmp_path: Path) -> None:
    """The hour's own mean pays the short; the sample of this second alone would not."""
    async with story_rig(tmp_path) as rig:
        rig.fault(
            "hyperliquid",
            "field",
            "info:metaAndAssetCtxs",
            times=-1,
            path=f"1.{SOL_INDEX}.premium",
            value="-0.01",
        )
        await rig.entered(**SOL_ON_KAMINO)


async def test_a_running_hour_that_does_not_pay_refuses_whatever_its_last_sample_says(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        path = f"1.{SOL_INDEX}.funding"
        rig.fault("hyperliquid", "field", "info:metaAndAssetCtxs", times=-1, path=path, value="-0.00001")
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "refused" and "current funding" in "; ".join(result.reasons), result


async def test_a_day_that_did_not_pay_refuses_an_hour_that_does(tmp_path: Path) -> None:
    """Nothing but today's sign speaks against it: over the week before, and in the running hour, the short is paid."""
    async with story_rig(tmp_path) as rig:
        series: Any = rig.world.series
        calm = series.funding_history
        series.funding_history = lambda start, end: [
            (t, -0.000002 if t > rig.world.now_ms() - 24 * 3_600_000 else rate, premium)
            for t, rate, premium in calm(start, end)
        ]
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "refused", result
        [reason] = result.reasons
        assert "today's funding" in reason, reason


def _bank(symbol: str, protocol: int = 1) -> str:
    return str(PROTOCOLS[protocol].bank(next(one for one in TOKENS if one.symbol == symbol)))


@pytest.mark.parametrize("symbol", ["SOL", "USDC"])
async def test_fees_are_those_of_the_accounts_that_the_long_writes(tmp_path: Path, symbol: str) -> None:
    """The chain is nearly free, and whoever writes to the lender's bank pays 0.03 SOL."""
    async with story_rig(tmp_path) as rig:
        rig.control("solana", "congestion", account=_bank(symbol), micro_lamports=50_000_000)
        before = rig.fingerprint()
        refused = await rig.enter(**SOL_ON_KAMINO)
        assert refused.status == "refused" and "fee market" in "; ".join(refused.reasons), refused
        assert rig.fingerprint() == before
        assert not rig.desk.store.active_pauses(), "other lenders are as cheap as ever: no breaker"
        await rig.entered(asset="SOL", protocol=0)


async def test_a_spike_shorter_than_half_of_thirty_seconds_is_none(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.control("solana", "congestion", account=_bank("USDC"), micro_lamports=50_000_000, from_now=True)
        rig.later(10)
        rig.control("solana", "congestion", account=_bank("USDC"), micro_lamports=0, from_now=True)
        await rig.desk.clock.refresh()
        await rig.entered(**SOL_ON_KAMINO)


async def test_a_spike_of_half_of_thirty_seconds_is_one_and_ends_with_them(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.control("solana", "congestion", account=_bank("USDC"), micro_lamports=50_000_000, from_now=True)
        rig.later(20)
        await rig.desk.clock.refresh()
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "refused"
        rig.control("solana", "congestion", account=_bank("USDC"), micro_lamports=0, from_now=True)
        rig.later(25)
        await rig.desk.clock.refresh()
        await rig.entered(**SOL_ON_KAMINO)


async def test_what_the_built_transaction_writes_decides_at_the_last_moment(tmp_path: Path) -> None:
    """A vault of the lender, which no list of markets names: it is known once the transaction is."""
    async with story_rig(tmp_path) as rig:
        payload: list[Any] = []
        real = rig.desk.long.build

        async def build(intent: Any) -> Any:
            built = await real(intent)
            payload.append(built.payload)
            named = {rig.desk.long.wallet, _bank("SOL"), _bank("USDC")}
            account = next(one for one in locks_of(built.payload)[0].accounts if one not in named)
            rig.control("solana", "congestion", account=account, micro_lamports=50_000_000)
            return built

        rig.desk.long.build = build  # type: ignore[method-assign]
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "FAILED" and "for what the transaction writes" in result.reasons[0], result
        assert payload and rig.opened_longs() == 0 and not rig.calls("solana", "rpc:sendTransaction")


async def test_no_entry_without_room_above_the_exit(tmp_path: Path) -> None:
    """The lender opens up to 74 %: it liquidates at 79 % or later, which leaves 15.6 % at 3x."""
    async with story_rig(tmp_path, limits={"liquidation_floor": "0.16"}) as rig:
        before = rig.fingerprint()
        result = await rig.enter(**SOL_ON_KAMINO)
        text = "; ".join(result.reasons)
        assert result.status == "refused" and "liquidation room" in text, result
        assert "would start 15.6" in text and "closed at 16.00 %" in text
        assert rig.fingerprint() == before and not rig.desk.store.carry.positions()
        await rig.entered(**SOL_ON_KAMINO, leverage="2")


async def test_the_room_is_that_of_the_lenders_own_threshold_once_it_is_known(tmp_path: Path) -> None:
    """The lender of an earlier position implied 80 %: 16.7 % at 3x."""
    async with story_rig(tmp_path, limits={"liquidation_floor": "0.16"}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO, leverage="2")
        done = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert done.status == "CLOSED"
        await rig.entered(**SOL_ON_KAMINO)
