"""What a pair of a buy and a sell has earned by: three questions that have three answers."""

from __future__ import annotations

from enum import IntEnum

LATE_MS = 300_000
"""A hedge that fills later than this after its fill has earned or lost by the price's move."""


class Bucket(IntEnum):
    """`SPREAD`: a lot of the chain that a hedge closed in time. `NETTING`: a lot of the chain that the chain closed.
    `DIRECTIONAL`: a hedge that came late, or a lot that the broker opened.
    """

    SPREAD = 0
    NETTING = 1
    DIRECTIONAL = 2

    @property
    def label(self) -> str:
        """The word for it in tables and files."""
        return ("spread", "netting", "directional")[self]
