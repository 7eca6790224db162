"""Idle USDC beside the long, which may mend or enlarge it: read once an hour, and on ticks that find the long weak."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from evenkeel.errors import UNREAD, OperatorError
from evenkeel.legs import LegSide
from evenkeel.units import HOUR_MS
from state.carry.models import Position
from state.watch_models import Severity
from strategy.carry.keeping_size import GROWTH_RULE, RESERVE_RULE, propose_transfer, transfer_words
from strategy.carry.limits import CarryLimits
from strategy.carry.rebalance import Book, Rates, is_weak
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.growing import is_left_alone
from tasks.carry.expected import day_funding, hour_funding
from tasks.carry.watching.alerts import TRANSFER
from tasks.carry.watching.breakers import halted
from tasks.carry.watching.seen import Seen

TIMEOUT_S = 2.0
"""Wall seconds that a tick waits for the wallet: what is weak can be made smaller without it."""
AGAIN_MS = 60_000
"""After it could not be read, for so long nobody asks again."""


class Money:
    """Decides on which ticks the wallet is asked, and puts what it holds into the book that the rules judge."""

    def __init__(self, desk: CarryDesk) -> None:
        self._desk = desk
        self._judged_hour: int | None = None
        """The last hour in which the wallet was read and growth judged."""
        self._again_ms = 0
        """The wallet is not asked before, for it could not be read."""
        self._judge_again_ms = 0
        """Growth is not judged before, for a rate was missing."""
        self._judged: tuple[Book, Decimal, Rates | None, CarryLimits] | None = None
        """What a transfer is judged by, until that is written down."""

    async def beside(self, book: Book, position: Position, seen: Seen, limits: CarryLimits) -> Book:
        """Return the book with `wallet_usd`, and with `rates` once an hour; unchanged where neither is wanted now or the
        wallet cannot be read, which holds up no other rule.
        """
        now_ms, hour = seen.at_ms, seen.at_ms // HOUR_MS
        if not book.long_can_resize:
            return book
        weak = is_weak(book, LegSide.LONG, limits.risk)
        mends = weak and not is_left_alone(position, RESERVE_RULE, now_ms)
        is_due = hour != self._judged_hour and now_ms >= self._judge_again_ms
        judges = not weak and is_due and not is_left_alone(position, GROWTH_RULE, now_ms)
        if (not mends and not judges) or now_ms < self._again_ms:
            return book
        usdc = await self._idle_usdc()
        if usdc is None:
            self._again_ms = now_ms + AGAIN_MS
            return book
        held = max(Decimal(0), usdc - limits.strategy.wallet_kept_usd)
        rates = _rates_of(self._desk, position, seen)
        if judges and rates is None:
            self._judge_again_ms = now_ms + AGAIN_MS
        elif judges:
            self._judged_hour = hour
        if judges:
            self._judged = (book, held, rates, limits)
        grows = judges and not halted(self._desk)
        return book.model_copy(update={"wallet_usd": held, "rates": rates if grows else None})

    def note(self, position: Position) -> None:
        """Alert a person to the transfer that would level both sides; the alert ends when they are near enough."""
        if self._judged is None:
            return
        store, subject, (book, held, rates, limits) = self._desk.store, position.position_id, self._judged
        asked = any(row.kind == TRANSFER for row in store.open_alerts_of(subject))
        wanted = propose_transfer(book, held, limits, asked_already=asked)
        if wanted is None:
            store.ack_alert(TRANSFER, subject=subject)
        else:
            words = transfer_words(wanted, book, held, rates, limits)
            store.alert(TRANSFER, Severity.WARNING, words, subject=subject)
        self._judged = None

    def judge_again(self) -> None:
        """Something was changed: growth is judged at the next tick."""
        self._judged_hour = None

    async def _idle_usdc(self) -> Decimal | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return (await self._desk.long.wallet_balances()).usdc
        except (*UNREAD, OperatorError, TimeoutError):
            return None


def _rates_of(desk: CarryDesk, position: Position, seen: Seen) -> Rates | None:
    """What more of the position is expected to earn; None while a rate of it is not known."""
    funding, lend, borrow = seen.funding_expected_hourly, seen.lend_apr, seen.borrow_apr
    if funding is None or lend is None or borrow is None:
        return None
    return Rates(
        funding_hourly=funding,
        now_hourly=hour_funding(
            desk, position.underlying, seen.context.funding_hourly if seen.context else None
        ),
        day_hourly=day_funding(desk, position.underlying),
        lend_apr=lend,
        borrow_apr=borrow,
        staking_apr=seen.staking_apr,
    )
