"""The browser of the tests: a wait outlives the page on which it began, and no page knows what another was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import CHROMIUM, NoValue, chromium, until

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")


@pytest.mark.parametrize(
    "first",
    ["new Promise(() => {})", "document.getElementById('there').textContent"],
    ids=["leaves", "empty"],
)
async def test_a_wait_goes_on_over_a_change_of_page(tmp_path: Path, first: str) -> None:
    """The first page is left while it works at its answer, or has not what is asked for."""
    (tmp_path / "second.html").write_text("<p id='there'>yes</p>")
    (tmp_path / "first.html").write_text(
        "<script>setTimeout(() => location.assign('second.html'), 300)</script>"
    )
    async with chromium() as tab:
        await tab.open((tmp_path / "first.html").as_uri())
        on_second = "location.pathname.endsWith('second.html')"
        await until(lambda: tab.evaluate(f"{on_second} || {first}"), "the second page is there")
        with pytest.raises(NoValue):
            await tab.evaluate("document.getElementById('nowhere').textContent")


async def test_each_page_has_storage_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>one</p>")
    seen = []
    for _ in range(2):
        async with chromium() as tab:
            await tab.open((tmp_path / "page.html").as_uri())
            seen.append(await tab.evaluate("localStorage.getItem('kept')"))
            await tab.evaluate("localStorage.setItem('kept', 'yes')")
    assert seen == [None, None]
