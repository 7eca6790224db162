"""The web pages over real HTTP, in front of a ledger that twins have filled."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx
import uvicorn

from app.pages.reader import Reader
from app.pages.sessions import Sessions
from app.pages.site import Site, make_app, outside
from evenkeel.settings.host import Admin
from evenkeel.settings.pages import Pages
from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.admin import make_hash

KEY = "correct horse battery"
HASH = make_hash(KEY)


@dataclass
class Browser:
    """A client that keeps cookies, and reads forms as a browser does."""

    http: httpx.AsyncClient
    site: Site

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def submit(self, path: str, form_at: str | None = None, **fields: str) -> httpx.Response:
        """Fill in the form of a page that leads to `path`, and send it."""
        page = await self.http.get(form_at or path)
        form = next(one for one in forms(page.text) if one["action"] == path)
        return await self.http.post(path, data=form["fields"] | fields)

    async def log_in(self, key: str = KEY) -> httpx.Response:
        return await self.submit("/login", key=key)


def forms(html: str) -> list[dict[str, Any]]:
    """Action and hidden fields of every form."""
    found = []
    for action, body in re.findall(
        r'<form method="post" action="([^"]+)"[^>]*>(.*?)</form>', html, re.DOTALL
    ):
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', body)
        found.append(
            {"action": unescape(action), "fields": {name: unescape(value) for name, value in hidden}}
        )
    return found


@asynccontextmanager
async def served(
    settings: Settings,
    store: Store,
    sessions: Sessions | None = None,
    answer_s: float = 60,
    port: int = 0,
    **pages: Any,
) -> AsyncIterator[Browser]:
    """The pages of a ledger on a random port of loopback, or on one that was served before, and a browser without a login."""
    chosen = settings.model_copy(
        update={"admin": Admin(key_hash=HASH), "pages": Pages(**({"refresh_s": 0.5} | pages))}
    )
    reader = Reader(chosen, store, answer_s)
    app = make_app(chosen, reader, sessions)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen(64)
        server = uvicorn.Server(
            uvicorn.Config(outside(app), log_level="warning", access_log=False, timeout_graceful_shutdown=3)
        )
        running = asyncio.create_task(server._serve(sockets=[taken]))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as http:
                yield Browser(http, app.state.site)
        finally:
            server.should_exit = True
            await running
            reader.close()
