"""Order, margin and transfer rules of the twin, in the venue's words."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hyperliquid.utils import signing as sdk

from tests.integration.hyperliquid_twin import ALO, GTC, IOC, SOL, Desk, wallet
from twins.hyperliquid.errors import BadRequest
from twins.hyperliquid.numbers import num

CLOID = "0x" + "0" * 31 + "7"


def _status(desk: Desk, reference: int | str) -> str:
    return desk.mine("orderStatus", oid=reference)["order"]["status"]


def test_ioc_walks_the_book_level_by_level_and_reports_fills_exactly() -> None:
    desk = Desk("200000")
    answer = desk.order(False, "150", "199.5", cloid=CLOID)["filled"]
    fills = desk.mine("userFillsByTime", startTime=0, endTime=None, aggregateByTime=False)
    assert len(fills) > 1 and answer["totalSz"] == "150.0"
    prices = [Decimal(row["px"]) for row in fills]
    assert prices == sorted(prices, reverse=True)
    notional = sum(Decimal(row["px"]) * Decimal(row["sz"]) for row in fills)
    assert abs(notional / 150 - Decimal(answer["avgPx"])) < Decimal("0.0001")
    assert [row["startPosition"] for row in fills[:2]] == ["0.0", num(-Decimal(fills[0]["sz"]))]
    for row in fills:
        fee = (Decimal(row["px"]) * Decimal(row["sz"]) * Decimal("0.00045")).quantize(Decimal("0.000001"))
        assert Decimal(row["fee"]) == fee
        assert (row["dir"], row["closedPnl"], row["crossed"]) == ("Open Short", "0.0", True)
        assert (row["cloid"], row["oid"]) == (CLOID, answer["oid"])
    together = desk.mine("userFills", aggregateByTime=True)
    assert len(together) == 1 and together[0]["sz"] == "150.0"
    desk.check_ledger()


def test_taken_depth_is_gone_until_the_next_second() -> None:
    desk = Desk("1000000")
    depth = sum(Decimal(level["sz"]) for level in desk.info("l2Book", coin="SOL")["levels"][0])
    first = desk.order(False, num(depth), "199.0")["filled"]
    assert first["totalSz"] == num(depth)
    best = Decimal(desk.info("l2Book", coin="SOL")["levels"][0][0]["px"])
    desk.advance(1_000)
    assert Decimal(desk.info("l2Book", coin="SOL")["levels"][0][0]["px"]) > best


def test_ioc_beyond_its_limit_fills_less_or_nothing() -> None:
    desk = Desk("1000000")
    best = desk.info("l2Book", coin="SOL")["levels"][0][0]
    partial = desk.order(False, "1000", best["px"], cloid=CLOID)["filled"]
    assert Decimal(partial["totalSz"]) == Decimal(best["sz"])
    record = desk.mine("orderStatus", oid=CLOID)["order"]["order"]
    assert Decimal(record["sz"]) == 1000 - Decimal(best["sz"]) and record["origSz"] == "1000.0"
    none = desk.order(False, "1", "205")
    assert none == {"error": "Order could not immediately match against any resting orders. asset=5"}
    assert desk.mine("historicalOrders")[0]["status"] == "iocCancelRejected"


@pytest.mark.parametrize(
    ("size", "px", "kind", "text", "status"),
    [
        ("1", "199.999", IOC, "Price must be divisible by tick size.", "tickRejected"),
        ("1.005", "199", IOC, "Order has invalid size.", "rejected"),
        ("0", "199", IOC, "Order has zero size.", "rejected"),
        ("0.05", "199", IOC, "Order must have minimum value of $10.", "minTradeNtlRejected"),
        ("5000", "199", IOC, "Insufficient margin to place order.", "perpMarginRejected"),
        (
            "1",
            "10",
            IOC,
            "Order price cannot be more than 80% away from the reference price",
            "oracleRejected",
        ),
        (
            "1",
            "199",
            ALO,
            "Post only order would have immediately matched, bbo was 200.06@200.08.",
            "badAloPxRejected",
        ),
    ],
)
def test_refused_orders_change_nothing(size: str, px: str, kind: dict, text: str, status: str) -> None:
    desk = Desk()
    before = desk.mine("clearinghouseState")
    assert desk.order(False, size, px, kind, cloid=CLOID) == {"error": f"{text} asset=5"}
    assert _status(desk, CLOID) == status
    assert desk.mine("openOrders") == [] and desk.mine("userFills") == []
    after = desk.mine("clearinghouseState")
    assert {**after, "time": 0} == {**before, "time": 0}


def test_delisted_and_unknown_assets_are_refused() -> None:
    desk = Desk()
    for asset in (3, 99):
        assert desk.order(False, "100", "0.4", asset=asset)["error"].endswith(f"asset={asset}")


def test_reduce_only_shrinks_never_flips_and_knows_the_minimum() -> None:
    desk = Desk()
    assert desk.order(True, "1", "201", reduce_only=True)["error"].startswith("Reduce only order would")
    desk.order(False, "1", "199")
    assert desk.order(False, "1", "199", reduce_only=True)["error"].startswith("Reduce only order would")
    dust = {"error": "Order must have minimum value of $10. asset=5"}
    assert desk.order(True, "0.04", "201", reduce_only=True) == dust
    assert desk.order(True, "0.04", "201") == dust
    resting = desk.order(True, "7", "150", GTC, reduce_only=True)["resting"]["oid"]
    row = desk.mine("frontendOpenOrders")[0]
    assert (row["sz"], row["origSz"], row["reduceOnly"]) == ("1.0", "7.0", True)
    assert desk.order(True, "0.96", "201")["filled"]["totalSz"] == "0.96"
    assert desk.mine("openOrders")[0]["sz"] == "0.04"
    # closing the whole position is exempt from the minimum, and an oversized reduce-only closes exactly it
    assert desk.order(True, "50", "201", reduce_only=True)["filled"]["totalSz"] == "0.04"
    assert desk.position() is None
    assert _status(desk, resting) == "reduceOnlyCanceled"
    desk.check_ledger()


def test_a_flip_reports_its_direction_and_realises_the_old_side() -> None:
    desk = Desk()
    desk.order(False, "2", "199")
    desk.order(True, "5", "201")
    rows = desk.mine("userFills")
    assert [row["dir"] for row in rows] == ["Short > Long", "Open Short"]
    assert Decimal(rows[0]["closedPnl"]) == 2 * (Decimal(rows[1]["px"]) - Decimal(rows[0]["px"]))
    assert desk.position()["szi"] == "3.0"  # type: ignore[index]
    desk.check_ledger()


def test_resting_orders_cancel_modify_and_fill_as_maker_when_the_price_comes() -> None:
    desk = Desk()
    oid = desk.order(False, "1", "205", GTC, cloid=CLOID)["resting"]["oid"]
    wire = {"a": SOL, "b": False, "p": "206", "s": "2", "r": False, "t": GTC, "c": CLOID}
    changed = desk.act({"type": "batchModify", "modifies": [{"oid": oid, "order": wire}]})
    moved = changed["response"]["data"]["statuses"][0]["resting"]["oid"]
    assert moved != oid and _status(desk, oid) == "canceled"
    assert desk.mine("openOrders")[0]["limitPx"] == "206.0"
    desk.series.price = 207.0
    desk.advance(1_000)
    fill = desk.mine("userFills")[0]
    assert (fill["px"], fill["sz"], fill["crossed"], fill["oid"]) == ("206.0", "2.0", False, moved)
    assert Decimal(fill["fee"]) == Decimal("206") * 2 * Decimal("0.00015")
    assert _status(desk, CLOID) == "filled"
    gone = {"error": "Order was never placed, already canceled, or filled. asset=5"}
    cancel = {"type": "cancelByCloid", "cancels": [{"asset": SOL, "cloid": CLOID}]}
    assert desk.act(cancel)["response"]["data"]["statuses"] == [gone]
    both = {"type": "cancel", "cancels": [{"a": SOL, "o": oid}, {"a": SOL, "o": 1}]}
    assert desk.act(both)["response"] == {"type": "cancel", "data": {"statuses": [gone, gone]}}


def test_take_profit_and_stop_sleep_until_the_parent_fills_and_then_close_the_position() -> None:
    desk = Desk()

    def trigger(px: str, kind: str) -> dict:
        limit = {"trigger": {"isMarket": True, "triggerPx": px, "tpsl": kind}}
        worst = "230" if kind == "sl" else "200"
        return {"a": SOL, "b": True, "p": worst, "s": "2", "r": True, "t": limit}

    parent = {"a": SOL, "b": False, "p": "199", "s": "2", "r": False, "t": IOC}
    orders = [parent, trigger("180", "tp"), trigger("210", "sl")]
    answer = desk.act({"type": "order", "orders": orders, "grouping": "normalTpsl"})
    rows = answer["response"]["data"]["statuses"]
    assert "filled" in rows[0] and rows[1:] == ["waitingForTrigger", "waitingForTrigger"]
    assert desk.mine("frontendOpenOrders")[1]["triggerCondition"] == "Price above 210.0"
    desk.series.price = 212.0
    desk.advance(1_000)
    assert desk.position() is None and desk.mine("openOrders") == []
    assert desk.mine("userFills")[0]["dir"] == "Close Short"


def test_leverage_rules() -> None:
    desk = Desk()
    for bad in (0, 21):
        assert desk.leverage(bad) == {"status": "err", "response": "Invalid leverage value"}
    assert desk.leverage(3)["status"] == "ok"
    assert desk.mine("activeAssetData", coin="SOL")["leverage"] == {"type": "cross", "value": 3}
    desk.order(False, "10", "199")
    assert desk.leverage(5, is_cross=False)["response"] == "Cannot switch leverage type with open position."
    assert desk.leverage(5)["status"] == "ok"
    assert desk.position()["leverage"]["value"] == 3  # type: ignore[index]


def test_isolated_margin_moves_with_the_position() -> None:
    desk = Desk()
    desk.leverage(10, is_cross=False)
    desk.order(False, "10", "199")
    held = desk.position()
    assert held is not None and held["leverage"]["type"] == "isolated"
    own = Decimal(held["leverage"]["rawUsd"]) - Decimal(held["positionValue"])
    assert Decimal(held["marginUsed"]) == own
    add = {"type": "updateIsolatedMargin", "asset": SOL, "isBuy": True, "ntli": 100_000_000}
    assert desk.act(add)["status"] == "ok"
    assert Decimal(desk.position()["marginUsed"]) == own + 100  # type: ignore[index]
    desk.check_ledger()
    desk.order(True, "4", "201", reduce_only=True)
    desk.check_ledger()
    desk.order(True, "6", "201", reduce_only=True)
    desk.check_ledger()
    state = desk.mine("clearinghouseState")
    assert state["marginSummary"] == state["crossMarginSummary"]


def test_small_accounts_cannot_schedule_cancels_and_transfers_are_bounded() -> None:
    desk = Desk("1000")
    refusal = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0."
    assert desk.act({"type": "scheduleCancel", "time": 1}) == {"status": "err", "response": refusal}
    desk.order(False, "40", "199")  # 8,000 USD at 20x: the 10 % rule binds, not the initial margin
    state = desk.mine("clearinghouseState")
    equity, notional = (Decimal(state["marginSummary"][key]) for key in ("accountValue", "totalNtlPos"))
    assert Decimal(state["withdrawable"]) == equity - notional / 10
    nonces = itertools.count(desk.world.now_ms() + 10)
    for amount, verdict in (("300", "err"), ("100", "ok")):
        nonce = next(nonces)
        action = {"type": "withdraw3", "destination": desk.address, "amount": amount, "time": nonce}
        signature = sdk.sign_withdraw_from_bridge_action(desk.wallet, action, False)
        body = {"action": action, "nonce": nonce, "signature": signature}
        assert desk.twin.exchange.handle(body)["status"] == verdict
    row = desk.mine("userNonFundingLedgerUpdates", startTime=0, endTime=None)[-1]["delta"]
    assert (row["type"], row["usdc"], row["fee"]) == ("withdraw", "99.0", "1.0")
    desk.check_ledger()


def test_usd_send_creates_the_receiver_and_costs_the_activation() -> None:
    desk = Desk("1000")
    other, nonce = wallet(4001), desk.world.now_ms() + 10
    action = {"type": "usdSend", "destination": other.address, "amount": "100", "time": nonce}
    signature = sdk.sign_usd_transfer_action(desk.wallet, action, False)
    body = {"action": action, "nonce": nonce, "signature": signature, "expiresAfter": None}
    assert desk.twin.exchange.handle(body)["status"] == "ok"
    assert desk.info("clearinghouseState", user=other.address)["withdrawable"] == "100.0"
    assert desk.mine("clearinghouseState")["withdrawable"] == "899.0"
    desk.check_ledger()


def test_unified_account_hides_its_money_from_the_perp_state() -> None:
    desk = Desk("1000")
    assert desk.mine("userAbstraction") == "default"
    desk.twin.control("set_abstraction", {"address": desk.address, "mode": "unifiedAccount"})
    assert desk.mine("userAbstraction") == "unifiedAccount"
    assert desk.mine("clearinghouseState")["withdrawable"] == "0.0"
    assert desk.mine("spotClearinghouseState")["balances"][0]["total"] == "1000.0"
    refused = desk.act({"type": "agentSetAbstraction", "abstraction": "i"})
    assert refused["response"] == "Abstraction transition not allowed"


def test_planned_business_faults() -> None:
    desk = Desk()
    desk.fault("partial_fill", "exchange:order", fraction="0.6")
    desk.fault("no_liquidity", "exchange:order")
    desk.fault("reject", "exchange:order", reason="Order would increase open interest too quickly")
    refused = desk.order(False, "10", "199")
    assert refused == {"error": "Order would increase open interest too quickly asset=5"}
    assert "could not immediately match" in desk.order(False, "10", "199")["error"]
    assert desk.order(False, "10", "199")["filled"]["totalSz"] == "6.0"
    assert desk.order(False, "10", "199")["filled"]["totalSz"] == "10.0"


def test_a_hidden_order_comes_to_light_later() -> None:
    desk = Desk()
    desk.fault("hidden_order", "exchange:order", seconds=8)
    assert "filled" in desk.order(False, "1", "199", cloid=CLOID)
    assert desk.mine("orderStatus", oid=CLOID) == {"status": "unknownOid"}
    assert desk.mine("userFills") == [] and desk.position() is not None
    desk.advance(8_000)
    assert _status(desk, CLOID) == "filled" and len(desk.mine("userFills")) == 1


def test_stale_answers_show_the_past() -> None:
    desk = Desk()
    desk.advance(120_000)
    desk.order(False, "1", "199")
    desk.advance(30_000)
    desk.fault("stale", "info:clearinghouseState", age_s=60)
    old = desk.mine("clearinghouseState")
    assert old["assetPositions"] == [] and old["time"] <= desk.world.now_ms() - 60_000
    assert desk.position() is not None


def test_after_an_upgrade_only_post_only_orders_pass() -> None:
    desk = Desk()
    desk.twin.control("post_only", {"on": True})
    text = "Only post-only orders allowed immediately after network upgrade asset=5"
    assert desk.order(False, "1", "199") == {"error": text}
    assert "resting" in desk.order(False, "1", "201", ALO)
    desk.twin.control("post_only", {"on": False})
    assert "filled" in desk.order(False, "1", "199")


def test_unknown_types_and_wrong_json_types_are_bad_requests() -> None:
    desk = Desk()
    for request in (
        {"type": "nope"},
        {"type": "userFills", "user": 5},
        {"type": "fundingHistory", "coin": 5},
        [],
    ):
        with pytest.raises(BadRequest):
            desk.twin.info.handle(request)
    for action in ({"type": "nope"}, {"type": "order", "orders": [{"a": "5"}], "grouping": "na"}):
        with pytest.raises(BadRequest):
            desk.act(action)


def test_address_budget_runs_dry_and_refills_slowly() -> None:
    desk = Desk()
    desk.twin.budget.initial = 3
    for _ in range(3):
        assert desk.act({"type": "noop"})["status"] == "ok"
    assert desk.act({"type": "noop"})["status"] == "ok"  # one per 10 s
    refused = desk.act({"type": "noop"})["response"]
    assert refused.startswith("Too many cumulative requests sent (5 > 3) for cumulative volume traded $0")
    desk.advance(10_000)
    assert desk.act({"type": "noop"})["status"] == "ok"


def test_large_batches_are_refused() -> None:
    desk = Desk()
    cancels = [{"a": SOL, "o": oid} for oid in range(201)]
    answer = desk.act({"type": "cancel", "cancels": cancels})
    assert answer == {"status": "err", "response": "Signed action over weight limit of 200."}
