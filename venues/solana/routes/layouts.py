"""How the arguments of an exchange kind are laid out in a route's data, and how many bytes they take.

A layout is written as parts: `8` are eight bytes; `[2]` a list of elements of two bytes; `{9|1}` a list of choices, the first
of which has nine bytes; `?` before a part an option of it; `/` stands between layouts each of which was published at some
time. `-` is a kind that is known to exist and whose layout nobody has published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_PART = re.compile(r"(\??)(?:(\d+)|\[(\d+)\]|\{(\d+(?:\|\d+)*)\})")
MOST_BYTES = 1232


class Unreadable(ValueError):
    """The data do not follow the layout."""


@dataclass(frozen=True, slots=True)
class _Part:
    optional: bool
    size: int = 0
    element: int | None = None
    choices: tuple[int, ...] = ()

    def end(self, data: bytes, at: int) -> int:
        if self.optional:
            flag = _byte(data, at)
            if flag > 1:
                raise Unreadable("an option is neither absent nor present")
            at += 1
            if not flag:
                return at
        if self.element is None and not self.choices:
            at += self.size
        else:
            count, at = int.from_bytes(data[at : at + 4], "little"), at + 4
            if count > MOST_BYTES:
                raise Unreadable("a list is longer than its data")
            if self.element is not None:
                at += count * self.element
            for _ in range(count if self.choices else 0):
                choice = _byte(data, at)
                if choice >= len(self.choices):
                    raise Unreadable("an element of a kind that is not known")
                at += 1 + self.choices[choice]
        if at > len(data):
            raise Unreadable("the data end too early")
        return at


@dataclass(frozen=True, slots=True)
class Layout:
    """The arguments of one kind, in the forms that were published; none: nobody has published them."""

    text: str
    forms: tuple[tuple[_Part, ...], ...]

    def ends(self, data: bytes, at: int) -> list[int]:
        """Return where the arguments may end that begin at `at`. Raises `Unreadable` where no form fits."""
        found, problem = [], Unreadable("its layout is not published")
        for parts in self.forms:
            end = at
            try:
                for part in parts:
                    end = part.end(data, end)
                found.append(end)
            except Unreadable as odd:
                problem = odd
        if not found:
            raise problem
        return found


@cache
def parse_layout(text: str) -> Layout:
    """Return the layout that a text describes. Raises ValueError for one that is none."""
    if text == "-":
        return Layout(text, ())
    return Layout(text, tuple(_form(one) for one in text.split("/")))


def _form(text: str) -> tuple[_Part, ...]:
    parts = []
    for word in text.split():
        found = _PART.fullmatch(word)
        if found is None:
            raise ValueError(f"{word!r} is no part of a layout: write 8, [2], {{9|1}}, ?1 or -")
        optional, size, element, choices = found.groups()
        numbers = [int(one) for one in (choices.split("|") if choices else [size or element])]
        if max(numbers) > MOST_BYTES or (element is not None and not int(element)):
            raise ValueError(f"{word!r} is no part of a layout: sizes go from 1 to {MOST_BYTES}")
        parts.append(
            _Part(
                bool(optional),
                int(size) if size else 0,
                int(element) if element else None,
                tuple(numbers) if choices else (),
            )
        )
    return tuple(parts)


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise Unreadable("the data end too early")
    return data[at]
