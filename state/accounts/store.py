"""`store.accounts`: users, agents, deployments, their trades, settlements and charges."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, select, update

from evenkeel.errors import Bug, LostRace, OperatorError
from evenkeel.types import IntentSpec
from state.accounts.many import ACCOUNTS, AGENTS, OSTIUM, Accounts
from state.accounts.models import (
    AccountTrade,
    Agent,
    ChargeRow,
    Deployment,
    DeploymentState,
    SettlementRow,
    TradeState,
    User,
    UserTable,
)
from state.accounts.settling import (
    CHARGES,
    DEPLOYMENTS,
    SETTLEMENTS,
    TRADES,
    OwedFor,
    SettledOrder,
    change_trade,
    live_from,
    settle,
    take_back,
)
from state.columns import plain_json
from state.database import AnyFence, fetch, fetch_one, insert_new, log_move, table_of, values_of

USERS = table_of(UserTable)
ENDED = (TradeState.CLOSED, TradeState.FAILED)
TO_COLLECT = ("DUE", "OUTSTANDING")
_D = DeploymentState
MOVES = {_D.ACTIVE: {_D.PAUSED, _D.REVOKED}, _D.PAUSED: {_D.ACTIVE, _D.REVOKED}, _D.REVOKED: {_D.PAUSED}}
"""A deployment that was revoked is paused first when its user names the delegate again."""


class AccountsStore(Accounts):
    """What only managed accounts keep; their intents, fees and alerts are the core's, under the name `ACCOUNTS`."""

    name = ACCOUNTS

    def admit(self, db: Connection, spec: IntentSpec) -> None:
        """Raise LostRace for a trade that has ended or a charge that is settled, Bug for one that is not stored."""
        if spec.kind == "pull":
            charge = fetch_one(db, ChargeRow, select(CHARGES).where(CHARGES.c.charge_id == spec.subject))
            if charge is None:
                raise Bug(f"charge {spec.subject} is not stored")
            if charge.state not in TO_COLLECT:
                raise LostRace(f"charge {spec.subject} is {charge.state}: nothing is pulled for it")
            return
        trade = fetch_one(db, AccountTrade, select(TRADES).where(TRADES.c.name == spec.subject))
        if trade is None:
            raise Bug(f"trade {spec.subject} is not stored")
        if trade.state in ENDED:
            raise LostRace(f"trade {spec.subject} is {trade.state}: nothing more is done with it")

    # --- who lets whom act ---

    def add_user(self, account: str, name: str = "") -> User:
        """Store a wallet; the same again changes nothing."""
        row = User(account=account, name=name, created_ms=self.clock.now_ms())
        with self._write() as db:
            insert_new(db, USERS, values_of(row))
            found = fetch_one(db, User, select(USERS).where(USERS.c.account == account))
        assert found is not None
        return found

    def add_agent(
        self,
        agent_id: str,
        venue: str,
        key_address: str,
        share: Decimal,
        fee_model: str,
        rules: dict[str, Any],
    ) -> Agent:
        """Store an agent. Raises OperatorError where one of that name has another key, venue, share or model."""
        row = Agent(
            agent_id=agent_id,
            venue=venue,
            key_address=key_address,
            share=share,
            fee_model=fee_model,
            rules=plain_json(rules),
            created_ms=self.clock.now_ms(),
        )
        with self._write() as db:
            insert_new(db, AGENTS, values_of(row))
            found = fetch_one(db, Agent, select(AGENTS).where(AGENTS.c.agent_id == agent_id))
        assert found is not None
        if found.model_copy(update={"created_ms": row.created_ms}) != row:
            raise OperatorError(
                f"agent {agent_id} is stored with other terms: give the new ones another name"
            )
        return found

    def agent(self, agent_id: str) -> Agent:
        """The agent; raises Bug where there is none."""
        with self._read() as db:
            found = fetch_one(db, Agent, select(AGENTS).where(AGENTS.c.agent_id == agent_id))
        if found is None:
            raise Bug(f"agent {agent_id!r} is not stored")
        return found

    def agents(self) -> list[Agent]:
        """All agents, oldest first."""
        return self._rows(Agent, select(AGENTS).order_by(AGENTS.c.created_ms, AGENTS.c.agent_id))

    def deploy(self, deployment_id: str, account: str, agent_id: str, limits: dict[str, Any]) -> Deployment:
        """Store that a user lets an agent trade, PAUSED until the chain shows it; the same again gives the stored one.

        Raises OperatorError where the user has a deployment of another key: a wallet has one delegate.
        """
        now = self.clock.now_ms()
        agent = self.agent(agent_id)
        row = Deployment(
            deployment_id=deployment_id,
            account=account,
            agent_id=agent_id,
            state=DeploymentState.PAUSED,
            limits=plain_json(limits),
            created_ms=now,
            updated_ms=now,
        )
        with self._write() as db:
            mine = select(AGENTS).join(DEPLOYMENTS, DEPLOYMENTS.c.agent_id == AGENTS.c.agent_id)
            mine = mine.where(
                DEPLOYMENTS.c.account == account, DEPLOYMENTS.c.state != DeploymentState.REVOKED
            )
            for other in fetch(db, Agent, mine):
                if other.key_address != agent.key_address and other.venue == agent.venue:
                    raise OperatorError(
                        f"{account} lets {other.key_address} act (agent {other.agent_id}): a wallet has one delegate"
                    )
            if insert_new(db, DEPLOYMENTS, values_of(row)):
                log_move(db, "deployment", deployment_id, "", row.state, note="stored", at_ms=now, fence=None)
            found = fetch_one(
                db,
                Deployment,
                select(DEPLOYMENTS).where(
                    DEPLOYMENTS.c.account == account, DEPLOYMENTS.c.agent_id == agent_id
                ),
            )
        assert found is not None
        return found

    def deployment(self, deployment_id: str) -> Deployment:
        """The deployment; raises Bug where there is none."""
        [*found] = self._rows(
            Deployment, select(DEPLOYMENTS).where(DEPLOYMENTS.c.deployment_id == deployment_id)
        )
        if not found:
            raise Bug(f"deployment {deployment_id!r} is not stored")
        return found[0]

    def deployments(
        self, *states: DeploymentState, account: str | None = None, venue: str | None = OSTIUM
    ) -> list[Deployment]:
        """Deployments in these states, of all where none is named, of one account or all, oldest first. `venue`: of agents
        that trade there; None for every venue.
        """
        query = select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.created_ms, DEPLOYMENTS.c.deployment_id)
        if venue is not None:
            query = query.join(AGENTS, AGENTS.c.agent_id == DEPLOYMENTS.c.agent_id).where(
                AGENTS.c.venue == venue
            )
        if states:
            query = query.where(DEPLOYMENTS.c.state.in_(states))
        if account is not None:
            query = query.where(DEPLOYMENTS.c.account == account)
        return self._rows(Deployment, query)

    def move_deployment(self, deployment_id: str, to: DeploymentState, why: str) -> Deployment:
        """Move a deployment; to where it is changes nothing. Raises Bug for a move that is none."""
        now = self.clock.now_ms()
        with self._write() as db:
            here = select(DEPLOYMENTS).where(DEPLOYMENTS.c.deployment_id == deployment_id).with_for_update()
            row = fetch_one(db, Deployment, here)
            if row is None:
                raise Bug(f"deployment {deployment_id!r} is not stored")
            if row.state is to:
                return row
            if to not in MOVES[row.state]:
                raise Bug(f"deployment {deployment_id} cannot move {row.state} -> {to}")
            db.execute(
                update(DEPLOYMENTS)
                .where(DEPLOYMENTS.c.deployment_id == deployment_id)
                .values(state=to, updated_ms=now)
            )
            log_move(db, "deployment", deployment_id, row.state, to, note=why, at_ms=now, fence=None)
            return row.model_copy(update={"state": to, "updated_ms": now})

    def remark(self, row: Deployment, why: str) -> None:
        """Note in the audit log what was asked for a deployment that stays as it is."""
        now = self.clock.now_ms()
        with self._write() as db:
            log_move(
                db, "deployment", row.deployment_id, row.state, row.state, note=why, at_ms=now, fence=None
            )

    def set_limits(self, deployment_id: str, limits: dict[str, Any]) -> Deployment:
        """Store other limits of a deployment, for what is opened from now on; the same again changes nothing."""
        now, wanted = self.clock.now_ms(), plain_json(limits)
        mine = DEPLOYMENTS.c.deployment_id == deployment_id
        with self._write() as db:
            row = fetch_one(db, Deployment, select(DEPLOYMENTS).where(mine).with_for_update())
            if row is None:
                raise Bug(f"deployment {deployment_id!r} is not stored")
            if row.limits != wanted:
                db.execute(update(DEPLOYMENTS).where(mine).values(limits=wanted, updated_ms=now))
                note = "other limits"
                log_move(
                    db, "deployment", deployment_id, row.state, row.state, note=note, at_ms=now, fence=None
                )
        return row.model_copy(update={"limits": wanted})

    def note_seen(self, deployment_id: str, seen: dict[str, Any]) -> None:
        """Store what the chain said of a deployment last."""
        mine = DEPLOYMENTS.c.deployment_id == deployment_id
        with self._write() as db:
            db.execute(update(DEPLOYMENTS).where(mine).values(seen=plain_json(seen)))

    # --- trades ---

    def add_trade(self, row: AccountTrade) -> AccountTrade:
        """Store a trade, or return the stored one of its name or of its number on the chain."""
        with self._write() as db:
            if insert_new(db, TRADES, values_of(row)):
                log_move(
                    db, "trade", row.name, "", row.state, note=row.origin, at_ms=row.created_ms, fence=None
                )
            known = TRADES.c.name == row.name
            if row.trade_id is not None:
                known |= (TRADES.c.chain == row.chain) & (TRADES.c.trade_id == row.trade_id)
            found = fetch_one(db, AccountTrade, select(TRADES).where(known))
        assert found is not None
        return found

    def trade(self, name: str) -> AccountTrade:
        """The trade; raises Bug where there is none."""
        [*found] = self._rows(AccountTrade, select(TRADES).where(TRADES.c.name == name))
        if not found:
            raise Bug(f"trade {name!r} is not stored")
        return found[0]

    def trades(
        self, *states: TradeState, account: str | None = None, venue: str | None = OSTIUM
    ) -> list[AccountTrade]:
        """Trades in these states, all where none is named, oldest first. `venue`: where they are; None for every venue."""
        query = select(TRADES).order_by(TRADES.c.created_ms, TRADES.c.name)
        if venue is not None:
            query = query.where(TRADES.c.venue == venue)
        if states:
            query = query.where(TRADES.c.state.in_(states))
        if account is not None:
            query = query.where(TRADES.c.account == account)
        return self._rows(AccountTrade, query)

    def change_trade(self, name: str, why: str, fence: AnyFence = None, **values: Any) -> AccountTrade:
        """Change a trade that has not ended, and note a move of its state. Raises LostRace for one that has."""
        with self._write(fence) as db:
            row = fetch_one(db, AccountTrade, select(TRADES).where(TRADES.c.name == name).with_for_update())
            if row is None:
                raise Bug(f"trade {name!r} is not stored")
            if row.state in ENDED:
                raise LostRace(f"trade {name} is {row.state}")
            change_trade(db, row, self.clock.now_ms(), why, fence, **values)
            found = fetch_one(db, AccountTrade, select(TRADES).where(TRADES.c.name == name))
        assert found is not None
        return found

    # --- what became of orders ---

    def settle(self, order: SettledOrder, owed_for: OwedFor) -> SettlementRow | None:
        """Book a settlement with all that follows from it; None where it is booked."""
        with self._write() as db:
            return self.settle_in(db, order, owed_for)

    def settle_in(self, db: Connection, order: SettledOrder, owed_for: OwedFor) -> SettlementRow | None:
        """The same in somebody else's transaction."""

        def share_of(deployment: Deployment) -> Decimal:
            agent = fetch_one(db, Agent, select(AGENTS).where(AGENTS.c.agent_id == deployment.agent_id))
            assert agent is not None  # a foreign key
            return agent.share

        return settle(db, order, owed_for, share_of, self.clock.now_ms())

    def take_back(self, chain: str, block: int) -> list[ChargeRow]:
        """Undo what was booked of these blocks and on. Return the charges that were collected for it: a person must decide."""
        now = self.clock.now_ms()
        with self._write() as db:
            found = [take_back(db, row, now) for row in live_from(db, chain, block)]
        return [one for one in found if one is not None]

    def is_settled(self, chain: str, order_id: str) -> bool:
        """Whether a settlement of this order is booked, and the chain still has it."""
        mine = (SETTLEMENTS.c.chain == chain) & (SETTLEMENTS.c.order_id == order_id) & SETTLEMENTS.c.is_live
        with self._read() as db:
            return fetch_one(db, SettlementRow, select(SETTLEMENTS).where(mine)) is not None

    def settlements(self, *, account: str | None = None, trade: str | None = None) -> list[SettlementRow]:
        """Every settlement, those that were taken back and their opposites too, in the order in which they were booked."""
        query = select(SETTLEMENTS).order_by(SETTLEMENTS.c.id)
        if account is not None:
            query = query.where(SETTLEMENTS.c.account == account)
        if trade is not None:
            query = query.where(SETTLEMENTS.c.trade == trade)
        return self._rows(SettlementRow, query)

    def charges(self, *states: str, account: str | None = None) -> list[ChargeRow]:
        """Charges in these states, all where none is named, oldest first."""
        query = select(CHARGES).order_by(CHARGES.c.created_ms, CHARGES.c.charge_id)
        if states:
            query = query.where(CHARGES.c.state.in_(states))
        if account is not None:
            query = query.where(CHARGES.c.account == account)
        return self._rows(ChargeRow, query)

    def charge(self, charge_id: str) -> ChargeRow:
        """The charge; raises Bug where there is none."""
        found = self._rows(ChargeRow, select(CHARGES).where(CHARGES.c.charge_id == charge_id))
        if not found:
            raise Bug(f"charge {charge_id!r} is not stored")
        return found[0]

    def move_charge(
        self, charge_id: str, to: str, why: str, transaction: str | None = None, db: Connection | None = None
    ) -> None:
        """Move a charge that is to be collected. Raises LostRace for one that is not."""
        if db is None:
            with self._write() as own:
                self.move_charge(charge_id, to, why, transaction, own)
            return
        now = self.clock.now_ms()
        row = fetch_one(
            db, ChargeRow, select(CHARGES).where(CHARGES.c.charge_id == charge_id).with_for_update()
        )
        if row is None:
            raise Bug(f"charge {charge_id!r} is not stored")
        if (row.state, row.transaction) == (to, transaction):
            return
        if row.state not in TO_COLLECT:
            raise LostRace(f"charge {charge_id} is {row.state}")
        values = {"state": to, "why": why, "transaction": transaction, "updated_ms": now}
        db.execute(update(CHARGES).where(CHARGES.c.charge_id == charge_id).values(**values))
        log_move(db, "charge", charge_id, row.state, to, note=why, at_ms=now, fence=None)
