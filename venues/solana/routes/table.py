"""Which exchanges swap routes may pass through, and how the routers describe them: a dated table, and what was added here.

The table is data of the package (`exchanges_*.json`); additions stand in a file of the installation of the same form, which
`evenkeel routes add` writes. A kind that is added wins over the dated one, since programs change after a date.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from evenkeel.errors import OperatorError
from venues.solana.routes.layouts import Layout, parse_layout

DATED = "exchanges_2026_11.json"
ROUTERS = ("jupiter", "dflow")
ADDRESSES = ("programs", "accounts", "fee_accounts")
MAX_KIND = 255


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of step of a router, by the number that stands in the data."""

    name: str
    layout: Layout


@dataclass(frozen=True, slots=True)
class RouteTable:
    """What is known of routes. `accounts` may be absent from the chain; `fee_accounts` may receive a platform fee."""

    as_of: str
    programs: Mapping[Pubkey, str] = field(default_factory=dict)
    accounts: Mapping[Pubkey, str] = field(default_factory=dict)
    fee_accounts: Mapping[Pubkey, str] = field(default_factory=dict)
    jupiter: Mapping[int, Kind] = field(default_factory=dict)
    dflow: Mapping[int, Kind] = field(default_factory=dict)

    def kinds(self, router: str) -> Mapping[int, Kind]:
        return self.jupiter if router == "jupiter" else self.dflow

    def with_added(self, more: RouteTable) -> RouteTable:
        return RouteTable(
            self.as_of,
            {**self.programs, **more.programs},
            {**self.accounts, **more.accounts},
            {**self.fee_accounts, **more.fee_accounts},
            {**self.jupiter, **more.jupiter},
            {**self.dflow, **more.dflow},
        )


@cache
def dated_table() -> RouteTable:
    """Return the table of the package."""
    text = resources.files("venues.solana.routes").joinpath(DATED).read_text(encoding="utf-8")
    return _parsed(json.loads(text), DATED)


def table_with(path: Path | None) -> RouteTable:
    """Return the dated table with the additions of a file, if there is one. Raises OperatorError in one line."""
    if path is None or not path.exists():
        return dated_table()
    return dated_table().with_added(read_additions(path))


def read_additions(path: Path) -> RouteTable:
    """Return the additions of a file. Raises OperatorError for one that cannot be read or understood."""
    return _parsed(_load(path), str(path))


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise OperatorError(f"{path} cannot be read as a table of routes: {error}") from None
    if not isinstance(found, dict):
        raise OperatorError(f"{path} is no table of routes: it holds a {type(found).__name__}")
    return found


def _parsed(found: dict[str, Any], where: str) -> RouteTable:
    groups: dict[str, Any] = {}
    for name in (*ADDRESSES, *ROUTERS):
        rows = found.get(name, {})
        if not isinstance(rows, dict):
            raise OperatorError(f"{where}: {name} is no table")
        groups[name] = rows
    for name in ADDRESSES:
        groups[name] = {address(one, f"{where}: {name}"): str(text) for one, text in groups[name].items()}
    for name in ROUTERS:
        groups[name] = dict(_kind(where, name, one, text) for one, text in groups[name].items())
    return RouteTable(str(found.get("as_of", "")), **groups)


def _kind(where: str, router: str, number: Any, text: Any) -> tuple[int, Kind]:
    if not str(number).isdigit() or int(number) > MAX_KIND:
        raise OperatorError(f"{where}: {router} kind {number!r} is no number from 0 to {MAX_KIND}")
    name, _, layout = str(text).partition(" ")
    if not name:
        raise OperatorError(f"{where}: {router} kind {number} has no name")
    try:
        return int(number), Kind(name, parse_layout(layout))
    except ValueError as error:
        raise OperatorError(f"{where}: {router} kind {number}: {error}") from None


def address(text: str, where: str) -> Pubkey:
    """Return an address. Raises OperatorError in one line."""
    try:
        return Pubkey.from_string(str(text).strip())
    except ValueError:
        raise OperatorError(f"{where}: {str(text)[:60]!r} is no Solana address") from None


def add_address(path: Path, group: str, text: str, name: str) -> None:
    """Add an address to the file of additions. Raises OperatorError."""
    if group not in ADDRESSES:
        raise OperatorError(f"{group!r} is none of {', '.join(ADDRESSES)}")
    key = address(text, "routes add")
    _write(path, group, str(key), name.strip() or "added")


def add_kind(path: Path, router: str, number: int, name: str, layout: str) -> None:
    """Add a kind of a router's steps to the file of additions. Raises OperatorError."""
    if router not in ROUTERS:
        raise OperatorError(f"{router!r} is none of {', '.join(ROUTERS)}")
    if not name.strip() or " " in name.strip():
        raise OperatorError(f"{name!r} is no name of a kind: one word")
    _kind("routes add", router, number, f"{name.strip()} {layout}".strip())
    _write(path, router, str(number), f"{name.strip()} {layout}".strip())


def _write(path: Path, group: str, key: str, text: str) -> None:
    """Change the file in one step: a reader sees the old one or the new one."""
    found = _load(path) if path.exists() else {}
    _parsed(found, str(path))
    found.setdefault(group, {})[key] = text
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=path.name, delete=False, encoding="utf-8"
        ) as file:
            json.dump(found, file, indent=1)
            file.write("\n")
        Path(file.name).replace(path)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error}") from None
