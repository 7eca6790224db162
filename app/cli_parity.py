"""The command that holds a closed position against a back-test of the same hours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import AsFlow, Emit, JsonFlag, out, show_rows

if TYPE_CHECKING:
    from rich.console import Console

    from evenkeel.settings.settings import Settings


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit, as_flow: AsFlow) -> None:
    """Put the command on the command line."""

    @app.command()
    def parity(
        position: Annotated[str | None, typer.Argument(help="Its id; empty: the latest.")] = None,
        since: Annotated[
            str | None,
            typer.Option("--from", help="When the rules begin to look for an entry (UTC); empty: its hour."),
        ] = None,
        data: Annotated[
            Path | None,
            typer.Option(
                help="Folder of recorded series; empty: what `collect` has stored.", envvar="EVENKEEL_DATA"
            ),
        ] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """A closed position beside a back-test of the same hours, money and settings: trades, and why the money differs."""
        requested = {"data": None if data is None else str(data), "position_id": position, "since": since}
        body = asyncio.run(_parity(settings(), requested, as_flow))
        emit(as_json, body, lambda: show_parity(body, out))


async def _parity(settings: Settings, requested: dict[str, Any], as_flow: AsFlow) -> dict[str, Any]:
    from flows.research import parity as flow
    from tasks.carry.desk import open_desk

    request = flow.ParityRequest(**requested)
    found: dict[str, Any] | None = await as_flow(settings, "parity", lambda: flow.parity(request))
    if found is not None:
        return found
    async with open_desk(settings) as desk:
        return (await flow.parity_of(desk, request)).as_dict()


def show_parity(body: dict[str, Any], console: Console) -> None:
    """Trades hour by hour, then the money of both by source."""
    console.print(f"{body['position_id']} beside a back-test, {body['from']} to {body['to']}", markup=False)
    for one in body["trades"]:
        words = (
            "both"
            if one["position"] == one["backtest"]
            else (f"position {one['position']}, back-test {one['backtest']}")
        )
        console.print(f"{one['hour']}  {one['kind']}: {words}", markup=False)
    names = ("name", "position_usd", "backtest_usd", "difference_usd", "why")
    held = [one for one in body["items"] if one["position_usd"] != "0.00" or one["backtest_usd"] != "0.00"]
    cells = [[one[name] for name in names] for one in held]
    show_rows(("USD", "position", "back-test", "difference", "why"), cells, console=console)
    trades = "the same trades in the same hours" if body["same_trades"] else "the trades differ"
    console.print(
        f"{trades}; of a difference of {body['difference_usd']} USD the back-test does not explain "
        f"{body['unexplained_usd']} USD, beside costs of {body['costs_usd']} USD",
        markup=False,
    )
    for note in body["notes"]:
        console.print(f"note: {note}", markup=False)
