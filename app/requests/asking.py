"""Takes requests from wherever people are, with the ledger alone and no venue's key: a position's monitor does its exit."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import OperatorError
from evenkeel.legs import LegSide
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.carry.models import Position
from state.requests.models import Request, RequestAction, RequestState
from state.requests.store import CONFIRMED_WITHIN_MS, what
from state.store import Store
from state.watch_models import Pause
from tasks.admin import ALL, ENTRIES, acknowledge, check_scope, halt
from tasks.carry.last_ticks import LastTick, last_ticks, overdue_after_s
from tasks.carry.mark import LIVE
from tasks.carry.positions import position_meant
from tasks.messages.causes import subjects_of

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
        shown = self._paused(scope) if action is RequestAction.RESUME else []
        row, new = self._store.requests.ask(
            key,
            action,
            subject_text,
            who=who,
            via=via,
            text=text,
            detail={
                "shown": [[one.scope, one.reason] for one in shown],
                "reason": reason_text,
                "scope": scope,
                "hours": hours,
                "kind": subject,
                "of": of,
            },
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
            name = position.position_id
            seen = next((one for one in last_ticks(self._store) if one.position_id == name), None)
            return name, self._exit_text(position, seen)
        if action is RequestAction.FLATTEN:
            return "", self._flatten_text()
        if action is RequestAction.RESUME:
            return "", self._resume_text(scope)
        if action is RequestAction.PAUSE:
            check_scope(scope or ENTRIES, self._accounts)
            return "", f"pause {scope or ENTRIES}"
        return "", f"acknowledge {subject}"

    def confirm(self, request_id: int, *, who: str) -> Answer:
        """Confirm what the same person asked for. An exit is done by the position's monitor, within seconds; everything else
        now. What was confirmed and could not be done whole is taken up again by confirming it once more, within its minute.
        """
        known = self._store.requests.request(request_id)
        if (
            known is not None
            and known.who == who
            and known.state is RequestState.CONFIRMED
            and known.action is not RequestAction.EXIT
            and self._store.clock.now_ms() < known.until_ms
        ):
            return self._do(known)
        return self._do(self._store.requests.confirm(request_id, who=who))

    def _do(self, row: Request) -> Answer:
        """Do what needs the ledger alone. What was broken off is done again: each is the same done twice."""
        if row.action is RequestAction.EXIT:
            return _answer(row, f"exit of {row.subject} is confirmed: its monitor begins within seconds")
        try:
            text = self._done(row, f"{row.who} via {row.via}", str(row.detail["reason"]))
        except OperatorError as refused:
            self._store.requests.finish(row.id or 0, RequestState.REFUSED, str(refused))
            raise
        self._store.requests.finish(row.id or 0, RequestState.DONE, text)
        return _answer(row.model_copy(update={"state": RequestState.DONE}), text)

    def _done(self, row: Request, who: str, reason: str) -> str:
        """What was done, in words."""
        scope, store = row.detail["scope"], self._store
        if row.action is RequestAction.PAUSE:
            # Numbered: the same pause set again would move the end of the first, and perhaps forward.
            numbered = f"{reason} (request {row.id})"
            found = halt(store, who, scope or ENTRIES, numbered, row.detail["hours"], self._accounts)
            return f"paused ({found.scope}): {found.reason}"
        if row.action is RequestAction.RESUME:
            return self._resume(row, who, reason)
        if row.action is RequestAction.ACK:
            kind, of = str(row.detail["kind"]), row.detail["of"]
            seen = [
                one
                for subject in subjects_of(store, of)
                for one in acknowledge(store, kind, subject, reason, who, unseen=True)
            ]
            return "; ".join(f"acknowledged {one.kind} ({one.subject})" for one in seen)
        return self._flatten(row, who, reason)

    def _resume(self, row: Request, who: str, reason: str) -> str:
        """End the pauses that the confirmation showed, and no other: what was paused since then stays."""
        said = []
        for scope, why in row.detail["shown"]:
            if self._store.resume(scope, why, note=f"{who}: {reason}; was: {why}"):
                said.append(f"resumed ({scope}): {why}")
        said += [f"still paused ({one.scope}): {one.reason}" for one in self._paused(None)]
        return "; ".join(said) or "nothing was paused"

    def _paused(self, scope: str | None) -> list[Pause]:
        return [one for one in self._store.active_pauses() if scope in (None, one.scope)]

    @property
    def _accounts(self) -> tuple[str, ...]:
        return tuple(one.name for one in self._settings.fleet)

    def _flatten(self, row: Request, who: str, reason: str) -> str:
        """Pause everything, then ask for the exit of each live position, confirmed by the same word."""
        halt(self._store, who, ALL, f"flatten: {reason} (request {row.id})")
        names = [one.position_id for one in self._store.carry.positions(LIVE)]
        self._store.requests.ask_each(
            RequestAction.EXIT,
            {name: f"exit of {name}: everything is closed" for name in names},
            row.key,
            who=row.who,
            via=row.via,
            detail={"reason": f"flatten: {reason}", "emergency": True},
        )
        if not names:
            return "everything is paused; no position is open"
        return f"everything is paused; exits asked for: {', '.join(names)}"

    def _exit_text(self, position: Position, seen: LastTick | None) -> str:
        """Position, size and what closing is expected to cost, from the ledger alone."""
        name, size = position.position_id, self._size_usd(position)
        held = "its size is not known"
        if size is not None:
            held = f"{size:,.2f} USD a leg; closing is expected to cost {self._cost_usd(size):,.2f} USD"
        text = f"exit of {name}: {position.asset} {position.leverage.normalize():f}x, {held}"
        if seen is not None and seen.is_overdue(overdue_after_s(self._settings)):
            text += (
                f". Nobody has looked at it for {seen.age_s:.0f} s: where no monitor begins in time the request lapses; "
                "`evenkeel exit` needs none"
            )
        return text

    def _size_usd(self, position: Position) -> Decimal | None:
        """USD of one leg at the last price that was seen."""
        short = self._store.carry.leg(position.position_id, LegSide.SHORT)
        last = self._store.carry.last_snapshot(position.position_id)
        price = last.short_price_usd if last is not None else position.ref_short_price_usd
        if short is not None and short.is_open and price is not None:
            return short.qty * price
        return position.size_usd

    def _cost_usd(self, size_usd: Decimal) -> Decimal:
        return self._settings.strategy.costs.closing_usd(size_usd)

    def _flatten_text(self) -> str:
        live = self._store.carry.positions(LIVE)
        if not live:
            return "flatten: everything is paused; no position is open"
        sizes = [size for one in live if (size := self._size_usd(one)) is not None]
        seen = {one.position_id: one for one in last_ticks(self._store)}
        total, cost = sum(sizes, Decimal(0)), sum((self._cost_usd(one) for one in sizes), Decimal(0))
        each = "; ".join(self._exit_text(one, seen.get(one.position_id)) for one in live)
        known = f", {total:,.2f} USD a leg in all, expected to cost {cost:,.2f} USD" if sizes else ""
        if sizes and len(sizes) < len(live):
            known += f" (without {len(live) - len(sizes)} whose size is not known)"
        many = "s are" if len(live) > 1 else " is"
        return f"flatten: everything is paused, then {len(live)} position{many} closed{known}: {each}"

    def _resume_text(self, scope: str | None) -> str:
        if scope is not None:
            check_scope(scope, self._accounts)
        running = self._paused(scope)
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
