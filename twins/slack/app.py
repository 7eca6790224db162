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
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from twins.faults import FaultMiddleware, FaultPlan

SECTION_CHARACTERS = 3_000
BLOCKS = 50
BLOCKS_CHARACTERS = 13_200
"""Measured by others (slackapi/bolt-js issue 2509); the reference names no limit of the whole."""
TEXT_CHARACTERS = 40_000
METADATA_CHARACTERS = 16_000


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
        self.page = page
        self.channels: dict[str, SlackChannel] = {"C0TWIN00001": SlackChannel()}
        self.files: dict[str, dict[str, Any]] = {}
        self.scopes = ["chat:write", "channels:history", "groups:history", "files:write", "commands"]
        self._last_us = 0
        self.app = FaultMiddleware(
            Starlette(
                routes=[
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
        """`ledger` and `shown`: every message, by channel. ValueError for another operation."""
        if op not in ("ledger", "shown"):
            raise ValueError(f"Slack has no operation {op!r}: ledger, shown")
        return {"messages": {name: self.shown(name) for name in self.channels}}

    # --- the interface ------------------------------------------------------------------------------------------

    async def _call(self, request: Request) -> Response:
        given = dict(request.query_params)
        kind = request.headers.get("content-type", "")
        if request.method == "POST" and "json" in kind:
            try:
                given |= await request.json()
            except ValueError:
                return _refused("invalid_json")
        elif request.method == "POST":
            given |= dict(parse_qsl((await request.body()).decode()))
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        used = bearer or str(given.get("token", ""))
        if not used:
            return _refused("not_authed")
        if used != self.token:
            return _refused("invalid_auth")
        method = request.path_params["method"]
        needed = {"chat": "chat:write", "files": "files:write"}.get(method.split(".")[0], "")
        if needed and needed not in self.scopes:
            return self._named(_refused("missing_scope", needed=needed, provided=",".join(self.scopes)))
        if method == "files.getUploadURLExternal" and "json" in kind:
            return _refused("invalid_arguments")  # measured by others: it reads forms alone
        methods: dict[str, Callable[[dict[str, Any], str], Response]] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._complete_upload,
        }
        found = methods.get(method)
        return self._named(
            _refused("unknown_method") if found is None else found(given, str(request.base_url))
        )

    def _named(self, answer: Response) -> Response:
        """Every answer names the rights of the token."""
        answer.headers["x-oauth-scopes"] = ",".join(self.scopes)
        return answer

    def _auth_test(self, given: dict[str, Any], base: str) -> Response:
        return _ok(
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
        error = error or _wrong_content(given)
        if channel is None or error:
            return _refused(error)
        ts = self._next_ts()
        row = {"type": "message", "user": "U0TWIN0001", "bot_id": "B0TWIN0001", "ts": ts, **_content(given)}
        if thread := given.get("thread_ts"):
            row["thread_ts"] = str(thread)
            if _truth(given.get("reply_broadcast")):
                row["subtype"] = "thread_broadcast"
        channel.messages[ts] = row
        return _ok(channel=given["channel"], ts=ts, message=row)

    def _update(self, given: dict[str, Any], base: str) -> Response:
        channel, error = self._open(given, to_post=True)
        if channel is None:
            return _refused(error)
        row = channel.messages.get(str(given.get("ts", "")))
        if row is None:
            return _refused("message_not_found")
        if error := _wrong_content(given):
            return _refused(error)
        row |= _content(given)
        row["edited"] = {"user": "U0TWIN0001", "ts": self._next_ts()}
        return _ok(channel=given["channel"], ts=row["ts"], text=row["text"], message=row)

    def _history(self, given: dict[str, Any], base: str) -> Response:
        channel, error = self._open(given, to_post=False)
        if channel is None:
            return _refused(error)
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
            return _refused(error)
        parent = str(given.get("ts", ""))
        if parent not in channel.messages:
            return _refused("thread_not_found")
        answers = [row for row in channel.messages.values() if row.get("thread_ts") == parent]
        return self._page([channel.messages[parent], *answers], given, always=parent)

    def _page(self, rows: list[dict[str, Any]], given: dict[str, Any], always: str = "") -> Response:
        oldest = float(given.get("oldest") or 0)
        seen = [row for row in rows if float(row["ts"]) > oldest or row["ts"] == always]
        begin = int(given.get("cursor") or 0)
        end = begin + min(int(given.get("limit") or 100), self.page)
        shown = [dict(row) for row in seen[begin:end]]
        if not _truth(given.get("include_all_metadata")):
            for row in shown:
                row.pop("metadata", None)
        more = end < len(seen)
        return _ok(messages=shown, has_more=more, response_metadata={"next_cursor": str(end) if more else ""})

    def _upload_url(self, given: dict[str, Any], base: str) -> Response:
        if not given.get("filename") or not int(given.get("length") or 0):
            return _refused("missing_argument")
        file_id = f"F0TWIN{len(self.files):05d}"
        self.files[file_id] = {"name": given["filename"], "length": int(given["length"]), "bytes": b""}
        return _ok(upload_url=f"{base}upload/{file_id}", file_id=file_id)

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
            return _refused("invalid_arguments")
        if any(not self.files.get(row["id"], {}).get("bytes") for row in rows):
            return _refused("file_not_found")
        if self.faults.take("slack", "file_not_found"):  # its job has not come to the file yet
            return _refused("file_not_found")
        sent = {**given, "channel": given.get("channel_id") or str(given.get("channels", "")).split(",")[0]}
        channel, error = self._open(sent, to_post=True)
        if channel is None:
            return _refused(error)
        thread = str(given.get("thread_ts") or "")
        if thread and thread not in channel.messages:
            return _refused("thread_not_found")
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
        return _ok(files=shown)

    def _next_ts(self) -> str:
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
        return f"{self._last_us // 1_000_000}.{self._last_us % 1_000_000:06d}"


def _ok(**more: Any) -> Response:
    return JSONResponse({"ok": True, **more})


def _refused(error: str, **more: Any) -> Response:
    return JSONResponse({"ok": False, "error": error, **more})


def _truth(value: Any) -> bool:
    return str(value).lower() in ("1", "true")


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value else value


def _content(given: dict[str, Any]) -> dict[str, Any]:
    row = {"text": str(given.get("text", ""))[:TEXT_CHARACTERS]}
    for name in ("blocks", "metadata"):
        if given.get(name):
            row[name] = _parsed(given[name])
    return row


def _wrong_content(given: dict[str, Any]) -> str:
    """The error that Slack names, or nothing."""
    try:
        blocks, metadata = _parsed(given.get("blocks")), _parsed(given.get("metadata"))
    except ValueError:
        return "invalid_blocks_format"
    if not given.get("text") and not blocks:
        return "no_text"
    if metadata is not None and (
        not isinstance(metadata, dict)
        or not isinstance(metadata.get("event_payload"), dict)
        or not metadata.get("event_type")
    ):
        return "invalid_metadata_format"
    if metadata is not None and len(json.dumps(metadata)) > METADATA_CHARACTERS:
        return "metadata_too_large"
    if blocks is None:
        return ""
    if not isinstance(blocks, list) or len(blocks) > BLOCKS:
        return "invalid_blocks"
    for block in blocks:
        texts = [block.get("text") or {}, *(block.get("elements") or ())]
        if block.get("type") not in ("section", "context", "header", "divider", "actions", "image"):
            return "invalid_blocks"
        if block["type"] == "section" and not 0 < len(texts[0].get("text", "")) <= SECTION_CHARACTERS:
            return "invalid_blocks"
        if block["type"] == "context" and not 0 < len(block.get("elements") or ()) <= 10:
            return "invalid_blocks"
    return "msg_blocks_too_long" if len(json.dumps(blocks)) > BLOCKS_CHARACTERS else ""
