"""Slack: one message in the channel, or in the thread of what it is about, by an app of the operator's own.

`chat.postMessage` has no idempotency key, so the letter's key travels in the message's metadata, by which a message whose
answer was lost is found again (`conversations.replies`, `conversations.history`). The client's own retries are off: they would
post twice. Limits: 3,000 characters a section, about 13,000 of all blocks, 40,000 of text, one message a second and channel.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackRequestError

from evenkeel.errors import OperatorError, Retryable
from state.watch_models import Severity
from tasks.channels import Letter, NotNow, Outcome, Refused, Sent, Unsure
from tasks.messages.choose import seconds_of

EVENT = "evenkeel_message"
TIMEOUT_S = 10
SECTION_CHARACTERS = 2_900
SECTIONS_CHARACTERS = 11_000
BEFORE_S = 6 * 3600
"""How far before the first try a lost message is looked for: Slack's clock is not ours."""
PAGES = 50
OF_THE_TEXT = frozenset(
    {
        "msg_too_long", "no_text", "invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "too_many_attachments",
        "too_many_contact_cards", "attachment_payload_limit_exceeded", "invalid_metadata_format", "invalid_metadata_schema",
        "metadata_too_large", "markdown_text_conflict", "cannot_reply_to_message", "message_not_found", "thread_not_found",
        "invalid_arguments",
    }
)  # fmt: skip
"""Refusals of one message; every other refusal is of the app, its token or the channel."""
OF_THE_SERVER = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
"""Slack failed, and what it had done by then is not known."""
_QUIET = logging.getLogger("evenkeel.slack.client")
_QUIET.setLevel(logging.CRITICAL + 1)
"""The client logs each answer that is no JSON by itself; what matters of it is in the outcome."""
_MARKS = {Severity.CRITICAL: ":red_circle:", Severity.WARNING: ":large_orange_circle:"}


class SlackChannel:
    """A `Channel` that posts to one Slack channel."""

    name = "slack"

    def __init__(self, token: SecretStr, channel: str, least: Severity, url: str) -> None:
        self._channel = channel
        self.least = least
        self._client = WebClient(
            token=token.get_secret_value(),
            base_url=url.rstrip("/") + "/",
            timeout=TIMEOUT_S,
            retry_handlers=[],
            logger=_QUIET,
        )

    async def send(self, letter: Letter) -> Outcome:
        """Post it. A thread that is gone is left out: the message stands alone then."""
        blocks: list[dict[str, Any]] | None = blocks_of(letter)
        outcome = await self._post(letter, blocks)
        for _ in range(2):
            if not isinstance(outcome, Refused):
                break
            if letter.thread_ref and _thread_is_gone(outcome.reason):
                letter = letter.model_copy(update={"thread_ref": ""})
            elif blocks is not None:  # of its form, perhaps: the text alone is better than nothing
                blocks = None
            else:
                break
            outcome = await self._post(letter, blocks)
        return outcome

    async def _post(self, letter: Letter, blocks: list[dict[str, Any]] | None) -> Outcome:
        body: dict[str, Any] = {
            "channel": self._channel,
            "text": plain_of(letter)[:35_000],
            "metadata": {"event_type": EVENT, "event_payload": {"key": letter.key}},
            "unfurl_links": False,
            "unfurl_media": False,
        }
        if blocks is not None:
            body["blocks"] = blocks
        if letter.thread_ref:
            body |= {"thread_ts": letter.thread_ref, "reply_broadcast": letter.loud}
        try:
            answer = await asyncio.to_thread(self._client.chat_postMessage, **body)
        except Exception as fault:
            return _outcome_of(fault)
        return Sent(ref=str(answer.get("ts") or ""))

    async def restate(self, ref: str, letter: Letter) -> Outcome | None:
        """Change the message of this `ref`; it keeps its key."""
        body: dict[str, Any] = {
            "channel": self._channel,
            "ts": ref,
            "text": plain_of(letter)[:35_000],
            "blocks": blocks_of(letter),
            "metadata": {"event_type": EVENT, "event_payload": {"key": letter.key}},
        }
        try:
            await asyncio.to_thread(self._client.chat_update, **body)
        except Exception as fault:
            return _outcome_of(fault)
        return Sent(ref=ref)

    async def find(self, letter: Letter, since_ms: int) -> str | None:
        """The `ts` of the message with this letter's key, "" where neither its thread nor the channel has it."""
        oldest = f"{since_ms / 1000 - BEFORE_S:.6f}"
        if letter.thread_ref:
            found = await self._find(
                self._client.conversations_replies, letter.key, oldest, ts=letter.thread_ref
            )
            if found:
                return found
        return await self._find(self._client.conversations_history, letter.key, oldest)

    async def _find(self, method: Callable[..., Any], key: str, oldest: str, **more: str) -> str:
        cursor = ""
        for _ in range(PAGES):
            asked = {
                "channel": self._channel,
                "oldest": oldest,
                "include_all_metadata": True,
                "limit": 200,
                **more,
            }
            if cursor:
                asked["cursor"] = cursor
            try:
                answer = await asyncio.to_thread(method, **asked)
            except Exception as fault:
                outcome = _outcome_of(fault)
                if isinstance(outcome, Refused) and _thread_is_gone(outcome.reason):
                    return ""
                reason = "" if isinstance(outcome, Sent) else outcome.reason
                raise Retryable(f"Slack cannot say whether it has the message: {reason}") from None
            for row in answer.get("messages") or ():
                payload = (row.get("metadata") or {}).get("event_payload") or {}
                if payload.get("key") == key:
                    return str(row["ts"])
            cursor = ((answer.get("response_metadata") or {}).get("next_cursor")) or ""
            if not cursor:
                return ""
        raise Retryable(f"Slack has more than {PAGES} pages of messages since {oldest}")

    async def check(self) -> str:
        """Ask whether the token is good, and whether the channel can be read, which finding a message needs."""
        try:
            who = await asyncio.to_thread(self._client.auth_test)
            await asyncio.to_thread(
                self._client.conversations_history, channel=self._channel, limit=1, include_all_metadata=True
            )
        except Exception as fault:
            outcome = _outcome_of(fault)
            reason = "" if isinstance(outcome, Sent) else outcome.reason
            if isinstance(outcome, Unsure) or (isinstance(outcome, NotNow) and not outcome.all_of_it):
                raise Retryable(f"Slack does not answer: {reason}") from None
            raise OperatorError(
                f"Slack refuses us: {reason}; {_REMEDIES.get(reason, 'see docs/messages.md')}"
            ) from None
        return f"posts as {who.get('user')} of {who.get('team')} to {self._channel}"

    async def close(self) -> None:
        """Nothing is held open between two calls."""


