"""What a tick reads of every account at once, on both databases: the columns of the rows, and nothing of what is over."""

from __future__ import annotations

from decimal import Decimal

from state.accounts.models import DeploymentState, TradeState
from state.store import Store
from tests.databases import database_fixtures
from tests.integration.accounts.test_accounts_ledger import ACCOUNT, CHAIN, deployed, pending

databases, url, store = database_fixtures()


def test_every_account_is_read_at_once_by_what_its_rows_say(store: Store) -> None:
    accounts = store.accounts
    deployed(store)
    for number in range(4):
        pending(store, f"t{number}")
    prices = {"open_price": Decimal(150), "best_price": Decimal(150), "stop": Decimal("145.5")}
    for number in (0, 1, 2):
        accounts.change_trade(
            f"t{number}", "", state=TradeState.OPEN, trade_id=str(70 + number), place=number, **prices
        )
    accounts.change_trade("t1", "", stop_by="user")
    accounts.change_trade("t2", "", state=TradeState.CLOSED)

    assert [one.name for one in accounts.open_trades()] == ["t0", "t1"]
    assert accounts.open_trades()[0].stop == Decimal("145.5")
    assert accounts.open_by_market() == {9: 2} and sorted(accounts.held_trades()) == ["70", "71"]
    assert accounts.owners(CHAIN, [70, 72, 99]) == {70: ACCOUNT, 72: ACCOUNT}
    assert accounts.trade_of(CHAIN, "71") == accounts.trade("t1") and accounts.trade_of(CHAIN, "99") is None
    assert accounts.without_number([ACCOUNT]) == ["t3"] and accounts.stops_of_users() == [
        ("t1", Decimal("145.5"))
    ]
    assert accounts.over(["t0", "t2", "t3"]) == {"t2"} and accounts.holding([ACCOUNT, "0x0"]) == {
        ("ostium", ACCOUNT)
    }
    assert accounts.deployed() == accounts.deployed(live=True) == {ACCOUNT} and accounts.watched() == [
        ACCOUNT
    ]
    assert [one.name for one in accounts.held_by([ACCOUNT])] == ["t0", "t1"]
    assert accounts.agents_of_deployments() == {"d1": "trend"}
    accounts.move_deployment("d1", DeploymentState.REVOKED, "the delegate is another")
    assert accounts.deployed(live=True) == frozenset() and accounts.watched() == [ACCOUNT]
    assert accounts.deployments_of([ACCOUNT]) == []


def test_the_best_prices_of_many_are_stored_together_and_none_of_what_has_ended(store: Store) -> None:
    accounts = store.accounts
    deployed(store)
    for name in ("t0", "t1", "t2"):
        pending(store, name)
        accounts.change_trade(name, "", state=TradeState.OPEN, best_price=Decimal(150))
    accounts.change_trade("t2", "", state=TradeState.CLOSED)
    accounts.note_best({name: Decimal("151.25") for name in ("t0", "t1", "t2")})
    assert [accounts.trade(name).best_price for name in ("t0", "t1", "t2")] == [
        Decimal("151.25"),
        Decimal("151.25"),
        Decimal(150),
    ]
    accounts.note_best({})
