"""What is moved between chain and broker: by target and deviation, within bounds, rounded down; steps and costs."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evenkeel.settings.hedging import Hedging
from strategy.hedging.decision import Hold
from strategy.hedging.rebalancing import (
    Aim,
    Direction,
    Kind,
    Prices,
    Proposal,
    Sides,
    Way,
    decimals_of,
    into_step,
    may_begin,
    proposed,
    steps_of,
)

D = Decimal
AIM = Aim(target=D("0.5"), deviation=D("0.2"), least_usd=D(100), most_usd=D(50_000))
COIN = Way(scope="COIN", decimals=18)
DOLLARS = Way(scope="USDC", decimals=6, least_units=D(51))


def sides(chain: str, broker: str, free: str | None = None) -> Sides:
    return Sides(chain=D(chain), broker=D(broker), free=D(free or broker))


@pytest.mark.parametrize(
    ("chain", "broker", "free", "says"),
    [
        ("0", "0", "0", "none on either side"),
        ("30", "70", "70", "within 20% of 50%"),
        ("70", "30", "30", "within 20% of 50%"),
        ("1", "99", "0", "below 100 USD"),
        ("0.1", "0.4", "0.4", "below 100 USD"),
    ],
)
def test_nothing_is_proposed_within_the_band_or_below_the_least(
    chain: str, broker: str, free: str, says: str
) -> None:
    found = proposed(COIN, sides(chain, broker, free), AIM, Prices(usd=D(250)))
    assert isinstance(found, Hold) and says in found.why


@pytest.mark.parametrize(
    ("chain", "broker", "free", "direction", "amount"),
    [
        ("29", "71", "71", Direction.TO_CHAIN, "21"),
        ("71", "29", "29", Direction.TO_BROKER, "21"),
        ("0", "100", "12.3456789019", Direction.TO_CHAIN, "12.345678901"),
        ("0", "10000", "10000", Direction.TO_CHAIN, "200"),
        ("10.000000000000000007", "1", "1", Direction.TO_BROKER, "4.500000000"),
    ],
)
def test_what_brings_it_back_within_what_is_free_and_the_bounds(
    chain: str, broker: str, free: str, direction: Direction, amount: str
) -> None:
    found = proposed(COIN, sides(chain, broker, free), AIM, Prices(usd=D(250)))
    assert isinstance(found, Proposal)
    assert (found.direction, found.amount) == (direction, D(amount))


def test_usdc_below_the_least_transfer_is_not_proposed() -> None:
    aim = AIM.model_copy(update={"least_usd": D(10)})
    found = proposed(DOLLARS, sides("0", "100"), aim, Prices(usd=D(1)))
    assert isinstance(found, Hold) and "51 USDC" in found.why
    assert isinstance(proposed(DOLLARS, sides("0", "110"), aim, Prices(usd=D(1))), Proposal)


def test_steps_and_costs_of_each_way() -> None:
    wrapped = COIN.model_copy(update={"is_wrapped": True, "by_journal": True})
    assert steps_of(wrapped, Direction.TO_CHAIN) == (
        Kind.JOURNAL, Kind.MINT, Kind.ARRIVE, Kind.WRAP, Kind.DEPOSIT,
    )  # fmt: skip
    assert steps_of(wrapped, Direction.TO_BROKER) == (
        Kind.WITHDRAW, Kind.UNWRAP, Kind.SEND, Kind.REDEEMED, Kind.JOURNAL_BACK,
    )  # fmt: skip
    prices = Prices(usd=D(1), conversion_bps=D(10), bridge_bps=D(1), withdrawal_usd=D(2))
    found = proposed(DOLLARS, sides("0", "20000"), AIM, prices)
    assert isinstance(found, Proposal)
    assert found.steps == (Kind.CONVERT, Kind.PAY_OUT, Kind.BRIDGE, Kind.DEPOSIT)
    assert [(one.what, one.usd) for one in found.costs] == [
        ("conversion", D("10.00")),
        ("withdrawal", D("2.00")),
        ("bridge", D("1.00")),
    ]
    assert found.transactions == 3, "a deposit, and an approval that takes an older one back first"


def test_what_goes_into_a_step_is_rounded_down_for_whoever_takes_it() -> None:
    given_, one, out, back = (
        D("1.123456789123456789"),
        Prices(usd=D(1)),
        Direction.TO_CHAIN,
        Direction.TO_BROKER,
    )
    assert into_step(Kind.DEPOSIT, COIN, given_, one, out) == given_
    assert into_step(Kind.SEND, COIN, given_, one, back) == D("1.123456789")
    assert into_step(Kind.JOURNAL_BACK, DOLLARS, D("10.019999"), one, back) == D("10.01")
    twice = COIN.model_copy(update={"ratio": D(3)})
    assert into_step(Kind.WITHDRAW, twice, D(1), one, back) == D("0.333333333333333333")
    other, costs = DOLLARS.model_copy(update={"by_journal": True}), Prices(usd=D(1), conversion_bps=D(10))
    assert into_step(Kind.CONVERT, other, D(1000), costs, out) == D("998")
    assert into_step(Kind.CONVERT, other, D(1000), costs, back) == 1000, "nothing has to be paid for"


AMOUNTS = st.decimals(0, 10**9, places=18)


@given(
    chain=AMOUNTS,
    broker=AMOUNTS,
    share=st.decimals(0, 1, places=3),
    price=st.decimals("0.01", 10**4, places=2),
)
def test_no_proposal_overshoots_or_takes_what_is_not_there(
    chain: Decimal, broker: Decimal, share: Decimal, price: Decimal
) -> None:
    there = Sides(chain=chain, broker=broker, free=broker * share)
    found = proposed(COIN, there, AIM, Prices(usd=price))
    if isinstance(found, Hold):
        return
    after = chain + found.amount if found.direction is Direction.TO_CHAIN else chain - found.amount
    aimed = (chain + broker) * AIM.target
    assert 0 < found.amount <= (there.free if found.direction is Direction.TO_CHAIN else chain)
    assert (after <= aimed) if found.direction is Direction.TO_CHAIN else (after >= aimed)
    assert found.amount * price <= AIM.most_usd * D("1.0000001")
    least = min(decimals_of(kind, COIN) for kind in found.steps)
    assert found.amount == round(found.amount, least)


def test_the_cap_of_a_day_counts_this_one() -> None:
    assert may_begin(D(10), D(90), D(100)) is None
    assert "100.01 USD would be approved" in str(may_begin(D("10.01"), D(90), D(100)))


ONE = "0x" + "1" * 40
WHOLE = {
    "enabled": True,
    "broker": "alpaca-broker",
    "alpaca": {"account_id": "a"},
    "chain": {"cutoff": "safe", "orderbook": "0x" + "3" * 40, "owner": "0x" + "4" * 40},
    "symbols": {"COIN": {"token": ONE, "most_shares": "10"}},
}
SECTION = {
    "enabled": True,
    "vaults": {"COIN": 3, "USDC": "0x4"},
    "most_shares": {"COIN": 5},
    "redemption_wallet": "0x" + "5" * 40,
}


def test_settings_that_could_be_carried_out_are_taken() -> None:
    found = Hedging.model_validate(WHOLE | {"rebalance": SECTION}).rebalance
    assert found.vaults == {"COIN": 3, "USDC": 4}


@pytest.mark.parametrize(
    ("changes", "section", "says"),
    [
        ({"broker": "alpaca", "alpaca": {}}, {}, "needs broker = alpaca-broker"),
        ({"broker": "dry-run"}, {}, "it is dry-run"),
        ({}, {"vaults": {}}, "vaults is empty"),
        ({}, {"vaults": {"NVDA": 3}}, "rebalance.vaults.NVDA is no symbol"),
        ({}, {"vaults": {"COIN": 0}}, "vaults.COIN"),
        ({}, {"vaults": {"COIN": "0xzz"}}, "is no number"),
        ({}, {"most_shares": {}}, "most_shares.COIN is missing"),
        ({}, {"most_shares": {"COIN": 0}}, "allowed is more than 0"),
        ({}, {"redemption_wallet": ""}, "redemption_wallet is empty"),
        ({}, {"redemption_wallet": "0x" + "0" * 40}, "zero address"),
        ({}, {"assets": {"COIN": "0x" + "6" * 40}}, "is not wrapped"),
        ({}, {"assets": {"COIN": "0x12"}}, "COIN is no address"),
        ({}, {"wallet_account": "a"}, "is the account that hedges"),
        ({}, {"equity": {"target": "0.5", "deviation": "0.5"}}, "reach 0 or 1"),
        ({}, {"auto_usd_a_day": 0}, "auto_usd_a_day"),
        ({"symbols": {"COIN": {"token": ONE, "most_shares": "10", "wrapped": True}}}, {}, "assets.COIN is missing"),
    ],
)  # fmt: skip
def test_settings_that_could_not_are_refused_by_name(
    changes: dict[str, object], section: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        Hedging.model_validate(WHOLE | changes | {"rebalance": SECTION | section})
