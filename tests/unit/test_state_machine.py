"""The rules of the state machine, alone: no walk skips a step, nothing on the wire is given up unproved."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenkeel.errors import Bug
from evenkeel.legs import PositionStatus
from evenkeel.types import IntentState
from state.carry.machine import POSITION_MOVES, check_position_move, never_holds_a_leg
from state.machine import (
    FORWARD,
    INTENT_MOVES,
    UNSENT,
    check_intent_move,
    needs_dead_proof,
    path_to_confirmed,
)

S = IntentState


def test_a_walk_is_allowed_exactly_along_the_documented_states() -> None:
    forward = set(pairwise(FORWARD))
    rebuild = {(state, S.BUILDING) for state in (S.BUILT, S.SIGNING, S.SIGNED, S.SUBMITTING, S.SUBMITTED)}
    failed = {(state, S.FAILED) for state in S if not state.is_final}
    for move in product(S, S):
        if move in forward | rebuild | failed:
            check_intent_move(*move, dead_proof="block height 5 > 4, status null")
        else:
            with pytest.raises(Bug, match="cannot move"):
                check_intent_move(*move, dead_proof="proof does not help")


def test_giving_up_what_may_be_on_the_wire_needs_proof_and_nothing_else_does() -> None:
    given_up = {(a, b) for a in (S.SUBMITTING, S.SUBMITTED) for b in (S.BUILDING, S.FAILED)}
    for move in ((a, b) for a in S for b in INTENT_MOVES[a]):
        assert needs_dead_proof(*move) is (move in given_up)
        if move in given_up:
            for proof in (None, "", "  "):
                with pytest.raises(Bug, match="without proof"):
                    check_intent_move(*move, dead_proof=proof)
        else:
            check_intent_move(*move)


@given(st.lists(st.integers(0, 10), max_size=60))
def test_no_walk_reaches_confirmed_without_signing_and_submitting_first(choices: list[int]) -> None:
    state, walk = S.IDLE, [S.IDLE]
    for choice in choices:
        ways = sorted(INTENT_MOVES[state])
        if not ways:
            break
        state = ways[choice % len(ways)]
        walk.append(state)
    if state is S.CONFIRMED:
        last_build = len(walk) - 1 - walk[::-1].index(S.BUILDING)
        assert tuple(walk[last_build:]) == FORWARD[1:]
    assert all(not earlier.is_final for earlier in walk[:-1])


def test_confirmation_passes_through_submitted_and_starts_only_on_the_wire() -> None:
    assert path_to_confirmed(S.SUBMITTING) == [(S.SUBMITTING, S.SUBMITTED), (S.SUBMITTED, S.CONFIRMED)]
    assert path_to_confirmed(S.SUBMITTED) == [(S.SUBMITTED, S.CONFIRMED)]
    for state in S:
        if not state.may_be_on_the_wire:
            with pytest.raises(Bug, match="cannot be confirmed"):
                path_to_confirmed(state)


def test_unsent_states_are_those_with_a_build_before_submitting() -> None:
    assert {S.BUILT, S.SIGNING, S.SIGNED} == UNSENT
    assert not any(state.may_be_on_the_wire for state in UNSENT)


def test_positions_end_only_by_closing_or_unwinding() -> None:
    P = PositionStatus
    allowed = {
        (P.OPENING, P.OPEN),
        (P.OPENING, P.UNWINDING),
        (P.OPENING, P.FAILED),
        (P.OPEN, P.CLOSING),
        (P.CLOSING, P.CLOSED),
        (P.UNWINDING, P.CLOSED),
        (P.UNWINDING, P.FAILED),
    }
    for move in product(P, P):
        if move in allowed:
            check_position_move(*move)
        else:
            with pytest.raises(Bug, match="cannot move"):
                check_position_move(*move)
    assert {status for status in P if not POSITION_MOVES[status]} == {s for s in P if never_holds_a_leg(s)}
