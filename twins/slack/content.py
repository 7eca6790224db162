"""What Slack takes as the content of a message, and the shape of its answers."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse, Response

SECTION_CHARACTERS = 3_000
BLOCKS = 50
BLOCKS_CHARACTERS = 13_200
"""Measured by others (slackapi/bolt-js issue 2509); the reference names no limit of the whole."""
TEXT_CHARACTERS = 40_000
METADATA_CHARACTERS = 16_000


def ok(**more: Any) -> Response:
    return JSONResponse({"ok": True, **more})


def refused(error: str, **more: Any) -> Response:
    return JSONResponse({"ok": False, "error": error, **more})


def truth(value: Any) -> bool:
    return str(value).lower() in ("1", "true")


def parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value else value


def content_of(given: dict[str, Any]) -> dict[str, Any]:
    row = {"text": str(given.get("text", ""))[:TEXT_CHARACTERS]}
    for name in ("blocks", "metadata"):
        if given.get(name):
            row[name] = parsed(given[name])
    return row


def wrong_content(given: dict[str, Any]) -> str:
    """The error that Slack names, or nothing."""
    try:
        blocks, metadata = parsed(given.get("blocks")), parsed(given.get("metadata"))
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
        if block.get("type") == "actions" and _wrong_actions(block.get("elements") or []):
            return "invalid_blocks"
        texts = [block.get("text") or {}, *(block.get("elements") or ())]
        if block.get("type") not in ("section", "context", "header", "divider", "actions", "image"):
            return "invalid_blocks"
        if block["type"] == "section" and not 0 < len(texts[0].get("text", "")) <= SECTION_CHARACTERS:
            return "invalid_blocks"
        if block["type"] == "context" and not 0 < len(block.get("elements") or ()) <= 10:
            return "invalid_blocks"
    return "msg_blocks_too_long" if len(json.dumps(blocks)) > BLOCKS_CHARACTERS else ""


def _wrong_actions(elements: list[dict[str, Any]]) -> bool:
    """Whether Slack would refuse these elements of a block of actions: buttons alone are known here."""
    names = [one.get("action_id") for one in elements]
    return (
        not 0 < len(elements) <= 25
        or len(set(names)) < len(names)
        or any(_wrong_button(one) for one in elements)
    )


def _wrong_button(one: dict[str, Any]) -> bool:
    text = one.get("text") or {}
    return (
        one.get("type") != "button"
        or text.get("type") != "plain_text"
        or not 0 < len(text.get("text", "")) <= 75
        or len(one.get("value", "")) > 2_000
        or len(one.get("action_id", "")) > 255
        or one.get("style", "primary") not in ("primary", "danger")
    )
