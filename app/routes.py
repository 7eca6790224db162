"""What `evenkeel routes` does: the table of exchanges as it stands, and additions to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings


def shown(settings: Settings) -> dict[str, Any]:
    """Return the table of exchanges as it stands. OperatorError where the file of additions cannot be used."""
    from venues.solana.routes.table import table_with

    path = settings.safety.routes_file
    table = table_with(path)
    body: dict[str, Any] = {
        "as_of": table.as_of,
        "file": str(path),
        "added": "yes" if path.exists() else "none",
    }
    pinned = dict.fromkeys(settings.safety.fee_accounts, "safety.fee_accounts")
    called = dict.fromkeys(settings.safety.allowed_programs, "safety.allowed_programs")
    for name, rows, more in (
        ("programs", table.programs, called),
        ("accounts", table.accounts, {}),
        ("fee_accounts", table.fee_accounts, pinned),
    ):
        body[name] = {str(key): text for key, text in rows.items()} | more
    for name in ("jupiter", "dflow"):
        kinds = sorted(table.kinds(name).items())
        body[name] = {str(number): [kind.name, kind.layout.text] for number, kind in kinds}
    return body


def add_address(settings: Settings, group: str, address: str, name: str) -> dict[str, Any]:
    """Add an address to the file of additions. OperatorError for one that is none, or a file that cannot be used."""
    from venues.solana.routes import table

    table.add_address(settings.safety.routes_file, group, address, name)
    return {"file": str(settings.safety.routes_file), "added": address.strip()}


def add_kind(settings: Settings, router: str, number: int, name: str, layout: str) -> dict[str, Any]:
    """Add a kind of a router's steps to the file of additions. OperatorError likewise."""
    from venues.solana.routes import table

    table.add_kind(settings.safety.routes_file, router, number, name, layout)
    return {"file": str(settings.safety.routes_file), "added": f"{router} kind {number}, {name}"}
