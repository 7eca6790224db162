"""The connection to Slack: what is lost, doubled, refused or silent on it ends nothing and does nothing twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from state.outbox_models import MessageKind
from state.store import Store
from tasks.messages.waiting import sender_faults
from tests.message_rig import CHANNEL, Rig, slack_rig
from tests.slack_requests_rig import ANN, come, next_answer, rig, store, taking, typed
from twins.faults import Fault
from twins.http import served_in_thread
from twins.slack import SlackTwin

__all__ = ["rig", "store"]


@pytest.mark.parametrize("fault", ["ack_lost", "envelope_twice", "other_id"])
async def test_a_command_that_comes_twice_is_done_and_answered_once(rig: Rig, fault: str) -> None:
    rig.twin.socket.ack_s = 0.2
    kind, args = ("envelope_twice", {"other_id": True}) if fault == "other_id" else (fault, {})
    rig.twin.faults.add(Fault("slack", kind, args=args))
    await typed(rig.twin, "pause all odd market")
    after = await typed(rig.twin, "status")
    assert "paused (all): odd market" in after["text"]
    assert [one["text"] for one in rig.twin.socket.answers_to(ANN)].count(
        "paused (all): odd market (request 1)"
    ) == 1
    assert len(rig.store.requests.newest(9)) == 1
    assert len([row for row in rig.store.transitions("pause")]) == 1


async def test_a_command_that_comes_again_to_the_next_process_is_done_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slack_rig(store) as rig:
        rig.twin.socket.ack_s = 0.2
        base = rig.line.channel._client.base_url  # type: ignore[attr-defined]
        async with taking(store, rig.twin, base, monkeypatch):
            await typed(rig.twin, "pause all odd market")
        payload = rig.twin.socket.envelopes[0].payload
        async with taking(store, rig.twin, base, monkeypatch):
            before = len(rig.twin.socket.answers_to(ANN))
            answer = await next_answer(rig.twin, ANN, before, rig.twin.socket.push("slash_commands", payload))
        assert "was asked for before" in answer["text"] and "nothing was done" in answer["text"]
        assert len(store.requests.newest(9)) == 1


@pytest.mark.parametrize("reason", ["refresh_requested", "warning", ""])
async def test_a_connection_that_ends_is_opened_again(rig: Rig, reason: str) -> None:
    for _ in range(2):
        before = rig.twin.socket.opened
        if reason:
            rig.twin.socket.disconnect(reason)
        else:
            rig.twin.socket.drop()
        await come(lambda before=before: rig.twin.socket.opened > before)  # type: ignore[misc]
        await come(lambda: rig.twin.socket.connections == 1)
        assert "p1" in (await typed(rig.twin, "status"))["text"]


async def test_a_command_whose_first_envelope_is_lost_is_done_when_it_comes_again(rig: Rig) -> None:
    """What comes again is not thrown away: it may be the first that we see of it."""
    rig.twin.socket.ack_s = 0.2
    rig.twin.faults.add(Fault("slack", "envelope_lost"))
    assert (await typed(rig.twin, "pause all"))["text"].startswith("paused (all)")
    assert len(rig.twin.socket.envelopes[-1].tries) == 2


async def test_a_refusal_while_the_connection_is_exchanged_ends_nothing(rig: Rig) -> None:
    rig.twin.faults.add(Fault("slack", "http_500", call="apps.connections.open", times=2))
    rig.twin.socket.disconnect("refresh_requested")
    await come(lambda: rig.twin.socket.opened == 2 and rig.twin.socket.connections == 1)
    assert "p1" in (await typed(rig.twin, "status"))["text"]


class Pipe:
    """Passes bytes on to a server until it is frozen: then nothing comes through, and nobody hangs up."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._frozen: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Pipe:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for one in self._open:
            one.close()

    def freeze(self) -> None:
        """What is open now stays so, and nothing comes through it any more; what is opened from now on works."""
        self._frozen = set(self._open)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", self.port)
        self._open |= {writer, to}
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, to), self._pass(there, writer))
        for one in (writer, to):
            one.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if writer not in self._frozen:
                writer.write(data)
                await writer.drain()
        if writer not in self._frozen:
            writer.close()


