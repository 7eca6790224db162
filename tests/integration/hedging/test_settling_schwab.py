"""What a person settles at Schwab: an order of which fills are taken back, and shares that nobody of ours ordered."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import OperatorError
from tasks.hedging.orders import BLOCKED
from tasks.hedging.reconciling import DIFFERS
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig
from tests.integration.hedging.test_odd_data import said
from tests.integration.hedging.test_schwab_pass import bought, passes, trading
from tests.integration.hedging.test_settling import compared, settled
from twins.schwab.app import SchwabTwin
from twins.schwab.book import Order

databases, url, _store = database_fixtures("sqlite")
D = Decimal
LONG_MS = 3_600_000


def flat(rig: HedgingRig, twin: SchwabTwin) -> None:
    """What fills on chain took is at the broker, by the broker's own rows."""
    assert rig.store.hedging.exposure("AAPL").open_shares == 0 and bought(twin, "AAPL") == 4


@pytest.mark.parametrize("way", ["BUY", "SELL"])
async def test_shares_that_a_person_traded_at_the_website_are_booked_by_the_cash_and_hedged(
    url: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async with trading(url, monkeypatch) as (rig, twin):
        twin.book.walk_ms = 0
        rig.trade("AAPL", "sell", "4")
        await passes(rig)
        assert (await compared(rig)).differences == ()
        cash = twin.book.cash
        twin.book.foreign("AAPL", way, D(3))
        usd, shares = abs(twin.book.cash - cash), D(3 if way == "BUY" else -3)
        assert len((await compared(rig)).differences) == 2 and (DIFFERS, "AAPL at schwab") in said(rig)
        with pytest.raises(OperatorError, match=f"--yes: .* {usd.normalize():f}.* USD at schwab"):
            await settled(rig, yes=False)
        assert len((await compared(rig)).differences) == 2, "nothing was booked"
        found = await settled(rig)
        assert (found.open_shares, found.differences) == (shares, ())
        with pytest.raises(OperatorError, match="nothing to settle"):
            await settled(rig)
        await passes(rig)
        flat(rig, twin)
        assert (await compared(rig)).differences == () and DIFFERS not in {kind for kind, _ in said(rig)}


async def half_filled(rig: HedgingRig, twin: SchwabTwin) -> Order:
    """An order of four shares, of which two are filled and booked while it works."""
    await compared(rig)
    twin.book.walk_ms = LONG_MS
    rig.trade("AAPL", "sell", "4")
    await rig.one_pass()
    [order] = twin.book.orders.values()
    twin.control("fill", {"order": order.order_id, "quantity": "2"})
    rig.later(61)
    await rig.one_pass()
    assert [one.qty for one in rig.store.hedging.hedges("AAPL")] == [2]
    return order


def taken_back(twin: SchwabTwin, order: Order, left: str, price: str | None = None) -> None:
    """The broker shows `left` shares of what was filled, at `price` where it corrected that."""
    [(quantity, paid, at_ms)] = order.executions
    now = D(price) if price else paid
    order.executions = [(D(left), now, at_ms)] if D(left) else []
    order.filled = D(left)
    twin.book.shares["AAPL"] += D(left) - quantity
    twin.book.cash += quantity * paid - D(left) * now


@pytest.mark.parametrize(("left", "price"), [("0", None), ("1", None), ("1", "260.5")])
async def test_an_order_of_which_fills_are_taken_back_is_closed_and_its_symbol_goes_on(
    url: str, monkeypatch: pytest.MonkeyPatch, left: str, price: str | None
) -> None:
    async with trading(url, monkeypatch) as (rig, twin):
        order = await half_filled(rig, twin)
        taken_back(twin, order, left, price)
        with pytest.raises(OperatorError, match="is not over at schwab"):
            await settled(rig)
        twin.control("cancel", {"order": order.order_id})
        for _ in range(4):
            await rig.one_pass()
            rig.later(60)
        assert (BLOCKED, "AAPL") in said(rig), "nothing confirms it: its symbol stands still"
        with pytest.raises(OperatorError, match="nothing is booked without --yes"):
            await settled(rig, yes=False)
        assert not (await settled(rig)).differences
        twin.book.walk_ms = 0
        await passes(rig, 5)
        assert BLOCKED not in {kind for kind, _ in said(rig)}
        flat(rig, twin)


async def test_a_mean_price_that_does_not_end_is_no_difference_and_in_no_amount(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trading(url, monkeypatch) as (rig, twin):
        await compared(rig)
        twin.book.walk_ms = LONG_MS
        rig.trade("AAPL", "sell", "3")
        await rig.one_pass()
        [order] = twin.book.orders.values()
        for quantity, usd in (("1", "260"), ("2", "261.01")):
            twin.control("price", {"symbol": "AAPL", "usd": usd})
            twin.control("fill", {"order": order.order_id, "quantity": quantity})
            rig.later(61)
            await rig.one_pass()
        assert rig.store.hedging.exposure("AAPL").open_shares == 0
        assert (await compared(rig)).differences == ()
        twin.book.walk_ms = 0
        twin.book.foreign("AAPL", "BUY", D(2))
        assert len((await compared(rig)).differences) == 2
        found = await settled(rig)
        [row] = found.rows
        assert D(row["usd"]) % D("0.01") == 0 and not found.differences, "the dust is not booked"
