"""Which moves a position may make; pure, so that it can be tested alone."""

from __future__ import annotations

from typing import Final

from evenkeel.errors import Bug
from evenkeel.legs import PositionStatus

_P = PositionStatus

POSITION_MOVES: Final[dict[PositionStatus, frozenset[PositionStatus]]] = {
    _P.OPENING: frozenset({_P.OPEN, _P.UNWINDING, _P.FAILED}),
    _P.OPEN: frozenset({_P.CLOSING}),
    _P.CLOSING: frozenset({_P.CLOSED}),
    _P.UNWINDING: frozenset({_P.CLOSED, _P.FAILED}),
    _P.CLOSED: frozenset(),
    _P.FAILED: frozenset(),
}


def check_position_move(from_status: PositionStatus, to_status: PositionStatus) -> None:
    """Raise Bug unless the move exists."""
    if to_status not in POSITION_MOVES[from_status]:
        allowed = ", ".join(sorted(POSITION_MOVES[from_status])) or "none, it is final"
        raise Bug(f"position cannot move {from_status} -> {to_status}; from {from_status}: {allowed}")


def never_holds_a_leg(status: PositionStatus) -> bool:
    """True for the statuses at the end of a position's life, which must hold nothing on any venue."""
    return status in (_P.CLOSED, _P.FAILED)
