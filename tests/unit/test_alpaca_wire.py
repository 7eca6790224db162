"""Alpaca's answers as they are: recorded bodies are read, states are final or not, refusals and limits mean one thing."""

from __future__ import annotations

import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.clock import as_datetime
from evenkeel.errors import NotUnderstood, Retryable
from evenkeel.types import Confirmed, Rejected, Working
from tests.databases import ManualClock
from venues.alpaca import models as m
from venues.alpaca.calendar import calendar_of, local_ms
from venues.alpaca.orders import ENDED, KNOWN, WORKING, oddity_of, outcome_of
from venues.alpaca.pressure import MOST_MS, BackPressure
from venues.alpaca.refusals import Refusal, meaning
from venues.alpaca.transfers import WireJournal
from venues.reading import parse_json, read

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data") / "brokers"
RECORDED: dict[str, list[Any]] = parse_json((DATA / "alpaca.json").read_bytes()) if DATA.is_dir() else {}
recorded = pytest.mark.skipif(not RECORDED, reason=f"no recorded bodies at {DATA} (set EVENKEEL_DATA)")
NOW_MS = 1_767_711_600_000


def order(**fields: Any) -> m.WireOrder:
    given = {"id": "o", "client_order_id": "c", "status": "new", "filled_qty": "0", "time_in_force": "day"}
    return m.WireOrder.model_validate(given | fields)


@recorded
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("trading/account/get_account", m.WireAccount),
        ("broker/accounts/get_trade_account_by_id", m.WireAccount),
        ("broker/accounts/get_trade_account_by_id_without_deprecated_pdt_fields", m.WireAccount),
        ("trading/orders/get_order_by_client_id", m.WireOrder),
        ("trading/orders/market_order", m.WireOrder),
        ("trading/orders/limit_order", m.WireOrder),
        ("trading/orders/order_position_intent", m.WireOrder),
        ("trading/positions/close_position_with_qty", m.WireOrder),
        ("trading/assets/get_asset", m.WireAsset),
        ("broker/trading/get_all_positions_for_account", list[m.WirePosition]),
        ("broker/misc/get_calendar", list[m.WireDay]),
        ("broker/misc/get_clock", m.WireClock),
        ("broker/journals/create_journal", WireJournal),
        ("broker/journals/get_journals", list[WireJournal]),
    ],
)
def test_a_recorded_body_is_read_whole(name: str, shape: Any) -> None:
    for body in RECORDED[name]:
        found = read("alpaca", name, shape, body)
        assert found.odd == ()


@recorded
def test_recorded_figures_are_exact() -> None:
    (account,) = RECORDED["trading/account/get_account"]
    assert m.WireAccount.model_validate(account).cash == Decimal("-23140.2")
    (trades,) = RECORDED["data/stocks/get_latest_trade"]
    assert m.WireTrade.model_validate(trades["trades"]["AAPL"]).p == Decimal("161.2958")
    (rows,) = RECORDED["trading/positions/close_all_positions"]
    assert m.WireOrder.model_validate(rows[0]["body"]).status == "pending_new"
    refusals = [meaning(row["status"], row["body"]["code"], row["body"]["message"]) for row in rows[1:]]
    assert refusals == [Refusal.NO_SHARES, Refusal.NO_SHORT]
    (missing,) = RECORDED["broker/accounts/get_account_account_not_found"]
    assert meaning(401, missing["code"], missing["message"]) is Refusal.NO_KEY


@recorded
def test_a_recorded_calendar_is_sessions_in_utc_and_a_clock_has_nanoseconds() -> None:
    (rows,) = RECORDED["broker/misc/get_calendar"]
    days = [m.WireDay.model_validate(row) for row in rows]
    found, odd = calendar_of("alpaca", "calendar", days, date(2022, 5, 16), date(2022, 5, 17))
    first, second = found.sessions
    assert (first.day.day, second.day.day, found.unread, odd) == (16, 17, frozenset(), [])
    assert first.open_ms == 1_652_707_800_000 and first.pre_open_ms == 1_652_688_000_000
    with pytest.raises(NotUnderstood):
        calendar_of("alpaca", "calendar", days, date(2022, 5, 17), date(2022, 5, 17))
    (clock,) = RECORDED["broker/misc/get_clock"]
    assert m.ms_of(clock["timestamp"]) == 1_652_733_144_143


