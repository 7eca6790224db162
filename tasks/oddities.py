"""Alert what venues answered and nobody could read: one alert a source that names it, closed when it is over."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from evenkeel.errors import EvenkeelError
from state.watch_models import Severity
from tasks.desk import Desk

log = logging.getLogger("evenkeel.oddities")
P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D", bound=Desk)
ODD_ANSWER = "odd answer"
"""The alert of rows or fields that could not be read; its subject is the venue and the kind of the answer."""

AGAIN_MS = 2_000
"""For so long what has not changed is not compared with the ledger again, whichever account asks."""


def note_oddities(desk: Desk) -> None:
    """Raise what is odd in the last answer of every source, and close what has become whole. What merely goes on is not
    written again, and a source that this process has not asked is left to whoever asks it. Never raises.
    """
    found, now_ms = desk.oddities.words(), desk.clock.now_ms()
    if not found or (desk.oddities.noted == found and 0 <= now_ms - desk.oddities.noted_ms < AGAIN_MS):
        return
    try:
        standing = {
            row.subject: row.text for row in desk.store.whole.alerts(open_only=True) if row.kind == ODD_ANSWER
        }
        for source, words in found.items():
            if words and standing.get(source) != (text := f"{source}: {words}"):
                desk.store.whole.alert(ODD_ANSWER, Severity.WARNING, text, subject=source)
            elif not words and source in standing:
                desk.store.whole.ack_alert(ODD_ANSWER, subject=source)
        desk.oddities.noted, desk.oddities.noted_ms = found, now_ms
    except EvenkeelError as busy:  # a ledger that is busy, or gone
        log.warning("not noted: %s; %s", "; ".join(word for word in found.values() if word), busy)


def naming_oddities(
    story: Callable[Concatenate[D, P], Awaitable[R]],
) -> Callable[Concatenate[D, P], Awaitable[R]]:
    """Return the story, followed by `note_oddities` however it ends."""

    @wraps(story)
    async def noting(desk: D, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await story(desk, *args, **kwargs)
        finally:
            note_oddities(desk)

    return noting
