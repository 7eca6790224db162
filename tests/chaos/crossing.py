"""What can befall one outside call: a layer around every twin that records all calls and strikes one of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twins.faults import App, Fault, FaultPlan, Message, Receive, Scope, Send, _hang_up
from twins.world import World

LATE_WORLD_S = 30.0
LATE_CALLS = 8
"""Answers that others get before a request that was held up gets through: time for two looks at what became of it."""
CallNames = dict[str, Callable[[str, str, bytes], str]]


@dataclass(frozen=True)
class Point:
    """The `nth` call of this name ("venue name") since the crossing was armed, from 1."""

    call: str
    nth: int

    def __str__(self) -> str:
        return f"{self.call}#{self.nth}"

    @property
    def venue(self) -> str:
        return self.call.partition(" ")[0]

    @property
    def name(self) -> str:
        return self.call.partition(" ")[2]


class Exchange:
    """One HTTP call on its way: it can be applied, answered, or hung up on."""

    def __init__(
        self, point: Point, app: App, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        self.point = point
        self.body = body
        self._app, self._scope, self._receive, self._send = app, scope, receive, send

    async def apply(self) -> list[Message]:
        """Let the twin do its work; what it would have answered."""
        said: list[Message] = []
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await self._receive()
            given = True
            return {"type": "http.request", "body": self.body, "more_body": False}

        async def keep(message: Message) -> None:
            said.append(message)

        await self._app(self._scope, replay, keep)
        return said

    async def say(self, messages: list[Message]) -> None:
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
        """Until the caller has closed the connection: timed out, or dead."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _HeldUp:
    """A request that its caller has given up and that is still on its way."""

    def __init__(self) -> None:
        self.long_enough = asyncio.Event()
        self._answered = 0

    def somebody_else_was_answered(self) -> None:
        self._answered += 1
        if self._answered >= LATE_CALLS:
            self.long_enough.set()


@dataclass
class Crossing:
    """Counts every call by name and strikes the one that it is armed for."""

    world: World
    faults: FaultPlan
    names: CallNames
    kill: Callable[[], None] = lambda: None
    calls: list[Point] = field(default_factory=list)
    met: int = 0
    each_call: Callable[[], None] = lambda: None
    """Called before each call is looked at: for what happens by world time."""
    _point: Point | None = None
    _deed: str = ""
    _then: Callable[[], Awaitable[None] | None] | None = None
    _seen: Counter[str] = field(default_factory=Counter)
    _late: list[_HeldUp] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def arm(
        self, point: Point | None, deed: str = "", then: Callable[[], Awaitable[None] | None] | None = None
    ) -> None:
        """Forget what was counted; strike `point` with `deed` when it comes. `then`: called right before the deed."""
        self._point, self._deed, self._then, self.met = point, deed, then, 0
        self.calls, self._seen = [], Counter()

    async def let_through(self) -> None:
        """Whatever is still held up gets through now."""
        for held in self._late:
            held.long_enough.set()
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def around(self, venue: str, app: App) -> App:
        """The twin's app with this layer before it."""
        if venue not in self.names:
            return app

        async def crossed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body = await _whole(receive)
            name = f"{venue} {self.names[venue](scope['method'], scope['path'], body)}"
            self._seen[name] += 1
            here = Point(name, self._seen[name])
            self.calls.append(here)
            self.each_call()
            exchange = Exchange(here, app, scope, body, receive, send)
            if here == self._point:
                self.met += 1
                if self._then is not None and (doing := self._then()) is not None:
                    await doing
                await DEEDS[self._deed](self, exchange)
                return
            await exchange.say(await exchange.apply())
            for waiting in self._late:
                waiting.somebody_else_was_answered()

        return crossed

    # --- the deeds --------------------------------------------------------------------------------------------

    async def nothing(self, call: Exchange) -> None:
        await call.say(await call.apply())

    async def kill_arrived(self, call: Exchange) -> None:
        self.kill()
        await call.hang_up()

    async def kill_applied(self, call: Exchange) -> None:
        await call.apply()
        self.kill()
        await call.hang_up()

    async def drop_request(self, call: Exchange) -> None:
        await call.hang_up()

    async def drop_answer(self, call: Exchange) -> None:
        await call.apply()
        await call.hang_up()

    async def delay(self, call: Exchange) -> None:
        """The caller's patience ends first; half a minute later the request gets through all the same."""
        await call.caller_gone()
        self.world.clock.advance_to(self.world.now_ms() + LATE_WORLD_S * 1000)
        await call.apply()

    async def late(self, call: Exchange) -> None:
        """The caller's patience ends, it asks what became of it and is told "nothing"; then the request gets through."""
        await call.caller_gone()
        held = _HeldUp()
        self._late.append(held)

        async def get_through() -> None:
            await held.long_enough.wait()
            self._late.remove(held)
            await call.apply()

        task = asyncio.create_task(get_through())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def http_429(self, call: Exchange) -> None:
        await call.answer(429, b"rate limited")

    async def http_500(self, call: Exchange) -> None:
        await call.answer(500, b'{"error": "internal server error"}')

    async def http_500_after(self, call: Exchange) -> None:
        await call.apply()
        await call.answer(502, b"<html><h1>502 Bad Gateway</h1></html>")

    async def garbage(self, call: Exchange) -> None:
        await call.apply()
        await call.answer(200, b"<html>\x00 not what you asked for")

    async def refuse(self, call: Exchange) -> None:
        """The venue says no, in words of its own, and does nothing."""
        venue, name = call.point.venue, call.point.name
        if venue == "solana":
            said = {"code": -32002, "message": "Transaction simulation failed: Blockhash not found"}
            if name != "rpc:sendTransaction":
                said = {"code": -32602, "message": "Invalid params: refused"}
            request = json.loads(call.body)
            error = {"jsonrpc": "2.0", "error": said, "id": request["id"]}
            await call.answer(200, json.dumps(error).encode(), b"application/json")
        elif venue == "hyperliquid" and name != "exchange:order":
            if name.startswith("exchange:"):
                error = {"status": "err", "response": "Must deposit before performing actions."}
                await call.answer(200, json.dumps(error).encode(), b"application/json")
            else:
                await call.answer(422, b"Failed to deserialize the JSON body into the target type")
        else:
            self.faults.add(Fault(venue, "reject", ".*"))
            await self.nothing(call)

    async def partial(self, call: Exchange) -> None:
        """An order fills a little more than half."""
        self.faults.add(Fault("hyperliquid", "partial_fill", "exchange:order", args={"fraction": "0.6"}))
        await self.nothing(call)


DEEDS: dict[str, Callable[[Crossing, Exchange], Awaitable[None]]] = {
    "nothing": Crossing.nothing,
    "kill when it arrives": Crossing.kill_arrived,
    "kill after it was applied": Crossing.kill_applied,
    "request lost": Crossing.drop_request,
    "answer lost": Crossing.drop_answer,
    "30 s late": Crossing.delay,
    "late, after a look": Crossing.late,
    "429": Crossing.http_429,
    "500 before": Crossing.http_500,
    "500 after": Crossing.http_500_after,
    "garbage": Crossing.garbage,
    "refused": Crossing.refuse,
    "partial fill": Crossing.partial,
}
READ_DEEDS = tuple(deed for deed in DEEDS if deed not in ("nothing", "late, after a look", "partial fill"))
MOVE_DEEDS = (*READ_DEEDS, "late, after a look")
ORDER_DEEDS = (*MOVE_DEEDS, "partial fill")
KILLS = ("kill when it arrives", "kill after it was applied")
NEEDS_IMPATIENCE = ("30 s late", "late, after a look")


async def _whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