@pytest.mark.parametrize(
    "row",
    [
        {"date": "2026-07-02", "open": "16:00", "close": "09:30"},
        {"date": "2026-07-02", "open": "25:00", "close": "16:00"},
        {"date": "2026-07-02"},
        {"date": "2026-07-02", "open": "09:30"},
    ],
)
def test_a_day_that_makes_no_session_is_named_and_is_no_closed_day(row: dict[str, str]) -> None:
    good = {"date": "2026-07-06", "open": "09:30", "close": "16:00", "session_open": "bad"}
    days = [m.WireDay.model_validate(one) for one in (row, good)]
    found, odd = calendar_of("alpaca", "calendar", days, date(2026, 7, 1), date(2026, 7, 9))
    assert [one.day for one in found.sessions] == [date(2026, 7, 6)]
    assert found.sessions[0].pre_open_ms is None and found.unread == {date(2026, 7, 2)}
    assert len(odd) == 1 and odd[0].lost


@pytest.mark.parametrize("row", [None, {"date": "no day", "open": "09:30", "close": "16:00"}])
def test_where_a_row_is_of_no_known_day_no_day_without_one_is_closed(row: dict[str, str] | None) -> None:
    good = m.WireDay.model_validate({"date": "2026-07-06", "open": "09:30", "close": "16:00"})
    days = [None if row is None else m.WireDay.model_validate(row), good]
    found, _ = calendar_of("alpaca", "calendar", days, date(2026, 7, 4), date(2026, 7, 7))
    assert [one.day.day for one in found.sessions] == [6]
    assert sorted(one.day for one in found.unread) == [4, 5, 7]


def test_a_day_with_two_times_is_unread_however_often_it_is_named() -> None:
    early, late = (
        m.WireDay.model_validate({"date": "2026-07-02", "open": "09:30", "close": close})
        for close in ("13:00", "16:00")
    )
    for days in ([early, late], [early, late, early], [late, early, early, late]):
        found, odd = calendar_of("alpaca", "calendar", days, date(2026, 7, 2), date(2026, 7, 2))
        assert not found.sessions and found.unread == {date(2026, 7, 2)} and odd


@pytest.mark.parametrize("text", ["09:30", "0930", "9:30"])
def test_both_forms_of_a_time_are_one(text: str) -> None:
    assert local_ms(date(2026, 7, 2), text) == local_ms(date(2026, 7, 2), "09:30")


# --- what an order has come to ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(WORKING | {"suspended", "calculated", "a word of tomorrow"}))
def test_what_is_not_an_end_is_working_whatever_was_filled(status: str) -> None:
    for filled in ({}, {"filled_qty": "1.5", "filled_avg_price": "10"}):
        found = outcome_of(order(status=status, **filled), NOW_MS)
        assert isinstance(found, Working) and found.ask_after_s >= 1
        assert (found.so_far is None) == (not filled)


@pytest.mark.parametrize(
    "status", sorted(WORKING | {"suspended", "calculated", "a word of tomorrow", "replaced"})
)
def test_what_has_been_filled_wholly_for_minutes_is_over_whatever_it_is_called(status: str) -> None:
    """alpacahq/Alpaca-API#199, alpacahq/alpaca-py#400: orders stay `pending_cancel` for a day."""
    whole = {"qty": "2", "filled_qty": "2", "filled_avg_price": "10"}
    stamps = {"submitted_at": "2026-01-06T14:30:00.123456789Z", "filled_at": "2026-01-06T14:54:30Z"}
    filled_ms = NOW_MS - 330_000
    is_known = status in KNOWN - {"replaced"}
    for given, after_ms, is_over in (
        (whole | stamps, 330_000, is_known),
        (whole | stamps, 200_000, False),
        (whole | stamps | {"filled_qty": "1.999"}, 10**9, False),
        (whole | stamps | {"filled_avg_price": None}, 10**9, False),
        (whole, 10**9, False),
        (whole | {"submitted_at": stamps["submitted_at"]}, 10**9, is_known),
    ):
        found = outcome_of(order(status=status, **given), filled_ms + after_ms)
        assert isinstance(found, Confirmed if is_over else Working), (given, after_ms)


@pytest.mark.parametrize("status", sorted(ENDED | {"done_for_day"}))
def test_an_end_counts_what_was_filled_first(status: str) -> None:
    assert isinstance(outcome_of(order(status=status), NOW_MS), Rejected)
    found = outcome_of(order(status=status, filled_qty="0.5", filled_avg_price="10.25"), NOW_MS)
    assert isinstance(found, Confirmed) and found.value.done_qty == Decimal("0.5")


