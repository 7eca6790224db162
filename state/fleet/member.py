"""One ledger, several accounts: what an account's own desk reads and writes of it.

Positions, intents, fills, checkpoints, alerts and pauses of another account are not seen. What concerns everybody is: a pause
that a person has set without naming an account, and alerts that no account raised. The prices and rates of the market are one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from evenkeel.errors import LedgerUnavailable
from state.carry.store import CarryStore
from state.ledger_models import FillRow
from state.models import Intent
from state.store import Store
from state.watch_models import TRIPPED_BY, Alert, Checkpoint, Pause, Severity

OF = "@"
"""Between a name and the account whose it is, in the subject of an alert, the scope of a pause and a checkpoint's name."""


def named(name: str, member: str) -> str:
    """The name as the ledger keeps it for a member of the fleet: `entries@north`."""
    return f"{name}{OF}{member}"


def member_of(name: str) -> tuple[str, str]:
    """What was named, and whose it is; "" where it is everybody's."""
    plain, found, member = name.rpartition(OF)
    return (plain, member) if found else (name, "")


class MemberStore(Store):
    """The ledger for the account `member` of a fleet, on the connections of `whole`. `accounts`: its addresses on the venues,
    by which positions and fills are its own.
    """

    def __init__(self, whole: Store, member: str, accounts: Collection[str]) -> None:
        super().__init__(whole._engine, whole.clock)
        self.whole = whole
        self.member = member
        self._accounts = frozenset(accounts)
        self.carry = CarryStore(whole._engine, whole.clock, self._accounts)
        self._books = {**self._books, self.carry.name: self.carry}

    def close(self) -> None:
        """Nothing: the connections are those of the whole."""

    # --- what is the account's own ----------------------------------------------------------------------------

    def unfinished_intents(self, business: str, subject: str | None = None) -> list[Intent]:
        """As the ledger has them, of this account's positions only."""
        found = super().unfinished_intents(business, subject)
        if subject is not None or business != self.carry.name:
            return found
        others = self.carry.of_others({one.subject for one in found})
        return [one for one in found if one.subject not in others]

    def fills(self, since_ms: int | None = None, until_ms: int | None = None) -> list[FillRow]:
        """Fills of this account, and those of which no account is known."""
        return [
            one for one in super().fills(since_ms, until_ms) if one.account in {*self._accounts, "", None}
        ]

    def checkpoint(self, name: str) -> Checkpoint | None:
        """How far this account's part was compared."""
        return super().checkpoint(named(name, self.member))

    def move_checkpoint(self, name: str, at_ms: int, detail: dict[str, Any] | None = None) -> None:
        """Note how far this account's part was compared."""
        super().move_checkpoint(named(name, self.member), at_ms, detail)

    # --- alerts: a position's go by its name, any other by the account's --------------------------------------

    def alert(
        self,
        kind: str,
        severity: Severity,
        text: str,
        subject: str = "",
        *,
        news: bool = False,
        exact: bool = False,
        anew: bool = False,
    ) -> tuple[Alert, bool]:
        """Raise an alert of this account."""
        return super().alert(kind, severity, text, self._subject(subject), news=news, exact=exact, anew=anew)

    def ack_alert(self, kind: str, subject: str = "", *, followed: bool = False) -> bool:
        """Close an alert of this account, or else one from the time before there was a fleet."""
        mine = self._subject(subject)
        if super().ack_alert(kind, mine, followed=followed):
            return True
        return mine != subject and super().ack_alert(kind, subject, followed=followed)

    def acknowledge(self, kind: str, subject: str | None, note: str, *, unseen: bool = False) -> list[Alert]:
        """Note that a person has seen alerts: of a subject of this account, or of a kind, whoseever they are."""
        meant = None if subject is None else self._subject(subject)
        return super().acknowledge(kind, meant, note, unseen=unseen)

    def alerts(self, open_only: bool = False) -> list[Alert]:
        """Alerts of this account, its name taken off, and those of everybody."""
        rows = [(*member_of(row.subject), row) for row in super().alerts(open_only)]
        others = self.carry.of_others({subject for subject, member, _ in rows if subject and not member})
        return [
            row.model_copy(update={"subject": subject}) if member else row
            for subject, member, row in rows
            if member == self.member or (not member and subject not in others)
        ]

    def open_alerts_of(self, *subjects: str) -> list[Alert]:
        """Open alerts about these, which are this account's or everybody's, this account's name taken off."""
        mine = {named(one, self.member): one for one in subjects}
        rows = super().open_alerts_of(*subjects, *mine)
        return [row.model_copy(update={"subject": mine.get(row.subject, row.subject)}) for row in rows]

    def _subject(self, subject: str) -> str:
        """A position's name as it is, any other with the account's. A ledger that cannot be asked does not keep an alert from
        being raised.
        """
        try:
            if subject and self.whole.carry.find_position(subject) is not None:
                return subject
        except LedgerUnavailable:
            return subject or named(subject, self.member)
        return named(subject, self.member)

    # --- pauses -----------------------------------------------------------------------------------------------

    def pause(self, scope: str, reason: str, until_ms: int | None = None, note: str = "") -> Pause:
        """Halt a scope of this account alone."""
        return self._plain(super().pause(named(scope, self.member), reason, until_ms, note))

    def trip(self, scope: str, breaker: str, until_ms: int | None = None) -> Pause:
        """The pause that a breaker of this account remembers itself by."""
        return self._plain(super().trip(named(scope, self.member), breaker, until_ms))

    def resume(self, scope: str, reason: str | None = None, note: str = "") -> int:
        """End pauses of this account. One that is everybody's is ended by nobody alone, but for a breaker's from the time
        before there was a fleet.
        """
        ended = super().resume(named(scope, self.member), reason, note)
        if not ended and reason is not None and reason.startswith(TRIPPED_BY):
            return super().resume(scope, reason, note)
        return ended

    def active_pauses(self) -> list[Pause]:
        """Pauses of this account, its name taken off, and those of everybody."""
        return [
            self._plain(one)
            for one in super().active_pauses()
            if member_of(one.scope)[1] in ("", self.member)
        ]

    def _plain(self, one: Pause) -> Pause:
        return one.model_copy(update={"scope": member_of(one.scope)[0]})
