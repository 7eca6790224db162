"""Every number of the settings has a least and a most, pairs that contradict each other are refused, and a setting that is
refused shows where it points, and never the secret inside it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings, load_settings


def numbers() -> Iterator[tuple[str, str]]:
    """Every setting that is a number, by section."""
    for section, held in Settings.model_fields.items():
        if isinstance(held.annotation, type) and issubclass(held.annotation, BaseModel):
            for name, field in held.annotation.model_fields.items():
                is_union = get_origin(field.annotation) in (Union, types.UnionType)
                kinds = get_args(field.annotation) if is_union else (field.annotation,)
                if {int, float, Decimal} & set(kinds):
                    yield section, name


@pytest.mark.parametrize(("section", "name"), sorted(numbers()))
@pytest.mark.parametrize("value", [-1, 10**15, "NaN", "Infinity"])
def test_every_number_of_every_section_has_a_least_and_a_most(section: str, name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({section: {name: value}})
    assert name in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"strategy": {"leverage": 3}, "limits": {"max_leverage": 2}}, "strategy.leverage 3 is above limits.max_leverage 2"),
        ({"limits": {"max_deployment_pct": "0.05"}}, "deployment_pct 0.10 is above limits.max_deployment_pct 0.05"),
        ({"limits": {"max_slippage_entry_bps": 200}}, "the short of an entry would not be signed"),
        ({"asgard": {"emergency_tip_lamports": 2_000_000}}, "emergency_tip_lamports 2000000 is above safety.tip"),
        ({"limits": {"allowed_long_assets": []}}, "allowed_long_assets is empty"),
        ({"limits": {"liquidation_floor": "0.3"}}, "closed as soon as it is open"),
        ({"limits": {"min_rebalance_usd": 2000}}, "would never be levelled"),
        ({"limits": {"fill_residual_tolerance": "0.01"}}, "is above max_delta_drift"),
        ({"strategy": {"protocol_preference": [1, 0, 1]}}, "names a protocol twice"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(content: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Settings.model_validate(content)


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("EVENKEEL_DATABASE__URL", "mysql://bob:hunter2@db.example/x", "db.example"),
        ("EVENKEEL_DATABASE__URL", "postgresql://bob:hun@ter2@db.example/x", "db.example"),
        ("EVENKEEL_SOLANA__RPC_URL", "wss://node.example/hunter2", "node.example"),
        ("EVENKEEL_SOLANA__RPC_URL", "wss://node.example?api-key=hunter2", "node.example"),
    ],
)
def test_no_secret_in_the_refusal_of_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENKEEL_CONFIG", raising=False)
    monkeypatch.setenv(variable, value)

    with pytest.raises(OperatorError) as refused:
        load_settings()

    assert place in str(refused.value)
    assert "hunter2" not in str(refused.value) and "ter2" not in str(refused.value)
    assert "\n" not in str(refused.value)
