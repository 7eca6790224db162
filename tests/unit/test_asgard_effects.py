"""Reading what a transaction did: balances first, the traps of executed metadata, and redemption rates on
chain.
"""

from __future__ import annotations

import base64
import json
import os
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.errors import NotUnderstood, VenueRefused
from venues.asgard.effects import executed_metadata, plausible, read_effect, read_swap, total
from venues.asgard.mints import SOL, USDC
from venues.asgard.redemption import infinity_rate, parse_stake_pool
from venues.solana.answers import AccountInfo

WALLET = "us"


def transaction(changes: list[tuple[str, str, int, int]], fee: int = 7_000) -> dict[str, Any]:
    """A `getTransaction` answer with these (owner, mint, before, after) balances."""

    def rows(column: int) -> list[dict[str, Any]]:
        return [
            {
                "accountIndex": at,
                "owner": change[0],
                "mint": change[1],
                "uiTokenAmount": {"amount": str(change[column]), "decimals": 9},
            }
            for at, change in enumerate(changes)
        ]

    return {
        "slot": 9,
        "blockTime": 1_757_203_200,
        "meta": {
            "err": None,
            "fee": fee,
            "preTokenBalances": rows(2),
            "postTokenBalances": rows(3),
            "preBalances": [10_000_000, 1],
            "postBalances": [9_000_000, 1],
        },
        "transaction": {"message": {"accountKeys": [WALLET, "other"]}},
    }


M, B = 1_000_000, 1_000_000_000


def opened(collateral: int, borrowed: int, fee: int, bought: int) -> dict[str, Any]:
    """A leveraged buy: we pay, the vault lends and keeps the tokens, the pool sells them, Asgard takes its
    fee.
    """
    swap = collateral + borrowed - fee
    return transaction(
        [
            (WALLET, USDC.mint, 5 * collateral, 4 * collateral),
            ("vault", USDC.mint, 10 * borrowed, 9 * borrowed),
            ("vault", SOL.mint, 100 * B, 100 * B + bought),
            ("pool", SOL.mint, 10 * bought, 9 * bought),
            ("pool", USDC.mint, 0, swap),
            ("fees", USDC.mint, 3, 3 + fee),
        ]
    )


def test_an_open_is_read_from_balances_alone() -> None:
    effect = read_effect("open_long", SOL, WALLET, opened(1000 * M, 2000 * M, 4_500_000, 14_960_000_000))
    assert (effect.tokens_bought, effect.tokens_sold) == (D("14.96"), 0)
    assert (effect.borrowed_usd, effect.repaid_usd) == (D(2000), 0)
    assert (effect.wallet_usdc_delta, effect.protocol_fee_usd) == (D(-1000), D("4.5"))
    assert effect.swap_usdc == D("2995.5") and effect.fee_is_certain and effect.moved
    assert (effect.gas_lamports, effect.wallet_lamports_delta) == (7_000, -1_000_000)
    assert effect.price_usd is not None and round(effect.price_usd, 4) == D("200.2340")


@given(st.integers(M, 10**12), st.integers(M, 10**12), st.integers(0, 10**5), st.integers(1, 10**13))
def test_usdc_is_conserved_on_an_open(collateral: int, borrowed: int, fee: int, bought: int) -> None:
    effect = read_effect("open_long", SOL, WALLET, opened(collateral, borrowed, fee, bought))
    assert effect.swap_usdc + effect.protocol_fee_usd == effect.borrowed_usd - effect.wallet_usdc_delta


def test_a_close_is_read_from_balances_alone() -> None:
    closed = transaction(
        [
            (WALLET, USDC.mint, 0, 990 * M),
            ("vault", USDC.mint, 0, 2001 * M),
            ("vault", SOL.mint, 100 * B, 85 * B),
            ("pool", SOL.mint, 0, 15 * B),
            ("pool", USDC.mint, 9000 * M, 6009 * M),
        ]
    )
    effect = read_effect("close_long", SOL, WALLET, closed)
    assert (effect.tokens_sold, effect.repaid_usd, effect.swap_usdc) == (D(15), D(2001), D(2991))
    assert effect.price_usd == D("199.4") and effect.protocol_fee_usd == 0


def test_a_repayment_moves_no_tokens() -> None:
    repaid = transaction([(WALLET, USDC.mint, 500 * M, 400 * M), ("vault", USDC.mint, 0, 100 * M)])
    effect = read_effect("repay_debt", SOL, WALLET, repaid)
    assert (effect.repaid_usd, effect.swap_tokens, effect.price_usd) == (D(100), 0, None)
    assert (effect.protocol_fee_usd, effect.swap_usdc) == (0, 0)


