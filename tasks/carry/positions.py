"""Which position is meant: the one that is named, or the only one that it can be. And which have ended."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from evenkeel.errors import OperatorError
from evenkeel.legs import LegSide, PositionStatus
from evenkeel.units import DAY_MS
from state.carry.models import Leg, Position
from state.store import Store
from strategy.carry.sizing import OpenExposure
from tasks.carry.mark import LIVE

REMEMBERED_MS = 90 * DAY_MS
MOST_REMEMBERED = 50


def position_meant(
    store: Store,
    position_id: str | None,
    among: Sequence[PositionStatus] = tuple(PositionStatus),
    *,
    newest: bool = False,
) -> Position:
    """Return the position of this name whatever its status, or without one the only position whose status is `among` those
    given; of several the `newest` where that is asked for.

    Raises OperatorError where there is no such position, or more than one to choose from.
    """
    if position_id:
        named = store.carry.find_position(position_id)
        if named is None:
            raise OperatorError(f"no position is named {position_id!r}; `evenkeel positions` lists them")
        return named
    found = store.carry.positions(among)
    if not found:
        which = "stored" if set(among) == set(PositionStatus) else " or ".join(among)
        raise OperatorError(
            f"no position is {which}; `evenkeel enter` opens one, `evenkeel positions` lists all"
        )
    if len(found) > 1 and not newest:
        names = ", ".join(position.position_id for position in found)
        raise OperatorError(
            f"{len(found)} positions are {' or '.join(among)} ({names}): name the one you mean"
        )
    return found[-1]


def open_exposure(store: Store) -> tuple[OpenExposure, ...]:
    """What is open, as the caps see it: of this account, and of every other on the ledger."""
    return tuple(
        OpenExposure(asset=one.asset, position_usd=one.size_usd or Decimal(0), own=store.carry.is_own(one))
        for one in store.whole.carry.positions(LIVE)
    )


def ended_longs(store: Store, now_ms: int) -> dict[str, Leg]:
    """Return the long legs that ended in the last 90 days, at most 50 of them, by the place where their lender would show
    what they left.
    """
    ended = [one for one in store.carry.positions() if (one.closed_ms or 0) >= now_ms - REMEMBERED_MS]
    legs = [store.carry.leg(one.position_id, LegSide.LONG) for one in ended[-MOST_REMEMBERED:]]
    return {leg.ref: leg for leg in legs if leg is not None and not leg.is_open}
