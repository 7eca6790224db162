"""A position that nobody looks at is alerted within the time that is allowed, by a process that has the ledger alone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.supervised import READY, notify
from app.watchdog import Watchdog
from evenkeel.settings.host import Watchdog as WatchdogSettings
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.recover import judge_watch, recover_everything
from state.watch_models import Severity
from tasks.carry.last_ticks import last_ticks, overdue_after_s, rows_of
from tasks.carry.mark import TICKED
from tasks.carry.watching.alerts import NOT_WATCHED
from tests.carry.rig import Rig, story_rig, watched
from tests.integration.carry.test_watch_without_ledger import locked

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


def alarms(rig: Rig) -> list[str]:
    rows = rig.desk.store.alerts(open_only=True)
    return [one.subject for one in rows if one.kind == NOT_WATCHED and one.severity is Severity.CRITICAL]


def dog(rig: Rig, ping_url: str = "") -> Watchdog:
    """With the rig's ledger; its clock is the world's."""
    settings = rig.desk.settings.model_copy(update={"watchdog": WatchdogSettings(ping_url=ping_url)})
    return Watchdog(settings, rig.desk.store)


async def test_a_position_is_not_watched_from_90_seconds_after_the_last_tick_on(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        await watched(rig, position_id, 120)
        watchdog = dog(rig)
        rig.later(45)
        assert await watchdog.round() == [] and alarms(rig) == []
        rig.later(60)
        assert [one.position_id for one in await watchdog.round()] == [position_id]
        await watchdog.round()
        assert alarms(rig) == [position_id], "one alert, however often it is found"
        await watched(rig, position_id, 35)
        assert alarms(rig) == [], "the first look of a monitor ends it"
        assert await watchdog.round() == []


async def test_the_next_round_does_not_come_after_a_position_is_overdue(tmp_path: Path) -> None:
    """With rounds 15 s apart the alert could come 15 s late, and 100 s are promised."""
    async with story_rig(tmp_path) as rig:
        await watched(rig, await rig.entered(**SOL_ON_KAMINO), 120)
        watchdog = dog(rig)
        assert watchdog.pause_s() == 15
        rig.later(54)
        await watchdog.round()
        assert alarms(rig) == [] and 0 < watchdog.pause_s() < 10
        rig.later(watchdog.pause_s())
        await watchdog.round()
        assert len(alarms(rig)) == 1 and watchdog.pause_s() == 15


async def test_one_tick_of_a_command_is_no_watch(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.later(100)
        await rig.recovered()
        rig.later(100)
        assert [one.position_id for one in await dog(rig).round()] == [position_id]


async def test_recovery_judges_by_the_same_rule(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        await watched(rig, position_id, 60)
        rig.later(45)
        assert (
            judge_watch(rig.desk, await recover_everything(rig.desk)).not_watched == () and alarms(rig) == []
        )
        rig.later(60)
        found = judge_watch(rig.desk, await recover_everything(rig.desk))
        assert found.not_watched == (position_id,) and alarms(rig) == [position_id]
        assert found.clean, "nothing is interrupted: what is missing is a watch"


async def test_an_ended_position_needs_no_tick_and_leaves_no_row(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        await watched(rig, position_id, 60)
        assert [one.name for one in rig.desk.store.heartbeats()] == [f"{TICKED}{position_id}"]
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert rig.flat
        rig.later(10_000)
        assert await dog(rig).round() == [] and last_ticks(rig.desk.store) == []
        assert rig.desk.store.heartbeats() == []


async def test_a_slower_pace_of_the_monitor_allows_more(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy={"poll_interval_s": 3600}) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        assert overdue_after_s(rig.desk.settings) == 10_800
        rig.later(3 * 3600 - 60)
        assert await dog(rig).round() == []


@dataclass
class Switch:
    """A dead man's switch: it notes every call and answers with this status."""

    url: str = ""
    status: int = 200
    paths: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.paths.append(head.split(b" ")[1].decode())
        writer.write(f"HTTP/1.1 {self.status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def switch() -> AsyncIterator[Switch]:
    found = Switch()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ping/1"
        yield found


async def test_the_dead_mans_switch_hears_of_every_round_in_which_all_is_well_and_of_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with story_rig(tmp_path) as rig, switch() as dead_man:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        watchdog = dog(rig, dead_man.url)
        await watchdog.round()
        await watchdog.round()
        assert dead_man.paths == ["/ping/1", "/ping/1"]
        rig.later(100)
        assert await watchdog.round() != []
        assert len(dead_man.paths) == 2, "its silence speaks"
        await watched(rig, position_id, 35)
        dead_man.status = 503
        await watchdog.round()
        await watchdog.round()
        said = [one.getMessage() for one in caplog.records if "dead man" in one.getMessage()]
        assert said == ["the dead man's switch could not be called: it answered 503"], (
            "once, while it goes on"
        )


async def test_a_ledger_that_cannot_be_written_is_silence_and_no_end(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, switch() as dead_man:
        await rig.entered(**SOL_ON_KAMINO)
        watchdog = dog(rig, dead_man.url)
        rig.later(200)
        with locked(rig):
            assert await watchdog.round() == []
        assert dead_man.paths == [] and alarms(rig) == []
        assert len(await watchdog.round()) == 1 and len(alarms(rig)) == 1


async def test_every_live_position_has_a_row(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.later(200)
        await rig.desk.clock.refresh()
        [row] = rows_of(rig.desk.store, rig.desk.settings)
        assert (row["position_id"], row["status"], row["watched"]) == (position_id, "OPEN", False)
        assert row["seconds_since_tick"] >= 200  # type: ignore[operator]


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_supervisor_hears_that_it_is_up_and_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    """As systemd listens: a datagram socket, in the file system or in the abstract namespace."""
    name = f"evenkeel-{os.getpid()}-{abstract}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}" if abstract else name)
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        async with story_rig(tmp_path) as rig:
            running = asyncio.ensure_future(dog(rig).run())
            loop = asyncio.get_running_loop()
            heard = [await asyncio.wait_for(loop.sock_recv(listener, 64), 30) for _ in range(2)]
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, 30)
            heard.append(await asyncio.wait_for(loop.sock_recv(listener, 64), 30))
    assert heard == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


async def test_the_supervisor_hears_of_us_between_two_rounds_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`watchdog.every_s` may be 300, and the unit gives up after 120 s of silence."""
    monkeypatch.setattr("app.watchdog.ALIVE_S", 0.02)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with story_rig(tmp_path) as rig, switch() as dead_man:
            settings = WatchdogSettings(ping_url=dead_man.url, every_s=300)
            watchdog = Watchdog(rig.desk.settings.model_copy(update={"watchdog": settings}), rig.desk.store)
            running = asyncio.ensure_future(watchdog.run())
            loop = asyncio.get_running_loop()
            heard = [await asyncio.wait_for(loop.sock_recv(listener, 64), 30) for _ in range(4)]
            assert heard == [b"READY=1", *[b"WATCHDOG=1"] * 3] and dead_man.paths == ["/ping/1"]
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, 30)


def test_a_supervisor_that_is_not_there_or_does_not_listen_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify(READY) is False
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    assert notify(READY) is False
