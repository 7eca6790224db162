"""Stands before every twin: records all outside calls of the product, and applies one fault to one of them."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.chaos.answers import changed
from twins.faults import App, Fault, FaultPlan, Message, Receive, Scope, Send, _hang_up
from twins.world import World

LATE_WORLD_S = 30.0
LATE_CALLS = 8
"""Answers that other calls get before a held request gets through: time for two questions about what became of it."""
CallNames = dict[str, Callable[[str, str, bytes], str]]


@dataclass(frozen=True)
class Point:
    """The `nth` call of this name ("venue name") since the interceptor was armed, from 1."""

    call: str
    nth: int

    def __str__(self) -> str:
        return f"{self.call}#{self.nth}"

    @classmethod
    def of(cls, text: str) -> Point | None:
        """The point that is written so; None for what is none."""
        call, _, nth = text.rpartition("#")
        return cls(call, int(nth)) if call and nth.isdecimal() else None

    @property
    def venue(self) -> str:
        return self.call.partition(" ")[0]

    @property
    def name(self) -> str:
        return self.call.partition(" ")[2]


class OutsideCall:
    """One HTTP call of the product on its way to a twin: it can be applied, answered, or hung up on."""

    def __init__(
        self, point: Point, app: App, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        self.point = point
        self.body = body
        self._app, self._scope, self._receive, self._send = app, scope, receive, send

    async def apply(self) -> list[Message]:
        """Let the twin do its work; returns what it would have answered."""
        answer: list[Message] = []
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await self._receive()
            given = True
            return {"type": "http.request", "body": self.body, "more_body": False}

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(self._scope, replay, keep)
        return answer

    async def pass_on(self, messages: list[Message]) -> None:
        for message in messages:
            await self._send(message)

    async def answer(self, status: int, body: bytes, kind: bytes = b"text/html") -> None:
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def hang_up(self) -> None:
        """The connection closes without a byte."""
        await _hang_up(self._send)

    async def caller_gone(self) -> None:
        """Wait until the caller has closed the connection: timed out, or dead."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _HeldRequest:
    """A request that its caller has given up, still on its way to the venue."""

    def __init__(self) -> None:
        self.long_enough = asyncio.Event()
        self._answered = 0

    def another_call_was_answered(self) -> None:
        self._answered += 1
        if self._answered >= LATE_CALLS:
            self.long_enough.set()


def refusal(venue: str, name: str, body: bytes) -> tuple[int, bytes, bytes] | None:
    """Return status, body and content type by which a venue refuses this call; None where its twin has words of its own."""
    if venue == "solana":
        words = {"code": -32002, "message": "Transaction simulation failed: Blockhash not found"}
        if name != "rpc:sendTransaction":
            words = {"code": -32602, "message": "Invalid params: refused"}
        error = {"jsonrpc": "2.0", "error": words, "id": json.loads(body)["id"]}
        return 200, json.dumps(error).encode(), b"application/json"
    if venue == "evm":
        error = {
            "jsonrpc": "2.0",
            "id": json.loads(body)["id"],
            "error": {"code": -32000, "message": "refused"},
        }
        return 200, json.dumps(error).encode(), b"application/json"
    if venue == "ostium":
        return 404, b"not found", b"text/plain"
    if venue != "hyperliquid" or name == "exchange:order":
        return None
    if name.startswith("exchange:"):
        answer = {"status": "err", "response": "Must deposit before performing actions."}
        return 200, json.dumps(answer).encode(), b"application/json"
    return 422, b"Failed to deserialize the JSON body into the target type", b"text/html"


CallFault = Callable[["Interceptor", OutsideCall], Awaitable[None]]


