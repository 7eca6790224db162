"""Which moves an intent and a position may make and what each needs; pure, so that it can be tested alone."""

from __future__ import annotations

from typing import Final

from evenkeel.errors import Bug
from evenkeel.types import IntentState

_I = IntentState

FORWARD: Final[tuple[IntentState, ...]] = (
    _I.IDLE,
    _I.BUILDING,
    _I.BUILT,
    _I.SIGNING,
    _I.SIGNED,
    _I.SUBMITTING,
    _I.SUBMITTED,
    _I.CONFIRMED,
)
"""All states of an intent that goes well."""

UNSENT: Final[frozenset[IntentState]] = frozenset({_I.BUILT, _I.SIGNING, _I.SIGNED})
"""A rebuild from here needs no word of the venue: SUBMITTING is committed before anything leaves us."""

INTENT_MOVES: Final[dict[IntentState, frozenset[IntentState]]] = {
    _I.IDLE: frozenset({_I.BUILDING, _I.FAILED}),
    _I.BUILDING: frozenset({_I.BUILT, _I.FAILED}),
    _I.BUILT: frozenset({_I.SIGNING, _I.BUILDING, _I.FAILED}),
    _I.SIGNING: frozenset({_I.SIGNED, _I.BUILDING, _I.FAILED}),
    _I.SIGNED: frozenset({_I.SUBMITTING, _I.BUILDING, _I.FAILED}),
    _I.SUBMITTING: frozenset({_I.SUBMITTED, _I.BUILDING, _I.FAILED}),
    _I.SUBMITTED: frozenset({_I.CONFIRMED, _I.BUILDING, _I.FAILED}),
    _I.CONFIRMED: frozenset(),
    _I.FAILED: frozenset(),
}


def needs_dead_proof(from_state: IntentState, to_state: IntentState) -> bool:
    """True for a move that gives up a payload which may be on the wire: only the venue knows it is dead."""
    return from_state.may_be_on_the_wire and to_state in (_I.BUILDING, _I.FAILED)


def check_intent_move(
    from_state: IntentState, to_state: IntentState, *, dead_proof: str | None = None
) -> None:
    """Raise Bug unless the move exists and carries the proof it needs."""
    if to_state not in INTENT_MOVES[from_state]:
        allowed = ", ".join(sorted(INTENT_MOVES[from_state])) or "none, it is final"
        raise Bug(f"intent cannot move {from_state} -> {to_state}; from {from_state}: {allowed}")
    if needs_dead_proof(from_state, to_state) and not (dead_proof or "").strip():
        raise Bug(
            f"intent cannot move {from_state} -> {to_state} without proof: a payload may be on the wire, "
            "ask the venue by key until it proves the attempt dead"
        )


def path_to_confirmed(from_state: IntentState) -> list[tuple[IntentState, IntentState]]:
    """The moves that a confirmation makes: an answer seen while SUBMITTING passes through SUBMITTED."""
    if not from_state.may_be_on_the_wire:
        raise Bug(
            f"intent in {from_state} cannot be confirmed: only what was being submitted can have happened"
        )
    start = FORWARD.index(from_state)
    return list(zip(FORWARD[start:], FORWARD[start + 1 :], strict=False))
