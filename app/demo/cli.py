"""The commands that need no venue: the demo, and the local venues themselves."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from app.screens import JsonFlag, decimal_of, out
from app.through_prefect import err
from evenkeel.errors import OperatorError


def add_to(app: typer.Typer) -> None:
    """Put the commands on the command line."""
    twins_app = typer.Typer(help="Local venues for demo, tests and paper trading.", no_args_is_help=True)
    app.add_typer(twins_app, name="twins")

    @app.command()
    def demo(
        data: Annotated[
            Path | None, typer.Option(help="Folder of recorded series; empty: the seeded model.")
        ] = None,
        out_dir: Annotated[Path, typer.Option("--out", help="Where everything is written.")] = Path(
            "out/demo"
        ),
        seed: Annotated[int, typer.Option(help="Seed of the model.")] = 7,
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
        """The whole trade on local venues: scan, enter, collect, rebalance, survive a lost answer, exit, account."""
        from app.demo.demo import run_demo

        chosen = data or (Path(os.environ["EVENKEEL_DATA"]) if os.environ.get("EVENKEEL_DATA") else None)
        console = err if as_json else out
        summary = run_demo(chosen, out_dir, seed=seed, start=start, hours=hours, keep_ui=ui, console=console)
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
        parent_pid: Annotated[int | None, typer.Option(hidden=True)] = None,
        idle_exit_s: Annotated[float | None, typer.Option(hidden=True)] = None,
    ) -> None:
        """Serve the twins on loopback; prints one JSON line with URLs and funded test keys, then runs until stopped."""
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
        except ValueError as error:
            raise OperatorError(str(error)) from error


def _written(folder: Path, announcement: dict[str, Any]) -> Path:
    from app.demo.environment import write_settings

    if folder.exists() and not folder.is_dir():
        raise OperatorError(f"--write {folder} is a file; give a folder for the settings")
    folder.mkdir(parents=True, exist_ok=True)
    return write_settings(folder, announcement, {}, "", with_admin=True)


def funds_of(text: str) -> Decimal:
    """What `--usdc` says. Raises OperatorError."""
    value = decimal_of("--usdc", text)
    if value <= 0:
        raise OperatorError(f"--usdc {text} must be above 0")
    return value


def check_speed(speed: float) -> None:
    """Raise OperatorError for a world that stands or runs backwards."""
    if speed <= 0:
        raise OperatorError(f"--speed {speed} must be above 0; 1 is real time, 60 a minute a second")
