"""What `evenkeel doctor` looks at, one function a check. Importing this package makes all of them known."""

from app.doctor import (
    accounts,
    chain,
    clocks,
    hedging,
    hosts,
    ledger,
    limits,
    managed,
    messages,
    needs,
    observed,
    prefect,
    schedules,
)

__all__ = [
    "accounts",
    "chain",
    "clocks",
    "hedging",
    "hosts",
    "ledger",
    "limits",
    "managed",
    "messages",
    "needs",
    "observed",
    "prefect",
    "schedules",
]
