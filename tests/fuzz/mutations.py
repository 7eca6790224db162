"""One change of one field of one kind of answer, as a planned fault of a twin: what there is to change, and in which ways."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

HOUR_MS = 3_600_000
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
FAR_OFF = {"ten times": "10", "a tenth": "0.1"}
"""Figures that are read without a complaint, and are wrong."""
BEFORE = "before its hour"
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """`change` is what the twin's fault `field` takes: a value, `missing`, one more item, or a scale."""

    venue: str
    call: str
    path: Path
    what: str
    change: dict[str, Any] = field(compare=False, hash=False, default_factory=dict)

    @property
    def name(self) -> str:
        """A name that no other has, by which it can be run again."""
        return f"{self.venue} {self.call} {'.'.join(map(str, self.path)) or 'whole'} {self.what}"

    @property
    def is_far_off(self) -> bool:
        """Whether it leaves a figure that nothing but other figures can contradict."""
        return self.what in FAR_OFF

    @property
    def is_believed(self) -> bool:
        """The same, or a time that could be the true one."""
        return self.is_far_off or self.what == BEFORE

    @property
    def fault(self) -> dict[str, Any]:
        """The arguments of `TwinsRig.fault` beside venue and kind."""
        return {"call": re.escape(self.call), "times": -1, "path": list(self.path), **self.change}


def mutations_of(
    venue: str, call: str, body: Any, ours: Sequence[str], *, far_off: bool = False
) -> Iterator[Mutation]:
    """Yield every mutation of one answer. Of a list that is one row of ours (one that names something of `ours`), one of
    somebody else's, and the last. `far_off`: every figure ten times and a tenth of itself, too.
    """
    for path, value in _places(body, (), ours):
        for what, change in _changes(path, value):
            yield Mutation(venue, call, path, what, change)
        if far_off and _is_number(value) and float(value):
            for what, scale in FAR_OFF.items():
                yield Mutation(venue, call, path, what, {"scale": scale})


def _places(value: Any, path: Path, ours: Sequence[str]) -> Iterator[tuple[Path, Any]]:
    yield path, value
    for key, inner in _inside(value, ours):
        yield from _places(inner, (*path, key), ours)


def _inside(value: Any, ours: Sequence[str]) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        items: list[tuple[str | int, Any]] = list(value.items())
        by_key = len(items) > 1 and all(isinstance(one, dict) for _, one in items) and _alike(value.values())
        return _chosen(items, ours) if by_key else items
    return _chosen(list(enumerate(value)), ours) if isinstance(value, list) else []


def _alike(rows: Iterable[dict[str, Any]]) -> bool:
    return len({frozenset(row) for row in rows}) == 1


def _chosen(items: list[tuple[str | int, Any]], ours: Sequence[str]) -> list[tuple[str | int, Any]]:
    named = [json.dumps(item) for item in items]
    mine = [at for at, text in enumerate(named) if any(f'"{name}"' in text for name in ours)]
    others = [at for at in range(len(items)) if at not in mine]
    return [items[at] for at in sorted({*mine[:1], *others[:1], *([len(items) - 1] if items else [])})]


def _changes(path: Path, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if path:
        yield "missing", {"missing": True}
    if value is not None:
        yield "null", {"value": None}
    yield "other type", {"value": _of_another_type(value)}
    if _is_number(value):
        yield "NaN", {"value": "NaN"}
    elif isinstance(value, str):
        yield "new word", {"value": "someNewWord"}
    if isinstance(value, dict | list):
        yield "extra item", {"extra": {"unheardOf": {"by": "us"}}}
    if path[-1:] == ("time",) and isinstance(value, int):
        yield BEFORE, {"value": value // HOUR_MS * HOUR_MS - 7}


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return bool(NUMBER.fullmatch(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_another_type(value: Any) -> Any:
    """Something that is no figure or word in the place of one, and the reverse; never another figure that could be true."""
    if isinstance(value, dict):
        return ["a list"]
    if isinstance(value, list):
        return {"an": "object"}
    if isinstance(value, bool):
        return "perhaps"
    return {"an": "object"} if isinstance(value, str) else "a word"
