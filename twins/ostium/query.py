"""GraphQL as far as the venue's clients use it: one query of root fields with arguments, variables and nested fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r'\s*(?:#[^\n]*\s*)*("(?:[^"\\]|\\.)*"|\.\.\.|[A-Za-z_]\w*|-?\d+(?:\.\d+)?|[{}()\[\]:,$!=@])'
)


class BadQuery(Exception):
    """The text is no query that this subgraph answers; the message is for the `errors` of the answer."""


@dataclass
class Field:
    """A field that is asked for, by the name of the answer."""

    name: str
    alias: str
    args: dict[str, Any] = field(default_factory=dict)
    fields: list[Field] = field(default_factory=list)


class _Reader:
    def __init__(self, text: str, variables: dict[str, Any]) -> None:
        self._tokens: list[str] = []
        self._variables = variables
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise BadQuery(f"Unexpected `{text[at:].strip()[:1]}`")
            self._tokens.append(found.group(1))
            at = found.end()
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, wanted: str = "") -> str:
        found = self.peek()
        if not found or (wanted and found != wanted):
            raise BadQuery(f"Unexpected `{found or 'end of input'}`, expected `{wanted or 'a value'}`")
        self._at += 1
        return found

    def took(self, wanted: str) -> bool:
        if self.peek() == wanted:
            self._at += 1
            return True
        return False

    def query(self) -> list[Field]:
        if self.took("query"):
            if self.peek() not in ("{", "("):
                self.take()
            if self.took("("):
                while not self.took(")"):
                    self.take()
        fields = self.selection()
        if self.peek():
            raise BadQuery(f"Unexpected `{self.peek()}`")
        return fields

    def selection(self) -> list[Field]:
        self.take("{")
        found = []
        while not self.took("}"):
            alias = name = self.take()
            if self.took(":"):
                name = self.take()
            args = {}
            if self.took("("):
                while not self.took(")"):
                    key = self.take()
                    self.take(":")
                    args[key] = self.value()
                    self.took(",")
            found.append(Field(name, alias, args, self.selection() if self.peek() == "{" else []))
            self.took(",")
        return found

    def value(self) -> Any:
        token = self.take()
        if token == "$":
            name = self.take()
            return self._variables.get(name)
        if token == "[":
            listed = []
            while not self.took("]"):
                listed.append(self.value())
                self.took(",")
            return listed
        if token == "{":
            found = {}
            while not self.took("}"):
                key = self.take()
                self.take(":")
                found[key] = self.value()
                self.took(",")
            return found
        if token.startswith('"'):
            return token[1:-1]
        if token in ("true", "false"):
            return token == "true"
        return int(token) if re.fullmatch(r"-?\d+", token) else token


def parsed(text: str, variables: dict[str, Any] | None) -> list[Field]:
    """Return the root fields of a query. Raises BadQuery."""
    return _Reader(text, variables or {}).query()


def selected(row: dict[str, Any], fields: list[Field], kind: str) -> dict[str, Any]:
    """Return of a row what was asked for. Raises BadQuery for a field that its type does not have."""
    found = {}
    for one in fields:
        if one.name not in row:
            raise BadQuery(f"Type `{kind}` has no field `{one.name}`")
        value = row[one.name]
        if isinstance(value, dict):
            value = selected(value, one.fields, one.name.capitalize())
        found[one.alias] = value
    return found


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        value = value.get("id")
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d+", value) else value.lower()
    return value


_TESTS = {
    "not_in": lambda has, of: has not in of,
    "in": lambda has, of: has in of,
    "not": lambda has, of: has != of,
    "gte": lambda has, of: has >= of,
    "lte": lambda has, of: has <= of,
    "gt": lambda has, of: has > of,
    "lt": lambda has, of: has < of,
}


def fits(row: dict[str, Any], where: dict[str, Any]) -> bool:
    """Return whether a row meets every condition, with the endings of the graph node (`trader_in`, `timestamp_gt`)."""
    for key, wanted in where.items():
        name, test = key, lambda has, of: has == of
        for ending, compare in _TESTS.items():
            if key.endswith(f"_{ending}") and key not in row:
                name, test = key.removesuffix(f"_{ending}"), compare
                break
        if name not in row:
            raise BadQuery(f"Filter has no field `{key}`")
        of = [_comparable(one) for one in wanted] if isinstance(wanted, list) else _comparable(wanted)
        if not test(_comparable(row[name]), of):
            return False
    return True


def page(rows: list[dict[str, Any]], args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a list query: filtered, ordered (by id unless asked otherwise), 100 where `first` is not given."""
    first, skip = args.get("first"), args.get("skip") or 0
    first = 100 if first is None else first
    if not 0 <= first <= 1000:
        raise BadQuery("The value of the `first` argument must be between 0 and 1000")
    order = args.get("orderBy") or "id"
    found = [row for row in rows if fits(row, args.get("where") or {})]
    if found and order not in found[0]:
        raise BadQuery(f"Order has no field `{order}`")
    key = (lambda row: row["id"]) if order == "id" else (lambda row: _comparable(row[order]))
    found.sort(key=key, reverse=args.get("orderDirection") == "desc")
    return found[skip : skip + first]
