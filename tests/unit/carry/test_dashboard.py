"""The dashboard for Grafana is what its script makes, and asks for nothing that is not served."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from tests.dashboard import (
    DASHBOARD,
    HEDGING,
    LEDGER,
    OF_AN_INTERVAL,
    POSITIONS,
    PROCESS,
    ROWS,
    VENUES,
    made,
    queries,
)
from tests.unit.carry.test_prometheus_rules import needs_promtool, promtool, served

OF_PROMETHEUS = {"up"}
"""What it writes itself of a target."""
FUNCTIONS = r"\b([a-z_]+)\s*\("
LABELS = r"(?:by|without) \([^)]*\)|\{[^}]*\}|\[[^\]]*\]"


def panels() -> list[dict[str, Any]]:
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def metrics_of(query: str) -> set[str]:
    """Every metric that a query names: a word that is neither a label nor followed by an opening bracket."""
    bare = re.sub(LABELS, " ", query)
    return set(re.findall(r"\b[a-z_]+\b", bare)) - set(re.findall(FUNCTIONS, bare))


def test_it_is_what_the_script_makes() -> None:
    assert DASHBOARD.read_text() == made(), "run `python -m tests.dashboard`"


def test_it_is_a_dashboard_by_grafanas_own_schema() -> None:
    """Read into the library's models and written again it is the same; no panel is without options, no variable has fields of
    another kind.
    """
    page = json.loads(DASHBOARD.read_text())
    again = json.loads(json.dumps(models.Dashboard.from_json(page), cls=JSONEncoder))
    for variable in again["templating"]["list"]:
        for name in OF_AN_INTERVAL:
            variable.pop(name, None)
    assert again == page
    assert all(one["options"] for one in panels())
    assert all("auto" not in one for one in page["templating"]["list"])


def test_every_query_asks_for_what_is_served(tmp_path: Path) -> None:
    asked = {name for query in queries() for name in metrics_of(query)}
    assert len(asked) > 30
    assert asked - OF_PROMETHEUS <= served(tmp_path)


def test_all_of_the_script_is_in_it_and_nothing_is_off_the_page() -> None:
    page = json.loads(DASHBOARD.read_text())
    assert [one["title"] for one in page["panels"] if one["type"] == "row"] == [*ROWS]
    found = panels()
    assert sorted(target["expr"] for one in found for target in one["targets"]) == sorted(queries())
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in found)
    assert all(one["datasource"]["uid"] == "${datasource}" for one in found)
    assert {one["name"] for one in page["templating"]["list"]} == {"datasource", "position"}


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (
            POSITIONS,
            "liquidation_distance_ratio liquidation_limit_ratio total_apr_ratio net_carry_apr_ratio net_usd delta_ratio "
            "last_tick_seconds last_tick_limit_seconds funding_received_usd borrow_interest_usd token_premium_ratio",
        ),
        (VENUES, "venue_calls_total venue_failures_total venue_weight_total tick_duration_seconds"),
        (
            LEDGER,
            "messages_oldest_seconds intents_unfinished intents_oldest_seconds pause_active alerts_open",
        ),
        (
            HEDGING,
            "hedging_open_shares hedging_open_usd hedging_open_seconds hedging_last_pass_seconds hedging_fills "
            "hedging_earned_usd hedging_orders_open hedging_stream_up",
        ),
        (PROCESS, "ledger_up"),
    ],
    ids=ROWS,
)
def test_a_row_shows_what_it_is_for(row: tuple[Any, ...], wanted: str) -> None:
    shown = {name for panel in row for line in panel.lines for name in metrics_of(line.expr)}
    assert {f"evenkeel_{one}" for one in wanted.split()} <= shown


@needs_promtool
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    filled = [one.replace("$__rate_interval", "1m").replace("$position", ".*") for one in queries()]
    written = tmp_path / "queries.yml"
    records = [{"record": f"query:{at}", "expr": one} for at, one in enumerate(filled)]
    written.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", str(written))
