"""The unmodified ostium-python-sdk 3.3.1 trades by delegation on the Ostium twin, and reads it to the chain's own figures.

It needs an interpreter with the SDK, which is no dependency of ours: `make clients` makes one in `.venv-ostium`, and
EVENKEEL_OSTIUM_SDK may name another.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_utils import to_checksum_address

from tests.evm_rig import MILLION
from tests.ostium_rig import LIMIT, PRICE, SOL, START_USDC, OstiumRig, one, ostium_rig, paid

SCRIPT = Path(__file__).with_name("ostium_sdk_calls.py")
OWN = Path(__file__).parents[2] / ".venv-ostium" / "bin" / "python"
VERSION = "3.3.1"
KEY = "0x" + "6b" * 32
SPEED = 4
"""World seconds a second: what the keeper takes two for is there in half of one."""
ANSWER = re.compile(rb"^ANSWER (.*)$")


@cache
def interpreter() -> str:
    """Return an interpreter with the SDK of this version; skips where none is found."""
    named = os.environ.get("EVENKEEL_OSTIUM_SDK") or (str(OWN) if OWN.exists() else sys.executable)
    asked = "import importlib.metadata as m; print(m.version('ostium-python-sdk'))"
    found = subprocess.run([named, "-c", asked], capture_output=True, text=True, timeout=60)
    if found.stdout.strip() != VERSION:
        pytest.skip(
            f"no interpreter with ostium-python-sdk {VERSION}: `make clients` makes one, EVENKEEL_OSTIUM_SDK may name one"
        )
    return named


class Sdk:
    """The SDK in a process of its own, with the delegate's key."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def asks(self, call: str, *args: Any, **more: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"call": call, "args": args, "more": more}).encode() + b"\n")
        await self._process.stdin.drain()
        said = []
        while line := await self._process.stdout.readline():
            if found := ANSWER.match(line):
                answer: dict[str, Any] = json.loads(found.group(1))
                return answer
            said.append(line.decode())
        raise AssertionError("".join(said) + (await self._process.stderr.read()).decode())  # type: ignore[union-attr]

    async def does(self, call: str, *args: Any, **more: Any) -> Any:
        """Return what a call returned; it must not raise."""
        answer = await self.asks(call, *args, **more)
        assert "error" not in answer, answer["error"]
        return answer["result"]


@asynccontextmanager
async def trading() -> AsyncIterator[tuple[OstiumRig, Sdk]]:
    """A twin whose time flows, SOL at 100, and the SDK with a key that the first trader has made the delegate."""
    program = interpreter()
    async with ostium_rig(speed=SPEED) as rig:
        delegate = Account.from_key(KEY).address
        rig.venue.node.rpc("anvil_setBalance", delegate, hex(10**18))
        rig.venue.send("trading", "setDelegate", delegate, sender=rig.user)
        given = {
            "graph": f"{rig.url}/subgraph",
            "prices": rig.url,
            "rpc": rig.chain_url,
            "key": KEY,
            "contracts": {
                "usdc": rig.venue.at["usdc"],
                "trading": rig.venue.at["trading"],
                "tradingStorage": rig.venue.at["storage"],
            },
        }
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(
            program, str(SCRIPT), json.dumps(given), cwd=SCRIPT.parent, limit=2**24, **pipes
        )
        try:
            yield rig, Sdk(process)
        finally:
            assert process.stdin
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


def checksummed(address: str) -> str:
    return str(to_checksum_address(address))


def order_for(rig: OstiumRig, **how: Any) -> dict[str, Any]:
    return {
        "collateral": 100,
        "leverage": 10,
        "asset_type": SOL,
        "direction": True,
        "order_type": "MARKET",
        "trader_address": checksummed(rig.user),
    } | how


async def tracked(rig: OstiumRig, sdk: Sdk, sent: dict[str, Any]) -> dict[str, Any]:
    """Let the SDK follow an order on the chain: the subgraph is too far behind to show it, however slow this machine is."""
    assert sent["receipt"]["status"] == 1, sent
    rig.twin.behind_s = (3_600, 3_600)
    block = sent["receipt"]["blockNumber"]
    found: dict[str, Any] = await sdk.does(
        "ostium.track_order_and_trade", "$subgraph", sent["order_id"], from_block=block
    )
    return found


def money(units: int) -> float:
    return float(Decimal(units) / MILLION)


def shown(rig: OstiumRig) -> None:
    """Let so much time pass that the subgraph has everything."""
    rig.twin.behind_s = (12, 14)
    rig.clock.advance_to(rig.clock.now_ms() + 20_000)


