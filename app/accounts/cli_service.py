"""`evenkeel accounts serve`, `token`, `statement`, `billing`: the service, who may ask it, and what users are shown."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import Emit, JsonFlag, out, show_rows

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

CsvFlag = Annotated[bool, typer.Option("--csv", help="Answer as CSV on standard output.")]


def add_to(accounts: typer.Typer, settings: Callable[[], Settings], emit: Emit) -> None:
    """Put the commands below `evenkeel accounts`."""
    tokens = typer.Typer(help="Who may ask the service.", no_args_is_help=True)
    accounts.add_typer(tokens, name="token")

    @accounts.command("serve")
    def serve() -> None:
        """Serve the pages for users and the interface for programs, on loopback, until it is ended. Signs what it is asked for:
        keep `accounts watch` running beside it."""
        from app.accounts.service.serving import serve as serving

        asyncio.run(serving(settings(), lambda text: out.print(text, markup=False, soft_wrap=True)))

    @tokens.command("new")
    def new(
        name: Annotated[str, typer.Argument(help="What it is for.")],
        account: Annotated[str, typer.Option(help="Whose trades it is for; empty: everybody's.")] = "",
        scope: Annotated[list[str] | None, typer.Option(help="read, trade, collect; give several.")] = None,
        days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 90,
        as_json: JsonFlag = False,
    ) -> None:
        """Make a token and show it, this once."""
        from app.accounts.actions import ledger, wallet_of
        from app.accounts.service.tokens import DAY_MS, READ, new_token

        with ledger(settings()) as store:
            whose = wallet_of(account) if account else ""
            row, token = new_token(store.access, name, whose, scope or [READ], days * DAY_MS)
        body = _shown(row) | {"token": token}
        emit(as_json, body, lambda: out.print(f"{row.token_id}: {token}", markup=False, soft_wrap=True))

    @tokens.command("list")
    def listed(as_json: JsonFlag = False) -> None:
        """Tokens with their scopes, never themselves."""
        from app.accounts.actions import ledger

        with ledger(settings()) as store:
            rows = [_shown(one) for one in store.access.tokens()]
        emit(as_json, {"tokens": rows}, lambda: _table(rows))

    @tokens.command("revoke")
    def revoke(
        token: Annotated[str, typer.Argument(help="Its id, as `token list` shows it.")],
        as_json: JsonFlag = False,
    ) -> None:
        """End a token at once."""
        from app.accounts.actions import ledger

        with ledger(settings()) as store:
            body = _shown(store.access.revoke_token(token))
        emit(as_json, body, lambda: out.print(f"{token}: revoked", markup=False))

    @accounts.command("statement")
    def statement(
        account: Annotated[str, typer.Argument(help="The user's wallet, 0x and 40 hex digits.")],
        as_csv: CsvFlag = False,
        as_json: JsonFlag = False,
    ) -> None:
        """What trades and shares changed in a user's wallet, by the ledger. Needs no key and asks no venue."""
        from app.accounts.actions import ledger, wallet_of
        from tasks.accounts.statement import LINE_FIELDS
        from tasks.accounts.statement import statement as made

        found = settings()
        with ledger(found) as store:
            body = made(store, wallet_of(account), found.ostium.markets)
        if as_csv:
            _write(LINE_FIELDS, body["lines"])
            return
        emit(as_json, body, lambda: _statement(body))

    @accounts.command("billing")
    def billing(
        account: Annotated[str, typer.Option(help="Of one user's wallet; empty: all.")] = "",
        as_csv: CsvFlag = False,
        as_json: JsonFlag = False,
    ) -> None:
        """The events of billing. Needs no key and asks no venue."""
        from app.accounts.actions import ledger, wallet_of
        from tasks.accounts.statement import EVENT_FIELDS
        from tasks.accounts.statement import billing as made

        with ledger(settings()) as store:
            rows = made(store, wallet_of(account) if account else "")
        if as_csv:
            _write(EVENT_FIELDS, rows)
            return
        emit(as_json, {"events": rows}, lambda: _table(rows))


def _shown(row: Any) -> dict[str, Any]:
    from evenkeel.clock import as_datetime

    return {
        "token_id": row.token_id,
        "name": row.name,
        "account": row.account,
        "scopes": row.scopes,
        "expires": f"{as_datetime(row.expires_ms):%Y-%m-%d %H:%M} UTC",
        "revoked": row.revoked_ms is not None,
    }


def _write(fields: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, fields)
    writer.writeheader()
    writer.writerows(rows)


def _table(rows: list[dict[str, Any]]) -> None:
    cells = [
        [", ".join(value) if isinstance(value, list) else value for value in one.values()] for one in rows
    ]
    show_rows(list(rows[0]) if rows else ["none"], cells)


def _statement(body: dict[str, Any]) -> None:
    names = ("at", "what", "market", "change_usdc", "sum_usdc")
    cells = [[one[name] for name in names] for one in body["lines"]]
    show_rows(("at", "what", "market", "change USDC", "sum USDC"), cells)
    out.print(f"total {body['total_usdc']} USDC, owed {body['owed_usdc']} USDC", markup=False)
    for line in body["under_way"]:
        out.print(f"under way, not counted: {line}", markup=False, soft_wrap=True)
