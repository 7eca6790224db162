"""A Slack, a ledger and the connection by which people ask for things, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.messages.requests import open_connection
from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.messages.requests.buttons import CONFIRM
from tasks.messages.requests.connection import Connection
from tests.databases import ManualClock, make_ledger
from tests.message_rig import CHANNEL, Rig, slack_rig
from twins.slack import SlackTwin
from twins.slack.socket_mode import Envelope

ANN, BOB, EVE = "U0000000ANN", "U0000000BOB", "U0000000EVE"
STEPS = 4_500


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    make_ledger(url)
    found = Store.open(url, ManualClock())
    found.carry.create_position("p1", asset="SOL", leverage=Decimal(3))
    yield found
    found.close()


async def come(condition: Callable[[], object]) -> None:
    for _ in range(STEPS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


@asynccontextmanager
async def taking(
    store: Store, twin: SlackTwin, base: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connection]:
    """A connection that takes the requests of two people."""
    monkeypatch.setenv("EVENKEEL_SLACK_TOKEN", twin.token)
    monkeypatch.setenv("EVENKEEL_SLACK_APP_TOKEN", twin.socket.token)
    settings = Settings(slack={"channel": CHANNEL, "url": base, "operators": (ANN, BOB)})  # type: ignore[arg-type]
    connection = open_connection(settings, store)
    assert connection is not None
    ended = asyncio.Event()
    running = asyncio.create_task(connection.run(ended))
    try:
        await come(lambda: twin.socket.connections or running.done())
        yield connection
    finally:
        ended.set()
        await running


@pytest.fixture
async def rig(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with slack_rig(store) as found:
        base = found.line.channel._client.base_url  # type: ignore[attr-defined]
        async with taking(store, found.twin, base, monkeypatch):
            await come(lambda: found.twin.socket.connections)
            yield found


async def next_answer(twin: SlackTwin, who: str, before: int, sent: Envelope) -> dict[str, Any]:
    await come(lambda: len(twin.socket.answers_to(who)) > before and sent.state == "acknowledged")
    return twin.socket.answers_to(who)[-1]


async def typed(twin: SlackTwin, text: str, who: str = ANN) -> dict[str, Any]:
    before = len(twin.socket.answers_to(who))
    return await next_answer(twin, who, before, twin.socket.command(who, text))


async def confirmed(twin: SlackTwin, answer: dict[str, Any], who: str = ANN) -> dict[str, Any]:
    """The answer after its button is pressed: what came of it stands in the place of the question."""
    asked = answer["text"]
    sent = twin.socket.press(who, answer, CONFIRM)
    await come(lambda: sent.state == "acknowledged" and answer["text"] != asked)
    return answer
