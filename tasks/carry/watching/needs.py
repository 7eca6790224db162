"""What an exit needs, read at a pace of its own and judged by `strategy.carry.needs`; nothing here ever holds up a tick."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from evenkeel.clock import Clock
from evenkeel.errors import EvenkeelError, OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from evenkeel.units import HOUR_MS
from state.carry.models import Position
from state.engine import parse_url
from state.store import Store
from state.watch_models import Severity
from strategy.carry.limits import CarryLimits
from strategy.carry.needs.listed import judge_needs
from strategy.carry.needs.state import Level, NeedState
from strategy.carry.readings import NeedReadings
from tasks.carry.mark import UNDERLYING
from tasks.carry.watching.trial import trial_fields
from venues.asgard.liquidity import lender_tokens
from venues.asgard.mints import TOKENS, USDC
from venues.asgard.models import LiquiditySource
from venues.asgard.venue import AsgardVenue
from venues.hyperliquid.equity import READABLE_MODES
from venues.perp import PerpContext
from venues.protocol import PerpVenue
from venues.timing import VenueTime

log = logging.getLogger("evenkeel.needs")
TIMEOUT_S = 10.0
"""Wall seconds for one reading: the next tick must not wait for it."""
HEAVY_A_MINUTE = 5
"""Heavy readings of all accounts of a process together: 100 of Hyperliquid's weight of 1,200."""
UNREAD_MS = HOUR_MS
"""For so long a need may stay unread before a person is warned that nobody knows."""
MARKETS_TTL_MS = 300_000
MODE_TTL_MS = 50_000
HEAVY = frozenset({"agent", "mode", "perp"})
"""Readings that cost a second of Hyperliquid's request budget each: one a tick, so that no tick waits for it."""
ASKED = len(HEAVY) - 1
"""A tick has read the market."""
MODE_AT_ENTRY, LENDER_COVERED, NOTED = "account_mode", "lender_covered", "needs_noted"
"""Facts that are kept with a position."""

Fields = dict[str, Any]


class Around(Protocol):
    """What a reading is taken with: a desk has all of it, and so has the doctor without a ledger."""

    settings: Settings
    clock: Clock
    long: AsgardVenue
    short: PerpVenue
    chain_time: VenueTime


@dataclass(frozen=True)
class Subject:
    """What the needs are read for: a market, and the position that is held in it, if one is."""

    asset: str
    protocol: int
    position: Position | None = None
    tokens: Decimal | None = None


@dataclass(frozen=True)
class Reader:
    """One reading: how often it is taken, which venue must be in reach for it, and what it fills in."""

    name: str
    every_s: int
    venue: VenueName | None
    read: Callable[[Around, Subject], Awaitable[Fields]]


async def _agent(desk: Around, subject: Subject) -> Fields:
    key = await desk.short.agent_key()
    return {"agent_address": key.address, "agent_approved": key.approved, "agent_until_ms": key.until_ms}


async def _venue_time(desk: Around, subject: Subject) -> Fields:
    """A tick reads the account anyway, and with it the venue's time; who has not read it yet does now."""
    if desk.short.time.ahead_ms is None:
        await desk.short.account()
    return {}


async def _mode(desk: Around, subject: Subject) -> Fields:
    mode = await desk.short.mode(MODE_TTL_MS)
    return {"account_mode": mode, "account_mode_readable": mode in READABLE_MODES}


async def _wallet(desk: Around, subject: Subject) -> Fields:
    return {"wallet": desk.long.wallet, "wallet_lamports": await desk.long.rpc.get_balance(desk.long.wallet)}


def perp_fields(context: PerpContext) -> Fields:
    """What a reading of the market says of its state: one without a mid price has no book."""
    return {"perp_delisted": False, "perp_halted": context.mid_px is None}


async def _perp(desk: Around, subject: Subject) -> Fields:
    try:
        return perp_fields(await desk.short.market.context(UNDERLYING))
    except OperatorError:  # it is not among the listed any more
        return {"perp_delisted": True, "perp_halted": True}


async def _lender(desk: Around, subject: Subject) -> Fields:
    source = _source(await desk.long.markets(max_age_ms=MARKETS_TTL_MS), subject)
    if source is None:
        return {"lending_active": False}
    known = TOKENS[subject.asset]
    on_chain = await lender_tokens(desk.long.rpc, subject.protocol, source.token_a_bank, known)
    tokens = source.token_a_max_borrow_capacity if on_chain is None else on_chain
    return {"lending_active": source.is_active, "lender_tokens": tokens}


