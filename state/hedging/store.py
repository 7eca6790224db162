"""`store.hedging`: what was read of the chain, what is open by symbol, what was hedged, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from sqlalchemy import Connection, delete, func, select, update

from evenkeel.errors import LostRace, OperatorError
from evenkeel.sealing import StoredToken
from evenkeel.types import IntentSpec
from state.database import (
    AnyFence,
    fetch,
    fetch_one,
    insert_new,
    log_move,
    table_of,
    values_of,
)
from state.hedging.amounts import ZERO, plus
from state.hedging.booking import HEDGES
from state.hedging.models import (
    OPEN_HEDGE,
    BlockedSymbol,
    BlockedSymbolTable,
    Exposure,
    FillRow,
    HedgeAccount,
    HedgeAccountTable,
    HedgeBlock,
    HedgeCursor,
    HedgeFill,
    OauthToken,
    OauthTokenTable,
    QuarantineRow,
    RawLogRow,
    SessionRow,
    SessionTable,
    VaultMoveRow,
)
from state.hedging.moving import EXPOSURES, SELL, locked, with_fills, with_hedges
from state.hedging.rebalances import Rebalances
from state.hedging.sent import BUSINESS, ORDER, SentOrders
from state.hedging.settling import Settlements
from state.hedging.windows import (
    CURSORS,
    FILLS,
    LOGS,
    MOVES,
    QUARANTINE,
    Booked,
    WindowRows,
    book_window,
    cursor_of,
    kept_hashes,
    reverse_from,
)
from state.intents import INTENTS
from state.models import Intent, where

HEDGING, HEDGE = BUSINESS, ORDER
SESSIONS, BLOCKED = table_of(SessionTable), table_of(BlockedSymbolTable)
ACCOUNTS, TOKENS = table_of(HedgeAccountTable), table_of(OauthTokenTable)
_OPEN = where(OPEN_HEDGE)["sqlite_where"]


class HedgingStore(Rebalances, SentOrders, Settlements):
    """What only hedged market making keeps; its intents, alerts and heartbeats are the core's, under the name `HEDGING`."""

    name = HEDGING

    def admit(self, db: Connection, spec: IntentSpec) -> None:
        """Raise LostRace where the symbol has an open hedge: it counts on nothing that may still be filled."""
        if spec.kind != HEDGE:
            return
        locked(db, spec.subject, self.clock.now_ms())
        mine = select(INTENTS.c.intent_id).where(_OPEN, INTENTS.c.subject == spec.subject)
        other = db.execute(mine).scalar()
        if other is not None and other != spec.intent_id:
            raise LostRace(f"{spec.subject} has an open hedge, {other}: the next waits for its end")

    def bind_account(self, venue: str, account: str) -> HedgeAccount:
        """Store whose account the hedges of this ledger go to. Raises OperatorError where they went to another one."""
        row = HedgeAccount(name=HEDGING, venue=venue, account=account, since_ms=self.clock.now_ms())
        with self._write() as db:
            insert_new(db, ACCOUNTS, values_of(row))
            found = fetch_one(db, HedgeAccount, select(ACCOUNTS).where(ACCOUNTS.c.name == HEDGING))
        assert found is not None
        if (found.venue, found.account) != (venue, account):
            raise OperatorError(
                f"this ledger's hedges go to {found.account} at {found.venue}, the settings name {account} at {venue}: "
                "give each account a ledger of its own (database.url)"
            )
        return found

    def bound_account(self) -> HedgeAccount | None:
        """Return whose account the hedges of this ledger go to; None before the first desk was opened."""
        with self._read() as db:
            return fetch_one(db, HedgeAccount, select(ACCOUNTS).where(ACCOUNTS.c.name == HEDGING))

    # --- the chain ---

    def book_window(self, window: WindowRows, fence: AnyFence = None) -> Booked:
        """Store a window: logs, fills, exposure, hashes and cursor, all or nothing. What was stored before changes nothing.

        Raises Bug for a window that leaves a gap, Retryable where its blocks do not continue those that were read.
        """
        with self._write(fence) as db:
            return book_window(db, window, self.clock.now_ms())

    def reverse_from(self, chain: str, contract: str, block: int, fence: AnyFence = None) -> list[FillRow]:
        """Take back what was booked of these blocks and on, and read on from there. Return the fills that were taken back."""
        now = self.clock.now_ms()
        with self._write(fence) as db:
            found = reverse_from(db, chain, contract, block, now)
            log_move(
                db,
                "chain",
                chain,
                "",
                f"from {block}",
                note=f"{len(found)} fills reversed",
                at_ms=now,
                fence=fence,
            )
            return found

    def cursor(self, chain: str, contract: str) -> HedgeCursor | None:
        """Up to where a contract was read; None before the first window."""
        with self._read() as db:
            return cursor_of(db, chain, contract)

    def cursors(self) -> list[HedgeCursor]:
        """Every contract that was read."""
        return self._rows(HedgeCursor, select(CURSORS).order_by(CURSORS.c.chain, CURSORS.c.contract))

    def kept_hashes(self, chain: str, contract: str, *, below: int, most: int = 64) -> list[HedgeBlock]:
        """Hashes of blocks as they were read, newest first, below a block."""
        with self._read() as db:
            return kept_hashes(db, chain, contract, below, most)

    def fills(
        self,
        symbol: str | None = None,
        *,
        since_ms: int = 0,
        until_ms: int | None = None,
        live_only: bool = True,
        transaction: str | None = None,
    ) -> list[FillRow]:
        """Fills on chain by block time. `live_only` leaves out those that the chain took back and their opposites."""
        query = select(FILLS).where(FILLS.c.at_ms >= since_ms)
        if symbol is not None:
            query = query.where(FILLS.c.symbol == symbol)
        if until_ms is not None:
            query = query.where(FILLS.c.at_ms <= until_ms)
        if transaction is not None:
            query = query.where(FILLS.c.transaction == transaction)
        if live_only:
            query = query.where(FILLS.c.is_live)
        return self._rows(
            FillRow, query.order_by(FILLS.c.at_ms, FILLS.c.block, FILLS.c.log_index, FILLS.c.id)
        )

    def newest_fills(self, most: int) -> list[FillRow]:
        """The newest fills that the chain still has, newest first."""
        query = select(FILLS).where(FILLS.c.is_live).order_by(FILLS.c.at_ms.desc(), FILLS.c.id.desc())
        return self._rows(FillRow, query.limit(most))

    def counts(self) -> tuple[dict[str, int], int]:
        """By symbol the fills that the chain still has, and how many increments of hedges there are; they change with each."""
        live = select(FILLS.c.symbol, func.count()).where(FILLS.c.is_live).group_by(FILLS.c.symbol)
        with self._read() as db:
            found = {str(symbol): int(count) for symbol, count in db.execute(live)}
            return found, int(db.execute(select(func.count()).select_from(HEDGES)).scalar_one())

    def raw_logs(self, transaction: str) -> list[RawLogRow]:
        """The logs of a transaction that concern us, live or not."""
        query = select(LOGS).where(LOGS.c.transaction == transaction)
        return self._rows(RawLogRow, query.order_by(LOGS.c.block, LOGS.c.log_index))

    def vault_moves(self, *, live_only: bool = True) -> list[VaultMoveRow]:
        """Deposits into our vaults and withdrawals from them, by block."""
        query = select(MOVES).order_by(MOVES.c.block, MOVES.c.log_index, MOVES.c.id)
        return self._rows(VaultMoveRow, query.where(MOVES.c.is_live) if live_only else query)

    def quarantine(self, *, live_only: bool = True) -> list[QuarantineRow]:
        """Logs of our own orders that could not be counted."""
        query = select(QUARANTINE).order_by(QUARANTINE.c.id)
        return self._rows(QuarantineRow, query.where(QUARANTINE.c.is_live) if live_only else query)

    # --- exposure and hedges ---

    def exposure(self, symbol: str) -> Exposure:
        """What is open of a symbol; nothing for one that was never filled."""
        [*found] = self._rows(Exposure, select(EXPOSURES).where(EXPOSURES.c.symbol == symbol))
        return found[0] if found else Exposure(symbol=symbol)

    def exposures(self) -> list[Exposure]:
        """Every symbol that was ever filled, by name."""
        return self._rows(Exposure, select(EXPOSURES).order_by(EXPOSURES.c.symbol))

    def recomputed(self, symbol: str) -> Exposure:
        """What is open by the rows of fills and hedges alone: the same as `exposure`, or the ledger is wrong."""
        with self._read() as db:
            mine = (FILLS.c.symbol == symbol, FILLS.c.is_live)
            query = select(FILLS).where(*mine).order_by(FILLS.c.at_ms, FILLS.c.block, FILLS.c.log_index)
            row = with_fills(Exposure(symbol=symbol), fetch(db, FillRow, query))
            return with_hedges(row, fetch(db, HedgeFill, select(HEDGES).where(HEDGES.c.symbol == symbol)))

    def oldest_open(self, symbol: str) -> FillRow | None:
        """The oldest fill that no hedge covers, hedges covering the oldest first; None where nothing is open.

        Of an open that no fill explains (a hedge that was filled above what was asked for, a reversal) the latest fill.
        """
        rest = self.exposure(symbol).open_shares
        if not rest:
            return None
        side = SELL if rest < 0 else "buy"
        rest, oldest = abs(rest), None
        mine = (FILLS.c.symbol == symbol, FILLS.c.is_live)
        query = (
            select(FILLS)
            .where(*mine)
            .order_by(FILLS.c.at_ms.desc(), FILLS.c.block.desc(), FILLS.c.log_index.desc())
        )
        with self._read() as db:
            for row in db.execution_options(yield_per=64).execute(query).mappings():
                fill = FillRow.model_validate(dict(row))
                if oldest is None:
                    oldest = fill
                if fill.side != side:
                    continue
                oldest, rest = fill, plus(rest, -fill.shares)
                if rest <= ZERO:
                    break
        return oldest

    def hedges(
        self, symbol: str | None = None, *, since_ms: int = 0, intent_id: str | None = None
    ) -> list[HedgeFill]:
        """Increments of hedges by the broker's time."""
        query = select(HEDGES).where(HEDGES.c.at_ms >= since_ms)
        if symbol is not None:
            query = query.where(HEDGES.c.symbol == symbol)
        if intent_id is not None:
            query = query.where(HEDGES.c.intent_id == intent_id)
        return self._rows(HedgeFill, query.order_by(HEDGES.c.at_ms, HEDGES.c.id))

    def open_order(self, symbol: str) -> Intent | None:
        """The one hedge of a symbol that has not ended, if any."""
        [*found] = self._rows(Intent, select(INTENTS).where(_OPEN, INTENTS.c.subject == symbol))
        return found[0] if found else None

    def open_orders(self) -> list[Intent]:
        """Every hedge that has not ended, oldest first."""
        return self._rows(
            Intent, select(INTENTS).where(_OPEN).order_by(INTENTS.c.created_ms, INTENTS.c.subject)
        )

    def orders(self, symbol: str | None = None, most: int | None = None) -> list[Intent]:
        """Hedges, newest first."""
        query = select(INTENTS).where(INTENTS.c.business == HEDGING, INTENTS.c.kind == HEDGE)
        if symbol is not None:
            query = query.where(INTENTS.c.subject == symbol)
        query = query.order_by(INTENTS.c.created_ms.desc(), INTENTS.c.subject, INTENTS.c.step.desc())
        return self._rows(Intent, query if most is None else query.limit(most))

    # --- the broker's calendar ---

    def keep_sessions(self, venue: str, rows: Sequence[SessionRow]) -> None:
        """Store days of a calendar in the place of what was known of them."""
        if not rows:
            return
        days = [one.day for one in rows]
        with self._write() as db:
            db.execute(delete(SESSIONS).where(SESSIONS.c.venue == venue, SESSIONS.c.day.in_(days)))
            db.execute(SESSIONS.insert(), [values_of(one) for one in rows])

    def sessions(self, venue: str, first: str, last: str) -> list[SessionRow]:
        """The days from `first` to `last` that were read, in order; a day that was not read is missing."""
        mine = (SESSIONS.c.venue == venue, SESSIONS.c.day >= first, SESSIONS.c.day <= last)
        return self._rows(SessionRow, select(SESSIONS).where(*mine).order_by(SESSIONS.c.day))

    # --- what stands in the way ---

    def block_symbol(self, symbol: str, why: str, until_ms: int, fence: AnyFence = None) -> BlockedSymbol:
        """Let a symbol have no new order until then; one that was blocked before counts up."""
        now = self.clock.now_ms()
        with self._write(fence) as db:
            before = fetch_one(db, BlockedSymbol, select(BLOCKED).where(BLOCKED.c.symbol == symbol))
            row = BlockedSymbol(
                symbol=symbol,
                why=why,
                since_ms=before.since_ms if before else now,
                until_ms=until_ms,
                times=before.times + 1 if before else 1,
            )
            if before is None:
                db.execute(BLOCKED.insert().values(**values_of(row)))
                log_move(db, "symbol", symbol, "", "blocked", note=why, at_ms=now, fence=fence)
            else:
                db.execute(update(BLOCKED).where(BLOCKED.c.symbol == symbol).values(**values_of(row)))
        return row

    def unblock_symbol(self, symbol: str, why: str, fence: AnyFence = None) -> bool:
        """Let a symbol have orders again; False where it was not blocked."""
        with self._write(fence) as db:
            found = db.execute(delete(BLOCKED).where(BLOCKED.c.symbol == symbol)).rowcount == 1
            if found:
                now = self.clock.now_ms()
                log_move(db, "symbol", symbol, "blocked", "", note=why, at_ms=now, fence=fence)
            return found

    def blocked(self) -> dict[str, BlockedSymbol]:
        """By symbol, why it gets no new order, also where that time is over and nothing was tried since."""
        return {one.symbol: one for one in self._rows(BlockedSymbol, select(BLOCKED))}

    # --- what a person decides ---

    def note_choice(self, intent_id: str, words: str, fence: AnyFence = None) -> None:
        """Append to the audit log which of the broker's orders a person took for a hedge, and why."""
        with self._write(fence) as db:
            log_move(
                db,
                "intent",
                intent_id,
                "unknown",
                "chosen",
                note=words,
                at_ms=self.clock.now_ms(),
                fence=fence,
            )

    # --- logins ---

    def token(self, name: str) -> StoredToken | None:
        """A sealed login; None where nobody logged in."""
        [*found] = self._rows(OauthToken, select(TOKENS).where(TOKENS.c.name == name))
        return StoredToken(**found[0].model_dump()) if found else None

    def keep_token(self, kept: StoredToken) -> None:
        """Store a login in the place of version `kept.version - 1` (0: none). Raises LostRace where another one is there."""
        row = OauthToken(
            name=kept.name,
            version=kept.version,
            sealed=kept.sealed,
            login_ms=kept.login_ms,
            access_ms=kept.access_ms,
        )
        with self._write() as db:
            if kept.version == 1:
                is_stored = insert_new(db, TOKENS, values_of(row))
            else:
                mine = (TOKENS.c.name == kept.name, TOKENS.c.version == kept.version - 1)
                is_stored = db.execute(update(TOKENS).where(*mine).values(**values_of(row))).rowcount == 1
        if not is_stored:
            raise LostRace(f"the login {kept.name} was changed meanwhile: it is read again")


def shares_of(rows: Iterable[HedgeFill]) -> Decimal:
    """Return the shares of increments, to the last digit."""
    found = ZERO
    for one in rows:
        found = plus(found, one.qty)
    return found
