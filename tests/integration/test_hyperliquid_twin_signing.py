"""The twin recovers whoever signed: published vectors, both networks, nonces, agents."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hyperliquid.utils import signing as sdk

from tests.integration.hyperliquid_twin import Desk, wallet
from twins.hyperliquid.auth import Nonces, recover
from twins.hyperliquid.errors import ActionRefused, BadRequest

SIGNER = "0x14791697260e4c9a71f18484c9f997b308e59325"
ORDER = {"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": {"limit": {"tif": "Gtc"}}}
CLOID = "0x00000000000000000000000000000001"
SELL: dict[str, Any] = {
    "type": "order",
    "orders": [
        {
            "a": 5,
            "b": False,
            "p": "150.12",
            "s": "1.5",
            "r": False,
            "t": {"limit": {"tif": "Ioc"}},
            "c": "0x00000000000000000000000000000007",
        }
    ],
    "grouping": "na",
}
NONCE = 1_700_000_000_000


def _order(**extra: Any) -> dict[str, Any]:
    return {"type": "order", "orders": [{**ORDER, **extra}], "grouping": "na"}


DUMMY = {"type": "dummy", "num": 100_000_000_000}
SCHEDULE = {"type": "scheduleCancel", "time": 123_456_789}
LEVERAGE = {"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 3}
CANCEL = {"type": "cancelByCloid", "cancels": [{"asset": 5, "cloid": "0x00000000000000000000000000000007"}]}
# (action, nonce, expiresAfter, mainnet, r, s, v); the first eight are the SDK's own test vectors.
L1_VECTORS = [
    (DUMMY, 0, None, True, "0x53749d5b30552aeb2fca34b530185976545bb22d0b3ce6f62e31be961a59298",
     "0x755c40ba9bf05223521753995abb2f73ab3229be8ec921f350cb447e384d8ed8", 27),
    (DUMMY, 0, None, False, "0x542af61ef1f429707e3c76c5293c80d01f74ef853e34b76efffcb57e574f9510",
     "0x17b8b32f086e8cdede991f1e2c529f5dd5297cbe8128500e00cbaf766204a613", 28),
    (_order(), 0, None, True, "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
     "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e", 28),
    (_order(), 0, None, False, "0x82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
     "0x6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5", 27),
    (_order(c=CLOID), 0, None, True, "0x41ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3",
     "0x3c61f667e747404fe7eea8f90ab0e76cc12ce60270438b2058324681a00116da", 27),
    (_order(c=CLOID), 0, None, False, "0xeba0664bed2676fc4e5a743bf89e5c7501aa6d870bdb9446e122c9466c5cd16d",
     "0x7f3e74825c9114bc59086f1eebea2928c190fdfbfde144827cb02b85bbe90988", 28),
    (SCHEDULE, 0, None, True, "0x609cb20c737945d070716dcc696ba030e9976fcf5edad87afa7d877493109d55",
     "0x16c685d63b5c7a04512d73f183b3d7a00da5406ff1f8aad33f8ae2163bab758b", 28),
    (SCHEDULE, 0, None, False, "0x4e4f2dbd4107c69783e251b7e1057d9f2b9d11cee213441ccfa2be63516dc5bc",
     "0x706c656b23428c8ba356d68db207e11139ede1670481a9e01ae2dfcdb0e1a678", 27),
    (SELL, NONCE, None, False, "0x53467247ebac9c1f377e6513df96358e5c0c21ae539f8fbd76927fff65de06b8",
     "0x2d763f915aded45c68a94d3d85cb4d1a0d91b69257915e6facb4140f24abc8b0", 27),
    (SELL, NONCE, 1_700_000_005_000, False,
     "0xebd2ab891cd244206926771dc70b00ee11bd516e096269b3c197c8659104004b",
     "0x1133a628fc2e5b2a308b9bc47a231b62c3941056101b5d714f9814a64efb269a", 28),
    (LEVERAGE, NONCE, None, False, "0x74e91db81fe69e533b1306a2388112dc88fd6a9e665ee56f33378efee334c2ec",
     "0x54dad9bf47ba9bd0fb2d453ba43dec995b206e6afdca40e6346eef2a0ed41c1b", 27),
    (CANCEL, NONCE, None, False, "0x7501656f5e1028828e27446c14ba1d4f7ef2d585ffcdbb20cf6294d795afb0d4",
     "0xfc269cb4439862320c6ce5220634350fc9ea3695ac8eee9e6dec158eb27de45", 27),
    (SELL, NONCE, None, True, "0x7d27d7934243e6e6b91a4b598e3d544854152cfe5f167839f68b1af740a05fb",
     "0x64aa43c477f7e28a4b7d0c17b18e1f38b8a7d6599f985bf0704f115ea6c3e09d", 28),
]  # fmt: skip
SEND = {"destination": "0x5e9ee1089755c3435139848e47e6635505d5a13a", "amount": "1", "time": 1_687_816_341_423}
USER_VECTORS = [
    ("usdSend", "0x637b37dd731507cdd24f46532ca8ba6eec616952c56218baeff04144e4a77073",
     "0x11a6a24900e6e314136d2592e2f8d502cd89b7c15b198e1bee043c9589f9fad7", 27),
    ("withdraw3", "0x8363524c799e90ce9bc41022f7c39b4e9bdba786e5f9c72b20e43e1462c37cf9",
     "0x58b1411a775938b83e29182e8ef74975f9054c8e97ebf5ec2dc8d51bfc893881", 28),
]  # fmt: skip


@pytest.mark.parametrize(("action", "nonce", "expires", "mainnet", "r", "s", "v"), L1_VECTORS)
def test_published_l1_signatures_recover_their_signer(
    action: dict[str, Any], nonce: int, expires: int | None, mainnet: bool, r: str, s: str, v: int
) -> None:
    body = {"action": action, "nonce": nonce, "expiresAfter": expires, "signature": {"r": r, "s": s, "v": v}}
    assert recover(copy.deepcopy(body), is_mainnet=mainnet) == SIGNER
    assert recover(copy.deepcopy(body), is_mainnet=not mainnet) != SIGNER


@pytest.mark.parametrize(("kind", "r", "s", "v"), USER_VECTORS)
def test_published_user_signatures_recover_their_signer(kind: str, r: str, s: str, v: int) -> None:
    action = {"type": kind, **SEND, "signatureChainId": "0x66eee", "hyperliquidChain": "Testnet"}
    body = {"action": action, "nonce": SEND["time"], "signature": {"r": r, "s": s, "v": v}}
    assert recover(body) == SIGNER


def test_garbage_signature_is_a_bad_request() -> None:
    with pytest.raises(BadRequest):
        recover({"action": {"type": "noop"}, "nonce": 1, "signature": {"r": "0x0", "s": "0x0", "v": 99}})


def test_unknown_wallet_and_foreign_network_name_the_recovered_address() -> None:
    desk = Desk()
    other = wallet(77)
    answer = desk.act({"type": "noop"}, other)
    text = f"User or API Wallet {other.address.lower()} does not exist."
    assert answer == {"status": "err", "response": text}
    body = desk.body({"type": "noop"})
    body["signature"] = sdk.sign_l1_action(desk.wallet, {"type": "noop"}, None, body["nonce"], None, True)
    refused = desk.twin.exchange.handle(body)["response"]
    assert refused.startswith("User or API Wallet 0x") and refused.endswith(" does not exist.")
    assert desk.address not in refused


def test_a_nonce_counts_once_even_when_its_order_was_refused() -> None:
    desk = Desk()
    body = desk.body({"type": "noop"})
    assert desk.twin.exchange.handle(copy.deepcopy(body))["status"] == "ok"
    again = desk.twin.exchange.handle(body)
    assert again == {"status": "err", "response": f"Invalid nonce: duplicate nonce {body['nonce']}"}


def test_nonce_set_keeps_the_hundred_highest_and_a_window() -> None:
    nonces, now = Nonces(accept_wall_clock=False), 10**12
    for step in range(100):
        nonces.use("a", now + 10 * step, now)
    nonces.use("a", now + 5, now)  # above the smallest kept, unused
    for bad in (now, now + 5, now - 1, now - 2 * 86_400_000, now + 86_400_000):
        with pytest.raises(ActionRefused):
            nonces.use("a", bad, now)
    nonces.use("b", now, now)


def test_expired_action_is_refused_and_costs_five_requests() -> None:
    desk = Desk()
    now = desk.world.now_ms()
    assert desk.act({"type": "noop"}, expiresAfter=now + 60_000)["status"] == "ok"
    used = desk.mine("userRateLimit")["nRequestsUsed"]
    assert desk.act({"type": "noop"}, expiresAfter=now - 1)["status"] == "err"
    assert desk.mine("userRateLimit")["nRequestsUsed"] == used + 5


def test_agents_trade_expire_and_are_replaced_but_never_move_money() -> None:
    desk = Desk()
    first, second = wallet(2001), wallet(2002)
    approve = {"master": desk.address, "name": "bot"}
    desk.twin.control("approve_agent", {**approve, "agent": first.address})
    assert desk.act({"type": "noop"}, first)["status"] == "ok"
    assert desk.info("userRole", user=first.address) == {"role": "agent", "data": {"user": desk.address}}
    desk.twin.control(
        "approve_agent",
        {**approve, "agent": second.address, "valid_until_ms": desk.world.now_ms() + 60_000},
    )
    assert "does not exist" in desk.act({"type": "noop"}, first)["response"]
    assert [row["address"] for row in desk.mine("extraAgents")] == [second.address.lower()]

    nonce = desk.world.now_ms()
    action = {"type": "withdraw3", "destination": desk.address, "amount": "5", "time": nonce}
    signature = sdk.sign_withdraw_from_bridge_action(second, action, False)
    refused = desk.twin.exchange.handle({"action": action, "nonce": nonce, "signature": signature})
    text = f"Must deposit before performing actions. User: {second.address.lower()}"
    assert refused == {"status": "err", "response": text}

    desk.advance(61_000)
    assert "does not exist" in desk.act({"type": "noop"}, second)["response"]
    assert desk.mine("extraAgents") == []


def test_a_fourth_named_agent_is_refused() -> None:
    desk = Desk()
    for seed in range(3):
        body = {"master": desk.address, "agent": wallet(3000 + seed).address, "name": f"bot{seed}"}
        desk.twin.control("approve_agent", body)
    with pytest.raises(ActionRefused, match="Too many extra agents"):
        body = {"master": desk.address, "agent": wallet(3009).address, "name": "bot9"}
        desk.twin.control("approve_agent", body)
