"""What the Ostium twin shows off chain: a subgraph that is behind, in the graph node's dialect, and prices with hours."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.evm_rig import MILLION
from tests.ostium_rig import LIMIT, NO_BUILDER, NVDA, PRICE, SOL, OstiumRig, one, ostium_rig

OPEN_TRADES = """query trades($trader: Bytes!) {
    trades(where: { isOpen: true, trader: $trader }) { tradeID collateral pair { id from } }
}"""


async def graph(rig: OstiumRig, query: str, **variables: Any) -> Any:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{rig.url}/subgraph", json={"query": query, "variables": variables})
    assert answer.status_code == 200
    return answer.json()


async def rows(rig: OstiumRig, query: str, **variables: Any) -> list[dict[str, Any]]:
    answer = await graph(rig, query, **variables)
    [found] = answer["data"].values()
    return list(found)


async def prices(rig: OstiumRig) -> dict[str, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{rig.url}/PricePublish/latest-prices")
    return {entry["from"]: entry for entry in answer.json()}


async def test_the_subgraph_shows_a_trade_twelve_to_fourteen_seconds_after_its_block() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        executed_s = rig.twin.book.orders[trade].executed_s
        seen = None
        while seen is None:
            assert rig.clock.now_ms() < executed_s * 1000 + 60_000
            if await rows(rig, OPEN_TRADES, trader=rig.user):
                seen = rig.clock.now_ms() / 1000
            else:
                await rig.advance(0.5)
        assert 12 <= seen - executed_s <= 14.5
        [row] = await rows(rig, OPEN_TRADES, trader=rig.user.upper().replace("0X", "0x"))
        assert row == {"tradeID": str(trade), "collateral": "99400000", "pair": {"id": "9", "from": "SOL"}}


async def test_how_far_it_is_behind_can_be_set_and_one_answer_can_be_later_still() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        rig.twin.control("subgraph", {"from_s": 0, "to_s": 0})
        assert await rows(rig, OPEN_TRADES, trader=rig.user)
        rig.fault("lag", "graph:trades", seconds=300)
        assert await rows(rig, OPEN_TRADES, trader=rig.user) == []
        assert await rows(rig, OPEN_TRADES, trader=rig.user)


async def test_it_lies_when_it_is_set_to() -> None:
    async with ostium_rig() as rig:
        await rig.opened()
        await rig.advance(20)
        rig.fault("field", "graph:trades", path="data.trades.*.collateral", value="1")
        assert [row["collateral"] for row in await rows(rig, OPEN_TRADES, trader=rig.user)] == ["1"]
        rig.fault("field", "graph:trades", path="data.trades", value=[])
        assert await rows(rig, OPEN_TRADES, trader=rig.user) == []
        assert [row["collateral"] for row in await rows(rig, OPEN_TRADES, trader=rig.user)] == ["99400000"]


async def test_the_dialect_filters_orders_pages_and_names_what_it_does_not_know() -> None:
    async with ostium_rig() as rig:
        mine = [await rig.opened(leverage=leverage) for leverage in (2, 4, 3)]
        theirs = await rig.opened(sender=rig.users[1])
        await rig.advance(20)
        both = """query q($users: [Bytes!]) {
            trades(first: 1000, orderBy: leverage, where: {trader_in: $users, isOpen: true}) { id leverage }
        }"""
        assert [row["id"] for row in await rows(rig, both, users=rig.users)] == [
            str(each) for each in (mine[0], mine[2], mine[1], theirs)
        ]
        pages = "{ trades(first: 2, skip: 1, orderBy: timestamp, orderDirection: desc) { id } }"
        assert [row["id"] for row in await rows(rig, pages)] == [str(mine[2]), str(mine[1])]
        after = "query q($t: BigInt, $id: ID) { trades(where: {leverage_gt: $t, id_not: $id}) { id } }"
        assert {row["id"] for row in await rows(rig, after, t="200", id=str(theirs))} == {
            str(mine[1]),
            str(mine[2]),
        }
        single = 'query q($id: ID!) { trade(id: $id) { id } none: trade(id: "99") { id } }'
        one_of = await graph(rig, single, id=str(mine[0]))
        assert one_of["data"] == {"trade": {"id": str(mine[0])}, "none": None}
        for query, says in (
            ("{ trades { colateral } }", "Type `Trade` has no field `colateral`"),
            ("{ positions { id } }", "Type `Query` has no field `positions`"),
            ("{ trades(first: 1001) { id } }", "between 0 and 1000"),
            ("{ trades(where: {colour: 1}) { id } }", "no field `colour`"),
            ("{ trades { id }", "expected"),
        ):
            answer = await graph(rig, query)
            assert "data" not in answer and says in answer["errors"][0]["message"], answer


async def test_a_query_without_first_shows_a_hundred_rows() -> None:
    async with ostium_rig() as rig:
        await rig.owner_does("storage", "setMaxTradesPerPair", 200)
        await rig.owner_does("storage", "setMaxPendingMarketOrders", 200)
        for _ in range(101):
            call = rig.trade(collateral_usdc=20, leverage=2)
            rig.venue.send("trading", "openTrade", call, NO_BUILDER, 0, 200, sender=rig.user, mine=False)
        await rig.advance(30)
        assert len(rig.twin.book.open) == 101
        assert len(await rows(rig, OPEN_TRADES, trader=rig.user)) == 100
        every = "{ trades(first: 1000, where: {isOpen: true}) { id } }"
        assert len(await rows(rig, every)) == 101


async def test_an_order_names_its_fees_its_transactions_and_its_outcome() -> None:
    async with ostium_rig() as rig:
        trade = await rig.opened()
        rig.pin(102)
        order = await rig.closed(2_500, price=102)
        await rig.done("openTrade", rig.trade(price=90), NO_BUILDER, LIMIT, 0)
        await rig.advance(20)
        query = (
            "{ orders(orderBy: executedAt) { id tradeID orderAction collateral amountSentToTrader profitPercent closePercent "
            "devFee oracleFee rolloverFee initiatedTx executedTx isPending isCancelled cancelReason } }"
        )
        opened, closed = await rows(rig, query)
        assert (opened["id"], opened["tradeID"], opened["orderAction"]) == (str(trade), str(trade), "Open")
        assert (opened["devFee"], opened["oracleFee"]) == ("500000", "100000")
        event = one(rig.settlement(order), "MarketCloseExecutedV2").args
        fees = one(rig.settlement(order), "FeesChargedV2").args
        assert closed == {
            "id": str(order),
            "tradeID": str(trade),
            "orderAction": "Close",
            "collateral": str(99_400_000 * 25 // 100),
            "amountSentToTrader": str(event["usdcSentToTrader"]),
            "profitPercent": str(event["percentProfit"] // 10**4),
            "closePercent": "2500",
            "devFee": "0",
            "oracleFee": "100000",
            "rolloverFee": str(fees["rolloverFees"]),
            "initiatedTx": rig.twin.book.orders[order].initiated_tx,
            "executedTx": rig.twin.book.orders[order].executed_tx,
            "isPending": False,
            "isCancelled": False,
            "cancelReason": None,
        }
        [limit] = await rows(rig, "{ limits(where: {isActive: true}) { id limitType openPrice collateral } }")
        assert limit == {
            "id": f"{rig.user}_{SOL}_0",
            "limitType": "LIMIT",
            "openPrice": str(90 * PRICE),
            "collateral": str(100 * MILLION),
        }
        [pair] = await rows(
            rig,
            '{ pairs(where: {id: "9"}) { longOI totalOpenTrades totalOpenLimitOrders fee { minLevPos } } }',
        )
        interest = rig.venue.read("storage", "openInterest", SOL, 0)
        assert pair == {
            "longOI": str(interest),
            "totalOpenTrades": "1",
            "totalOpenLimitOrders": "1",
            "fee": {"minLevPos": "5000000"},
        }


async def test_the_price_list_has_bid_middle_ask_and_hours() -> None:
    async with ostium_rig() as rig:
        found = await prices(rig)
        sol, share = found["SOL"], found["NVDA"]
        assert (sol["bid"], sol["mid"], sol["ask"], sol["to"]) == (99.98, 100.0, 100.02, "USD")
        assert sol["isMarketOpen"] and not sol["isDayTradingClosed"]
        assert sol["secondsToToggleIsDayTradingClosed"] == -1
        assert sol["timestampSeconds"] == rig.clock.now_ms() // 1000
        # New Year's Eve, 19:00 in New York: the next day trade is possible at 9:31.
        assert not share["isMarketOpen"] and share["isDayTradingClosed"]
        assert share["secondsToToggleIsDayTradingClosed"] == 14 * 3_600 + 31 * 60
        await rig.advance(share["secondsToToggleIsDayTradingClosed"])
        share = (await prices(rig))["NVDA"]
        assert share["isMarketOpen"] and not share["isDayTradingClosed"]
        assert share["secondsToToggleIsDayTradingClosed"] == 6 * 3_600 + 14 * 60
        rig.twin.control("hours", {"pair": NVDA, "open": False})
        assert not (await prices(rig))["NVDA"]["isMarketOpen"]


async def test_the_price_is_the_worlds_until_it_is_pinned_and_afterwards() -> None:
    async with ostium_rig(price_usd=None) as rig:
        assert (await prices(rig))["SOL"]["mid"] == pytest.approx(rig.world.sol_price(), abs=1e-8)
        rig.pin(50)
        assert (await prices(rig))["SOL"]["mid"] == 50
        rig.twin.control("pin", {"pair": SOL, "price_usd": None})
        assert (await prices(rig))["SOL"]["mid"] == pytest.approx(rig.world.sol_price(), abs=1e-8)


async def test_calls_are_named_and_meet_the_faults_of_transport() -> None:
    async with ostium_rig() as rig:
        rig.fault("http_500", "prices")
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{rig.url}/PricePublish/latest-prices")).status_code == 500
            assert (await http.get(f"{rig.url}/PricePublish/latest-prices")).status_code == 200
        await graph(rig, "{ trades { id } metaDatas { liqMarginThresholdP } }")
        names = [call["call"] for call in rig.faults.calls if call["venue"] == "ostium"]
        assert names == ["prices", "prices", "graph:trades+metaDatas"]


async def test_an_unknown_operation_of_the_control_is_refused_with_the_list() -> None:
    async with ostium_rig() as rig:
        with pytest.raises(ValueError, match="operations: pin"):
            rig.twin.control("rob", {})
        rig.twin.control("carry", {"pair": SOL, "per_block": -(10**9)})
        await rig.advance(1)
        assert rig.venue.read("infos", "pairRolloverFeesV2", SOL)["lastLongPure"] == -(10**9)
        ledger = rig.twin.control("ledger", {})
        assert ledger["vault_usdc"] == 10_000_000 and ledger["open"] == {}
