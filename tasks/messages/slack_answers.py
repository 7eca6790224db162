"""What an answer of Slack says of a message: taken, refused for good, not now, or nobody knows."""

from __future__ import annotations

import json
import re
import urllib.error

from slack_sdk.errors import SlackApiError, SlackRequestError

from tasks.channels import NotNow, Outcome, Refused, Unsure
from tasks.messages.choose import seconds_of

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

REMEDIES = {
    "not_in_channel": "invite the app to the channel",
    "channel_not_found": "slack.channel is not the id of a channel that the app can see: invite it there",
    "invalid_auth": "the token is not good: install the app again and replace it",
    "token_revoked": "the token was revoked: install the app again and replace it",
    "missing_scope": "the app lacks a right: it needs chat:write, channels:history (groups:history) and files:write",
    "is_archived": "the channel is archived",
}


def thread_is_gone(reason: str) -> bool:
    """Whether a refusal is of the thread alone."""
    return reason in ("cannot_reply_to_message", "message_not_found", "thread_not_found")


def outcome_of(fault: Exception) -> Outcome:
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
        return Unsure(reason="rate limited", after_s=seconds_of(headers.get("retry-after")), all_of_it=True)
    if status >= 500 or error in OF_THE_SERVER or not re.fullmatch(r"[a-z0-9_]+", error):
        return Unsure(reason=f"HTTP {status} {error}"[:200])  # a proxy's page is no answer of Slack's
    if error in OF_THE_TEXT:
        return Refused(reason=error)
    return NotNow(reason=error, after_s=60.0, all_of_it=True)
