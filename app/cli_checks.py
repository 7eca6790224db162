"""The commands that look and compare: doctor and reconcile. Doctor sends nothing; reconcile acts only where a leg was taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.table import Table

from app.screens import out
from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

JsonFlag = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


class Emit(Protocol):
    def __call__(self, as_json: bool, body: dict[str, Any], human: Callable[[], None]) -> None: ...


class Fail(Protocol):
    def __call__(self, text: str, code: int = 2) -> Any: ...


class AsFlow(Protocol):
    async def __call__(
        self, settings: Settings, name: str, call: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any: ...


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
    """One row a check; what to do stands under what is wrong."""
    table = Table("", "check", "found, and what to do")
    for row in body["checks"]:
        status = row["status"]
        text = row["detail"] + (f"\n→ {row['advice']}" if row["advice"] else "")
        table.add_row(f"[{COLOURS[status]}]{status}[/]", f"{row['group']}: {row['name']}", text)
    out.print(table)
    counts = body["counts"]
    out.print(f"{counts['ok']} ok, {counts['warn']} to weigh, {counts['fail']} failed")


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
