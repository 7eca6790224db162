"""Read an answer in pieces: what does not fit spoils itself alone and is named, and the rest of the answer is used."""

from __future__ import annotations

import copy
import json
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter, ValidationError

from evenkeel.errors import NotUnderstood, shown

T = TypeVar("T")
LARGEST = Decimal(10) ** 18
Number = Annotated[Decimal, Field(gt=-LARGEST, lt=LARGEST)]
"""A finite decimal that no arithmetic of ours overflows with. "NaN" and "Infinity" are none."""
Whole = Annotated[int, Field(strict=True, gt=-(2**53), lt=2**63)]
"""A whole number as JSON writes it."""
Moment = Annotated[int, Field(strict=True, ge=0, lt=10**14)]
"""Milliseconds since 1970."""

_PASSES = 8
"""Repairs of one answer: a field may turn out odd only once another one is gone."""
_KEPT = 20
"""Oddities kept of one source; the others are counted."""
_NAMES = ("coin", "name", "symbol", "pda", "positionPda", "positionPDA", "pubkey", "mint", "lendingProtocol", "id",
          "tid", "oid", "time", "address", "signature")  # fmt: skip
_WORDS = ("coin", "name", "symbol")
_INNER = ("position", "delta", "order", "account")
_PLAIN = re.compile(r"[A-Za-z0-9:_./@ -]{1,44}")


@dataclass(frozen=True, slots=True)
class Oddity:
    """One thing that did not fit: of which row of which answer, which field, and what stood there (shortened).

    `lost`: the whole row was left out; otherwise the field alone. `at_ms`: the row's own time, where it has one.
    """

    source: str
    row: str
    field: str
    value: str
    lost: bool
    at_ms: int | None = None

    def __str__(self) -> str:
        what = " ".join(part for part in (self.row, self.field) if part)
        return f"{what} is {self.value}{' (row left out)' if self.lost else ''}" if what else self.value


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """What could be read of an answer, and what could not."""

    value: T
    odd: tuple[Oddity, ...] = ()

    def lost(self, rows: str) -> tuple[str, ...]:
        """Names of the rows of this list that were left out; "" for one whose name cannot be read."""
        start = f"{rows} "
        return tuple(_bare(one.row, start) for one in self.odd if one.lost and one.row.startswith(start))


class Oddities:
    """What did not fit in the last answer of every source, for whoever alerts it. One for all venues of a process."""

    def __init__(self) -> None:
        self._standing: dict[str, tuple[Oddity, ...]] = {}
        self._more: dict[str, int] = {}
        self.noted: dict[str, str] | None = None
        """The words that were held against the ledger last, and when."""
        self.noted_ms = 0

    def answered(self, source: str, odd: Iterable[Oddity], since_ms: int | None = None) -> None:
        """Note an answer of this source, odd or whole. One that lists rows from `since_ms` on says nothing of older ones."""
        before = self._standing.get(source, ())
        older = [
            one for one in before if since_ms is not None and one.at_ms is not None and one.at_ms < since_ms
        ]
        found = [*older, *odd]
        self._standing[source] = tuple(found[:_KEPT])
        self._more[source] = max(0, len(found) - _KEPT)

    def read(
        self, venue: str, source: str, shape: Any, raw: Any, *, part: str = "", since_ms: int | None = None
    ) -> Read[Any]:
        """Return what `read` makes of an answer, and note what did not fit. Raises NotUnderstood, noted too."""
        try:
            found = read(venue, source, shape, raw, part=part)
        except NotUnderstood as why:
            raise self.not_understood(source, why) from None
        self.answered(source, found.odd, since_ms)
        return found

    def add(self, source: str, odd: Iterable[Oddity]) -> None:
        """Note what a second look at the last answer of this source found besides; a field that is noted stands as it is."""
        standing = self._standing.get(source, ())
        noted = {(one.row, one.field) for one in standing}
        if more := [one for one in odd if (one.row, one.field) not in noted]:
            self.answered(source, [*standing, *more])

    def not_understood(self, source: str, why: NotUnderstood) -> NotUnderstood:
        """Note that nothing of the last answer of this source can be used; the same error comes back, to be raised."""
        self._standing[source] = (Oddity(source, "", "", why.reason, lost=False),)
        self._more[source] = 0
        return why

    def words(self) -> dict[str, str]:
        """By every source that has answered, what does not fit now; "" where all of it does."""
        found = {}
        for source, odd in self._standing.items():
            more = f"; and {self._more[source]} more" if self._more[source] else ""
            found[source] = "; ".join(str(one) for one in odd) + more
        return found


