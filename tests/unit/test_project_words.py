"""The words of `docs/words.md` bind: none that stands in its last table is used in code, tests or documents."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.test_project_files import ROOT, tracked

WORDS = ROOT / "docs" / "words.md"
TEXT = {".py", ".md", ".toml", ".yaml"}
ALLOWED = {
    ("docs/words.md", "*"),
    ("tests/unit/test_project_words.py", "*"),
    ("venues/schwab/models.py", "recall"),
}
"""The table itself, and its examples; and a word of a venue's own, which stands in one of its statuses."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ROW = re.compile(r"^\| (`[^|]+`) \| ([^|]+) \| (everywhere|names) \|$", re.MULTILINE)


def unused() -> dict[str, bool]:
    """Return each word of the table, and whether it is forbidden in names only."""
    found: dict[str, bool] = {}
    for words, _, where in _ROW.findall(WORDS.read_text()):
        found |= dict.fromkeys(re.findall(r"`([a-z]+)`", words), where == "names")
    return found


def words_of(text: str) -> set[str]:
    """Return the words of a text or an identifier in lower case: `SHORT_wishList` has three."""
    return {word.lower() for word in _WORD.findall(text)}


def names_of(source: str) -> set[str]:
    """Return every name that a module defines: functions, classes, arguments, variables, attributes, imports as."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.alias) and node.asname:
            found.add(node.asname)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def found_in(path: str, text: str, table: dict[str, bool]) -> set[str]:
    """Return the words of the table that a file uses where they are not used."""
    named = words_of(path)
    if path.endswith(".py"):
        named |= words_of(" ".join(names_of(text)))
    written = words_of(text)
    used = {
        word for word, names_only in table.items() if word in named or (word in written and not names_only)
    }
    return {word for word in used if not {(path, word), (path, "*")} & ALLOWED}


def _is_written_by_us(path: Path) -> bool:
    """Return whether the words bind a file: all text of ours but decisions, which say what was thought at their date."""
    return path.suffix in TEXT and "docs/decisions" not in path.as_posix()


def test_no_word_is_used_that_stands_in_the_table() -> None:
    table = unused()
    files = [path for path in tracked() if _is_written_by_us(path)]
    assert files
    bad = {
        str(path.relative_to(ROOT)): sorted(words)
        for path in files
        if (words := found_in(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"), table))
    }
    assert not bad, f'see docs/words.md, "Words that are not used": {bad}'


def test_no_text_is_referred_to_that_is_not_in_the_repository() -> None:
    pattern = re.compile(
        r"\bspec \d|\bdesign(?:\.md)? section|\bdesign\.md|\breference/[a-z-]+\.md|carry-spec|source (?:text|specification)"
    )
    bad = []
    for path in tracked():
        where = str(path.relative_to(ROOT))
        if not _is_written_by_us(path) or (where, "*") in ALLOWED:
            continue
        bad += [f"{where}: {hit.group()}" for hit in pattern.finditer(path.read_text(encoding="utf-8"))]
    assert not bad, bad


def test_each_heading_that_is_referred_to_is_there() -> None:
    headings = {
        path.relative_to(ROOT).as_posix(): set(re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE))
        for path in tracked()
        if path.suffix == ".md"
    }
    rows = set(re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "deviations.md").read_text(), re.MULTILINE))
    bad = []
    for path in tracked():
        where = str(path.relative_to(ROOT))
        if path.suffix != ".py" or (where, "*") in ALLOWED:
            continue
        text = re.sub(r"\s+#?\s*", " ", path.read_text(encoding="utf-8"))
        for document, heading in re.findall(r"(docs/[\w/-]+\.md), \\?\"([^\"\\]+)\\?\"", text):
            if heading not in headings.get(document, set()):
                bad.append(f"{where}: {document}, {heading}")
        for row in re.findall(r"docs/deviations\.md, rows? (\d+)", text):
            if row not in rows:
                bad.append(f"{where}: row {row}")
    assert not bad, bad


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("tasks/a.py", "def check_wish() -> None: ...", "wish"),
        ("tasks/a.py", "# a person is told of it", "told"),
        ("tasks/a.py", "try:\n    pass\nexcept ValueError as hiccup:\n    pass", "hiccup"),
        ("tasks/guards.py", "", "guards"),
        ("docs/a.md", "takes the same road", "road"),
    ],
)
def test_the_rule_finds_what_it_is_for(path: str, text: str, word: str) -> None:
    assert found_in(path, text, unused()) == {word}


def test_a_word_with_a_plain_use_is_searched_for_in_names_alone() -> None:
    assert not found_in("tasks/a.py", "# another look, while it is being asked", unused())
    assert found_in("tasks/a.py", "being = 1", unused()) == {"being"}
