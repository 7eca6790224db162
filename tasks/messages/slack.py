"""Slack: one message in the channel, or in the thread of what it is about, by an app of the operator's own.

`chat.postMessage` has no idempotency key, so the letter's key travels in the message's metadata, by which a message whose
answer was lost is found again (`conversations.replies`, `conversations.history`). The client's own retries are off: they would
post twice. Limits: 3,000 characters a section, about 13,000 of all blocks, 40,000 of text, one message a second and channel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from slack_sdk import WebClient

from evenkeel.errors import OperatorError, Retryable
from state.watch_models import Severity
from tasks.channels import CannotSay, Letter, NotNow, Outcome, Refused, Sent, Unsure
from tasks.messages.requests.buttons import buttons_of
from tasks.messages.slack_answers import REMEDIES, outcome_of, thread_is_gone
from tasks.messages.slack_files import SCOPE, share

EVENT = "evenkeel_message"
TIMEOUT_S = 10
SECTION_CHARACTERS = 2_900
SECTIONS_CHARACTERS = 11_000
BEFORE_S = 6 * 3600
"""How far before the first try a lost message is looked for: Slack's clock is not ours."""
PAGES = 50
_QUIET = logging.getLogger("evenkeel.slack.client")
_QUIET.setLevel(logging.CRITICAL + 1)
"""The client logs each answer that is no JSON by itself; what matters of it is in the outcome."""
_MARKS = {Severity.CRITICAL: ":red_circle:", Severity.WARNING: ":large_orange_circle:"}


class SlackChannel:
    """A `Channel` that posts to one Slack channel."""

    name = "slack"
    pictures = True

    def __init__(
        self, token: SecretStr, channel: str, least: Severity, url: str, buttons: bool = False
    ) -> None:
        self._channel = channel
        self._buttons = buttons
        self.least = least
        self._client = WebClient(
            token=token.get_secret_value(),
            base_url=url.rstrip("/") + "/",
            timeout=TIMEOUT_S,
            retry_handlers=[],
            logger=_QUIET,
        )

    async def send(self, letter: Letter) -> Outcome:
        """Post it, or its picture. A thread that is gone is left out: the message stands alone then."""
        if letter.picture is not None:
            return await share(self._client, self._channel, letter, letter.picture)
        blocks: list[dict[str, Any]] | None = blocks_of(letter, self._buttons)
        outcome = await self._post(letter, blocks)
        for _ in range(2):
            if not isinstance(outcome, Refused):
                break
            if letter.thread_ref and thread_is_gone(outcome.reason):
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
            return outcome_of(fault)
        return Sent(ref=str(answer.get("ts") or ""))

    async def restate(self, ref: str, letter: Letter) -> Outcome | None:
        """Change the message of this `ref`; it keeps its key."""
        body: dict[str, Any] = {
            "channel": self._channel,
            "ts": ref,
            "text": plain_of(letter)[:35_000],
            "blocks": blocks_of(letter, self._buttons),
            "metadata": {"event_type": EVENT, "event_payload": {"key": letter.key}},
        }
        try:
            await asyncio.to_thread(self._client.chat_update, **body)
        except Exception as fault:
            return outcome_of(fault)
        return Sent(ref=ref)

    async def find(self, letter: Letter, since_ms: int) -> str | None:
        """The `ts` of the message with this letter's key, or the file of its picture, "" where neither its thread nor the
        channel has it.
        """
        oldest = f"{since_ms / 1000 - BEFORE_S:.6f}"
        if letter.thread_ref:
            found = await self._find(self._client.conversations_replies, letter, oldest, ts=letter.thread_ref)
            if found:
                return found
        return await self._find(self._client.conversations_history, letter, oldest)

    async def _find(self, method: Callable[..., Any], letter: Letter, oldest: str, **more: str) -> str:
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
                outcome = outcome_of(fault)
                if isinstance(outcome, Refused) and thread_is_gone(outcome.reason):
                    return ""
                reason = "" if isinstance(outcome, Sent) else outcome.reason
                after_s = outcome.after_s if isinstance(outcome, (NotNow, Unsure)) else None
                raise CannotSay(f"Slack cannot say whether it has the message: {reason}", after_s) from None
            for row in answer.get("messages") or ():
                if _is_of(row, letter):
                    return str(row["ts"])
            cursor = ((answer.get("response_metadata") or {}).get("next_cursor")) or ""
            if not cursor:
                return ""
        raise CannotSay(f"Slack has more than {PAGES} pages of messages since {oldest}")

    async def check(self) -> str:
        """Ask whether the token is good, and whether the channel can be read, which finding a message needs."""
        try:
            who = await asyncio.to_thread(self._client.auth_test)
            scopes = _scopes_of(who.headers)
            await asyncio.to_thread(
                self._client.conversations_history, channel=self._channel, limit=1, include_all_metadata=True
            )
        except Exception as fault:
            outcome = outcome_of(fault)
            reason = "" if isinstance(outcome, Sent) else outcome.reason
            if isinstance(outcome, Unsure) or (isinstance(outcome, NotNow) and not outcome.all_of_it):
                raise Retryable(f"Slack does not answer: {reason}") from None
            raise OperatorError(
                f"Slack refuses us: {reason}; {REMEDIES.get(reason, 'see docs/messages.md')}"
            ) from None
        lacks = f"; texts only: for charts the app needs {SCOPE}" if scopes and SCOPE not in scopes else ""
        return f"posts as {who.get('user')} of {who.get('team')} to {self._channel}{lacks}"

    async def close(self) -> None:
        """Nothing is held open between two calls."""


def _is_of(row: Mapping[str, Any], letter: Letter) -> bool:
    """Whether a message of Slack is this letter."""
    if letter.picture is not None:
        return any(one.get("name") == letter.picture.name for one in row.get("files") or ())
    payload = (row.get("metadata") or {}).get("event_payload") or {}
    return payload.get("key") == letter.key


def _scopes_of(headers: Mapping[str, str]) -> list[str]:
    """The rights of the token, which each answer names; empty where it does not."""
    named = {name.lower(): value for name, value in headers.items()}
    return [one.strip() for one in str(named.get("x-oauth-scopes", "")).split(",") if one.strip()]


def escaped(text: str) -> str:
    """Slack's three control characters, so that a text cannot name users or make links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain_of(letter: Letter) -> str:
    """What notifications and screen readers show."""
    return escaped(f"{letter.title}\n{letter.text}")


def blocks_of(letter: Letter, buttons: bool = False) -> list[dict[str, Any]]:
    """The letter as Block Kit: what happened, what the system does, what you do, the buttons, links and time."""
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
    pressed = buttons_of(letter) if buttons else []
    return [*blocks, *pressed, {"type": "context", "elements": [{"type": "mrkdwn", "text": foot}]}]
