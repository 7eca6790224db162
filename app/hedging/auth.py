"""`evenkeel auth`: log in at Schwab once a week, see how old the login is, and change the key that seals it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import Emit, JsonFlag, out

if TYPE_CHECKING:
    from evenkeel.sealing import Sealer
    from evenkeel.settings.settings import Settings
    from tasks.hedging.schwab_login import LoginState, SchwabLogin

KeyFile = Annotated[
    Path,
    typer.Option("--new-key-file", help="A file with the new key, 64 hex digits (`openssl rand -hex 32`)."),
]


def add_to(
    app: typer.Typer,
    settings: Callable[[], Settings],
    emit: Emit,
    opened: Callable[[Settings], AbstractContextManager[SchwabLogin]] | None = None,
) -> None:
    """Put the commands on the command line."""
    logged = opened or _opened
    auth = typer.Typer(help="Logins at brokers whose keys end.", no_args_is_help=True)
    app.add_typer(auth, name="auth")

    @auth.command("schwab")
    def schwab(as_json: JsonFlag = False) -> None:
        """Log in at Schwab: open the link, allow access, paste the address that the browser then shows. Good for 6.5 days."""
        with logged(settings()) as login:
            typer.echo(f"Open this link, log in and allow access:\n\n{login.begin()}\n", err=True)
            typer.echo(
                "The browser is sent to an address that shows no page: paste it here within 30 s.", err=True
            )
            state = asyncio.run(_finished(login, _pasted()))
        emit(as_json, _body(state), lambda: _show(state))

    @auth.command("status")
    def status(as_json: JsonFlag = False) -> None:
        """When the login ends. Exit code 1 where there is none, or it is over."""
        with logged(settings()) as login:
            state = login.state()
        if state is None:
            emit(as_json, {"login": None}, lambda: out.print("nobody is logged in at Schwab"))
            raise typer.Exit(1)
        emit(as_json, _body(state), lambda: _show(state))
        if state.is_over:
            raise typer.Exit(1)

    @auth.command("rotate")
    def rotate(new_key_file: KeyFile, as_json: JsonFlag = False) -> None:
        """Seal the stored login with another key. The settings' key opens it; every process needs the new one after."""
        with logged(settings()) as login:
            name, version = login.name, login.rotate(_sealer_of(new_key_file))
        words = (
            f"sealed with the new key (version {version}): set EVENKEEL_TOKEN_KEY to it, and restart what runs"
            if version
            else "nobody is logged in: nothing to seal"
        )
        emit(as_json, {"login": name, "version": version}, lambda: out.print(words, markup=False))


@contextmanager
def _opened(settings: Settings) -> Iterator[SchwabLogin]:
    """The login of the settings, in their ledger."""
    from evenkeel.clock import SystemClock, WorldClock
    from state.store import Store
    from tasks.hedging.opening import schwab_login

    clock = WorldClock(settings.clock.world_url) if settings.clock.world_url else SystemClock()
    store = Store.open(settings.database.url, clock)
    try:
        yield schwab_login(settings.hedging, clock, store)
    finally:
        store.close()


async def _finished(login: SchwabLogin, pasted: str) -> LoginState:
    try:
        return await login.finish(pasted)
    finally:
        await login.aclose()


def _pasted() -> str:
    """At a terminal what is pasted is not shown: its code buys tokens."""
    if sys.stdin.isatty():
        return str(typer.prompt("Address", hide_input=True))
    return sys.stdin.readline()


def _sealer_of(path: Path) -> Sealer:
    from evenkeel.errors import OperatorError, shown_path
    from evenkeel.sealing import Sealer

    try:
        text = path.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{shown_path(path)} cannot be read ({type(error).__name__})") from None
    return Sealer(text)


def _body(state: LoginState) -> dict[str, Any]:
    return {
        "login": state.name,
        "login_ms": state.login_ms,
        "access_ms": state.access_ms,
        "ends_ms": state.ends_ms,
        "is_over": state.is_over,
    }


def _show(state: LoginState) -> None:
    from evenkeel.clock import as_datetime

    verb = "ended" if state.is_over else "ends"
    out.print(f"login {state.name} {verb} {as_datetime(state.ends_ms):%a %d %b %H:%M} UTC", markup=False)
