"""The web pages in a real browser: what its policy refuses, what a phone shows, what the stream changes and leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.pages.sessions import Sessions
from state.watch_models import Severity
from tests.browser import CHROMIUM, Tab, chromium, until
from tests.carry.rig import Rig, story_rig, watched
from tests.databases import ledger_of_settings
from tests.pages_rig import KEY, Browser, served

ledger = ledger_of_settings()

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`"),
    pytest.mark.timeout(900),
]
LONG = "x" * 300


@asynccontextmanager
async def logged_in(folder: Path) -> AsyncIterator[tuple[Rig, str, Browser, Tab, str]]:
    """A position, its pages, a browser that has logged in by the form, and the address."""
    async with story_rig(folder) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        await watched(rig, name, 300)
        async with served(rig.desk.settings, rig.desk.store) as browser, chromium() as tab:
            address = str(browser.http.base_url).rstrip("/")
            await tab.open(f"{address}/alerts")
            assert await tab.evaluate("location.pathname") == "/login"
            await tab.submit({"key": KEY})
            assert await tab.evaluate("location.pathname") == "/alerts", "back to the page that was asked for"
            yield rig, name, browser, tab, address


async def test_no_page_breaks_its_policy_or_is_wider_than_a_phone(tmp_path: Path) -> None:
    async with logged_in(tmp_path) as (rig, name, _, tab, address):
        store = rig.desk.store
        store.alert(LONG, Severity.CRITICAL, LONG, LONG)
        store.pause("entries", LONG)
        await tab.size(360, 740, phone=True)
        for path in (
            "/",
            "/opportunities",
            "/alerts",
            "/reports",
            f"/positions/{name}",
            f"/do/acknowledge?kind={LONG}",
        ):
            await tab.open(address + path)
            wide = await tab.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, (path, wide)
            if path.startswith("/positions"):
                drawn = "[...document.images].map(one => [one.complete, one.naturalWidth > 0])"
                assert await tab.evaluate(drawn) == [[True, True], [True, True]]
        assert tab.complaints == []


async def test_the_stream_changes_the_page_and_keeps_the_focus_and_one_connection(tmp_path: Path) -> None:
    async with logged_in(tmp_path) as (rig, name, browser, tab, address):
        feed, store = browser.site.feed, rig.desk.store
        await tab.open(f"{address}/")
        await until(
            lambda: tab.evaluate("document.getElementById('stream').textContent === 'Live.'"), "it is live"
        )
        await tab.evaluate(f"document.getElementById('open-{name}').focus()")
        for number in range(3):
            store.alert(f"kind {number}", Severity.WARNING, "t", news=True)
            await until(
                lambda number=number: tab.evaluate(f"document.body.textContent.includes('kind {number}')"),
                "the alert is shown",
            )
        assert await tab.evaluate("document.activeElement.id") == f"open-{name}", (
            "who uses the keyboard stays there"
        )
        said = await tab.evaluate("document.getElementById('stream').textContent")
        assert said == "Live. Open alerts: 3."
        assert feed.listeners == 1
        await tab.open(f"{address}/alerts")

        async def left() -> bool:
            return feed.listeners == 0

        await until(left, "the stream of a page that was left is closed")
        assert tab.complaints == []


async def test_pages_in_the_background_leave_the_connections_to_the_one_in_front(tmp_path: Path) -> None:
    """A browser has six connections to a host: six pages that were opened behind took them all, and no order got through."""
    async with logged_in(tmp_path) as (_, _, browser, tab, address):
        feed = browser.site.feed
        behind = [await tab.behind(f"{address}/") for _ in range(7)]
        assert {await one.evaluate("document.visibilityState") for one in behind} == {"hidden"}
        await tab.open(f"{address}/do/pause")
        assert await tab.evaluate("document.title") != "", "the page in front is answered"

        async def none() -> bool:
            return feed.listeners == 0

        await until(none, "no stream is held by a page that nobody sees")
        await behind[0].evaluate("window.left = true")
        await behind[0].call("Page.bringToFront")
        await behind[0].loaded()
        live = "document.getElementById('stream').textContent === 'Live.'"
        await until(lambda: behind[0].evaluate(live), "it is live once it is looked at")


async def test_a_session_that_has_ended_leads_to_the_login(tmp_path: Path) -> None:
    async with logged_in(tmp_path) as (rig, _, browser, tab, address):
        await tab.open(f"{address}/")
        await until(
            lambda: tab.evaluate("document.getElementById('stream').textContent === 'Live.'"), "it is live"
        )
        [name] = {one["value"] for one in (await tab.call("Network.getCookies"))["cookies"]}
        session = browser.site.sessions.read(name)
        assert session is not None
        browser.site.sessions.end(session)
        rig.desk.store.alert("kind", Severity.WARNING, "t")
        await until(lambda: tab.evaluate("location.pathname === '/login'"), "the login is shown")


async def test_a_ledger_that_cannot_be_read_is_said_on_the_page(tmp_path: Path) -> None:
    async with logged_in(tmp_path) as (rig, name, _, tab, address):
        await tab.open(f"{address}/")
        for before, after, says in (("alerts", "gone", True), ("gone", "alerts", False)):
            with rig.desk.store._engine.begin() as db:
                db.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")
            shown = "document.body.textContent.includes('The ledger cannot be read')"
            await until(
                lambda shown=shown, says=says: tab.evaluate(f"({shown}) === {str(says).lower()}"),
                "it is said",
            )
            assert await tab.evaluate(f"document.body.textContent.includes('{name}')"), (
                "the last figures stay"
            )


async def test_without_scripts_every_page_can_be_read_and_an_alert_acknowledged(tmp_path: Path) -> None:
    async with logged_in(tmp_path) as (rig, name, _, tab, address):
        rig.desk.store.alert("leg vanished", Severity.CRITICAL, "the short is gone", name, news=True)
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        await tab.open(f"{address}/")
        assert "the short is gone" in await tab.evaluate("document.body.textContent")
        await tab.evaluate("window.left = true; document.getElementById('ack-1').click()")
        await tab.loaded()
        await tab.evaluate("window.left = true; document.querySelector('form.stacked').requestSubmit()")
        await tab.loaded()
        assert await tab.evaluate("location.pathname") == "/alerts"
        assert rig.desk.store.alerts(open_only=True) == []


async def test_keys_alone_lead_from_the_skip_link_on(tmp_path: Path) -> None:
    async with logged_in(tmp_path) as (_, _, _, tab, address):
        await tab.open(f"{address}/")

        async def press(key: str) -> None:
            for kind in ("keyDown", "keyUp"):
                code = {"Tab": 9, "Enter": 13}[key]
                text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
                await tab.call(
                    "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
                )

        await press("Tab")
        first = "[document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]"
        assert await tab.evaluate(first) == ["skip", "solid"], "the focus is seen"
        await press("Enter")
        await until(lambda: tab.evaluate("location.hash === '#content'"), "the content has the focus")
        await press("Tab")
        assert await tab.evaluate("document.getElementById('content').contains(document.activeElement)")


async def test_after_a_restart_of_the_server_the_page_is_live_again_or_asks_for_the_key(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig, chromium() as tab:
        settings, store = rig.desk.settings, rig.desk.store
        live = "document.getElementById('stream').textContent.startsWith('Live.')"
        lost = "document.getElementById('stream').textContent.startsWith('Not live')"
        kept = Sessions(60)
        async with served(settings, store, kept) as browser:
            port = browser.http.base_url.port
            assert port
            await tab.open(f"http://127.0.0.1:{port}/")
            await tab.submit({"key": KEY})
            await until(lambda: tab.evaluate(live), "it is live")
        await until(lambda: tab.evaluate(lost), "it says that it is not")
        store.alert("while it was away", Severity.WARNING, "t", news=True)
        async with served(settings, store, kept, port=port) as browser:
            await until(lambda: tab.evaluate(live), "it is live again")
            await until(
                lambda: tab.evaluate("document.body.textContent.includes('while it was away')"),
                "and is up to date",
            )
            assert browser.site.feed.listeners == 1
        await until(lambda: tab.evaluate(lost), "it says that it is not")
        async with served(settings, store, port=port):
            await until(
                lambda: tab.evaluate("location.pathname === '/login'"), "another secret: a login is needed"
            )
