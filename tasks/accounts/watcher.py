"""The watch of all managed accounts in one process: tick, pull, judge what stands, say that it lives, and choose the pace."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from evenkeel.errors import NOT_NOW, EvenkeelError, LostRace, OperatorError, words_of
from evenkeel.types import Frozen
from evenkeel.units import DAY_MS
from state.accounts.store import ACCOUNTS
from state.models import Fence
from strategy.accounts.conditions import Judged, judge_markets
from tasks.accounts.alerts import alarm_unwatched, is_watched, judge_ledger, note
from tasks.accounts.crosscheck import CrossCheck
from tasks.accounts.desk import AccountsDesk
from tasks.accounts.hyperliquid.desk import HyperliquidAccountsDesk
from tasks.accounts.standing import Move, Standing
from tasks.accounts.trading import CHARGES, chain_of, paid, pull_charges
from tasks.accounts.watching import TickReport
from tasks.leases import described, own_name
from tasks.oddities import note_oddities

log = logging.getLogger("evenkeel.accounts")
EVERY_S = 30.0
CHECK_EVERY = 10
"""Ticks between two comparisons with the subgraph."""
STANDING_EVERY_MS = 25_000
"""What stands is read at the pace of a calm watch, also while ticks come every 2 s: the node's budget is for the ticks."""
GAP_MS = 300_000
"""After so long without a tick that succeeded the subgraph is compared at once."""


class Watched(Frozen):
    """What a watch has done so far."""

    ticks: int = 0
    settled: int = 0
    paid: int = 0
    failed: int = 0


@dataclass
class AccountsWatcher:
    """One watch. `fence`: of its lease, which every order carries."""

    desk: AccountsDesk | HyperliquidAccountsDesk
    fence: Fence | None = None
    check_every: int = CHECK_EVERY
    standing_every_ms: int = STANDING_EVERY_MS
    done: Watched = field(default_factory=Watched)
    closely: bool = False
    """The next tick should come soon: an order is under way, or a stop is near."""
    last_ms: int | None = None
    """When a tick succeeded last."""
    standing_ms: int | None = None
    """When the venue, the keys and the accounts whose turn it was were read last."""

    def __post_init__(self) -> None:
        core, desk = self.desk.desk, self.desk
        self.standing = Standing(core, desk.where) if isinstance(desk, AccountsDesk) else None
        graph = desk.graph if isinstance(desk, AccountsDesk) else None
        self.check = None if graph is None else CrossCheck(core, graph)

    async def tick(self) -> TickReport | None:
        """One tick; None for one that is left out because the chain, or the ledger, cannot be used now. Raises LostRace where
        the lease is another's.
        """
        core = self.desk.desk
        began_ms = core.clock.now_ms()
        try:
            await core.clock.refresh()
            report = await self.desk.tick(self.fence)
        except LostRace:
            raise
        except (*NOT_NOW, OperatorError) as fault:
            self._failed(words_of(fault))
            return None
        ends = await pull_charges(core, self.fence, again_after_ms=DAY_MS) if CHARGES in core.venues else {}
        report.faults |= {name: end for name, end in ends.items() if isinstance(end, str)}
        self.done = self.done.model_copy(
            update={
                "ticks": self.done.ticks + 1,
                "settled": self.done.settled + report.settled,
                "paid": self.done.paid + paid(ends),
            }
        )
        try:
            await self._judge(report)
            self._succeeded(report, began_ms)
        except LostRace:
            raise
        except EvenkeelError as fault:
            self._failed(words_of(fault))
        return report

    @property
    def pace_s(self) -> float:
        """Seconds until the next tick."""
        return self.desk.closely_s if self.closely else EVERY_S

    async def _judge(self, report: TickReport) -> None:
        """Read and judge what stands, and note it as alerts."""
        core = self.desk.desk
        if isinstance(self.desk, HyperliquidAccountsDesk):
            note(core.store, self.desk.judge() | judge_ledger(core.store))
            note_oddities(core)
            return
        stored = core.store.checkpoint(f"accounts:{chain_of(core)}")
        marks = stored.detail["marks"] if stored else []
        read_to = int(marks[-1][0]) if marks else 0
        judged: Judged = {}
        moves: list[Move] = []
        now_ms = core.clock.now_ms()
        assert self.standing is not None
        if self.standing_ms is None or not 0 <= now_ms - self.standing_ms < self.standing_every_ms:
            judged, moves = await self.standing.read(read_to)
            report.faults |= self.standing.faults
            self.standing_ms = now_ms
        if self.check is not None and self._compares():
            judged |= await self.check.judge_if_there(read_to, report.faults)
        names = core.settings.ostium.markets
        held = {
            names.get(pair, str(pair)): many for pair, many in core.store.accounts.open_by_market().items()
        }
        judged |= judge_markets(self.desk.is_open, held)
        with core.store.one_transaction():  # no move without its alert, through any crash
            for move in moves:
                move()
            note(core.store, judged | judge_ledger(core.store))
        note_oddities(core)

    def _compares(self) -> bool:
        assert self.check is not None
        was_away = self.last_ms is None or self.desk.desk.clock.now_ms() - self.last_ms > GAP_MS
        return was_away or self.check.is_doubtful or self.done.ticks % self.check_every == 0

    def _succeeded(self, report: TickReport, began_ms: int) -> None:
        core = self.desk.desk
        self.last_ms = core.clock.now_ms()
        detail = {
            "by": described(own_name()),
            "took_s": (self.last_ms - began_ms) / 1000,
            "faults": len(report.faults),
            **self.done.model_dump(),
        }
        core.store.record_heartbeat(self.desk.watch, detail)
        is_watched(core.store, self.desk.watch)
        for name, fault in report.faults.items():
            log.warning("%s: %s", name, fault)
        for odd in report.odd:
            log.error("an answer of the venue cannot be read: %s", odd)
        ours = (one for one in core.store.unfinished_intents(ACCOUNTS) if one.venue in core.venues)
        self.closely = report.is_near or any(ours)

    def _failed(self, why: str) -> None:
        core = self.desk.desk
        log.warning("this tick is left out: %s", why)
        self.done = self.done.model_copy(update={"failed": self.done.failed + 1})
        self.closely = True
        try:
            after_s = float(core.settings.watchdog.after_s)
            alarm_unwatched(core.store, core.clock, after_s, why, self.desk.watch)
        except EvenkeelError as fault:
            log.warning("not noted: %s", fault)
