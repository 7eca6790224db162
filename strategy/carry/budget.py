"""The retry budget of an entry: how often and for how long each of its steps is tried before it gives up."""

from __future__ import annotations

from typing import Self

from evenkeel.types import Frozen
from strategy.carry.limits import CarryLimits


class EntryBudget(Frozen):
    """Every number of an entry's retries in one table; times in seconds of the injected clock.

    Those without a default are settings: `strategy.entry_attempts`, `strategy.entry_retry_interval_s`,
    `limits.max_naked_s` and `limits.naked_reserve_s`.
    """

    long_attempts: int = 2
    """Signed payloads for the long, the second only after the first is proved dead."""
    long_wait_s: float = 90.0
    """For which the venue is asked what became of the long's opening, before recovery must go on."""
    short_attempts: int
    """Finished orders of the short that did not fill it; then the long is unwound."""
    short_interval_s: int
    """Between two of them."""
    short_wait_s: float = 20.0
    """For the outcome of one of them: an order is dead 15 s after it was signed, if the venue can be asked, and while the
    long is naked nobody waits longer.
    """
    max_naked_s: int
    """Within which a long without its hedge must be closed again."""
    naked_reserve_s: int
    """The last part of it, kept for closing: no order of the short begins there."""
    ledger_interval_s: float = 1.0
    """Between two tries to hedge while the ledger is busy or a venue has no answer; they end with `hedge_within_s`."""
    reading_wait_s: float = 60.0
    reading_interval_s: float = 2.0
    """For a figure that must be known before both legs are called open: nothing is lost by waiting then."""
    resume_interval_s: float = 2.0
    """Before an entry that is half-way is taken up again."""
    resume_margin_s: int = 60
    """Beyond the naked limit, for which an entry goes on by itself before it leaves the rest to recovery."""

    @classmethod
    def of(cls, limits: CarryLimits) -> Self:
        """The budget under these settings."""
        return cls(
            short_attempts=limits.strategy.entry_attempts,
            short_interval_s=limits.strategy.entry_retry_interval_s,
            max_naked_s=limits.risk.max_naked_s,
            naked_reserve_s=limits.risk.naked_reserve_s,
        )

    @property
    def hedge_within_s(self) -> int:
        """Time for the short, from the moment the long is held."""
        return self.max_naked_s - self.naked_reserve_s

    @property
    def whole_s(self) -> int:
        """Time for which an entry is taken up again by the process that began it."""
        return self.max_naked_s + self.resume_margin_s
