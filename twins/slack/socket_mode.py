"""Socket Mode: what people do in Slack reaches the app through a websocket that the app has opened.

Written from docs.slack.dev/apis/events-api/using-socket-mode and tried with slack_sdk's own clients. Each envelope goes to one
connection; what is not acknowledged within 3 s is sent again, to any connection, with the same `envelope_id`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from twins.faults import FaultPlan
from twins.slack.content import ok, refused, wrong_content

TICKET_S = 30.0
RESPONSE_S = 1_800.0
RESPONSE_USES = 5
TEAM = {"id": "T0TWIN0001", "domain": "twin"}


@dataclass
class Envelope:
    """What was sent to the app, each try with its time (monotonic, s), and when the app acknowledged it."""

    envelope_id: str
    kind: str
    payload: dict[str, Any]
    tries: list[float] = field(default_factory=list)
    acked_s: float | None = None
    state: str = "waiting"
    """waiting, acknowledged, `dispatch_failed` (no connection) or `operation_timeout`: what the person is shown."""
    done: asyncio.Event | None = None


class SocketMode:
    """The connections of one app, its envelopes, and what it has answered to one person alone."""

    def __init__(self, faults: FaultPlan) -> None:
        self.faults = faults
        self.token = "xapp-1-A0TWIN-twin-token"
        self.ack_s = 3.0
        self.most_tries = 3
        self.envelopes: list[Envelope] = []
        self.answers: list[dict[str, Any]] = []
        """Messages that one person alone was shown, in order, with `via`: response_url or chat.postEphemeral."""
        self.opened = 0
        self.base = ""
        self._open: list[WebSocket] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tickets: dict[str, float] = {}
        self._responses: dict[str, dict[str, Any]] = {}
        self._turn = itertools.count()
        self._working: set[asyncio.Task[None]] = set()

    # --- what people do ---------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many sockets are open now."""
        return len(self._open)

    def command(
        self, user: str, text: str, channel: str = "C0TWIN00001", command: str = "/evenkeel"
    ) -> Envelope:
        """A person types a slash command."""
        payload = {
            "token": "not-used-any-more",
            "team_id": TEAM["id"],
            "team_domain": TEAM["domain"],
            "channel_id": channel,
            "channel_name": "twin",
            "user_id": user,
            "user_name": user.lower(),
            "command": command,
            "text": text,
            "api_app_id": "A0TWIN0001",
            "is_enterprise_install": "false",
            "response_url": self._response_url(user, channel),
            "trigger_id": _trigger_id(),
        }
        return self.push("slash_commands", payload)

    def press(
        self, user: str, message: dict[str, Any], action_id: str, channel: str = "C0TWIN00001"
    ) -> Envelope:
        """A person presses a button of a message, or of an answer that only this person sees."""
        for block in message.get("blocks", ()):
            for element in block.get("elements", ()) if block["type"] == "actions" else ():
                if element.get("action_id") == action_id:
                    return self.push("interactive", self._action(user, message, channel, block, element))
        raise ValueError(f"the message has no button {action_id!r}")

    def _action(
        self, user: str, message: dict[str, Any], channel: str, block: dict[str, Any], element: dict[str, Any]
    ) -> dict[str, Any]:
        alone = "via" in message
        pressed = {
            "action_id": element["action_id"],
            "block_id": block.get("block_id", "b1"),
            "text": element["text"],
            "type": "button",
            "action_ts": f"{time.time():.6f}",
        } | ({"value": element["value"]} if "value" in element else {})
        return {
            "type": "block_actions",
            "user": {"id": user, "username": user.lower(), "name": user.lower(), "team_id": TEAM["id"]},
            "api_app_id": "A0TWIN0001",
            "token": "not-used-any-more",
            "container": {
                "type": "message",
                "message_ts": message["ts"],
                "channel_id": channel,
                "is_ephemeral": alone,
            },
            "trigger_id": _trigger_id(),
            "team": TEAM,
            "enterprise": None,
            "is_enterprise_install": False,
            "channel": {"id": channel, "name": "twin"},
            **({} if alone else {"message": message}),
            "state": {"values": {}},
            "response_url": self._response_url(user, channel, message if alone else None),
            "actions": [pressed],
        }

    def push(self, kind: str, payload: dict[str, Any]) -> Envelope:
        """Send an envelope: `slash_commands`, `interactive` (block_actions, view_submission), `events_api`. From any thread."""
        made = Envelope(str(uuid.uuid4()), kind, payload)
        self.envelopes.append(made)
        if self._loop is None or not self._open:
            made.state = "dispatch_failed"
        else:
            self._loop.call_soon_threadsafe(self._begin, made)
        return made

    def disconnect(self, reason: str = "refresh_requested") -> None:
        """Slack asks the app for another connection: `warning` (some 10 s before), `refresh_requested` or `link_disabled`."""
        self._in_loop(lambda: self._close_all(reason))

    def drop(self) -> None:
        """Every connection ends without a word of Slack's."""
        self._in_loop(lambda: self._close_all(""))

    def forget_first(self) -> None:
        """Slack notices that the oldest connection is dead."""
        if self._open:
            self._open.pop(0)

    def answers_to(self, user: str) -> list[dict[str, Any]]:
        """What this person was shown, replaced answers as they are now."""
        return [one for one in self.answers if one["user"] == user]

    # --- the app's side ---------------------------------------------------------------------------------------------

    async def connections_open(self, request: Request) -> Response:
        """`apps.connections.open`: an address to connect to, for the app-level token in the header."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not bearer:
            return refused("not_authed")
        if bearer != self.token:
            return refused("not_allowed_token_type" if bearer.startswith("xoxb-") else "invalid_auth")
        self._loop, self.base = asyncio.get_running_loop(), str(request.base_url)
        ticket = uuid.uuid4().hex
        self._tickets[ticket] = time.monotonic()
        address = self.base.replace("http://", "ws://")
        return ok(url=f"{address}link/?ticket={ticket}&app_id=A0TWIN0001")

    async def link(self, socket: WebSocket) -> None:
        """One connection."""
        begun = self._tickets.pop(socket.query_params.get("ticket", ""), None)
        if begun is None or time.monotonic() - begun > TICKET_S:
            await socket.close(code=4001)
            return
        await socket.accept()
        self._open.append(socket)
        self.opened += 1
        hello = {
            "type": "hello",
            "num_connections": len(self._open),
            "debug_info": {
                "host": "applink-twin",
                "build_number": 1,
                "approximate_connection_time": 18_060,
            },
            "connection_info": {"app_id": "A0TWIN0001"},
        }
        try:
            await socket.send_text(json.dumps(hello))
            while True:
                self._take(await socket.receive_text())
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            if socket in self._open:
                self._open.remove(socket)

    def _take(self, text: str) -> None:
        try:
            said = json.loads(text)
        except ValueError:
            return
        for one in self.envelopes:
            if one.envelope_id == said.get("envelope_id") and one.acked_s is None:
                if self.faults.take("slack", "ack_lost"):
                    return
                one.acked_s, one.state = time.monotonic(), "acknowledged"
                if one.done is not None:
                    one.done.set()
                if said.get("payload"):
                    channel = str(one.payload.get("channel_id", ""))
                    self._show(
                        str(one.payload.get("user_id", "")), channel, said["payload"], "acknowledgement"
                    )

    def _begin(self, made: Envelope) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(made))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _deliver(self, made: Envelope) -> None:
        made.done = asyncio.Event()
        for attempt in range(self.most_tries):
            body: dict[str, Any] = {
                "envelope_id": made.envelope_id,
                "type": made.kind,
                "payload": made.payload,
                "accepts_response_payload": made.kind == "slash_commands",
            }
            if attempt:
                body |= {"retry_attempt": attempt, "retry_reason": "timeout"}
            made.tries.append(time.monotonic())
            if attempt or not self.faults.take("slack", "envelope_lost"):
                await self._send(body)
            if not attempt and (twice := self.faults.take("slack", "envelope_twice")):
                if twice.args.get("other_id"):
                    body = {**body, "envelope_id": str(uuid.uuid4())}
                await self._send(body)
            try:
                await asyncio.wait_for(made.done.wait(), self.ack_s)
                return
            except TimeoutError:
                continue
        made.state = "operation_timeout"

    async def _send(self, body: dict[str, Any]) -> None:
        if self._open:
            socket = self._open[next(self._turn) % len(self._open)]
            try:
                await socket.send_text(json.dumps(body))
            except (WebSocketDisconnect, RuntimeError):
                return

    def _in_loop(self, call: Any) -> None:
        if self._loop is None:
            return

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(call())
            self._working.add(task)
            task.add_done_callback(self._working.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _close_all(self, reason: str) -> None:
        for socket in list(self._open):
            if reason:
                body = {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-twin"}}
                await socket.send_text(json.dumps(body))
            if reason != "warning":
                self._open.remove(socket)
                await socket.close(code=1000 if reason else 1011)

    # --- answers to one person --------------------------------------------------------------------------------------

    def _response_url(self, user: str, channel: str, original: dict[str, Any] | None = None) -> str:
        name = uuid.uuid4().hex
        self._responses[name] = {
            "user": user,
            "channel": channel,
            "original": original,
            "until": time.monotonic() + RESPONSE_S,
            "left": RESPONSE_USES,
        }
        return f"{self.base}response/{name}"

    def expire_responses(self) -> None:
        """Half an hour passes: no `response_url` that was given so far takes anything any more."""
        for one in self._responses.values():
            one["until"] = 0.0

    async def respond(self, request: Request) -> Response:
        """A `response_url`: good for half an hour and five answers."""
        known = self._responses.get(request.path_params["name"])
        if known is None or known["until"] < time.monotonic():
            return _gone("expired_url")
        if known["left"] <= 0:
            return _gone("used_url")
        given = await request.json()
        if given.get("delete_original"):
            if known["original"] in self.answers:
                self.answers.remove(known["original"])
            return ok()
        if error := wrong_content(given):
            answer = refused(error)
            answer.status_code = 404
            return answer
        known["left"] -= 1
        if given.get("replace_original") and known["original"] is not None:
            known["original"].clear()
            known["original"] |= self._row(known["user"], known["channel"], given, "response_url")
        else:
            self._show(known["user"], known["channel"], given, "response_url")
        return ok()

    def post_ephemeral(self, given: dict[str, Any]) -> Response:
        """`chat.postEphemeral`, once the channel is found good."""
        if error := wrong_content(given):
            return refused(error)
        row = self._show(str(given.get("user", "")), str(given["channel"]), given, "chat.postEphemeral")
        return ok(message_ts=row["ts"])

    def _show(self, user: str, channel: str, given: dict[str, Any], via: str) -> dict[str, Any]:
        row = self._row(user, channel, given, via)
        self.answers.append(row)
        return row

    @staticmethod
    def _row(user: str, channel: str, given: dict[str, Any], via: str) -> dict[str, Any]:
        blocks = given.get("blocks") or []
        return {
            "user": user,
            "channel": channel,
            "text": str(given.get("text", "")),
            "blocks": json.loads(blocks) if isinstance(blocks, str) else blocks,
            "response_type": given.get("response_type", "ephemeral"),
            "via": via,
            "ts": f"{time.time():.6f}",
        }


def _trigger_id() -> str:
    return f"{uuid.uuid4().int % 10**13}.{TEAM['id']}.{uuid.uuid4().hex}"


def _gone(error: str) -> Response:
    answer = refused(error)
    answer.status_code = 404
    return answer
