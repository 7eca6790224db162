"""`prefect.yaml` says what it means: a misspelt key would be ignored in silence by Prefect, so it is refused here."""

from __future__ import annotations

import ast
import importlib
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import CronSchedule as ServerCron
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel

from app.deployments import RETIRED
from app.doctor.schedules import expected
from flows.accounts.watch import AccountsWatchRequest, watch
from flows.carry.monitor import MonitorRequest, monitor
from flows.hedging.hedge import HedgeRequest, hedge

ROOT = Path(__file__).resolve().parents[2]
FILE_KEYS = {"name", "prefect-version", "definitions", "deployments"}
DEPLOYMENT_KEYS = {
    "name",
    "description",
    "entrypoint",
    "tags",
    "parameters",
    "schedules",
    "concurrency_limit",
    "work_pool",
}
SCHEDULE_KEYS = {"cron", "timezone", "slug"}
UNLIMITED = {"exit", "recover", "pause", "resume", "flatten", "close-trade", "cancel-order"}
"""A closing or a pause must never wait for the slot of a killed run, nor may a dead worker's slot keep recovery waiting."""
FILLED_IN = {"{{ $EVENKEEL_REPORTS__HOUR }}": "7", "{{ $EVENKEEL_REPORTS__TIMEZONE }}": "Europe/Zurich"}
"""What `evenkeel deploy` puts in from the settings, and something that it may be."""

CONTENT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = CONTENT["deployments"]


def flow_of(entrypoint: str) -> Flow[..., Any]:
    path, _, name = entrypoint.partition(":")
    found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow), f"{entrypoint} is not a flow"
    return found


def test_every_field_of_a_form_has_a_name_of_its_own() -> None:
    """Prefect's form shows "Field" for one without a title, which pydantic does not give to a list of choices."""
    for flow in (*(flow_of(one["entrypoint"]) for one in DEPLOYMENTS), monitor, watch, hedge):
        schema = parameter_schema(flow.fn).model_dump()
        for model in schema["definitions"].values():
            titles = [one.get("title") for one in model.get("properties", {}).values()]
            assert all(titles) and len(set(titles)) == len(titles), (flow.name, model)


def filled(text: str) -> str:
    for name, value in FILLED_IN.items():
        text = text.replace(name, value)
    return text


def ids(deployment: dict[str, Any]) -> str:
    return str(deployment["entrypoint"])


def test_the_file_has_known_keys_only_and_names_the_pinned_prefect() -> None:
    assert set(CONTENT) == FILE_KEYS
    pins = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.startswith("prefect==")
    ]
    assert pins == [f"prefect=={CONTENT['prefect-version']}"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=ids)
def test_a_deployment_has_known_keys_only(deployment: dict[str, Any]) -> None:
    assert set(deployment) <= DEPLOYMENT_KEYS
    assert {"name", "description", "entrypoint", "tags", "work_pool"} <= set(deployment)
    for schedule in deployment.get("schedules", []):
        assert set(schedule) == SCHEDULE_KEYS, (
            "every schedule has a slug and a time zone, and none says active"
        )
        assert schedule["timezone"] in ("UTC", "{{ $EVENKEEL_REPORTS__TIMEZONE }}")
        CronSchedule(cron=filled(schedule["cron"]), timezone=filled(schedule["timezone"]))


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=ids)
def test_its_entrypoint_is_an_async_flow_and_its_parameters_fit(deployment: dict[str, Any]) -> None:
    found = flow_of(deployment["entrypoint"])
    assert found.isasync, "a sync flow pays a second at its end"
    assert deployment["tags"] == ["evenkeel", found.name]
    parameters = deployment.get("parameters", {})
    assert found.validate_parameters(parameters) is not None or parameters == {}
    for name, value in parameters.items():
        model = found.fn.__annotations__[name]
        module = importlib.import_module(found.fn.__module__)
        kind = getattr(module, model) if isinstance(model, str) else model
        assert issubclass(kind, BaseModel)
        assert set(value) == set(kind.model_fields), (
            f"{found.name}: the form shows other fields than the file"
        )
        undescribed = [field for field, info in kind.model_fields.items() if not info.description]
        assert not undescribed, f"{found.name}: {undescribed} have no description in the form"


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=ids)
def test_limits_are_set_where_they_help_and_nowhere_else(deployment: dict[str, Any]) -> None:
    limit = deployment.get("concurrency_limit")
    if flow_of(deployment["entrypoint"]).name in UNLIMITED:
        assert limit is None
        return
    assert set(limit) == {"limit", "collision_strategy"}
    assert limit["limit"] == 1
    scheduled = bool(deployment.get("schedules"))
    assert limit["collision_strategy"] in (("CANCEL_NEW",) if scheduled else ("CANCEL_NEW", "ENQUEUE"))