_REMEDIES = {
    "not_in_channel": "invite the app to the channel",
    "channel_not_found": "slack.channel is not the id of a channel that the app can see: invite it there",
    "invalid_auth": "the token is not good: install the app again and replace it",
    "token_revoked": "the token was revoked: install the app again and replace it",
    "missing_scope": "the app lacks a right: it needs chat:write, channels:history (groups:history) and files:write",
    "is_archived": "the channel is archived",
}


def _thread_is_gone(reason: str) -> bool:
    return reason in ("cannot_reply_to_message", "message_not_found", "thread_not_found")


def _outcome_of(fault: Exception) -> Outcome:
    """What a failed call says of the message."""
    if isinstance(fault, SlackApiError):
        return _refusal(fault)
    if isinstance(fault, urllib.error.URLError) and _was_never_sent(fault.reason):
        return NotNow(reason=f"no connection: {type(fault.reason).__name__}", all_of_it=True)
    if isinstance(fault, SlackRequestError):
        return NotNow(
            reason=f"no request could be made: {type(fault).__name__}", after_s=60.0, all_of_it=True
        )
    return Unsure(reason=f"{type(fault).__name__}")


def _was_never_sent(reason: object) -> bool:
    """No connection came about. A certificate that is not good is found before anything is sent as well."""
    import socket
    import ssl

    return isinstance(reason, (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError))


def _refusal(fault: SlackApiError) -> Outcome:
    answer = fault.response
    status = int(getattr(answer, "status_code", 0) or 0)
    data = getattr(answer, "data", None)
    if isinstance(data, (str, bytes)):
        try:
            data = json.loads(data)
        except ValueError:
            data = None
    error = str(data.get("error") or "") if isinstance(data, dict) else ""
    if status == 429 or error in ("ratelimited", "rate_limited", "message_limit_exceeded"):
        headers = {
            str(name).lower(): value for name, value in (getattr(answer, "headers", None) or {}).items()
        }
        return NotNow(reason="rate limited", after_s=seconds_of(headers.get("retry-after")), all_of_it=True)
    if status >= 500 or error in OF_THE_SERVER or not re.fullmatch(r"[a-z0-9_]+", error):
        return Unsure(reason=f"HTTP {status} {error}"[:200])  # a proxy's page is no answer of Slack's
    if error in OF_THE_TEXT:
        return Refused(reason=error)
    return NotNow(reason=error, after_s=60.0, all_of_it=True)


def escaped(text: str) -> str:
    """Slack's three control characters, so that a text cannot name users or make links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain_of(letter: Letter) -> str:
    """What notifications and screen readers show."""
    return escaped(f"{letter.title}\n{letter.text}")


def blocks_of(letter: Letter) -> list[dict[str, Any]]:
    """The letter as Block Kit: what happened, what the system does, what you do, links and time."""
    mark = "" if letter.kind in ("over", "acknowledged") else _MARKS.get(letter.severity, "")
    call = "<!channel> " if letter.urgent else ""
    parts = [f"{call}{mark}{' ' if mark else ''}*{escaped(letter.title)}*\n{escaped(letter.text)}"]
    parts += [
        f"*{label}* {escaped(text)}"
        for label, text in (("The system:", letter.did), ("You:", letter.do))
        if text and text != "–"
    ]
    blocks: list[dict[str, Any]] = []
    left = SECTIONS_CHARACTERS
    for part in parts:
        for start in range(0, len(part), SECTION_CHARACTERS):
            some = part[start : start + SECTION_CHARACTERS][:left]
            left -= len(some)
            if some:
                blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": some}})
    links = [
        f"<{url}|{escaped(name)}>" if url.startswith(("http://", "https://")) else escaped(url)
        for name, url in letter.links.items()
    ]
    when = datetime.fromtimestamp(letter.at_ms / 1000, tz=UTC)
    foot = "  ·  ".join([f"{when:%Y-%m-%d %H:%M:%S} UTC", *links])
    return [*blocks, {"type": "context", "elements": [{"type": "mrkdwn", "text": foot}]}]
