"""Unmodified ccxt reads funding and fills from the Hyperliquid twin, and the stops that agents of ours place there.

It needs an interpreter with ccxt, which is no dependency of ours: `make clients` makes one in `.venv-ccxt`, and
EVENKEEL_CCXT may name another.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.agents_rig import agents_rig, bought
from tests.integration.hyperliquid_twin import Desk
from twins.http import served_in_thread
from twins.world import HOUR_MS

SCRIPT = Path(__file__).with_name("ccxt_reads.py")
OWN = Path(__file__).parents[2] / ".venv-ccxt" / "bin" / "python"


def interpreter() -> str:
    named = os.environ.get("EVENKEEL_CCXT")
    if named:
        return named
    if OWN.exists():
        return str(OWN)
    if importlib.util.find_spec("ccxt") is None:
        pytest.skip("no interpreter with ccxt: `make clients` makes one, EVENKEEL_CCXT may name one")
    return sys.executable


def read(url: str, address: str, since_ms: int) -> dict[str, Any]:
    done = subprocess.run(
        [interpreter(), str(SCRIPT), url, address, str(since_ms)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout, parse_float=Decimal)
    return answer


def test_ccxt_reads_funding_and_fills_since_a_time() -> None:
    interpreter()
    desk = Desk("10000")
    desk.advance(1000)  # beyond the stamp of the hour that the world begins with
    start = desk.world.now_ms()
    desk.twin.control("fund", {"address": desk.address, "usdc": "10000"})
    desk.leverage(3)
    desk.order(False, "10", "199")
    desk.advance(5 * HOUR_MS)
    desk.order(True, "4", "202", reduce_only=True)
    desk.advance(2 * HOUR_MS)
    with served_in_thread(desk.twin.app) as url:
        seen = read(url, desk.address, start)
    assert "SOL/USDC:USDC" in seen["markets"]
    mine = desk.mine("userFunding", startTime=start)
    assert len(mine) == 7 == len(seen["funding"]) == len(seen["rates"])
    for row, own in zip(seen["funding"], mine, strict=True):
        assert (row["timestamp"], row["symbol"]) == (own["time"], "SOL/USDC:USDC")
        assert row["amount"] == Decimal(own["delta"]["usdc"]) > 0, "a short earns a positive rate"
    assert {row["fundingRate"] for row in seen["rates"]} == {Decimal("0.0000125")}
    fills = desk.mine("userFills")
    assert [row["id"] for row in seen["fills"]] == [str(one["tid"]) for one in fills[::-1]]
    assert [(row["side"], row["amount"]) for row in seen["fills"]] == [("sell", 10), ("buy", 4)]
    assert all(row["fee"]["cost"] > 0 and row["fee"]["currency"] == "USDC" for row in seen["fills"])
    assert [row["id"] for row in seen["later_fills"]] == [seen["fills"][1]["id"]]
    (position,) = seen["positions"]
    assert (position["side"], position["contracts"]) == ("short", 6)
    account = desk.mine("clearinghouseState")
    assert seen["balance"]["USDC"] == pytest.approx(
        Decimal(account["marginSummary"]["accountValue"]), abs=Decimal(1)
    )
    assert seen["deposits"][0]["amount"] == 10_000
    assert {row["status"] for row in seen["orders"]} == {"closed"} and seen["rate"]["fundingRate"] > 0
    assert seen["book"]["bids"][0][0] < seen["book"]["asks"][0][0] and seen["candles"]


async def test_ccxt_reads_the_stop_that_an_agent_placed_and_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter()
    async with agents_rig(tmp_path, monkeypatch) as rig:
        [user] = rig.users
        rig.twin.ip_weight_per_minute = 1_000_000
        bought(user)
        await rig.ticked()
        rig.price("215")
        await rig.ticked()
        url = str(rig.settings.hyperliquid.url)
        seen = await asyncio.to_thread(read, url, user.address, rig.world.now_ms() - HOUR_MS)
        stop = rig.only().stop
    assert stop is not None and stop > 213
    [order] = seen["open_orders"]
    assert (order["symbol"], order["side"], order["amount"], order["reduceOnly"]) == (
        "SOL/USDC:USDC",
        "sell",
        5,
        True,
    )
    assert Decimal(str(order["triggerPrice"])) == stop and order["status"] == "open"
    assert order["info"]["orderType"] == "Stop Market" and order["clientOrderId"].startswith("0x")
