"""Changes one field of a JSON answer, whichever it is: by its number among all fields that hold a value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

WORDS: dict[str, Any] = {
    "null": None,
    "NaN": "NaN",
    "another type": {"unheardOf": [1]},
    "new word": "someNewWord",
    "empty": "",
}
MISSING = "missing"
VALUES = (*WORDS, MISSING)


def fields_of(body: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of each field of a mapping, depth first; items of lists are no fields."""
    if isinstance(body, dict):
        for key, value in body.items():
            yield body, key
            yield from fields_of(value)
    elif isinstance(body, list):
        for value in body:
            yield from fields_of(value)


def changed(answer: bytes, number: int, value: str) -> bytes:
    """Return the answer with one field changed: the one of this number, counted from the start again after the last.

    An answer that is no JSON, or has no field, comes back as it is.
    """
    try:
        body = json.loads(answer)
    except ValueError:
        return answer
    found = list(fields_of(body))
    if not found:
        return answer
    container, key = found[number % len(found)]
    if value == MISSING:
        del container[key]
    else:
        container[key] = WORDS[value]
    return json.dumps(body).encode()
