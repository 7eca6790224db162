"""What Prefect shows of each flow: names to choose from, numbers with bounds, and a description of every field."""

from __future__ import annotations

import importlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.carry.enter import EnterRequest, requested_entry_of
from flows.carry.forms import LendingProtocol, LongAsset
from flows.carry.monitor import monitor
from flows.carry.scan import ScanRequest
from strategy.carry.limits import PROTOCOL_NAMES
from tasks.carry.entering.choose import RequestedEntry
from venues.asgard.mints import LONG_ASSETS

ROOT = Path(__file__).resolve().parents[3]


NUMBERS = ("size_usd", "leverage", "price", "collateral_usdc", "take_profit", "share")


def deployed() -> list[Flow[..., Any]]:
    found = [monitor]
    for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        path, _, name = one["entrypoint"].partition(":")
        found.append(getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name))
    return found


def form(flow: Flow[..., Any]) -> dict[str, Any]:
    """The schema of the request as Prefect generates it, every reference replaced by what it names."""
    schema = parameter_schema(flow).model_dump()
    if not schema["properties"]:
        return {}

    def resolved(part: Any) -> Any:
        if isinstance(part, dict) and "$ref" in part:
            return resolved(schema["definitions"][part["$ref"].rpartition("/")[2]]) | {
                name: value for name, value in part.items() if name != "$ref"
            }
        if isinstance(part, dict):
            return {name: resolved(value) for name, value in part.items()}
        return [resolved(one) for one in part] if isinstance(part, list) else part

    fields: dict[str, Any] = resolved(schema["properties"]["request"])["properties"]
    return fields


def chosen(field: dict[str, Any]) -> dict[str, Any]:
    """Of a field that may stay empty: what it takes otherwise."""
    [kind] = [one for one in field["anyOf"] if one.get("type") != "null"]
    return dict(kind)


@pytest.mark.parametrize("flow", deployed(), ids=lambda flow: flow.name)
def test_every_field_is_described_and_none_asks_for_a_code(flow: Flow[..., Any]) -> None:
    for name, field in form(flow).items():
        assert field.get("description"), name
        if name == "asset":
            assert chosen(field)["enum"] == list(LONG_ASSETS)
        if name == "protocol":
            assert chosen(field)["enum"] == ["kamino", "marginfi", "solend", "drift"]
        if name == "leverage" and flow.name in ("enter", "scan"):
            assert chosen(field) == {"type": "integer", "minimum": 2, "maximum": 4}
        if name in NUMBERS:
            assert (
                chosen(field)["type"] in ("number", "integer")
                if "anyOf" in field
                else field["type"] == "number"
            )
        if name == "interval_s":
            assert chosen(field)["exclusiveMinimum"] == 0


def test_the_forms_of_entry_and_scan_have_these_fields() -> None:
    forms = {flow.name: form(flow) for flow in deployed()}
    assert list(forms["enter"]) == ["asset", "protocol", "leverage", "size_usd", "dry_run", "account"]
    assert list(forms["scan"]) == ["asset", "leverage", "size_usd", "account"]


def test_the_names_are_those_that_the_venue_and_the_strategy_know() -> None:
    assert tuple(LongAsset) == LONG_ASSETS
    assert {one.number: one.value for one in LendingProtocol} == {
        number: name.lower() for number, name in PROTOCOL_NAMES.items()
    }


@pytest.mark.parametrize("given", ["kamino", "Kamino", "1", 1, LendingProtocol.KAMINO])
def test_a_protocol_is_taken_by_its_name_and_by_its_number(given: Any) -> None:
    request = EnterRequest(asset="jitoSOL", protocol=given, leverage="3", size_usd="2500.5")
    assert requested_entry_of(request) == RequestedEntry(
        asset="jitoSOL", protocol=1, leverage=3, size_usd=Decimal("2500.5")
    )


def test_what_was_filled_in_survives_the_run_that_keeps_it() -> None:
    """ "Copy to new run" sends the stored values through the form's schema again."""
    request = EnterRequest(asset="INF", protocol=2, leverage=2, size_usd="2500.55")
    kept = request.model_dump(mode="json")
    assert kept == {
        "asset": "INF",
        "protocol": "solend",
        "leverage": 2,
        "size_usd": 2500.55,
        "dry_run": False,
        "account": None,
    }
    assert EnterRequest.model_validate(kept) == request


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("asset", "DOGE", "asset 'DOGE' is unknown; allowed are SOL, jitoSOL, jupSOL, INF"),
        ("protocol", 9, "protocol 9 is unknown; allowed are kamino, marginfi, solend, drift"),
        ("protocol", "aave", "protocol aave is unknown"),
        ("leverage", "2.5", "leverage 2.5 is not a whole number"),
        ("leverage", "nan", "leverage nan is not a whole number"),
        ("leverage", "Infinity", "leverage Infinity is not a whole number"),
        ("size_usd", "much", "valid decimal"),
    ],
)
def test_what_no_field_takes_is_refused_by_name(field: str, value: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        EnterRequest(**{field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


def test_a_scan_takes_the_same_words() -> None:
    with pytest.raises(ValidationError, match="asset 'DOGE' is unknown"):
        ScanRequest(asset="DOGE")  # type: ignore[arg-type]
