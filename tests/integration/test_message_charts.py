"""The chart of a report in Slack: shown once, whatever fails at each of the three steps, and nothing waits for it."""

from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr

from evenkeel.errors import Retryable
from state.outbox import DONE
from state.outbox_models import DeliveryState, MessageKind
from state.store import Store
from state.watch_models import Severity
from tasks.channels import Channel, Letter, Outcome, Unsure
from tasks.messages.compose import PNG
from tasks.messages.sender import LEASE, Line
from tasks.messages.slack import SlackChannel
from tasks.messages.waiting import waiting_for
from tests.databases import database_fixtures
from tests.integration.test_messages import Killed, Mortal
from tests.message_rig import CHANNEL, HOUR_S, Rig, Scripted, slack_rig
from twins.faults import Fault
from twins.http import served
from twins.slack import SlackTwin

databases, url, store = database_fixtures()
DRAWN = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
ADDRESS, UPLOAD, SHARE = "files.getUploadURLExternal", "/upload/.*", "files.completeUploadExternal"


def report(store: Store, day: str = "2025-09-07") -> None:
    thread = f"report/{day}"
    store.write_message(thread, MessageKind.REPORT, "daily report", "nothing needs a person", thread=thread)
    store.write_message(
        f"{thread}/chart",
        MessageKind.CHART,
        "daily report",
        "the day",
        thread=thread,
        facts={PNG: base64.b64encode(DRAWN).decode()},
    )


def states(rig: Rig) -> dict[str, DeliveryState]:
    known = {row.message_id: row.state for row in rig.store.deliveries()}
    return {row.kind.value: known[row.id or 0] for row in rig.store.messages() if row.id in known}


async def test_the_chart_stands_in_the_thread_of_its_report(store: Store) -> None:
    async with slack_rig(store) as rig:
        report(store)
        await rig.deliver()
        text = next(row for row in rig.twin.shown() if row["text"].startswith("daily report"))
        [chart] = [row for row in rig.twin.shown() if "files" in row]
        assert chart["thread_ts"] == text["ts"]
        [kept] = rig.twin.files.values()
        assert kept["bytes"] == DRAWN and len(rig.twin.shared_files()) == 1
        assert chart["files"][0]["name"].endswith(".png")


@pytest.mark.parametrize("step", [ADDRESS, UPLOAD, SHARE])
@pytest.mark.parametrize(
    "kind",
    ["drop_request", "drop_answer", "http_429", "http_429_after", "http_500", "http_500_after", "garbage"],
)
async def test_what_fails_at_a_step_shows_no_second_file_and_holds_up_no_text(
    store: Store, step: str, kind: str
) -> None:
    async with slack_rig(store) as rig:
        report(store)
        rig.twin.faults.add(Fault("slack", kind, call=step, times=3, args={"retry_after": 20}))
        for _ in range(4):
            await rig.sender.step(rig.line)
        store.alert("bad", Severity.CRITICAL, "t", "x")
        rig.clock.ms += 1000
        await rig.sender.step(rig.line)
        assert "CRITICAL: bad (x)" in rig.texts and any(one.startswith("daily") for one in rig.texts)
        await rig.deliver(HOUR_S)
        assert len(rig.twin.shared_files()) == 1
        assert set(states(rig).values()) == {DeliveryState.SENT}


async def test_a_file_that_slack_has_not_read_yet_is_shared_later(store: Store) -> None:
    async with slack_rig(store) as rig:
        report(store)
        rig.twin.faults.add(Fault("slack", "file_not_found", times=2))
        await rig.deliver(HOUR_S)
        assert len(rig.twin.shared_files()) == 1 and states(rig)["chart"] is DeliveryState.SENT


@pytest.mark.parametrize("shared", [False, True])
async def test_a_share_that_failed_on_the_way_is_asked_for_first(store: Store, shared: bool) -> None:
    """`file_update_failed` is a race within Slack: nobody knows whether the file is shown."""
    async with slack_rig(store) as rig:
        report(store)
        rig.twin.faults.add(Fault("slack", "file_update_failed", args={"shared": shared}))
        await rig.deliver(HOUR_S)
        assert len(rig.twin.shared_files()) == 1 and states(rig)["chart"] is DeliveryState.SENT


@pytest.mark.parametrize("lost", [False, True], ids=["answers arrive", "answers are lost"])
async def test_a_sender_that_is_killed_at_each_step_shows_each_chart_once(store: Store, lost: bool) -> None:
    async with slack_rig(store) as rig:
        for day in range(4):
            report(store, f"2025-09-0{day + 1}")
        if lost:
            for step in (ADDRESS, UPLOAD, SHARE):
                rig.twin.faults.add(Fault("slack", "drop_answer", call=step, after=1, times=2))
        channel, deaths = rig.line.channel, 0
        for nth in range(200):
            rig.line = Line(channel, 0)
            with Mortal(rig, nth % 9) as mortal:
                try:
                    rig.line = Line(mortal, 0)
                    await rig.deliver(HOUR_S)
                    break
                except Killed:
                    deaths += 1
            rig.clock.ms += 1000
        rig.line = Line(channel, 0)
        await rig.deliver(HOUR_S)
        assert deaths > 9
        assert len(rig.twin.shared_files()) == len(set(rig.twin.shared_files())) == 4
        assert sorted(rig.keys) == sorted(
            row.key for row in store.messages() if row.kind != MessageKind.CHART
        )


