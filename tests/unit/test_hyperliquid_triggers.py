"""A stop on the wire and its judge: never opening, never looser than what stands, with no price that the venue would refuse."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_hyperliquid_validator_mutations import mutated
from venues.hyperliquid.approval import Approved, Refused
from venues.hyperliquid.rounding import is_valid_price
from venues.hyperliquid.triggers import (
    StopOrder,
    StopReading,
    StopValidator,
    on_tick,
    stop_action,
    with_cloid,
    worst_price,
)
from venues.hyperliquid.validator import Rules
from venues.perp import AssetSpec
from venues.signers.derived import DerivedEvmKeys

USER, NOW = "0x" + "ab" * 20, 1_790_000_000_000
SOL = AssetSpec(coin="SOL", index=5, sz_decimals=2, max_leverage=20)
VALIDATOR = StopValidator(Rules(is_mainnet=False, account=USER, coins=frozenset({"SOL"})))
CLOID = "0x" + "0c" * 16


def wanted(**changes: Any) -> StopOrder:
    values = {
        "account": USER,
        "generation": 1,
        "coin": "SOL",
        "is_buy": False,
        "size": "5",
        "stop": "195.2",
        "slippage": "0.1",
    }
    return StopOrder.model_validate({**values, **changes})


def reading(**changes: Any) -> StopReading:
    values: dict[str, Any] = {"mark_px": Decimal(200), "szi": Decimal(5), "seen_ms": NOW, "sz_decimals": 2}
    return StopReading(**{"coin": "SOL", "asset": 5, **values, **changes})


def action_of(order: StopOrder, size: str = "5") -> dict[str, Any]:
    limit = worst_price(order.stop, order.slippage, is_buy=order.is_buy, sz_decimals=2)
    return with_cloid(stop_action(SOL, order, Decimal(size), limit, ""), CLOID)


def judge(action: Any, order: StopOrder, seen: StopReading | None = None, **more: Any) -> Approved | Refused:
    envelope = {"nonce": NOW, "expires_after": NOW + 10_000, "now_ms": NOW, **more}
    return VALIDATOR.judge_stop(action, order=order, reading=seen or reading(), **envelope)


def test_a_stop_is_a_reduce_only_trigger_whose_limit_lies_beyond_it_without_trailing_zeros() -> None:
    [order] = action_of(wanted())["orders"]
    trigger = order["t"]["trigger"]
    assert trigger == {"isMarket": True, "triggerPx": "195.2", "tpsl": "sl"} and order["r"] is True
    # A seller's worst price never stands above its trigger, nor a buyer's below: the venue refuses both.
    assert Decimal(order["p"]) <= Decimal(trigger["triggerPx"]) and is_valid_price(Decimal(order["p"]), 2)
    [bought] = action_of(wanted(is_buy=True, stop="205"))["orders"]
    assert Decimal(bought["p"]) >= 205 and (order["s"], bought["t"]["trigger"]["triggerPx"]) == ("5", "205")
    changed = action_of(wanted(replaces=77, was="190"))
    assert changed["type"] == "batchModify" and changed["modifies"][0]["oid"] == 77
    assert changed["modifies"][0]["order"]["c"] == CLOID
    assert on_tick(Decimal("195.123"), is_buy=False, sz_decimals=2) == Decimal("195.13")
    assert on_tick(Decimal("195.123"), is_buy=True, sz_decimals=2) == Decimal("195.12")


def test_what_is_asked_for_is_approved_placed_and_changed() -> None:
    for order in (wanted(), wanted(replaces=77, was="195.2"), wanted(replaces=77, was="190")):
        assert isinstance(judge(action_of(order), order), Approved)
    short = wanted(is_buy=True, stop="205", was="206", replaces=3)
    assert isinstance(judge(action_of(short), short, reading(szi=Decimal(-5))), Approved)


@pytest.mark.parametrize(
    ("order", "seen", "rule"),
    [
        (wanted(was="196"), {}, "never loosened"),
        (wanted(is_buy=True, stop="205", was="204"), {"szi": Decimal(-5)}, "never loosened"),
        (wanted(stop="201"), {}, "trigger"),
        (wanted(), {"szi": Decimal(-5)}, "reduce-only"),
        (wanted(), {"szi": Decimal(0)}, "reduce-only"),
        (wanted(), {"szi": Decimal("4.99")}, "size"),
        (wanted(), {"seen_ms": NOW - 60_000}, "fresh reading"),
        (wanted(), {"asset": 6}, "asset"),
        (wanted(account="0x" + "cd" * 20), {}, "account"),
    ],
)
def test_what_the_account_does_not_bear_is_refused(order: StopOrder, seen: dict[str, Any], rule: str) -> None:
    verdict = judge(action_of(order), order, reading(**seen))
    assert isinstance(verdict, Refused) and verdict.rule == rule


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (("r",), False, "reduce-only"),
        (("b",), True, "side"),
        (("s",), "5.001", "size"),
        (("p",), "160", "slippage cap"),
        (("p",), "199", "slippage cap"),
        (("t", "trigger", "tpsl"), "tp", "stop"),
        (("t", "trigger", "isMarket"), False, "stop"),
        (("t", "trigger", "triggerPx"), "195.20", "trigger"),
        (("t", "trigger", "triggerPx"), "150", "trigger"),
        (("c",), "0x1", "client order id"),
        (("t",), {"limit": {"tif": "Ioc"}}, "fields"),
    ],
)
def test_an_action_that_is_not_what_was_asked_for_is_refused(
    path: tuple[str, ...], value: Any, rule: str
) -> None:
    action = copy.deepcopy(action_of(wanted()))
    at = action["orders"][0]
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    verdict = judge(action, wanted())
    assert isinstance(verdict, Refused) and verdict.rule == rule, verdict


def test_builder_vault_expiry_and_another_order_than_the_one_named_are_refused() -> None:
    order = wanted(replaces=77, was="190")
    action = action_of(order)
    assert isinstance(judge({**action, "builder": {"b": USER, "f": 10}}, order), Refused)
    assert isinstance(judge(action, order, vault_address=USER), Refused)
    assert isinstance(judge(action, order, expires_after=None), Refused)
    assert isinstance(judge(action_of(wanted(replaces=78)), order), Refused)
    assert isinstance(judge(action_of(wanted()), order), Refused)


@settings(max_examples=300, deadline=None)
@given(mutated([action_of(wanted()), action_of(wanted(replaces=77, was="190"))]), st.sampled_from([None, 77]))
def test_nothing_that_is_approved_opens_loosens_or_pays(action: dict[str, Any], replaces: int | None) -> None:
    order = wanted(replaces=replaces, was="190" if replaces else None)
    verdict = judge(action, order)
    if isinstance(verdict, Refused):
        return
    made = verdict.action
    [one] = made["orders"] if replaces is None else [each["order"] for each in made["modifies"]]
    assert one["r"] is True and one["b"] is False and Decimal(one["s"]) <= 5 and "builder" not in made
    assert one["t"] == {"trigger": {"isMarket": True, "triggerPx": "195.2", "tpsl": "sl"}}
    assert Decimal("175.68") <= Decimal(one["p"]) <= Decimal("195.2")


def test_each_account_has_a_key_of_its_own_that_the_same_secret_gives_again() -> None:
    keys, name = DerivedEvmKeys.from_hex("5e" * 32), f"hyperliquid/{USER}/1"
    one, again = keys.key_of(name), DerivedEvmKeys.from_hex("0x" + "5e" * 32).key_of(name)
    assert one.address == again.address and keys.fingerprint != one.address
    later, foreign = keys.key_of(f"hyperliquid/{USER}/2"), DerivedEvmKeys.from_hex("5f" * 32).key_of(name)
    assert len({one.address, later.address, foreign.address}) == 3
    assert "5e5e" not in repr(keys) + str(keys)
    for bad in ("", "5e" * 31, "zz" * 32):
        with pytest.raises(Exception, match="malformed"):
            DerivedEvmKeys.from_hex(bad)
