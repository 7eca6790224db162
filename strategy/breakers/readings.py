"""What venue-health breakers judge; a business's own readings extend it."""

from __future__ import annotations

from pydantic import Field

from evenkeel.types import Frozen
from strategy.breakers.state import Memory


class HealthReadings(Frozen):
    """How the venues have answered lately. A breaker that is asked without its figures is tripped: missing never means
    well.
    """

    now_ms: int
    trips: dict[str, Memory] = Field(default_factory=dict)
    """Earlier trips that still stand, by the breaker's name."""
    failed_ms: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """By host (a venue, or a chain's node), when calls failed (time-outs, 429, 5xx); older ones may be among them."""
    in_a_row: dict[str, int] = Field(default_factory=dict)
    """By host, the calls that failed one after another within `outage_window_s`."""
    mode_asked: bool = False
    """Whether the perpetuals account could be asked for its mode."""
    mode_fault: str | None = None
    """Why the account's mode is not one that we can read; None, once asked, is the plain mode."""
    observed_ms: dict[str, int | None] = Field(default_factory=dict)
    """By what was read, the venue's own stamp on it; None where it could not be read."""
