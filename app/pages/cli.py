"""The command that serves the web pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from app.screens import out

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings


def add_to(app: typer.Typer, settings: Callable[[], Settings]) -> None:
    """Put the command on the command line."""

    @app.command()
    def desk() -> None:
        """Serve the web pages: positions, opportunities, alerts, reports, by the ledger alone. Keep it running under a
        supervisor."""
        from app.pages.serving import serve_pages

        asyncio.run(serve_pages(settings(), lambda text: out.print(text, markup=False, soft_wrap=True)))
