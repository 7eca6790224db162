"""Account modes of the Hyperliquid twin by the venue's own figures, and the life of an agent."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hyperliquid.utils import signing as sdk

from tests.integration.hyperliquid_twin import Desk, wallet

D = Decimal
DAY_MS = 86_400_000
SAMPLES = Path(os.environ.get("EVENKEEL_DATA", "")) / "hyperliquid-api" / "client-samples.json"


def mode(desk: Desk, name: str) -> None:
    desk.twin.control("set_abstraction", {"address": desk.address, "mode": name})


def user_signed(desk: Desk, sign: Any, action: dict[str, Any]) -> dict[str, Any]:
    desk.twin.catch_up()
    signature = sign(desk.wallet, action, False)
    nonce = action.get("nonce", action.get("time"))
    return desk.twin.exchange.handle({"action": action, "nonce": nonce, "signature": signature})


def pool(desk: Desk) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(perpetuals, spot, the USDC row of spot)"""
    spot = desk.mine("spotClearinghouseState")
    return desk.mine("clearinghouseState"), spot, spot["balances"][0]


def shows_the_pool(perp: dict[str, Any], spot: dict[str, Any], usdc: dict[str, Any]) -> None:
    """How the figures of a pooled account hang together."""
    state = perp["marginSummary"]
    value = D(state["accountValue"])
    assert D(usdc["hold"]) == pytest.approx(D(state["totalMarginUsed"]), abs=D("1e-5"))
    assert value - D(state["totalMarginUsed"]) == pytest.approx(D(perp["withdrawable"]), abs=D("1e-5"))
    after = D(dict(map(tuple, spot["tokenToAvailableAfterMaintenance"]))[0])
    assert D(usdc["total"]) - D(perp["crossMaintenanceMarginUsed"]) == pytest.approx(after, abs=D("1e-5"))
    sides = sum(
        (1 if D(one["position"]["szi"]) > 0 else -1 for one in perp["assetPositions"]),
    )
    assert value == D(state["totalRawUsd"]) + sides * D(state["totalNtlPos"])


@pytest.mark.skipif(not SAMPLES.is_file(), reason="EVENKEEL_DATA has no recorded answers of Hyperliquid")
def test_the_recorded_account_hangs_together_in_the_same_way() -> None:
    found = json.loads(SAMPLES.read_text())["Spot/Account/GetSubAccounts2"]["response"][0]
    (_, perp), spot = found["dexToClearinghouseState"][0], found["spotState"]
    shows_the_pool(perp, spot, spot["balances"][0])


def test_a_unified_account_shows_its_money_as_spot() -> None:
    desk = Desk("1000")
    desk.leverage(3)
    mode(desk, "unifiedAccount")
    perp, spot, usdc = pool(desk)
    assert perp["marginSummary"]["accountValue"] == perp["withdrawable"] == "0.0"
    assert (usdc["total"], usdc["hold"]) == ("1000.0", "0.0")
    desk.order(False, "10", "199")
    perp, spot, usdc = pool(desk)
    shows_the_pool(perp, spot, usdc)
    # The perpetuals' own figures look like those of an account with nothing but its margin.
    assert D(perp["marginSummary"]["accountValue"]) == pytest.approx(D(2000) / 3, rel=D("0.001"))
    assert D(usdc["total"]) == pytest.approx(D(1000), rel=D("0.002"))
    liquidation = D(desk.position()["liquidationPx"])  # type: ignore[index]
    assert liquidation == pytest.approx(D(292), abs=2), "by the whole balance: 1,000 of equity on 10 SOL"
    desk.series.price = 210.0
    desk.advance(1000)
    perp, spot, usdc = pool(desk)
    shows_the_pool(perp, spot, usdc)
    assert D(usdc["total"]) == pytest.approx(D(900), rel=D("0.003")), "a loss that is not taken counts"
    desk.check_ledger()


