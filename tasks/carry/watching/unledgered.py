"""A watch whose ledger cannot be used: it says so by every channel, goes on judging from what it knows, and closes a position
in danger by the way that needs no ledger.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TypeGuard

from evenkeel.errors import EvenkeelError, LedgerUnavailable
from evenkeel.legs import LegSide
from state.watch_models import Severity
from strategy.carry.decisions import Decision, Exit
from strategy.carry.rules.liquidation import NAME as LIQUIDATION
from strategy.decisions import Urgency
from tasks.carry.closing.key_file import Journal, NoJournal, journal_of
from tasks.carry.closing.last_resort import Emptied, Ours, close_without_ledger
from tasks.carry.desk import CarryDesk
from tasks.carry.watching.ledger_copy import read_ledger
from tasks.carry.watching.watcher import Watcher
from tasks.leases import HolderState, described, own_name, state_of_holder

log = logging.getLogger("evenkeel.monitor")
LEDGER_OUT = "ledger unavailable"
"""The notice of a watch that can neither read nor write its ledger."""
CLOSED_WITHOUT = "closed without the ledger"
WITHIN_S = 60.0
"""One pass over both legs; what is left is tried again at the next tick."""
CALM_S = 10.0
"""Most seconds between two ticks without the ledger."""


@dataclass
class Unledgered:
    """What a watch remembers while its ledger is out. `since_ms`: since when; None where it can be used.

    `danger_ms`: since when every tick has asked for an emergency exit.
    """

    desk: CarryDesk
    watcher: Watcher
    since_ms: int | None = None
    danger_ms: int | None = None
    journal: Journal | None = None
    unusable: set[str] = field(default_factory=set)
    """Places in which no key could be kept."""

    def is_over(self) -> None:
        """The ledger was read and written."""
        if self.since_ms is not None:
            log.warning("the ledger can be used again")
        self.since_ms = self.danger_ms = None

    async def tick(self, fault: LedgerUnavailable) -> bool:
        """One tick without the ledger. Whether a danger runs, so that the next should come soon."""
        desk, now_ms = self.desk, self.desk.clock.now_ms()
        self.since_ms = now_ms if self.since_ms is None else self.since_ms
        position_id = self.watcher.position_id
        lasted_s = (now_ms - self.since_ms) // 1000
        desk.notifier.notify(
            LEDGER_OUT,
            Severity.CRITICAL,
            f"{position_id} is watched without its ledger, for {lasted_s} s now: {fault}; nothing ordinary can be done, and "
            f"a danger closes it after {desk.settings.limits.without_ledger_after_s} s; free the disk or end what holds the "
            "lock, or run `evenkeel flatten --all --without-ledger`",
            position_id,
        )
        if (
            self.watcher.kept is None
        ):  # of this watch's first tick: what can only not be written can still be read
            try:
                self.watcher.kept = read_ledger(desk, position_id)
            except LedgerUnavailable:
                return True
        decided = await self.watcher.decide(from_copy=True)
        decision = decided.combined.decision
        if not is_emergency(decision):
            self.danger_ms = None
            return decided.closely
        self.danger_ms = now_ms if self.danger_ms is None else self.danger_ms
        await self._close_if_due(decision)
        return True

    async def _close_if_due(self, decision: Exit) -> None:
        """Danger of liquidation is acted on once the ledger has been out for the time of the limits. What rests on a leg that
        is out of sight must have been so on every tick of that time too: nothing else can prove it now.
        """
        desk, position_id = self.desk, self.watcher.position_id
        now_ms, after_ms = desk.clock.now_ms(), desk.settings.limits.without_ledger_after_s * 1000
        proved = decision.rule.startswith(f"{LIQUIDATION}:")
        since_ms, danger_ms = self.since_ms or now_ms, self.danger_ms or now_ms
        if now_ms - (since_ms if proved else max(since_ms, danger_ms)) < after_ms:
            log.warning("%s: %s; the ledger is out, nothing is done yet", position_id, decision.reason)
            return
        if (holder := self._other_holder()) is not None:
            desk.notifier.notify(
                LEDGER_OUT,
                Severity.CRITICAL,
                f"{position_id} is in danger ({decision.reason}) and {holder} holds its lease: it is left to that process",
                f"{position_id} {holder}",
            )
            return
        try:
            self.journal = self.journal or journal_of(desk.settings, self.unusable)
            done = await close_without_ledger(
                desk.settings, desk.clock, self.journal, WITHIN_S, ours=self._ours()
            )
        except NoJournal as fault:  # the next place is taken
            self.unusable.add(str(self.journal))
            self.journal, done = None, Emptied(left=(str(fault),), notes=())
        except Exception as fault:  # on a host where nothing can be relied on: it is tried again
            log.warning("%s could not be closed without the ledger", position_id, exc_info=fault)
            what = str(fault) if isinstance(fault, EvenkeelError) else type(fault).__name__
            done = Emptied(left=(what,), notes=())
        self._say(decision, done)

    def _say(self, decision: Exit, done: Emptied) -> None:
        position_id = self.watcher.position_id
        what = f"{position_id}: {decision.rule}: {decision.reason}; keys are in {self.journal}"
        if done.left:
            text = f"{what}; still held: {'; '.join(done.left)}; it is tried again"
            self.desk.notifier.notify("still held", Severity.CRITICAL, text, position_id)
        elif done.closed:
            text = f"{what}; both venues show nothing of it; the books follow once the ledger can be used"
            self.desk.notifier.notify(CLOSED_WITHOUT, Severity.CRITICAL, text, position_id)

    def _ours(self) -> Ours:
        """What of the accounts belongs to the position, by what the ledger said last."""
        kept = self.watcher.kept
        assert kept is not None
        long, short = kept.legs.get(LegSide.LONG), kept.legs.get(LegSide.SHORT)
        return Ours(
            position_id=self.watcher.position_id,
            long_ref=long.ref if long is not None else "",
            protocol=int(long.protocol or 0) if long is not None else 0,
            short_qty=short.qty if short is not None and short.is_open else None,
            wallet=kept.position.long_account,
            account=kept.position.short_account,
        )

    def _other_holder(self) -> str | None:
        """Who else may be at it: as the ledger says now, or as it said last where it cannot be read."""
        desk, kept = self.desk, self.watcher.kept
        try:
            return "another process" if desk.written_elsewhere(self.watcher.position_id) else None
        except LedgerUnavailable:
            holder = kept.holder if kept is not None else ""
        if not holder or holder == own_name() or state_of_holder(holder) is HolderState.GONE:
            return None
        return described(holder)


def is_emergency(decision: Decision) -> TypeGuard[Exit]:
    """Whether a decision is what the ledger's absence must not hold up."""
    return (
        isinstance(decision, Exit)
        and decision.urgency is Urgency.EMERGENCY
        and decision.first_leg is not None
    )
