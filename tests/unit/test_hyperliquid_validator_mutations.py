"""Property: however an action, its envelope or the market is changed, what is approved stays within every bound."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from evenkeel.legs import IntentKind
from tests.unit.test_hyperliquid_validator import (
    ACCOUNT,
    COVER,
    FUNDED,
    NOW,
    READING,
    SAFE,
    SELL,
    SHORT,
    VALIDATOR,
    cover,
    judge,
    judge_setting,
    leverage,
    order,
    withdrawal,
)
from venues.hyperliquid.approval import Approved, Refused
from venues.hyperliquid.rounding import round_price, wire
from venues.hyperliquid.validator import Reading, Request

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 5, 6, 2**64, 1.5, float("nan"), float("inf"), "", "0", "1", "-1", "1e9", "NaN", "Infinity",
    "149.9", "150.9", "149.34", "1", "999999", "0.01", "10.", ".5", "00", " 10", "１０", [], {}, [[]], {"a": 5}, "Gtc", "Ioc",
    SAFE, SAFE.upper(), ACCOUNT, "0x" + "00" * 20, "order", "withdraw3", "usdSend", "noop", "modify", "b" * 5000,
]  # fmt: skip
NAMES = [
    "type",
    "orders",
    "grouping",
    "builder",
    "a",
    "b",
    "p",
    "s",
    "r",
    "t",
    "c",
    "limit",
    "tif",
    "vaultAddress",
]
NAMES += ["isCross", "leverage", "asset", "cancels", "amount", "destination", "time", "hyperliquidChain"]


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, one in inside for path in paths(one, (*at, name)))]


@st.composite
def mutated(draw: st.DrawFn, bases: list[dict[str, Any]]) -> dict[str, Any]:
    """One of the bases after up to four edits: replaced, removed, added, reordered or doubled somewhere."""
    action: Any = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from(paths(action)))
        if not path:
            continue
        owner = action
        for name in path[:-1]:
            owner = owner[name]
        edit = draw(st.sampled_from(["replace", "number", "remove", "add", "reorder", "double"]))
        if edit == "replace":
            owner[path[-1]] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif edit == "number":
            owner[path[-1]] = str(draw(st.decimals("0.001", "20000", places=draw(st.integers(0, 3)))))
        elif edit == "remove":
            del owner[path[-1]]
        elif isinstance(owner, dict) and edit == "add":
            owner[draw(st.sampled_from(NAMES))] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif isinstance(owner, dict):
            items = draw(st.permutations(list(owner.items())))
            owner.clear()
            owner.update(items)
        else:
            owner.append(copy.deepcopy(owner[path[-1]]))
    return action


def price(low: str, high: str) -> st.SearchStrategy[Decimal]:
    return st.decimals(low, high, places=2)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    base = draw(st.sampled_from([READING, SHORT]))
    if draw(st.integers(0, 3)):
        return base
    return Reading(
        coin=draw(st.sampled_from(["SOL", "BTC"])),
        asset=draw(st.sampled_from([5, 0])),
        sz_decimals=draw(st.integers(0, 4)),
        mid_px=draw(price("100", "200")),
        fair_px=draw(price("100", "200")),
        szi=draw(st.decimals(-20_000, 50, places=2)),
        seen_ms=NOW - draw(st.integers(-2, 12_000)),
    )


REQUESTS = [
    SELL,
    COVER,
    Request(IntentKind.RESIZE, False, Decimal(500), False),
    Request(IntentKind.RESIZE, True, Decimal(500), True),
    Request(IntentKind.OPEN, True, Decimal(500), False),
]
ENVELOPES = (
    st.just({})
    | st.just({})
    | st.fixed_dictionaries(
        {},
        optional={
            "nonce": st.sampled_from([NOW, NOW + 1, 0, -1, NOW + 10**12, True, None, "7"]),
            "expires_after": st.sampled_from([NOW + 1, NOW + 60_000, NOW + 60_001, NOW, None, 1.5, "7"]),
            "vault_address": st.sampled_from([None, SAFE, ""]),
        },
    )
)


def whole(value: Any) -> bool:
    return type(value) is int


def held_to_the_bounds(verdict: Approved | Refused, request: Request, reading: Reading) -> None:
    """The bounds once more, written down anew and read from the text that would be signed."""
    event(verdict.rule if isinstance(verdict, Refused) else "approved")
    if isinstance(verdict, Refused):
        assert verdict.rule and verdict.reason
        return
    signed = json.loads(verdict.text)
    assert list(signed) == ["type", "orders", "grouping"] and signed["type"] == "order"
    assert signed["grouping"] == "na"
    (one,) = signed["orders"]
    assert list(one) == ["a", "b", "p", "s", "r", "t", "c"]
    assert one["a"] == reading.asset and reading.coin == "SOL" and one["t"] == {"limit": {"tif": "Ioc"}}
    size, limit = Decimal(one["s"]), Decimal(one["p"])
    assert 0 < size <= request.size and one["b"] is request.is_buy and one["r"] is request.reduce_only
    assert one["r"] or not one["b"], "buys only ever reduce"
    assert one["r"] or request.kind != IntentKind.CLOSE
    bps = Decimal(50 if request.kind == IntentKind.OPEN else 100) / 10_000
    gap = Decimal("0.10") if one["r"] else Decimal("0.02")
    if one["b"]:
        assert (
            limit <= reading.mid_px * (1 + bps) and limit <= reading.fair_px * (1 + gap) and reading.szi < 0
        )
    else:
        assert limit >= reading.mid_px * (1 - bps) and limit >= reading.fair_px * (1 - gap)
    if not one["r"]:
        worth = size * max(limit, reading.mid_px, reading.fair_px)
        assert worth <= 550_000 and reading.szi <= 0
        assert worth + abs(reading.szi) * reading.mid_px <= 2_200_000
    assert whole(verdict.nonce) and whole(verdict.expires_after)
    assert verdict.expires_after is not None and NOW < verdict.expires_after <= NOW + 60_000
    assert 0 <= NOW - reading.seen_ms <= 10_000 and verdict.is_mainnet is False and not verdict.is_transfer


@settings(max_examples=1500, deadline=None)
@given(
    st.sampled_from(range(len(REQUESTS))),
    st.decimals("0.01", "12000", places=2),
    st.decimals("-0.15", "0.15", places=4),
    st.decimals("-0.15", "0.15", places=4),
    st.decimals(-20_000, 50, places=2),
)
def test_no_size_or_price_is_approved_outside_of_the_bounds(
    which: int, size: Decimal, off_mid: Decimal, off_fair: Decimal, szi: Decimal
) -> None:
    request = REQUESTS[which]
    request = Request(request.kind, request.is_buy, size, request.reduce_only)
    limit = round_price(Decimal(150) * (1 + off_mid / 10), 2, up=False)
    reading = Reading("SOL", 5, 2, Decimal(150), round(150 * (1 + off_fair), 2), szi, NOW)
    action = order(b=request.is_buy, r=request.reduce_only, s=wire(size), p=wire(limit))
    held_to_the_bounds(judge(action, request, reading), request, reading)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated([order(), order(), cover()]), st.sampled_from([SELL, *REQUESTS]), readings(), ENVELOPES)
def test_no_changed_order_is_approved_outside_of_the_bounds(
    action: dict[str, Any], request: Request, reading: Reading, envelope: dict[str, Any]
) -> None:
    given_envelope: dict[str, Any] = {"nonce": NOW, "expires_after": NOW + 10_000, "now_ms": NOW, **envelope}
    verdict = VALIDATOR.judge_order(action, request=request, reading=reading, **given_envelope)
    assert isinstance(verdict, Refused) or given_envelope.get("vault_address") is None
    held_to_the_bounds(verdict, request, reading)


@settings(max_examples=500, deadline=None)
@given(
    mutated(
        [
            leverage(),
            {"type": "noop"},
            {"type": "cancel", "cancels": [{"a": 5, "o": 1}]},
            {"type": "cancelByCloid", "cancels": [{"asset": 5, "cloid": "0x" + "07" * 16}]},
        ]
    ),
    ENVELOPES,
)
def test_no_changed_setting_is_approved_outside_of_the_bounds(
    action: dict[str, Any], envelope: dict[str, Any]
) -> None:
    verdict = judge_setting(action, **envelope)
    if isinstance(verdict, Refused):
        return
    signed = json.loads(verdict.text)
    assert signed["type"] in ("updateLeverage", "noop", "cancel", "cancelByCloid")
    if signed["type"] == "updateLeverage":
        assert signed["asset"] == 5 and signed["isCross"] is True
        assert whole(signed["leverage"]) and 1 <= signed["leverage"] <= 4
    assert "vaultAddress" not in verdict.text and "builder" not in verdict.text


@settings(max_examples=500, deadline=None)
@given(mutated([withdrawal(), withdrawal(type="usdSend")]), st.sampled_from([ACCOUNT, SAFE]))
def test_no_changed_transfer_goes_anywhere_but_to_the_listed_address(
    action: dict[str, Any], signer: str
) -> None:
    verdict = FUNDED.judge_transfer(action, nonce=NOW, now_ms=NOW, signer=signer)
    assert isinstance(VALIDATOR.judge_transfer(action, nonce=NOW, now_ms=NOW, signer=signer), Refused)
    if isinstance(verdict, Approved):
        signed = json.loads(verdict.text)
        assert signed["destination"] == SAFE and 0 < Decimal(signed["amount"]) <= 100 and signer == ACCOUNT
        assert signed["hyperliquidChain"] == "Testnet" and signed["time"] == NOW == verdict.nonce
        assert signed["type"] in ("withdraw3", "usdSend") and len(signed) == 6
