"""The exits that people ask for from a chat or a page: begun by the position's monitor, each once."""

from __future__ import annotations

import logging

from evenkeel.errors import UNREAD, Bug, LedgerUnavailable, LostRace, OperatorError
from flows.carry.exit import ExitRequest, exit_position
from state.requests.models import Request, RequestAction, RequestState
from state.watch_models import Severity
from tasks.carry.closing.close_out import ENDED
from tasks.carry.desk import CarryDesk

log = logging.getLogger("evenkeel.monitor")


def is_asked(desk: CarryDesk, position_id: str) -> bool:
    """Whether a person has asked for the exit of this position, and it is to be begun."""
    return bool(desk.store.requests.to_do(RequestAction.EXIT, position_id))


async def do_requested(desk: CarryDesk, position_id: str) -> list[str]:
    """Do what was asked for; the answer says what came of each. One that cannot be begun now stays until it lapses.

    A process that dies in between leaves a request that is taken: it is begun again, which closes nothing twice.
    """
    done = []
    for row in desk.store.requests.to_do(RequestAction.EXIT, position_id):
        try:
            if (outcome := await _exit(desk, row)) is not None:
                done.append(f"exit (asked for by {row.who} via {row.via}): {outcome}")
        except LedgerUnavailable:
            raise
        except (LostRace, *UNREAD) as busy:
            log.warning("request %s is put off: %s", row.id, busy)
        except OperatorError as refused:
            done.append(_refused(desk, row, str(refused)))
        except Bug as contradiction:  # its watch goes on: what was begun is taken up as any closing that was interrupted
            text = f"the exit that was asked for contradicts the books: {contradiction}"
            desk.store.alert("books contradicted", Severity.CRITICAL, text, news=True)
            done.append(_refused(desk, row, f"a bug: {contradiction}"))
    return done


def _refused(desk: CarryDesk, row: Request, why: str) -> str:
    desk.store.requests.finish(row.id or 0, RequestState.REFUSED, why)
    return f"exit (asked for by {row.who} via {row.via}): refused: {why}"


async def _exit(desk: CarryDesk, row: Request) -> str | None:
    number, store = row.id or 0, desk.store.requests
    if desk.written_elsewhere(row.subject):
        raise LostRace(f"another worker is at {row.subject}")
    if row.state is RequestState.CONFIRMED and not store.take(number):
        return None
    reason = f"{row.detail.get('reason', '')} (request {number} of {row.who} via {row.via})".strip()
    ended = await exit_position(
        desk,
        ExitRequest(position_id=row.subject, reason=reason, emergency=bool(row.detail.get("emergency"))),
    )
    why = "; ".join(ended.reasons)
    text = f"{ended.status}" if ended.status in ENDED else f"{ended.status}, and goes on by itself: {why}"
    store.finish(number, RequestState.DONE, text)
    return text
