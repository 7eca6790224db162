"""The web pages say what the ledger says: over real HTTP, of positions that were opened at the twins."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.pages.feed import Feed
from flows.carry.daily import DailyRequest, report_the_day, send_report
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.report import ReportRequest, account_for
from flows.carry.scan import ScanRequest, scan_markets
from state.watch_models import Severity
from tasks.carry.books.as_seen import seen_account
from tasks.carry.books.report_reading import read_booked
from tests.carry.rig import Rig, story_rig, watched
from tests.databases import ledger_of_settings, locked
from tests.pages_rig import Browser, served

ledger = ledger_of_settings()

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"
WITHIN_S = 60


async def lived(rig: Rig, position_id: str, seconds: float) -> None:
    """Let the monitor look every ten minutes for so long, then as often as it does."""
    await rig.desk.clock.refresh()
    until_ms = rig.desk.clock.now_ms() + int(seconds * 1000)
    request = MonitorRequest(position_id=position_id, until_ms=until_ms, interval_s=600)
    await watch_position(rig.desk, request)
    await watched(rig, position_id, 20)


async def seen(stream: AsyncIterator[str], text: str) -> str:
    """The first event of a stream that says this."""

    async def find() -> str:
        event: list[str] = []
        async for line in stream:
            if line:
                event.append(line.removeprefix("data: "))
            elif text in (whole := "\n".join(event)):
                return whole
            else:
                event.clear()
        raise AssertionError(f"the stream ended before it said {text!r}")

    return await asyncio.wait_for(find(), WITHIN_S)


@asynccontextmanager
async def streaming(browser: Browser) -> AsyncIterator[AsyncIterator[str]]:
    async with browser.http.stream("GET", "/stream") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield answer.aiter_lines()


async def test_every_page_shows_a_position_as_it_was_seen(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        await lived(rig, name, 3900)
        store = rig.desk.store
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            assert "Nothing was scanned yet" in (await browser.get("/opportunities")).text
            page = (await browser.get("/")).text
            last = store.carry.last_snapshot(name)
            assert last is not None and last.long_liquidation_distance and last.equity_usd
            assert f"{last.long_liquidation_distance * 100:.2f} %" in page
            assert f"{last.equity_usd:,.2f} USD" in page and "Watched by process" in page
            assert "closed below 4.00 %" in page

            await scan_markets(rig.desk, ScanRequest(asset="INF"))
            send_report(store, await report_the_day(rig.desk, DailyRequest()))
            offers = (await browser.get("/opportunities")).text
            assert "asked for asset INF" in offers and "every check passes" in offers
            reports = (await browser.get("/reports")).text
            assert f'href="/positions/{name}#result"' in reports and re.search(r"held 1\.\d h", reports)

            whole = (await browser.get(f"/positions/{name}")).text
            for intent in store.intents_of("carry", name):
                assert intent.intent_id in whole
            for part in (
                "Books and venues agree",
                "confirmed",
                "OPENING → OPEN",
                "compared up to",
                "Hyperliquid fees",
            ):
                assert part in whole, part
            asked = rig.on_twins(lambda: len(rig.twins.faults.calls))
            for picture in ("life", "result"):
                drawn = await browser.get(f"/positions/{name}/{picture}.svg")
                assert drawn.headers["content-type"] == "image/svg+xml" and "<svg" in drawn.text
                assert drawn.headers["content-security-policy"].startswith("default-src 'none'")
            for path in ("/", "/opportunities", "/alerts", "/reports", f"/positions/{name}"):
                assert (await browser.get(path)).status_code == 200
            assert rig.on_twins(lambda: len(rig.twins.faults.calls)) == asked > 0, (
                "no venue is asked for a page"
            )


async def test_what_was_seen_is_what_the_report_says(tmp_path: Path) -> None:
    """Item by item, within what a minute of interest is; but for lamports that only the chain knows."""
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        await lived(rig, name, 7500)
        for ended in (False, True):
            if ended:
                await exit_position(rig.desk, ExitRequest(position_id=name))
            report, _ = await account_for(rig.desk, ReportRequest(position_id=name))
            booked = read_booked(rig.desk, rig.desk.store.carry.position(name))
            found = seen_account(booked, booked.opened_ms)
            assert found is not None and found.carry_today_usd == found.attribution.carry_usd != 0
            for item, usd in report.attribution.items.items():
                if item != "gas":
                    assert float(found.attribution.items[item]) == pytest.approx(float(usd), abs=0.02), item
            later = seen_account(booked, booked.opened_ms + 3_600_000)
            assert later is not None and later.carry_today_usd is not None
            assert 0 < later.carry_today_usd < found.carry_today_usd
            kept = rig.desk.store.checkpoint(f"report:{name}")
            assert kept is not None and kept.detail["attribution"] == report.attribution.as_strings()


async def test_a_change_of_the_ledger_is_sent_to_who_has_the_overview_open(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(asset="SOL", protocol=1)
        store = rig.desk.store
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            async with streaming(browser) as one, streaming(browser) as other:
                assert "None." in await seen(one, "Open alerts")
                store.alert("leg vanished", Severity.CRITICAL, "the short is gone", news=True)
                for stream in (one, other):
                    assert "leg vanished" in await seen(stream, "the short is gone")
            await settled(browser.site.feed)


async def settled(feed: Feed) -> None:
    async with asyncio.timeout(WITHIN_S):
        while feed.listeners:
            await asyncio.sleep(0.02)


async def test_who_has_gone_is_forgotten_and_the_ledger_is_left_alone(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        await browser.log_in()
        feed = browser.site.feed
        async with streaming(browser) as stream:
            await seen(stream, "Open alerts")
            assert feed.listeners == 1
        await settled(feed)
        async with asyncio.timeout(WITHIN_S):
            while feed._wanted.is_set():
                await asyncio.sleep(0.02)


async def test_a_ledger_that_does_not_answer_is_shown_as_such_and_holds_up_nobody(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="SOL", protocol=1)
        await watched(rig, name, 60)
        store = rig.desk.store
        async with served(rig.desk.settings, store, answer_s=30) as browser:
            await browser.log_in()
            assert name in (await browser.get("/")).text
            async with streaming(browser) as stream:
                await seen(stream, name)
                with store._engine.begin() as db:
                    db.exec_driver_sql("ALTER TABLE alerts RENAME TO gone")
                fault = await seen(stream, "The ledger cannot be read")
                assert name in fault and "What follows is of" in fault, (
                    "the last figures stay, and say of when"
                )
                for path, says in (
                    ("/alerts", 503),
                    ("/health", 200),
                    ("/login", 200),
                    ("/static/pages.css", 200),
                ):
                    assert (await browser.get(path)).status_code == says, path
                with store._engine.begin() as db:
                    db.exec_driver_sql("ALTER TABLE gone RENAME TO alerts")
                assert "cannot be read" not in await seen(stream, "Open alerts")


async def test_while_a_lock_holds_the_ledger_other_pages_are_served(tmp_path: Path) -> None:
    """An exclusive lock, as of somebody who repairs the file: no reader gets in, and the event loop goes on."""
    async with story_rig(tmp_path) as rig:
        store = rig.desk.store
        async with served(rig.desk.settings, store, answer_s=1) as browser:
            await browser.log_in()
            with locked(store):
                waiting = asyncio.create_task(browser.get("/alerts"))
                assert (await browser.get("/login")).status_code == 200
                assert not waiting.done(), "the login page did not wait for the ledger"
                answer = await waiting
                assert answer.status_code == 503 and "The ledger cannot be read" in answer.text
                assert (await browser.get("/health")).status_code == 503


async def test_what_stands_in_the_ledger_is_text_and_never_markup(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="SOL", protocol=1)
        await watched(rig, name, 60)
        store = rig.desk.store
        store.alert(HOSTILE, Severity.CRITICAL, HOSTILE, HOSTILE)
        store.alert("kind", Severity.WARNING, HOSTILE, name)
        store.pause("entries", HOSTILE)
        store.carry.set_facts(name, {"x": HOSTILE})
        send_report(store, await report_the_day(rig.desk, DailyRequest()))
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            pages = {
                path: (await browser.get(path)).text
                for path in ("/", "/alerts", "/reports", f"/positions/{name}")
            }
            link = re.search(r'href="(/do/acknowledge\?kind=%3C[^"]+)"', pages["/alerts"])
            assert link is not None
            pages["form"] = (await browser.get(link[1].replace("&amp;", "&"))).text
            pages["unknown"] = (await browser.get("/positions/%3Cscript%3Ealert(1)%3C%2Fscript%3E")).text
            async with streaming(browser) as stream:
                pages["stream"] = await seen(stream, "Open alerts")
            for path, text in pages.items():
                assert "<script>alert" not in text and "<img src=x" not in text, path
                assert "&lt;script&gt;alert(1)" in text, path
                assert "49" not in re.findall(r"&amp;(\S*)", text), "no template of a template"


async def test_without_positions_scans_and_reports_every_page_says_so(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        await browser.log_in()
        for path, says in (
            ("/", "No live position."),
            ("/opportunities", "Nothing was scanned yet"),
            ("/alerts", "None."),
            ("/reports", "There was none yet."),
        ):
            answer = await browser.get(path)
            assert answer.status_code == 200 and says in answer.text, path
        for path in ("/positions/nobody", "/positions/nobody/life.svg", "/nowhere", "/do/nothing"):
            answer = await browser.get(path)
            assert answer.status_code == 404 and "<h1>" in answer.text, path


async def test_a_bug_of_ours_is_an_answer_too_and_old_figures_do_not_pass_for_new(tmp_path: Path) -> None:
    """Facts that no version of ours writes: what reads them fails."""
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="SOL", protocol=1)
        await watched(rig, name, 60)
        async with served(rig.desk.settings, rig.desk.store) as browser:
            await browser.log_in()
            async with streaming(browser) as stream:
                await seen(stream, name)
                rig.desk.store.carry.set_facts(name, {"entry_distance": {"long": "no number"}})
                assert "a bug of ours: InvalidOperation" in await seen(stream, "The ledger cannot be read")
                answer = await browser.get(f"/positions/{name}")
                assert answer.status_code == 500 and "A bug of ours: InvalidOperation" in answer.text
                assert answer.headers["x-frame-options"] == "DENY" and "Traceback" not in answer.text
                rig.desk.store.carry.set_facts(name, {"entry_distance": {}})
                assert "bug of ours" not in await seen(stream, "Open alerts"), "it goes on by itself"
