"""What is said of settings that are refused, without repeating a secret that stands in the wrong place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evenkeel.errors import shown


def _safe(value: Any) -> str:
    """What may be shown of a value. Of a URL its host alone: not user and password, nor what is behind the host, where
    providers put their keys.
    """
    url = (
        re.fullmatch(r"([a-z][a-z0-9+.-]{0,20})://([^/?#]*)([/?#].*)?", value)
        if isinstance(value, str)
        else None
    )
    if url is None:
        return shown(value)
    scheme, place, behind = url.groups(default="")
    if "@" in behind or len(place) > 100 or re.search(r"[0-9A-Za-z]{32}", place.rpartition("@")[2]):
        return f"'{scheme}://…'"  # a password with a slash in it, or a key where the host belongs
    return f"'{scheme}://{place.rpartition('@')[2]}{'/…' if behind else ''}'"


def explained(error: ValidationError, path: Path | None) -> str:
    """One line per wrong setting: which, its value where that may be shown, what is allowed."""
    lines = []
    for problem in error.errors(include_url=False):
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        value = problem.get("input")
        given = (
            "" if isinstance(value, dict) or problem["type"] == "extra_forbidden" else f" = {_safe(value)}"
        )
        what = "no such setting" if problem["type"] == "extra_forbidden" else problem["msg"]
        what = what.removeprefix("Value error, ")
        lines.append(
            f"setting {name}{given}: {what} (from {path or 'the environment'} or EVENKEEL_ variables)"
        )
    return "; ".join(lines)
