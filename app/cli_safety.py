"""The commands of an emergency and after it: pause, resume, flatten, ack, and the admin key. None of them needs Prefect."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.screens import Emit, Fail, JsonFlag, alert_line, out, seconds_of, show_watched
from evenkeel.errors import OperatorError

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings

KEY_VARIABLE = "EVENKEEL_ADMIN_KEY"
SCOPE_HELP = (
    "entries (no new position), all (also no leg is made larger, no share is hedged), or a venue, which is not used to enter: "
    "hyperliquid, asgard, ostium; of a broker no hedge is sent: alpaca, alpaca-broker, schwab, dry-run."
)


def admin_key(twice: bool = False) -> str:
    """From its environment variable, else typed without an echo, else the first line of standard input."""
    if key := os.environ.get(KEY_VARIABLE, ""):
        return key
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    key = getpass.getpass("admin key: ")
    if twice and getpass.getpass("again: ") != key:
        raise OperatorError("the two keys differ; nothing was made")
    return key


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit, fail: Fail) -> None:
    """Put the commands on the command line."""
    admin_app = typer.Typer(help="The key that pauses and resumes.", no_args_is_help=True)
    app.add_typer(admin_app, name="admin")

    @admin_app.callback()
    def _admin() -> None:
        """The key that pauses and resumes."""

    @admin_app.command("hash")
    def admin_hash() -> None:
        """Print what `admin.key_hash` is to be set to, for a key from EVENKEEL_ADMIN_KEY or typed in."""
        from tasks.admin import make_hash

        sys.stdout.write(make_hash(admin_key(twice=True)) + "\n")

    @app.command()
    def pause(
        scope: Annotated[str, typer.Option(help=SCOPE_HELP)] = "entries",
        reason: Annotated[str, typer.Option(help="Why; whoever finds the pause must know.")] = "",
        hours: Annotated[float | None, typer.Option(help="Ends by itself after so long.")] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Halt entries, a venue or everything that grows; closing is never halted. Needs the admin key, no venue key."""
        from app import actions

        body = actions.pause(settings(), admin_key(), scope, reason, hours)
        emit(as_json, body, lambda: out.print(f"paused ({body['scope']}): {body['reason']}", markup=False))

    @app.command()
    def resume(
        scope: Annotated[str | None, typer.Option(help="Empty: every pause.")] = None,
        reason: Annotated[str, typer.Option(help="Kept in the audit log.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """End pauses, those of circuit breakers too; one whose condition still holds trips again. Needs the admin key."""
        from app import actions

        body = actions.resume(settings(), admin_key(), scope, reason)

        def human() -> None:
            for one in body["resumed"]:
                out.print(f"resumed ({one['scope']}): {one['reason']}", markup=False)
            if not body["resumed"]:
                out.print("nothing was paused")

        emit(as_json, body, human)

    @app.command()
    def ack(
        kind: Annotated[str, typer.Argument(help="The alert's kind as `evenkeel status` shows it.")],
        subject: Annotated[str | None, typer.Option(help="What it is about; empty: all of the kind.")] = None,
        reason: Annotated[str, typer.Option(help="Kept in the audit log.")] = "",
        as_json: JsonFlag = False,
    ) -> None:
        """You have seen these alerts: news is closed, what goes on is silent until it gets worse or ends. Needs no key."""
        from app import actions

        body = actions.acknowledge(settings(), kind, subject, reason)

        def human() -> None:
            for one in body["acknowledged"]:
                out.print(f"acknowledged {alert_line(one)}", markup=False, soft_wrap=True)

        emit(as_json, body, human)

    @app.command()
    def watchdog(
        once: Annotated[
            bool, typer.Option("--once", help="One round; exit code 1 where a position is not watched.")
        ] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """See to it that somebody looks at every live position. Needs the ledger alone, neither Prefect nor a key."""
        from app import actions

        rows = asyncio.run(actions.watchdog(settings(), once=once))
        emit(as_json, {"positions": rows}, lambda: show_watched(rows))
        if not all(row["watched"] for row in rows):
            raise typer.Exit(1)

    @app.command()
    def flatten(
        everything: Annotated[
            bool, typer.Option("--all", help="Every position; there is no other way.")
        ] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        without_ledger: Annotated[
            bool,
            typer.Option("--without-ledger", help="Close what the venues show, for a ledger out of order."),
        ] = False,
        journal: Annotated[Path, typer.Option(help="Where keys are kept without a ledger.")] = Path(
            "evenkeel-flatten.jsonl"
        ),
        one_leg: Annotated[
            bool,
            typer.Option("--one-leg", help="Close what can be closed, though the other leg is left alone."),
        ] = False,
        reason: Annotated[str, typer.Option(help="Kept with every position.")] = "asked for by the operator",
        within: Annotated[float, typer.Option(help="Seconds to go on trying.")] = 600.0,
        as_json: JsonFlag = False,
    ) -> None:
        """The kill switch: pause everything, then close every position until nothing is left. Exit code 1 if anything is."""
        from app import actions

        if not everything:
            raise OperatorError(
                "flatten closes every position: say so with --all; `evenkeel exit` closes one"
            )
        if not yes and not (sys.stdin.isatty() and typer.confirm("Close every position at once?", err=True)):
            raise OperatorError("nothing was closed: confirm, or give --yes")
        seconds_of("--within", within)
        body = actions.flatten(settings(), reason, within, journal if without_ledger else None, one_leg)

        def human() -> None:
            for text in (*(f"{name}: {end}" for name, end in body["positions"].items()), *body["notes"]):
                out.print(text, markup=False)
            out.print("flat" if body["flat"] else "NOT FLAT", style="bold")

        emit(as_json, body, human)
        if not body["flat"]:
            fail(f"still held: {'; '.join(body['left'])}; run it again until nothing of ours is left", 1)