def test_spot_money_backs_the_perpetuals_while_the_account_is_unified() -> None:
    desk = Desk("1000")
    now = desk.world.now_ms() + 10_000
    move = {"type": "usdClassTransfer", "amount": "900", "toPerp": False, "nonce": now}
    assert user_signed(desk, sdk.sign_usd_class_transfer_action, move)["status"] == "ok"
    desk.leverage(3)
    assert "Insufficient margin" in desk.order(False, "10", "199")["error"]
    mode(desk, "unifiedAccount")
    assert desk.order(False, "10", "199")["filled"]["totalSz"] == "10.0"
    desk.check_ledger()
    refused = user_signed(desk, sdk.sign_usd_class_transfer_action, {**move, "nonce": now + 1})
    assert refused["response"] == "Action disabled when unified account is active"
    # Back in two balances: the perpetuals keep what their margin needs.
    mode(desk, "disabled")
    perp, spot, usdc = pool(desk)
    assert D(perp["marginSummary"]["accountValue"]) == pytest.approx(D(2000) / 3, rel=D("0.001"))
    assert "tokenToAvailableAfterMaintenance" not in spot
    both = D(usdc["total"]) + D(perp["marginSummary"]["accountValue"])
    assert both == pytest.approx(D(1000), rel=D("0.002"))
    desk.check_ledger()


def test_a_portfolio_account_says_its_ratio() -> None:
    desk = Desk("1000")
    desk.leverage(3)
    desk.order(False, "10", "199")
    mode(desk, "portfolioMargin")
    perp, spot, usdc = pool(desk)
    shows_the_pool(perp, spot, usdc)
    ratio = D(perp["crossMaintenanceMarginUsed"]) / D(usdc["total"])
    assert D(spot["portfolioMarginRatio"]) == pytest.approx(ratio, abs=D("1e-8"))


def test_what_a_unified_account_may_send() -> None:
    desk, friend = Desk("1000"), wallet(4002).address
    mode(desk, "unifiedAccount")
    now = desk.world.now_ms() + 10_000
    send = {"type": "usdSend", "destination": friend, "amount": "10", "time": now}
    refused = user_signed(desk, sdk.sign_usd_transfer_action, send)
    assert refused["response"] == "Action disabled when unified account is active"
    asset = {
        "type": "sendAsset",
        "destination": friend,
        "sourceDex": "",
        "destinationDex": "",
        "token": "USDC",
        "amount": "10",
        "fromSubAccount": "",
        "nonce": now + 1,
    }
    refused = user_signed(desk, sdk.sign_send_asset_action, dict(asset))
    assert refused["response"] == "Unified account only supports sending assets through spot"
    through_spot = {**asset, "sourceDex": "spot", "destinationDex": "spot", "nonce": now + 2}
    assert user_signed(desk, sdk.sign_send_asset_action, through_spot)["status"] == "ok"
    assert desk.mine("spotClearinghouseState")["balances"][0]["total"] == "989.0", (
        "10, and 1 for a new account"
    )
    assert desk.info("spotClearinghouseState", user=friend)["balances"][0]["total"] == "10.0"
    desk.check_ledger()


def test_the_abstraction_of_builder_dexes_is_null_until_it_is_set() -> None:
    desk = Desk()
    assert desk.mine("userDexAbstraction") is None
    action = {
        "type": "userDexAbstraction",
        "user": desk.address,
        "enabled": False,
        "nonce": desk.world.now_ms() + 10_000,
    }
    assert user_signed(desk, sdk.sign_user_dex_abstraction_action, action)["status"] == "ok"
    assert desk.mine("userDexAbstraction") is False
    assert desk.act({"type": "agentEnableDexAbstraction"})["status"] == "ok"
    assert desk.mine("userDexAbstraction") is True
    mode(desk, "unifiedAccount")
    refused = desk.act({"type": "agentEnableDexAbstraction"})
    assert refused["response"] == "Action disabled when unified account is active"


def test_an_agent_ends_when_its_approval_says() -> None:
    desk, agent = Desk(), wallet(4003)
    until = desk.world.now_ms() + DAY_MS
    approval = {"master": desk.address, "agent": agent.address, "name": "trader", "valid_until_ms": until}
    desk.twin.control("approve_agent", approval)
    row = {"name": "trader", "address": agent.address.lower(), "validUntil": until}
    assert desk.mine("extraAgents") == [row]
    leverage = {"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 3}
    assert desk.act(leverage, agent)["status"] == "ok"
    # The same approval with another end, as a test shortens it.
    desk.twin.control("approve_agent", approval | {"valid_until_ms": desk.world.now_ms() + 1000})
    desk.advance(2000)
    assert desk.mine("extraAgents") == []
    refused = desk.act(leverage, agent)
    assert refused == {
        "status": "err",
        "response": f"User or API Wallet {agent.address.lower()} does not exist.",
    }
