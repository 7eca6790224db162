"""The command line: every command answers in one clear line when it refuses, and in JSON when asked to."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.exceptions import TyperException

from app import cli_checks, cli_parity, cli_prefect, cli_research, cli_routes, cli_safety
from app.accounts import cli as cli_accounts
from app.demo import cli as cli_demo
from app.hedging import auth as cli_auth
from app.hedging import cli as cli_hedging
from app.keys import keys_app
from app.messages import cli as cli_messages
from app.pages import cli as cli_pages
from app.prefect_server import point_prefect_at
from app.screens import (
    JsonFlag,
    decimal_of,
    out,
    seconds_of,
    show_positions,
    show_recovery,
    show_result,
    show_scan,
    show_status,
    with_units,
)
from app.through_prefect import as_flow, leave, note
from app.up import cli as cli_up
from evenkeel.errors import Bug, EvenkeelError, LostRace, shown_path

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

R = TypeVar("R")
app = typer.Typer(
    name="evenkeel",
    help="Delta-neutral positions: opened exactly once, kept level, accounted to the cent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
db_app = typer.Typer(help="The ledger's schema.", no_args_is_help=True)
app.add_typer(db_app, name="db")
app.add_typer(keys_app, name="keys")
PositionArgument = Annotated[str | None, typer.Argument(help="Position; empty: the only one it can mean.")]


@app.callback()
def _main(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (TOML).")] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="Of a fleet, the account that is meant; empty: each.")
    ] = None,
) -> None:
    """Remember which settings file and account were asked for."""
    if config is not None:
        os.environ["EVENKEEL_CONFIG"] = str(config)
    if account is not None:
        os.environ["EVENKEEL_ACCOUNT"] = account


def _settings() -> Settings:
    from evenkeel.settings.settings import load_settings, settings_path

    settings = load_settings()
    path = settings_path()
    if path is not None and not os.environ.get("EVENKEEL_CONFIG") and path != Path("evenkeel.toml"):
        note(f"using the demo's settings, {path}; give --config PATH for others")
    if path is not None:
        os.environ["EVENKEEL_CONFIG"] = str(path.resolve())
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    point_prefect_at(settings.prefect.api_url)
    return settings


def _emit(as_json: bool, body: dict[str, Any], human: Callable[[], None]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(body, indent=2, default=str) + "\n")
    else:
        human()


def _run(work: Coroutine[Any, Any, R]) -> R:
    return asyncio.run(work)


def _decimal(name: str, text: str | None) -> Decimal | None:
    return None if text is None else decimal_of(name, text)


@db_app.command("upgrade")
def db_upgrade(as_json: JsonFlag = False) -> None:
    """Create the ledger or bring it to this program's schema."""
    from state.store import Store

    settings = _settings()
    version = Store.upgrade(settings.database.url)
    _emit(as_json, {"schema": version}, lambda: out.print(f"the ledger's schema is at {version}"))


