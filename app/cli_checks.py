"""The commands that look and compare: doctor and reconcile. Doctor sends nothing; reconcile acts only where a leg was taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from app.screens import NOT_CHECKED, AsFlow, Emit, Fail, JsonFlag, out
from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def add_to(
    app: typer.Typer, settings: Callable[[], Settings], emit: Emit, fail: Fail, as_flow: AsFlow
) -> None:
    """Put the commands on the command line."""

    @app.command()
    def doctor(as_json: JsonFlag = False) -> None:
        """Check this configuration before money is at stake, and say what to do. Exit code 1 when something fails."""
        from app.doctor.doctor import examine, unreadable_settings

        try:
            found = asyncio.run(examine(settings()))
        except OperatorError as wrong:
            found = unreadable_settings(str(wrong))
        body = found.as_dict()
        emit(as_json, body, lambda: show_examination(body))
        if not found.healthy:
            raise typer.Exit(1)

    @app.command()
    def reconcile(as_json: JsonFlag = False) -> None:
        """Hold the books against both venues; where a venue took a leg, the other one follows. Exit code 1 when
        something is left to a person."""
        from app import actions

        result = asyncio.run(actions.reconcile(settings(), as_flow))
        emit(as_json, result, lambda: show_reconciliation(result))
        if not result["agrees"]:
            fail("books and venues do not agree on everything; see above, and docs/runbook.md", 1)


def show_examination(body: dict[str, Any]) -> None:
    """One row a check; what to do stands under what is wrong. Checks that could not be made for one reason share a row."""
    # An address or a variable's name that is cut cannot be looked up.
    table = Table("", "check", Column("found, and what to do", overflow="fold"))
    for status, names, text in folded(body["checks"]):
        table.add_row(Text(status, style=COLOURS[status]), Text("\n".join(names)), Text(text))
    out.print(table)
    counts = body["counts"]
    out.print(f"{counts['ok']} ok, {counts['warn']} to weigh, {counts['fail']} failed")


def folded(checks: list[dict[str, Any]]) -> list[tuple[str, list[str], str]]:
    """Return status, names and text of each row, in the order of the checks; of those that were not made, one for each
    reason, in the place of the first.
    """
    rows: list[tuple[str, list[str], str]] = []
    not_made: dict[str, list[str]] = {}
    for row in checks:
        name = f"{row['group']}: {row['name']}"
        text = row["detail"] + (f"\n→ {row['advice']}" if row["advice"] else "")
        if not row["detail"].startswith(NOT_CHECKED):
            rows.append((row["status"], [name], text))
        elif text in not_made:
            not_made[text].append(name)
        else:
            not_made[text] = [name]
            rows.append((row["status"], not_made[text], text))
    return rows


def show_reconciliation(result: dict[str, Any]) -> None:
    """What did not agree, what was done, and what could not be read."""
    out.print(f"{result['rows']} rows compared")
    for one in result["findings"]:
        out.print(f"{one['handling']}: {one['text']}", markup=False)
    for position, action in result["actions"].items():
        out.print(f"{position}: {action}", markup=False)
    for name, why in result["unreadable"].items():
        out.print(f"{name} cannot be read: {why}", style="yellow", markup=False)
    if result["agrees"]:
        out.print("books and venues agree")
