"""The bookkeeper of managed accounts: a settlement with its charge, a stop, a charge that was paid, with the intent's end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, select

from evenkeel.errors import Bug
from evenkeel.types import Receipt
from state.accounts.models import AccountTrade, Deployment
from state.accounts.settling import TRADES, Owed, OwedFor, SettledOrder, change_trade
from state.accounts.store import AccountsStore
from state.database import AnyFence, fetch_one
from state.models import Intent
from strategy.accounts.share import ChargeState, FeeModel, charge_for
from tasks.booking import Prepared

DESK, USER = "desk", "user"


@dataclass(frozen=True)
class AccountBooking:
    """The rows of one receipt."""

    store: AccountsStore
    chain: str
    receipt: Receipt

    def write(self, db: Connection, intent: Intent, *, at_ms: int, fence: AnyFence) -> None:
        detail = self.receipt.detail
        if intent.kind == "pull":
            self.store.move_charge(intent.subject, ChargeState.COLLECTED, "", self.receipt.ref, db)
        elif (settled := detail.get("settlement")) is not None:
            self.store.settle_in(db, settled_order(self.chain, intent.subject, settled), owed_by(self.store))
        elif intent.kind == "stop":
            self._change(db, intent, at_ms, fence, stop=Decimal(str(intent.order["stop"])), stop_by=DESK)

    def _trade(self, db: Connection, intent: Intent) -> AccountTrade:
        found = fetch_one(
            db, AccountTrade, select(TRADES).where(TRADES.c.name == intent.subject).with_for_update()
        )
        if found is None:
            raise Bug(f"trade {intent.subject} is not stored")
        return found

    def _change(self, db: Connection, intent: Intent, at_ms: int, fence: AnyFence, **values: Any) -> None:
        change_trade(db, self._trade(db, intent), at_ms, intent.kind, fence, **values)


class AccountsBookkeeper:
    """Books what a receipt of the venue says. `chain` is the name under which the ledger keeps its settlements."""

    receipt_type = Receipt

    def __init__(self, store: AccountsStore, chain: str) -> None:
        self._store = store
        self.chain = chain

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        if not final:
            return Prepared(receipt, None)  # nothing of an order is done before its settlement
        # Fills are the settlement's: it is the trade's own row, and the charge's.
        return Prepared(receipt, AccountBooking(self._store, self.chain, receipt))


def owed_by(store: AccountsStore) -> OwedFor:
    """Return what asks what a deployment owes for a profit or loss, by its agent's share and model."""

    def owed(deployment: Deployment, profit: Decimal) -> Owed | None:
        agent = store.agent(deployment.agent_id)
        found = charge_for(
            profit,
            agent.share,
            FeeModel(agent.fee_model),
            result_usdc=deployment.result_usdc,
            high_water_usdc=deployment.high_water_usdc,
        )
        if found is None:
            return None
        return Owed(found.base_usdc, found.usdc, found.state, found.result_usdc, found.high_water_usdc)

    return owed


def settled_order(chain: str, trade: str, wire: Mapping[str, Any], account: str = "") -> SettledOrder:
    """Return a settlement as the ledger takes it, of what a venue says (`venues.ostium.settlement.settled_of`). `account`:
    whose it is, where it is of no trade. Raises Bug where a close does not say what it paid: nothing is guessed.
    """

    def money(name: str) -> Decimal | None:
        return None if wire[name] is None else Decimal(wire[name])

    paid = money("paid_usdc")
    if wire["kind"] == "closed" and paid is None:
        raise Bug(f"order {wire['order_id']} of {trade} closed, and what it paid cannot be read")
    opened: dict[str, Any] | None = None
    if wire["opened"] is not None:
        said = wire["opened"]
        opened = {
            name: Decimal(said[name]) for name in ("paid_usdc", "collateral_usdc", "asset_qty", "leverage")
        }
        opened |= {"trade_id": said["trade_id"], "place": said["place"], "best_price": money("price")}
        if said["stop"] is not None:
            opened["stop"] = Decimal(said["stop"])
    moved: dict[str, Any] | None = None
    if wire.get("moved") is not None:
        moved = {
            name: value if name == "place" or value is None else Decimal(value)
            for name, value in wire["moved"].items()
        }
    return SettledOrder(
        chain=chain,
        order_id=wire["order_id"],
        trade=trade,
        kind=wire["kind"],
        block=wire["block"],
        block_hash=wire["block_hash"],
        transaction=wire["transaction"],
        log_index=wire["log_index"],
        at_ms=wire["at_ms"],
        why=wire["why"],
        price=money("price"),
        share=money("share"),
        paid_usdc=paid or Decimal(0),
        fee_usdc=money("fee_usdc") or Decimal(0),
        opened=opened,
        moved=moved,
        account=account,
    )
