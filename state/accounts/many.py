"""Readings over every account at once: of a thousand of them only the columns that a tick needs, and no query for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeVar

from sqlalchemy import Select, bindparam, func, or_, select, update

from evenkeel.types import VenueName
from state.accounts.models import (
    AccountTrade,
    AgentTable,
    Deployment,
    DeploymentState,
    TradeState,
)
from state.accounts.settling import DEPLOYMENTS, SETTLEMENTS, TRADES
from state.database import Database, table_of
from state.intents import ATTEMPTS, INTENTS

ACCOUNTS = "accounts"
OSTIUM, HYPERLIQUID = VenueName.OSTIUM.value, VenueName.HYPERLIQUID.value
"""Where managed accounts are; the first is meant where none is named."""
AGENTS = table_of(AgentTable)
HELD = (TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)
LIVE = (TradeState.PENDING, *HELD)
GUARDED = (TradeState.OPEN, TradeState.CLOSING)
IN_ONE = 5_000
"""Values of one query."""
V = TypeVar("V")


class OpenTrade(NamedTuple):
    """What a stop is judged by: the columns of `AccountTrade` of the same names."""

    name: str
    state: TradeState
    pair: int
    deployment_id: str | None
    is_long: bool
    leverage: Decimal
    collateral_usdc: Decimal
    paid_usdc: Decimal
    open_price: Decimal | None
    best_price: Decimal | None
    stop: Decimal | None
    stop_by: str


class HeldTrade(NamedTuple):
    """What the venue's own list is compared with: the columns of `AccountTrade` of the same names."""

    name: str
    trade_id: str
    state: TradeState
    collateral_usdc: Decimal


_AT_OSTIUM = TRADES.c.venue == OSTIUM
_BY_OSTIUM = DEPLOYMENTS.c.agent_id.in_(select(AGENTS.c.agent_id).where(AGENTS.c.venue == OSTIUM))
_OPEN = select(*(TRADES.c[name] for name in OpenTrade._fields)).where(TRADES.c.state.in_(GUARDED), _AT_OSTIUM)
_HELD = select(*(TRADES.c[name] for name in HeldTrade._fields)).where(
    TRADES.c.state.in_(HELD), TRADES.c.trade_id.is_not(None), _AT_OSTIUM
)
_BEST = (
    update(TRADES)
    .where(
        TRADES.c.name == bindparam("its_name"),
        or_(*(TRADES.c.state == state for state in GUARDED)),  # a list cannot be given with many rows
    )
    .values(best_price=bindparam("its_best"), updated_ms=bindparam("now_ms"))
)
_RULES = select(DEPLOYMENTS.c.deployment_id, DEPLOYMENTS.c.agent_id)