def _source(strategies: list[Any], subject: Subject) -> LiquiditySource | None:
    wanted = (TOKENS[subject.asset].mint, USDC.mint)
    for strategy in strategies:
        if (strategy.token_a_mint, strategy.token_b_mint) == wanted:
            for source in strategy.liquidity_sources:
                if source.lending_protocol == subject.protocol:
                    return source
    return None


async def _chain_time(desk: Around, subject: Subject) -> Fields:
    """The stamp of the newest confirmed block: whole seconds, some of them in the past."""
    asked_ms = desk.clock.now_ms()
    stamp = await desk.long.rpc.read("getBlockTime", [await desk.long.rpc.get_slot("confirmed")])
    if stamp is not None:
        await desk.chain_time.note(asked_ms, int(stamp) * 1000, BLOCK_LAG_MS)
    return {}


BLOCK_LAG_MS = 30_000
"""How old the newest block may look: only beyond that does it say that our clock is ahead."""


async def _disk(desk: Around, subject: Subject) -> Fields:
    """Free space and the write-ahead log's size; nothing where the ledger is no file of this host."""
    url = parse_url(desk.settings.database.url)
    if not url.drivername.startswith("sqlite"):
        return {}
    path = Path(str(url.database)).resolve()
    wal = path.with_name(path.name + "-wal")
    return {
        "free_bytes": shutil.disk_usage(path.parent).free,
        "wal_bytes": wal.stat().st_size if wal.exists() else 0,
    }


READERS: tuple[Reader, ...] = (
    Reader("agent", 300, VenueName.HYPERLIQUID, _agent),
    Reader("venue time", 60, VenueName.HYPERLIQUID, _venue_time),
    Reader("mode", 60, VenueName.HYPERLIQUID, _mode),
    Reader("perp", 300, VenueName.HYPERLIQUID, _perp),
    Reader("wallet", 60, VenueName.ASGARD, _wallet),
    Reader("lender", 300, VenueName.ASGARD, _lender),
    Reader("chain time", 60, VenueName.ASGARD, _chain_time),
    Reader("disk", 30, None, _disk),
)