def test_an_end_whose_figures_cannot_be_read_is_no_end_yet() -> None:
    for fields in (
        {"status": "canceled", "filled_qty": "1", "filled_avg_price": "-3"},
        {"status": "expired", "filled_qty": "1", "filled_avg_price": "0"},
        {"status": "done_for_day", "filled_qty": "1", "filled_avg_price": None},
        {"status": "filled", "filled_qty": "1", "filled_avg_price": "-3"},
        {"status": "canceled", "filled_qty": None},
        {"status": "filled", "filled_qty": "1", "filled_avg_price": None},
        {"status": "filled", "filled_qty": None, "filled_avg_price": "3"},
        {"status": "canceled", "filled_qty": "1", "filled_avg_price": None},
    ):
        found = outcome_of(order(**fields), NOW_MS)
        assert isinstance(found, Working) and found.so_far is None, fields
        assert oddity_of(order(**fields)), f"{fields}: a person hears nothing of it"
    assert isinstance(outcome_of(order(status="done_for_day", time_in_force="gtc"), NOW_MS), Working)
    assert isinstance(outcome_of(order(status="new", filled_qty="1", filled_avg_price="-3"), NOW_MS), Working)


def test_every_status_that_alpaca_documents_is_known() -> None:
    assert len(KNOWN) == 18


def test_an_old_order_is_asked_about_seldom() -> None:
    waits = []
    for age_s in (1, 60, 3600):
        stamp = as_datetime(NOW_MS - age_s * 1000)
        found = outcome_of(order(status="accepted", submitted_at=stamp.isoformat()), NOW_MS)
        assert isinstance(found, Working)
        waits.append(found.ask_after_s)
    assert waits == [1, 15, 60]


# --- refusals and limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "message", "what"),
    [
        (422, 40010001, "client_order_id must be unique", Refusal.DUPLICATE),
        (422, 40010001, "qty is required", Refusal.OTHER),
        (422, 40010001, "qty must be integer", Refusal.NOT_FRACTIONABLE),
        (403, 40310000, "insufficient buying power", Refusal.NO_CASH),
        (403, 40310000, "cost basis must be >= minimal amount of order 1", Refusal.TOO_SMALL),
        (
            403,
            40310000,
            "insufficient qty available for order (requested: 5, available: 1)",
            Refusal.NO_SHARES,
        ),
        (403, 40310000, "fractional orders are not allowed to short", Refusal.NO_SHORT),
        (
            403,
            40310000,
            "cannot open a long buy while a short sell order is open",
            Refusal.WASH_TRADE,
        ),
        (422, 42210000, "potential wash trade detected. use complex orders", Refusal.WASH_TRADE),
        (403, 40310000, "something new", Refusal.OTHER),
        (401, None, "", Refusal.NO_KEY),
    ],
)
def test_code_and_message_decide_together(status: int, code: int | None, message: str, what: Refusal) -> None:
    assert meaning(status, code, message) is what


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Tue, 06 Jan 2026 15:00:09 GMT"}, 9),
        ({"x-ratelimit-reset": str(NOW_MS // 1000 + 12)}, 12),
        ({"retry-after": "3", "x-ratelimit-reset": str(NOW_MS // 1000 + 12)}, 3),
        ({"retry-after": "soon"}, 1),
        ({"x-ratelimit-reset": "1"}, 1),
        ({}, 1),
        ({"retry-after": "999999"}, MOST_MS / 1000),
        ({"retry-after": "9" * 400}, 1),
        ({"retry-after": "\u00b2"}, 1),
        ({"retry-after": "Tue, 06 Jan 99999999999999999999 15:00:09 GMT"}, 1),
        ({"retry-after": "-5"}, 1),
        ({"retry-after": "NaN"}, 1),
        ({"x-ratelimit-reset": "9" * 5000}, 1),
        ({"x-ratelimit-reset": "\u00b2"}, 1),
    ],
)
async def test_a_limit_says_for_how_long_or_we_do(headers: dict[str, str], wait_s: float) -> None:
    clock = ManualClock(NOW_MS)
    pressure = BackPressure("alpaca", clock)
    assert pressure.note(headers) == wait_s
    if wait_s > 5:
        with pytest.raises(Retryable):
            await pressure.passed()
        assert clock.now_ms() == NOW_MS
    else:
        await pressure.passed()
        assert clock.now_ms() == NOW_MS + wait_s * 1000
    clock.ms = NOW_MS + int(wait_s * 1000)
    await pressure.passed()


def test_limits_without_a_word_grow_and_start_again_after_an_answer() -> None:
    pressure = BackPressure("alpaca", ManualClock(NOW_MS))
    assert [pressure.note({}) for _ in range(4)] == [1, 2, 4, 8]
    pressure.answered()
    assert pressure.note({}) == 1