class Accounts(Database):
    """Every account's rows at once; where nothing else is said, those at Ostium."""

    def deployed(self, *, live: bool = False) -> frozenset[str]:
        """Accounts that have a deployment: whatever became of it, or with `live` one that is not revoked."""
        query = select(DEPLOYMENTS.c.account).where(_BY_OSTIUM).distinct()
        if live:
            query = query.where(DEPLOYMENTS.c.state != DeploymentState.REVOKED)
        return frozenset(self._column(query))

    def watched(self) -> list[str]:
        """Accounts with a deployment that is not revoked, or with a trade that is open; in order."""
        held = self._column(select(TRADES.c.account).where(TRADES.c.state.in_(HELD), _AT_OSTIUM).distinct())
        return sorted(self.deployed(live=True).union(held))

    def holding(self, accounts: Iterable[str]) -> frozenset[tuple[str, str]]:
        """At which venue which of these accounts have a trade of a deployment that is not over."""
        query = (
            select(TRADES.c.venue, TRADES.c.account)
            .where(TRADES.c.state.in_(LIVE), TRADES.c.deployment_id.is_not(None))
            .distinct()
        )
        found = set[tuple[str, str]]()
        with self._read() as db:
            for some in _parts(accounts):
                found |= {(at, who) for at, who in db.execute(query.where(TRADES.c.account.in_(some)))}
        return frozenset(found)

    def deployments_of(self, accounts: Sequence[str]) -> list[Deployment]:
        """Deployments of these accounts that are not revoked, by name."""
        query = select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.deployment_id)
        mine = DEPLOYMENTS.c.account.in_(accounts) & _BY_OSTIUM
        return self._rows(Deployment, query.where(mine, DEPLOYMENTS.c.state != DeploymentState.REVOKED))

    def held_by(self, accounts: Sequence[str]) -> list[AccountTrade]:
        """Trades of these accounts that are open, or wait for their price in a place of the venue's; oldest first."""
        waits = (TRADES.c.state == TradeState.PENDING) & TRADES.c.place.is_not(None)
        query = select(TRADES).order_by(TRADES.c.created_ms, TRADES.c.name)
        return self._rows(
            AccountTrade,
            query.where(TRADES.c.account.in_(accounts), _AT_OSTIUM, TRADES.c.state.in_(HELD) | waits),
        )

    def agents_of_deployments(self) -> dict[str, str]:
        """By deployment, its agent."""
        with self._read() as db:
            return {deployment: agent for deployment, agent in db.execute(_RULES)}

    # --- trades ---

    def open_trades(self) -> list[OpenTrade]:
        """Every trade that is OPEN or CLOSING."""
        with self._read() as db:
            return [OpenTrade(name, TradeState(state), *rest) for name, state, *rest in db.execute(_OPEN)]

    def open_by_market(self) -> dict[int, int]:
        """By market, how many trades are OPEN or CLOSING."""
        query = select(TRADES.c.pair, func.count()).where(TRADES.c.state.in_(GUARDED), _AT_OSTIUM)
        with self._read() as db:
            return {pair: many for pair, many in db.execute(query.group_by(TRADES.c.pair))}

    def held_trades(self) -> dict[str, HeldTrade]:
        """Every trade that is open, by its number on the chain."""
        with self._read() as db:
            rows = [
                HeldTrade(name, ident, TradeState(state), usdc)
                for name, ident, state, usdc in db.execute(_HELD)
            ]
        return {one.trade_id: one for one in rows}

    def trade_of(self, chain: str, trade_id: str) -> AccountTrade | None:
        """The trade of a number on the chain; None where none is stored."""
        found = self._rows(
            AccountTrade, select(TRADES).where(TRADES.c.chain == chain, TRADES.c.trade_id == trade_id)
        )
        return found[0] if found else None

    def owners(self, chain: str, trade_ids: Iterable[int]) -> dict[int, str]:
        """By number on the chain, whose trade it is; those that are not stored are left out."""
        query = select(TRADES.c.trade_id, TRADES.c.account).where(TRADES.c.chain == chain)
        found = dict[int, str]()
        with self._read() as db:
            for some in _parts(str(one) for one in trade_ids):
                for ident, account in db.execute(query.where(TRADES.c.trade_id.in_(some))):
                    found[int(ident)] = account
        return found

    def without_number(self, accounts: Iterable[str]) -> list[str]:
        """Trades of these accounts that have no number on the chain yet, or never got one."""
        query = select(TRADES.c.name).where(
            TRADES.c.trade_id.is_(None), TRADES.c.state != TradeState.CLOSED, _AT_OSTIUM
        )
        return [
            name
            for some in _parts(accounts)
            for name in self._column(query.where(TRADES.c.account.in_(some)))
        ]

    def stops_of_users(self) -> list[tuple[str, Decimal | None]]:
        """Trades of deployments, at every venue, whose stop the user has moved, and where it stands; None where he took it
        away.
        """
        query = (
            select(TRADES.c.name, TRADES.c.stop)
            .where(TRADES.c.state.in_(LIVE), TRADES.c.stop_by == "user", TRADES.c.deployment_id.is_not(None))
            .order_by(TRADES.c.name)
        )
        with self._read() as db:
            return [(name, stop) for name, stop in db.execute(query)]

    def over(self, names: Iterable[str]) -> frozenset[str]:
        """Which of these trades have ended."""
        ended = select(TRADES.c.name).where(TRADES.c.state.not_in(LIVE))
        return frozenset(
            name for some in _parts(names) for name in self._column(ended.where(TRADES.c.name.in_(some)))
        )

    def note_best(self, prices: Mapping[str, Decimal]) -> None:
        """Store the best price of each of these trades, in one transaction; one that is not open any more is left as it is."""
        now = self.clock.now_ms()
        rows = [{"its_name": name, "its_best": best, "now_ms": now} for name, best in prices.items()]
        if rows:
            with self._write() as db:
                db.execute(_BEST, rows)

    def last_blocks(self, names: Iterable[str]) -> dict[str, int]:
        """By trade, the last block of which something was booked."""
        query = select(SETTLEMENTS.c.trade, SETTLEMENTS.c.block)
        found = dict[str, int]()
        with self._read() as db:
            for some in _parts(names):
                for name, block in db.execute(query.where(SETTLEMENTS.c.trade.in_(some))):
                    found[name] = max(block, found.get(name, 0))
        return found

    # --- orders ---

    def sent(self, kind: str, names: Iterable[str]) -> dict[str, str]:
        """By hash, every transaction that was signed for an order of this kind of these trades, and of which each is."""
        query = (
            select(INTENTS.c.subject, ATTEMPTS.c.key)
            .join(ATTEMPTS, ATTEMPTS.c.intent_id == INTENTS.c.intent_id)
            .where(INTENTS.c.business == ACCOUNTS, INTENTS.c.kind == kind)
        )
        found = dict[str, str]()
        with self._read() as db:
            for some in _parts(names):
                for name, key in db.execute(query.where(INTENTS.c.subject.in_(some))):
                    found.update({copy["hash"]: name for copy in key.get("copies", ())})
        return found

    def last_tries(self, names: Iterable[str]) -> dict[str, int]:
        """By charge, when the last order to pull it changed, ms UTC; one that nobody has tried is left out."""
        query = (
            select(INTENTS.c.subject, func.max(INTENTS.c.updated_ms))
            .where(INTENTS.c.business == ACCOUNTS, INTENTS.c.kind == "pull")
            .group_by(INTENTS.c.subject)
        )
        found = dict[str, int]()
        with self._read() as db:
            for some in _parts(names):
                found.update({name: at for name, at in db.execute(query.where(INTENTS.c.subject.in_(some)))})
        return found

    def numbers(self, intents: Iterable[str]) -> dict[str, int]:
        """By intent, the number of its sender that its last attempt has; one that was never signed is left out."""
        query = select(ATTEMPTS.c.intent_id, ATTEMPTS.c.key).order_by(ATTEMPTS.c.n)
        found = dict[str, int]()
        with self._read() as db:
            for some in _parts(intents):
                for name, key in db.execute(query.where(ATTEMPTS.c.intent_id.in_(some))):
                    found[name] = int(key.get("nonce", 0))
        return found

    def _column(self, query: Select[tuple[str]]) -> list[str]:
        with self._read() as db:
            return list(db.execute(query).scalars())


def _parts(values: Iterable[V]) -> Iterator[list[V]]:
    """Values of several queries, as many as one takes."""
    whole = list(values)
    return (whole[start : start + IN_ONE] for start in range(0, len(whole), IN_ONE))
