"""The rules for Prometheus: it takes them, each fires and ends in a staged series, and every alert of the runbook has one.

`deploy/prometheus/rules_test.yml` has the stories, for operators too; here every kind of alert is played beside them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app.metrics.serving import registry_of
from evenkeel.clock import SystemClock
from evenkeel.settings.settings import Settings
from state.store import Store
from state.watch_models import Severity
from tasks.accounts.meanings import MEANINGS as OF_ACCOUNTS
from tasks.carry.watching.meanings import MEANINGS
from tasks.messages.compose import anchor, load_meanings
from tests.databases import make_ledger

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
RULES, STORIES = FOLDER / "rules.yml", FOLDER / "rules_test.yml"
SUBJECT = "p1"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def kinds() -> list[str]:
    return sorted({*load_meanings(MEANINGS), *load_meanings(OF_ACCOUNTS)})


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def served(folder: Path) -> set[str]:
    """Every metric that there is, as Prometheus names it, of a ledger with nothing in it."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    make_ledger(url)
    with closing(Store.open(url, SystemClock())) as store:
        families = list(registry_of(Settings(), store).collect())
    endings = {"counter": "_total", "info": "_info"}
    return {f"{family.name}{endings.get(family.type, '')}" for family in families}


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", str(RULES))


@needs_promtool
def test_every_story_ends_as_it_says() -> None:
    promtool("test", "rules", str(STORIES))


def test_every_alert_fires_in_a_story_and_is_over_after_it() -> None:
    fired: set[str] = set()
    ended: set[str] = set()
    for story in yaml.safe_load(STORIES.read_text())["tests"]:
        for check in story["alert_rule_test"]:
            name = check["alertname"]
            fired |= {name} if check["exp_alerts"] else set()
            ended |= {name} if name in fired and not check["exp_alerts"] else set()
    assert fired == ended == {rule["alert"] for rule in alerts()}


def rule_of(kind: str, severity: Severity, subject: str = SUBJECT) -> str:
    """The one rule that is to fire for an alert, read from the rules themselves."""
    found = []
    for rule in alerts():
        for matchers in re.findall(r"evenkeel:alert_open\{([^}]*)\}", rule["expr"]):
            named = dict.fromkeys(re.findall(r'kind=~?"([^"]+)"', matchers))
            left_out = re.findall(r'kind!~"([^"]+)"', matchers)
            of = re.search(r'subject([=!])~"([^"]+)"', matchers)
            if of and bool(re.fullmatch(of[2], subject)) == (of[1] == "!"):
                continue
            wanted = re.findall(r'severity="([^"]+)"', matchers)
            by_name = any(re.fullmatch(one, kind) for one in named)
            by_rank = wanted == [severity] and not any(re.fullmatch(one, kind) for one in left_out)
            if by_name if named else by_rank:
                found.append(rule["alert"])
    assert len(found) == 1, (kind, severity, found)
    return str(found[0])


def paged() -> Iterator[tuple[str, Severity]]:
    for kind in kinds():
        for severity in (Severity.CRITICAL, Severity.WARNING):
            if (kind, severity) != ("breaker tripped", Severity.CRITICAL):  # it is never raised as critical
                yield kind, severity


def test_every_alert_of_the_runbook_has_exactly_one_rule_and_no_rule_is_for_one_that_there_is_not() -> None:
    for kind, severity in paged():
        rule_of(kind, severity)
    for subject, rule in (("outage", "VenueOut"), ("api_errors", "BreakerOpen")):
        for of in (subject, f"{subject}@north"):
            assert rule_of("breaker tripped", Severity.WARNING, of) == rule
    patterns = {one for rule in alerts() for one in re.findall(r'kind=~?"([^"]+)"', rule["expr"])}
    for left_out in {one for rule in alerts() for one in re.findall(r'kind!~"([^"]+)"', rule["expr"])}:
        patterns |= {*left_out.split("|")}
    parts = {part for pattern in patterns for part in pattern.split("|")}
    assert not [part for part in parts if not any(re.fullmatch(part, kind) for kind in kinds())]


@needs_promtool
def test_every_alert_of_the_runbook_fires_by_itself_with_its_own_severity_and_ends(tmp_path: Path) -> None:
    where = 'job="evenkeel",instance="h:9464"'
    lives = [{"series": f"{name}{{{where}}}", "values": "1x20"} for name in ("up", "evenkeel_ledger_up")]
    played = []
    for kind, severity in paged():
        labels = f'kind="{kind}",subject="{SUBJECT}",severity="{severity}",acknowledged="no"'
        firing = {
            f'ALERTS{{alertname="{rule_of(kind, severity)}",alertstate="firing",job="evenkeel",{labels}}}'
        }
        played.append(
            {
                "interval": "15s",
                "input_series": [
                    *lives,
                    {"series": f"evenkeel_alert_open{{{where},{labels}}}", "values": "_x3 1x7 stale"},
                ],
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": at,
                        "exp_samples": [{"labels": one, "value": 1} for one in found],
                    }
                    for at, found in (("30s", set()), ("2m", firing), ("4m", set()))
                ],
            }
        )
    assert len(played) > 100
    shutil.copy(RULES, tmp_path / "rules.yml")
    written = tmp_path / "kinds.yml"
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": played}
    written.write_text(yaml.safe_dump(content))
    promtool("test", "rules", str(written))


def test_every_rule_asks_for_a_metric_that_there_is(tmp_path: Path) -> None:
    asked = {name for rule in rules() for name in re.findall(r"\bevenkeel_\w+", rule["expr"])}
    assert asked <= served(tmp_path)
    held = {rule["record"] for rule in rules() if "record" in rule}
    assert {name for rule in rules() for name in re.findall(r"\bevenkeel:\w+", rule["expr"])} == held


def test_every_rule_names_a_place_in_a_document() -> None:
    for rule in alerts():
        path, _, fragment = rule["annotations"]["runbook"].partition("#")
        headings = [
            line.lstrip("#").strip()
            for line in (ROOT / path).read_text().splitlines()
            if line.startswith("#")
        ]
        assert not fragment or fragment in {anchor(one) for one in headings}, rule["alert"]


def test_every_alert_that_the_ledger_does_not_have_has_its_row_in_the_runbook() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    table = text.partition("## Alerts of Prometheus alone")[2].partition("\n## ")[0]
    rows = {
        name
        for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", line)
    }
    assert rows == {rule["alert"] for rule in alerts() if rule["alert"].startswith("Evenkeel")}
    by_kind = [rule["alert"] for rule in alerts() if rule["alert"] not in rows]
    assert all("evenkeel:alert_open{kind" in rule["expr"] for rule in alerts() if rule["alert"] in by_kind)


def test_who_is_to_be_woken_is_said_by_the_ledger_or_by_the_rule() -> None:
    for rule in alerts():
        from_the_ledger = "evenkeel:alert_open" in rule["expr"]
        said = rule.get("labels", {}).get("severity")
        assert (said is None) if from_the_ledger else said in {"critical", "warning"}, rule["alert"]
