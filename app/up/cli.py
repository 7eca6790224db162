"""The commands that start everything on one machine, and that write the first settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.demo.cli import check_speed, funds_of
from app.screens import JsonFlag, out
from app.through_prefect import err
from evenkeel.errors import OperatorError

UP = Path("out/up")
FolderOption = Annotated[Path, typer.Option(help="Where settings, ledger and logs are.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands on the command line."""

    @app.command()
    def up(
        folder: FolderOption = UP,
        port: Annotated[int, typer.Option(min=1, max=65_535, help="Of Prefect's UI and API.")] = 4200,
        desk_port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the web pages.")] = 8470,
        speed: Annotated[float, typer.Option(help="World seconds per wall second.")] = 1.0,
        usdc: Annotated[str, typer.Option(help="USDC put on each venue.")] = "50000",
        hedging: Annotated[
            bool, typer.Option("--hedging", help="With hedged market making at a paper broker.")
        ] = False,
        ostium: Annotated[
            bool,
            typer.Option("--ostium", help="With managed accounts on Ostium, and their service; needs npm."),
        ] = False,
        service_port: Annotated[
            int, typer.Option(min=1, max=65_535, help="Of the managed accounts' service, with --ostium.")
        ] = 5002,
        as_json: JsonFlag = False,
    ) -> None:
        """Paper trading: start local venues, Prefect, worker, monitors, watchdog, sender and desk under one supervisor."""
        from app.up.up import folder_of
        from app.up.up import up as start

        check_speed(speed)
        console = err if as_json else out
        body = start(
            folder_of(folder),
            port,
            speed,
            str(funds_of(usdc)),
            lambda line: console.print(line, markup=False, soft_wrap=True),
            desk_port,
            hedging=hedging,
            service_port=service_port if ostium else None,
        )
        if as_json:
            sys.stdout.write(json.dumps(body, indent=2) + "\n")
            return
        out.print(f"UI {body['ui_url']}; logs {body['logs']}", markup=False, soft_wrap=True)
        out.print(f"desk {body['desk_url']}, the key is in {body['desk_key']}", markup=False, soft_wrap=True)
        if body["service_url"]:
            out.print(f"managed accounts {body['service_url']}", markup=False, soft_wrap=True)
        out.print(f"now: evenkeel --config {body['settings']} status", markup=False, soft_wrap=True)

    @app.command()
    def down(folder: FolderOption = UP, as_json: JsonFlag = False) -> None:
        """Stop everything that `evenkeel up` has started."""
        from app.up.up import down as stop
        from app.up.up import folder_of

        stopped = stop(folder_of(folder))
        if as_json:
            sys.stdout.write(json.dumps({"stopped": stopped, "folder": str(folder)}, indent=2) + "\n")
            return
        out.print("everything is stopped" if stopped else f"nothing is up in {folder}", markup=False)

    @app.command()
    def init(
        path: Annotated[Path, typer.Option("--out", help="The settings to write.")] = Path("evenkeel.toml"),
        key_folder: Annotated[Path, typer.Option("--keys", help="Folder for the encrypted keys.")] = Path(
            "~/.config/evenkeel"
        ),
        offline: Annotated[
            bool, typer.Option("--offline", help="Ask no venue whether it fits: no doctor.")
        ] = False,
    ) -> None:
        """Ask for accounts, node, keys and channels; write settings in which every line is explained; make the ledger; ask
        doctor.
        """
        from app.cli_checks import show_examination
        from app.doctor.doctor import examine
        from app.up.asking import ask
        from app.up.init import write
        from evenkeel.settings.settings import load_settings
        from state.store import Store

        if path.exists():
            raise OperatorError(f"{path} exists already: edit it, or give another --out")
        above = next(one for one in path.resolve().parents if one.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise OperatorError(f"{path} cannot be written: {above} is no folder that can be written in")
        values = ask(key_folder.expanduser())
        write(path, values, load_settings)
        out.print(f"written: {path}", markup=False, soft_wrap=True)
        settings = load_settings(path)
        Store.upgrade(settings.database.url)
        if offline:
            out.print(f"then: `evenkeel --config {path} doctor`", markup=False, soft_wrap=True)
            return
        found = asyncio.run(examine(settings)).as_dict()
        show_examination(found)
        out.print(f"again: `evenkeel --config {path} doctor`", markup=False, soft_wrap=True)
