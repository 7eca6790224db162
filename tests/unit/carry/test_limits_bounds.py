"""Every number that a decision is held against has a least and a most, and numbers that contradict each other are refused."""

from __future__ import annotations

import types
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from strategy.carry.limits import CostModel, LstLimits, RiskLimits, StrategySettings

MODELS: tuple[type[BaseModel], ...] = (CostModel, LstLimits, RiskLimits, StrategySettings)


def numbers(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = (
            get_args(field.annotation)
            if get_origin(field.annotation) in (Union, types.UnionType)
            else (field.annotation,)
        )
        if {int, Decimal} & set(kinds):
            yield name


@pytest.mark.parametrize(("model", "name"), [(model, name) for model in MODELS for name in numbers(model)])
@pytest.mark.parametrize("value", [-1, 10**15, "NaN", "Infinity"])
def test_every_number_has_a_least_and_a_most(model: type[BaseModel], name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({name: value})
    assert name in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agent_critical_hours": 200}, "agent_critical_hours 200 is above agent_warning_hours 168"),
        ({"clock_warning_ms": 6000}, "clock_warning_ms 6000 is above clock_entry_ms 5000"),
        ({"max_fee_lamports": 30_000_000}, "max_fee_lamports 30000000 is above max_fee_emergency_lamports"),
        ({"allowed_long_assets": ("SOL", "mSOL")}, "mSOL is not known; known are SOL, jitoSOL, jupSOL, INF"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RiskLimits.model_validate(changes)


def test_a_danger_is_watched_at_least_as_closely_as_a_calm_position() -> None:
    with pytest.raises(ValidationError, match="breach_poll_interval_s 60 is above poll_interval_s 30"):
        StrategySettings.model_validate({"breach_poll_interval_s": 60})
