"""A life of positions as a plan: chapters hours apart, and the faults that meet each. As JSON it fits a command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

Params = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """One fault of a chapter: its kind, and figures that JSON can hold."""

    kind: str
    params: Params

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self.params.items())
        return f"{self.kind} ({figures})" if figures else self.kind


@dataclass(frozen=True)
class Chapter:
    """So many hours after the chapter before, one command of the product (or mere watching), and the faults that meet it."""

    what: str
    after_h: float = 0.0
    faults: tuple[Planned, ...] = ()

    def __str__(self) -> str:
        after = f"{self.after_h:g} h later " if self.after_h else ""
        return f"{after}{self.what}" + "".join(f"\n        {fault}" for fault in self.faults)


@dataclass(frozen=True)
class Life:
    """Chapters from the first entry to the last exit."""

    chapters: tuple[Chapter, ...]

    def __str__(self) -> str:
        return "\n    ".join(map(str, self.chapters))

    @property
    def faults(self) -> tuple[tuple[int, Planned], ...]:
        """Every fault with the index of its chapter, in order."""
        return tuple((at, fault) for at, one in enumerate(self.chapters) for fault in one.faults)

    def with_faults(self, faults: tuple[tuple[int, Planned], ...]) -> Life:
        """The same chapters with these faults."""
        return Life(
            tuple(
                replace(one, faults=tuple(fault for there, fault in faults if there == at))
                for at, one in enumerate(self.chapters)
            )
        )

    def shorter(self) -> Iterator[Life]:
        """Lives that lack one chapter in which no fault is, and lives whose chapters follow sooner."""
        for at, one in enumerate(self.chapters):
            if not one.faults and len(self.chapters) > 1:
                yield Life(self.chapters[:at] + self.chapters[at + 1 :])
        for at, one in enumerate(self.chapters):
            if one.after_h > 1:
                yield Life((*self.chapters[:at], replace(one, after_h=1.0), *self.chapters[at + 1 :]))

    def dumped(self) -> str:
        """One line of JSON without spaces that a shell would split: `loaded` takes it back."""
        rows = [
            [one.what, one.after_h, [[fault.kind, fault.params] for fault in one.faults]]
            for one in self.chapters
        ]
        return json.dumps(rows, separators=(",", ":"))

    @classmethod
    def loaded(cls, text: str) -> Life:
        """Raise ValueError for what is no life."""
        try:
            return cls(
                tuple(
                    Chapter(
                        what, float(after_h), tuple(Planned(kind, dict(params)) for kind, params in faults)
                    )
                    for what, after_h, faults in json.loads(text)
                )
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"not a life: {error}. It is a list of [command, hours after the one before, [[fault, figures], ...]]"
            ) from error
