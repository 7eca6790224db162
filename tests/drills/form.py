"""An entry by the form of Prefect's own UI, as a person fills it in: *Run*, *Custom run*, size, dry run off, *Submit*."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.browser import Tab, until, with_text
from tests.drills.paper import Paper, asked

DEPLOYMENT = "enter/open-position"
Picture = Callable[[str], Awaitable[None]]
"""Called with the name of what is shown, for a picture of it."""


async def _none(name: str) -> None:
    """No picture is wanted."""


def page_of(paper: Paper, deployment: str = DEPLOYMENT) -> str:
    """The address of a deployment in the UI."""
    found = asked(f"{paper.prefect}/deployments/name/{deployment}")
    return f"{paper.body['ui_url']}/v2/deployments/deployment/{found['id']}"


async def enter_by_form(tab: Tab, paper: Paper, size_usd: int, picture: Picture = _none) -> None:
    """Ask for an entry of this size with the mouse; returns once Prefect has taken the run."""
    await tab.open(page_of(paper))
    await tab.click(with_text("button", "Run"))
    await tab.click(with_text("[role=menuitem]", "Custom run"))
    await tab.click(with_text("[role=tab]", "float"))
    await tab.click("document.querySelector('form input[type=number]')")
    await tab.write(str(size_usd))
    switch = f"document.getElementById({with_text('label', 'Dry run')}?.htmlFor)"
    await tab.click(switch)
    await until(lambda: tab.evaluate(f"{switch}.dataset.state === 'unchecked'"), "dry run is off")
    await picture("entry")
    await tab.click(with_text("button", "Submit"))
    await until(lambda: tab.evaluate("!location.pathname.endsWith('/run')"), "the form was taken")
