"""Serve managed accounts until asked to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from app.accounts import actions
from app.accounts.service.service import KEPT_MS, Service
from app.accounts.service.site import make_app, outside
from app.supervised import READY, STOPPING, listening, notify, say_alive, when_asked_to_end
from evenkeel.settings.settings import Settings

END_S = 30
"""How long orders that are under way are waited for; what is broken off is gone on with by the same key."""


class _Server(uvicorn.Server):
    """Signals are taken by the event loop."""

    def install_signal_handlers(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Take nothing more, and end once all is answered."""
        self.should_exit = True


def server_of(service: Service) -> _Server:
    """Return what serves it. Nothing of a request is logged."""
    config = uvicorn.Config(
        outside(make_app(service)),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=END_S,
    )
    return _Server(config)


async def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `say` is given the address. Raises OperatorError, UNREAD."""
    async with actions.opened_desk(settings) as desk:
        service = Service(settings, desk)
        service.store.access.forget_answers(desk.desk.clock.now_ms() - KEPT_MS)
        with listening(
            settings.service.host,
            settings.service.port,
            "managed accounts",
            "set service.host or service.port (PORT)",
        ) as taken:
            server = server_of(service)
            when_asked_to_end(server.end)
            say(f"managed accounts are at {settings.service.address}/")
            notify(READY)
            alive = asyncio.create_task(say_alive())
            try:
                await server.serve(sockets=[taken])
            finally:
                notify(STOPPING)
                alive.cancel()
                with suppress(asyncio.CancelledError):
                    await alive
