"""API errors: a venue that fails now and again is no venue to open on, though each call may work when tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from strategy.breakers.state import BreakerState, Memory, judged
from strategy.limits import RiskLimits

NAME = "api_errors"


def api_errors_breaker(
    failed_ms: Mapping[str, Sequence[int]], memory: Memory | None, now_ms: int, limits: RiskLimits
) -> BreakerState:
    """More than `max_api_errors` failed calls to one host within `api_error_window_s` pause entries for that long.

    `failed_ms`: by host, when calls failed (time-outs, 429, 5xx); older ones may be among them.
    """
    first_ms = now_ms - limits.api_error_window_s * 1000
    counts = {host: sum(1 for at in times if at > first_ms) for host, times in failed_ms.items()}
    over = {host: count for host, count in counts.items() if count > limits.max_api_errors}
    within = f"in {limits.api_error_window_s} s, limit {limits.max_api_errors}"
    names = ", ".join(f"{host}: {count} failed calls {within}" for host, count in over.items())
    worst = max(counts.values(), default=0)
    return judged(
        NAME,
        bool(over),
        names or f"{worst} failed calls {within}",
        "see the venue's status page; the pause ends by itself once its calls succeed",
        now_ms,
        memory=memory,
        cooldown_s=limits.api_error_window_s,
        keep=True,
    )
