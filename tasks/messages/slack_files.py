"""A picture in Slack by the upload in three steps: an address for it, its bytes to that address, and the share.

Only the last step shows anything, so only its lost answer leaves a doubt; a picture is known again by the name of its file.
Nothing that goes wrong here holds up a text: the limits of these methods are their own, and a workspace may forbid files.
"""

from __future__ import annotations

import asyncio
import logging

import httpx
from slack_sdk import WebClient

from tasks.channels import Letter, NotNow, Outcome, Picture, Refused, Sent, Unsure
from tasks.messages.slack_answers import outcome_of

log = logging.getLogger("evenkeel.sender")
SCOPE = "files:write"
UPLOAD_S = 20.0
ALT_CHARACTERS = 900
NOT_SHARED_YET = frozenset({"file_not_found"})
"""Slack reads uploaded files in a job of its own: a share may come before it. Nothing is shown then."""
PERHAPS_SHARED = frozenset({"file_update_failed"})
OF_EVERYTHING = frozenset(
    {
        "account_inactive", "channel_not_found", "invalid_auth", "is_archived", "not_authed", "not_in_channel",
        "token_expired", "token_revoked",
    }
)  # fmt: skip
"""Refusals that would hold a text as well: they are waited out. Every other one is of files, and final."""


async def share(client: WebClient, channel: str, letter: Letter, picture: Picture) -> Outcome:
    """Show the picture once, in the thread of the letter where it has one."""
    try:
        answer = await asyncio.to_thread(
            client.files_getUploadURLExternal,
            filename=picture.name,
            length=len(picture.data),
            alt_txt=letter.title[:ALT_CHARACTERS],
        )
        address, file_id = str(answer["upload_url"]), str(answer["file_id"])
    except Exception as fault:
        return _not_shown(outcome_of(fault))
    if failed := await _uploaded(address, picture):
        return failed
    return await _shared(client, channel, letter, file_id)


async def _uploaded(address: str, picture: Picture) -> Outcome | None:
    """Send the bytes; what went wrong, or None."""
    try:
        async with httpx.AsyncClient(timeout=UPLOAD_S) as http:
            headers = {"content-type": "application/octet-stream"}
            answer = await http.post(address, content=picture.data, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        return NotNow(reason=f"the upload: {type(fault).__name__}")
    if answer.status_code != 200:
        return NotNow(reason=f"the upload was answered {answer.status_code}")
    return None


async def _shared(client: WebClient, channel: str, letter: Letter, file_id: str) -> Outcome:
    thread = letter.thread_ref or None
    for _ in range(2):
        try:
            await asyncio.to_thread(
                client.files_completeUploadExternal,
                files=[{"id": file_id, "title": letter.title[:ALT_CHARACTERS]}],
                channel_id=channel,
                thread_ts=thread,
                initial_comment=letter.text or None,
            )
        except Exception as fault:
            outcome = outcome_of(fault)
            if thread and not isinstance(outcome, (Sent, Unsure)) and "thread" in outcome.reason:
                thread = None  # it is gone: the picture stands alone then
                continue
            return _judged(outcome)
        return Sent(ref=file_id)
    return NotNow(reason="the thread is gone")


def _not_shown(outcome: Outcome) -> Outcome:
    """The same before anything was shared: a lost answer leaves no doubt then."""
    if isinstance(outcome, Unsure):
        return NotNow(reason=outcome.reason, after_s=outcome.after_s)
    return _judged(outcome)


def _judged(outcome: Outcome) -> Outcome:
    """What a failed call says of the picture alone."""
    if isinstance(outcome, Unsure):
        return outcome.model_copy(update={"all_of_it": False})
    if isinstance(outcome, NotNow):
        of_transport = " " in outcome.reason
        if outcome.reason in PERHAPS_SHARED:
            return Unsure(reason=outcome.reason)
        if of_transport or outcome.reason in NOT_SHARED_YET | OF_EVERYTHING:
            after_s = None if outcome.reason in NOT_SHARED_YET else outcome.after_s
            return NotNow(reason=outcome.reason, after_s=after_s)
        outcome = Refused(reason=outcome.reason)
    if isinstance(outcome, Refused) and outcome.reason == "missing_scope":
        return Refused(
            reason=f"missing_scope: the app needs {SCOPE} to show charts; texts go on without (docs/messages.md)"
        )
    return outcome
