"""How far a price may move against a leg until its venue liquidates it. Pure, Decimal throughout."""

from __future__ import annotations

from decimal import Decimal


def liquidation_distance(*, is_short: bool, mark_px: Decimal, liquidation_px: Decimal) -> Decimal:
    """Return the adverse move of `mark_px`, as a fraction, that reaches `liquidation_px`; negative when it is already
    past.
    """
    gap = liquidation_px - mark_px if is_short else mark_px - liquidation_px
    return gap / mark_px
