"""The unmodified official SDK trades on the Hyperliquid twin: the proof that the twin speaks the venue's protocol."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils.error import ClientError, ServerError
from hyperliquid.utils.types import Cloid

from tests.worlds import flat_world
from twins.faults import Fault, FaultMiddleware, FaultPlan
from twins.http import served_in_thread
from twins.hyperliquid import HyperliquidTwin
from twins.world import HOUR_MS, World

WAIT_S = 20
GTC = {"limit": {"tif": "Gtc"}}


@dataclass
class Venue:
    url: str
    twin: HyperliquidTwin
    world: World
    faults: FaultPlan
    wallet: LocalAccount
    exchange: Exchange
    info: Info

    @property
    def address(self) -> str:
        return str(self.wallet.address)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.info.user_state(self.address)
        return found


@pytest.fixture
def venue() -> Iterator[Venue]:
    world, faults = flat_world(), FaultPlan()
    twin = HyperliquidTwin(world, faults)
    twin.ip_weight_per_minute = (
        100_000  # world and wall run at one speed here, and the SDK's constructors are heavy
    )
    wallet = Account.create()
    twin.control("fund", {"address": wallet.address, "usdc": "10000"})
    app = FaultMiddleware(twin.app, faults, "hyperliquid", twin.call_name, world.now_ms)
    with served_in_thread(app) as url:
        exchange = Exchange(wallet, url, timeout=10)
        yield Venue(url, twin, world, faults, wallet, exchange, exchange.info)


def status(answer: Any) -> Any:
    assert answer["status"] == "ok", answer
    return answer["response"]["data"]["statuses"][0]


def error(answer: Any) -> str:
    return str(status(answer)["error"])


def test_short_opened_partly_filled_found_by_cloid_funded_and_closed(venue: Venue) -> None:
    sdk, cloid = venue.exchange, Cloid.from_int(7)
    assert venue.info.name_to_asset("SOL") == 5
    assert sdk.update_leverage(3, "SOL") == {"status": "ok", "response": {"type": "default"}}
    venue.faults.add(Fault("hyperliquid", "partial_fill", "exchange:order", args={"fraction": "0.6"}))
    filled = status(sdk.market_open("SOL", False, 10, slippage=0.003, cloid=cloid))["filled"]
    assert (filled["totalSz"], filled["cloid"]) == ("6.0", cloid.to_raw())

    record = venue.info.query_order_by_cloid(venue.address, cloid)
    assert record["status"] == "order" and record["order"]["order"]["oid"] == filled["oid"]
    assert record == venue.info.query_order_by_oid(venue.address, filled["oid"])
    fills = venue.info.user_fills(venue.address)
    assert {(row["cloid"], row["dir"], row["oid"]) for row in fills} == {
        (cloid.to_raw(), "Open Short", filled["oid"])
    }
    position = venue.state()["assetPositions"][0]["position"]
    assert (position["szi"], position["leverage"]) == ("-6.0", {"type": "cross", "value": 3})

    venue.world.clock.advance_to(venue.world.now_ms() + 5 * HOUR_MS)
    rows = venue.info.user_funding_history(venue.address, 0)
    assert len(rows) == 5 and all(Decimal(row["delta"]["usdc"]) > 0 for row in rows)
    assert len(venue.info.funding_history("SOL", rows[0]["time"])) == 5

    closed = status(sdk.market_close("SOL", slippage=0.003))["filled"]
    assert closed["totalSz"] == "6.0" and venue.state()["assetPositions"] == []
    assert sdk.market_close("SOL") is None
    dump = venue.twin.control("ledger", {})["accounts"][venue.address.lower()]
    booked = sum(map(Decimal, dump["cash_parts_usd"].values()), Decimal(0))
    assert Decimal(venue.state()["marginSummary"]["accountValue"]) == booked


def test_limit_orders_rest_change_and_go(venue: Venue) -> None:
    sdk, cloid = venue.exchange, Cloid.from_int(11)
    oid = status(sdk.order("SOL", False, 1, 210.0, GTC))["resting"]["oid"]
    assert [row["oid"] for row in venue.info.open_orders(venue.address)] == [oid]
    moved = status(sdk.modify_order(oid, "SOL", False, 2, 211.0, GTC, cloid=cloid))["resting"]
    assert venue.info.frontend_open_orders(venue.address)[0]["limitPx"] == "211.0"
    assert moved["cloid"] == cloid.to_raw()
    assert status(sdk.cancel_by_cloid("SOL", cloid)) == "success"
    again = "Order was never placed, already canceled, or filled. asset=5"
    assert error(sdk.cancel("SOL", moved["oid"])) == again
    assert venue.info.open_orders(venue.address) == []
    history = venue.info.historical_orders(venue.address)
    assert [row["status"] for row in history] == ["canceled", "canceled"]


def test_refusals_leave_everything_as_it_was(venue: Venue) -> None:
    sdk, before = venue.exchange, venue.state()
    assert error(sdk.order("SOL", False, 1, 200.123, GTC)) == "Price must be divisible by tick size. asset=5"
    assert error(sdk.order("SOL", False, 0.04, 201.0, GTC)) == "Order must have minimum value of $10. asset=5"
    assert error(sdk.order("SOL", False, 5000, 201.0, GTC)) == "Insufficient margin to place order. asset=5"
    other = Account.create()
    refused = Exchange(other, venue.url).order("SOL", False, 1, 210.0, GTC)
    text = f"User or API Wallet {other.address.lower()} does not exist."
    assert refused == {"status": "err", "response": text}
    poor = Exchange(other, venue.url).withdraw_from_bridge(5.0, other.address)
    text = f"Must deposit before performing actions. User: {other.address.lower()}"
    assert poor == {"status": "err", "response": text}
    refusal = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0."
    scheduled = sdk.schedule_cancel(venue.world.now_ms() + 10_000)
    assert scheduled == {"status": "err", "response": refusal}
    assert sdk.create_sub_account("one")["status"] == "err"
    assert {**venue.state(), "time": 0} == {**before, "time": 0}
    with pytest.raises(ClientError) as raised:
        venue.info.post("/info", {"type": "nope"})
    assert raised.value.status_code == 422


def test_a_nonce_works_once(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = int(time.time() * 1000)
    monkeypatch.setattr("hyperliquid.exchange.get_timestamp_ms", lambda: stamp)
    assert "resting" in status(venue.exchange.order("SOL", False, 1, 210.0, GTC))
    again = venue.exchange.order("SOL", False, 1, 210.0, GTC)
    assert again == {"status": "err", "response": f"Invalid nonce: duplicate nonce {stamp}"}
    assert len(venue.info.open_orders(venue.address)) == 1


def test_an_answer_lost_after_the_order_was_applied(venue: Venue) -> None:
    cloid = Cloid.from_int(21)
    venue.faults.add(Fault("hyperliquid", "http_500_after", "exchange:order"))
    with pytest.raises(ServerError):
        venue.exchange.market_open("SOL", False, 1, slippage=0.003, cloid=cloid)
    assert venue.info.query_order_by_cloid(venue.address, cloid)["order"]["status"] == "filled"


def test_money_moves_only_with_the_master_key(venue: Venue) -> None:
    sdk, info = venue.exchange, venue.info
    assert sdk.usd_class_transfer(50, False)["status"] == "ok"
    assert info.spot_user_state(venue.address)["balances"][0]["total"] == "50.0"
    assert sdk.usd_class_transfer(20, True)["status"] == "ok"
    assert sdk.withdraw_from_bridge(100.0, venue.address)["status"] == "ok"
    assert venue.state()["withdrawable"] == "9870.0"
    kinds = [row["delta"]["type"] for row in info.user_non_funding_ledger_updates(venue.address, 0)]
    assert kinds == ["deposit", "accountClassTransfer", "accountClassTransfer", "withdraw"]
    assert sdk.usd_transfer(10, Account.create().address)["status"] == "ok"
    assert venue.state()["withdrawable"] == "9859.0"

    answer, key = sdk.approve_agent("bot")
    assert answer["status"] == "ok"
    agent = Account.from_key(key)
    assert [row["name"] for row in info.extra_agents(venue.address)] == ["bot"]
    assert info.user_role(agent.address)["role"] == "agent"
    trader = Exchange(agent, venue.url, account_address=venue.address)
    assert "filled" in status(trader.market_open("SOL", False, 1, slippage=0.003))
    assert venue.state()["assetPositions"][0]["position"]["szi"] == "-1.0"
    assert info.user_state(agent.address)["assetPositions"] == []
    refused = trader.withdraw_from_bridge(10.0, agent.address)["response"]
    assert refused == f"Must deposit before performing actions. User: {agent.address.lower()}"
    assert "filled" in status(trader.market_close("SOL", slippage=0.003))

    unnamed, key = sdk.approve_agent()
    assert unnamed["status"] == "ok"
    assert "resting" in status(Exchange(Account.from_key(key), venue.url).order("SOL", False, 1, 210.0, GTC))


def test_the_remaining_reads_and_actions_of_the_sdk(venue: Venue) -> None:
    sdk, info, me = venue.exchange, venue.info, venue.address
    status(sdk.market_open("SOL", False, 1, slippage=0.003))
    meta, contexts = info.meta_and_asset_ctxs()
    assert len(meta["universe"]) == len(contexts) and "isDelisted" in meta["universe"][3]
    assert set(info.all_mids()) == {"BTC", "ETH", "ATOM", "DYDX", "SOL"}
    assert len(info.l2_snapshot("SOL")["levels"][0]) == 20
    now = venue.world.now_ms()
    assert len(info.candles_snapshot("SOL", "1h", now - 4 * HOUR_MS, now)) >= 1
    assert info.user_fees(me)["userCrossRate"] == "0.00045"
    assert info.user_rate_limit(me)["nRequestsCap"] > 10_000
    assert len(info.user_fills_by_time(me, 0, aggregate_by_time=True)) == 1
    assert [name for name, _ in info.portfolio(me)][:4] == ["day", "week", "month", "allTime"]
    assert info.query_user_abstraction_state(me) == "default"
    assert info.perp_dexs() == [None] and info.spot_meta_and_asset_ctxs()[1] == []
    for read in (
        info.query_sub_accounts,
        info.query_referral_state,
        info.user_staking_summary,
        info.user_staking_delegations,
        info.user_staking_rewards,
        info.delegator_history,
        info.user_twap_slice_fills,
        info.user_vault_equities,
        info.query_user_to_multi_sig_signers,
        info.query_user_dex_abstraction_state,
    ):
        read(me)
    assert sdk.set_referrer("ASDFASDF")["status"] == "ok"
    assert sdk.approve_builder_fee(Account.create().address, "0.001%")["status"] == "ok"
    builder = {"b": Account.create().address, "f": 1}
    assert "resting" in status(sdk.order("SOL", False, 1, 210.0, GTC, builder=builder))
    assert sdk.update_leverage(21, "SOL") == {"status": "err", "response": "Invalid leverage value"}
    assert sdk.update_leverage(5, "ETH", is_cross=False)["status"] == "ok"
    assert "filled" in status(sdk.market_open("ETH", True, 0.1))
    assert sdk.update_isolated_margin(10, "ETH")["status"] == "ok"
    vault = Account.create().address
    assert sdk.vault_usd_transfer(vault, True, 5_000_000)["response"].startswith("Vault not registered")
    stop = {"trigger": {"triggerPx": 205.0, "isMarket": True, "tpsl": "sl"}}
    assert "resting" in status(sdk.order("SOL", True, 1, 220.0, stop, reduce_only=True))
    assert sdk.user_set_abstraction(me, "disabled")["status"] == "ok"
    assert info.query_user_abstraction_state(me) == "disabled"


def test_the_sdk_websocket_gets_snapshots_and_updates(venue: Venue) -> None:
    info = Info(venue.url, timeout=10)
    got: queue.Queue[dict[str, Any]] = queue.Queue()
    try:
        for kind in ("bbo", "activeAssetCtx", "l2Book", "trades"):
            info.subscribe({"type": kind, "coin": "SOL"}, got.put)  # type: ignore[typeddict-item,misc]
        for kind in ("userFills", "orderUpdates", "userEvents", "userFundings"):
            info.subscribe({"type": kind, "user": venue.address}, got.put)  # type: ignore[typeddict-item,misc]
        info.subscribe({"type": "allMids"}, got.put)
        info.subscribe({"type": "activeAssetData", "user": venue.address, "coin": "SOL"}, got.put)
        seen: dict[str, list[Any]] = {}

        def wait_for(*channels: str) -> None:
            until = time.monotonic() + WAIT_S
            while not set(channels) <= set(seen):
                message = got.get(timeout=max(0.01, until - time.monotonic()))
                seen.setdefault(message["channel"], []).append(message["data"])

        wait_for("bbo", "activeAssetCtx", "l2Book", "userFills", "userFundings", "allMids", "activeAssetData")
        assert seen["userFills"][0] == {"isSnapshot": True, "user": venue.address.lower(), "fills": []}
        assert seen["activeAssetCtx"][0]["ctx"]["funding"] == "0.0000125"
        assert seen["bbo"][0]["bbo"][0]["px"] == "200.06"
        seen.clear()
        status(venue.exchange.market_open("SOL", False, 1, slippage=0.003))
        wait_for("userFills", "orderUpdates", "user", "trades", "bbo", "activeAssetData")
        assert seen["userFills"][0]["fills"][0]["dir"] == "Open Short"
        assert seen["orderUpdates"][0][-1]["status"] == "filled"
        assert seen["user"][0]["fills"][0]["sz"] == "1.0"
        seen.clear()
        venue.world.clock.advance_to(venue.world.now_ms() + HOUR_MS)
        wait_for("userFundings")
        assert Decimal(seen["userFundings"][0]["fundings"][0]["usdc"]) > 0
    finally:
        info.disconnect_websocket()