class Needs:
    """The needs of one position, or of an entry: what was read last, and when."""

    def __init__(self, desk: Around, subject: Subject, beside: int = 1) -> None:
        """`beside`: how many accounts of this process read their needs, on one request budget."""
        self._heavy_s = beside * ASKED * 60 / HEAVY_A_MINUTE
        self._desk = desk
        self._subject = subject
        self._asked_ms: dict[str, int] = {}
        if beside > HEAVY_A_MINUTE:  # those of many accounts are spread from the start
            began_ms = desk.clock.now_ms()
            for one in READERS:
                if one.name in HEAVY:
                    self._asked_ms[one.name] = began_ms - int(self._every_ms(one) * random.random())
        self._fields: Fields = {}

    async def read(
        self,
        out_of_reach: frozenset[VenueName] = frozenset(),
        context: PerpContext | None = None,
        *,
        all_at_once: bool = True,
    ) -> None:
        """Take the readings that are due, side by side; one that fails leaves what was known before. Raises nothing.

        `context`: the market as it has just been read. Without `all_at_once` of the heavy ones only that which was read
        longest ago, so that a slow watch comes to each.
        """
        now = self._desk.clock.now_ms()
        if context is not None:
            self._fields |= perp_fields(context)
            self._asked_ms["perp"] = now
        due = [
            one
            for one in READERS
            if one.venue not in out_of_reach and now - self._asked_ms.get(one.name, 0) >= self._every_ms(one)
        ]
        if not all_at_once:
            heavy = [one for one in due if one.name in HEAVY]
            heavy.sort(key=lambda one: self._asked_ms.get(one.name, 0))
            due = [one for one in due if one not in heavy[1:]]
        self._asked_ms.update(dict.fromkeys((one.name for one in due), now))
        for fields in await asyncio.gather(*(self._take(one) for one in due)):
            self._fields |= fields

    def _every_ms(self, reader: Reader) -> float:
        return 1000 * (max(reader.every_s, self._heavy_s) if reader.name in HEAVY else reader.every_s)

    async def _take(self, reader: Reader) -> Fields:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await reader.read(self._desk, self._subject)
        except (EvenkeelError, TimeoutError, OSError, ValueError, KeyError, TypeError) as fault:
            log.info("%s cannot be read now: %s", reader.name, fault)
            return {}

    def judge(self) -> tuple[NeedState, ...]:
        """Every need on what was read last."""
        settings = self._desk.settings
        return judge_needs(self.readings(), CarryLimits(risk=settings.limits, strategy=settings.strategy))

    def readings(self) -> NeedReadings:
        """What was read last, as the needs judge it."""
        desk, subject = self._desk, self._subject
        facts = subject.position.facts if subject.position else {}
        clocks: dict[str, VenueTime] = {
            "Hyperliquid": desk.short.time,
            "Asgard": desk.long.client.time,
            "Solana": desk.chain_time,
        }
        return NeedReadings(
            now_ms=desk.short.time.now_ms(),
            asset=subject.asset,
            position_tokens=subject.tokens,
            clock_ahead_ms={
                name: ahead for name, one in clocks.items() if (ahead := one.ahead_ms) is not None
            },
            account_mode_at_entry=facts.get(MODE_AT_ENTRY),
            lender_covered=bool(facts.get(LENDER_COVERED)),
            **(trial_fields(subject.position) if subject.position else {}),
            **self._fields,
        )

    def follow(self, position: Position, tokens: Decimal | None) -> None:
        """Follow the position: what is kept with it, and what it holds now."""
        self._subject = Subject(self._subject.asset, self._subject.protocol, position, tokens)

    def keep_facts(self, store: Store) -> None:
        """Keep what later readings are held against: the mode the account was first seen in, and a lender that had enough."""
        position, tokens = self._subject.position, self._subject.tokens
        if position is None:
            return
        new: Fields = {}
        if (mode := self._fields.get("account_mode")) and MODE_AT_ENTRY not in position.facts:
            new[MODE_AT_ENTRY] = mode
        lender = self._fields.get("lender_tokens")
        if (
            lender is not None
            and tokens is not None
            and lender >= tokens
            and LENDER_COVERED not in position.facts
        ):
            new[LENDER_COVERED] = True
        if new:
            kept = store.carry.set_facts(position.position_id, new)
            self.follow(kept, tokens)

    def note(self, store: Store, states: tuple[NeedState, ...]) -> None:
        """Raise what is new or has gone a phase further, close what is over; what merely goes on is not written again.

        How far each had come, and since when one cannot be read, is kept with the position: the next process goes on from it.
        """
        position = self._subject.position
        assert position is not None
        subject = position.position_id
        rows = {row.kind: row for row in store.open_alerts_of(subject)}
        now_ms, kept = self._desk.clock.now_ms(), position.facts.get(NOTED) or {}
        phases: dict[str, str] = dict(kept.get("phases") or {})
        unread: dict[str, int] = {}
        for one in states:
            row = rows.get(one.name)
            if one.level is Level.UNKNOWN:
                unread[one.name] = int((kept.get("unread_ms") or {}).get(one.name, now_ms))
                if now_ms - unread[one.name] < UNREAD_MS:
                    continue
            if one.level is Level.FINE:
                if row is not None:
                    store.ack_alert(one.name, subject=subject)
                phases.pop(one.name, None)
                continue
            severity = Severity.CRITICAL if one.level is Level.CRITICAL else Severity.WARNING
            further = row is not None and (
                row.severity is not severity or phases.get(one.name, one.phase) != one.phase
            )
            calmer = row is not None and row.severity is Severity.CRITICAL and severity is not row.severity
            if row is not None and further and not calmer:  # a phase further: an alert of its own
                store.ack_alert(one.name, subject=subject, followed=True)
            if row is None or further:
                text = f"{one.reason}: {one.advice}"
                store.alert(one.name, severity, text, subject=subject, exact=True)
            phases[one.name] = one.phase
        noted = {"phases": phases, "unread_ms": unread}
        if noted != {"phases": kept.get("phases") or {}, "unread_ms": kept.get("unread_ms") or {}}:
            row_now = store.carry.set_facts(subject, {NOTED: noted})
            self.follow(row_now, self._subject.tokens)


async def read_needs(desk: Around, asset: str, protocol: int, context: PerpContext) -> Needs:
    """Return the needs of a position that is not held yet, read afresh but for the market. Raises nothing."""
    needs = Needs(desk, Subject(asset, protocol))
    await needs.read(context=context)
    return needs
