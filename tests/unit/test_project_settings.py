"""The example settings are the defaults, and every document names settings, alerts and commands that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from evenkeel.cli import app
from evenkeel.settings import Settings, load_settings
from tasks.watched import WATCHED_RULES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "evenkeel.example.toml"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_example_settings_are_exactly_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EVENKEEL_CONFIG", "EVENKEEL_DATABASE__URL"):
        monkeypatch.delenv(name, raising=False)
    assert load_settings(EXAMPLE) == Settings()


def test_the_example_names_every_setting_of_a_venue() -> None:
    shown = tomllib.loads(EXAMPLE.read_text())
    commented = set(re.findall(r"^# (\w+) =", EXAMPLE.read_text(), re.MULTILINE))
    for section in ("database", "prefect", "hyperliquid", "solana", "asgard", "staking"):
        known = set(type(getattr(Settings(), section)).model_fields)
        assert known == set(shown[section]) | (known & commented), section


def alert_kinds() -> set[str]:
    """First arguments of every `….alert(…)` in the product; of an f-string its fixed words."""
    kinds = set()
    for folder in ("flows", "tasks"):
        for path in (ROOT / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "alert":
                    continue
                first: Any = node.args[0]
                if isinstance(first, ast.Constant):
                    kinds.add(str(first.value))
                elif isinstance(first, ast.JoinedStr):
                    fixed = [str(part.value) for part in first.values if isinstance(part, ast.Constant)]
                    kinds.add("".join(fixed).strip())
    return kinds


def test_the_runbook_explains_every_alert_and_every_rule() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    kinds = alert_kinds()
    assert {"leg vanished", "leg resists closing", "short residual"} <= kinds
    missing = sorted(
        kind for kind in kinds | WATCHED_RULES | {"leg_margin", "delta_drift"} if kind not in runbook
    )
    assert not missing, f"the night shift would find nothing about {missing}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_only_commands_that_exist(document: Path) -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    text = document.read_text()
    blocks = "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL))
    named = set(re.findall(r"^evenkeel ([a-z]+)", blocks, re.MULTILINE)) | set(
        re.findall(r"`evenkeel ([a-z]+)", text)
    )
    assert named <= known, f"{document.name} names commands that do not exist: {sorted(named - known)}"


def test_documents_name_only_settings_that_exist() -> None:
    sections = {
        name: type(getattr(Settings(), name)).model_fields
        for name in Settings.model_fields
        if name != "log_level"
    }
    for document in DOCUMENTS:
        for section, name in re.findall(r"`([a-z]+)\.([a-z_A-Z]+)`", document.read_text()):
            if section in sections and name not in ("py", "yaml"):
                assert name in sections[section], f"{document.name}: {section}.{name} is no setting"
