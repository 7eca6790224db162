"""The ledger of users' trades: a settlement once, its charge once, reorganised blocks undone, sums that are the wallet's."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

import pytest

from evenkeel.errors import LostRace, OperatorError
from evenkeel.types import IntentSpec
from state.accounts.models import AccountTrade, Deployment, DeploymentState, Origin, TradeState
from state.accounts.settling import Owed, SettledOrder
from state.store import Store
from strategy.accounts.share import FeeModel, charge_for
from tasks.accounts.statement import billing, statement
from tests.databases import database_fixtures

databases, url, store = database_fixtures()
ACCOUNT, KEY, CHAIN = "0x" + "1" * 40, "0x" + "5" * 40, "421614"
ZERO = Decimal(0)


def owed_for(model: FeeModel = FeeModel.PER_TRADE) -> Callable[[Deployment, Decimal], Owed | None]:
    def owed(deployment: Deployment, profit: Decimal) -> Owed | None:
        found = charge_for(
            profit,
            Decimal("0.1"),
            model,
            result_usdc=deployment.result_usdc,
            high_water_usdc=deployment.high_water_usdc,
        )
        if found is None:
            return None
        return Owed(found.base_usdc, found.usdc, found.state, found.result_usdc, found.high_water_usdc)

    return owed


def deployed(store: Store, model: FeeModel = FeeModel.PER_TRADE) -> Deployment:
    accounts = store.accounts
    accounts.add_user(ACCOUNT)
    accounts.add_agent("trend", "ostium", KEY, Decimal("0.1"), model, {})
    accounts.deploy("d1", ACCOUNT, "trend", {})
    return accounts.move_deployment("d1", DeploymentState.ACTIVE, "seen on chain")


def pending(store: Store, name: str = "t1") -> AccountTrade:
    now = store.clock.now_ms()
    return store.accounts.add_trade(
        AccountTrade(
            name=name,
            chain=CHAIN,
            venue="ostium",
            account=ACCOUNT,
            deployment_id="d1",
            origin=Origin.DESK,
            state=TradeState.PENDING,
            pair=9,
            is_long=True,
            leverage=Decimal(3),
            created_ms=now,
            updated_ms=now,
        )
    )


def order(
    kind: str, number: int, trade: str = "t1", block: int = 10, fork: str = "a", **more: object
) -> SettledOrder:
    fields: dict[str, object] = {"price": Decimal(150)} | more
    return SettledOrder(
        chain=CHAIN,
        order_id=str(number),
        trade=trade,
        kind=kind,
        block=block,
        block_hash="0x" + fork * 64,
        transaction="0x" + "9" * 64,
        log_index=number,
        at_ms=1_000 + number,
        **fields,  # type: ignore[arg-type]
    )


def opening(number: int, paid: str = "100", collateral: str = "99.8", **more: object) -> SettledOrder:
    opened = {
        "trade_id": str(number),
        "place": 0,
        "paid_usdc": Decimal(paid),
        "collateral_usdc": Decimal(collateral),
        "asset_qty": Decimal(2),
    }
    return order("opened", number, opened=opened, **more)  # type: ignore[arg-type]


def closing(number: int, paid: str, share: str = "1", fee: str = "0", **more: object) -> SettledOrder:
    return order(
        "closed",
        number,
        paid_usdc=Decimal(paid),
        share=Decimal(share),
        fee_usdc=Decimal(fee),
        **more,  # type: ignore[arg-type]
    )


def test_a_trade_is_opened_closed_in_parts_and_charged_once_each(store: Store) -> None:
    deployed(store)
    pending(store)
    accounts = store.accounts
    assert accounts.settle(opening(7), owed_for()) is not None
    assert accounts.settle(opening(7), owed_for()) is None
    trade = accounts.trade("t1")
    assert (trade.state, trade.trade_id, trade.paid_usdc) == (TradeState.OPEN, "7", 100)
    accounts.settle(closing(8, "30", "0.25", "0.1"), owed_for())
    part = accounts.trade("t1")
    assert (part.state, part.paid_usdc, part.asset_qty, part.result_usdc) == (
        TradeState.OPEN,
        75,
        Decimal("1.5"),
        Decimal("4.9"),
    )
    accounts.settle(closing(9, "70"), owed_for())
    assert accounts.settle(closing(9, "70"), owed_for()) is None
    done = accounts.trade("t1")
    assert (done.state, done.result_usdc, done.closed_ms) == (TradeState.CLOSED, Decimal("-0.1"), 1_009)
    [charge] = accounts.charges()
    assert (charge.order_id, charge.base_usdc, charge.usdc, charge.state) == (
        "8",
        Decimal("4.9"),
        Decimal("0.49"),
        "DUE",
    )
    assert accounts.deployment("d1").result_usdc == Decimal("-0.1")


def test_what_the_chain_took_back_is_undone_and_booked_anew_of_the_other_block(store: Store) -> None:
    deployed(store)
    pending(store)
    accounts = store.accounts
    accounts.settle(opening(7), owed_for())
    before = accounts.trade("t1")
    accounts.settle(closing(8, "150", block=12), owed_for())
    assert accounts.take_back(CHAIN, 12) == []
    undone = accounts.trade("t1")
    assert undone.model_copy(update={"updated_ms": 0}) == before.model_copy(update={"updated_ms": 0})
    assert accounts.deployment("d1").result_usdc == 0
    assert [one.state for one in accounts.charges()] == ["REVERSED"]
    assert sum((one.profit_usdc or ZERO for one in accounts.settlements()), ZERO) == 0
    accounts.settle(closing(8, "140", block=13, fork="b"), owed_for())
    assert [(one.state, one.usdc) for one in accounts.charges("DUE")] == [("DUE", Decimal(4))]
    # One that was collected is not undone by a program.
    accounts.move_charge(accounts.charges("DUE")[0].charge_id, "COLLECTED", "", "0x" + "c" * 64)
    [collected] = accounts.take_back(CHAIN, 13)
    assert collected.state == "COLLECTED"


def test_a_user_has_one_delegate(store: Store) -> None:
    deployed(store)
    accounts = store.accounts
    accounts.add_agent("other", "ostium", "0x" + "6" * 40, Decimal("0.1"), FeeModel.PER_TRADE, {})
    with pytest.raises(OperatorError, match="one delegate"):
        accounts.deploy("d2", ACCOUNT, "other", {})
    accounts.add_agent("same key", "ostium", KEY, Decimal("0.2"), FeeModel.PER_TRADE, {})
    accounts.deploy("d3", ACCOUNT, "same key", {})
    accounts.move_deployment("d1", DeploymentState.REVOKED, "removed on chain")
    accounts.move_deployment("d3", DeploymentState.REVOKED, "removed on chain")
    assert accounts.deploy("d2", ACCOUNT, "other", {}).state is DeploymentState.PAUSED
    with pytest.raises(OperatorError, match="other terms"):
        accounts.add_agent("other", "ostium", KEY, Decimal("0.1"), FeeModel.PER_TRADE, {})


def test_nothing_is_planned_of_what_has_ended_or_is_paid(store: Store) -> None:
    deployed(store)
    pending(store)
    store.accounts.settle(opening(7), owed_for())
    store.accounts.settle(closing(8, "150"), owed_for())
    [charge] = store.accounts.charges("DUE")

    def spec(kind: str, subject: str, step: int = 0) -> IntentSpec:
        return IntentSpec(
            intent_id=f"{kind}{step}",
            business="accounts",
            subject=subject,
            venue="v",
            kind=kind,
            step=step,
            order={},
        )

    with pytest.raises(LostRace, match="CLOSED"):
        store.plan_intent(spec("close", "t1"))
    store.plan_intent(spec("pull", charge.charge_id))
    store.accounts.move_charge(charge.charge_id, "COLLECTED", "", "0x" + "c" * 64)
    with pytest.raises(LostRace, match="COLLECTED"):
        store.plan_intent(spec("pull", charge.charge_id, 1))


@pytest.mark.parametrize("seed", range(10))
def test_results_are_the_changes_of_the_wallet_and_a_second_pass_books_nothing(
    seed: int, store: Store
) -> None:
    """Fifty random trades a seed: opened, cancelled, closed in parts, stopped, liquidated. The wallet is kept beside."""
    chance = Random(seed)
    deployed(store, FeeModel.HIGH_WATER if seed % 2 else FeeModel.PER_TRADE)
    wallet, orders, number = ZERO, list[SettledOrder](), 0
    for n in range(50):
        name = f"t{n}"
        pending(store, name)
        number += 1
        opened_by = number
        paid = Decimal(chance.randrange(5_000_000, 500_000_000)) / 10**6
        if chance.random() < 0.15:
            orders.append(order("open cancelled", number, name, fee_usdc=Decimal("0.1"), why="slippage"))
            wallet -= Decimal("0.1")
            continue
        orders.append(opening(number, str(paid), str(paid - Decimal("0.1")), trade=name))
        assert orders[-1].opened is not None and orders[-1].opened["trade_id"] == str(opened_by)
        wallet -= paid
        left = True
        while left:
            number += 1
            if chance.random() < 0.1:
                orders.append(order("close cancelled", number, name, fee_usdc=Decimal("0.1")))
                wallet -= Decimal("0.1")
                continue
            share = Decimal(chance.choice([1, 1, 1, 0.25, 0.5, 0.3333])).quantize(Decimal("0.0001"))
            got = ZERO if chance.random() < 0.1 else Decimal(chance.randrange(0, 600_000_000)) / 10**6
            fee = Decimal("0.1") if share < 1 else ZERO
            orders.append(closing(number, str(got), str(share), str(fee), trade=name))
            wallet += got - fee
            left = share < 1
    for one in orders:
        assert store.accounts.settle(one, owed_for()) is not None
    for one in chance.sample(orders, len(orders)):
        assert store.accounts.settle(one, owed_for()) is None
    booked = sum((one.profit_usdc or ZERO for one in store.accounts.settlements()), ZERO)
    assert abs(booked - wallet) < Decimal("0.000001")
    assert store.accounts.deployment("d1").result_usdc == booked
    assert sum((one.result_usdc for one in store.accounts.trades()), ZERO) == booked
    assert {one.state for one in store.accounts.trades()} <= {TradeState.CLOSED, TradeState.FAILED}
    made = statement(store, ACCOUNT, {9: "SOL/USD"})
    assert Decimal(made["total_usdc"]) == wallet and made["lines"][-1]["sum_usdc"] == made["total_usdc"]
    assert Decimal(made["owed_usdc"]) == sum(
        Decimal(one["amount"]) for one in billing(store) if one["status"] == "DUE"
    )
    orders_charged = [one.order_id for one in store.accounts.charges()]
    assert len(orders_charged) == len(set(orders_charged))
