"""A ledger, a Slack and a sender whose time a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from app.messages.sending import causes_of, meanings
from evenkeel.settings.settings import Settings
from state.outbox_models import MessageKind
from state.store import Store
from state.watch_models import Severity
from tasks.channels import Letter, Outcome, Sent
from tasks.messages.sender import LEASE, Line, Sender
from tasks.messages.slack import SlackChannel
from tests.databases import ManualClock
from twins.http import served
from twins.slack import SlackTwin

CHANNEL = "C0TWIN00001"
HOUR_S = 3600


@dataclass
class Rig:
    """A ledger, a Slack and a sender whose time a test moves."""

    store: Store
    twin: SlackTwin
    sender: Sender
    line: Line

    @property
    def clock(self) -> ManualClock:
        assert isinstance(self.store.clock, ManualClock)
        return self.store.clock

    async def deliver(self, seconds: float = 600, every_s: int = 10) -> None:
        """Let the sender work until nothing waits, or for so long of the ledger's time."""
        until = self.clock.ms + int(seconds * 1000)
        while self.clock.ms < until:
            if not await self.sender.step(self.line):
                if not self.store.pending("slack", self.line.since_id):
                    return
                self.clock.ms += 1000 * every_s

    @property
    def texts(self) -> list[str]:
        return [row["text"].split("\n")[0] for row in self.twin.shown()]

    @property
    def keys(self) -> list[str]:
        return [row["metadata"]["event_payload"]["key"] for row in self.twin.shown() if "files" not in row]


@asynccontextmanager
async def slack_rig(store: Store, least: Severity = Severity.INFO, **settings: Any) -> AsyncIterator[Rig]:
    twin = SlackTwin()
    async with served(twin.app) as base:
        channel = SlackChannel(SecretStr(twin.token), CHANNEL, least, f"{base}/api")
        fence = store.acquire(LEASE, "test", 10**9)
        assert fence is not None
        chosen = Settings(**settings)
        causes = causes_of(chosen, store, [channel], fence)
        now_ms = store.clock.now_ms
        sender = Sender(chosen, store, [channel], meanings(), fence, causes=causes, now_ms=now_ms)
        yield Rig(store, twin, sender, Line(channel, 0))


class Scripted:
    """A channel of which a test says what it answers."""

    least = Severity.INFO
    pictures = False

    def __init__(self, name: str, *outcomes: Outcome) -> None:
        self.name = name
        self.outcomes = list(outcomes)
        self.sent: list[Letter] = []

    async def send(self, letter: Letter) -> Outcome:
        self.sent.append(letter)
        return self.outcomes.pop(0) if self.outcomes else Sent(ref=letter.key)

    async def find(self, letter: Letter, since_ms: int) -> str | None:
        return None

    async def restate(self, ref: str, letter: Letter) -> Outcome | None:
        return None

    async def check(self) -> str:
        return "ok"

    async def close(self) -> None:
        """Nothing to give back."""


def kinds(store: Store) -> list[tuple[str, str]]:
    """What was said of alerts, in order: kind and severity."""
    return [(row.kind, row.severity) for row in store.messages() if row.kind != MessageKind.SUBJECT]
