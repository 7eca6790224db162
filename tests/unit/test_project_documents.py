"""What the documents name is there: files, modules, settings, commands, tables, and the code that they show."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel
from sqlmodel import SQLModel
from typer.main import get_command

import venues.protocol
from app.cli import app
from evenkeel.settings.settings import Settings
from state.accounts.access import AccessStore
from state.accounts.store import AccountsStore
from state.carry.store import CarryStore
from state.engine import SCHEMA
from state.hedging.store import HedgingStore
from state.lanes.lanes import LaneNumbers
from state.requests.store import Requests
from state.store import Store
from strategy.carry.rulebook import ENTRY_CHECKS
from tests.unit.test_project_files import PACKAGES, ROOT, tracked

DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]
NOT_OURS = {
    "docs/decisions/root-level-packages.md: src/evenkeel": "an alternative that lost",
    "docs/decisions/layers-first-business-second.md: carry/flows": "an alternative that lost",
    "docs/decisions/layers-first-business-second.md: carry/tasks": "an alternative that lost",
    "docs/deviations.md: utils/signing.py": "a file of the venue's SDK",
    "README.md: enter/open-position": "a deployment",
    "CHANGELOG.md: enter/by-hand": "a deployment of an earlier version",
    "CHANGELOG.md: enter/open-position": "a deployment",
    "CHANGELOG.md: scan/hourly": "a deployment of an earlier version",
    "CHANGELOG.md: scan/rank-offers": "a deployment",
    "docs/runbook.md: pause/halt-trading": "a deployment",
    "docs/runbook.md: resume/let-trading-go-on": "a deployment",
    "docs/runbook.md: flatten/close-everything": "a deployment",
    "README.md: evenkeel.db": "what a run leaves behind",
    "README.md: evenkeel.toml": "the operator's own file",
    "CHANGELOG.md: evenkeel.toml": "the operator's own file",
}
"""What looks like a path of this repository and is none."""
MADE = ("out/*", "out", ".venv/*", "/*")
"""Where runs leave their files; and the paths of servers."""
SUFFIXES = (".py", ".md", ".toml", ".yaml", ".gz", ".db", ".lock")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`([^`\n]+)`")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def quoted(text: str) -> list[str]:
    """Return what stands in backticks outside of blocks of code."""
    return _QUOTED.findall(_FENCED.sub("", text))


@cache
def tree() -> frozenset[str]:
    """Every file in git and every folder that holds one, as paths from the root."""
    files = [name_of(path) for path in tracked()] + [name_of(path) for path in tracked({".png", ".gz"})]
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    return frozenset(files) | folders


def may_be_path(word: str) -> bool:
    return bool(re.fullmatch(r"[\w.*/-]+", word)) and ("/" in word or word.endswith(SUFFIXES))


def is_there(path: str) -> bool:
    """Whether a path names something in the tree, from the root or as the end of a longer one. NAME stands for any."""
    wanted = re.sub(r"NAME|NNNN_\w+", "*", path).rstrip("/")
    return any(fnmatch(name, wanted) or fnmatch(name, f"*/{wanted}") for name in tree())


def dead_paths(where: str, text: str) -> list[str]:
    found = [word for word in quoted(text) if may_be_path(word)]
    found = [word for word in found if not any(fnmatch(word, made) for made in MADE)]
    return [f"{where}: {word}" for word in found if not is_there(word)]


def is_setting(dotted: str) -> bool:
    section: type[BaseModel] = Settings
    *sections, name = dotted.split(".")
    for one in sections:
        kind = section.model_fields[one].annotation if one in section.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return False
        section = kind
    return name in section.model_fields


def is_module(dotted: str) -> bool:
    """Whether a dotted name is a module or a package, or something that one defines."""
    as_path = dotted.replace(".", "/")
    if f"{as_path}.py" in tree() or as_path in tree():
        return True
    module, _, name = dotted.rpartition(".")
    file = ROOT / f"{module.replace('.', '/')}.py"
    return (
        file.is_file()
        and re.search(rf"^(?:(?:async )?def |class )?{name}\b", file.read_text(), re.MULTILINE) is not None
    )


def dead_names(where: str, text: str) -> list[str]:
    """Dotted names that begin like a module or a section of the settings and are neither."""
    heads = {*PACKAGES, *Settings.model_fields, "tests"}
    found = [word for word in quoted(text) if re.fullmatch(r"[a-z]\w*(?:\.\w+)+", word)]
    found = [word for word in found if word.split(".")[0] in heads and not may_be_path(word)]
    return [f"{where}: {word}" for word in found if not is_module(word) and not is_setting(word)]


def dead_commands(where: str, text: str) -> list[str]:
    """Commands of ours, targets of make and modules to be run that are not there, in backticks or in blocks of code."""
    code = "\n".join([*_QUOTED.findall(_FENCED.sub("", text)), *_FENCED.findall(text)])
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    dead = [
        f"make {name}" for name in re.findall(r"^make ([a-z]+)", code, re.MULTILINE) if name not in targets
    ]
    ours = re.findall(r"^(?:\.venv/bin/)?evenkeel ([a-z]+)", code, re.MULTILINE)
    dead += [f"evenkeel {name}" for name in ours if name not in commands]
    run = re.findall(r"python -m ([\w.]+)", code)
    dead += [
        f"python -m {name}"
        for name in run
        if name.split(".")[0] in (*PACKAGES, "tests") and not is_module(name)
    ]
    return [f"{where}: {one}" for one in dead]


def test_every_path_that_a_document_names_is_there() -> None:
    dead = [one for path in DOCUMENTS for one in dead_paths(name_of(path), path.read_text())]
    assert not set(dead) - set(NOT_OURS)
    assert not set(NOT_OURS) - set(dead), "an exception that nothing needs any more"


def test_every_module_and_setting_that_a_document_names_is_there() -> None:
    dead = [one for path in DOCUMENTS for one in dead_names(name_of(path), path.read_text())]
    assert not dead


def test_every_command_that_a_document_names_is_there() -> None:
    dead = [one for path in DOCUMENTS for one in dead_commands(name_of(path), path.read_text())]
    assert not dead


@pytest.mark.parametrize(
    ("find", "text"),
    [
        (dead_paths, "see `tasks/market.py`"),
        (dead_paths, "see `old_folder/`"),
        (dead_names, "started by `flows.nobody`"),
        (dead_names, "the setting `limits.max_nothing`"),
        (dead_names, "`strategy.costs.nothing`"),
        (dead_commands, "```\nevenkeel nothing --all\n```"),
        (dead_commands, "run `make nothing`"),
        (dead_commands, "run `python -m tests.nothing`"),
    ],
)
def test_the_rule_finds_what_it_is_for(find: object, text: str) -> None:
    assert len(find("a.md", text)) == 1  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        "`flows/carry/enter.py`",
        "`carry/rulebook.py`",
        "`tests/*/carry/`",
        "`state.store`",
        "`limits.lst`",
        "`out/demo`",
    ],
)
def test_what_is_there_is_left_alone(text: str) -> None:
    assert not dead_paths("a.md", text) + dead_names("a.md", text)


def test_every_folder_of_the_repository_is_in_the_readme() -> None:
    [table] = re.findall(
        r"^\| folder \| what \|\n(.*?)\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    named = set(re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE))
    folders = {name.split("/")[0] for name in tree() if "/" in name and not name.startswith(".")}
    assert named == folders
    documents = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert documents <= set(re.findall(r"\(docs/([\w-]+\.md)\)", table))


def test_a_new_venue_is_explained_by_the_table_and_the_code_that_bind() -> None:
    text = (ROOT / "docs" / "new-venue.md").read_text()
    rows = re.findall(r"^\| method \|.*?(?=\n\n)", venues.protocol.__doc__ or "", re.MULTILINE | re.DOTALL)
    assert len(rows) == 1 and rows[0] in text
    [example] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert example in (ROOT / "tests" / "second_business.py").read_text()


PARTS = {
    "store.carry": CarryStore,
    "store.requests": Requests,
    "store.lanes": LaneNumbers,
    "store.accounts": AccountsStore,
    "store.hedging": HedgingStore,
    "store.access": AccessStore,
}


def test_the_ledger_is_explained_table_by_table_and_method_by_method() -> None:
    text = (ROOT / "docs" / "ledger.md").read_text()
    [table] = re.findall(r"^\| table \|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == set(SQLModel.metadata.tables)

    [table] = re.findall(r"^\| part \| methods \|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    for row in table.splitlines()[2:]:
        part, methods = row.split("|")[1:3]
        owner = next((one for name, one in PARTS.items() if name in part), Store)
        missing = [
            name for name in re.findall(r"`(\w+)`", methods) if not callable(getattr(owner, name, None))
        ]
        assert not missing, part


COUNTED = ("five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
"""From 5 on."""


def test_schemas_are_named_up_to_the_newest() -> None:
    """An upgrade ends at the newest, and what each of them brought stands in a row."""
    newest = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    assert set(re.findall(r"becomes schema (\d{4}) in place", newest)) <= {SCHEMA}
    versions = sorted(path.name[1:5] for path in (ROOT / "state/migrations/versions").glob("v[0-9]*.py"))
    text = (ROOT / "docs" / "ledger.md").read_text()
    [table] = re.findall(r"^\| schema \| brought \|\n.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| (\d{4}) \|", table, re.MULTILINE) == versions


def test_the_checks_of_an_entry_are_counted_rightly_and_each_has_its_row() -> None:
    said = [word for path in DOCUMENTS for word in re.findall(r"\b(\w+) checks\b", path.read_text())]
    assert {word for word in said if word in COUNTED} == {COUNTED[len(ENTRY_CHECKS) - 5]}
    text = (ROOT / "docs" / "runbook.md").read_text()
    [table] = re.findall(r"^\| check \| passes when.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    assert len(table.splitlines()) - 2 == len(ENTRY_CHECKS)
