"""Trade updates as they happen: by WebSocket for a Trading key, by server-sent events for a Broker's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from twins.alpaca.engine import VENUE, Engine

EVERY_S = 0.02
"""Wall seconds between two readings of what has happened."""
QUIET_S = 15.0
"""Wall seconds after which a stream without events says that it is there."""


class Streams:
    """Everybody who listens. `is_binary`: frames as paper accounts get them. Fault `stream_lost` closes a connection."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_binary = True
        self.listening = 0
        self._lost = 0

    def disconnect(self) -> None:
        """Close every connection of now."""
        self._lost += 1

    def _updates(self, account_id: str | None, since: int) -> list[dict[str, Any]]:
        self.engine.catch_up()
        return [one for one in self.engine.events[since:] if account_id in (None, one["account_id"])]

    # --- server-sent events --------------------------------------------------------------------------------------

    def events(self, request: Request) -> StreamingResponse:
        """Every event of every account; with `since_id` also those from that one on."""
        asked = request.query_params.get("since_id")
        first = int(asked) - 1 if asked and asked.isdigit() else len(self.engine.events)
        return StreamingResponse(self._sent(request, max(first, 0)), media_type="text/event-stream")

    async def _sent(self, request: Request, at: int) -> AsyncIterator[str]:
        lost, quiet = self._lost, 0.0
        self.listening += 1
        try:
            yield ":welcome\n\n"
            while lost == self._lost and self.engine.faults.take(VENUE, "stream_lost", "events") is None:
                for one in self._updates(None, at):
                    quiet = 0.0
                    yield f"data: {json.dumps(one)}\n\n"
                at = len(self.engine.events)
                quiet += EVERY_S
                if quiet > QUIET_S:
                    quiet = 0.0
                    yield ":heartbeat\n\n"
                if await request.is_disconnected():
                    return
                await asyncio.sleep(EVERY_S)
        finally:
            self.listening -= 1

    # --- the WebSocket -------------------------------------------------------------------------------------------

    async def socket(self, socket: WebSocket, keys: dict[str, tuple[str, str]]) -> None:
        """One connection: who it is, what it listens to, then its updates. `keys`: secret and account by key."""
        await socket.accept()
        said = await self._heard(socket)
        data = (said or {}).get("data") or {}
        key = str((said or {}).get("key") or data.get("key_id"))
        secret = str((said or {}).get("secret") or data.get("secret_key"))
        found = keys.get(key)
        ok = found is not None and found[0] == secret
        state = {"status": "authorized" if ok else "unauthorized", "action": "authenticate"}
        await self._say(socket, {"stream": "authorization", "data": state})
        if not ok or found is None:
            await socket.close()
            return
        lost, at, listens = self._lost, len(self.engine.events), False
        heard = asyncio.ensure_future(self._heard(socket))
        try:
            while lost == self._lost and self.engine.faults.take(VENUE, "stream_lost", "stream") is None:
                if heard.done():
                    said = heard.result()
                    if said is None:
                        return
                    if said.get("action") == "listen":
                        streams = said.get("data", {}).get("streams", [])
                        self.listening += ("trade_updates" in streams) - listens
                        listens, at = "trade_updates" in streams, len(self.engine.events)
                        await self._say(socket, {"stream": "listening", "data": {"streams": streams}})
                    heard = asyncio.ensure_future(self._heard(socket))
                for one in self._updates(found[1], at) if listens else ():
                    await self._say(socket, {"stream": "trade_updates", "data": one})
                at = len(self.engine.events)
                await asyncio.sleep(EVERY_S)
            await socket.close()
        except (WebSocketDisconnect, RuntimeError):
            return
        finally:
            self.listening -= listens
            heard.cancel()

    async def _say(self, socket: WebSocket, what: dict[str, Any]) -> None:
        text = json.dumps(what)
        await (socket.send_bytes(text.encode()) if self.is_binary else socket.send_text(text))

    @staticmethod
    async def _heard(socket: WebSocket) -> dict[str, Any] | None:
        """The next message of the client as an object; None where it has gone."""
        try:
            message = await socket.receive()
        except (WebSocketDisconnect, RuntimeError):
            return None
        if message["type"] == "websocket.disconnect":
            return None
        try:
            found = json.loads(message.get("text") or message.get("bytes") or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
