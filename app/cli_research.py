"""The commands that ask what the rules would have earned: they read series, and touch neither venue nor position."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import AsFlow, Emit, JsonFlag, out, show_rows
from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

SHARES = {"net_apr", "max_drawdown", "time_in_market", "mean_notional_share"}
WORDS = {
    "net_usd": "net USD",
    "net_apr": "net a year",
    "max_drawdown": "largest drawdown",
    "time_in_market": "time in market",
    "mean_notional_share": "mean notional of target",
    "entries": "entries",
    "exits": "exits",
    "resizes": "resizes",
    "transfers": "transfers",
    "liquidations": "liquidations",
}


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit, as_flow: AsFlow) -> None:
    """Put the commands on the command line."""

    @app.command()
    def backtest(
        context: typer.Context,
        data: Annotated[
            Path | None,
            typer.Option(help="Folder of recorded series; without one: --collected.", envvar="EVENKEEL_DATA"),
        ] = None,
        collected: Annotated[
            bool,
            typer.Option(
                "--collected", help="What `collect` has stored in the ledger, whatever EVENKEEL_DATA says."
            ),
        ] = False,
        since: Annotated[
            str | None, typer.Option("--from", help="First hour, e.g. 2025-01-01 (UTC); empty: all.")
        ] = None,
        until: Annotated[str | None, typer.Option("--to", help="End, e.g. 2025-11-15 (UTC).")] = None,
        asset: Annotated[str, typer.Option(help="SOL or jitoSOL; collected also jupSOL and INF.")] = "SOL",
        protocol: Annotated[
            str | None, typer.Option(help="Who lends, of collected series; empty: kamino.")
        ] = None,
        leverage: Annotated[
            int | None, typer.Option(help="Whole number from 1 to 4; empty: strategy.leverage.")
        ] = None,
        adl: Annotated[
            str | None,
            typer.Option(
                help="Scenario: then, e.g. 2025-10-10T21 (UTC), the venue closes a part of the short."
            ),
        ] = None,
        adl_share: Annotated[float, typer.Option(help="That part, above 0 and up to 1.")] = 0.5,
        out_dir: Annotated[
            Path | None, typer.Option("--out", help="Folder for hours.csv, trades.csv and the picture.")
        ] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """What the rules would have earned over recorded or collected markets, beside a position that is always held."""
        given = context.get_parameter_source("data")
        if collected and given is not None and given.name == "COMMANDLINE":
            raise OperatorError("--collected and --data name two different markets: choose one")
        requested = {
            "data": None if collected or data is None else str(data),
            "since": since,
            "until": until,
            "asset": asset,
            "protocol": protocol,
            "leverage": leverage,
            "deleveraged_at": adl,
            "deleveraged_share": adl_share,
            "out_dir": None if out_dir is None else str(out_dir),
        }
        body = asyncio.run(_backtest(settings(), requested, as_flow))
        emit(as_json, body, lambda: show_backtest(body))

    @app.command()
    def study(
        data: Annotated[Path, typer.Option(help="Folder of recorded series.", envvar="EVENKEEL_DATA")],
        since: Annotated[str, typer.Option("--from", help="First hour (UTC).")] = "2025-01-01",
        asset: Annotated[str, typer.Option(help="SOL or jitoSOL.")] = "SOL",
        only: Annotated[str | None, typer.Option(help="Part of a table's heading; empty: all.")] = None,
    ) -> None:
        """The tables of docs/research.md: the back-test under settings and assumptions that differ in one thing each."""
        from flows.research.backtest import time_ms
        from tasks.research.recorded import read_recorded
        from tasks.research.study import study as tables

        chosen = settings()
        market = read_recorded(data, asset, chosen.staking)
        for line in tables(market, chosen, time_ms("--from", since), only):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


async def _backtest(settings: Settings, requested: dict[str, Any], as_flow: AsFlow) -> dict[str, Any]:
    from pydantic import ValidationError

    from flows.research import backtest as flow

    try:
        request = flow.BacktestRequest(**requested)
    except ValidationError as wrong:
        lines = (f"{'.'.join(map(str, one['loc']))} {one['input']!r}: {one['msg']}" for one in wrong.errors())
        raise OperatorError("; ".join(lines)) from None
    found = await as_flow(settings, "backtest", lambda: flow.backtest(request))
    result: dict[str, Any] = await flow.backtest_market(settings, request) if found is None else found
    return result


def show_backtest(body: dict[str, Any]) -> None:
    """The three runs side by side, where the money came from, what the rules did, and what was assumed."""
    title = f"{body['asset']} {body['leverage']}x, {body['source']} series, {body['from']} to {body['to']}"
    runs = (body, body["baseline"], body["twice_the_cost"])
    cells = [[words, *(_shown(name, one[name]) for one in runs)] for name, words in WORDS.items()]
    show_rows(("", "the rules", "always in", "at twice the cost"), cells, title=title)
    earned = ", ".join(f"{name} {usd:,.2f}" for name, usd in body["attribution_usd"].items() if usd)
    out.print(f"USD by source: {earned or 'none'}", markup=False)
    for rule, row in body["rules"].items():
        out.print(
            f"{rule}: acted {row['acted']:.0f} times for {row['cost_usd']:,.2f} USD, spoke in {row['alerts']:.0f} ticks",
            markup=False,
        )
    if body["deleveraging"] is not None:
        _show_deleveraging(body["deleveraging"])
    if body["gap_hours"]:
        out.print(f"{body['gap_hours']} hours have no price: nothing was decided in them")
    if body["unrated_hours"]:
        out.print(
            f"{body['unrated_hours']} hours in the market have no funding or no lending rate: what they would have earned "
            "or paid is missing above",
            markup=False,
        )
    for note in body["notes"]:
        out.print(f"note: {note}", markup=False)
    for path in body["files"]:
        out.print(f"written: {path}", markup=False)


def _show_deleveraging(found: dict[str, Any]) -> None:
    """What a closed part of the short cost, and what the rules did."""
    if not found["happened"]:
        out.print(f"auto-deleveraging at {found['at']}: {found['why_not']}, nothing happened", markup=False)
        return
    without, cost = _shown("net_apr", found["without"]["net_apr"]), found["cost_usd"]
    out.print(
        f"auto-deleveraging of {found['share']:.0%} of the short at {found['at']}: the result is {abs(cost):,.2f} USD "
        f"{'lower' if cost >= 0 else 'higher'} for it; without it {without} a year",
        markup=False,
    )
    for one in found["then"]:
        out.print(f"  then {one['at']} {one['kind']} ({one['rule']}): {one['reason']}", markup=False)


def _shown(name: str, value: Any) -> str:
    if name in SHARES:
        return f"{value:.2%}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