def parse_json(text: str | bytes) -> Any:
    """Return the parsed text, fractions exact; NaN and Infinity stay words, so that they spoil their own field only.
    Raises ValueError.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read(venue: str, source: str, shape: Any, raw: Any, *, part: str = "") -> Read[Any]:
    """Return `raw` as `shape`, without the rows and optional fields that do not fit.

    Rows are items of a list or of a dict anywhere in the shape; an item of `list[X | None]` leaves None in its place,
    because there the place has a meaning. Raises NotUnderstood where something is odd that can be left out nowhere.
    `part` names a list that is the answer itself.
    """
    adapter, odd, data = _adapter(shape), list[Oddity](), raw
    for _ in range(_PASSES):
        try:
            return Read(adapter.validate_python(data), (*odd, *_nothing_in(source, shape, raw, part)))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
        cuts: dict[tuple[Any, ...], bool] = {}
        for problem in problems:
            place = _place(shape, tuple(problem["loc"]))
            noted = _oddity(source, data, place, problem, part)
            if not place.cut:
                raise NotUnderstood(venue, f"{source}: {noted}")
            odd.append(noted)
            cuts[place.path[: place.cut]] = place.blank
        data = _without(shape, data, cuts)
    raise NotUnderstood(venue, f"{source}: {len(odd)} of its fields do not fit, {odd[0]}")


def _nothing_in(source: str, shape: Any, raw: Any, part: str) -> list[Oddity]:
    """Rows of `list[X | None]` for which the venue itself answered nothing: they fit, and are lost all the same."""
    found = []
    for name, inner, rows in _lists(shape, raw, part):
        if isinstance(rows, list) and _bare_type(inner)[1]:
            found += [
                Oddity(source, f"{name} #{at}".strip(), "", "None", lost=True)
                for at, row in enumerate(rows)
                if row is None
            ]
    return found


def _lists(shape: Any, raw: Any, part: str) -> Iterable[tuple[str, Any, Any]]:
    """Yield name, shape of an item and rows of the answer where it is a list, or of each list that is a field of it."""
    shape, _ = _bare_type(shape)
    if get_origin(shape) is list:
        yield part, get_args(shape)[0], raw
    elif isinstance(shape, type) and issubclass(shape, BaseModel) and isinstance(raw, dict):
        for wire_name, name in _fields(shape).items():
            inner, _ = _bare_type(shape.model_fields[name].annotation)
            if get_origin(inner) is list and wire_name in raw:
                yield wire_name, get_args(inner)[0], raw[wire_name]


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


@dataclass(frozen=True, slots=True)
class _Place:
    """An odd place: the path to it, the smallest piece around it that the answer can do without (its first `cut` keys),
    and the innermost row that it is in (its first `row` keys). 0: there is none. `blank`: None goes in the row's place.
    """

    path: tuple[Any, ...]
    cut: int
    row: int
    blank: bool


def _place(shape: Any, path: tuple[Any, ...]) -> _Place:
    cut = row = 0
    blank = False
    for depth, key in enumerate(path, start=1):
        shape, left_out = _child(shape, key)
        if left_out is not None:
            cut, blank = depth, left_out == "blank"
            row = row if left_out == "field" else depth
        if shape is None:
            break
    return _Place(path, cut, row, blank)


def _child(shape: Any, key: Any) -> tuple[Any, str | None]:
    """The shape at a key, and how it can be left out: as a row, as a row whose place stays, as a field, or not at all."""
    shape, _ = _bare_type(shape)
    origin, args = get_origin(shape), get_args(shape)
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        name = _fields(shape).get(str(key))
        if name is None:
            return None, None
        field = shape.model_fields[name]
        return field.annotation, None if field.is_required() else "field"
    if origin is list and isinstance(key, int):
        return args[0], "blank" if _bare_type(args[0])[1] else "row"
    if origin is tuple and isinstance(key, int):
        if args[1:] == (...,):
            return args[0], "row"
        return (args[key], None) if key < len(args) else (None, None)
    if origin is dict:
        return args[1], "row"
    return None, None


def _bare_type(shape: Any) -> tuple[Any, bool]:
    """The type without Annotated and None, and whether None was allowed."""
    if get_origin(shape) is Annotated:
        return _bare_type(get_args(shape)[0])
    if get_origin(shape) in (Union, types.UnionType):
        inner = [one for one in get_args(shape) if one is not type(None)]
        if len(inner) < len(get_args(shape)):
            return _bare_type(inner[0])[0], True
    return shape, False


@cache
def _fields(model: type[BaseModel]) -> Mapping[str, str]:
    """Field names by everything that they may be called on the wire."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        for alias in (name, field.alias, field.validation_alias):
            if isinstance(alias, AliasChoices):
                found |= {str(one): name for one in alias.choices}
            elif isinstance(alias, str):
                found[alias] = name
    return found