@app.command()
def scan(
    asset: Annotated[str | None, typer.Option(help="SOL, jitoSOL, jupSOL or INF.")] = None,
    leverage: Annotated[str | None, typer.Option(help="Whole number from 2 to 4.")] = None,
    size: Annotated[str | None, typer.Option(help="Notional of one leg in USD.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rank what could be entered now, each with the reason why it passes or fails."""
    from app import actions

    _decimal("--leverage", leverage), _decimal("--size", size)
    result = _run(actions.scan(_settings(), asset, leverage, size, as_flow))
    _emit(as_json, result, lambda: show_scan(result))


@app.command()
def enter(
    asset: Annotated[str | None, typer.Option(help="SOL, jitoSOL, jupSOL or INF; empty: the best.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="kamino, marginfi or solend, or its number; empty: the best.")
    ] = None,
    leverage: Annotated[str | None, typer.Option(help="Whole number from 2 to 4.")] = None,
    size: Annotated[str | None, typer.Option(help="Notional of one leg in USD, at least 1,000.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide and check, send nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Open one position: long on margin at Asgard, short on Hyperliquid. Exit code 1 when it was refused."""
    from app import actions

    _decimal("--leverage", leverage), _decimal("--size", size)
    requested = {
        "asset": asset,
        "protocol": protocol,
        "leverage": leverage,
        "size_usd": size,
        "dry_run": dry_run,
    }
    result = with_units(_run(actions.enter(_settings(), requested, as_flow)))
    done = result["status"] in ("OPEN", "dry run")
    _emit(as_json, result, lambda: show_result("entry", result) if done else None)
    if not done:
        _fail(f"entry {result['status']}: {'; '.join(result['reasons'])}", 1)
    if result["status"] == "OPEN" and not as_json:
        out.print(
            "a host that runs (`python -m flows.serve`, `evenkeel watch`) watches it within half a minute; without one start "
            f"`evenkeel monitor {result['position_id']}`",
            markup=False,
            soft_wrap=True,
        )


@app.command("exit")
def exit_(
    position: PositionArgument = None,
    reason: Annotated[str, typer.Option(help="Kept with the position.")] = "asked for by the operator",
    emergency: Annotated[
        bool, typer.Option("--emergency", help="Start with a wider bound and a higher tip.")
    ] = False,
    one_leg: Annotated[
        bool, typer.Option("--one-leg", help="Close what can be closed, though the other leg is left alone.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Close a position, short first. Never through Prefect. Exit code 1 while a leg still resists."""
    from app import actions

    requested = {"position_id": position, "reason": reason, "emergency": emergency, "one_leg": one_leg}
    result = _run(actions.exit_(_settings(), requested))
    _emit(as_json, result, lambda: show_result("exit", result))
    if result["status"] not in ("CLOSED", "FAILED"):
        _fail(f"{result['position_id']} is still {result['status']}; run `evenkeel recover` to go on", 1)


@app.command()
def rebalance(position: PositionArgument = None, as_json: JsonFlag = False) -> None:
    """Look once and do what the rules ask for: nothing, a resize of both legs, or an exit."""
    from app import actions

    result = _run(actions.rebalance(_settings(), position, as_flow))
    _emit(
        as_json,
        result,
        lambda: out.print(f"{result['position_id']}: {result['action']} ({result['reason']})"),
    )


@app.command()
def watch() -> None:
    """Watch every position of every account, in this process and without Prefect. Keep it running under a supervisor."""
    from app.watching.everything import watch_until_ended

    _run(watch_until_ended(_settings()))


@app.command()
def monitor(
    position: PositionArgument = None,
    interval: Annotated[
        float | None, typer.Option(help="Seconds between ticks; empty: the settings.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Watch a position until it is closed."""
    from app import actions

    if interval is not None:
        seconds_of("--interval", interval)
    result = _run(actions.monitor(_settings(), position, interval, as_flow))
    _emit(as_json, result, lambda: out.print(f"{result['position_id']} is {result['status']}"))


@app.command()
def collect(as_json: JsonFlag = False) -> None:
    """Bring funding payments, fills, rates and prices from the venues into the ledger."""
    from app import actions

    result = _run(actions.collect(_settings(), as_flow))
    _emit(
        as_json,
        result,
        lambda: out.print(
            f"{result['funding_payments']} new payments, {result['fills']} new fills, {result['series']} new figures of "
            "funding and candles"
        ),
    )


@app.command()
def recover(as_json: JsonFlag = False) -> None:
    """Take up whatever a dead process or a lost answer left unfinished. Exit code 1 while something stays open."""
    from app import actions

    result = _run(actions.recover(_settings()))
    _emit(as_json, result, lambda: show_recovery(result))
    _fail_if_unreadable(result)
    if not result["clean"]:
        _fail("something is still open; run `evenkeel recover` again, or see `evenkeel status`", 1)


@app.command()
def status(as_json: JsonFlag = False) -> None:
    """What is open, what is unfinished, and whether our legs are what the venues hold now. Exit code 1 where a leg is
    nobody's, a position is not watched or a critical alert is open that nobody has acknowledged.
    """
    from app import actions

    result = _run(actions.status(_settings()))
    _emit(as_json, result, lambda: show_status(result))
    _fail_if_unreadable(result)
    critical = any(one["severity"] == "critical" and not one["acknowledged"] for one in result["alerts"])
    if result["unowned_legs"] or critical or not all(one["watched"] for one in result["positions"]):
        raise typer.Exit(1)


@app.command()
def positions(as_json: JsonFlag = False) -> None:
    """Every position, live and ended."""
    from app import actions

    rows = actions.positions(_settings())
    _emit(as_json, {"positions": rows}, lambda: show_positions(rows))


@app.command()
def report(
    position: PositionArgument = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for PNG, SVG and HTML.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a position earned and paid, its picture, and whether books and venues agree. Exit code 1 if they do not."""
    from app import actions

    found, pictures = _run(actions.report(_settings(), position, out_dir))
    from analytics.carry.report import as_dict, render_rich

    body = with_units(as_dict(found)) | {"pictures": [str(path) for path in pictures]}

    def human() -> None:
        out.print(render_rich(found))
        for path in pictures:
            out.print(f"picture: {path}")

    _emit(as_json, body, human)
    if not found.agrees:
        raise typer.Exit(1)


def _fail_if_unreadable(result: dict[str, Any]) -> None:
    """A comparison with a venue that did not answer is no comparison."""
    if result["unreadable"]:
        _fail("; ".join(f"{venue} cannot be read: {why}" for venue, why in result["unreadable"].items()), 1)


cli_demo.add_to(app)
cli_up.add_to(app)
cli_safety.add_to(app, _settings, _emit, lambda text, code=2: _fail(text, code))
cli_routes.add_to(app, _settings, _emit)
cli_checks.add_to(app, _settings, _emit, lambda text, code=2: _fail(text, code), as_flow)
cli_research.add_to(app, _settings, _emit, as_flow)
cli_parity.add_to(app, _settings, _emit, as_flow)
cli_prefect.add_to(app, _settings, _emit)
cli_messages.add_to(app, _settings, _emit)
cli_pages.add_to(app, _settings)
cli_accounts.add_to(app, _settings, _emit)
cli_hedging.add_to(app, _settings, _emit)
cli_auth.add_to(app, _settings, _emit)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 refused or not finished, 2 the operator must act, 3 a bug of ours.

    Every failure is one line on standard error; EVENKEEL_DEBUG=1 shows where it came from.
    """
    try:
        # Not its own way to end: that shows what was typed wrong in a frame of five lines and more.
        code = app(standalone_mode=False, prog_name="evenkeel")
        leave(code if isinstance(code, int) else 0)
    except KeyboardInterrupt:
        leave(130)
    except typer.Abort:
        _fail("ended before it was answered; nothing was done", 1)
    except TyperException as wrong:
        _refuse_what_was_typed(wrong)
    except SystemExit as done:
        leave(done.code if isinstance(done.code, int) else int(done.code is not None))
    except Exception as error:
        if os.environ.get("EVENKEEL_DEBUG"):
            traceback.print_exc()
        if isinstance(error, LostRace):
            _fail(f"busy: {error}")
        if isinstance(error, EvenkeelError) and not isinstance(error, Bug):
            _fail(str(error))
        if isinstance(error, OSError) and error.filename is not None:
            _fail(f"{shown_path(error.filename)}: {error.strerror}; give a path that can be read and written")
        text = f"{error}" if isinstance(error, Bug) else type(error).__name__
        _fail(f"a bug: {text}; run it again with EVENKEEL_DEBUG=1 to see where", 3)


def _refuse_what_was_typed(wrong: TyperException) -> NoReturn:
    """A line that says what is wrong and whose help to ask. A group of commands that was named alone has shown its help."""
    said, command = wrong.format_message(), getattr(getattr(wrong, "ctx", None), "command_path", "evenkeel")
    if not said:
        leave(wrong.exit_code)
    _fail(f"{said.rstrip('.')}; see `{command} --help`", wrong.exit_code)


def _fail(text: str, code: int = 2) -> NoReturn:
    sys.stderr.write(f"evenkeel: {' '.join(text.split())}\n")
    leave(code)


if __name__ == "__main__":
    main()
