"""The answers that a desk really gets: taken from its HTTP clients, the last of each call that had rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

Answers = dict[tuple[str, str], Any]
"""By venue and name of the call, as plans of faults know it."""


def call_of(request: httpx.Request, venue: str) -> str:
    """The name of a call, as the twins name it."""
    body = json.loads(request.content or b"{}")
    if venue == "solana":
        return f"rpc:{body['method']}"
    if venue == "asgard":
        return f"{request.method} {request.url.path.removeprefix('/margin-trading')}"
    kind = body["type"] if request.url.path == "/info" else body["action"]["type"]
    return f"{request.url.path.strip('/')}:{kind}"


class Recorder:
    """`answers`: of two of one call, the one that says more. `calls`: what was called since that was last emptied."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.calls: set[tuple[str, str]] = set()

    def listen(self, client: httpx.AsyncClient, venue: str) -> None:
        """Keep the answers of this client from now on."""

        async def keep(response: httpx.Response) -> None:
            await response.aread()
            try:
                body = response.json()
            except ValueError:
                return
            key = (venue, call_of(response.request, venue))
            self.calls.add(key)
            if len(json.dumps(body)) > len(json.dumps(self.answers.get(key))):
                self.answers[key] = body

        hooks: list[Callable[..., Any]] = client.event_hooks["response"]
        client.event_hooks = {**client.event_hooks, "response": [*hooks, keep]}
