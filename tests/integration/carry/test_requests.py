"""What a person asks for from a chat or a page: once, in time, by who may, on both databases."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.requests.asking import Answer, Asking
from evenkeel.errors import Bug, LedgerUnavailable, OperatorError
from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings
from flows.carry import requested
from state.outbox_models import MessageKind
from state.requests.models import RequestAction, RequestState
from state.store import Store
from state.watch_models import Severity
from tests.carry.rig import Rig, story_rig, watched
from tests.databases import ManualClock, database_fixtures

databases, url, store = database_fixtures()
EXIT, PAUSE, RESUME, ACK, FLATTEN = (
    RequestAction.EXIT,
    RequestAction.PAUSE,
    RequestAction.RESUME,
    RequestAction.ACK,
    RequestAction.FLATTEN,
)
ANN: dict[str, Any] = {"who": "U0ANN", "via": "slack"}


def later(store: Store, seconds: float) -> None:
    assert isinstance(store.clock, ManualClock)
    store.clock.ms += int(seconds * 1000)


def asking(store: Store) -> Asking:
    return Asking(Settings(), store)


def said(store: Store) -> list[str]:
    return [row.text for row in store.messages() if row.kind is MessageKind.REQUEST]


def test_a_pause_is_done_at_once_and_its_key_once(store: Store) -> None:
    for _ in range(2):
        answer = asking(store).ask(PAUSE, key="t1", reason="odd market", **ANN)
    assert "was asked for before" in answer.text and "nothing was done" in answer.text
    [pause] = store.active_pauses()
    assert (pause.scope, pause.reason) == ("entries", "odd market (request 1)")
    [row] = store.requests.newest(9)
    assert (row.state, row.who) == (RequestState.DONE, "U0ANN")
    assert any("U0ANN via slack" in row.note for row in store.transitions("pause"))


def test_a_resume_waits_for_its_confirmation(store: Store) -> None:
    asking(store).ask(PAUSE, key="t1", **ANN)
    answer = asking(store).ask(RESUME, key="t2", **ANN)
    assert answer.confirm_within_s == 60 and "entries" in answer.text
    assert store.active_pauses()
    done = asking(store).confirm(answer.request_id, who="U0ANN")
    assert done.text.startswith("resumed (entries)") and not store.active_pauses()


@pytest.mark.parametrize(
    ("seconds", "who", "wrong"),
    [
        (61, "U0ANN", r"has lapsed: it was to be confirmed within 60 s; ask again"),
        (1, "U0BOB", r"was asked for by U0ANN, who alone may confirm it; nothing was done"),
    ],
)
def test_what_is_late_or_somebody_elses_does_nothing_and_says_so(
    store: Store, seconds: float, who: str, wrong: str
) -> None:
    answer = asking(store).ask(EXIT, "p1", key="t1", **ANN)
    later(store, seconds)
    with pytest.raises(OperatorError, match=wrong):
        asking(store).confirm(answer.request_id, who=who)
    assert not store.requests.to_do(EXIT, "p1") and not said(store)


def test_confirmed_twice_says_so(store: Store) -> None:
    answer = asking(store).ask(EXIT, "p1", key="t1", **ANN)
    assert "its monitor begins" in asking(store).confirm(answer.request_id, who="U0ANN").text
    with pytest.raises(OperatorError, match="is confirmed already; nothing was done"):
        asking(store).confirm(answer.request_id, who="U0ANN")
    [row] = store.requests.to_do(EXIT, "p1")
    assert store.requests.take(row.id or 0) and not store.requests.take(row.id or 0)
    assert store.requests.finish(row.id or 0, RequestState.DONE, "CLOSED")
    assert not store.requests.finish(row.id or 0, RequestState.REFUSED, "no")
    with pytest.raises(OperatorError, match="was done: CLOSED; nothing was done"):
        asking(store).confirm(answer.request_id, who="U0ANN")
    assert said(store) == [
        "exit p1 is asked for (by U0ANN via slack): exit of p1: SOL 3x, its size is not known",
        "exit p1 was done (by U0ANN via slack): CLOSED",
    ]


def test_a_confirmation_counts_once_however_many_arrive_together(store: Store) -> None:
    answer = asking(store).ask(EXIT, "p1", key="t1", **ANN)

    def confirm(_: int) -> Answer | str:
        try:
            return asking(store).confirm(answer.request_id, who="U0ANN")
        except OperatorError as refused:
            return str(refused)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(confirm, range(6)))
    assert sum(isinstance(one, Answer) for one in found) == 1
    assert len(store.requests.to_do(EXIT, "p1")) == 1


def test_what_nobody_begins_with_lapses_and_a_person_reads_so(store: Store) -> None:
    for key in ("t1", "t2"):
        answer = asking(store).ask(EXIT, "p1", key=key, **ANN)
    asking(store).confirm(answer.request_id, who="U0ANN")
    later(store, 61)
    assert not store.requests.to_do(EXIT, "p1")
    assert not store.requests.take(answer.request_id), "too late to begin"
    assert {one.state for one in store.requests.lapse()} == {RequestState.LAPSED}
    assert not store.requests.lapse()
    assert said(store)[-1].endswith("no process that could do it began with it in time")
    assert len(said(store)) == 2, "what was never confirmed is nobody's news"


def test_what_was_begun_and_never_ended_lapses_later(store: Store) -> None:
    answer = asking(store).ask(EXIT, "p1", key="t1", **ANN)
    asking(store).confirm(answer.request_id, who="U0ANN")
    assert store.requests.take(answer.request_id)
    later(store, 599)
    assert store.requests.to_do(EXIT, "p1") and not store.requests.lapse(), (
        "its process may have died: it is begun again"
    )
    later(store, 62)
    assert not store.requests.to_do(EXIT, "p1")
    assert [one.id for one in store.requests.lapse()] == [answer.request_id]


@pytest.mark.parametrize(
    ("action", "about", "wrong"),
    [
        (EXIT, {"subject": "p9"}, "no position is named 'p9'"),
        (RESUME, {}, "nothing is paused; nothing was done"),
        (PAUSE, {"scope": "binance"}, "scope 'binance' is unknown; allowed are entries"),
        (PAUSE, {"hours": -1.0}, "hours -1.0 must be above 0"),
        (ACK, {"subject": "liquidation"}, "no open alert is 'liquidation': none is open"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    store: Store, action: RequestAction, about: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(OperatorError, match=wrong) as refused:
        asking(store).ask(action, key="t1", **ANN, **about)
    assert "\n" not in str(refused.value)
    assert not store.active_pauses() and not store.requests.to_do(EXIT, "p1")


def test_a_position_that_has_ended_is_refused(store: Store) -> None:
    store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    with pytest.raises(OperatorError, match=r"p1 has ended already \(FAILED\); nothing was done"):
        asking(store).ask(EXIT, "p1", key="t1", **ANN)


def test_an_acknowledgement_names_who_has_seen_it(store: Store) -> None:
    store.alert("peg", Severity.CRITICAL, "0.9", subject="p1")
    asking(store).ask(ACK, "peg", of="p1", key="t1", **ANN)
    [alert] = store.alerts(open_only=True)
    assert alert.seen_ms is not None
    assert any(
        "U0ANN via slack" in row.text for row in store.messages() if row.kind is MessageKind.ACKNOWLEDGED
    )


def test_flatten_pauses_everything_and_asks_for_each_exit_once(store: Store) -> None:
    answer = asking(store).ask(FLATTEN, key="t1", **ANN)
    assert not store.active_pauses()
    asking(store).confirm(answer.request_id, who="U0ANN")
    [pause] = store.active_pauses()
    assert pause.scope == "all"
    [row] = store.requests.to_do(EXIT, "p1")
    assert row.detail["emergency"] and row.state is RequestState.CONFIRMED


# --- done by the monitor, without Prefect --------------------------------------------------------------------------------


def confirmed_exit(rig: Rig, position_id: str) -> int:
    asked = Asking(rig.desk.settings, rig.desk.store)
    answer = asked.ask(EXIT, position_id, key="t1", **ANN)
    assert (
        "174" not in answer.text.replace(position_id, "")
        and "USD a leg; closing is expected to cost" in answer.text
    )
    asked.confirm(answer.request_id, who="U0ANN")
    return answer.request_id


async def calm(rig: Rig) -> None:
    """Until the watch waits between two ticks: its first one has booked what happened before."""
    begins_ms = rig.desk.clock.now_ms()
    while rig.desk.clock.now_ms() < begins_ms + 25_000:
        await asyncio.sleep(0)


async def test_the_monitor_closes_what_is_asked_for_between_two_ticks(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        watch = asyncio.ensure_future(watched(rig, position_id, 3600))
        await calm(rig)
        number = confirmed_exit(rig, position_id)
        confirmed_ms = rig.desk.clock.now_ms()
        result = await watch

        assert result.status is PositionStatus.CLOSED, result
        row = rig.desk.store.requests.request(number)
        assert row is not None and row.state is RequestState.DONE
        closed_ms = rig.desk.store.carry.position(position_id).closed_ms or 0
        assert closed_ms - confirmed_ms < 10_000, "confirmed to closed, by the clock of the venues"
        assert f"request {number} of U0ANN via slack" in (
            rig.desk.store.carry.position(position_id).close_reason or ""
        )
        assert len(rig.filled_orders()) == 2 and not rig.account()["positions"]


async def test_a_slow_watch_is_woken_by_a_person(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy={"poll_interval_s": 1800}) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        watch = asyncio.ensure_future(watched(rig, position_id, 3600))
        await calm(rig)
        confirmed_exit(rig, position_id)
        confirmed_ms = rig.desk.clock.now_ms()
        await watch
        assert (rig.desk.store.carry.position(position_id).closed_ms or 0) - confirmed_ms < 920_000


async def test_a_request_that_was_begun_by_a_process_that_died_is_begun_again(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        number = confirmed_exit(rig, position_id)
        assert rig.desk.store.requests.take(number)
        result = await watched(rig, position_id, 60)
        assert result.status is PositionStatus.CLOSED
        row = rig.desk.store.requests.request(number)
        assert row is not None and (row.state, row.outcome) == (RequestState.DONE, "CLOSED")
        assert len(rig.filled_orders()) == 2


async def test_while_another_worker_is_at_the_position_the_request_waits_and_lapses(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        number = confirmed_exit(rig, position_id)
        lease = f"position:{position_id}"
        names = [one.name for one in rig.desk.store.leases()]
        assert lease in names, names
        assert rig.desk.store.acquire(lease, "pid 1@elsewhere", 10**9) is not None
        result = await watched(rig, position_id, 90)
        assert result.status is PositionStatus.OPEN
        rig.desk.store.requests.lapse()
        row = rig.desk.store.requests.request(number)
        assert row is not None and row.state is RequestState.LAPSED
        assert len(rig.filled_orders()) == 1


async def test_a_position_that_is_held_back_answers_that_it_goes_on(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        rig.fault("asgard", "reject", "POST /close-position", times=-1)
        number = confirmed_exit(rig, position_id)
        await watched(rig, position_id, 60)
        row = rig.desk.store.requests.request(number)
        assert row is not None and row.state is RequestState.DONE
        assert row.outcome.startswith("CLOSING, and goes on by itself: ")
        assert rig.account()["positions"], "the hedge is kept"


# --- what a reviewer found -------------------------------------------------------------------------------------------------


def test_a_flatten_that_was_broken_off_is_taken_up_by_confirming_it_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asking(store).ask(FLATTEN, key="t1", **ANN)
    assert "1 position is closed" in answer.text and answer.text.startswith("flatten: ")

    def broken(*_: Any, **__: Any) -> None:
        raise LedgerUnavailable("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(store.requests, "ask_each", broken)
        with pytest.raises(LedgerUnavailable):
            asking(store).confirm(answer.request_id, who="U0ANN")
    assert store.active_pauses() and not store.requests.to_do(EXIT, "p1")
    done = asking(store).confirm(answer.request_id, who="U0ANN")
    assert "exits asked for: p1" in done.text
    assert len(store.requests.to_do(EXIT, "p1")) == 1 and len(store.active_pauses()) == 1
    with pytest.raises(OperatorError, match="was done"):
        asking(store).confirm(answer.request_id, who="U0ANN")


def test_a_resume_ends_what_was_shown_and_nothing_that_came_since(store: Store) -> None:
    store.pause("entries", "maintenance")
    answer = asking(store).ask(RESUME, key="t1", **ANN)
    store.pause("all", "flatten: drill")
    done = asking(store).confirm(answer.request_id, who="U0ANN")
    assert done.text == "resumed (entries): maintenance; still paused (all): flatten: drill"
    assert [one.scope for one in store.active_pauses()] == ["all"]


def test_a_pause_never_ends_another_earlier(store: Store) -> None:
    asking(store).ask(PAUSE, key="t1", reason="odd", **ANN)
    asking(store).ask(PAUSE, key="t2", reason="odd", hours=0.01, **ANN)
    later(store, 3600)
    assert [one.until_ms for one in store.active_pauses()] == [None]


def test_an_alert_that_goes_on_is_not_closed_by_acknowledging_it_twice(store: Store) -> None:
    store.alert("peg", Severity.CRITICAL, "0.9", subject="p1")
    asking(store).ask(ACK, "peg", of="p1", key="t1", **ANN)
    with pytest.raises(OperatorError, match="is acknowledged already; nothing was done"):
        asking(store).ask(ACK, "peg", of="p1", key="t2", **ANN)
    assert store.alerts(open_only=True)


def test_an_exit_in_an_emergency_that_nobody_begins_is_critical(store: Store) -> None:
    answer = asking(store).ask(FLATTEN, key="t1", **ANN)
    asking(store).confirm(answer.request_id, who="U0ANN")
    later(store, 61)
    store.requests.lapse()
    [lapsed] = [
        row for row in store.messages() if row.kind is MessageKind.REQUEST and "has lapsed" in row.text
    ]
    assert lapsed.severity is Severity.CRITICAL


async def test_a_bug_in_an_exit_does_not_end_its_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        number = confirmed_exit(rig, position_id)

        async def contradicts(*_: Any) -> None:
            raise Bug("fill is stored with other figures")

        with monkeypatch.context() as patched:
            patched.setattr(requested, "exit_position", contradicts)
            result = await watched(rig, position_id, 60)
        assert result.status is PositionStatus.OPEN and result.ticks >= 1
        row = rig.desk.store.requests.request(number)
        assert row is not None and row.state is RequestState.REFUSED and "a bug" in row.outcome
        assert "books contradicted" in {one.kind for one in rig.desk.store.alerts(open_only=True)}
