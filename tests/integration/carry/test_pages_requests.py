"""Pause, resume, exit and flatten from the pages: asked for, confirmed within a minute, done by the position's monitor."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from app.pages.feed import MOST_STREAMS
from evenkeel.legs import PositionStatus
from state.requests.models import RequestAction, RequestState
from tests.carry.rig import story_rig, watched
from tests.databases import ledger_of_settings, locked
from tests.pages_rig import Browser, served

ledger = ledger_of_settings()


async def sent(browser: Browser, path: str, **fields: str) -> tuple[int, str, str]:
    """Open a form and send it: status, where it leads, and the page that it was."""
    page = (await browser.get(path)).text
    action = path.partition("?")[0]
    token = re.search(rf'action="{action}".*?name="token" value="([^"]+)"', page, re.DOTALL)
    assert token is not None, page
    answer = await browser.http.post(action, data=fields | {"token": token[1]})
    return answer.status_code, answer.headers.get("location", ""), page + answer.text


async def test_an_exit_is_asked_for_confirmed_and_done_by_the_monitor(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        store = rig.desk.store
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            link = f"/do/exit?position={position_id}"
            assert link in (await browser.get(f"/positions/{position_id}")).text
            status, then, page = await sent(browser, link, position=position_id, reason="drill")
            assert status == 303 and then.startswith("/do/confirm?request=")
            assert "USD a leg; closing is expected to cost" in page
            assert not store.requests.to_do(RequestAction.EXIT, position_id), (
                "nothing is asked of anybody yet"
            )

            number = then.rpartition("=")[2]
            status, at, page = await sent(browser, then, request=number)
            assert (status, at) == (303, f"/positions/{position_id}")
            assert "confirm within" in page
            status, _, page = await sent(browser, then, request=number)
            assert status == 409 and "is confirmed already; nothing was done" in page
        result = await watched(rig, position_id, 60)
        assert result.status is PositionStatus.CLOSED
        [row] = store.requests.newest(9)
        assert row.state is RequestState.DONE and row.via == "desk" and "session" in row.who


async def test_a_confirmation_of_another_session_or_too_late_does_nothing(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        store = rig.desk.store
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            _, then, _ = await sent(
                browser, f"/do/exit?position={position_id}", position=position_id, reason=""
            )
            number = then.rpartition("=")[2]
            await browser.log_in()
            status, _, page = await sent(browser, then, request=number)
            assert status == 409 and "who alone may confirm it; nothing was done" in page
            _, then, _ = await sent(
                browser, f"/do/exit?position={position_id}", position=position_id, reason=""
            )
            rig.later(61)
            await rig.desk.clock.refresh()
            status, _, page = await sent(browser, then, request=then.rpartition("=")[2])
            assert status == 409 and "has lapsed" in page
            status, _, page = await sent(browser, "/do/confirm?request=x", request="x")
            assert status == 409 and "is no request" in page
        assert not store.requests.to_do(RequestAction.EXIT, position_id)


async def test_a_pause_is_done_at_once_and_its_end_after_a_confirmation(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        store = rig.desk.store
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            status, at, _ = await sent(browser, "/do/pause", scope="", reason="odd market")
            assert (status, at) == (303, "/alerts")
            assert [one.scope for one in store.active_pauses()] == ["entries"]
            status, _, page = await sent(browser, "/do/pause", scope="binance", reason="x")
            assert status == 409 and "is unknown; allowed are entries" in page
            _, then, page = await sent(browser, "/do/resume", scope="", reason="")
            assert "entries (odd market (request 1))" in page and store.active_pauses()
            await sent(browser, then, request=then.rpartition("=")[2])
            assert not store.active_pauses()
            status, _, page = await sent(browser, "/do/resume", scope="", reason="")
            assert status == 409 and "nothing is paused; nothing was done" in page


async def test_a_write_without_an_answer_may_be_done_and_that_is_what_is_said(tmp_path: Path) -> None:
    """Somebody else writes meanwhile: it is done once he has ended."""
    async with story_rig(tmp_path) as rig:
        store = rig.desk.store
        async with served(rig.desk.settings, store) as browser:
            await browser.log_in()
            browser.site.reader.written_s = 0.2
            with locked(store, readable=True):
                status, _, page = await sent(browser, "/do/pause", scope="", reason="odd market")
                assert status == 503 and "It is not known whether this was done" in page
                assert '<a href="/alerts">' in page and "cannot be read" not in page
            async with asyncio.timeout(60):
                while not store.active_pauses():
                    await asyncio.sleep(0.05)


async def test_what_no_request_can_have_as_its_number_is_one_line(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        await browser.log_in()
        for number in ("9" * 20, "٣", "x"):
            answer = await browser.get(f"/do/confirm?request={number}")
            assert answer.status_code == 200 and "is no request&#39;s number; ask again." in answer.text
            status, _, page = await sent(browser, f"/do/confirm?request={number}", request=number)
            assert status == 409 and "is no request&#39;s number" in page
        answer = await browser.get(f"/do/confirm?request={'9' * 18}")
        assert answer.status_code == 200 and "There is no such request." in answer.text


async def test_a_stream_too_many_is_refused_before_anything_is_answered(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, served(rig.desk.settings, rig.desk.store) as browser:
        assert (await browser.get("/stream")).status_code == 401
        await browser.log_in()
        browser.site.feed.listeners = MOST_STREAMS
        answer = await browser.get("/stream")
        assert answer.status_code == 503 and f"{MOST_STREAMS} pages are open already" in answer.text
        browser.site.feed.listeners = 0
