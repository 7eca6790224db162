"""The web pages without a server: what of them is installed, what is vendored, how figures are written."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path

import pytest

from app.pages.figures import age, exact, moment_of, number, share, usd
from app.pages.sessions import FAILURES, WITHIN_S, Failures, Sessions
from app.pages.site import templates

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "app" / "pages"


def test_every_file_of_the_pages_is_installed_with_them() -> None:
    """A wheel holds what `package-data` names: a template that it does not name is missed only there."""
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "app"
    ]
    files = [path for path in PAGES.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {".css", ".html", ".js", ".svg", ".txt"} == {path.suffix for path in files}
    left_out = [
        str(path.relative_to(PAGES))
        for path in files
        # A star of setuptools does not cross a folder.
        if not any(
            fnmatch(str(path.relative_to(ROOT / "app")), one)
            and str(path.relative_to(ROOT / "app")).count("/") == one.count("/")
            for one in packaged
        )
    ]
    assert not left_out


def test_every_template_can_be_read_and_escapes_what_it_shows() -> None:
    found = templates()
    names = found.list_templates()
    assert "parts/overview.html" in names
    for name in names:
        template = found.get_template(name)
        assert "|safe" not in (source := Path(str(template.filename)).read_text()).replace(" ", ""), name
        assert "autoescape" not in source and not re.search(
            r"<script(?![^>]* src=)|<style|style=| on\w+=", source
        ), name
    assert found.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;", "a template without a name too"


def test_what_is_vendored_is_served_and_named_with_its_version() -> None:
    licence = (PAGES / "static" / "LICENSE.txt").read_text()
    used = "".join(path.read_text() for path in (PAGES / "templates").rglob("*.html"))
    for path in PAGES.glob("static/*.min.js"):
        assert path.name in licence and path.name in used
        version = re.search(r"-(\d+\.\d+\.\d+)\.min\.js$", path.name)
        assert version and version[1] in licence
    core = next(PAGES.glob("static/htmx-[0-9]*.min.js"))
    assert re.search(r'version:"(.+?)"', core.read_text())[1] in core.name  # type: ignore[index]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0, "0 s ago"),
        (59.9, "59 s ago"),
        (61, "1 min 1 s ago"),
        (7320, "2 h 2 min ago"),
        (90_000, "1 d 1 h ago"),
    ],
)
def test_an_age_is_said_in_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


def test_what_is_not_known_is_said_to_be_so() -> None:
    assert (number(None), usd(None), exact(None), moment_of(None)) == ("unknown", "unknown", "unknown", "")
    assert number(1234.5) == "1,234.50" and usd(Decimal("-0.001")) == "-0.0010"
    assert (
        exact("61.3644266970000000001") == "61.364427"
        and exact("74.860") == "74.86"
        and exact("100") == "100"
    )


@pytest.mark.parametrize(
    ("value", "full", "filled"), [(None, 30, 0), (-1, 30, 0), (15, 30, 50), (300, 30, 100), (1, 0, 0)]
)
def test_a_bar_is_never_longer_than_itself(value: float | None, full: float, filled: float) -> None:
    assert share(value, full) == filled


def test_a_session_is_of_one_process_and_a_form_of_one_session_and_address() -> None:
    ours, theirs = Sessions(60), Sessions(60)
    cookie = ours.begin()
    session = ours.read(cookie)
    assert session is not None and theirs.read(cookie) is None
    for broken in (None, "", "x", cookie[:-1], cookie.replace(".", "", 1), f"{cookie}x", "ü.ü.ü"):
        assert ours.read(broken) is None, broken
    token = ours.token(session, "/do/x")
    assert ours.is_token(token, session, "/do/x")
    assert not ours.is_token(token, session, "/do/y")
    assert not ours.is_token(token, ours.read(ours.begin()), "/do/x")
    assert not ours.is_token(token, None, "/do/x")
    assert not ours.is_token(cookie, session, "/do/x"), "a cookie is no token"
    assert ours.read(token) is None, "a token is no cookie"
    ours.end(session)
    assert ours.read(cookie) is None


def test_wrong_keys_are_forgotten_one_by_one() -> None:
    now = [0.0]
    failures = Failures(lambda: now[0])
    for at_s in range(FAILURES):
        now[0] = at_s
        assert failures.wait_s() == 0
        failures.add()
    assert failures.wait_s() == WITHIN_S - (FAILURES - 1)
    now[0] = WITHIN_S
    assert failures.wait_s() == 0, "the first is forgotten"
    failures.add()
    assert failures.wait_s() == 1
    failures.take_back()
    assert failures.wait_s() == 0
