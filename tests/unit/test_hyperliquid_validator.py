"""What the validator lets through and what it refuses, each refusal by the name of its rule; and what cannot be signed."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hyperliquid.utils import signing as sdk

from evenkeel.errors import Bug
from evenkeel.legs import IntentKind
from venues.hyperliquid import approval
from venues.hyperliquid.approval import Approved, Refused
from venues.hyperliquid.signing import HyperliquidSigner
from venues.hyperliquid.validator import HyperliquidValidator, Reading, Request, Rules
from venues.signers.local import LocalEvmKey

NOW = 1_700_000_000_000
ACCOUNT = "0x" + "aa" * 20
SAFE = "0x" + "bb" * 20
CLOID = "0x" + "07" * 16
SIGNER = HyperliquidSigner(LocalEvmKey.from_hex("22" * 32))
RULES = Rules(False, ACCOUNT)
VALIDATOR = HyperliquidValidator(RULES)
READING = Reading("SOL", 5, 2, Decimal("150.10"), Decimal("150"), Decimal(0), NOW - 1_000)
SHORT = replace(READING, szi=Decimal(-40))
SELL = Request(IntentKind.OPEN, False, Decimal("10"), False)
COVER = Request(IntentKind.CLOSE, True, Decimal("40"), True)


def order(**changes: Any) -> dict[str, Any]:
    one = {
        "a": 5,
        "b": False,
        "p": "149.9",
        "s": "10",
        "r": False,
        "t": {"limit": {"tif": "Ioc"}},
        "c": CLOID,
    }
    return {"type": "order", "orders": [one | changes], "grouping": "na"}


def cover(**changes: Any) -> dict[str, Any]:
    return order(**({"b": True, "p": "150.9", "s": "40", "r": True} | changes))


def judge(
    action: dict[str, Any], request: Request = SELL, reading: Reading = READING, **envelope: Any
) -> Approved | Refused:
    given: dict[str, Any] = {"nonce": NOW, "expires_after": NOW + 10_000, "now_ms": NOW, **envelope}
    return VALIDATOR.judge_order(action, request=request, reading=reading, **given)


def judge_setting(action: dict[str, Any], **envelope: Any) -> Approved | Refused:
    given: dict[str, Any] = {"nonce": NOW, "expires_after": NOW + 10_000, "now_ms": NOW, **envelope}
    return VALIDATOR.judge_setting(action, assets={5: "SOL", 0: "BTC"}, **given)


def leverage(**changes: Any) -> dict[str, Any]:
    return {"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 3} | changes


def withdrawal(**changes: Any) -> dict[str, Any]:
    return {
        "type": "withdraw3",
        "hyperliquidChain": "Testnet",
        "signatureChainId": "0x66eee",
        "amount": "12.5",
        "time": NOW,
        "destination": SAFE,
    } | changes


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (judge(order()), "sell 10 SOL at 149.9"),
        (judge(cover(), COVER, SHORT), "buy reduce-only 40 SOL"),
        (judge_setting(leverage()), "leverage 3 of SOL"),
        (judge_setting({"type": "noop"}), "noop"),
        (judge_setting({"type": "cancel", "cancels": [{"a": 5, "o": 77}]}), "cancel of 1"),
        (
            judge_setting({"type": "cancelByCloid", "cancels": [{"asset": 5, "cloid": CLOID}]}),
            "cancelByCloid of 1",
        ),
    ],
)
def test_what_the_product_does_is_approved_and_signed(verdict: Approved | Refused, says: str) -> None:
    assert isinstance(verdict, Approved), verdict
    assert says in verdict.judged
    recovered = sdk.recover_agent_or_user_from_l1_action(
        verdict.action, SIGNER.sign(verdict), None, verdict.nonce, verdict.expires_after, False
    )
    assert recovered.lower() == SIGNER.address


REFUSED_ORDERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("action allowlist", {"type": "withdraw3"}, {}),
    ("action allowlist", {"type": "modify", "oid": 1, "order": {}}, {}),
    ("action allowlist", {"type": "twapOrder"}, {}),
    ("action allowlist", {"type": ["order"]}, {}),
    ("action allowlist", {}, {}),
    ("builder", order() | {"builder": {"b": SAFE, "f": 10}}, {}),
    ("fields", order() | {"extra": 1}, {}),
    ("fields", {"type": "order", "grouping": "na", "orders": order()["orders"]}, {}),
    ("grouping", order() | {"grouping": "normalTpsl"}, {}),
    ("one order", order() | {"orders": order()["orders"] * 2}, {}),
    ("one order", order() | {"orders": []}, {}),
    ("fields", order(x=1), {}),
    ("asset", order(a=0), {}),
    ("asset", order(a=5.0), {}),
    ("asset", order(a=True), {}),
    ("immediate or cancel", order(t={"limit": {"tif": "Gtc"}}), {}),
    ("immediate or cancel", order(t={"trigger": {"isMarket": True, "triggerPx": "1", "tpsl": "sl"}}), {}),
    ("client order id", order(c="0x01"), {}),
    ("client order id", order(c="0x" + "AB" * 16), {}),
    ("size", order(s="0"), {}),
    ("size", order(s="-1"), {}),
    ("size", order(s="10.001"), {}),
    ("size", order(s="1e1"), {}),
    ("size", order(s=10), {}),
    ("size", order(s="10.10"), {}),
    ("size", order(s="10.01"), {}),
    ("price", order(p="149.901"), {}),
    ("price", order(p="NaN"), {}),
    ("price", order(p="149.90"), {}),
    ("slippage cap", order(p="149.34"), {}),
    ("slippage cap", cover(p="151.61"), {"request": COVER, "reading": SHORT}),
    (
        "reference price",
        order(p="152"),
        {"reading": replace(READING, mid_px=Decimal("152.5"), fair_px=Decimal("156"))},
    ),
    ("reference price", cover(), {"request": COVER, "reading": replace(SHORT, fair_px=Decimal("136"))}),
    ("price", order(), {"reading": replace(READING, fair_px=Decimal(0))}),
    ("side", order(b=True, r=True), {}),
    ("reduce-only", order(r=True), {}),
    ("reduce-only", cover(r=False), {"request": COVER, "reading": SHORT}),
    ("reduce-only", order(b=True), {"request": replace(SELL, is_buy=True)}),
    ("reduce-only", order(r=True), {"request": replace(SELL, reduce_only=True)}),
    ("reduce-only", order(), {"request": replace(SELL, kind=IntentKind.CLOSE)}),
    ("reduce-only", cover(), {"request": COVER}),
    ("reduce-only", cover(), {"request": COVER, "reading": replace(READING, szi=Decimal(3))}),
    ("shorts only", order(), {"reading": replace(READING, szi=Decimal("0.01"))}),
    ("notional cap", order(s="3700"), {"request": replace(SELL, size=Decimal(5000))}),
    ("short cap", order(), {"reading": replace(READING, szi=Decimal(-14_650))}),
    ("fresh reading", order(), {"reading": replace(READING, seen_ms=NOW - 10_001)}),
    ("fresh reading", order(), {"reading": replace(READING, seen_ms=NOW + 1)}),
    ("expiry", order(), {"expires_after": None}),
    ("expiry", order(), {"expires_after": NOW}),
    ("expiry", order(), {"expires_after": NOW + 60_001}),
    ("expiry", order(), {"expires_after": NOW + 5_000.5}),
    ("nonce", order(), {"nonce": NOW + 86_400_000}),
    ("nonce", order(), {"nonce": NOW - 2 * 86_400_000}),
    ("nonce", order(), {"nonce": True}),
    ("vault", order(), {"vault_address": SAFE}),
]


@pytest.mark.parametrize(("rule", "action", "given"), REFUSED_ORDERS)
def test_a_refused_order_names_the_rule(rule: str, action: dict[str, Any], given: dict[str, Any]) -> None:
    verdict = judge(action, **given)
    assert isinstance(verdict, Refused) and verdict.rule == rule, verdict
    assert verdict.reason and str(verdict).startswith(f"rule {rule}: ")
    with pytest.raises(Bug, match="only an intact approval"):
        SIGNER.sign(verdict)  # type: ignore[arg-type]


def test_only_what_a_fresh_reading_can_mend_may_be_tried_again() -> None:
    stale = judge(order(), reading=replace(READING, seen_ms=NOW - 60_000))
    wrong = judge(order(s="11"))
    assert isinstance(stale, Refused) and stale.again
    assert isinstance(wrong, Refused) and not wrong.again


@pytest.mark.parametrize(
    ("rule", "action"),
    [
        ("leverage", leverage(leverage=5)),
        ("leverage", leverage(leverage=0)),
        ("leverage", leverage(leverage=3.0)),
        ("leverage", leverage(leverage=True)),
        ("cross margin", leverage(isCross=False)),
        ("asset", leverage(asset=0)),
        ("asset", leverage(asset=7)),
        ("fields", {"type": "updateLeverage", "isCross": True, "asset": 5, "leverage": 3}),
        ("fields", {"type": "noop", "x": 1}),
        ("asset", {"type": "cancel", "cancels": [{"a": 0, "o": 1}]}),
        ("order id", {"type": "cancel", "cancels": [{"a": 5, "o": "1"}]}),
        ("cancels", {"type": "cancel", "cancels": []}),
        ("client order id", {"type": "cancelByCloid", "cancels": [{"asset": 5, "cloid": "0x1"}]}),
        ("fields", {"type": "cancelByCloid", "cancels": [7]}),
        ("action allowlist", order()),
        ("action allowlist", {"type": "updateIsolatedMargin", "asset": 5, "isBuy": True, "ntli": 1}),
        ("action allowlist", {"type": "scheduleCancel", "time": NOW + 10_000}),
        ("action allowlist", {"type": "vaultTransfer", "vaultAddress": SAFE, "isDeposit": True, "usd": 1}),
        ("action allowlist", {"type": "subAccountTransfer"}),
        ("action allowlist", {"type": "agentSendAsset"}),
        ("action allowlist", {"type": "setReferrer", "code": "x"}),
        ("action allowlist", {"type": "createSubAccount", "name": "x"}),
    ],
)
def test_a_refused_setting_names_the_rule(rule: str, action: dict[str, Any]) -> None:
    verdict = judge_setting(action)
    assert isinstance(verdict, Refused) and verdict.rule == rule, verdict


FUNDED = HyperliquidValidator(
    replace(RULES, withdrawal_addresses=frozenset({SAFE}), max_withdrawal_usd=Decimal(100))
)


@pytest.mark.parametrize(
    ("rule", "changes", "given"),
    [
        ("action allowlist", {"type": "approveAgent"}, {}),
        ("action allowlist", {"type": "spotSend"}, {}),
        ("action allowlist", {"type": "sendAsset"}, {}),
        ("action allowlist", {"type": "usdClassTransfer"}, {}),
        ("action allowlist", {"type": "userSetAbstraction"}, {}),
        ("action allowlist", {"type": "order"}, {}),
        ("network", {"hyperliquidChain": "Mainnet"}, {}),
        ("chain id", {"signatureChainId": "0xa4b1"}, {}),
        ("destination", {"destination": "0x" + "cc" * 20}, {}),
        ("destination", {"destination": SAFE.upper()}, {}),
        ("destination", {"destination": SAFE + "00"}, {}),
        ("amount", {"amount": "1e2"}, {}),
        ("withdrawal cap", {"amount": "100.01"}, {}),
        ("withdrawal cap", {"amount": "0"}, {}),
        ("nonce", {"time": NOW + 1}, {}),
        ("fields", {"note": "x"}, {}),
        ("master key", {}, {"signer": "0x" + "dd" * 20}),
    ],
)
def test_a_refused_transfer_names_the_rule(rule: str, changes: dict[str, Any], given: dict[str, Any]) -> None:
    envelope: dict[str, Any] = {"nonce": NOW, "now_ms": NOW, "signer": ACCOUNT, **given}
    verdict = FUNDED.judge_transfer(withdrawal(**changes), **envelope)
    assert isinstance(verdict, Refused) and verdict.rule == rule, verdict


def test_without_a_list_of_addresses_nothing_is_ever_withdrawn() -> None:
    verdict = VALIDATOR.judge_transfer(withdrawal(), nonce=NOW, now_ms=NOW, signer=ACCOUNT)
    assert isinstance(verdict, Refused) and "withdrawal_hyperliquid" in verdict.reason


@pytest.mark.parametrize("kind", ["withdraw3", "usdSend"])
@pytest.mark.parametrize("mainnet", [False, True])
def test_a_transfer_to_a_listed_address_is_signed_for_its_network_alone(kind: str, mainnet: bool) -> None:
    rules = replace(FUNDED.rules, is_mainnet=mainnet, account=SIGNER.address)
    chain = "Mainnet" if mainnet else "Testnet"
    wanted = withdrawal(type=kind, hyperliquidChain=chain)
    verdict = HyperliquidValidator(rules).judge_transfer(wanted, nonce=NOW, now_ms=NOW, signer=SIGNER.address)
    assert isinstance(verdict, Approved) and verdict.expires_after is None
    fields = sdk.WITHDRAW_SIGN_TYPES if kind == "withdraw3" else sdk.USD_SEND_SIGN_TYPES
    primary = f"HyperliquidTransaction:{'Withdraw' if kind == 'withdraw3' else 'UsdSend'}"
    signature = SIGNER.sign(verdict)
    for network in (False, True):
        found = sdk.recover_user_from_user_signed_action(verdict.action, signature, fields, primary, network)
        assert (found.lower() == SIGNER.address) is (network is mainnet)


@pytest.mark.parametrize("mainnet", [False, True])
def test_an_order_is_signed_for_the_network_of_the_settings_alone(mainnet: bool) -> None:
    validator = HyperliquidValidator(replace(RULES, is_mainnet=mainnet))
    verdict = validator.judge_order(
        order(), nonce=NOW, expires_after=NOW + 1_000, now_ms=NOW, request=SELL, reading=READING
    )
    assert isinstance(verdict, Approved)
    signature = SIGNER.sign(verdict)
    for network in (False, True):
        found = sdk.recover_agent_or_user_from_l1_action(
            verdict.action, signature, None, NOW, NOW + 1_000, network
        )
        assert (found.lower() == SIGNER.address) is (network is mainnet)


@pytest.mark.parametrize(
    "change",
    [{"chainId": 1}, {"name": "Other"}, {"version": "2"}, {"verifyingContract": SAFE}],
)
def test_a_library_that_changed_the_domain_signs_nothing(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    real = sdk.l1_payload
    monkeypatch.setattr(
        sdk, "l1_payload", lambda agent: real(agent) | {"domain": real(agent)["domain"] | change}
    )
    verdict = judge(order())
    assert isinstance(verdict, Approved)
    with pytest.raises(Bug, match="not of domain Exchange, chain 1337"):
        SIGNER.sign(verdict)


def test_an_approval_cannot_be_made_changed_or_copied() -> None:
    verdict = judge(order())
    assert isinstance(verdict, Approved)
    facts: dict[str, Any] = {
        "nonce": 1,
        "expires_after": 2,
        "is_mainnet": False,
        "is_transfer": False,
        "judged": "",
    }
    for token in (None, object(), "token"):
        with pytest.raises(Bug, match="validator alone"):
            Approved(token, {"type": "noop"}, **facts)
    with pytest.raises(Bug, match="taken its token"):
        approval.take_token()
    with pytest.raises(TypeError):
        type("Mine", (Approved,), {})
    with pytest.raises(AttributeError):
        verdict.text = "{}"
    with pytest.raises(AttributeError):
        del verdict.digest
    for leak in (lambda: pickle.dumps(verdict), lambda: copy.copy(verdict), lambda: copy.deepcopy(verdict)):
        with pytest.raises(TypeError):
            leak()
    verdict.action["orders"][0]["s"] = "9999"
    assert verdict.action == order()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", '{"type":"noop"}'),
        ("nonce", NOW + 1),
        ("expires_after", None),
        ("is_mainnet", True),
        ("is_transfer", True),
    ],
)
def test_an_approval_that_was_forced_open_is_not_signed(name: str, value: Any) -> None:
    verdict = judge(order())
    object.__setattr__(verdict, name, value)
    with pytest.raises(Bug, match="only an intact approval"):
        SIGNER.sign(verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", [None, {}, order(), b"\x00" * 32, "0x00", object()])
def test_nothing_else_is_signed(thing: Any) -> None:
    with pytest.raises(Bug, match="only an intact approval"):
        SIGNER.sign(thing)
    with pytest.raises(Bug):
        SIGNER.signed_body(thing)


def test_raw_signing_is_called_by_the_three_signers_alone() -> None:
    """The way around the validator would be a call of a key's own method from somewhere else."""
    root = Path(__file__).resolve().parents[2]
    callers = {
        str(path.relative_to(root))
        for package in ("app", "venues", "tasks", "flows", "strategy", "state", "evenkeel", "analytics")
        for path in (root / package).rglob("*.py")
        if any(call in path.read_text() for call in (".sign_digest(", ".sign_message(", "unsafe_sign_hash("))
    }
    assert callers == {
        "venues/hyperliquid/signing.py",
        "venues/signers/local.py",
        "venues/solana/keys.py",
        "venues/evm/sender.py",
    }
