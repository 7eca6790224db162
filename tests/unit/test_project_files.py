"""Ground rules of the repository: nothing private in git, files that can be read in one sitting, imports one way."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("analytics", "app", "evenkeel", "flows", "state", "strategy", "tasks", "twins", "venues")
LINES = 400

# Written in pieces, so that this file does not name what it looks for.
FORBIDDEN = {
    "a package index": "|".join(
        ("pypi" + r"\.org", "python" + "hosted", "index" + "-url", "find" + "-links", "artifact" + "ory")
    ),
    "a path of one machine": r"(?<![\w.~$}])/(?:"
    + "|".join(("home", "Users", "root", "work", "mnt"))
    + r")/\w",
    "a private key in PEM": "BEGIN [A-Z ]*" + "PRIVATE",
    "a 32 byte hexadecimal key": r"(?<![0-9a-zA-Z])(?:0x)?[0-9a-fA-F]{64}(?![0-9a-zA-Z])",
    "a 64 byte base58 key": r"(?<![1-9A-HJ-NP-Za-km-z])[1-9A-HJ-NP-Za-km-z]{86,90}(?![1-9A-HJ-NP-Za-km-z])",
    "a 64 byte key as a list of numbers": r"\[\s*(?:\d{1,3}\s*,\s*){63}\d{1,3}\s*,?\s*\]",
    "an assigned secret": r"""(?i)^\s*(?:export\s+)?\w*(?:_KEY|_SECRET|PASSWORD|_TOKEN)\s*=\s*["']?[A-Za-z0-9+/_-]{24,}""",
}
PUBLISHED_VECTORS = {
    "tests/integration/test_hyperliquid_twin_signing.py",
    "tests/unit/test_hyperliquid_signing.py",
}
"""Signatures, and the one key, that the venue's own SDK publishes as its test vectors."""


PACKED = {".png", ".gz"}
"""Suffixes of files that are not text."""
OF_A_LEDGER = {"a 32 byte hexadecimal key", "a 64 byte base58 key"}
"""What looks like a hash or a signature, of which a ledger is full."""


def tracked(suffixes: set[str] | None = None) -> list[Path]:
    """Every file in git that is text; with `suffixes` those that end so."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: there is no list of files to look through")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    there = [ROOT / name for name in names if (ROOT / name).is_file()]
    if suffixes is not None:
        return [path for path in there if path.suffix in suffixes]
    return [path for path in there if path.suffix not in PACKED]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_in_git_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    files = tracked()
    assert files
    found = []
    for path in files:
        if "hexadecimal" in what and str(path.relative_to(ROOT)) in PUBLISHED_VECTORS:
            continue
        text = path.read_text(encoding="utf-8")
        found += [
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, hit.start()) + 1}"
            for hit in pattern.finditer(text)
        ]
    assert not found, f"{what} in {', '.join(found)}"


@pytest.mark.parametrize("what", sorted(FORBIDDEN.keys() - OF_A_LEDGER))
def test_no_packed_file_in_git_names(what: str) -> None:
    packed = tracked({".gz"})
    assert packed
    for path in packed:
        text = gzip.decompress(path.read_bytes()).decode("latin-1")
        assert not (hit := re.search(FORBIDDEN[what], text, re.MULTILINE)), f"{what} in {path.name}: {hit}"


@pytest.mark.parametrize(
    ("what", "example"),
    [
        ("a package index", "see https://" + "pypi" + ".org/simple"),
        ("a path of one machine", 'open("/' + 'home/me/keys")'),
        ("a private key in PEM", "-----BEGIN EC " + "PRIVATE KEY-----"),
        ("a 32 byte hexadecimal key", "KEY=0x" + "ab" * 32),
        ("a 64 byte base58 key", '"' + "5J" * 44 + '"'),
        ("a 64 byte key as a list of numbers", "[" + ",".join(["7"] * 64) + "]"),
        ("an assigned secret", "EVENKEEL_ASGARD_API_KEY=" + "x" * 30),
    ],
)
def test_each_rule_finds_what_it_is_for(what: str, example: str) -> None:
    assert re.search(FORBIDDEN[what], example, re.MULTILINE)


def test_every_python_file_can_be_read_in_one_sitting() -> None:
    long = {}
    for path in tracked():
        lines = path.read_text().count("\n") if path.suffix == ".py" else 0
        if lines > LINES:
            long[str(path.relative_to(ROOT))] = lines
    assert not long, f"more than {LINES} lines, usually two ideas: {long}"


def test_every_module_says_what_it_is_for() -> None:
    modules = {path: path.read_text().strip() for path in tracked() if path.suffix == ".py"}
    silent = [
        str(path.relative_to(ROOT))
        for path, text in modules.items()
        if text and not text.startswith(('"""', 'r"""'))
    ]
    assert not silent, f"no docstring: {silent}"


def test_every_package_is_under_the_import_rule_and_the_type_check() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    present = sorted(
        path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in ("tests", "build")
    )
    assert present == sorted(PACKAGES)
    assert sorted(settings["importlinter"]["root_packages"]) == present
    assert sorted(settings["mypy"]["packages"]) == present
    assert (
        sorted(name.rstrip("*") for name in settings["setuptools"]["packages"]["find"]["include"]) == present
    )


def test_only_two_task_modules_may_touch_prefect() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    contract = next(one for one in contracts if one.get("forbidden_modules") == ["prefect"])
    assert {"tasks", "strategy", "venues", "state", "analytics", "twins"} <= set(contract["source_modules"])
    assert contract["ignore_imports"] == ["tasks.step -> prefect", "tasks.artifacts -> prefect"]


def test_the_import_rule_holds_and_finds_what_breaks_it(tmp_path: Path) -> None:
    """A strategy that reads the ledger, a step that reaches for Prefect, a root that imports a business, and a business that
    imports another are found.
    """
    linter = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    linter += ["--no-logo", "--no-cache"]
    held = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, check=False)
    assert held.returncode == 0, held.stdout
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, line in (
        ("strategy/carry/entry.py", "import state.store"),
        ("tasks/carry/watching/watcher.py", "import prefect"),
        ("flows/running.py", "import tasks.carry.mark"),
        ("tasks/step.py", "import strategy.carry"),
        ("tasks/hedging/hedge.py", "import tasks.carry.watching.watcher"),
        ("tasks/research/study.py", "import tasks.carry.watching.watcher"),
    ):
        if not (tmp_path / module).exists():
            (tmp_path / module).parent.mkdir(exist_ok=True)
            (tmp_path / module).with_name("__init__.py").touch()
        with (tmp_path / module).open("a") as file:
            file.write(f"\n\n{line}\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    broken = subprocess.run(
        linter, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert broken.returncode == 1
    assert "strategy.carry.entry -> state.store" in broken.stdout
    assert "tasks.carry.watching.watcher -> prefect" in broken.stdout
    assert "flows.running -> tasks.carry.mark" in broken.stdout
    assert "tasks.step -> strategy.carry" in broken.stdout
    assert "tasks.hedging.hedge -> tasks.carry.watching.watcher" in broken.stdout
    assert "tasks.research.study -> tasks.carry" not in broken.stdout, "research may import carry"


def test_links_in_the_documents_lead_somewhere() -> None:
    dead = []
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                dead.append(f"{path.relative_to(ROOT)} -> {target}")
    assert not dead, dead


def test_ci_runs_under_strict_shell_rules() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, ".ci/run must be executable"
    assert "set -euo pipefail" in script.read_text()
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
