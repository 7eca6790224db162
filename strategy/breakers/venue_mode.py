"""Mode of the perpetuals account: with shared margin its balance reads as nothing, and no danger could be judged."""

from __future__ import annotations

from strategy.breakers.state import BreakerState, judged

NAME = "venue_mode"


def venue_mode_breaker(fault: str | None, was_asked: bool, now_ms: int) -> BreakerState:
    """`fault`: why the account's mode is not one we can read; None with `was_asked` is the plain mode."""
    return judged(
        NAME,
        None if not was_asked else fault is not None,
        (fault or "the account is in its plain mode")
        if was_asked
        else "the account's mode could not be read",
        "switch the account back with the master key; no agent can",
        now_ms,
    )