async def test_the_sdk_opens_settles_moves_a_stop_and_closes_partly_and_wholly() -> None:
    async with trading() as (rig, sdk):
        trader = checksummed(rig.user)
        sent = await sdk.does("ostium.perform_trade", order_for(rig), 100)
        found = await tracked(rig, sdk, sent)
        held = rig.held()
        assert held["trader"] == rig.user and held["leverage"] == 1_000
        order, trade = found["order"], found["trade"]
        assert order["source"] == "chain" and not order["isCancelled"]
        assert trade["openPrice"] == pytest.approx(held["openPrice"] / PRICE) == pytest.approx(100.02)
        assert trade["collateral"] == money(held["collateral"]) == 99.4
        assert trade["isOpen"] and trade["leverage"] == 10
        assert rig.venue.read("storage", "getOpenTradeInfo", rig.user, SOL, 0)["tradeId"] == sent["order_id"]

        shown(rig)
        [row] = await sdk.does("subgraph.get_open_trades", trader)
        assert {
            key: int(row[key]) for key in ("collateral", "openPrice", "leverage", "index", "tradeID")
        } == {
            "collateral": held["collateral"],
            "openPrice": held["openPrice"],
            "leverage": held["leverage"],
            "index": 0,
            "tradeID": sent["order_id"],
        }
        moved = await sdk.does("ostium.update_sl", SOL, 0, 98, trader_address=trader)
        assert moved["status"] == 1 and rig.held()["sl"] == 98 * PRICE
        moved = await sdk.does("ostium.update_tp", SOL, 0, 120, trader_address=trader)
        assert moved["status"] == 1 and rig.held()["tp"] == 120 * PRICE
        added = await sdk.does("ostium.add_collateral", SOL, 0, 20, trader_address=trader)
        assert added["status"] == 1 and rig.held()["collateral"] > held["collateral"]

        rig.pin(105)
        held = rig.held()
        sent = await sdk.does("ostium.close_trade", SOL, 0, 105, 40, trader_address=trader)
        found = await tracked(rig, sdk, sent)
        assert (found["order"]["closePercent"], found["trade"]["isOpen"]) == (40, True)
        settlement = rig.settlement(sent["order_id"])
        assert found["order"]["amountSentToTrader"] == money(paid(settlement, rig.user))
        assert rig.held()["collateral"] == held["collateral"] - held["collateral"] * 4 // 10

        balance = rig.usdc(rig.user)
        sent = await sdk.does("ostium.close_trade", SOL, 0, 105, trader_address=trader)
        found = await tracked(rig, sdk, sent)
        assert found["order"]["closePercent"] == 100 and not found["trade"]["isOpen"]
        settlement = rig.settlement(sent["order_id"])
        assert found["order"]["amountSentToTrader"] == money(paid(settlement, rig.user) - 100_000)
        assert rig.usdc(rig.user) == balance + paid(settlement, rig.user) - 100_000
        _, usdc = await sdk.does("balance.get_balance", trader, refresh=True)
        assert Decimal(usdc) * MILLION == rig.usdc(rig.user)
        assert await sdk.does("subgraph.get_order_by_id", sent["order_id"]) is None, "the subgraph is behind"
        shown(rig)
        assert await sdk.does("subgraph.get_open_trades", trader) == []
        last = (await sdk.does("subgraph.get_recent_history", trader))[-1]
        closed = one(settlement, "MarketCloseExecutedV2").args
        assert (last["id"], last["orderAction"]) == (str(sent["order_id"]), "Close")
        assert int(last["amountSentToTrader"]) == closed["usdcSentToTrader"]
        trade = await sdk.does("subgraph.get_trade_by_id", closed["tradeId"])
        assert int(trade["closePrice"]) == closed["price"] and trade["isOpen"] is False


async def test_the_sdk_is_cancelled_for_slippage_and_sees_why() -> None:
    async with trading() as (rig, sdk):
        rig.pin(103)
        sent = await sdk.does("ostium.perform_trade", order_for(rig), 100)
        found = await tracked(rig, sdk, sent)
        assert (
            found["order"]["isCancelled"] and found["order"]["cancelReason"] == 3 and found["trade"] is None
        )
        assert rig.usdc(rig.user) == START_USDC * MILLION - 100_000
        shown(rig)
        order = await sdk.does("subgraph.get_order_by_id", sent["order_id"])
        assert order["isCancelled"] and order["cancelReason"] == "SLIPPAGE" and not order["isPending"]


