"""The commands that start a Prefect server rightly and give it the deployments."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from app.screens import Emit, JsonFlag, out

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit) -> None:
    """Put the commands on the command line."""

    @app.command()
    def server(
        host: Annotated[
            str, typer.Option(help="Address to listen on; loopback unless a proxy protects it.")
        ] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of API and UI.")] = 4200,
    ) -> None:
        """Start the Prefect server with the settings that a trading host needs. Keep it running under a supervisor."""
        from app.prefect_server import SERVER_SETTINGS, server_command

        # What the operator has set himself stays; what has not been set must not be left to Prefect's defaults.
        for name, value in SERVER_SETTINGS.items():
            os.environ.setdefault(name, value)
        # A page that is served from elsewhere would ask this address, which its reader may not reach.
        os.environ.setdefault("PREFECT_UI_API_URL", f"http://{host}:{port}/api")
        os.execv(sys.executable, server_command(host, port))

    @app.command()
    def deploy(as_json: JsonFlag = False) -> None:
        """Give flows and schedules to the Prefect server; take away those of an earlier version. Again after each update."""
        from app.deployments import deploy as deploy_all

        body = asyncio.run(deploy_all(settings()))

        def human() -> None:
            for row in body["deployments"]:
                when = row["schedule"] or "when asked for"
                stopped = "" if row["active"] else "  (paused)"
                out.print(f"{row['name']:<34} {when}{stopped}", markup=False, soft_wrap=True)
            for name in body["retired"]:
                out.print(f"taken away: {name}", markup=False)
            out.print(
                f"deployed to {body['api_url']}; start `prefect worker start --pool evenkeel`", markup=False
            )

        emit(as_json, body, human)