async def test_a_connection_that_is_open_and_silent_is_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router that forgot us: no end is seen, and no answer to a ping comes any more."""
    async with slack_rig(store) as rig:
        port = int(rig.line.channel._client.base_url.split(":")[2].split("/")[0])  # type: ignore[attr-defined]
        async with Pipe(port) as pipe, taking(store, rig.twin, f"{pipe.base}/api", monkeypatch):
            assert "p1" in (await typed(rig.twin, "status"))["text"]
            pipe.freeze()
            await come(lambda: rig.twin.socket.opened == 2)
            rig.twin.socket.forget_first()
            assert "p1" in (await typed(rig.twin, "status"))["text"]


async def test_an_address_that_takes_nothing_any_more_is_answered_in_the_channel(rig: Rig) -> None:
    rig.twin.faults.add(Fault("slack", "one_endpoint", call="/response/.*", args={"how": "404"}))
    answer = await typed(rig.twin, "pause all")
    assert answer["via"] == "chat.postEphemeral" and answer["text"].startswith("paused (all)")
    rig.twin.faults.add(Fault("slack", "one_endpoint", call="/response/.*|chat.postEphemeral", times=2))
    lost = rig.twin.socket.command(ANN, "status")
    await come(lambda: lost.state == "acknowledged")
    assert "paused (all)" in (await typed(rig.twin, "status"))["text"], "one answer that is lost ends nothing"


async def test_what_slack_refuses_at_the_start_is_said_and_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with slack_rig(store) as rig:
        base = rig.line.channel._client.base_url  # type: ignore[attr-defined]
        token = rig.twin.socket.token
        rig.twin.faults.add(Fault("slack", "http_500", call="apps.connections.open", times=1))
        async with taking(store, rig.twin, base, monkeypatch) as connection:
            await come(lambda: not connection.fault)
            rig.twin.socket.token = "xapp-1-another"
            rig.twin.socket.drop()
            await come(lambda: connection.fault)
            rig.twin.socket.token = token
            await come(lambda: not connection.fault)
            assert "p1" in (await typed(rig.twin, "status"))["text"]
    assert "no requests are taken" in caplog.text and "requests are taken from Slack" in caplog.text
    assert token not in caplog.text and rig.twin.token not in caplog.text


# --- the process ---------------------------------------------------------------------------------------------


def until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    for _ in range(9_000):
        if condition():
            return
        assert process.poll() is None
        pause.wait(0.01)
    raise AssertionError("it did not come about")


def test_the_sender_takes_requests_is_killed_and_takes_them_again(store: Store, tmp_path: Path) -> None:
    """`evenkeel send` itself; not one of its lines names a token, not even where it logs everything."""
    twin = SlackTwin()
    log = tmp_path / "log"
    with served_in_thread(twin.app) as base, log.open("wb") as lines:
        config = tmp_path / "evenkeel.toml"
        config.write_text(
            f'log_level = "DEBUG"\n[database]\nurl = "sqlite:///{tmp_path / "ledger.db"}"\n'
            f'[slack]\nchannel = "{CHANNEL}"\nurl = "{base}/api"\noperators = ["{ANN}"]\n'
        )
        environment = os.environ | {
            "EVENKEEL_SLACK_TOKEN": twin.token,
            "EVENKEEL_SLACK_APP_TOKEN": twin.socket.token,
            "EVENKEEL_CONFIG": str(config),
        }
        command = [sys.executable, "-m", "app.cli", "send"]
        first = subprocess.Popen(command, env=environment, stderr=lines, stdout=lines)
        try:
            until(lambda: twin.socket.connections == 1, first)
            twin.socket.command(ANN, "pause all odd market")
            until(lambda: twin.socket.answers_to(ANN), first)
        finally:
            first.kill()
            first.wait()
        second = subprocess.Popen(command, env=environment, stderr=lines, stdout=lines)
        try:
            until(lambda: twin.socket.opened == 2 and twin.socket.connections == 1, second)
            twin.socket.push("slash_commands", twin.socket.envelopes[0].payload)
            until(lambda: len(twin.socket.answers_to(ANN)) == 2, second)
            second.terminate()
            assert second.wait(60) == 0
        finally:
            second.kill()
            second.wait()
    assert "was asked for before" in twin.socket.answers_to(ANN)[1]["text"]
    assert [row.reason for row in store.active_pauses()] == ["odd market (request 1)"]
    assert len(store.requests.newest(9)) == 1
    written = log.read_text()
    assert "requests are taken from Slack" in written
    for secret in (twin.token, twin.socket.token, "ticket="):
        assert secret not in written


@pytest.mark.parametrize("given", ["no operators", "a token of another kind"])
def test_a_sender_that_takes_no_requests_delivers(store: Store, tmp_path: Path, given: str) -> None:
    """What is missing of requests is logged and said to who asks how the sender is; it stops no message."""
    twin = SlackTwin()
    log = tmp_path / "log"
    with served_in_thread(twin.app) as base, log.open("wb") as lines:
        config = tmp_path / "evenkeel.toml"
        operators = "" if given == "no operators" else f'"{ANN}"'
        config.write_text(
            f'[database]\nurl = "sqlite:///{tmp_path / "ledger.db"}"\n'
            f'[slack]\nchannel = "{CHANNEL}"\nurl = "{base}/api"\noperators = [{operators}]\n'
        )
        environment = os.environ | {
            "EVENKEEL_SLACK_TOKEN": twin.token,
            "EVENKEEL_SLACK_APP_TOKEN": twin.socket.token if given == "no operators" else twin.token,
            "EVENKEEL_CONFIG": str(config),
        }
        command = [sys.executable, "-m", "app.cli"]
        process = subprocess.Popen([*command, "send"], env=environment, stderr=lines, stdout=lines)
        try:
            until(lambda: store.checkpoint("channel slack") is not None, process)
            store.write_message("k", MessageKind.TRIAL, "trial", "it arrives all the same")
            until(lambda: "it arrives all the same" in str(twin.shown(CHANNEL)), process)
            until(lambda: "requests" in sender_faults(store), process)
        finally:
            process.terminate()
            assert process.wait(60) == 0
        asked = subprocess.run([*command, "channels"], env=environment, capture_output=True, text=True)
    assert asked.returncode == 0 and "no requests are taken: " in asked.stdout, asked
    assert "no requests are taken from Slack" in log.read_text()
    assert twin.token not in log.read_text() + asked.stdout + asked.stderr
