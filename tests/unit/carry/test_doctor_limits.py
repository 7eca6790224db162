"""The doctor's judgement of limits: calm about the defaults, and each thing that does not fit with value, bound and advice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.doctor import limits
from app.doctor.frame import Health
from app.doctor.limits import Finding, verdict
from app.doctor.observed import Observed, judge_observed, observe
from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.settings.settings import Settings
from state.carry.models import LendingRow, Position
from state.ledger_models import FillRow
from strategy.carry.limits import CostModel
from tasks.research.recorded import KAMINO_RULES

D = Decimal
ROOT = Path(__file__).resolve().parents[3]
Judge = Callable[[Settings], Iterator[Finding]]
JUDGES: tuple[Judge, ...] = (
    limits.judge_distances,
    limits.judge_naked,
    limits.judge_money,
    limits.judge_costs,
    limits.judge_studied,
)


@pytest.mark.parametrize("judge", JUDGES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("leverage", [2, 3])
def test_the_defaults_fit_each_other_and_the_back_test(judge: Judge, leverage: int) -> None:
    assert not list(judge(Settings.model_validate({"strategy": {"leverage": leverage}})))


@pytest.mark.parametrize(
    ("judge", "content", "what", "value", "allowed"),
    [
        (limits.judge_distances, {"strategy": {"leverage": 4}}, "long leg's liquidation distance at 4x", "3.85 %",
         "above the exit distance 4.00 %"),
        (limits.judge_distances, {"limits": {"liquidation_floor": "0.08"}}, "long leg's liquidation distance at 3x",
         "14.53 %", "at least twice the exit distance, 16.00 %"),
        (limits.judge_distances, {"limits": {"rebalance_band": "0.05"}}, "long leg's room between resize", "0.53 %",
         "at least 1.00 %"),
        (limits.judge_naked, {"strategy": {"entry_retry_interval_s": 10}}, "entry_attempts", "140 s", "at most 80 s"),
        (limits.judge_naked, {"limits": {"naked_reserve_s": 25}}, "naked_reserve_s", "25 s", "at least 30 s"),
        (limits.judge_naked, {"hyperliquid": {"order_life_s": 40}}, "naked_reserve_s", "40 s", "at least 60 s"),
        (limits.judge_naked, {"limits": {"naked_stop_fall": "0.004"}}, "naked_stop_fall", "0.40 %", "above"),
        (limits.judge_money, {"strategy": {"reserve_pct": "0.02", "transfer_above": "0.01"}}, "reserve_pct", "2.00 %",
         "at least 3.00 %: limits.balance_headroom_bps at 3x"),
        (limits.judge_money, {"strategy": {"transfer_above": "0.2"}}, "reserve_pct", "10.00 %", "transfer_above 20.00 %"),
        (limits.judge_money, {"limits": {"min_gas_lamports": 20_000_000}}, "min_gas_lamports", "20000000", "21000000"),
        (limits.judge_costs, {"strategy": {"expected_hold_hours": 100, "exit_horizon_hours": 100}},
         "strategy.expected_hold_hours 100", "43.80 % a year", "at most 15.00 %"),
        (limits.judge_costs, {"strategy": {"expected_hold_hours": 300}}, "exit_horizon_hours", "336", "hours 300"),
        (limits.judge_studied, {"strategy": {"expected_funding_hours": 24}}, "expected_funding_hours", "24", "168 to 336"),
        (limits.judge_studied, {"strategy": {"exit_horizon_hours": 24}}, "exit_horizon_hours", "24", "168 to 720"),
        (limits.judge_studied, {"strategy": {"leverage": 4}}, "leverage", "4", "2 to 3"),
        (limits.judge_studied, {"strategy": {"reserve_pct": "0"}}, "reserve_pct", "0", "0.05 to 0.20"),
        (limits.judge_studied, {"strategy": {"costs": {"long_open_fee_bps": "5"}}}, "round trip", "20.2 bps", "30.2 bps"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_value_what_is_allowed_and_what_to_do(
    judge: Judge, content: dict[str, Any], what: str, value: str, allowed: str
) -> None:
    found = list(judge(Settings.model_validate(content)))
    [one] = [one for one in found if what in one.what]
    assert value in one.value and allowed in one.allowed, one
    assert re.search(r"lower|raise|set", one.advice)
    said = verdict(found, "calm")
    assert one.detail in said.detail and one.advice in said.advice and said.health is not Health.OK


def test_an_open_position_that_began_below_its_exit_fails() -> None:
    held = {"long": D("0.035"), "short": D("0.3")}
    [one] = limits.judge_distances(Settings(), held)
    assert one.health is Health.FAIL and "at entry" in one.what


def test_a_long_that_can_stay_naked_too_long_fails() -> None:
    settings = Settings.model_validate({"limits": {"naked_reserve_s": 25}})
    assert verdict(list(limits.judge_naked(settings)), "calm").health is Health.FAIL


def test_the_figures_of_the_back_test_are_those_of_its_document() -> None:
    research = (ROOT / "docs" / "research.md").read_text()
    assert min(rule.threshold for rule in KAMINO_RULES.values()) == float(limits.LENDER_THRESHOLD)
    assert "windows of 168 and 336 hours with horizons of 168 to 720" in " ".join(research.split())
    assert (limits.WINDOW_HOURS, limits.HORIZON_HOURS) == ((168, 336), (168, 720))


def fill(side: str, price: str, fee: str, at_ms: int = 5, **more: Any) -> FillRow:
    return FillRow(
        venue="hyperliquid", fill_id=more.pop("fill_id", f"{side}{at_ms}{price}"), business=CARRY, subject="P",
        part=LegSide.SHORT, asset="SOL", side=side, qty=D(10), price_usd=D(price), fee_usd=D(fee), time_ms=at_ms, **more,
    )  # fmt: skip


def change(kind: IntentKind, usdc: str, tokens: str, fee: str, gas: int = 1_000_000) -> LendingRow:
    zero, bought = D(0), D(tokens) if kind is IntentKind.OPEN else D(0)
    return LendingRow(
        position_id="P", intent_id="I", kind=kind, ref=f"{kind}{usdc}", at_ms=4, tokens_before=zero, tokens_after=bought,
        debt_before_usd=zero, debt_after_usd=zero, swap_token_qty=D(tokens), swap_usdc_qty=D(usdc),
        wallet_usdc_delta=zero, protocol_fee_usd=D(fee), gas_lamports=gas,
    )  # fmt: skip


POSITION = Position(
    position_id="P", asset="SOL", status=PositionStatus.CLOSED, leverage=D(3), ref_long_price_usd=D(200),
    ref_short_price_usd=D(200), created_ms=1, updated_ms=9, opened_ms=6, closed_ms=9,
)  # fmt: skip


def test_costs_are_read_from_fills_and_lending_changes() -> None:
    fills = [
        fill("sell", "199.9", "0.9"),
        fill("buy", "190", "0.855", at_ms=8),
        fill("sell", "100", "50", fill_id="odd"),
        fill("buy", "100", "-50", fill_id="back", reversal_of="odd"),
    ]
    changes = [
        change(IntentKind.OPEN, "2001", "10", "3"),
        change(IntentKind.CLOSE, "1900", "10", "0"),
        change(IntentKind.RESIZE, "100", "0.5", "0", gas=10**9),
    ]
    seen = observe([(POSITION, fills, changes)]).figures
    assert seen["short_taker_fee_bps"] == D("1.755") / D("3899") * 10_000
    assert seen["short_slippage_bps"] == D(5)
    assert seen["long_open_fee_bps"] == D(3) / D(2001) * 10_000
    assert seen["long_slippage_bps"] == D(5)
    assert seen["long_close_fee_bps"] == 0
    assert seen["gas_usd"] == D("0.4")
    assert not observe([]).figures


def test_a_figure_clearly_above_the_model_is_named_with_what_to_set() -> None:
    calm = Observed(figures={"short_taker_fee_bps": D("4.5"), "gas_usd": D("0.4")})
    assert not judge_observed(calm, CostModel())
    [one] = judge_observed(Observed(figures={"short_slippage_bps": D(9)}), CostModel())
    assert one.value == "9.00 bps" and one.advice.startswith("set strategy.costs.short_slippage_bps to 9.0")


@settings(deadline=None)
@given(name=st.sampled_from(sorted(CostModel.model_fields)), seen=st.decimals(D("-50"), D("500"), places=2))
def test_what_is_at_or_below_the_model_is_never_named(name: str, seen: Decimal) -> None:
    found = judge_observed(Observed(figures={name: seen}), CostModel())
    assumed = getattr(CostModel(), name)
    assert not (found and seen <= assumed)
    assert found or seen <= max(assumed * D("1.25"), assumed + 1)
