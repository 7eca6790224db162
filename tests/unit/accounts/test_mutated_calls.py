"""Thousands of bent calls: none is let sign that moves value elsewhere or exceeds a deployment.

`EVENKEEL_MUTATIONS` sets how many (10,000 here, 100,000 in the long run), `EVENKEEL_SEED` which.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from evenkeel.clock import SystemClock
from evenkeel.errors import VenueRefused
from tests.attacks.calls import Allowance, Asked, Auditor, Bender
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.pulls import TRANSFER_FROM, Token, TokenPulls
from venues.evm.sender import Chain
from venues.evm.transactions import Envelope
from venues.ostium.contracts import DELEGATED
from venues.ostium.orders import (
    CancelOrder,
    CloseOrder,
    OpenOrder,
    OrderType,
    StopOrder,
    TimeOutOrder,
    TopUpOrder,
)
from venues.ostium.validator import DelegateRules, Limits
from venues.signers.local import LocalEvmKey

HOW_MANY = int(os.environ.get("EVENKEEL_MUTATIONS", "10000"))
SEED = int(os.environ.get("EVENKEEL_SEED", "20261130"))
CHAIN_ID, PRICE, DEVIATION = 421_614, Decimal(150), Decimal("0.01")
ACTIVE, PAUSED, NOBODY, ATTACKER, TRADING, USDC, PLATFORM = ("0x" + digit * 40 for digit in "123e5a7")
OWED = 1_234_567
LIMITS = Limits(
    pairs=frozenset({0, 9}),
    most_collateral_usdc=Decimal(500),
    most_leverage=Decimal(10),
    most_slippage_bps=200,
)
ALLOWANCE = Allowance((0, 9), 500 * 10**6, 1_000, 200, may_open=True)
PLACE: dict[str, Any] = {"trader": ACTIVE, "trade_id": 7, "pair": 9, "index": 1}
OPENING: dict[str, Any] = {
    "trader": ACTIVE,
    "pair": 9,
    "is_long": True,
    "collateral_usdc": "100",
    "leverage": "2.3",
    "price": "150",
    "slippage_bps": 100,
}
WAITING = OPENING | {"slippage_bps": 0}
ORDERS = (
    OpenOrder.model_validate(OPENING),
    OpenOrder.model_validate(OPENING | {"is_long": False, "collateral_usdc": "500", "leverage": "10"}),
    OpenOrder.model_validate(WAITING | {"type": OrderType.LIMIT, "price": "140", "stop": "130"}),
    OpenOrder.model_validate(WAITING | {"type": OrderType.LIMIT, "price": "160", "is_long": False}),
    OpenOrder.model_validate(WAITING | {"type": OrderType.STOP, "price": "155", "take_profit": "170"}),
    CloseOrder.model_validate(
        PLACE | {"asset_qty": "1.5", "is_long": True, "price": "150", "slippage_bps": 100, "share": "0.5"}
    ),
    StopOrder.model_validate(PLACE | {"stop": "140"}),
    TopUpOrder.model_validate(PLACE | {"usdc": "5"}),
    CancelOrder(
        trader=ACTIVE, pair=9, index=1, is_long=True, collateral_usdc=Decimal(100), leverage=Decimal(2)
    ),
    TimeOutOrder(trader=ACTIVE, order_id=77, of="open"),
    TimeOutOrder(trader=ACTIVE, order_id=77, of="close", again=True),
)
CAPS = FeeCaps(GWEI // 2)


def asked_of(to: str, calldata: bytes) -> Asked:
    return Asked(CHAIN_ID, 200_000, 0, GWEI // 100, to, calldata)


def envelope(asked: Asked) -> Envelope:
    return Envelope(asked.chain_id, 0, asked.tip_wei, asked.max_fee_wei, asked.gas, asked.to, asked.calldata)


def keys() -> dict[str, Callable[[Envelope], None]]:
    """What judges for each key."""
    limits = {ACTIVE: LIMITS, PAUSED: LIMITS.model_copy(update={"may_open": False})}
    rules = DelegateRules(limits.get, lambda pair: PRICE if pair in (0, 9) else None, DEVIATION)
    token = Token(address=USDC, decimals=6, wallet=PLATFORM, most_units=10**9)
    rpc: Any = None
    pulls = TokenPulls(
        "charges",
        token,
        rpc,
        LocalEvmKey.from_hex("0x" + "5a" * 32),
        rpc,
        Chain(CHAIN_ID, 1),
        CAPS,
        SystemClock(),
        lambda owner, units: (owner, units) == (ACTIVE, OWED),
    )
    return {
        "agent": rules.validator(CHAIN_ID, TRADING, CAPS).check,
        "collector": pulls._sender._validator.check,
    }


AUDITOR = Auditor(
    CHAIN_ID,
    TRADING,
    USDC,
    PLATFORM,
    {ACTIVE: ALLOWANCE, PAUSED: Allowance((0, 9), 500 * 10**6, 1_000, 200, may_open=False)},
    {ACTIVE: OWED},
    PRICE,
    DEVIATION,
    2_500_000,
    GWEI // 2,
)


def corpus() -> list[tuple[str, Asked]]:
    """Honest calls of every kind, each for an active and, where it opens nothing, for a paused deployment."""
    found = [("agent", asked_of(TRADING, DELEGATED.call(ACTIVE, one.call))) for one in ORDERS]
    found += [
        ("agent", asked_of(TRADING, DELEGATED.call(PAUSED, one.call)))
        for one in ORDERS
        if not isinstance(one, OpenOrder | TopUpOrder)
    ]
    pull = asked_of(USDC, TRANSFER_FROM.call(ACTIVE, PLATFORM, OWED))
    return [*found, *[("collector", pull)] * 4]


@pytest.mark.timeout(max(600, HOW_MANY // 200))
def test_of_bent_calls_none_is_let_sign_that_moves_value_elsewhere_or_exceeds_a_deployment() -> None:
    found, judges, chance = corpus(), keys(), Random(SEED)
    for key, asked in found:
        judges[key](envelope(asked))
        assert AUDITOR.harm(asked, key) is None
    addresses = [ACTIVE, PAUSED, NOBODY, ATTACKER, TRADING, USDC, PLATFORM]
    words = [bytes(12) + bytes.fromhex(one[2:]) for one in addresses]
    words += [
        one.to_bytes(32, "big") for one in (0, 1, 9, 200, 1_000, 1_001, 10_000, 500 * 10**6, 2**256 - 1)
    ]
    words += [(10**18 * price).to_bytes(32, "big") for price in (1, 75, 148, 150, 152, 225, 10**6)]
    bender = Bender(chance, words, [asked.calldata for _, asked in found])
    said: Counter[str] = Counter()
    for number in range(HOW_MANY):
        key, asked = chance.choice(found)
        bent = bender.bent(asked, addresses)
        try:
            judges[key](envelope(bent))
        except VenueRefused as why:
            assert "\n" not in why.reason
            said[" ".join(re.sub(r"0x\w+", "somebody", why.reason).split()[:2])] += 1
            continue
        said["approved"] += 1
        harm = AUDITOR.harm(bent, key)
        assert harm is None, (number, key, harm, bent.to, bent.calldata.hex())
    assert said["approved"] > HOW_MANY // 100 and len(said) > 15, said
    if os.environ.get("EVENKEEL_MUTATIONS"):
        print(f"\n{HOW_MANY} calls, seed {SEED}: {said.most_common()}")


def test_the_auditor_sees_every_kind_of_loss() -> None:
    """What it would let pass, the test above could not find."""
    opening = OPENING | {"trader": ACTIVE}

    def opened(trader: str = ACTIVE, **change: Any) -> bytes:
        return DELEGATED.call(trader, OpenOrder.model_validate(opening | change).call)

    builder = bytearray(opened())
    builder[4 + 96 + 4 + 10 * 32 + 31] = 0xEE  # the last digit of whom a part of each trade is paid to
    stop = bytearray(DELEGATED.call(ACTIVE, StopOrder.model_validate(PLACE | {"stop": "140"}).call))
    stop[4 + 96 + 4 + 64 : 4 + 96 + 4 + 96] = bytes(32)
    losses = [
        ("agent", opened(trader=NOBODY)),
        ("agent", DELEGATED.call(PAUSED, OpenOrder.model_validate(opening | {"trader": PAUSED}).call)),
        ("agent", opened(collateral_usdc="500.000001")),
        ("agent", opened(leverage="10.01")),
        ("agent", opened(pair=3)),
        ("agent", opened(price="152")),
        ("agent", opened(slippage_bps=201)),
        ("agent", opened(type=OrderType.LIMIT, slippage_bps=0, price="152")),
        ("agent", opened(type=OrderType.STOP, slippage_bps=0, price="148")),
        ("agent", DELEGATED.call(ACTIVE, OpenOrder.model_validate(opening | {"trader": ATTACKER}).call)),
        ("agent", bytes(builder)),
        ("agent", bytes(stop)),
        ("agent", DELEGATED.call(ACTIVE, bytes.fromhex("56ac637e") + bytes(96))),
        ("agent", DELEGATED.call(ACTIVE, bytes.fromhex("ca5eb5e1") + bytes(32))),
        ("collector", TRANSFER_FROM.call(ACTIVE, ATTACKER, OWED)),
        ("collector", TRANSFER_FROM.call(ACTIVE, PLATFORM, OWED + 1)),
        ("collector", TRANSFER_FROM.call(PAUSED, PLATFORM, OWED)),
    ]
    judges = keys()
    for number, (key, calldata) in enumerate(losses):
        asked = asked_of(TRADING if key == "agent" else USDC, calldata)
        assert AUDITOR.harm(asked, key) is not None, number
        with pytest.raises(VenueRefused):
            judges[key](envelope(asked))
    fair = asked_of(TRADING, opened())
    for change in (
        {"to": USDC},
        {"chain_id": 1},
        {"gas": 2_500_001},
        {"max_fee_wei": GWEI},
        {"tip_wei": GWEI},
    ):
        asked = Asked(**(vars(fair) | change))
        assert AUDITOR.harm(asked, "agent") is not None, change
        with pytest.raises(VenueRefused):
            judges["agent"](envelope(asked))
