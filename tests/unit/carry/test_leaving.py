"""Which leg goes first, when both ways out must be proved, and what is done about a hedge that is missing."""

from __future__ import annotations

from decimal import Decimal as D
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.legs import LegSide
from strategy.carry.entry import MIN_ORDER_USD
from strategy.carry.leaving import (
    STUCK_AFTER_MS,
    Leaving,
    Refusals,
    hedge_carried,
    hedge_missing,
    is_level,
    share_to_level,
    shares_to_ask,
)
from strategy.decisions import Urgency

SIZES = st.decimals("0", "5000", places=4)
PRICES = st.decimals("1", "1000", places=2)


def leaving(**changes: Any) -> Leaving:
    calm: dict[str, Any] = {
        "urgency": Urgency.NORMAL,
        "endangered": None,
        "begun_with": None,
        "stuck": None,
        "both_held": True,
        "unwinding": False,
        "level": True,
        "wants_proof": False,
    }
    return Leaving(**(calm | changes))


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, LegSide.SHORT),
        ({"begun_with": LegSide.LONG}, LegSide.LONG),
        ({"begun_with": LegSide.SHORT, "stuck": LegSide.LONG}, LegSide.LONG),
        ({"stuck": LegSide.LONG, "endangered": LegSide.SHORT}, LegSide.SHORT),
        ({"unwinding": True}, LegSide.SHORT),
        ({"unwinding": True, "level": False}, LegSide.LONG),
    ],
)
def test_the_leg_in_danger_goes_first_then_the_one_in_doubt(changes: dict[str, Any], first: LegSide) -> None:
    assert leaving(**changes).first_leg is first


def test_a_hedged_position_is_never_left_in_calm_without_a_proof() -> None:
    sides = (None, *LegSide)
    for endangered, stuck, unwinding in product(sides, sides, (False, True)):
        calm = leaving(endangered=endangered, stuck=stuck, unwinding=unwinding)
        assert calm.needs_proof
        assert not calm.model_copy(update={"both_held": False}).needs_proof, "nothing hedges a lone leg"


@pytest.mark.parametrize(
    ("changes", "proved"),
    [
        ({}, False),
        ({"endangered": LegSide.SHORT}, False),
        ({"endangered": LegSide.SHORT, "stuck": LegSide.LONG}, False),
        ({"stuck": LegSide.LONG}, True),
        ({"wants_proof": True}, True),
        ({"unwinding": True}, True),
        ({"unwinding": True, "level": False}, False),
    ],
)
def test_an_emergency_waits_for_no_proof_unless_it_failed_before(
    changes: dict[str, Any], proved: bool
) -> None:
    assert leaving(urgency=Urgency.EMERGENCY, **changes).needs_proof is proved


@given(SIZES, SIZES, PRICES)
def test_what_is_missing_makes_the_legs_level_or_is_too_small_for_an_order(
    long_sol: D, short_qty: D, price: D
) -> None:
    change = hedge_missing(long_sol, short_qty, price)
    left = abs(long_sol - short_qty - change)
    assert is_level(long_sol, short_qty + change) or left * price < MIN_ORDER_USD + price * D("0.005")
    assert change == 0 or abs(change) * price >= MIN_ORDER_USD
    assert short_qty + change >= 0


@given(SIZES, st.decimals("-1000", "100000", places=2), st.sampled_from([D(2), D(3), D(4)]), PRICES)
def test_no_more_is_opened_again_than_is_missing_and_than_the_account_carries(
    missing: D, free_usd: D, leverage: D, price: D
) -> None:
    qty = hedge_carried(missing, free_usd, leverage, price)
    assert 0 <= qty <= missing
    assert qty * price <= max(D(0), free_usd) * leverage


@given(SIZES, SIZES)
def test_the_share_that_levels_leaves_no_more_than_the_short_hedges(long_sol: D, short_qty: D) -> None:
    percent = share_to_level(long_sol, short_qty)
    if percent is None:
        assert long_sol <= short_qty or short_qty / max(long_sol, D("0.0001")) < D("0.01")
        return
    left = long_sol * (100 - percent) / 100
    assert short_qty - long_sol / 100 <= left <= short_qty


def test_what_is_not_worth_an_order_is_not_asked_of_a_lender() -> None:
    assert shares_to_ask(D(75), D(200)) == (50, 25, 12, 6, 3, 1)
    assert shares_to_ask(D("0.5"), D(200)) == (50, 25, 12)
    assert shares_to_ask(D("0.1"), D(200)) == ()


def tried(most: int, *lasted_ms: int) -> Refusals:
    """After refusals that took so long, with their pauses between them."""
    refusals, at_ms = Refusals(most), 1_000_000
    for lasts_ms in lasted_ms:
        assert not refusals.prove_it_stuck
        at_ms += int(refusals.pause_s * 1000)
        refusals.add(at_ms, at_ms + lasts_ms)
        at_ms += lasts_ms
    return refusals


def test_quick_refusals_prove_a_leg_stuck_by_their_number() -> None:
    assert not tried(3, 200).prove_it_stuck
    assert not tried(3, 200, 200).prove_it_stuck
    assert tried(3, 200, 200, 200).prove_it_stuck
    assert tried(1, 200).prove_it_stuck


def test_one_refusal_proves_it_where_a_second_could_not_end_within_the_minute() -> None:
    """A transaction that no node takes is dead after 55 s: waiting for another left one leg alone for 116 s."""
    assert tried(3, 55_000).prove_it_stuck
    assert not tried(3, 20_000).prove_it_stuck


@given(st.integers(1, 9), st.integers(1, 120_000))
def test_the_last_try_before_a_leg_counts_as_stuck_began_early_enough(most: int, lasts_ms: int) -> None:
    refusals, at_ms, began_ms = Refusals(most), 0, 0
    while not refusals.prove_it_stuck:
        began_ms, at_ms = at_ms, at_ms + lasts_ms
        refusals.add(began_ms, at_ms)
    assert refusals.count == 1 or began_ms + lasts_ms < STUCK_AFTER_MS
