"""`store.requests`: the states of what a person asks for. Each move is one conditional write, so that nothing is done twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from evenkeel.errors import OperatorError
from state.columns import plain_json
from state.database import AnyFence, Database, fetch, fetch_one, insert_new, log_move, table_of, values_of
from state.outbox import announce, thread_of
from state.outbox_models import MessageKind
from state.requests.models import FINAL, Request, RequestAction, RequestState, RequestTable
from state.watch_models import Severity

REQUESTS = table_of(RequestTable)
CONFIRMED_WITHIN_MS = 60_000
"""How long a request waits for its confirmation, and a confirmed one for who does it."""
GIVEN_UP_MS = 600_000
"""After so long a request that was taken is not begun again, and nobody waits for its end."""
_SAYS = {
    RequestState.DONE: "was done",
    RequestState.REFUSED: "was not done",
    RequestState.LAPSED: "has lapsed",
    RequestState.TAKEN: "is under way",
    RequestState.CONFIRMED: "is confirmed already",
}
_WHY = {
    RequestState.ASKED: "nobody confirmed it in time",
    RequestState.CONFIRMED: "no process that could do it began with it in time",
    RequestState.TAKEN: "it was begun and nobody noted its end; see what became of its subject",
}

_LATE = or_(
    and_(
        REQUESTS.c.state.in_((RequestState.ASKED, RequestState.CONFIRMED)),
        REQUESTS.c.until_ms <= bindparam("now"),
    ),
    and_(REQUESTS.c.state == RequestState.TAKEN, REQUESTS.c.until_ms <= bindparam("given_up")),
)
"""What lapses now: not confirmed, not taken or not ended in time."""
_OVERDUE = select(REQUESTS).where(_LATE).with_for_update()
_TO_DO = (
    select(REQUESTS)
    .where(REQUESTS.c.subject == bindparam("subject"), REQUESTS.c.action == bindparam("action"))
    .where(REQUESTS.c.state.in_((RequestState.CONFIRMED, RequestState.TAKEN)), ~_LATE)
    .order_by(REQUESTS.c.id)
)
"""Made once: every tick of every watch asks so, and making it took as long as asking."""


class Requests(Database):
    """What was asked for and is open, and what came of the rest."""

    def ask(
        self,
        key: str,
        action: RequestAction,
        subject: str = "",
        *,
        who: str,
        via: str,
        text: str = "",
        detail: Mapping[str, Any] | None = None,
        confirmed: bool = False,
    ) -> tuple[Request, bool]:
        """Write a request down, to be confirmed within a minute, or as `confirmed` where nobody is asked; (row, True) when it
        is new. The same key again gives the row as it stands.
        """
        now = self.clock.now_ms()
        state = RequestState.CONFIRMED if confirmed else RequestState.ASKED
        fresh = _fresh(key, action, subject, who, via, state, text, detail, now)
        with self._write() as db:
            return _added(db, fresh, now)

    def ask_each(
        self,
        action: RequestAction,
        asked: Mapping[str, str],
        key: str,
        *,
        who: str,
        via: str,
        detail: Mapping[str, Any],
    ) -> None:
        """Write down the same of several subjects, confirmed, in one transaction; `asked`: the text of each, by subject."""
        now = self.clock.now_ms()
        rows = [
            _fresh(f"{key}/{name}", action, name, who, via, RequestState.CONFIRMED, text, detail, now)
            for name, text in asked.items()
        ]
        with self._write() as db:
            for row in rows:
                _added(db, row, now)

    def confirm(self, request_id: int, *, who: str) -> Request:
        """Confirm what the same person asked for less than a minute ago. Raises OperatorError, naming why, for any other."""
        now = self.clock.now_ms()
        here = (REQUESTS.c.id == request_id, REQUESTS.c.state == RequestState.ASKED)
        with self._write() as db:
            row = fetch_one(
                db, Request, select(REQUESTS).where(REQUESTS.c.id == request_id).with_for_update()
            )
            if row is None:
                raise OperatorError(f"no request is numbered {request_id}; ask again")
            if row.who != who:
                raise OperatorError(
                    f"request {request_id} was asked for by {row.who}, who alone may confirm it; nothing was done"
                )
            if row.state is RequestState.ASKED and now < row.until_ms:
                values = {"state": RequestState.CONFIRMED, "until_ms": now + CONFIRMED_WITHIN_MS}
                db.execute(update(REQUESTS).where(*here).values(**values))
                row = row.model_copy(update=values)
                _log(db, row, RequestState.ASKED, now, None)
                _announce(db, row, now)
                return row
        if row.state is RequestState.ASKED:
            raise OperatorError(
                f"request {request_id} ({what(row)}) has lapsed: it was to be confirmed within "
                f"{CONFIRMED_WITHIN_MS // 1000} s; ask again"
            )
        end = f": {row.outcome}" if row.outcome else ""
        raise OperatorError(f"request {request_id} ({what(row)}) {_SAYS[row.state]}{end}; nothing was done")

    def take(self, request_id: int, fence: AnyFence = None) -> bool:
        """Begin with a confirmed request, once; False where it was taken, has ended or has lapsed."""
        now = self.clock.now_ms()
        here = (
            REQUESTS.c.id == request_id,
            REQUESTS.c.state == RequestState.CONFIRMED,
            REQUESTS.c.until_ms > now,
        )
        with self._write(fence) as db:
            return _moved(db, here, RequestState.CONFIRMED, RequestState.TAKEN, now, "", fence) is not None

    def finish(self, request_id: int, state: RequestState, outcome: str, fence: AnyFence = None) -> bool:
        """End a request, once, and write the message of it; False where it has ended already."""
        now = self.clock.now_ms()
        with self._write(fence) as db:
            known = fetch_one(
                db, Request, select(REQUESTS).where(REQUESTS.c.id == request_id).with_for_update()
            )
            if known is None or known.state in FINAL:
                return False
            here = (REQUESTS.c.id == request_id, REQUESTS.c.state == known.state)
            return _moved(db, here, known.state, state, now, outcome, fence) is not None

    def lapse(self) -> list[Request]:
        """End what nobody confirmed, began with or ended in time; returns those. A message says so of what was confirmed."""
        now = self.clock.now_ms()
        times = {"now": now, "given_up": now - GIVEN_UP_MS}
        lapsed = []
        with self._read() as db:
            found = bool(fetch(db, Request, _OVERDUE, **times))
        if not found:
            return []
        with self._write() as db:
            for row in fetch(db, Request, _OVERDUE, **times):
                here = (REQUESTS.c.id == row.id, REQUESTS.c.state == row.state)
                why = _WHY[row.state]
                if row.state is RequestState.CONFIRMED and row.action is not RequestAction.EXIT:
                    why = "it was begun, and perhaps not all of it was done; see pauses and positions, and ask again"
                ended = _moved(db, here, row.state, RequestState.LAPSED, now, why, None)
                lapsed += [ended] if ended is not None else []
        return lapsed

    def request(self, request_id: int) -> Request | None:
        """The request of this number, if there is one."""
        with self._read() as db:
            return fetch_one(db, Request, select(REQUESTS).where(REQUESTS.c.id == request_id))

    def to_do(self, action: RequestAction, subject: str) -> list[Request]:
        """What of a subject is to be begun, or was begun and has not ended, oldest first. What is due to lapse is not."""
        now = self.clock.now_ms()
        return self._rows(
            Request, _TO_DO, action=action, subject=subject, now=now, given_up=now - GIVEN_UP_MS
        )

    def newest(self, count: int) -> list[Request]:
        """The newest so many requests, oldest first."""
        return self._rows(Request, select(REQUESTS).order_by(REQUESTS.c.id.desc()).limit(count))[::-1]


def what(row: Request) -> str:
    """A request in a few words."""
    return f"{row.action} {row.subject}".strip()


def _fresh(
    key: str,
    action: RequestAction,
    subject: str,
    who: str,
    via: str,
    state: RequestState,
    text: str,
    detail: Mapping[str, Any] | None,
    now: int,
) -> Request:
    return Request(
        key=key,
        action=action,
        subject=subject,
        who=who,
        via=via,
        state=state,
        text=text,
        detail=plain_json(dict(detail or {})),
        asked_ms=now,
        until_ms=now + CONFIRMED_WITHIN_MS,
    )


def _added(db: Connection, fresh: Request, now: int) -> tuple[Request, bool]:
    """The row of this key, and whether it is new."""
    new = insert_new(db, REQUESTS, values_of(fresh))
    row = fetch_one(db, Request, select(REQUESTS).where(REQUESTS.c.key == fresh.key))
    assert row is not None
    if new:
        _log(db, row, "", now, None)
        # Of anything else that is done at once the end is said.
        if row.state is RequestState.CONFIRMED and row.action is RequestAction.EXIT:
            _announce(db, row, now)
    return row, new


def _moved(
    db: Connection,
    here: tuple[Any, ...],
    from_: RequestState,
    to: RequestState,
    now: int,
    outcome: str,
    fence: AnyFence,
) -> Request | None:
    values: dict[str, Any] = {"state": to}
    if to in FINAL:
        values |= {"outcome": outcome, "ended_ms": now}
    found = (
        db.execute(update(REQUESTS).where(*here).values(**values).returning(*REQUESTS.c)).mappings().first()
    )
    if found is None:
        return None
    row = Request.model_validate(dict(found))
    _log(db, row, from_, now, fence)
    if to in FINAL and from_ is not RequestState.ASKED:
        _announce(db, row, now)
    return row


def _log(db: Connection, row: Request, from_: str, now: int, fence: AnyFence) -> None:
    note = f"{what(row)} by {row.who} via {row.via}" + (f": {row.outcome}" if row.outcome else "")
    log_move(db, "request", str(row.id), from_, row.state, note=note, at_ms=now, fence=fence)


def _announce(db: Connection, row: Request, now: int) -> None:
    """Write the message of a request that was confirmed or has ended, in its transaction."""
    says = "is asked for" if row.state is RequestState.CONFIRMED else _SAYS[row.state]
    why = row.outcome or row.text
    announce(
        db,
        key=f"request/{row.id}/{row.state}",
        thread=thread_of(db, row.subject, f"request/{row.id}"),
        kind=MessageKind.REQUEST,
        about=row.action,
        subject=row.subject,
        severity=_severity(row),
        text=f"{what(row)} {says} (by {row.who} via {row.via})" + (f": {why}" if why else ""),
        facts={"request": row.id, "state": row.state},
        at_ms=now,
    )


def _severity(row: Request) -> Severity:
    """An exit in an emergency that nobody began is for a person at once."""
    if row.state not in (RequestState.REFUSED, RequestState.LAPSED):
        return Severity.INFO
    return Severity.CRITICAL if row.detail.get("emergency") else Severity.WARNING