@dataclass
class Interceptor:
    """Counts every call by name and applies a fault to the one that it is armed for."""

    world: World
    faults: FaultPlan
    names: CallNames
    kill: Callable[[], None] = lambda: None
    calls: list[Point] = field(default_factory=list)
    reached: int = 0
    """How often the call that it is armed for has come."""
    each_call: Callable[[], None] = lambda: None
    """Called before each call is handled: for what happens by world time."""
    _point: Point | None = None
    _fault: str = ""
    _event: Callable[[], Awaitable[None] | None] | None = None
    _seen: Counter[str] = field(default_factory=Counter)
    _for_good: dict[str, CallFault] = field(default_factory=dict)
    """By name of a call, what each one meets from now on."""
    _late: list[_HeldRequest] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def arm(
        self, point: Point | None, fault: str = "", event: Callable[[], Awaitable[None] | None] | None = None
    ) -> None:
        """Forget what was counted; apply `fault` to `point` when it comes. `event`: called right before the fault."""
        self._point, self._fault, self._event, self.reached = point, fault, event, 0
        self.calls, self._seen = [], Counter()
        self._for_good = {}

    async def let_through(self) -> None:
        """Let every request that is still held back get through now."""
        for held in self._late:
            held.long_enough.set()
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def around(self, venue: str, app: App) -> App:
        """The twin's app with this layer before it."""
        if venue not in self.names:
            return app

        async def intercepted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body = await _whole(receive)
            name = f"{venue} {self.names[venue](scope['method'], scope['path'], body)}"
            self._seen[name] += 1
            here = Point(name, self._seen[name])
            self.calls.append(here)
            self.each_call()
            call = OutsideCall(here, app, scope, body, receive, send)
            if here == self._point:
                self.reached += 1
                if self._event is not None and (doing := self._event()) is not None:
                    await doing
                await (CALL_FAULTS | SPECIAL_FAULTS)[self._fault](self, call)
                return
            if name in self._for_good:
                await self._for_good[name](self, call)
                return
            await call.pass_on(await call.apply())
            for waiting in self._late:
                waiting.another_call_was_answered()

        return intercepted

    # --- the faults -------------------------------------------------------------------------------------------

    async def no_fault(self, call: OutsideCall) -> None:
        await call.pass_on(await call.apply())

    async def kill_arrived(self, call: OutsideCall) -> None:
        self.kill()
        await call.hang_up()

    async def kill_applied(self, call: OutsideCall) -> None:
        await call.apply()
        self.kill()
        await call.hang_up()

    async def drop_request(self, call: OutsideCall) -> None:
        await call.hang_up()

    async def drop_answer(self, call: OutsideCall) -> None:
        await call.apply()
        await call.hang_up()

    async def delay(self, call: OutsideCall) -> None:
        """The caller times out first; half a minute later the request gets through all the same."""
        await call.caller_gone()
        self.world.clock.advance_to(self.world.now_ms() + LATE_WORLD_S * 1000)
        await call.apply()

    async def late(self, call: OutsideCall) -> None:
        """The caller times out, asks what became of its request and learns "nothing"; then the request gets through."""
        await call.caller_gone()
        held = _HeldRequest()
        self._late.append(held)

        async def get_through() -> None:
            await held.long_enough.wait()
            self._late.remove(held)
            await call.apply()

        task = asyncio.create_task(get_through())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def http_429(self, call: OutsideCall) -> None:
        await call.answer(429, b"rate limited")

    async def http_500(self, call: OutsideCall) -> None:
        await call.answer(500, b'{"error": "internal server error"}')

    async def http_500_after(self, call: OutsideCall) -> None:
        await call.apply()
        await call.answer(502, b"<html><h1>502 Bad Gateway</h1></html>")

    async def garbage(self, call: OutsideCall) -> None:
        await call.apply()
        await call.answer(200, b"<html>\x00 not what you asked for")

    async def refuse(self, call: OutsideCall) -> None:
        """The venue refuses, in its own words, and does nothing."""
        words = refusal(call.point.venue, call.point.name, call.body)
        if words is not None:
            await call.answer(*words)
            return
        self.faults.add(Fault(call.point.venue, "reject", ".*"))
        await self.no_fault(call)

    async def _from_here(self, call: OutsideCall, fault: CallFault) -> None:
        self._for_good[call.point.call] = fault
        await fault(self, call)

    async def refuse_for_good(self, call: OutsideCall) -> None:
        """The venue refuses this call and every later one of its name."""
        await self._from_here(call, Interceptor.refuse)

    async def down_for_good(self, call: OutsideCall) -> None:
        """This endpoint alone does not work any more."""
        await self._from_here(call, Interceptor.http_500)

    async def garble_for_good(self, call: OutsideCall) -> None:
        """Nothing that this endpoint answers from now on can be understood."""
        await self._from_here(call, Interceptor.garbage)

    async def spoil_for_good(self, call: OutsideCall) -> None:
        """One field of the answer is null from now on: which one depends on the story's call."""
        number = zlib.crc32(str(call.point).encode())

        async def spoil(self: Interceptor, call: OutsideCall) -> None:
            start, *rest = await call.apply()
            body = changed(b"".join(one.get("body", b"") for one in rest), number, "null")
            kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            length = (b"content-length", str(len(body)).encode())
            await call.pass_on(
                [{**start, "headers": [*kept, length]}, {"type": rest[-1]["type"], "body": body}]
            )

        await self._from_here(call, spoil)

    async def odd_row(self, call: OutsideCall) -> None:
        """The answer has a row more, which nobody expects; so has every later one."""
        self.faults.add(Fault(call.point.venue, "odd_row", call.point.name, times=-1))
        await self.no_fault(call)

    async def _by_the_twin(self, call: OutsideCall, kind: str) -> None:
        self.faults.add(Fault(call.point.venue, kind, call.point.name))
        await self.no_fault(call)

    async def no_effect(self, call: OutsideCall) -> None:
        """What is submitted lands, and nothing changes."""
        await self._by_the_twin(call, "no_effect")

    async def leftover(self, call: OutsideCall) -> None:
        """The close leaves a tenth of the collateral."""
        await self._by_the_twin(call, "leftover")

    async def hollow(self, call: OutsideCall) -> None:
        """The build contains nothing of what it is for."""
        await self._by_the_twin(call, "hollow")

    async def partial(self, call: OutsideCall) -> None:
        """An order fills a little more than half."""
        self.faults.add(Fault("hyperliquid", "partial_fill", "exchange:order", args={"fraction": "0.6"}))
        await self.no_fault(call)


