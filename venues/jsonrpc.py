"""JSON-RPC over HTTP, as nodes of chains speak it: one call with its budget, reads tried again, two nodes as one."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, wraps
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar
from urllib.parse import urlsplit

import httpx

from evenkeel.clock import Clock
from evenkeel.errors import NOT_NOW, NotUnderstood, Retryable, VenueRefused
from venues.batches import NO_ANSWER, Batches, Call, TakesNone, is_together
from venues.ratebudget import RateBudget
from venues.reading import Oddities
from venues.shared import SharedReads

READ_ATTEMPTS = 3
SHUT_OUT_STATUS = frozenset({401, 402, 403, 404, 407, 410})
"""HTTP answers of a provider that does not let us in: a revoked key, an unpaid bill, an endpoint taken away."""
ODD_REQUEST, ANSWER_TOO_LARGE = -32600, -32003
"""What a node says of a batch that it does not take (JSON-RPC 2.0), and geth of what did not fit into the answer of one."""
POOL_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 3.0
"""Wall seconds for a node that is asked beside the other: what is urgent must not wait for a dead one."""
PROBE_EVERY_MS = 10_000
"""A node that could not be reached is asked again by `probe` so often, and by others only after the other node."""

P = ParamSpec("P")
T = TypeVar("T")


def typed(name: str) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Make a reading whose answer has an unexpected shape raise `NotUnderstood`, never a stray KeyError."""

    def decorate(read: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(read)
        async def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await read(*args, **kwargs)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                text = f"{read.__name__}: {type(error).__name__} in its answer"
                raise NotUnderstood(name, text) from None

        return checked

    return decorate


class RpcError(VenueRefused):
    """The node understood the call and refused it. `code`, `message` and `data` are the node's own.

    `is_shut_out`: it did not even look at the call, because its provider does not let us in.
    """

    def __init__(
        self, venue: str, method: str, code: int, message: str, data: Any = None, *, is_shut_out: bool = False
    ) -> None:
        super().__init__(venue, f"{method}: {message} ({code})")
        self.is_shut_out = is_shut_out
        self.code = code
        self.message = message
        self.data = data


class JsonRpc:
    """One node. Only the host of its URL is ever shown: providers put their key into the path or the query."""

    name: ClassVar[str]
    """What messages call it, before its host."""
    retryable_codes: ClassVar[frozenset[int]]
    of_everybody: ClassVar[frozenset[str]] = frozenset()
    """Methods that answer everybody alike: read once for all accounts of a process, where `shared` is set."""
    batched: ClassVar[frozenset[str]] = frozenset()
    """Methods without effect, which `venues.batches.together` may send as one request."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        budget: RateBudget | None = None,
        timeout_s: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
        oddities: Oddities | None = None,
    ) -> None:
        self.oddities = oddities or Oddities()
        self._url = url
        self.host = urlsplit(url).hostname or "?"
        self._clock = clock
        self._budget = budget
        self._ids = itertools.count(1)
        # Many calls at once wait for a connection; only one that has it is late.
        limits = httpx.Timeout(timeout_s, pool=POOL_TIMEOUT_S)
        self._http = httpx.AsyncClient(timeout=limits, trust_env=False, transport=transport)
        self.shared: SharedReads | None = None
        self._batches = Batches(self._call_all, self._call)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.host})"

    async def close(self) -> None:
        if self.shared is not None:
            await self.shared.close()
        await self._batches.close()
        await self._http.aclose()

    async def call(self, method: str, params: list[Any]) -> Any:
        """Make one call, not retried; a reading that is made `together` with others goes with them in one request. Raises
        `Retryable`, `RpcError` or `NotUnderstood`.
        """
        if is_together() and method in self.batched:
            return await self._batches.ask(method, params)
        return await self._call(method, params)

    async def _call(self, method: str, params: list[Any]) -> Any:
        status, parsed = await self._post(method, self._body(method, params), 1)
        return self._result(method, status, parsed)

    async def _call_all(self, calls: Sequence[Call]) -> list[Any]:
        """Make many calls in one request: for each its result, its own error, or NO_ANSWER. Raises as `call` does where nothing
        was answered, TakesNone where the node does not take so many at once.
        """
        what, bodies = f"{len(calls)} calls", [self._body(*one) for one in calls]
        status, parsed = await self._post(what, bodies, len(calls))
        if not isinstance(parsed, list):
            try:
                self._result(what, status, parsed)
            except RpcError as error:
                if error.is_shut_out:
                    raise
                raise TakesNone from None
            raise NotUnderstood(self.name, f"{what} at {self.host}: one answer")
        rows = [one for one in parsed if isinstance(one, dict)]
        if len(rows) < len(calls) and any(_failure_code(one) == ODD_REQUEST for one in rows):
            raise TakesNone
        by_id = {one["id"]: one for one in rows if isinstance(one.get("id"), int)}
        found: list[Any] = []
        for (method, _), body in zip(calls, bodies, strict=True):
            row = by_id.get(body["id"])
            if row is None or _failure_code(row) == ANSWER_TOO_LARGE:
                found.append(NO_ANSWER)
                continue
            try:
                found.append(self._result(method, status, row))
            except (Retryable, RpcError, NotUnderstood) as error:
                found.append(error)
        return found

    def _body(self, method: str, params: list[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}

    async def _post(self, what: str, body: Any, weight: int) -> tuple[int, Any]:
        """Return the HTTP status and what was answered. A provider counts each call of a batch."""
        if self._budget is not None:
            await self._budget.spend(weight)
        try:
            answer = await self._http.post(self._url, json=body)
        except httpx.HTTPError as error:
            raise Retryable(
                f"{self.name} {self.host} did not answer {what}: {type(error).__name__}"
            ) from None
        status = answer.status_code
        if status == 429 or status >= 500:
            raise Retryable(f"{self.name} {self.host} answered {what} with HTTP {status}")
        try:
            return status, answer.json()
        except (ValueError, RecursionError):
            if isinstance(body, list) and status >= 400 and status not in SHUT_OUT_STATUS:
                raise TakesNone from None
            raise NotUnderstood(self.name, f"{what} at {self.host}: not JSON (HTTP {status})") from None

    def _result(self, method: str, status: int, parsed: Any) -> Any:
        """Return the result of one answer. Raises as `call` does."""
        shut_out = status in SHUT_OUT_STATUS
        failure = parsed.get("error") if isinstance(parsed, dict) else None
        if isinstance(failure, dict):
            code, message = _code(failure.get("code")), str(failure.get("message", ""))
            if self._passes(method, code, message):
                raise Retryable(f"{self.name} {self.host}: {method}: {message} ({code})")
            raise self._refused(method, code, message, failure.get("data"), shut_out=shut_out)
        if status >= 400:
            raise self._refused(method, status, f"HTTP {status}", shut_out=shut_out)
        if not isinstance(parsed, dict) or "result" not in parsed:
            raise NotUnderstood(self.name, f"{method} at {self.host}: no result")
        return parsed["result"]

    async def read(self, method: str, params: list[Any]) -> Any:
        """Make a call without effect, tried a few times. Raises as `call` does."""
        if self.shared is None or method not in self.of_everybody or is_together():
            return await self._read(method, params)
        name = (method, json.dumps(params))
        return await self.shared.once(name, lambda: self._read(method, params))

    async def _read(self, method: str, params: list[Any]) -> Any:
        for attempt in itertools.count(1):
            try:
                return await self.call(method, params)
            except NOT_NOW:
                if attempt >= READ_ATTEMPTS:
                    raise
                await self._clock.sleep(0.25 * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _passes(self, method: str, code: int, message: str) -> bool:
        """Return whether a refusal is of this moment, so that the same call may succeed later."""
        return code in self.retryable_codes

    def _refused(self, method: str, code: int, message: str, data: Any = None, *, shut_out: bool) -> RpcError:
        return RpcError(f"{self.name} {self.host}", method, code, message, data, is_shut_out=shut_out)


def _code(code: object) -> int:
    return code if isinstance(code, int) else 0


def _failure_code(row: dict[str, Any]) -> int:
    failure = row.get("error")
    return _code(failure.get("code")) if isinstance(failure, dict) else 0


def unreached(error: Exception) -> bool:
    """Return whether this is no answer that can be used: the node is away, over its limits, does not let us in any more, or
    says what cannot be understood.
    """
    return isinstance(error, Retryable | NotUnderstood | TimeoutError) or (
        isinstance(error, RpcError) and error.is_shut_out
    )


N = TypeVar("N", bound=JsonRpc)


class Nodes(JsonRpc, Generic[N]):
    """Two nodes as one: a call goes to the first, and where that one cannot be reached to the second. A refusal is an answer.

    A node that could not be reached comes second until it has answered again, so that one that hangs costs its time-out
    once. What must be said by each node for itself is asked of `nodes` by `probe`.
    """

    def __init__(self, first: N, second: N, clock: Clock) -> None:
        super().__init__("", clock)
        self.nodes = (first, second)
        self.host = f"{first.host} and {second.host}"
        self._failed_ms: dict[N, int] = {}

    async def close(self) -> None:
        await super().close()
        for node in self.nodes:
            await node.close()

    async def call(self, method: str, params: list[Any]) -> Any:
        """Call the first node that can be reached. Raises as `either` does."""
        return await self.either(lambda node: node.call(method, params))

    async def shown_by_any(self, reading: Callable[[N], Awaitable[T | None]]) -> T | None:
        """Return what the first node shows that knows it: one that does not may lag behind the other."""
        found: T | None = None
        for node in self.nodes:
            found = found or await self.probe(node, partial(reading, node))
        return found

    async def probe(
        self, node: N, reading: Callable[[], Awaitable[T]], timeout_s: float = PROBE_TIMEOUT_S
    ) -> T | None:
        """Return one node's own answer, within `timeout_s` of the wall. None: it cannot be reached, or could not a
        moment ago while the other can. Raises `RpcError`, which is an answer.
        """
        failed_ms = self._failed_ms.get(node)
        other_is_there = any(one not in self._failed_ms for one in self.nodes if one is not node)
        if failed_ms is not None and other_is_there and self._clock.now_ms() - failed_ms < PROBE_EVERY_MS:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return self._reached(node, await reading())
        except (Retryable, NotUnderstood, RpcError, TimeoutError) as error:
            if not unreached(error):
                raise
            self._failed_ms[node] = self._clock.now_ms()
            return None

    async def either(self, asking: Callable[[N], Awaitable[T]]) -> T:
        """Return the answer of the first that can be reached. Raises `Retryable` where neither can be reached, `RpcError`
        for a refusal and where both shut us out.
        """
        errors: list[Retryable | NotUnderstood | RpcError] = []
        for node in sorted(self.nodes, key=self._failed_ms.__contains__):
            try:
                return self._reached(node, await asking(node))
            except (Retryable, NotUnderstood, RpcError) as error:
                if not unreached(error):
                    self._failed_ms.pop(node, None)
                    raise
                self._failed_ms[node] = self._clock.now_ms()
                errors.append(error)
        # One that shuts us out says no for good; as long as the other may be back, another try is worth it.
        raise next((one for one in errors if isinstance(one, Retryable)), errors[-1])

    def _reached(self, node: N, answer: T) -> T:
        self._failed_ms.pop(node, None)
        return answer
