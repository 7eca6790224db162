"""Every outside call of a crossing, counted by name; something may happen before one of them, or after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.chaos.interceptor import OutsideCall, Point
from twins.faults import App, Message, Receive, Scope, Send, _hang_up

Act = Callable[[], Awaitable[None]]


class Watched:
    """Stands before every twin: counts the calls by name, and lets something happen before or after one of them."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.in_lives: set[tuple[tuple[str, str], int]] = set()
        """Those that came while `is_life` was set: a process of its own may be killed there."""
        self.is_life = False
        self.point: tuple[tuple[str, str], int] | None = None
        self.act: Act | None = None
        self.is_before = True
        self.is_lost = False
        """The call that it happened before never gets through."""
        self.reached = 0

    def around(self, venue: str, app: App, name_of: Callable[[str, str, bytes], str]) -> App:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            where = (venue, name_of(scope["method"], scope["path"], body))
            self.seen[where] += 1
            if self.is_life:
                self.in_lives.add((where, self.seen[where]))
            is_point = (where, self.seen[where]) == self.point and self.act is not None
            if is_point and self.act is not None:
                self.reached += 1
                if not self.is_before:
                    call = OutsideCall(Point(" ".join(where), 1), app, scope, body, receive, send)
                    messages = await call.apply()
                    await self.act()
                    with suppress(RuntimeError):  # who asked may be gone
                        await call.pass_on(messages)
                    return
                await self.act()
                if self.is_lost:
                    await _hang_up(send)
                    return
            whole = [{"type": "http.request", "body": body, "more_body": False}]
            await app(scope, lambda: _next(whole, receive), send)

        return watched


async def _next(whole: list[Message], receive: Receive) -> Message:
    return whole.pop() if whole else await receive()
