"""Rate limits: request weight per IP and minute, and the action budget of each address."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

from twins.hyperliquid.account import Account
from twins.hyperliquid.errors import ActionRefused

MINUTE_MS = 60_000
LIGHT = frozenset(
    {"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
PER_ROW = {
    "userFills": 20,
    "userFillsByTime": 20,
    "fundingHistory": 20,
    "userFunding": 20,
    "userNonFundingLedgerUpdates": 20,
    "historicalOrders": 20,
    "recentTrades": 20,
    "candleSnapshot": 60,
}
OVERDRAFT_MS = 10_000
MAX_ITEMS = 200
CANCELS = frozenset({"cancel", "cancelByCloid"})


def info_weight(kind: str) -> int:
    """Return the weight before the answer; the types of `PER_ROW` weigh 1 more for that many rows."""
    return 2 if kind in LIGHT else 60 if kind == "userRole" else 20


def row_weight(kind: str, answer: Any) -> int:
    return len(answer) // PER_ROW[kind] if kind in PER_ROW and isinstance(answer, list) else 0


def items_of(action: dict[str, Any]) -> int:
    """Return how many orders, cancels or changes an action carries."""
    for key in ("orders", "cancels", "modifies"):
        if isinstance(action.get(key), list):
            return max(1, len(action[key]))
    return 1


def exchange_weight(action: dict[str, Any]) -> int:
    return 1 + items_of(action) // 40


class IpWeight:
    """Sliding minute of world time per client address."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._spent: dict[str, deque[tuple[int, int]]] = {}
        self._sum: dict[str, int] = {}

    def spend(self, ip: str, weight: int, now_ms: int) -> bool:
        """Return whether the request fits into the running minute; a refused one costs nothing."""
        self._forget(ip, now_ms)
        if self._sum.get(ip, 0) + weight > self.per_minute:
            return False
        self.add(ip, weight, now_ms)
        return True

    def add(self, ip: str, weight: int, now_ms: int) -> None:
        if weight:
            self._spent.setdefault(ip, deque()).append((now_ms, weight))
            self._sum[ip] = self._sum.get(ip, 0) + weight

    def _forget(self, ip: str, now_ms: int) -> None:
        spent = self._spent.setdefault(ip, deque())
        while spent and spent[0][0] <= now_ms - MINUTE_MS:
            self._sum[ip] -= spent.popleft()[1]


class AddressBudget:
    """10,000 actions plus 1 per USD traded; when exhausted 1 per 10 s. Refusals are free; cancels
    have more room.
    """

    def __init__(self, initial: int = 10_000) -> None:
        self.initial = initial

    def cap(self, account: Account) -> int:
        return self.initial + int(account.cum_volume_usd)

    def spend(self, account: Account, action: dict[str, Any], now_ms: int) -> None:
        count = items_of(action)
        if count > MAX_ITEMS:
            raise ActionRefused(f"Signed action over weight limit of {MAX_ITEMS}.")
        limit = cap = self.cap(account)
        if action["type"] in CANCELS:
            limit = min(cap + 100_000, 2 * cap)
        used = account.requests_used + count
        if used > limit:
            if count > 1 or now_ms - account.last_overdraft_ms < OVERDRAFT_MS:
                volume = account.cum_volume_usd.quantize(Decimal("0.01"))
                raise ActionRefused(
                    f"Too many cumulative requests sent ({used} > {limit}) for cumulative volume traded "
                    f"${volume}. Place taker orders to free up 1 request per USDC traded."
                )
            account.last_overdraft_ms = now_ms
        account.requests_used = used
