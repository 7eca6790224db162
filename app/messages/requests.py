"""Requests from Slack, taken by the sender: the ledger alone is needed, and no venue's key."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from textwrap import shorten

from app.requests.asking import Asking
from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.carry.books.heads import standing
from tasks.carry.last_ticks import overdue_after_s
from tasks.messages.requests.connection import Connection, app_token
from tasks.messages.requests.handling import Handler

log = logging.getLogger("evenkeel.requests")
ALERTS_SHOWN = 10
MOST_OF_A_LINE = 200


def open_connection(settings: Settings, store: Store) -> Connection | None:
    """Return the connection that takes requests; None where no app token is set. Raises OperatorError where what belongs to it
    is missing: no requests are taken then, and everything else goes on.
    """
    token, bot_token = app_token(settings), settings.secret("slack")
    if token is None or bot_token is None:
        return None
    after_s = overdue_after_s(settings)
    handler = Handler(
        Asking(settings, store), store, settings.slack.operators, partial(status_text, after_s=after_s)
    )
    return Connection(token, bot_token, settings.slack.url, handler)


async def take_requests(connection: Connection, ended: asyncio.Event) -> None:
    """Until asked to end. A bug of this ends no delivery: it is logged, and begun again."""
    while not ended.is_set():
        try:
            await connection.run(ended)
        except Exception:
            log.exception("taking requests from Slack failed; it is begun again")
            await asyncio.sleep(10)


def status_text(store: Store, after_s: float) -> str:
    """How everything stands, from the ledger alone: open alerts, the worst first, pauses, then positions that live or ended
    within a day. A position that nobody has looked at for more than `after_s` is not watched.
    """
    open_yet = sorted(store.alerts(open_only=True), key=lambda row: (-row.severity.rank, -row.at_ms))
    lines = []
    for row in open_yet[:ALERTS_SHOWN]:
        seen = "" if row.seen_ms is None else ", acknowledged"
        of = f" ({row.subject})" if row.subject else ""
        lines.append(_line(f"{row.severity}{seen}: {row.kind}{of}: {row.text}"))
    if len(open_yet) > ALERTS_SHOWN:
        lines.append(f"and {len(open_yet) - ALERTS_SHOWN} alerts more")
    if not open_yet:
        lines.append("no alert is open")
    lines += [_line(f"paused ({one.scope}): {one.reason}") for one in store.active_pauses()]
    positions = standing(store, after_s)
    lines += [f"{name}: {text}".replace("\n", "; ") for name, text in positions.items()]
    return "\n".join(lines if positions else [*lines, "no position is open"])


def _line(text: str) -> str:
    """One line that leaves room for others."""
    return shorten(text, MOST_OF_A_LINE, placeholder=" …")
