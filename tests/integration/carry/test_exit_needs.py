"""What an exit needs is watched while a position is open: a person is warned early, and nothing is closed for it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from flows.carry.exit import ExitRequest, exit_position
from state.watch_models import Severity
from tests.carry.rig import Rig, story_rig, watched

JITOSOL = {"asset": "jitoSOL", "protocol": 1}
HOUR_MS = 3_600_000


def alerts(rig: Rig, kind: str) -> list[tuple[Severity, bool]]:
    """Severity of each alert of a kind, and whether it is open."""
    return [(one.severity, one.acked_ms is None) for one in rig.desk.store.alerts() if one.kind == kind]


def agent_ends(rig: Rig, hours: float) -> None:
    rig.control(
        "hyperliquid", "approve_agent", master=rig.address, agent=rig.desk.short.signer_address, name="trader",
        valid_until_ms=rig.world.now_ms() + int(hours * HOUR_MS),
    )  # fmt: skip


async def test_an_entry_that_outlives_the_agent_key_is_refused_in_clear_words(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        agent_ends(rig, 36)
        before = rig.fingerprint()
        refused = await rig.enter(**JITOSOL)
        assert refused.status == "refused" and rig.fingerprint() == before
        [reason] = refused.reasons
        assert "expires in 36 hours" in reason and "720 hours" in reason and "approve" in reason


async def test_an_agent_key_that_ends_is_announced_twice_and_a_dead_one_keeps_the_hedge(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path, strategy={"poll_interval_s": 300}) as rig:
        position_id = await rig.entered(**JITOSOL)
        assert (await watched(rig, position_id, 10)).status == "OPEN"
        assert not alerts(rig, "agent_key")
        agent_ends(rig, 36)
        rig.later(300)
        await watched(rig, position_id, 10)
        assert alerts(rig, "agent_key") == [(Severity.WARNING, True)], "36 hours left: at once"
        rig.later(13 * 3600)
        await watched(rig, position_id, 10)
        assert alerts(rig, "agent_key") == [(Severity.WARNING, False), (Severity.CRITICAL, True)], (
            "below a day: again"
        )
        rig.later(24 * 3600)
        dead = await watched(rig, position_id, 400)
        assert dead.status == "OPEN", dead
        assert alerts(rig, "agent_key")[-1] == (Severity.CRITICAL, True)
        rig.assert_hedged("0.02")


async def test_a_key_that_dies_between_two_monitors_is_announced_by_the_second(tmp_path: Path) -> None:
    """Both alerts are critical: they differ by the phase alone, which is kept with the position."""
    async with story_rig(tmp_path, strategy={"poll_interval_s": 300}) as rig:
        position_id = await rig.entered(**JITOSOL)
        agent_ends(rig, 20)
        await watched(rig, position_id, 10)
        assert alerts(rig, "agent_key") == [(Severity.CRITICAL, True)]
        rig.later(24 * 3600)
        await watched(rig, position_id, 10)
        assert alerts(rig, "agent_key") == [(Severity.CRITICAL, False), (Severity.CRITICAL, True)]
        await watched(rig, position_id, 10)
        assert len(alerts(rig, "agent_key")) == 2


async def test_what_cannot_be_read_for_an_hour_is_said_though_monitors_come_and_go(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy={"poll_interval_s": 300}) as rig:
        position_id = await rig.entered(**JITOSOL)
        rig.fault("solana", "http_500", "rpc:getBalance", times=-1)
        for _ in range(2):
            await watched(rig, position_id, 10)
            assert not alerts(rig, "fee_money")
            rig.later(28 * 60)
        await watched(rig, position_id, 10)
        assert alerts(rig, "fee_money") == [(Severity.WARNING, True)]


async def test_a_clock_behind_the_venues_is_announced_and_an_exit_closes_both_legs(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        rig.on_twins(lambda: setattr(rig.world.clock, "host_ahead_ms", -12_000.0))
        await watched(rig, position_id, 30)
        assert (Severity.CRITICAL, True) in alerts(rig, "venue_clock")
        closed = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert closed.status == "CLOSED" and rig.flat, closed


async def test_little_sol_is_announced_and_the_tip_is_cut_to_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        wallet, chain = Pubkey.from_string(rig.desk.long.wallet), rig.twins.chain
        old = chain.account(wallet)
        assert old is not None
        left = Account(1_100_000, old.data, old.owner, old.executable, old.rent_epoch)
        rig.on_twins(lambda: chain.set_account(wallet, left))
        rig.later(20)
        assert (await watched(rig, position_id, 65)).status == "OPEN"
        assert alerts(rig, "fee_money") == [(Severity.CRITICAL, True)]
        done = await exit_position(rig.desk, ExitRequest(emergency=True))
        assert done.status == "CLOSED" and rig.flat, done


async def test_a_switch_of_the_mode_is_announced_and_closes_nothing(tmp_path: Path) -> None:
    """The margin then reads as next to nothing; the equity is the spot USDC behind it."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 10)
        [before] = await rig.desk.short.legs()
        rig.control("hyperliquid", "set_abstraction", address=rig.address, mode="unifiedAccount")
        rig.market(sol_price=201.0)
        result = await watched(rig, position_id, 95)
        assert result.status == "OPEN" and not result.actions, result
        assert alerts(rig, "account_mode") == [(Severity.WARNING, True)]
        [after] = await rig.desk.short.legs()
        fall = before.qty * 1
        assert abs(before.equity_usd - fall - after.equity_usd) < Decimal("0.5"), (before, after)
        rig.control("hyperliquid", "set_abstraction", address=rig.address, mode="disabled")
        again = await watched(rig, position_id, 95)
        assert again.status == "OPEN" and not again.actions, again
        assert alerts(rig, "account_mode") == [(Severity.WARNING, False)], "back in the plain mode"
        [back] = await rig.desk.short.legs()
        assert abs(back.equity_usd - Decimal(rig.account()["account_value_usd"])) < Decimal("0.5")


