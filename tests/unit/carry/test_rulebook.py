"""The list of rules: each answers by its own name, is explained in the runbook, and calls nothing well that is missing."""

from __future__ import annotations

import fnmatch
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.types import VenueName
from strategy.carry.limits import STAKED_ASSETS, CarryLimits, RiskLimits
from strategy.carry.needs.listed import NEEDS
from strategy.carry.readings import BreakerReadings, EntryReadings, LegReading, WatchReadings
from strategy.carry.rebalance import Book
from strategy.carry.rulebook import (
    BREAKERS,
    ENTRY_CHECKS,
    REBALANCE_RULES,
    WARNINGS,
    WATCH_RULES,
    Breaker,
    EntryCheck,
    RebalanceRule,
    WatchRule,
)
from strategy.carry.sizing import PositionSize
from strategy.decisions import Rank
from strategy.rulebook import CALL_BREAKERS, HEALTH_BREAKERS
from venues.asgard.mints import LONG_ASSETS, TOKENS

D = Decimal
ROOT = Path(__file__).resolve().parents[3]
NOW = 1_757_203_200_000
LIMITS = CarryLimits()
SEEN = LegReading(
    qty=D(100), liquidation_distance=D("0.3"), entry_liquidation_distance=D("0.301"), observed_ms=NOW
)
BLIND = LegReading(qty=None, liquidation_distance=None, entry_liquidation_distance=D("0.3"), observed_ms=None)
CALM: dict[str, Any] = {
    "now_ms": NOW,
    "asset": "jitoSOL",
    "position_usd": D(15_000),
    "debt_usd": D(10_000),
    "long": SEEN,
    "short": SEEN,
    "funding_now_hourly": D("0.0000125"),
    "funding_expected_hourly": D("0.0000125"),
    "lend_apr": D("0.05"),
    "borrow_apr": D("0.06"),
    "long_venue_price_usd": D(150),
    "short_venue_price_usd": D(150),
    "lst_price_usd": D(180),
    "redemption_rate": D("1.2"),
}
UNREAD = dict.fromkeys(
    ("funding_now_hourly", "funding_expected_hourly", "lend_apr", "borrow_apr",
     "long_venue_price_usd", "short_venue_price_usd", "lst_price_usd", "redemption_rate"),
    None,
) | {"long": BLIND, "short": BLIND, "failures": dict.fromkeys(VenueName, 3)}  # fmt: skip
UNREAD_ENTRY: dict[str, Any] = {
    "size": PositionSize(
        deployment_usd=D(6000), per_leg_usd=D(3000), position_usd=D(9000), leverage=3, borrow_usd=D(6000)
    ),
    "protocol": 1,
    "long_ran": False,
    "short_ran": False,
} | dict.fromkeys(
    ("solana_usdc", "solana_gas_lamports", "hyperliquid_free_usdc", "asgard_sol_price_usd", "hyperliquid_mark_usd",
     "funding_now_hourly", "funding_today_hourly", "borrow_capacity_usd", "market_max_leverage",
     "priority_fee_lamports"),
    None,
)  # fmt: skip
LEVEL = Book(
    long_sol=D(100),
    long_debt_usd=D(10_000),
    short_qty=D(100),
    short_equity_usd=D(5_000),
    price_usd=D(150),
    target_leverage=3,
    long_can_resize=True,
)


@pytest.mark.parametrize("rule", WATCH_RULES, ids=lambda rule: rule.name)
def test_a_rule_of_the_watch_is_calm_when_all_is_well_and_never_when_nothing_is_read(rule: WatchRule) -> None:
    calm = rule(WatchReadings(**CALM), LIMITS)
    assert (calm.rule, calm.answer.rank) == (rule.name, Rank.HOLD)
    blind = rule(WatchReadings(**(CALM | UNREAD)), LIMITS)
    assert blind.rule == rule.name
    assert blind.answer.rank > Rank.HOLD or rule.name in ("missing_leg", "not_understood"), (
        "only what is known to be gone is gone, and only what was answered is not understood"
    )
    for judged in (calm, blind):
        assert judged.breach is None or judged.breach.key == rule.name, (
            "stored under the name it is looked up by"
        )


@pytest.mark.parametrize("rule", REBALANCE_RULES, ids=lambda rule: rule.name)
def test_a_rebalancing_rule_holds_a_level_book(rule: RebalanceRule) -> None:
    judged = rule(LEVEL, LIMITS)
    assert (judged.rule, judged.answer.rank) == (rule.name, Rank.HOLD)


@pytest.mark.parametrize("check", ENTRY_CHECKS, ids=lambda check: check.name)
def test_a_check_fails_where_nothing_could_be_read(check: EntryCheck) -> None:
    judged = check(EntryReadings(**UNREAD_ENTRY), LIMITS)
    assert judged.rule == check.name and not judged.answer.ok and judged.answer.reason


@pytest.mark.parametrize("breaker", BREAKERS, ids=lambda breaker: breaker.name)
def test_a_breaker_answers_by_its_own_name(breaker: Breaker) -> None:
    judged = breaker(BreakerReadings(now_ms=NOW), RiskLimits())
    assert judged.rule == breaker.name and judged.answer.reason


def test_nothing_is_listed_twice() -> None:
    for rules in (
        [rule.name for rule in (*WATCH_RULES, *REBALANCE_RULES, *WARNINGS, *NEEDS)],
        [check.name for check in ENTRY_CHECKS],
        [breaker.name for breaker in BREAKERS],
        [need.name for need in NEEDS],
    ):
        assert len(set(rules)) == len(rules)
    assert set(CALL_BREAKERS) <= set(HEALTH_BREAKERS) <= set(BREAKERS)


def test_every_token_with_a_peg_has_its_breaker() -> None:
    assert tuple(asset for asset in LONG_ASSETS if TOKENS[asset].is_lst) == STAKED_ASSETS


def first_column(heading: str) -> set[str]:
    """The names that one chapter of the runbook explains; `TOKEN` stands for any."""
    chapters = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    [chapter] = [one for one in chapters if one.startswith(heading + "\n")]
    rows = re.findall(r"^\| (`[^|]*`) \|", chapter, re.MULTILINE)
    return {word.replace("TOKEN", "*") for row in rows for word in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize(
    ("heading", "rules"),
    [
        ("Alerts of the watch", (*WATCH_RULES, *REBALANCE_RULES)),
        ("Early warnings", WARNINGS),
        ("What an exit needs", NEEDS),
        ("Pauses and breakers", BREAKERS),
        ("An entry is refused by its checks", ENTRY_CHECKS),
    ],
)
def test_the_runbook_explains_every_rule_and_none_that_is_not(heading: str, rules: tuple[Any, ...]) -> None:
    names, explained = {rule.name for rule in rules}, first_column(heading)
    missing = sorted(name for name in names if not any(fnmatch.fnmatch(name, one) for one in explained))
    assert not missing, f"the night shift would find nothing about {missing}"
    assert not [one for one in explained if not fnmatch.filter(names, one)]


def test_the_root_of_strategy_serves_every_business_and_knows_none() -> None:
    files = [*(ROOT / "strategy").glob("*.py"), *(ROOT / "strategy" / "breakers").glob("*.py")]
    assert len(files) > 8
    for path in files:
        text = path.read_text()
        found = re.findall(r"(?i)\b(?:SOL|asgard|legs?|lending)\b", text) + re.findall(
            r"strategy\.carry", text
        )
        assert not found, f"{path.relative_to(ROOT)} names {found}"