def _without(shape: Any, data: Any, cuts: Mapping[tuple[Any, ...], bool]) -> Any:
    data = copy.deepcopy(data)
    whole = [path for path in cuts if not any(path[:n] in cuts for n in range(1, len(path)))]
    for path in sorted(whole, key=lambda one: [(str(type(key)), key) for key in one], reverse=True):
        holder = _at(data, path[:-1])
        if cuts[path]:
            holder[path[-1]] = None
        elif isinstance(holder, list):
            del holder[path[-1]]
        elif isinstance(holder, dict):
            for name in _also_called(shape, path):
                holder.pop(name, None)
    return data


def _also_called(shape: Any, path: Sequence[Any]) -> list[Any]:
    """The last key of a path, and every other name of the same field."""
    for key in path[:-1]:
        shape = _child(shape, key)[0]
    model, _ = _bare_type(shape)
    if isinstance(model, type) and issubclass(model, BaseModel):
        names = _fields(model)
        return [one for one, name in names.items() if name == names.get(str(path[-1]))]
    return [path[-1]]


def _at(data: Any, path: Sequence[Any]) -> Any:
    for key in path:
        data = data[key]
    return data


def _oddity(source: str, data: Any, place: _Place, problem: Any, part: str) -> Oddity:
    """The odd place in words: the innermost row around it, and the way from there."""
    path, row, at_ms = place.path, "", None
    if place.row:
        listed = next((key for key in reversed(path[: place.row - 1]) if isinstance(key, str)), part)
        item, key = _maybe(data, path[: place.row]), path[place.row - 1]
        name = name_of(item) or (f"#{key}" if isinstance(key, int) else _plain(key))
        row, at_ms = " ".join(word for word in (listed, name) if word), _time_of(item)
    field = ".".join(str(key) for key in path[place.row :])
    value = "missing" if problem["type"] == "missing" else shown(problem["input"])
    return Oddity(source, row, field, value, 0 < place.cut == place.row, at_ms)


def _maybe(data: Any, path: Sequence[Any]) -> Any:
    try:
        return _at(data, path)
    except (KeyError, IndexError, TypeError):
        return None


def name_of(item: Any) -> str:
    """The name of a row by the first of its fields that names one; "" where it has none that can be shown."""
    if not isinstance(item, dict):
        return ""
    for holder in (item, *(item[inner] for inner in _INNER if isinstance(item.get(inner), dict))):
        for name in _NAMES:
            value = holder.get(name)
            if (
                isinstance(value, str if name in _WORDS else str | int)
                and not isinstance(value, bool)
                and (text := _plain(value))
            ):
                return text
    return ""


def _plain(value: object) -> str:
    """A name that can be shown: short, of plain characters, no longer than a public key."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else ""


def _time_of(item: Any) -> int | None:
    found = item.get("time") if isinstance(item, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _bare(row: str, start: str) -> str:
    name = row.removeprefix(start)
    return "" if name.startswith("#") else name
