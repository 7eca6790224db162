"""What a back-test takes for granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.research.moments import Moment


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a back-test takes for granted. USD; rates are fractions."""

    capital_usd: float = 100_000.0
    """Of both legs and what lies beside them."""
    margin_share: float = 0.5
    """What of it lies with the perpetual's venue; the rest is beside the long."""
    deploys_share: bool = False
    """True: an entry deploys the settings' share of what lies on each side, as the product does; False: all of it."""
    closes_at_end: bool = False
    """Whether what is open when the span ends is closed then."""
    asks_at_end: bool = True
    """Whether the rules are asked in that moment too, as for a position that one of them closed; one by hand asks none."""
    cost_factor: float = 1.0
    transfer_usd: float = 3.0
    keeps_size: bool = True
    """False: no reserve, no transfer, no growth, as before these rules were there."""
    transfer_delay_hours: int | None = 24
    """From the proposal of a transfer to its arrival; None: nobody moves money."""
    always_in: bool = False
    """The baseline: enters at once, never leaves for the sake of carry, and grows without asking whether that pays."""
    asks_today: bool = True
    """Whether an entry asks for today's sign; without, for the last hour's alone, as the old rules did."""
    margin_at_once: bool = False
    """Not possible, and a bound: a weak leg is mended with money of the other, at once, whatever that is tied up in."""
    deleveraged_ms: int | None = None
    """Auto-deleveraging: by the first price after this time the venue closes a share of the short; None: never."""
    deleveraged_share: float = 0.5
    reads_running_rates: bool = False
    """Whether lending rates are those of the hour that runs, as a lender shows them, and not the last hour's mean."""
    seen: Mapping[int, tuple[Moment, ...]] = field(default_factory=dict)
    """What a position saw of the prices, by the start (ms) of the hour. Such an hour is walked along these moments, each of
    which asks the rules; the hour before it is decided at the first of them, or, where there is none, not at all.
    """
