"""What a person settles: a fill that the broker busted, a price that it corrected, shares that were sold at its own page."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.hedging import actions
from evenkeel.errors import OperatorError
from evenkeel.types import IntentState
from tasks.hedging.books import books_of
from tasks.hedging.orders import BLOCKED
from tasks.hedging.reconciling import DIFFERS, HedgingReconciled, reconcile_hedging
from tasks.hedging.settling import Settled, settle
from tests.databases import database, database_fixtures, need_postgres
from tests.hedging_rig import HedgingRig, hedging_rig, host_settings, keys_of
from tests.hedging_settings import environment
from tests.integration.hedging.test_commands import settings_of
from tests.integration.hedging.test_odd_data import said
from tests.integration.hedging.test_stories import until_flat
from tests.interruptions import Killed, die, hooked

databases, url, _store = database_fixtures("sqlite")
D = Decimal
WHY = "the broker wrote to us about it"


async def settled(
    rig: HedgingRig, symbol: str = "AAPL", usd: Decimal | None = None, *, yes: bool = True, why: str = WHY
) -> Settled:
    async with rig.desk() as at, at.desk.exclusive(at.lease, "hedging") as fence:
        return await settle(at, symbol, why, usd, fence, yes=yes)


async def compared(rig: HedgingRig) -> HedgingReconciled:
    async with rig.desk() as at:
        return await reconcile_hedging(at)


def sold_by_hand(rig: HedgingRig, symbol: str, shares: str, usd: str, *, bought: bool = False) -> None:
    """At the broker's own page, by nobody's order that we know of."""
    way, qty = (1 if bought else -1), D(shares)
    moved(rig, symbol, way * qty, -way * D(usd))


def moved(rig: HedgingRig, symbol: str, shares: Decimal, cash: Decimal) -> None:
    rig.account.move(symbol, shares, abs(cash / shares))
    rig.account.cash += cash
    side = "buy" if shares > 0 else "sell"
    rig.account.fills.append({"symbol": symbol, "side": side, "qty": str(abs(shares)), "order_id": ""})


async def with_busted(rig: HedgingRig, *, left: str, price: str | None = None) -> None:
    """Half of an order is filled and booked; then the broker shows `left` shares of it, at `price` each, and what is not filled
    is cancelled.
    """
    await compared(rig)
    rig.fault("alpaca", "partial", "order:.*", fraction="0.5", then="cancel", after_s=60)
    rig.trade("AAPL", "sell", "4")
    await rig.one_pass()
    rig.later(2)
    await rig.one_pass()
    [half] = rig.store.hedging.hedges("AAPL")
    [order] = rig.account.orders
    average = order.average
    assert average is not None and half.qty == order.filled_qty == 2
    cost = D(left) * (D(price) if price else average)
    moved(rig, "AAPL", D(left) - order.filled_qty, order.cost - cost)
    order.filled_qty, order.cost = D(left), cost
    rig.later(90)
    for _ in range(4):
        await rig.one_pass()
        rig.later(60)
    assert (BLOCKED, "AAPL") in said(rig), "nothing confirms it: its symbol stands still"
    assert rig.store.hedging.open_order("AAPL") is not None


@pytest.mark.parametrize(("left", "price"), [("1", None), ("0", None), ("1.5", None), ("3", "100")])
async def test_an_order_of_which_the_broker_takes_back_some_is_closed_and_its_symbol_goes_on(
    url: str, left: str, price: str | None
) -> None:
    async with hedging_rig(url) as rig:
        await with_busted(rig, left=left, price=price)
        before = rig.store.hedging.exposure("AAPL")
        with pytest.raises(
            OperatorError, match=r"^nothing is booked without --yes: it would close hedge-AAPL-1"
        ):
            await settled(rig, yes=False)
        assert rig.store.hedging.exposure("AAPL") == before and rig.store.hedging.open_order("AAPL")
        found = await settled(rig)
        assert not found.differences and not said(rig) & {(BLOCKED, "AAPL")}
        assert found.open_shares == -4 + D(left)
        ref = rig.account.orders[0].id
        first, *_ = rig.store.hedging.orders("AAPL")
        assert first.state is IntentState.CONFIRMED and first.result is not None
        net = [(1 if one.side == "buy" else -1, one) for one in rig.store.hedging.hedges("AAPL")]
        assert sum(way * one.qty for way, one in net) == D(left)
        assert sum(way * one.usd for way, one in net) == rig.account.orders[0].cost
        assert {one.order_ref for _, one in net} == {ref}, "by the broker's number all of it is found"
        assert actions.trace(settings_of(rig, url), ref)["trades"] == [
            f"{one.intent_id}:{one.cumulative.normalize():f}" for _, one in net
        ]
        with pytest.raises(OperatorError, match="nothing to settle"):
            await settled(rig)
        await until_flat(rig)
        rig.check()
        chain = D(rig.chain.market.truth(rig.chain.chain.height())["usdc"])
        assert books_of(rig.store).net_cash_usd == chain + rig.account.cash - 1_000_000
        assert (await compared(rig)).differences == ()


async def hedged(rig: HedgingRig) -> None:
    rig.trade("AAPL", "sell", "4")
    await until_flat(rig)
    assert (await compared(rig)).differences == ()


@pytest.mark.parametrize("bought", [False, True])
async def test_shares_that_nobody_ordered_are_booked_with_what_the_cash_says(url: str, bought: bool) -> None:
    async with hedging_rig(url) as rig:
        await hedged(rig)
        sold_by_hand(rig, "AAPL", "3", "783.21", bought=bought)
        assert len((await compared(rig)).differences) == 2 and (DIFFERS, "AAPL at alpaca") in said(rig)
        with pytest.raises(OperatorError, match=r"--yes: .* 783.21 USD at alpaca, with -?3 shares open then"):
            await settled(rig, yes=False)
        found = await settled(rig)
        assert found.open_shares == (3 if bought else -3) and not found.differences
        assert not {kind for kind, _ in said(rig)} & {DIFFERS}
        assert actions.trace(settings_of(rig, url), found.name)["trades"] == [f"{found.name}:3"]
        [row] = rig.store.transitions("intent", found.name)
        assert WHY in row.note
        await until_flat(rig)
        rig.check()
        chain = D(rig.chain.market.truth(rig.chain.chain.height())["usdc"])
        assert books_of(rig.store).net_cash_usd == chain + rig.account.cash - 1_000_000
        assert (await compared(rig)).differences == ()


async def test_where_the_cash_does_not_say_what_was_paid_it_is_asked_for(url: str) -> None:
    async with hedging_rig(url) as rig:
        await hedged(rig)
        rig.account.move("AAPL", D(-1), D(0))  # to another account, for nothing
        with pytest.raises(OperatorError, match="say with --usd") as refused:
            await settled(rig)
        assert "\n" not in str(refused.value)
        sold_by_hand(rig, "NVDA", "1", "190")
        with pytest.raises(OperatorError, match="NVDA at alpaca differs too: say with --usd"):
            await settled(rig)
        with pytest.raises(OperatorError, match="give 0 or more"):
            await settled(rig, usd=D(-1))
        found = await settled(rig, usd=D(0))
        assert found.open_shares == -1 and {one.what for one in found.differences} == {
            "NVDA at alpaca",
            "cash at alpaca",
        }
        assert not (await settled(rig, "NVDA")).differences


async def test_what_is_not_clear_is_refused_in_one_line_and_books_nothing(url: str) -> None:
    async with hedging_rig(url) as rig:
        with pytest.raises(OperatorError, match="never compared"):
            await settled(rig)
        await hedged(rig)
        rig.fault("alpaca", "slow", "order:.*", seconds=600)
        rig.trade("NVDA", "sell", "2")
        await rig.one_pass()
        for symbol, why, words in (
            ("XYZ", WHY, "not among"),
            ("AAPL", "no", "says too little"),
            ("AAPL", WHY, "nothing to settle"),
            ("NVDA", WHY, "is open"),
        ):
            with pytest.raises(OperatorError, match=words) as refused:
                await settled(rig, symbol, why=why)
            assert "\n" not in str(refused.value)
        assert all(one.kind == "hedge" for one in rig.store.intents_of("hedging", "NVDA"))
        assert len(rig.store.hedging.hedges("AAPL")) == 1


async def test_who_dies_while_settling_has_booked_all_or_nothing(url: str) -> None:
    async with hedging_rig(url) as rig:
        await with_busted(rig, left="1")
        before = rig.store.hedging.exposure("AAPL")
        for target, method, refused in ((rig.store, "confirm", 1), (rig.store.hedging, "settle", 0)):
            with hooked(target, method, after=die, skip=refused), pytest.raises(Killed):
                await settled(rig)
            assert rig.store.hedging.exposure("AAPL") == before and rig.store.hedging.open_order("AAPL")
        await settled(rig)
        with pytest.raises(OperatorError, match="nothing to settle"):
            await settled(rig)
        await until_flat(rig)
        rig.check()


async def test_the_command_refuses_in_one_line_and_books_with_yes(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig:
        await hedged(rig)
        sold_by_hand(rig, "AAPL", "3", "783.21")
        async with host_settings(rig, url, tmp_path) as path:
            given = {"EVENKEEL_CONFIG": str(path)}
            words = ["hedging", "settle", "AAPL", "--reason", WHY]
            with environment(given), keys_of(rig.keys["trading"]):
                refused = await asyncio.to_thread(CliRunner().invoke, app, words)
                done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--yes", "--json"])
        assert refused.exit_code == 1 and "without --yes" in refused.output + str(refused.exception)
        assert done.exit_code == 0 and '"open_shares": "-3"' in done.output, done.output
        assert rig.store.hedging.exposure("AAPL").open_shares == -3


async def test_and_so_it_is_on_a_server(tmp_path: Path) -> None:
    need_postgres()
    with database("postgresql", tmp_path) as url:
        async with hedging_rig(url) as rig:
            await with_busted(rig, left="1")
            await settled(rig)
            await until_flat(rig)
            rig.check()
