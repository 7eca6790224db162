"""Alerts of one cause over many accounts as one message: gathered before any channel delivers them.

The alerts and their messages stay in the ledger one by one. The sender writes a message in the place of several, in the
transaction that notes that no channel delivers those, so that it is delivered as any other: once, at every channel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from state.models import Fence
from state.outbox import Pending
from state.outbox_models import CAUSE, Message, MessageKind
from state.store import Store
from state.watch_models import Severity
from tasks.messages.compose import WHAT, WHOSE

GATHER_MS = 5_000
"""How long what is raised is waited for, that more may come of the same cause."""
GROW_MS = 30_000
"""How long after the last message of a cause the next accounts are named in one more."""
JOIN_MS = 600_000
"""For how long after its first message alerts are of the same cause: what is raised later is another one."""
STATED_MS = 7 * 86_400_000
"""How long after its last message the head of a cause's thread is kept up to date."""
MOST_LINES, MOST_NAMES = 20, 100
_OF_ALERTS = frozenset({MessageKind.ALERT, MessageKind.OVER, MessageKind.ACKNOWLEDGED, MessageKind.ESCALATED})
Whose = Callable[[Store, str], tuple[str, str] | None]
"""The account that an alert's subject is of, and what of it besides; None where it is no account's."""


class One(NamedTuple):
    """A message of one alert, and the account that it concerns."""

    message: Message
    account: str

    @property
    def alert(self) -> int:
        return int(self.message.facts.get("alert") or 0)


@dataclass
class Cause:
    """What was said of one cause so far: the account of each of its alerts, and which messages it stands for."""

    thread: str
    began_ms: int
    first: Message
    severity: Severity
    last_ms: int = 0
    escalated_ms: int | None = None
    alerts: dict[int, str] = field(default_factory=dict)
    stands_for: set[int] = field(default_factory=set)

    def goes_on(self, still_open: Collection[int]) -> bool:
        return not self.alerts.keys().isdisjoint(still_open)


class Stands(NamedTuple):
    """The first message of a cause's thread as it would be written now."""

    thread: str
    stated: Message


class _Draft(NamedTuple):
    """A message that is to be written, for which cause and accounts, and in the place of what."""

    thread: str
    kind: MessageKind
    severity: Severity
    text: str
    rows: Sequence[One]
    alerts: Mapping[int, str]


