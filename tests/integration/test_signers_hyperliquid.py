"""The validator in the venue's own path, against the twin: what it stops never reaches the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from evenkeel.errors import Bug, Retryable, VenueRefused
from evenkeel.types import Built, Confirmed
from tests.integration.hyperliquid_rig import AGENT_KEY, MASTER_KEY, ORDER_CALL, Rig, hyperliquid_rig
from venues.hyperliquid.approval import Approved, Refused
from venues.hyperliquid.signing import HyperliquidSigner, is_mainnet_url
from venues.hyperliquid.validator import HyperliquidValidator, Rules
from venues.signers.local import LocalEvmKey

SAFE = "0x" + "bb" * 20


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with hyperliquid_rig() as found:
        yield found


def with_order(built: Built, **changes: Any) -> Built:
    (one,) = built.payload["orders"]
    return Built(built.payload | {"orders": [one | changes]}, built.note)


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("size", {"s": "10.01"}),
        ("slippage cap", {"p": "50"}),
        ("side", {"b": True}),
        ("asset", {"a": 0}),
        ("immediate or cancel", {"t": {"limit": {"tif": "Gtc"}}}),
        ("reduce-only", {"r": True}),
    ],
)
async def test_an_order_that_was_changed_after_building_is_not_signed(
    rig: Rig, rule: str, changes: dict[str, Any]
) -> None:
    """The twin would take each of these: only the validator stands between."""
    intent = rig.intent()
    built = with_order(await rig.venue.build(intent), **changes)
    with pytest.raises(VenueRefused, match=f"the validator refused: rule {rule}"):
        await rig.venue.sign(intent, built)
    assert rig.calls() == 0


async def test_a_builder_fee_or_another_action_is_not_signed(rig: Rig) -> None:
    intent = rig.intent()
    built = await rig.venue.build(intent)
    for payload in (
        built.payload | {"builder": {"b": SAFE, "f": 100}},
        {"type": "vaultTransfer", "vaultAddress": SAFE, "isDeposit": True, "usd": 1, "orders": []},
        {"type": "usdSend", "destination": SAFE, "amount": "1", "time": 1, "orders": []},
    ):
        with pytest.raises(VenueRefused, match=r"rule (builder|action allowlist)"):
            await rig.venue.sign(intent, Built(payload, built.note))
    assert rig.calls() == 0


async def test_prices_that_have_grown_old_are_asked_for_again(rig: Rig) -> None:
    intent = rig.intent()
    built = await rig.venue.build(intent)
    rig.later(11)
    with pytest.raises(Retryable, match=r"rule fresh reading.*build again"):
        await rig.venue.sign(intent, built)
    assert (
        isinstance(await rig.venue.sign(intent, await rig.venue.build(intent)), object) and rig.calls() == 0
    )


async def test_a_book_that_left_the_oracle_is_not_sold_into(rig: Rig) -> None:
    """The slippage bound alone follows the book wherever it goes."""
    intent = rig.intent()
    built = await rig.venue.build(intent)
    sunken = Decimal(built.note["reference_px"]) * Decimal("0.9")
    low = with_order(built, p=str(int(sunken)))
    for thin in (
        Built(low.payload, built.note | {"reference_px": str(sunken)}),
        Built(built.payload, built.note | {"fair_px": str(Decimal(built.note["fair_px"]) * Decimal("1.1"))}),
    ):
        with pytest.raises(VenueRefused, match="rule reference price"):
            await rig.venue.sign(intent, thin)
    assert rig.calls() == 0


async def test_an_exit_is_priced_without_asking_for_the_oracle(rig: Rig) -> None:
    await rig.done(rig.intent())
    rig.fault("http_500", "info:metaAndAssetCtxs", times=-1)
    close = rig.intent(is_buy=True, reduce_only=True, bps="100")
    assert (await rig.done(close)).done_qty == 10
    with pytest.raises(Retryable):
        await rig.venue.build(rig.intent())


async def test_leverage_beyond_the_cap_is_not_signed(rig: Rig) -> None:
    with pytest.raises(VenueRefused, match="rule leverage: leverage 5"):
        await rig.venue.set_leverage("SOL", 5)
    with pytest.raises(VenueRefused, match="rule asset"):
        await rig.venue.set_leverage("BTC", 3)
    assert rig.calls("exchange:updateLeverage") == 0


async def test_the_validator_must_judge_for_the_venue_it_stands_before(rig: Rig) -> None:
    for rules in (Rules(True, rig.address), Rules(False, SAFE)):
        with pytest.raises(Bug, match="another network or account"):
            rig.venue_for(validator=HyperliquidValidator(rules))


@pytest.mark.parametrize(
    ("url", "mainnet"),
    [
        ("https://api.hyperliquid.xyz", True),
        ("https://api.hyperliquid.xyz/", True),
        ("https://api.hyperliquid-testnet.xyz", False),
        ("http://127.0.0.1:3001", False),
        ("https://proxy.example/api.hyperliquid.xyz", False),
    ],
)
def test_only_the_real_url_is_mainnet(url: str, mainnet: bool) -> None:
    assert is_mainnet_url(url) is mainnet


def withdrawal(rig: Rig, **changes: Any) -> dict[str, Any]:
    return {
        "type": "withdraw3",
        "hyperliquidChain": "Testnet",
        "signatureChainId": "0x66eee",
        "amount": "50",
        "time": rig.clock.now_ms(),
        "destination": SAFE,
    } | changes


async def test_money_leaves_to_a_listed_address_alone_and_by_the_accounts_own_key(rig: Rig) -> None:
    """What each refusal stops does succeed on the twin once it is signed: here the listed one is, and arrives."""
    rules = replace(
        Rules(False, rig.address), withdrawal_addresses=frozenset({SAFE}), max_withdrawal_usd=Decimal(50)
    )
    validator, master = HyperliquidValidator(rules), HyperliquidSigner(LocalEvmKey.from_hex(MASTER_KEY))
    agent = HyperliquidSigner(LocalEvmKey.from_hex(AGENT_KEY))
    before = (await rig.venue.account()).account_value_usd
    now = rig.clock.now_ms()
    for rule, action, signer in (
        ("destination", withdrawal(rig, destination="0x" + "cc" * 20), master),
        ("withdrawal cap", withdrawal(rig, amount="50.01"), master),
        ("network", withdrawal(rig, hyperliquidChain="Mainnet"), master),
        ("master key", withdrawal(rig), agent),
    ):
        verdict = validator.judge_transfer(action, nonce=now, now_ms=now, signer=signer.address)
        assert isinstance(verdict, Refused) and verdict.rule == rule
    verdict = validator.judge_transfer(
        withdrawal(rig, time=now), nonce=now, now_ms=now, signer=master.address
    )
    assert isinstance(verdict, Approved)
    body = master.signed_body(verdict)
    assert json.loads(body)["expiresAfter"] is None
    answer = await rig.client.exchange(body)
    assert isinstance(answer, Confirmed) and answer.value["status"] == "ok", answer
    assert before - (await rig.venue.account()).account_value_usd == 50
    assert rig.calls(ORDER_CALL) == 0