NO_FAULT = "none"
CALL_FAULTS: dict[str, CallFault] = {
    NO_FAULT: Interceptor.no_fault,
    "kill when it arrives": Interceptor.kill_arrived,
    "kill after it was applied": Interceptor.kill_applied,
    "request lost": Interceptor.drop_request,
    "answer lost": Interceptor.drop_answer,
    "30 s late": Interceptor.delay,
    "late, after a tick": Interceptor.late,
    "429": Interceptor.http_429,
    "500 before": Interceptor.http_500,
    "500 after": Interceptor.http_500_after,
    "garbage": Interceptor.garbage,
    "refused": Interceptor.refuse,
    "partial fill": Interceptor.partial,
}
SPECIAL_FAULTS: dict[str, CallFault] = {
    "refused for good": Interceptor.refuse_for_good,
    "endpoint down": Interceptor.down_for_good,
    "never understood": Interceptor.garble_for_good,
    "field null": Interceptor.spoil_for_good,
    "odd row": Interceptor.odd_row,
    "lands without effect": Interceptor.no_effect,
    "something is left": Interceptor.leftover,
    "hollow build": Interceptor.hollow,
}
"""Each concerns some calls only: a business says which (`CallKinds.special`)."""
READ_FAULTS = tuple(one for one in CALL_FAULTS if one not in (NO_FAULT, "late, after a tick", "partial fill"))
WRITE_FAULTS = (*READ_FAULTS, "late, after a tick")
ORDER_FAULTS = (*WRITE_FAULTS, "partial fill")
KILLS = ("kill when it arrives", "kill after it was applied")
NEEDS_SHORT_TIMEOUT = ("30 s late", "late, after a tick")


async def _whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
