"""The commands that deliver messages, show them and try the channels."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.screens import Emit, JsonFlag, out

if TYPE_CHECKING:
    from evenkeel.settings.settings import Settings


def add_to(app: typer.Typer, settings: Callable[[], Settings], emit: Emit) -> None:
    """Put the commands on the command line."""

    @app.command()
    def send() -> None:
        """Deliver alerts and moves of positions by Slack, webhook and mail. Keep it running under a supervisor."""
        from app.messages.sending import send as deliver
        from state.store import Store
        from tasks.desk import make_clock

        chosen = settings()
        store = Store.open(chosen.database.url, make_clock(chosen))
        try:
            asyncio.run(deliver(chosen, store))
        finally:
            store.close()

    @app.command()
    def channels(
        trial: Annotated[bool, typer.Option("--trial", help="Send each of them a message.")] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Ask every channel of the settings whether it would take messages."""
        body = asyncio.run(_asked(settings(), trial))

        def human() -> None:
            for row in body["channels"]:
                mark = "ok  " if row["ok"] else "FAIL"
                out.print(f"{mark} {row['name']:<8} {row['says']}", markup=False, soft_wrap=True)
            if body["requests"]:
                out.print(f"no requests are taken: {body['requests']}", markup=False, soft_wrap=True)

        emit(as_json, body, human)
        if not all(row["ok"] for row in body["channels"]):
            raise typer.Exit(1)

    @app.command()
    def messages(
        last: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 20,
        as_json: JsonFlag = False,
    ) -> None:
        """The newest messages, and what each channel has done with them."""
        from state.store import Store
        from tasks.desk import make_clock

        chosen = settings()
        store = Store.open(chosen.database.url, make_clock(chosen))
        try:
            body = _listed(store, last)
        finally:
            store.close()

        def human() -> None:
            for row in body["messages"]:
                done = (
                    ", ".join(f"{name} {state}" for name, state in row["channels"].items())
                    or "no channel yet"
                )
                out.print(f"{row['at']}  {row['title']}  [{done}]", markup=False, soft_wrap=True)
            if not body["messages"]:
                out.print("no messages")

        emit(as_json, body, human)


async def _asked(settings: Settings, trial: bool) -> dict[str, Any]:
    from app.messages.sending import closed
    from evenkeel.errors import EvenkeelError, OperatorError
    from state.watch_models import Severity
    from tasks.channels import Letter, Sent
    from tasks.messages.connect import open_channels

    opened = open_channels(settings)
    if not opened:
        raise OperatorError(
            "no channel is set: fill in slack.channel, webhook.url or mail.host (docs/messages.md)"
        )
    rows = []
    try:
        for one in opened:
            try:
                says, ok = await one.check(), True
            except EvenkeelError as fault:
                says, ok = str(fault), False
            if ok and trial:
                now = datetime.now(UTC)
                letter = Letter(
                    key=f"trial/{uuid.uuid4()}",
                    severity=Severity.INFO,
                    title="a trial message of evenkeel",
                    text="Somebody asked for it with `evenkeel channels --trial`: messages arrive here.",
                    at_ms=int(now.timestamp() * 1000),
                    kind="trial",
                    about="trial",
                )
                outcome = await one.send(letter)
                ok = isinstance(outcome, Sent)
                says = (
                    f"{says}; a trial message was sent"
                    if isinstance(outcome, Sent)
                    else f"not sent: {outcome.reason}"
                )
            rows.append({"name": one.name, "ok": ok, "says": says})
    finally:
        await closed(opened)
    return {"channels": rows, "requests": _no_requests(settings)}


def _no_requests(settings: Settings) -> str:
    """Why none are taken although an app token is set; "" where nothing is wrong."""
    from evenkeel.errors import OperatorError
    from tasks.messages.requests.connection import app_token

    try:
        app_token(settings)
    except OperatorError as fault:
        return str(fault)
    return ""


def _listed(store: Any, last: int) -> dict[str, Any]:
    from app.messages.sending import meanings
    from tasks.messages.compose import compose

    newest = store.newest_messages(last)
    states: dict[int, dict[str, str]] = {}
    for one in store.deliveries([row.id for row in newest]):
        note = f" ({one.note})" if one.note and one.state not in ("sent", "skipped") else ""
        states.setdefault(one.message_id, {})[one.channel] = f"{one.state}{note}"
    known = meanings()
    rows = []
    for row in newest:
        at = datetime.fromtimestamp(row.at_ms / 1000, tz=UTC)
        rows.append(
            {
                "id": row.id,
                "at": f"{at:%Y-%m-%d %H:%M:%S}",
                "kind": row.kind,
                "about": row.about,
                "subject": row.subject,
                "severity": row.severity,
                "title": compose(row, known).title,
                "text": row.text,
                "channels": states.get(row.id, {}),
            }
        )
    return {"messages": rows}
