"""One tick of a position: read both legs and the market, judge them, remember what lasts. Plain coroutines, no Prefect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from evenkeel.errors import LedgerUnavailable
from evenkeel.legs import CARRY, LegSide
from evenkeel.types import VenueName
from state.carry.models import Position, PositionSnapshot
from state.watch_models import Alert as AlertRow
from state.watch_models import Heartbeat, Severity
from strategy.breach import BreachPhase
from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.monitor import Tick, judge, plan_rebalance
from strategy.carry.readings import LegReading, WatchReadings
from strategy.carry.rebalance import Book, shrink_unread_short
from strategy.decisions import Alert, Combined, combine
from tasks.carry.desk import CarryDesk
from tasks.carry.limits import limits_of
from tasks.carry.mark import TICKED
from tasks.carry.watching.alerts import NOT_WATCHED, REBALANCING_RULES, WATCHED_RULES, end_watch
from tasks.carry.watching.drift_cost import COST, DriftCost
from tasks.carry.watching.early_warnings import note_tick, orders_of
from tasks.carry.watching.failures import keep_failures, kept_failures
from tasks.carry.watching.ledger_copy import LedgerCopy, read_ledger
from tasks.carry.watching.leg_readings import (
    THRESHOLD,
    TOKEN_PRICE,
    StandingStill,
    leg_readings,
    long_price_proved,
    oracle_price,
    threshold_of,
)
from tasks.carry.watching.liveness import ChainLiveness
from tasks.carry.watching.money import Money
from tasks.carry.watching.seen import Seen, read_position
from tasks.leases import described, own_name
from tasks.oddities import note_oddities
from venues.asgard.mints import TOKENS

MONITORED = frozenset({NOT_WATCHED})


@dataclass(frozen=True)
class Decided:
    """What one tick decided. `closely`: tick again soon. `remember` writes snapshot, breaches and alerts down."""

    seen: Seen
    combined: Combined[Decision]
    closely: bool
    remember: Callable[[], None]


class Watcher:
    """Looks at one position, tick after tick; counts failed calls in a row per venue."""

    def __init__(self, desk: CarryDesk, position_id: str, *, is_monitor: bool = False) -> None:
        self._desk = desk
        self._is_monitor = is_monitor
        """Whether more ticks will follow: one tick is no watch."""
        self.position_id = position_id
        self._failures = kept_failures(desk, position_id)
        self._chain = ChainLiveness()
        self._money = Money(desk)
        last = desk.store.carry.last_snapshot(position_id)
        self._still, self._drift_cost = StandingStill(last), DriftCost(last)
        self.kept: LedgerCopy | None = None
        """What the last tick read of the ledger, with the breaches that ran after it."""
        self._unwritten = False
        """Whether the last tick is not written down: its breaches run all the same."""
        self._took_s = 0.0
        """What the last tick took to read and judge."""

    async def tick(self) -> tuple[Seen, Combined[Decision], bool]:
        """Read, judge and remember. The bool says whether to tick again soon."""
        found = await self.decide()
        found.remember()
        return found.seen, found.combined, found.closely

    async def decide(self, *, from_copy: bool = False) -> Decided:
        """Read and judge. `remember` of the answer writes it down, which an emergency does only once it has acted.

        With `from_copy` the ledger is not asked: what was read of it last counts, and the breaches since.
        """
        began_ms = self._desk.clock.now_ms()
        if not from_copy:
            read = read_ledger(self._desk, self.position_id)
            unwritten = self.kept.breaches if self.kept is not None and self._unwritten else read.breaches
            self.kept = replace(read, breaches=unwritten)
        kept = self.kept
        if kept is None:
            raise LedgerUnavailable(f"{self.position_id} was never read from the ledger by this watch")
        position, long_leg = kept.position, kept.legs.get(LegSide.LONG)
        seen, chain_lives = await asyncio.gather(
            read_position(self._desk, position, long_leg), self._chain.is_alive(self._desk)
        )
        if seen.misses_a_leg:  # so does an old answer: what counts is a second tick
            await self._desk.clock.sleep(float(self._desk.settings.strategy.breach_poll_interval_s))
            seen = await read_position(self._desk, position, long_leg)
        self._count_failures(seen, chain_lives)
        limits = limits_of(self._desk)
        legs = leg_readings(position, seen, self._still)
        tick = judge(self._readings(kept, seen, legs), limits)
        self.kept, self._unwritten = kept.after(tick), True
        if self._desk.stream is not None and seen.context is not None:
            self._desk.stream.hold_against(seen.context)
        short_px = seen.short.price_usd if seen.short else None
        self._desk.danger.follow(
            position.position_id,
            legs,
            {LegSide.LONG: oracle_price(seen), LegSide.SHORT: short_px},
            limits,
            closely=tick.watch_closely,
        )
        decisions = [tick.combined.decision]
        book = self._book(kept, seen, legs)
        judged = WATCHED_RULES
        if book is not None:
            if not from_copy and not isinstance(tick.combined.decision, Exit):  # an exit waits for no wallet
                book = await self._money.beside(book, position, seen, limits)
            decisions.append(plan_rebalance(book, limits))
            judged = judged | REBALANCING_RULES
        elif (unread := self._unread_short(kept, seen, limits)) is not None:
            decisions.append(unread)
        whole = combine(decisions)
        reasons = tuple(dict.fromkeys((*whole.reasons, *tick.combined.reasons)))
        speaking = [one for one in (*tick.decisions, *decisions[1:]) if isinstance(one, Alert)]

        def remember() -> None:
            store = self._desk.store
            with store.one_moment():
                row = store.carry.position(position.position_id)
                alerts = store.open_alerts_of(position.position_id, "")
                orders = orders_of(self._desk, row)
            ended = row.closed_ms is not None
            self._remember(position, seen, tick, book, ended)
            self._alert(position, alerts, speaking, judged)
            self._money.note(position)
            note_tick(self._desk, row, alerts, orders, seen, legs, book)
            if ended:  # an exit acts first and notes then
                end_watch(self._desk, position.position_id)
            self._unwritten = False

        combined = Combined(decision=whole.decision, reasons=reasons)
        self._took_s = (self._desk.clock.now_ms() - began_ms) / 1000
        return Decided(seen, combined, tick.watch_closely, remember)

    def _count_failures(self, seen: Seen, chain_lives: bool) -> None:
        """By venue, failures in a row: ticks that could not read it, or single calls, whichever are more. The
        long cannot be closed without its chain, whatever Asgard answers.
        """
        window_s = self._desk.settings.limits.outage_window_s
        calls = self._desk.health.in_a_row(window_s)
        for venue in (VenueName(self._desk.long.name), VenueName(self._desk.short.name)):
            failed = venue in seen.failed or (venue == VenueName.ASGARD and not chain_lives)
            failed_ticks = self._failures.get(venue, 0) + 1 if failed else 0
            self._failures[venue] = max(failed_ticks, calls.get(venue, 0)) if failed else 0

    def _readings(self, kept: LedgerCopy, seen: Seen, legs: dict[LegSide, LegReading]) -> WatchReadings:
        position, context, long = kept.position, seen.context, seen.long
        return WatchReadings(
            now_ms=seen.at_ms,
            asset=position.asset,
            position_usd=long.notional_usd if long else position.size_usd or Decimal(0),
            debt_usd=long.debt_usd if long else Decimal(0),
            long=legs[LegSide.LONG],
            short=legs[LegSide.SHORT],
            funding_now_hourly=context.funding_hourly if context else None,
            funding_expected_hourly=seen.funding_expected_hourly,
            lend_apr=seen.lend_apr,
            borrow_apr=seen.borrow_apr,
            staking_apr=seen.staking_apr,
            long_venue_price_usd=seen.sol_price_usd,
            short_venue_price_usd=context.mark_px if context else None,
            oracle_price_usd=oracle_price(seen),
            long_price_proved=long_price_proved(position, seen),
            lst_price_stands_still=self._still.note(TOKEN_PRICE, seen.token_price_usd, oracle_price(seen)),
            lst_price_usd=seen.token_price_usd if TOKENS[position.asset].is_lst else None,
            redemption_rate=seen.redemption_rate,
            failures=dict(self._failures),
            not_understood=seen.not_understood,
            breaches=kept.breaches,
        )

    def _book(self, kept: LedgerCopy, seen: Seen, legs: dict[LegSide, LegReading]) -> Book | None:
        """Both legs for the rebalancing rules; None while a leg or a price cannot be read."""
        if seen.long is None or seen.short is None or seen.context is None or seen.redemption_rate is None:
            return None
        price = seen.context.oracle_px
        position, leg = kept.position, kept.legs.get(LegSide.SHORT)
        # Somebody else's short on the same account hedges nothing of ours, and is not ours to buy back.
        short_qty = min(seen.short.qty, leg.qty) if leg is not None and leg.is_open else seen.short.qty
        drift = seen.long.exposure_sol - short_qty
        cost_usd = self._drift_cost.count(position, drift, price, seen.context.funding_hourly, seen.at_ms)
        entry = position.facts.get("entry_distance", {})
        return Book(
            long_sol=seen.long.exposure_sol,
            long_debt_usd=seen.long.debt_usd,
            short_qty=short_qty,
            short_equity_usd=seen.short.equity_usd,
            price_usd=price,
            target_leverage=int(position.leverage),
            long_can_resize=self._desk.long.can_resize(position.protocol or 0),
            long_distance=legs[LegSide.LONG].distance,
            long_entry_distance=_decimal(entry.get("long")),
            short_distance=legs[LegSide.SHORT].distance,
            short_entry_distance=_decimal(entry.get("short")),
            drift_cost_usd=cost_usd,
            funding_hourly=seen.context.funding_hourly,
            may_grow=kept.may_grow,
            entered_usd=position.size_usd,
        )

    def _unread_short(self, kept: LedgerCopy, seen: Seen, limits: CarryLimits) -> Decision | None:
        """What the short in the books is too large for the long that is shown, while its account cannot be read; None where
        the rest cannot be read either.
        """
        leg = kept.legs.get(LegSide.SHORT)
        readable = seen.long is not None and seen.context is not None and seen.redemption_rate is not None
        if seen.short_read or not readable or leg is None or not leg.is_open:
            return None
        assert seen.long is not None and seen.context is not None
        return shrink_unread_short(seen.long.exposure_sol, leg.qty, seen.context.oracle_px, limits.risk)

    def forget_drift(self) -> None:
        """After a rebalance the cost of drift starts anew, and growth is judged with what the legs hold then."""
        self._drift_cost.forget()
        self._money.judge_again()

    def _remember(self, position: Position, seen: Seen, tick: Tick, book: Book | None, ended: bool) -> None:
        store = self._desk.store
        for found in tick.transitions:
            kind, _, part = found.key.partition(":")
            if ended and any(
                (row.kind, row.part) == (kind, part) and (row.cleared_ms or 0) >= seen.at_ms
                for row in store.breaches(CARRY, position.position_id)
            ):
                continue  # it ended with the position, while we acted
            if found.phase is BreachPhase.STARTED:
                store.breach_start(CARRY, position.position_id, kind, part)
            elif found.phase is BreachPhase.FIRED:
                store.breach_start(CARRY, position.position_id, kind, part)
                store.breach_fire(CARRY, position.position_id, kind, part)
            else:
                store.breach_clear(CARRY, position.position_id, kind, part)
        threshold = threshold_of(seen.long)
        if THRESHOLD not in position.facts and threshold is not None and not ended:
            store.carry.set_facts(position.position_id, {THRESHOLD: threshold})
        heartbeat = None
        if self._is_monitor and not ended:
            detail = {"took_s": self._took_s, **self._desk.health.counted(), "by": described(own_name())}
            name = f"{TICKED}{position.position_id}"
            heartbeat = Heartbeat(name=name, at_ms=self._desk.clock.now_ms(), detail=detail)
        self._desk.ticks.note(_snapshot(position, seen, book, self._drift_cost.usd), heartbeat)
        keep_failures(self._desk, position, self._failures)
        note_oddities(self._desk)

    def _alert(
        self, position: Position, alerts: list[AlertRow], speaking: list[Alert], judged: frozenset[str]
    ) -> None:
        """Raise what is new or has become critical, close what is over; what merely goes on is not written again."""
        store, subject = self._desk.store, position.position_id
        known = {row.kind: row for row in alerts if row.subject == subject}
        for one in speaking:
            severity = Severity.CRITICAL if one.critical else Severity.WARNING
            row = known.pop(one.rule, None)
            if row is None or (one.critical and row.severity is not Severity.CRITICAL):
                store.alert(one.rule, severity, one.reason, subject=subject)
        for rule in known.keys() & (judged | (MONITORED if self._is_monitor else frozenset())):
            store.ack_alert(rule, subject=subject)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _short(figure: Decimal | None, digits: int = 6) -> Decimal | None:
    """A figure with as many digits as anybody reads: a look is kept a thousand times a day."""
    return None if figure is None else round(figure, digits)


def _snapshot(position: Position, seen: Seen, book: Book | None, drift_cost_usd: Decimal) -> PositionSnapshot:
    """Equity is the long leg's plus what the short's account gained since before the entry, plus its margin."""
    long_equity = seen.long.equity_usd if seen.long else None
    short_equity = seen.short.equity_usd if seen.short else None
    both = None if long_equity is None or short_equity is None else long_equity + short_equity
    detail: dict[str, Any] = {COST: f"{drift_cost_usd:.9f}"}
    for name in ("funding_expected_hourly", "lend_apr", "borrow_apr", "staking_apr"):
        if (value := getattr(seen, name)) is not None:
            detail[name] = f"{value:.9f}"
    if seen.long is not None:
        detail |= {
            "tokens": str(seen.long.qty),
            "debt_usd": str(seen.long.debt_usd),
            "token_price_usd": str(seen.token_price_usd or seen.long.price_usd),
            "redemption_rate": str(seen.redemption_rate or 1),
            "long_leverage": str(_short(seen.long.leverage)),
            "short_leverage": str(_short(seen.short.leverage)) if seen.short else None,
        }
    return PositionSnapshot(
        position_id=position.position_id,
        at_ms=seen.at_ms,
        equity_usd=_short(both),
        long_equity_usd=_short(long_equity),
        short_equity_usd=_short(short_equity),
        long_liquidation_distance=_short(seen.long.liquidation_distance) if seen.long else None,
        short_liquidation_distance=_short(seen.short.liquidation_distance) if seen.short else None,
        funding_rate_hourly=seen.context.funding_hourly if seen.context else None,
        long_price_usd=seen.sol_price_usd,
        short_price_usd=seen.context.mark_px if seen.context else None,
        delta_sol=book.long_sol - book.short_qty if book else None,
        detail=detail,
    )
