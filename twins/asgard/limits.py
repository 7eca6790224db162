"""Who may ask how often: one request per second and address, more with a key; measured in world time."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from twins.asgard.wire import ApiError
from twins.world import World

SLACK = 0.1
"""Share of a request's spacing by which it may arrive early, since networks jitter."""


@dataclass
class _Bucket:
    tokens: float
    at_ms: int


class RateLimit:
    """A token bucket per key or address. A rate of None is unlimited."""

    def __init__(self, world: World, api_keys: set[str] | None, keyed_per_s: float | None) -> None:
        self._world = world
        self._api_keys = api_keys
        self.keyed_per_s = keyed_per_s
        self.keyless_per_s: float | None = 1.0
        self._buckets: dict[str, _Bucket] = {}

    def check(self, request: Request) -> None:
        """Raise ApiError 401 for a key that is not known, 429 over the limit."""
        key = request.headers.get("x-api-key")
        if key is not None and self._api_keys is not None and key not in self._api_keys:
            raise ApiError(401, "Unauthorized", "X-API-Key is not valid")
        if key is not None:
            self._spend(f"key {key}", self.keyed_per_s)
        else:
            self._spend(f"address {request.client.host if request.client else '?'}", self.keyless_per_s)

    def _spend(self, who: str, per_s: float | None) -> None:
        if per_s is None:
            return
        now_ms = self._world.now_ms()
        capacity = max(1.0, per_s) + SLACK
        bucket = self._buckets.setdefault(who, _Bucket(capacity, now_ms))
        bucket.tokens = min(capacity, bucket.tokens + (now_ms - bucket.at_ms) / 1000 * per_s)
        bucket.at_ms = now_ms
        if bucket.tokens < 1:
            raise ApiError(429, "TooManyRequests", f"rate limit of {per_s:g} requests per second exceeded")
        bucket.tokens -= 1