@dataclass
class Causes:
    """What gathers. `kinds`: alerts that accounts may share. `channels`: by name, who delivers no message that another stands
    for. `every_s`: how often what nobody acknowledges is sent again.
    """

    store: Store
    kinds: Collection[str]
    whose: Whose
    channels: Sequence[str]
    every_s: float
    fence: Fence

    def gather(self, pending: Iterable[Pending]) -> tuple[list[Pending], bool]:
        """Of what a channel has still to deliver what goes by itself, and whether anything was written in the place of others.
        What is in neither waits for more of its cause.
        """
        alone: list[Pending] = []
        found: defaultdict[tuple[str, str], list[tuple[Pending, One]]] = defaultdict(list)
        for one in pending:
            mine = self._whose(one)
            if mine is None:
                alone.append(one)
            else:
                found[one.message.about, mine[1]].append((one, One(one.message, mine[0])))
        wrote = False
        for (kind, what), pairs in found.items():
            left, more = self._gathered(kind, what, [one for _, one in pairs])
            alone += [waiting for waiting, one in pairs if one.message.id in left]
            wrote = wrote or more
        return sorted(alone, key=lambda one: one.message.id or 0), wrote

    def heads(self) -> list[Stands]:
        """How the causes of late stand."""
        now_ms = self.store.clock.now_ms()
        rows = {row.id: row for row in self.store.alerts(open_only=True)}
        found = []
        for cause in _causes(self.store.causes(since_ms=now_ms - STATED_MS)).values():
            left = [
                (account, rows[alert].text, rows[alert].severity)
                for alert, account in cause.alerts.items()
                if alert in rows
            ]
            says = _whose_words(cause.alerts.values())
            over = sorted({*cause.alerts.values()} - {account for account, _, _ in left})
            text = _lines([(account, text) for account, text, _ in left]) or f"it is over: {_names(over)}"
            if left and over:
                text += f"\nover by now: {_names(over)}"
            worst = max((one for _, _, one in left), key=lambda one: one.rank, default=cause.severity)
            facts = {**cause.first.facts, WHOSE: says}
            kind = cause.first.kind if left else MessageKind.OVER
            update = {"kind": kind, "text": text, "severity": worst, "facts": facts}
            found.append(Stands(cause.thread, cause.first.model_copy(update=update)))
        return found

    def _whose(self, one: Pending) -> tuple[str, str] | None:
        row = one.message
        if row.kind not in _OF_ALERTS or row.about not in self.kinds or row.thread.startswith(CAUSE):
            return None
        return None if one.delivery is not None else self.whose(self.store, row.subject)

    def _gathered(self, kind: str, what: str, rows: Sequence[One]) -> tuple[set[int], bool]:
        """The ids of those that go by themselves, and whether anything was written."""
        known = _causes(row for row in self.store.causes(kind) if row.facts.get(WHAT, "") == what)
        of_alert = {alert: cause for cause in known.values() for alert in cause.alerts}
        done = {number for cause in known.values() for number in cause.stands_for}
        rows_open = self.store.alerts(open_only=True)
        still_open = {row.id or 0 for row in rows_open}
        unseen = {row.id or 0 for row in rows_open if row.seen_ms is None}
        before = [one for one in rows if one.message.id in done]
        self._leave_out(before)  # of a channel that was not there at the time
        rows = [one for one in rows if one.message.id not in done]
        raised = [one for one in rows if one.message.kind is MessageKind.ALERT]
        held = {one.alert for one in raised if one.alert not in of_alert}
        others = [one for one in rows if one.message.kind is not MessageKind.ALERT]
        alone = {one.message.id or 0 for one in others if one.alert not in of_alert and one.alert not in held}
        written = 0
        for draft in [
            *self._later(known.values(), [one for one in others if one.alert in of_alert], still_open),
            *self._raised(kind, what, known.values(), of_alert, raised, still_open, unseen),
        ]:
            written += 1
            self._write(kind, what, draft)
        return alone, bool(written or before)

    def _later(
        self, known: Iterable[Cause], rows: Sequence[One], still_open: Collection[int]
    ) -> Iterable[_Draft]:
        """What became of alerts that were said: their end once the last has ended, who has seen them, that nobody has."""
        for cause in known:
            mine = [one for one in rows if one.alert in cause.alerts]
            ended = [one for one in mine if one.message.kind is MessageKind.OVER]
            if ended and cause.goes_on(still_open):
                self._leave_out(ended)
            elif ended:
                text = f"it has ended for all of them: {_names(cause.alerts.values())}"
                yield _Draft(cause.thread, MessageKind.OVER, cause.severity, text, ended, cause.alerts)
            seen = [one for one in mine if one.message.kind is MessageKind.ACKNOWLEDGED]
            if seen and self._is_ripe(seen):
                yield _draft(cause.thread, MessageKind.ACKNOWLEDGED, cause.severity, seen)
            again = [one for one in mine if one.message.kind is MessageKind.ESCALATED]
            said_ms = cause.escalated_ms
            if again and said_ms is not None and 0 <= again[0].message.at_ms - said_ms < 1000 * self.every_s:
                self._leave_out(again)
            elif again and self._is_ripe(again):
                yield _draft(cause.thread, MessageKind.ESCALATED, cause.severity, again)

    def _raised(
        self,
        kind: str,
        what: str,
        known: Iterable[Cause],
        of_alert: Mapping[int, Cause],
        rows: Sequence[One],
        still_open: Collection[int],
        unseen: Collection[int],
    ) -> Iterable[_Draft]:
        """What is new, what has got worse, and what a cause has come to besides: aloud where somebody has acknowledged all that
        it was before, as nobody looks there again.
        """
        now_ms = self.store.clock.now_ms()
        worse: defaultdict[str, list[One]] = defaultdict(list)
        fresh = [one for one in rows if one.alert not in of_alert]
        for one in rows:
            if one.alert in of_alert:
                worse[of_alert[one.alert].thread].append(one)
        latest = next((one for one in reversed([*known]) if one.goes_on(still_open)), None)
        if fresh and latest is not None and fresh[0].message.at_ms - latest.began_ms <= JOIN_MS:
            is_news = _worst(fresh).rank > latest.severity.rank or not latest.goes_on(unseen)
            if is_news or worse[latest.thread]:
                worse[latest.thread] += fresh
            elif not 0 <= now_ms - latest.last_ms < GROW_MS:
                yield _draft(latest.thread, MessageKind.GREW, _worst(fresh), fresh, latest.alerts)
        elif fresh and self._is_ripe(fresh):
            thread = f"{CAUSE}{kind}/{what}/{fresh[0].message.id}"
            yield _draft(thread, MessageKind.ALERT, _worst(fresh), fresh)
        for thread, some in worse.items():
            if some and self._is_ripe(some):
                yield _draft(thread, MessageKind.ALERT, _worst(some), some)

    def _is_ripe(self, rows: Sequence[One]) -> bool:
        """Whether enough time has gone by for more to have come. A clock that was set back holds nothing up."""
        return not 0 <= self.store.clock.now_ms() - rows[0].message.at_ms < GATHER_MS

    def _leave_out(self, rows: Sequence[One]) -> None:
        if rows:
            ids = [one.message.id or 0 for one in rows]
            now_ms = self.store.clock.now_ms()
            self.store.skip_messages(ids, self.channels, "said for many accounts", now_ms, fence=self.fence)

    def _write(self, kind: str, what: str, draft: _Draft) -> None:
        now_ms = self.store.clock.now_ms()
        ids = [one.message.id or 0 for one in draft.rows]
        row = Message(
            key=f"{draft.thread}/{draft.kind}/{ids[0]}",
            thread=draft.thread,
            kind=draft.kind,
            about=kind,
            severity=draft.severity,
            text=draft.text,
            facts={
                "alerts": {str(alert): account for alert, account in draft.alerts.items()},
                "stands_for": ids,
                WHAT: what,
                WHOSE: _whose_words(draft.alerts.values()),
            },
            at_ms=now_ms,
        )
        note = f"in {row.key}"
        self.store.skip_messages(ids, self.channels, note, now_ms, fence=self.fence, instead=row)


