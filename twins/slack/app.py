"""Slack's Web API for one app: who it is, posting, changing, reading back with metadata, and files in three steps.

Written from Slack's reference (docs.slack.dev/reference/methods) and tried with its own client. An answer is HTTP 200 with
`ok`; a refusal names its `error`; 429 carries `Retry-After`. A message's `ts` is its name within a channel.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from twins.faults import FaultMiddleware, FaultPlan
from twins.slack.content import content_of, ok, refused, truth, wrong_content
from twins.slack.socket_mode import SocketMode


@dataclass
class SlackChannel:
    """A channel: whether the app is a member, and its messages by `ts`, oldest first."""

    member: bool = True
    archived: bool = False
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)


class SlackTwin:
    """One workspace. `page` is the most messages that one call reads back, whatever was asked for."""

    def __init__(
        self, faults: FaultPlan | None = None, *, token: str = "xoxb-twin-token", page: int = 200
    ) -> None:
        self.faults = faults or FaultPlan()
        self.token = token
        self.socket = SocketMode(self.faults)
        self.page = page
        self.channels: dict[str, SlackChannel] = {"C0TWIN00001": SlackChannel()}
        self.files: dict[str, dict[str, Any]] = {}
        self.scopes = ["chat:write", "channels:history", "groups:history", "files:write", "commands"]
        self._last_us = 0
        self.app = FaultMiddleware(
            Starlette(
                routes=[
                    Route("/api/apps.connections.open", self.socket.connections_open, methods=["POST"]),
                    WebSocketRoute("/link/", self.socket.link),
                    Route("/response/{name}", self.socket.respond, methods=["POST"]),
                    Route("/api/{method}", self._call, methods=["GET", "POST"]),
                    Route("/upload/{file_id}", self._upload, methods=["POST"]),
                ]
            ),
            self.faults,
            "slack",
            lambda method, path, body: path.removeprefix("/api/"),
            lambda: int(time.time() * 1000),
        )

    # --- what a person sees ------------------------------------------------------------------------------------

    def shown(self, channel: str = "C0TWIN00001", thread: str | None = None) -> list[dict[str, Any]]:
        """Messages in the order in which they were posted: of one thread, or all of the channel."""
        rows = self.channels[channel].messages.values()
        return [dict(row) for row in rows if thread is None or row.get("thread_ts", row["ts"]) == thread]

    def shared_files(self, channel: str = "C0TWIN00001") -> list[str]:
        """Names of the files in the order in which they were shown, each as often as it was."""
        return [one["name"] for row in self.shown(channel) for one in row.get("files", ())]

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """`ledger` and `shown`: every message, by channel. `command` (user, text) and `press` (user, ts, action_id) are what a
        person does, `answers` what only that person sees; `disconnect` (reason). ValueError for another operation.
        """
        channel = str(body.get("channel", "C0TWIN00001"))
        if op in ("ledger", "shown"):
            return {"messages": {name: self.shown(name) for name in self.channels}}
        if op == "answers":
            return {"answers": self.socket.answers}
        if op == "command":
            return {"state": self.socket.command(str(body["user"]), str(body.get("text", "")), channel).state}
        if op == "press":
            rows = [*self.socket.answers, *self.shown(channel)]
            meant = [row for row in rows if row["ts"] == body["ts"]]
            if not meant:
                raise ValueError(f"no message has ts {body['ts']}")
            return {
                "state": self.socket.press(str(body["user"]), meant[0], str(body["action_id"]), channel).state
            }
        if op == "disconnect":
            self.socket.disconnect(str(body.get("reason", "refresh_requested")))
            return {"connections": self.socket.connections}
        raise ValueError(f"Slack has no operation {op!r}: ledger, shown, answers, command, press, disconnect")

    # --- the interface ------------------------------------------------------------------------------------------

    async def _call(self, request: Request) -> Response:
        given = dict(request.query_params)
        kind = request.headers.get("content-type", "")
        if request.method == "POST" and "json" in kind:
            try:
                given |= await request.json()
            except ValueError:
                return refused("invalid_json")
        elif request.method == "POST":
            given |= dict(parse_qsl((await request.body()).decode()))
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        used = bearer or str(given.get("token", ""))
        if not used:
            return refused("not_authed")
        if used != self.token:
            return refused("invalid_auth")
        method = request.path_params["method"]
        needed = {"chat": "chat:write", "files": "files:write"}.get(method.split(".")[0], "")
        if needed and needed not in self.scopes:
            return self._named(refused("missing_scope", needed=needed, provided=",".join(self.scopes)))
        if method == "files.getUploadURLExternal" and "json" in kind:
            return refused("invalid_arguments")  # measured by others: it reads forms alone
        methods: dict[str, Callable[[dict[str, Any], str], Response]] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "chat.postEphemeral": self._ephemeral,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._complete_upload,
        }
        found = methods.get(method)
        return self._named(
            refused("unknown_method") if found is None else found(given, str(request.base_url))
        )

    def _named(self, answer: Response) -> Response:
        """Every answer names the rights of the token."""
        answer.headers["x-oauth-scopes"] = ",".join(self.scopes)
        return answer

    def _auth_test(self, given: dict[str, Any], base: str) -> Response:
        return ok(
            url=base,
            team="twin",
            user="evenkeel",
            team_id="T0TWIN0001",
            user_id="U0TWIN0001",
            bot_id="B0TWIN0001",
        )

    def _open(self, given: dict[str, Any], *, to_post: bool) -> tuple[SlackChannel | None, str]:
        channel = self.channels.get(str(given.get("channel", "")))
        if channel is None:
            return None, "channel_not_found"
        if not channel.member:
            return None, "not_in_channel"
        if to_post and channel.archived:
            return None, "is_archived"
        return channel, ""

    def _post(self, given: dict[str, Any], base: str) -> Response:
        channel, error = self._open(given, to_post=True)
        error = error or wrong_content(given)
        if channel is None or error:
            return refused(error)
        ts = self._next_ts()
        row = {"type": "message", "user": "U0TWIN0001", "bot_id": "B0TWIN0001", "ts": ts, **content_of(given)}
        if thread := given.get("thread_ts"):
            row["thread_ts"] = str(thread)
            if truth(given.get("reply_broadcast")):
                row["subtype"] = "thread_broadcast"
        channel.messages[ts] = row
        return ok(channel=given["channel"], ts=ts, message=row)

    def _update(self, given: dict[str, Any], base: str) -> Response:
        channel, error = self._open(given, to_post=True)
        if channel is None:
            return refused(error)
        row = channel.messages.get(str(given.get("ts", "")))
        if row is None:
            return refused("message_not_found")
        if error := wrong_content(given):
            return refused(error)
        row |= content_of(given)
        row["edited"] = {"user": "U0TWIN0001", "ts": self._next_ts()}
        return ok(channel=given["channel"], ts=row["ts"], text=row["text"], message=row)

    def _ephemeral(self, given: dict[str, Any], base: str) -> Response:
        channel, error = self._open(given, to_post=True)
        if channel is None or not given.get("user"):
            return refused(error or "user_not_in_channel")
        return self.socket.post_ephemeral(given)

    def _history(self, given: dict[str, Any], base: str) -> Response:
        channel, error = self._open(given, to_post=False)
        if channel is None:
            return refused(error)
        rows = [
            row
            for row in channel.messages.values()
            if "thread_ts" not in row
            or row["thread_ts"] == row["ts"]
            or row.get("subtype") == "thread_broadcast"
        ]
        return self._page(sorted(rows, key=lambda row: float(row["ts"]), reverse=True), given)

    def _replies(self, given: dict[str, Any], base: str) -> Response:
        channel, error = self._open(given, to_post=False)
        if channel is None:
            return refused(error)
        parent = str(given.get("ts", ""))
        if parent not in channel.messages:
            return refused("thread_not_found")
        answers = [row for row in channel.messages.values() if row.get("thread_ts") == parent]
        return self._page([channel.messages[parent], *answers], given, always=parent)

    def _page(self, rows: list[dict[str, Any]], given: dict[str, Any], always: str = "") -> Response:
        oldest = float(given.get("oldest") or 0)
        seen = [row for row in rows if float(row["ts"]) > oldest or row["ts"] == always]
        begin = int(given.get("cursor") or 0)
        end = begin + min(int(given.get("limit") or 100), self.page)
        shown = [dict(row) for row in seen[begin:end]]
        if not truth(given.get("include_all_metadata")):
            for row in shown:
                row.pop("metadata", None)
        more = end < len(seen)
        return ok(messages=shown, has_more=more, response_metadata={"next_cursor": str(end) if more else ""})

    def _upload_url(self, given: dict[str, Any], base: str) -> Response:
        if not given.get("filename") or not int(given.get("length") or 0):
            return refused("missing_argument")
        file_id = f"F0TWIN{len(self.files):05d}"
        self.files[file_id] = {"name": given["filename"], "length": int(given["length"]), "bytes": b""}
        return ok(upload_url=f"{base}upload/{file_id}", file_id=file_id)

    async def _upload(self, request: Request) -> Response:
        file = self.files.get(request.path_params["file_id"])
        body = await request.body()
        if file is None or len(body) != file["length"]:
            return PlainTextResponse("not what was announced", status_code=400)
        file["bytes"] = body
        return PlainTextResponse(f"OK - {len(body)}")

    def _complete_upload(self, given: dict[str, Any], base: str) -> Response:
        asked = given.get("files") or []
        rows = json.loads(asked) if isinstance(asked, str) else asked
        if not rows:
            return refused("invalid_arguments")
        if any(not self.files.get(row["id"], {}).get("bytes") for row in rows):
            return refused("file_not_found")
        if self.faults.take("slack", "file_not_found"):  # its job has not come to the file yet
            return refused("file_not_found")
        race = self.faults.take("slack", "file_update_failed")
        if race is not None and not race.args.get("shared"):
            return refused("file_update_failed")
        sent = {**given, "channel": given.get("channel_id") or str(given.get("channels", "")).split(",")[0]}
        channel, error = self._open(sent, to_post=True)
        if channel is None:
            return refused(error)
        thread = str(given.get("thread_ts") or "")
        if thread and thread not in channel.messages:
            return refused("thread_not_found")
        ts = self._next_ts()
        shown = [
            {
                "id": row["id"],
                "title": row.get("title", ""),
                "name": self.files[row["id"]]["name"],
                "size": self.files[row["id"]]["length"],
                "mimetype": "image/png",
            }
            for row in rows
        ]
        row = {
            "type": "message",
            "user": "U0TWIN0001",
            "ts": ts,
            "text": given.get("initial_comment", ""),
            "files": shown,
        }
        if thread:
            row["thread_ts"] = thread
        channel.messages[ts] = row
        return refused("file_update_failed") if race is not None else ok(files=shown)

    def _next_ts(self) -> str:
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
        return f"{self._last_us // 1_000_000}.{self._last_us % 1_000_000:06d}"
