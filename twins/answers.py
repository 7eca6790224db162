"""Changes a JSON answer on its way out: any field by its path, or one more row that nobody expects.

A path is a list of parts, or their text joined by dots. A part is a key, a number (from the end where negative), `*` for
every element, or `[key=value]` for the elements of a list whose field has that value (`[position.coin=SOL]`). An empty path
is the answer itself.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from twins.odd_rows import ODD_ROWS

Path = list[str | int]
_PARTS = re.compile(r"\[[^\]]*\]|[^.\[\]]+")
DOWN = ("500", "502", "503", "404", "drop", "hang", "rpc_error")
CHANGES = ("value", "missing", "extra", "freeze", "scale")


def parts_of(path: Any) -> Path:
    """Return the parts of a path; none of them is the answer itself. ValueError where it is neither text nor a list of keys
    and numbers.
    """
    if isinstance(path, list) and all(type(part) in (str, int) for part in path):
        return list(path)
    if not isinstance(path, str):
        raise ValueError(f"path must be text such as assetPositions.0.position.szi, or a list: {path!r}")
    return [int(part) if re.fullmatch(r"-?\d+", part) else part for part in _PARTS.findall(path)]


def places(body: Any, path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) for each place that the path names and that is there."""
    *way, last = path
    for container in _reached(body, way):
        for key in _keys(container, last):
            yield container, key


def _reached(body: Any, way: Path) -> Iterator[Any]:
    if not way:
        yield body
        return
    for key in _keys(body, way[0]):
        yield from _reached(body[key], way[1:])


def _keys(container: Any, part: str | int) -> list[Any]:
    """The keys or indices of `container` that one part of a path means, as far as they are there."""
    if isinstance(container, dict):
        return list(container) if part == "*" else [part] if part in container else []
    if not isinstance(container, list):
        return []
    if part == "*":
        return list(range(len(container)))
    if isinstance(part, int):
        return [part % len(container)] if -len(container) <= part < len(container) else []
    if not part.startswith("["):
        return []
    key, _, wanted = part[1:-1].partition("=")
    found = []
    for index, element in enumerate(container):
        values = [holder[at] for holder, at in places(element, parts_of(key))]
        if any(str(value) == wanted for value in values):
            found.append(index)
    return found


def check(kind: str, args: dict[str, Any], call: str) -> None:
    """ValueError where a planned change of answers does not say what it changes."""
    if kind == "one_endpoint":
        if call in (".*", ""):
            raise ValueError("one_endpoint needs the `call` that is down; every other one works")
        if str(args.get("how", "500")) not in DOWN:
            raise ValueError(f"one_endpoint is down in one of these ways (how): {', '.join(DOWN)}")
    elif kind == "odd_row":
        if args.get("path"):
            parts_of(args["path"])
        elif "path" in args:
            return  # the answer itself
        elif call not in ODD_ROWS:
            raise ValueError(
                f"odd_row needs a path and a row for {call!r}; without them: {', '.join(ODD_ROWS)}"
            )
    else:
        if not parts_of(args.get("path")) and "missing" in args:
            raise ValueError(
                "an answer itself cannot be missing; one_endpoint leaves a call without an answer"
            )
        if sum(name in args for name in CHANGES) != 1:
            raise ValueError(f"field needs exactly one of {', '.join(CHANGES)}")


def altered(holder: list[Any], kind: str, args: dict[str, Any], call: str) -> bool:
    """Change the answer that `holder` holds alone, in place; return whether there was anything to change."""
    if kind == "odd_row":
        return _with_odd_row(holder[0], args, call)
    found = list(enumerate(places(holder, [0, *parts_of(args.get("path"))])))
    for number, (container, key) in reversed(found):
        if "value" in args:
            container[key] = copy.deepcopy(args["value"])
        elif "missing" in args:
            del container[key]
        elif "extra" in args:
            _add(container[key], args["extra"])
        elif "freeze" in args:
            kept = args.setdefault("kept", {})  # the values of the first answer, with the fault
            container[key] = copy.deepcopy(kept.setdefault(str(number), container[key]))
        else:
            container[key] = _scaled(container[key], args["scale"])
    return bool(found)


def _add(target: Any, extra: Any) -> None:
    if isinstance(target, list):
        target.append(copy.deepcopy(extra))
    elif isinstance(target, dict):
        target.update(copy.deepcopy(extra) if isinstance(extra, dict) else {"unheardOf": extra})


def _scaled(value: Any, factor: Any) -> Any:
    """A number times the factor, in the form it had: text stays text."""
    try:
        scaled = Decimal(str(value)) * Decimal(str(factor))
    except InvalidOperation:
        return value
    if isinstance(value, str):
        places_after = max(0, -int(Decimal(value).as_tuple().exponent))
        return format(round(scaled, places_after), "f")
    return int(scaled) if isinstance(value, int) else float(scaled)


def _with_odd_row(body: Any, args: dict[str, Any], call: str) -> bool:
    """Add one row to each list (or, under `key`, to each object) that the path names.

    The row is `row`; without it a copy of the element `like` (default the first) with the fields of `change` set. It
    goes to the end, or to `at`.
    """
    changes = [args] if "path" in args else ODD_ROWS.get(call, [])
    done = False
    for change in changes:
        path = change["path"]
        targets = (
            [body] if path in ("", []) else [holder[key] for holder, key in places(body, parts_of(path))]
        )
        for target in targets:
            done = _insert(target, {**change, **args}) or done
    return done


def _insert(target: Any, change: dict[str, Any]) -> bool:
    if isinstance(target, dict):
        target[change.get("key", "unheardOf")] = copy.deepcopy(change.get("row"))
        return True
    if not isinstance(target, list):
        return False
    if "row" in change:
        row = copy.deepcopy(change["row"])
    elif target:
        row = copy.deepcopy(target[change.get("like", 0)])
    else:
        return False
    for path, value in change.get("change", {}).items():
        for holder, key in places(row, parts_of(path)):
            holder[key] = copy.deepcopy(value)
    target.insert(change.get("at", len(target)), row)
    return True


def encoded(body: Any) -> bytes:
    """Return the answer as compact JSON; a float that is no number is written as the bare word NaN."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
