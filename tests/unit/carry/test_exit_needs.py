"""Each need of an exit at, above and below its limits; what was not read neither alarms nor passes for an entry."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from solders.pubkey import Pubkey

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.listed import NEEDS, judge_needs
from strategy.carry.needs.state import Level, NeedState
from strategy.carry.readings import NeedReadings
from venues.asgard.liquidity import RESERVES, reserve_tokens
from venues.asgard.mints import SOL
from venues.solana.answers import AccountInfo

D = Decimal
NOW = 1_757_203_200_000
HOUR_MS = 3_600_000
WELL: dict[str, Any] = {
    "now_ms": NOW,
    "asset": "SOL",
    "agent_address": "0xab",
    "agent_approved": True,
    "agent_until_ms": NOW + 800 * HOUR_MS,
    "clock_ahead_ms": {"Hyperliquid": -100, "Solana": 0},
    "wallet_lamports": 50_000_000,
    "position_tokens": D(100),
    "lender_tokens": D(100),
    "lender_covered": True,
    "perp_delisted": False,
    "perp_halted": False,
    "lending_active": True,
    "account_mode": "default",
    "free_bytes": 200_000_000,
    "wal_bytes": 20_000_000,
    "close_tried": True,
}


def need(name: str, **changes: Any) -> NeedState:
    states = judge_needs(NeedReadings(**(WELL | changes)), CarryLimits())
    return next(one for one in states if one.name == name)


def test_all_is_fine_where_all_was_read_and_nothing_is_where_nothing_was() -> None:
    well = judge_needs(NeedReadings(**WELL), CarryLimits())
    assert {one.name for one in well} == {one.name for one in NEEDS}
    assert all(one.level is Level.FINE and not one.refuses_entry for one in well), well
    blind = judge_needs(NeedReadings(now_ms=NOW), CarryLimits())
    assert {one.name for one in blind if one.refuses_entry} == {
        "agent_key", "venue_clock", "fee_money", "account_mode",
    }  # fmt: skip
    assert not any(one.is_bad for one in blind)


@pytest.mark.parametrize(
    ("name", "changes", "level", "refuses", "said"),
    [
        ("agent_key", {"agent_until_ms": NOW + 700 * HOUR_MS}, Level.FINE, True, "29 days"),
        ("agent_key", {"agent_until_ms": NOW + 168 * HOUR_MS}, Level.WARNING, True, "7 days"),
        ("agent_key", {"agent_until_ms": NOW + 24 * HOUR_MS}, Level.CRITICAL, True, "24 hours"),
        ("agent_key", {"agent_until_ms": NOW - HOUR_MS}, Level.CRITICAL, True, "expired"),
        ("agent_key", {"agent_approved": False}, Level.CRITICAL, True, "not approved"),
        ("agent_key", {"agent_until_ms": None}, Level.FINE, False, "no end"),
        ("venue_clock", {"clock_ahead_ms": {"Hyperliquid": 2_000}}, Level.FINE, False, "2.0 s ahead"),
        ("venue_clock", {"clock_ahead_ms": {"Hyperliquid": 0, "Solana": -2_001}}, Level.WARNING, False, "behind Solana"),
        ("venue_clock", {"clock_ahead_ms": {"Hyperliquid": -5_001}}, Level.CRITICAL, True, "5.0 s behind"),
        ("fee_money", {"wallet_lamports": 49_999_999}, Level.WARNING, True, "0.0500 SOL"),
        ("fee_money", {"wallet_lamports": 4_999_999}, Level.CRITICAL, True, "tips are cut"),
        ("lender_liquidity", {"lender_tokens": D(99)}, Level.WARNING, False, "99"),
        ("lender_liquidity", {"lender_tokens": D(0)}, Level.WARNING, False, "has 0 SOL"),
        ("lender_liquidity", {"lender_tokens": D(0), "lender_covered": False}, Level.FINE, False, "never"),
        ("market_state", {"perp_delisted": True}, Level.CRITICAL, True, "delisted"),
        ("market_state", {"perp_halted": True}, Level.WARNING, True, "halted"),
        ("market_state", {"lending_active": False}, Level.WARNING, True, "not on offer"),
        ("account_mode", {"account_mode_at_entry": "unifiedAccount"}, Level.WARNING, False, "switched"),
        ("account_mode", {"account_mode_readable": False}, Level.CRITICAL, True, "cannot be read"),
        ("disk_space", {"free_bytes": 199_999_999}, Level.CRITICAL, True, "200 MB"),
        ("disk_space", {"wal_bytes": 20_000_001}, Level.CRITICAL, True, "200 MB"),
        ("disk_space", {"free_bytes": None}, Level.FINE, False, "not on a disk"),
        ("swap_route", {"close_refused": "rule route: unknown"}, Level.CRITICAL, False, "rule route"),
        ("swap_route", {"position_tokens": None, "close_tried": False}, Level.FINE, False, "no position"),
    ],
)  # fmt: skip
def test_a_need_at_its_limit(
    name: str, changes: dict[str, Any], level: Level, refuses: bool, said: str
) -> None:
    state = need(name, **changes)
    assert (state.level, state.refuses_entry) == (level, refuses), state
    assert said in state.reason and (state.advice or not state.is_bad)


def test_a_key_that_comes_nearer_its_end_goes_through_phases() -> None:
    phases = [need("agent_key", agent_until_ms=NOW + hours * HOUR_MS).phase for hours in (160, 20, -1)]
    assert len(set(phases)) == 3 and all(phases)


@pytest.mark.parametrize("protocol", RESERVES)
def test_what_a_reserve_holds_is_read_only_from_one_of_its_program_and_mint(protocol: int) -> None:
    program, mint_at, amount_at = RESERVES[protocol]  # type: ignore[index]
    data = bytearray(700)
    data[mint_at : mint_at + 32] = bytes(Pubkey.from_string(SOL.mint))
    data[amount_at : amount_at + 8] = (1_234_500_000_000).to_bytes(8, "little")
    assert reserve_tokens(protocol, AccountInfo(program, 1, bytes(data), False), SOL) == D("1234.5")
    assert (
        reserve_tokens(protocol, AccountInfo("11111111111111111111111111111111", 1, bytes(data), False), SOL)
        is None
    )
    data[mint_at] ^= 1
    assert reserve_tokens(protocol, AccountInfo(program, 1, bytes(data), False), SOL) is None
    assert reserve_tokens(protocol, None, SOL) is None
