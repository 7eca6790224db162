"""What a circuit breaker answers, and how a trip is carried from one judgement to the next."""

from __future__ import annotations

from evenkeel.types import Frozen
from strategy.decisions import Judged

ENTRIES = "entries"


class Memory(Frozen):
    """An earlier trip that still stands in the ledger. `until_ms` is None where only the condition ends it."""

    since_ms: int
    until_ms: int | None = None


class BreakerState(Frozen):
    """What one breaker says now. A tripped breaker refuses entries (`scope` says which), and never an exit.

    `until_ms` is None while only the end of the condition closes it. `keep`: the trip outlives this tick, and the ledger
    remembers it for every process.
    """

    name: str
    tripped: bool
    scope: str = ENTRIES
    reason: str
    advice: str
    since_ms: int | None = None
    until_ms: int | None = None
    keep: bool = False

    @property
    def rule(self) -> str:
        return self.name


def breaker(
    name: str,
    bad: bool | None,
    reason: str,
    advice: str,
    now_ms: int,
    *,
    memory: Memory | None = None,
    cooldown_s: int | None = None,
    keep: bool = False,
    scope: str = ENTRIES,
) -> Judged[BreakerState]:
    """Put a judgement and an earlier trip together.

    `bad` is None where it cannot be judged: that refuses, because missing never means well, but trips nothing for later
    and ends no trip. With a cooldown (seconds) the breaker stays tripped for so long after the condition was last seen.
    """
    since = memory.since_ms if memory else now_ms
    waiting = memory is not None and memory.until_ms is not None and now_ms < memory.until_ms
    if bad:
        until = None if cooldown_s is None else now_ms + cooldown_s * 1000
        state = BreakerState(
            name=name, tripped=True, scope=scope, reason=reason, advice=advice, since_ms=since, until_ms=until, keep=keep
        )  # fmt: skip
    elif bad is None or waiting:
        why = f"{reason}; cooling down" if waiting and bad is False else reason
        state = BreakerState(
            name=name, tripped=True, scope=scope, reason=why, advice=advice, since_ms=since,
            until_ms=memory.until_ms if memory else None,
        )  # fmt: skip
    else:
        state = BreakerState(name=name, tripped=False, scope=scope, reason=reason, advice="nothing")
    return Judged(state)