def subjects_of(store: Store, of: str | None) -> list[str | None]:
    """What an acknowledgement is about: for the thread of a cause each subject of its alerts that is open and that nobody has
    seen, or the thread where there is none.
    """
    if of is None or not of.startswith(CAUSE):
        return [of]
    mine = {alert for cause in _causes(store.messages(thread=of)).values() for alert in cause.alerts}
    rows = [row for row in store.alerts(open_only=True) if row.id in mine and row.seen_ms is None]
    return [row.subject for row in rows] or [of]


def _causes(messages: Iterable[Message]) -> dict[str, Cause]:
    """By thread, in the order in which they began."""
    found: dict[str, Cause] = {}
    for row in messages:
        cause = found.setdefault(row.thread, Cause(row.thread, row.at_ms, row, row.severity))
        cause.alerts |= {int(alert): str(name) for alert, name in (row.facts.get("alerts") or {}).items()}
        cause.stands_for |= {int(one) for one in row.facts.get("stands_for") or ()}
        cause.severity = max(cause.severity, row.severity, key=lambda one: one.rank)
        cause.last_ms = row.at_ms
        if row.kind is MessageKind.ESCALATED:
            cause.escalated_ms = row.at_ms
    return found


def _draft(
    thread: str,
    kind: MessageKind,
    severity: Severity,
    rows: Sequence[One],
    besides: Mapping[int, str] | None = None,
) -> _Draft:
    alerts = {**(besides or {}), **{one.alert: one.account for one in rows}}
    text = _lines([(one.account, one.message.text) for one in rows])
    return _Draft(thread, kind, severity, text, rows, alerts)


def _worst(rows: Sequence[One]) -> Severity:
    return max((one.message.severity for one in rows), key=lambda one: one.rank)


def _lines(rows: Iterable[tuple[str, str]]) -> str:
    """A line for each text with the accounts that it is of; beyond so many the accounts alone."""
    by_text: dict[str, list[str]] = {}
    for account, text in rows:
        by_text.setdefault(text, []).append(account)
    texts = list(by_text.items())
    lines = [f"{_names(names)}: {text}" for text, names in texts[:MOST_LINES]]
    more = [name for _, names in texts[MOST_LINES:] for name in names]
    return "\n".join([*lines, *([f"and {_names(more)}"] if more else [])])


def _names(accounts: Iterable[str]) -> str:
    names = list(dict.fromkeys(accounts))
    left = len(names) - MOST_NAMES
    return ", ".join([*names[:MOST_NAMES], *([f"{left} more"] if left > 0 else [])])


def _whose_words(accounts: Iterable[str]) -> str:
    names = {*accounts}
    return f"{len(names)} accounts" if len(names) > 1 else "".join(names)