async def test_the_sdk_is_refused_by_a_transaction_that_reverts_and_does_not_raise() -> None:
    async with trading() as (rig, sdk):
        foreign = checksummed(rig.users[1])
        sent = await sdk.does("ostium.perform_trade", order_for(rig, trader_address=foreign), 100)
        assert (sent["receipt"]["status"], sent["order_id"]) == (0, None)
        assert refused_with(rig, sent) == "502b946d", "NotDelegate"
        rig.twin.control("pause", {})
        await rig.chain.catch_up()
        while not rig.venue.read("trading", "isPaused"):
            await asyncio.sleep(0.05)
            await rig.chain.catch_up()
        sent = await sdk.does("ostium.perform_trade", order_for(rig), 100)
        assert (sent["receipt"]["status"], sent["order_id"]) == (0, None)
        assert refused_with(rig, sent) == "1309a563", "IsPaused"
        assert rig.usdc(rig.user) == START_USDC * MILLION
        # A short allowance is found before anything is sent.
        rig.venue.send("trading", "pause")
        answer = await sdk.asks("ostium.perform_trade", order_for(rig, collateral=START_USDC + 1), 100)
        assert "Sufficient allowance" in answer["error"]


def refused_with(rig: OstiumRig, sent: dict[str, Any]) -> str:
    """Return the selector that a reverted transaction meets when it is called again at its block."""
    mined = rig.venue.node.rpc("eth_getTransactionByHash", sent["receipt"]["transactionHash"])
    call = {"from": mined["from"], "to": mined["to"], "data": mined["input"]}
    with pytest.raises(RuntimeError) as refused:
        rig.venue.node.rpc("eth_call", call, mined["blockNumber"])
    found = re.search(r'"data": "0x([0-9a-f]{8})', str(refused.value))
    assert found, refused.value
    return found.group(1)


async def test_the_sdk_places_and_cancels_a_limit_order_and_times_an_opening_out() -> None:
    async with trading() as (rig, sdk):
        trader = checksummed(rig.user)
        sent = await sdk.does("ostium.perform_trade", order_for(rig, order_type="LIMIT"), 90)
        assert sent["receipt"]["status"] == 1 and sent["order_id"] is None
        stored = rig.venue.read("storage", "getOpenLimitOrder", rig.user, SOL, 0)
        assert (stored["targetPrice"], stored["orderType"]) == (90 * PRICE, LIMIT)
        shown(rig)
        [row] = await sdk.does("subgraph.get_orders", trader)
        assert row["id"] == f"{rig.user}_{SOL}_0" and int(row["openPrice"]) == 90 * PRICE
        receipt = await sdk.does("ostium.cancel_limit_order", SOL, 0, trader_address=trader)
        assert receipt["status"] == 1 and rig.usdc(rig.user) == START_USDC * MILLION - 100_000

        rig.venue.send("trading", "setMarketOrdersTimeout", 400)
        rig.fault("silent_keeper", "answer:.*", times=-1)
        sent = await sdk.does("ostium.perform_trade", order_for(rig), 100)
        early = await sdk.does("ostium.open_market_timeout", sent["order_id"], trader_address=trader)
        assert early["receipt"]["status"] == 0, "WaitTimeout"
        rig.clock.advance_to(rig.clock.now_ms() + 500_000)
        late = await sdk.does("ostium.open_market_timeout", sent["order_id"], trader_address=trader)
        assert late["receipt"]["status"] == 1
        assert rig.usdc(rig.user) == START_USDC * MILLION - 100_000


async def test_the_sdk_reads_pairs_prices_and_its_own_figures_of_a_trade() -> None:
    async with trading() as (rig, sdk):
        pairs = {one["id"]: one for one in await sdk.does("subgraph.get_pairs")}
        assert (pairs["9"]["from"], pairs["9"]["to"], pairs["9"]["group"]["maxLeverage"]) == (
            "SOL",
            "USD",
            "5000",
        )
        assert await sdk.does("get_pair_max_leverage", 9) == "50"
        assert await sdk.does("get_pair_overnight_max_leverage", 9) is None
        assert await sdk.does("price.get_price", "SOL", "USD") == [100.0, True, False]
        assert await sdk.does("subgraph.get_liq_margin_threshold_p") == "25"
        await tracked(rig, sdk, await sdk.does("ostium.perform_trade", order_for(rig), 100))
        shown(rig)
        trader = checksummed(rig.user)
        metrics = await sdk.does("get_open_trade_metrics", SOL, 0, trader_address=trader)
        held = rig.held()
        size = (held["openPrice"], True, held["collateral"], held["leverage"], 5_000)
        liquidation = rig.venue.read("infos", "getTradeLiquidationPrice", rig.user, SOL, 0, *size)
        assert float(metrics["liquidation_price"]) == pytest.approx(liquidation / PRICE, rel=1e-4)
