"""Takes requests from wherever people are, with the ledger alone and no venue's key: a position's monitor does its exit."""

from __future__ import annotations

from evenkeel.errors import OperatorError
from evenkeel.legs import LegSide
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.carry.models import Position
from state.requests.models import Request, RequestAction, RequestState
from state.requests.store import CONFIRMED_WITHIN_MS, what
from state.store import Store
from tasks.admin import ALL, ENTRIES, acknowledge, check_scope, end_pauses, halt
from tasks.carry.last_ticks import last_ticks, overdue_after_s
from tasks.carry.mark import LIVE
from tasks.carry.positions import position_meant

AT_ONCE = frozenset({RequestAction.PAUSE, RequestAction.ACK})
"""What needs no confirmation: it closes nothing, and lets nothing go on."""


class Answer(Frozen):
    """What a person reads. `confirm_within_s`: it is done once it is confirmed within so many seconds; 0: it needs none."""

    request_id: int
    action: RequestAction
    state: RequestState
    text: str
    confirm_within_s: int = 0


class Asking:
    """`ask` and `confirm` write requests down and do what the ledger alone can do. Both raise OperatorError, in one line, for
    what is refused: nothing is done then.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store

    def ask(
        self,
        action: RequestAction,
        subject: str = "",
        *,
        who: str,
        via: str,
        key: str,
        reason: str = "",
        scope: str | None = None,
        hours: float | None = None,
        of: str | None = None,
    ) -> Answer:
        """Ask for an action. `key` names this asking at its origin: the same key again is the same request.

        `subject`: for an exit the position (empty: the only one), for an acknowledgement the alert's kind, and `of` what it is
        about. `scope` and `hours` are those of a pause or of its end.
        """
        reason_text = reason.strip() or f"asked for by {who} via {via}"
        subject_text, text = self._meant(action, subject, scope)
        row, new = self._store.requests.ask(
            key,
            action,
            subject_text,
            who=who,
            via=via,
            text=text,
            detail={"reason": reason_text, "scope": scope, "hours": hours, "kind": subject, "of": of},
            confirmed=action in AT_ONCE,
        )
        if row.state is RequestState.ASKED:
            left_s = (
                max(0, (row.until_ms - self._store.clock.now_ms()) // 1000)
                if not new
                else CONFIRMED_WITHIN_MS // 1000
            )
            return _answer(row, f"{text}. Confirm within {left_s} s", int(left_s))
        if row.is_final:
            return _answer(
                row, f"{what(row)} was asked for before: {row.outcome or row.state}; nothing was done"
            )
        return self._do(row)

    def says(self, action: RequestAction, subject: str = "", scope: str | None = None) -> str:
        """What would be done, in a line: of an exit the position, its size and what closing is expected to cost. Nothing is
        written.
        """
        return self._meant(action, subject, scope)[1]

    def _meant(self, action: RequestAction, subject: str, scope: str | None) -> tuple[str, str]:
        """The subject that is meant, and `says`."""
        if action is RequestAction.EXIT:
            position = position_meant(self._store, subject or None, LIVE)
            if position.closed_ms is not None:
                raise OperatorError(
                    f"{position.position_id} has ended already ({position.status}); nothing was done"
                )
            return position.position_id, self._exit_text(position)
        if action is RequestAction.FLATTEN:
            return "", self._flatten_text()
        if action is RequestAction.RESUME:
            return "", self._resume_text(scope)
        if action is RequestAction.PAUSE:
            check_scope(scope or ENTRIES)
            return "", f"pause {scope or ENTRIES}"
        return "", f"acknowledge {subject}"

    def confirm(self, request_id: int, *, who: str) -> Answer:
        """Confirm what the same person asked for. An exit is done by the position's monitor, within seconds; everything else
        now.
        """
        return self._do(self._store.requests.confirm(request_id, who=who))

    def _do(self, row: Request) -> Answer:
        """Do what needs the ledger alone. A process that died in between does it again: each is the same done twice."""
        if row.action is RequestAction.EXIT:
            return _answer(row, f"exit of {row.subject} is confirmed: its monitor begins within seconds")
        who, reason, scope = f"{row.who} via {row.via}", str(row.detail["reason"]), row.detail["scope"]
        try:
            if row.action is RequestAction.PAUSE:
                found = halt(self._store, who, scope or ENTRIES, reason, row.detail["hours"])
                text = f"paused ({found.scope}): {found.reason}"
            elif row.action is RequestAction.RESUME:
                ended = end_pauses(self._store, who, scope, reason)
                text = (
                    "; ".join(f"resumed ({one.scope}): {one.reason}" for one in ended) or "nothing was paused"
                )
            elif row.action is RequestAction.ACK:
                seen = acknowledge(self._store, row.detail["kind"], row.detail["of"], reason, who)
                text = "; ".join(f"acknowledged {one.kind} ({one.subject})" for one in seen)
            else:
                text = self._flatten(row, who, reason)
        except OperatorError as refused:
            self._store.requests.finish(row.id or 0, RequestState.REFUSED, str(refused))
            raise
        self._store.requests.finish(row.id or 0, RequestState.DONE, text)
        return _answer(row.model_copy(update={"state": RequestState.DONE}), text)

    def _flatten(self, row: Request, who: str, reason: str) -> str:
        """Pause everything, then ask for the exit of each live position, confirmed by the same word."""
        halt(self._store, who, ALL, f"flatten: {reason}")
        live = self._store.carry.positions(LIVE)
        for position in live:
            name = position.position_id
            self._store.requests.ask(
                f"{row.key}/{name}",
                RequestAction.EXIT,
                name,
                who=row.who,
                via=row.via,
                text=self._exit_text(position),
                detail={"reason": f"flatten: {reason}", "emergency": True},
                confirmed=True,
            )
        names = ", ".join(one.position_id for one in live)
        return (
            f"everything is paused; exits asked for: {names}"
            if live
            else "everything is paused; no position is open"
        )

    def _exit_text(self, position: Position) -> str:
        """Position, size and what closing is expected to cost, from the ledger alone."""
        name, size = position.position_id, position.size_usd
        short = self._store.carry.leg(name, LegSide.SHORT)
        last = self._store.carry.last_snapshot(name)
        price = last.short_price_usd if last is not None else position.ref_short_price_usd
        if short is not None and short.is_open and price is not None:
            size = short.qty * price
        held = "its size is not known" if size is None else f"{size:,.2f} USD a leg"
        if size is not None:
            cost = self._settings.strategy.costs.closing_usd(size)
            held += f"; closing is expected to cost {cost:,.2f} USD"
        text = f"exit of {name}: {position.asset} {position.leverage.normalize():f}x, {held}"
        after_s = overdue_after_s(self._settings)
        seen = next((one for one in last_ticks(self._store) if one.position_id == name), None)
        if seen is not None and seen.is_overdue(after_s):
            text += (
                f". Nobody has looked at it for {seen.age_s:.0f} s: where no monitor begins in time the request lapses; "
                "`evenkeel exit` needs none"
            )
        return text

    def _flatten_text(self) -> str:
        live = self._store.carry.positions(LIVE)
        each = "; ".join(self._exit_text(one) for one in live) or "no position is open"
        return f"flatten: everything is paused, then closed: {each}"

    def _resume_text(self, scope: str | None) -> str:
        if scope is not None:
            check_scope(scope)
        running = [one for one in self._store.active_pauses() if scope in (None, one.scope)]
        if not running:
            raise OperatorError(
                f"nothing is paused{'' if scope is None else f' ({scope})'}; nothing was done"
            )
        return "resume: " + "; ".join(f"{one.scope} ({one.reason})" for one in running)


def _answer(row: Request, text: str, confirm_within_s: int = 0) -> Answer:
    return Answer(
        request_id=row.id or 0,
        action=row.action,
        state=row.state,
        text=text,
        confirm_within_s=confirm_within_s,
    )