def test_every_flow_is_deployed_once_and_schedules_are_distinct() -> None:
    defined = set()
    for path in (ROOT / "flows").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AsyncFunctionDef) and any(
                isinstance(one, ast.Call) and getattr(one.func, "id", "") == "flow"
                for one in node.decorator_list
            ):
                defined.add(f"{path.relative_to(ROOT)}:{node.name}")
    deployed = [one["entrypoint"] for one in DEPLOYMENTS]
    assert len(deployed) == len(set(deployed))
    assert defined == {
        *deployed,
        "flows/carry/monitor.py:monitor",
        "flows/accounts/watch.py:watch",
        "flows/hedging/hedge.py:hedge",
        "flows/hedging/rebalance.py:rebalance_scheduled",
    }
    slugs = [schedule["slug"] for one in DEPLOYMENTS for schedule in one.get("schedules", [])]
    assert len(slugs) == len(set(slugs)) == 5


HEDGING_SETTINGS = f"""
[hedging]
enabled = true
broker = "dry-run"
chain = {{ cutoff = "safe", orderbook = "0x{"3" * 40}", owner = "0x{"4" * 40}" }}
symbols.COIN = {{ token = "0x{"1" * 40}", most_shares = 10 }}
"""


@pytest.mark.parametrize("hedging", [False, True])
def test_the_watches_are_served_without_a_concurrency_limit(
    hedging: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr("prefect.serve", lambda *what, **how: served.append((what, how)))
    from flows import serve

    def watch_all() -> None:
        """Nothing lives here."""

    def watch_meanwhile(answered: threading.Event) -> None:
        """No ledger is here."""

    monkeypatch.setattr(serve, "watch_all", watch_all)
    monkeypatch.setattr(serve, "watch_meanwhile", watch_meanwhile)
    if hedging:
        (tmp_path / "evenkeel.toml").write_text(HEDGING_SETTINGS)
        monkeypatch.setenv("EVENKEEL_CONFIG", str(tmp_path / "evenkeel.toml"))
    serve.main()
    hosted, options = served[0]
    watches = [one for one in serve.WATCHES if hedging or one is not serve.HEDGING]
    assert [f"{one.flow_name}/{one.name}" for one in hosted] == [one.deployment for one in watches]
    assert [one.concurrency_limit for one in hosted] == [None] * len(watches)
    forms = (
        (monitor, MonitorRequest()),
        (watch, AccountsWatchRequest()),
        (hedge, HedgeRequest()),
    )
    for one, (flow, request) in zip(hosted, forms, strict=False):
        assert flow.validate_parameters(one.parameters) == {"request": request}
    assert options["pause_on_shutdown"] is False
    assert options["limit"] == serve.AT_ONCE
    source = (ROOT / "flows" / "serve.py").read_text()
    assert 'if __name__ == "__main__":\n    main()' in source, "children would serve again instead of running"


def test_the_readme_names_what_is_deployed() -> None:
    [line] = re.findall(r"^evenkeel deploy +# (.+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    deployed = [flow_of(one["entrypoint"]).name for one in DEPLOYMENTS]
    assert sorted(line.split(", ")) == sorted(deployed)


def test_nothing_is_called_by_how_it_is_started_and_what_was_so_called_is_taken_away() -> None:
    names = {f"{flow_of(one['entrypoint']).name}/{one['name']}" for one in DEPLOYMENTS}
    assert names == expected()
    assert not [name for name in names if name.endswith(("/by-hand", "/hourly", "/every-ten-minutes"))]
    assert set(RETIRED.values()) <= names and not names & RETIRED.keys()


def test_a_quick_run_sends_nothing() -> None:
    """What the UI starts without asking for fields: the entry is a dry run, the kill switch and resume lack their word."""
    given = {
        flow_of(one["entrypoint"]).name: one.get("parameters", {}).get("request", {}) for one in DEPLOYMENTS
    }
    assert given["enter"]["dry_run"] is True
    assert given["open-trade"]["deployment"] == given["close-trade"]["trade"] == ""
    assert given["flatten"]["confirm"] == given["resume"]["confirm"] == given["pause"]["reason"] == ""


@pytest.mark.parametrize(
    ("zone", "begin", "hour"),
    [
        ("Europe/Berlin", "2027-03-26", 2),
        ("America/Santiago", "2027-09-03", 0),
        ("Europe/Berlin", "2027-10-29", 2),
    ],
)
async def test_the_daily_report_is_made_each_day_where_clocks_are_set(
    zone: str, begin: str, hour: int
) -> None:
    """As the server's scheduler asks, from any moment on: an hour that a day has not, or has twice, is one run."""
    schedule = ServerCron(cron=f"0 {hour} * * *", timezone=zone)
    first = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    for hours in range(72):
        found = await schedule.get_dates(n=4, start=first + timedelta(hours=hours))
        days = [one.astimezone(ZoneInfo(zone)).date() for one in found]
        assert days == [days[0] + timedelta(days=number) for number in range(4)], (hours, found)