class Cut(SlackChannel):
    """A channel whose process ends after so many calls to Slack."""

    calls = 99

    def cut_after(self, calls: int) -> None:
        self.calls = calls
        for name in ("files_getUploadURLExternal", "files_completeUploadExternal"):
            setattr(self._client, name, self._cutting(getattr(self._client, name)))

    def _cutting(self, call):  # type: ignore[no-untyped-def]
        def cutting(**named):  # type: ignore[no-untyped-def]
            self.calls -= 1
            if self.calls == 0:
                raise Killed
            answer = call(**named)
            self.calls -= 1
            if self.calls == 0:
                raise Killed
            return answer

        return cutting


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
async def test_a_sender_that_ends_within_the_three_steps_shows_the_chart_once(
    store: Store, calls: int
) -> None:
    """Before and after the address was given, before and after the share: the next sender asks before it sends again."""
    twin = SlackTwin()
    async with slack_rig(store) as rig, served(twin.app) as base:
        rig.twin = twin
        report(store)
        cut = Cut(SecretStr(twin.token), CHANNEL, Severity.INFO, f"{base}/api")
        cut.cut_after(calls)
        rig.line = Line(cut, 0)
        with pytest.raises(Killed):
            await rig.deliver()
        assert len(twin.shared_files()) == (1 if calls == 4 else 0)
        rig.line = Line(SlackChannel(SecretStr(twin.token), CHANNEL, Severity.INFO, f"{base}/api"), 0)
        await rig.deliver(HOUR_S)
        assert len(twin.shared_files()) == 1 and set(states(rig).values()) == {DeliveryState.SENT}


async def test_without_the_right_to_upload_the_text_is_sent_alone(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with slack_rig(store) as rig:
        assert "files:write" not in await rig.line.channel.check()
        rig.twin.scopes.remove("files:write")
        assert "for charts the app needs files:write" in await rig.line.channel.check()
        report(store)
        store.alert("after", Severity.WARNING, "t", "x")
        await rig.deliver()
        assert states(rig)["report"] is DeliveryState.SENT and states(rig)["chart"] is DeliveryState.REFUSED
        assert "WARNING: after (x)" in rig.texts and not rig.twin.shared_files()
        assert "the app needs files:write" in caplog.text and not rig.line.fault


async def test_a_workspace_whose_uploads_never_work_is_given_up(store: Store) -> None:
    async with slack_rig(store) as rig:
        report(store)
        rig.twin.faults.add(Fault("slack", "http_500", call=UPLOAD, times=-1))
        rig.sender.joined(rig.line.channel)
        store.move_checkpoint("channel slack", store.clock.now_ms(), {"after": 0})
        await rig.deliver(3 * HOUR_S, every_s=300)
        assert states(rig)["chart"] not in DONE and not waiting_for(store, "slack"), "no text waits"
        assert not rig.line.fault, "the channel takes messages"
        await rig.deliver(2 * HOUR_S, every_s=300)
        assert states(rig)["chart"] is DeliveryState.REFUSED and not rig.twin.shared_files()
        assert states(rig)["report"] is DeliveryState.SENT


class Asked(Scripted):
    """A channel that shows charts, loses the answer to each, and cannot say whether it has one."""

    pictures = True

    async def send(self, letter: Letter) -> Outcome:
        if letter.picture is None:
            return await super().send(letter)
        assert letter.picture.data == DRAWN
        return Unsure(reason="its answer was lost")

    async def find(self, letter: Letter, since_ms: int) -> str | None:
        raise Retryable("it cannot be asked")


async def test_a_chart_that_cannot_be_asked_for_is_given_up_by_its_age(store: Store) -> None:
    channel: Channel = Asked("one")
    async with slack_rig(store) as rig:
        report(store)
        rig.line = Line(channel, 0)
        for _ in range(5):
            while await rig.sender.step(rig.line):
                pass
            rig.clock.ms += 1000 * HOUR_S
        assert states(rig)["chart"] is DeliveryState.REFUSED and not rig.line.fault
        assert states(rig)["report"] is DeliveryState.SENT


def test_a_picture_is_read_only_where_it_is_delivered(store: Store) -> None:
    report(store)
    chart = next(one.message for one in store.pending("slack") if one.message.kind is MessageKind.CHART)
    assert chart.facts == {}
    assert store.whole_message(chart).facts == {PNG: base64.b64encode(DRAWN).decode()}


async def test_a_chart_whose_thread_is_gone_stands_in_the_channel(store: Store) -> None:
    async with slack_rig(store) as rig:
        report(store)
        while not any(one.startswith("daily") for one in rig.texts):
            assert await rig.sender.step(rig.line)
        gone = next(ts for ts, row in rig.twin.channels[CHANNEL].messages.items() if "daily" in row["text"])
        del rig.twin.channels[CHANNEL].messages[gone]
        await rig.deliver()
        assert len(rig.twin.shared_files()) == 1


async def test_a_channel_that_shows_no_pictures_skips_them(store: Store) -> None:
    channel: Channel = Scripted("one")
    async with slack_rig(store) as rig:
        report(store)
        rig.line = Line(channel, 0)
        while await rig.sender.step(rig.line):
            pass
        assert store.acquire(LEASE, "other", 10**9) is None
    assert [row.kind for row in channel.sent] == ["subject", "report"]  # type: ignore[attr-defined]
    assert states(rig)["chart"] is DeliveryState.SKIPPED
