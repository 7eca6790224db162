"""The venue's refusals, in its own words."""

from __future__ import annotations


class ActionRefused(ValueError):
    """A whole action refused: HTTP 200 with `{"status": "err", "response": <text>}`."""


class OrderRefused(Exception):
    """One order refused: `{"error": <text> asset=<n>}` in its place of `statuses`; `record` is its
    status in the history.
    """

    def __init__(self, text: str, record: str) -> None:
        super().__init__(text)
        self.record = record


class BadRequest(Exception):
    """Not deserializable: HTTP 422 in plain text."""


UNDESERIALIZABLE = "Failed to deserialize the JSON body into the target type"


def with_asset(text: str, asset: int) -> str:
    return text if "asset=" in text else f"{text} asset={asset}"
