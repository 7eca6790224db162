"""The key that signs on the short's venue: an agent's ends at a time, and nothing can be closed with it afterwards."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import Level, NeedState, critical, fine, unknown, warned
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "agent_key"
HOUR_MS = 3_600_000
ADVICE = "approve the agent anew with the account's own key, before it ends; an exit needs it"


def left_words(left_ms: int) -> str:
    """A time that is left, in words: `36 hours`, `9 days`."""
    hours = left_ms / HOUR_MS
    if hours < 1:
        return f"{left_ms // 60_000} minutes"
    return f"{hours:.0f} hours" if hours < 60 else f"{hours / 24:.0f} days"


@rule(NAME)
def agent_key(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Warn at 7 days, critically at 1 day and once it is dead. No entry whose expected hold outlives the key."""
    r, risk = readings, limits.risk
    if r.agent_approved is None:
        return unknown(NAME, "the agent's approval on Hyperliquid")
    if not r.agent_approved:
        reason = f"the key {r.agent_address} is not approved for the account on Hyperliquid: no short can be closed with it"
        return critical(NAME, reason, "approve it with the account's own key; the hedge is kept until then")
    if r.agent_until_ms is None:
        return fine(NAME, f"the key {r.agent_address} has no end")
    left_ms = r.agent_until_ms - r.now_ms
    if left_ms <= 0:
        reason = f"the agent key {r.agent_address} expired {left_words(-left_ms)} ago: no short can be closed with it"
        return critical(
            NAME,
            reason,
            "approve a new one with the account's own key; the hedge is kept until then",
            phase="dead",
        )
    left = f"the agent key {r.agent_address} expires in {left_words(left_ms)}"
    held = limits.strategy.expected_hold_hours
    outlived = left_ms < held * HOUR_MS
    if outlived:
        left += f", and a position is expected to be held for {held} hours (strategy.expected_hold_hours)"
    if left_ms <= risk.agent_critical_hours * HOUR_MS:
        return critical(NAME, left, ADVICE, phase="last day")
    if left_ms <= risk.agent_warning_hours * HOUR_MS:
        return warned(NAME, left, ADVICE, phase="last days", refuses_entry=outlived)
    if outlived:
        state = NeedState(name=NAME, level=Level.FINE, reason=left, advice=ADVICE, refuses_entry=True)
        return Judged(state)
    return fine(NAME, left)
