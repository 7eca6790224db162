"""The commands that need no venue: the demo, and the local venues themselves."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import JsonFlag, decimal_of, out
from app.through_prefect import err
from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from rich.console import Console


MOST_SPEED = 100_000
"""World seconds in a wall second: a day in less than one."""


NODE_FOLDER = Path("out")
"""Where the EVM node of paper trading and of the demo is installed, once."""


class Which(StrEnum):
    """A business that has a demo."""

    CARRY = "carry"
    ACCOUNTS = "accounts"
    HEDGING = "hedging"


def add_to(app: typer.Typer) -> None:
    """Put the commands on the command line."""
    twins_app = typer.Typer(help="Local venues for demo, tests and paper trading.", no_args_is_help=True)
    app.add_typer(twins_app, name="twins")

    @app.command()
    def demo(
        which: Annotated[
            Which, typer.Argument(help="Which business: carry, accounts (needs npm's anvil) or hedging.")
        ] = Which.CARRY,
        data: Annotated[
            Path | None, typer.Option(help="Folder of recorded series; empty: the seeded model.")
        ] = None,
        out_dir: Annotated[
            Path | None,
            typer.Option("--out", help="Where everything is written; empty: out/demo, or out/demo-NAME."),
        ] = None,
        seed: Annotated[int | None, typer.Option(help="Seed of the model; empty: 7.")] = None,
        start: Annotated[
            str | None,
            typer.Option(
                help="With --data: where the span begins, e.g. 2025-09-01T06:00 (UTC); empty: its first hour."
            ),
        ] = None,
        hours: Annotated[
            int | None,
            typer.Option(help="With --data: how long the position is watched at most, 1 to 2000; empty: 72."),
        ] = None,
        ui: Annotated[
            bool, typer.Option("--ui", help="Keep the Prefect UI up at the end, until Ctrl-C.")
        ] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """The whole trade on local venues: scan, enter, collect, rebalance, survive a lost answer, exit, account. Or that of
        managed accounts, or two days of hedged market making.
        """
        if which is not Which.CARRY:
            given = {"--data": data, "--seed": seed, "--start": start, "--hours": hours, "--ui": ui or None}
            if named := [name for name, value in given.items() if value is not None]:
                raise OperatorError(
                    f"{named[0]} is of the demo of carry: `evenkeel demo {which}` takes --out and --json"
                )
            summary = _other_demo(which, out_dir or Path(f"out/demo-{which}"), err if as_json else out)
            if as_json:
                sys.stdout.write(json.dumps(summary, indent=2) + "\n")
            return
        from app.demo.demo import run_demo

        chosen = data or (Path(os.environ["EVENKEEL_DATA"]) if os.environ.get("EVENKEEL_DATA") else None)
        console = err if as_json else out
        folder, seed = out_dir or Path("out/demo"), 7 if seed is None else seed
        summary = run_demo(chosen, folder, seed=seed, start=start, hours=hours, keep_ui=ui, console=console)
        if as_json:
            sys.stdout.write(json.dumps(summary, indent=2) + "\n")

    @twins_app.command("serve")
    def twins_serve(
        data: Annotated[
            Path | None, typer.Option(help="Folder of recorded series; empty: the seeded model.")
        ] = None,
        speed: Annotated[float, typer.Option(help="World seconds per wall second.")] = 1.0,
        start: Annotated[
            str | None, typer.Option(help="World start: now, or e.g. 2025-09-26T06:00 (UTC).")
        ] = None,
        seed: Annotated[int, typer.Option(help="Seed of the model.")] = 7,
        stepped: Annotated[bool, typer.Option(help="Let clients move the clock instead of waiting.")] = False,
        usdc: Annotated[str, typer.Option(help="USDC put on each venue.")] = "50000",
        accounts: Annotated[
            int,
            typer.Option(min=1, max=100, help="So many accounts with money; from 2 on a fleet."),
        ] = 1,
        write: Annotated[
            Path | None,
            typer.Option(
                help="Folder for settings and keys of these twins, with a Slack beside them: paper trading."
            ),
        ] = None,
        hedging: Annotated[
            bool, typer.Option("--hedging", help="With an order book, its customers and a broker.")
        ] = False,
        ostium: Annotated[
            bool,
            typer.Option(
                "--ostium", help="With Ostium on an EVM node of its own, and users with USDC; needs npm."
            ),
        ] = False,
        parent_pid: Annotated[int | None, typer.Option(hidden=True)] = None,
        idle_exit_s: Annotated[float | None, typer.Option(hidden=True)] = None,
    ) -> None:
        """Serve the twins on loopback; prints one JSON line with URLs and funded test keys, then runs until stopped."""
        from twins.evm.node import NoNode
        from twins.serve import TwinOptions, serve_until_stopped, start_ms_of

        check_speed(speed)
        try:
            start_ms = start_ms_of(start)
        except ValueError as error:
            raise OperatorError(str(error)) from error
        options = TwinOptions(
            data=data,
            seed=seed,
            start_ms=start_ms,
            speed=speed,
            stepped=stepped,
            usdc_per_venue=funds_of(usdc),
            accounts=accounts,
            slack=write is not None,
            hedging=hedging,
            ostium=NODE_FOLDER if ostium else None,
        )

        def announce(line: dict[str, Any]) -> None:
            if write is not None:
                line["settings"] = str(_written(write, line))
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

        try:
            asyncio.run(
                serve_until_stopped(options, announce, parent_pid=parent_pid, idle_exit_s=idle_exit_s)
            )
        except (ValueError, NoNode) as error:
            raise OperatorError(str(error)) from error


def _other_demo(which: Which, folder: Path, console: Console) -> dict[str, Any]:
    """Run it. Raises OperatorError where it cannot run, or where what came out is not what it promises."""
    if which is Which.HEDGING:
        from app.demo.hedging import run_demo as run_hedging

        return run_hedging(folder, console)
    from app.demo.accounts import run_demo as run_accounts

    summary = run_accounts(folder, console)
    if failed := [one["name"] for one in summary["points"] if not one["ok"]]:
        raise OperatorError(
            f"the demo does not hold what it promises: {', '.join(map(str, failed))}; see {folder}"
        )
    if Decimal(summary["residual_usd"]):
        raise OperatorError(f"books and venues are {summary['residual_usd']} USD apart; see {folder}")
    return summary


def _written(folder: Path, announcement: dict[str, Any]) -> Path:
    from app.demo.environment import write_settings

    if folder.exists() and not folder.is_dir():
        raise OperatorError(f"--write {folder} is a file; give a folder for the settings")
    folder.mkdir(parents=True, exist_ok=True)
    prefect = os.environ.get("PREFECT_API_URL", "")
    return write_settings(folder, announcement, {}, prefect, with_admin=True)


def funds_of(text: str) -> Decimal:
    """What `--usdc` says. Raises OperatorError."""
    value = decimal_of("--usdc", text)
    if value <= 0:
        raise OperatorError(f"--usdc {text} must be above 0")
    return value


def check_speed(speed: float) -> None:
    """Raise OperatorError for a world that stands or runs backwards."""
    if not 0 < speed <= MOST_SPEED:
        raise OperatorError(
            f"--speed {speed} must be above 0 and at most {MOST_SPEED:,}; 1 is real time, 60 a minute a second"
        )