async def test_a_unified_account_is_entered_watched_and_left(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.control("hyperliquid", "set_abstraction", address=rig.address, mode="unifiedAccount")
        position_id = await rig.entered(**JITOSOL)
        assert (await watched(rig, position_id, 65)).status == "OPEN"
        assert not alerts(rig, "account_mode")
        closed = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert closed.status == "CLOSED" and rig.flat, closed


async def test_a_full_disk_is_announced_before_it_is_full(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        limits = rig.desk.settings.limits.model_copy(update={"min_free_bytes": 10**18})
        rig.desk.settings = rig.desk.settings.model_copy(update={"limits": limits})
        assert (await watched(rig, position_id, 40)).status == "OPEN"
        assert alerts(rig, "disk_space") == [(Severity.CRITICAL, True)]


def slow_clock(rig: Rig) -> None:
    rig.on_twins(lambda: setattr(rig.world.clock, "host_ahead_ms", -6_000.0))


def full_disk(rig: Rig) -> None:
    limits = rig.desk.settings.limits.model_copy(update={"min_free_bytes": 10**18})
    rig.desk.settings = rig.desk.settings.model_copy(update={"limits": limits})


def unread_key(rig: Rig) -> None:
    rig.fault("hyperliquid", "garbage", "info:extraAgents", times=-1)


def key_without_end(rig: Rig, **changed: Any) -> None:
    """The key lives for an hour, and the list of agents does not say so."""
    agent_ends(rig, 1)
    rig.fault("hyperliquid", "field", "info:extraAgents", times=-1, path="*.validUntil", **changed)


@pytest.mark.parametrize(
    ("happens", "need"),
    [
        (slow_clock, "venue_clock"),
        (full_disk, "disk_space"),
        (unread_key, "agent_key"),
        (partial(key_without_end, value=None), "agent_key"),
        (partial(key_without_end, value="NaN"), "agent_key"),
        (partial(key_without_end, value="1757206800000"), "agent_key"),
        (partial(key_without_end, missing=True), "agent_key"),
    ],
)
async def test_no_entry_without_what_its_exit_needs(
    tmp_path: Path, happens: Callable[[Rig], None], need: str
) -> None:
    async with story_rig(tmp_path) as rig:
        happens(rig)
        before = rig.fingerprint()
        refused = await rig.enter(**JITOSOL)
        assert refused.status == "refused" and rig.fingerprint() == before
        assert f"({need})" in " ".join(refused.reasons), refused


async def test_needs_that_cannot_be_read_hold_up_nothing(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**JITOSOL)
        for call in ("info:extraAgents", "info:userAbstraction"):
            rig.fault("hyperliquid", "garbage", call, times=-1)
        rig.fault("solana", "garbage", "rpc:getBlockTime", times=-1)
        result = await watched(rig, position_id, 90)
        assert result.status == "OPEN" and result.ticks >= 3, result
        rig.assert_hedged()


async def test_a_close_is_built_as_a_trial_an_hour_after_the_entry_and_daily_from_then_on(
    tmp_path: Path,
) -> None:
    """A day of watching has two trials and signs nothing; a route that is not understood is an alert within the day."""
    async with story_rig(tmp_path, strategy={"poll_interval_s": 1800}) as rig:
        position_id = await rig.entered(**JITOSOL)
        before = rig.calls("solana", "rpc:sendTransaction")
        asked = "POST /close-position"

        def builds() -> int:
            return rig.calls("asgard", asked)

        await watched(rig, position_id, 1800)
        assert builds() == 0
        await watched(rig, position_id, 3600)
        assert builds() == 1
        await watched(rig, position_id, 24 * 3600)
        assert builds() == 2 and rig.calls("solana", "rpc:sendTransaction") == before
        assert not alerts(rig, "swap_route")

        fault = rig.fault("asgard", "reject", asked, times=-1)
        await watched(rig, position_id, 25 * 3600)
        assert fault.hits and alerts(rig, "swap_route") == [(Severity.CRITICAL, True)]
        assert rig.status(position_id) == "OPEN"
        rig.heal()
        await watched(rig, position_id, 3600)
        assert alerts(rig, "swap_route") == [(Severity.CRITICAL, False)]


async def test_a_slow_watch_comes_to_every_reading(tmp_path: Path) -> None:
    """Of readings that are all due at each tick, one a tick, the first kept the others from their turn."""
    async with story_rig(tmp_path, strategy={"poll_interval_s": 600}) as rig:
        position_id = await rig.entered(**JITOSOL)
        await watched(rig, position_id, 3 * 3600)
        assert not alerts(rig, "account_mode") and not alerts(rig, "agent_key")
