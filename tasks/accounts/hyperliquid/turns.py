"""Whose turn it is to be read: what a reading of an account takes of the venue's weight, and how often what is dear is read."""

from __future__ import annotations

from dataclasses import dataclass, field

WHOLE_EVERY_MS, IDENTITY_EVERY_MS = 600_000, 900_000
"""How often, at the most, fills are read of an account whose positions are as the books have them (for what was opened and
closed in between), and its agents and mode.
"""
WHOLE_SHARE, IDENTITY_SHARE = 3, 6
"""Which part of the weight these take at the most: with many accounts they come round later."""
LIGHT, STOP_WEIGHT, FILLS_WEIGHT, IDENTITY_WEIGHT = 2, 2, 20, 40
"""Request weights of a reading: its positions, each of its stops, its fills, its agents and its mode."""


@dataclass(frozen=True)
class Every:
    """How often, in ms, what is dear is read of each account."""

    whole_ms: int = WHOLE_EVERY_MS
    identity_ms: int = IDENTITY_EVERY_MS

    @classmethod
    def of(cls, accounts: int, weight_per_tick: float, tick_ms: int) -> Every:
        """Return it for so many accounts: neither takes more than its part of the weight."""
        per_ms = weight_per_tick / tick_ms
        whole = WHOLE_SHARE * accounts * FILLS_WEIGHT / per_ms
        identity = IDENTITY_SHARE * accounts * IDENTITY_WEIGHT / per_ms
        return cls(max(WHOLE_EVERY_MS, int(whole)), max(IDENTITY_EVERY_MS, int(identity)))


@dataclass
class Turn:
    """What this process remembers of an account. Times in ms, 0 for never."""

    read_ms: int = 0
    whole_ms: int = 0
    identity_ms: int = 0
    is_behind: bool = False
    """Its fills are to be read, and the last tick had no weight left for them."""
    is_paid: bool = False
    """The weight of its fills is counted already."""
    doubts: dict[str, str] = field(default_factory=dict)
    """By coin: what did not fit at the last reading. What does not fit twice is stale."""

    @property
    def comes_first(self) -> bool:
        """Whether something of it is known to be behind the venue."""
        return self.is_behind or bool(self.doubts)

    def reads_fills(self, now_ms: int, every: Every) -> bool:
        """Whether its fills are read whatever its positions say."""
        return self.comes_first or now_ms - self.whole_ms >= every.whole_ms

    def weight(self, trades: int, now_ms: int, every: Every) -> int:
        """About what its reading takes now."""
        found = LIGHT + STOP_WEIGHT * trades
        found += FILLS_WEIGHT if self.reads_fills(now_ms, every) else 0
        return found + (IDENTITY_WEIGHT if now_ms - self.identity_ms >= every.identity_ms else 0)