def test_account_set_up_moves_nothing_and_sums_add_up() -> None:
    setup = read_effect("open_long", SOL, WALLET, transaction([], fee=5_000))
    assert not setup.moved
    both = total([setup, read_effect("open_long", SOL, WALLET, opened(1000 * M, 2000 * M, 0, 15 * B))])
    assert (both.gas_lamports, both.tokens_bought, both.swap_usdc) == (12_000, D(15), D(3000))


def test_a_route_over_several_pools_leaves_the_fee_uncertain() -> None:
    routed = opened(1000 * M, 2000 * M, 4_500_000, 15 * B)
    for name, before, after in (("preTokenBalances", 7, 0), ("postTokenBalances", 0, 7)):
        routed["meta"][name].append(
            {"owner": "hop", "mint": USDC.mint, "uiTokenAmount": {"amount": str(before * M)}}
        )
        assert after is not None
    effect = read_effect("open_long", SOL, WALLET, routed)
    assert not effect.fee_is_certain and effect.protocol_fee_usd == 0


@pytest.mark.parametrize(
    "row", [None, 7, {}, {"owner": {}, "mint": USDC.mint}, {"owner": "a", "mint": "b", "uiTokenAmount": None}]
)
def test_a_balance_that_cannot_be_read_may_be_ours(row: Any) -> None:
    odd = opened(1000 * M, 2000 * M, 0, 15 * B)
    odd["meta"]["postTokenBalances"].append(row)
    with pytest.raises(NotUnderstood, match="balances of a transaction"):
        read_effect("open_long", SOL, WALLET, odd)


def executed(**changes: Any) -> dict[str, Any]:
    return {
        "inputMint": USDC.mint,
        "outputMint": SOL.mint,
        "inputAmount": 2_995_500_000,
        "outputAmount": 14_960_000_000,
    } | changes


def test_the_documented_ratio_is_the_inverse_and_mints_decide() -> None:
    bought = read_swap(executed(), SOL, D(200))
    assert bought is not None and bought.buys and round(bought.price_usd, 3) == D("200.234")
    sold = read_swap(
        executed(
            inputMint=SOL.mint, outputMint=USDC.mint, inputAmount=14_960_000_000, outputAmount=2_990_000_000
        ),
        SOL,
        D(200),
    )
    assert sold is not None and not sold.buys and round(sold.price_usd, 2) == D("199.87")


def test_amounts_in_another_unit_are_refused_by_the_oracle() -> None:
    with pytest.raises(VenueRefused, match="unit"):
        read_swap(executed(inputAmount=D("2995.5"), outputAmount=14_960_000_000), SOL, D(200))
    with pytest.raises(VenueRefused, match="unit"):
        read_swap(executed(), SOL, D(220))
    with pytest.raises(VenueRefused):
        read_swap(executed(inputAmount=0), SOL, D(200))
    with pytest.raises(VenueRefused, match="swaps"):
        read_swap(executed(outputMint="elsewhere"), SOL, D(200))
    assert plausible(D(205), D(200)) and not plausible(D(1) / 200, D(200))


def test_missing_metadata_is_pending_not_zero() -> None:
    assert executed_metadata(None) is None
    assert executed_metadata({"onChainExecutedMetadata": None}) is None
    assert executed_metadata({"onChainExecutedMetadata": {}}) is None
    assert read_swap({"inputMint": None}, SOL, None) is None


def recorded_pool() -> bytes:
    root = Path(os.environ.get("EVENKEEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root / "lst" / "accounts" / "jito-stake-pool.json"
    if not file.exists():
        pytest.skip(f"the recorded stake pool is not at {file}")
    return base64.b64decode(json.loads(file.read_text())["account"]["data"][0])


def test_the_recorded_stake_pool_is_read_to_the_lamport() -> None:
    pool = parse_stake_pool(recorded_pool())
    assert pool is not None
    assert (pool.total_lamports, pool.pool_token_supply) == (6_636_671_656_500_264, 6_182_849_530_219_135)
    assert round(pool.sol_per_token, 5) == D("1.07340")
    assert pool.last_update_epoch == 539


def test_what_is_not_a_stake_pool_gives_no_rate() -> None:
    data = bytearray(400)
    assert parse_stake_pool(bytes(data)) is None
    data[0] = 1
    assert parse_stake_pool(bytes(data)) is None  # no supply
    assert parse_stake_pool(b"\x01" * 100) is None


def test_inf_is_value_over_supply() -> None:
    state = AccountInfo("5ocn", 1, (1_350 * B).to_bytes(8, "little") + bytes(100))
    assert infinity_rate(state, 1_000 * B) == D("1.35")
    assert infinity_rate(state, 0) is None
