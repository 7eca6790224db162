"""What users of other programs that hedge or rebalance reported, once each, with where: none of it costs a fill or an order."""

from __future__ import annotations

import json
from decimal import Decimal

from state.hedging.models import RebalanceState
from tasks.hedging.orders import BLOCKED
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig
from tests.integration.hedging.test_stories import PLACE, until_flat
from tests.rebalancing_rig import rebalancing_rig
from venues.alpaca.venue import AlpacaVenue

databases, url, _store = database_fixtures("sqlite")
D = Decimal


def sent(rig: HedgingRig) -> list[tuple[str, Decimal | None]]:
    return [(one.side, one.qty) for one in rig.account.orders]


async def test_fills_too_small_for_the_broker_are_hedged_with_the_one_that_makes_them_enough(
    url: str,
) -> None:
    """hummingbot/hummingbot#6055: a maker order that is filled in parts below the least order of the other side crashes the
    program at the part that makes them enough. hummingbot/hummingbot#855: what was enough was never seen to be.
    """
    async with hedging_rig(url) as rig:
        for shares in ("0.001", "0.002", "0.004"):  # 0.26, 0.78 and 1.82 dollars
            rig.trade("AAPL", "sell", shares)
            await rig.one_pass()
            assert not rig.account.orders
        rig.trade("AAPL", "sell", "0.001")  # 2.08 dollars
        await until_flat(rig)
        assert sent(rig) == [("buy", D("0.008"))]
        rig.trade("AAPL", "sell", "3")
        await until_flat(rig)
        assert sent(rig) == [("buy", D("0.008")), ("buy", D(3))]


async def test_an_order_that_the_broker_rejects_again_and_again_is_tried_until_it_is_taken(url: str) -> None:
    """hummingbot/hummingbot#3849: in a wild market the other side rejects the hedge, and it is never tried again."""
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        rig.fault("alpaca", "reject", "order:AAPL", times=3)
        await until_flat(rig, apart_s=60)
        assert [one.status for one in rig.account.orders] == ["rejected"] * 3 + ["filled"]
        assert len({one.client_order_id for one in rig.account.orders}) == 4
        assert not [one for one in rig.store.alerts(open_only=True) if one.kind == BLOCKED]


async def test_an_order_that_was_refused_and_taken_all_the_same_is_no_second_one(url: str) -> None:
    """hummingbot/hummingbot#8468: a hedge is said to have failed, another one is sent, and then both are filled. Here nobody
    finds the first one until after it was given up.
    """
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        rig.fault("alpaca", "refuse", "order:AAPL", message="internal error", recorded=True)
        rig.fault("alpaca", "hidden", "order:AAPL", seconds=8)
        rig.fault("alpaca", "slow", "order:AAPL", seconds=90)
        await until_flat(rig, apart_s=20)
        assert rig.calls("alpaca", PLACE) == 2 and sent(rig) == [("buy", D(3))]
        [hedge] = rig.store.hedging.hedges("AAPL")
        assert (hedge.qty, hedge.order_ref) == (D(3), rig.account.orders[0].id)


async def test_shares_that_an_order_by_hand_holds_hold_up_no_sale_of_the_others(
    url: str,
) -> None:
    """QuantConnect/Lean#3875, alpacahq/alpaca-trade-api-csharp#247: `insufficient qty available for order (requested: 15,
    available: 11)`, again and again, where the account holds enough and another order holds some of it.
    """
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "buy", "15")
        async with rig.desk() as at:
            assert isinstance(at.broker, AlpacaVenue)
            rig.fault("alpaca", "slow", "order:AAPL", seconds=3600)  # nobody pays that much
            fields = {"symbol": "AAPL", "qty": "989", "side": "sell", "type": "limit", "limit_price": "9000"}
            rest = {"time_in_force": "day", "client_order_id": "a-persons-own"}
            said = await at.broker.client.place(json.dumps(fields | rest))
            assert said.is_well, said.words
            report = await rig.passes(at, None, 3, 20)
            assert "holds 0 shares" in report.holds["AAPL"]
            assert rig.store.hedging.exposure("AAPL").open_shares == 4 and rig.calls("alpaca", PLACE) == 2
            by_hand = next(one for one in rig.account.orders if one.client_order_id == "a-persons-own")
            assert await at.broker.client.cancel(by_hand.id) is None
            await rig.passes(at, None, 3, 20)
        assert sent(rig)[1:] == [("sell", D(11)), ("sell", D(4))]
        rig.check()


async def test_a_rebalance_that_wants_more_than_is_free_moves_what_is(url: str) -> None:
    """ctubio/tribeca#11: the size by which a target is reached is more than the account has, and nothing is done at all."""
    async with rebalancing_rig(url) as rig:
        rig.rebalance |= {"vaults": {"AAPL": 3}, "equity": {"target": "0.8", "deviation": "0.1"}}
        rig.fill_vault("AAPL", "1")
        for _ in range(5):
            rig.hedging.trade("AAPL", "buy", "100")  # shares that hedges will sell
        rig.hedging.fault("alpaca", "slow", "order:AAPL", seconds=30)
        [row] = (await rig.propose()).rebalances
        store = rig.hedging.store.hedging
        assert store.exposure("AAPL").open_shares == 500 and len(store.open_orders()) == 1
        assert (row.direction, row.amount) == ("to-chain", 500), "of 1,000, of which 500 will be sold"
        rig.approve(row.name)
        assert (await rig.to_the_end(row.name)).state is RebalanceState.DONE
        async with rig.desk() as rd:
            await rig.hedging.passes(rd.at, None, 12, 20)
        assert store.exposure("AAPL").open_shares == 0 == rig.at_broker("AAPL")
