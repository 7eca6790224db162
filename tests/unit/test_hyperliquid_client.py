"""Transport rules of the client against a scripted peer: reads retried, writes never, paging, weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from evenkeel.errors import OperatorError, Retryable, VenueRefused
from evenkeel.types import Confirmed, Rejected, Unknown
from venues.hyperliquid.account import HyperliquidAccount
from venues.hyperliquid.client import HyperliquidClient, default_budget, info_weight
from venues.hyperliquid.market import MarketData
from venues.ratebudget import RateBudget
from venues.timing import KEPT

USER = "0x" + "ab" * 20
Peer = Callable[[dict[str, Any]], httpx.Response]


class StandingClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.ms = 1_757_203_200_000
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += round(seconds * 1000)

    async def refresh(self) -> None:
        """Nothing to agree with."""


class Desk:
    """A client whose requests are answered by a function, and counted."""

    def __init__(self, peer: Peer) -> None:
        self.clock = StandingClock()
        self.asked: list[dict[str, Any]] = []

        def handle(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content)
            self.asked.append(body)
            return peer(body)

        http = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        self.client = HyperliquidClient("http://venue.test/", self.clock, http=http)


def answers(*responses: httpx.Response | Exception) -> Peer:
    queue = list(responses)

    def peer(_: dict[str, Any]) -> httpx.Response:
        found = queue.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return peer


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(429, text="slow down"),
        httpx.Response(502, text="<html>"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"not": "a mode"}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("closed"),
    ],
    ids=str,
)
async def test_a_read_is_retried_and_then_succeeds(trouble: httpx.Response | Exception) -> None:
    desk = Desk(answers(trouble, httpx.Response(200, json="default")))
    assert await desk.client.user_abstraction(USER) == "default"
    assert len(desk.asked) == 2 and len(desk.clock.slept) == 1


async def test_a_read_gives_up_after_a_few_attempts() -> None:
    desk = Desk(lambda _: httpx.Response(500))
    with pytest.raises(Retryable, match=r"userAbstraction at http://venue\.test: HTTP 500"):
        await desk.client.user_abstraction(USER)
    assert len(desk.asked) == 4 and sum(desk.clock.slept) < 10


async def test_a_refused_read_is_not_retried() -> None:
    text = "Failed to deserialize the JSON body into the target type"
    desk = Desk(lambda _: httpx.Response(422, text=text))
    with pytest.raises(VenueRefused, match="422 Failed to deserialize"):
        await desk.client.user_abstraction(USER)
    assert len(desk.asked) == 1


@pytest.mark.parametrize(
    ("peer_says", "expected"),
    [
        (httpx.Response(200, json={"status": "ok", "response": {"type": "default"}}), Confirmed),
        (httpx.Response(200, json={"status": "err", "response": "no"}), Confirmed),
        (httpx.Response(422, text="Failed to deserialize"), Rejected),
        (httpx.Response(400, text="bad"), Rejected),
        (httpx.Response(403, text="forbidden"), Unknown),
        (httpx.Response(408), Unknown),
        (httpx.Response(429, text="slow down"), Unknown),
        (httpx.Response(500, json={"status": "ok"}), Unknown),
        (httpx.Response(502, text="<html>"), Unknown),
        (httpx.Response(301, headers={"location": "/elsewhere"}), Unknown),
        (httpx.Response(200, text="<html>"), Unknown),
        (httpx.Response(200, json=["ok"]), Unknown),
        (httpx.Response(200, json={"error": "Could not parse JSON"}), Unknown),
        (httpx.ConnectError("refused"), Unknown),
        (httpx.ReadTimeout("late"), Unknown),
        (httpx.WriteError("reset"), Unknown),
        (httpx.RemoteProtocolError("closed without an answer"), Unknown),
    ],
    ids=str,
)
async def test_an_action_is_sent_once_and_its_answer_has_three_values(
    peer_says: httpx.Response | Exception, expected: type
) -> None:
    desk = Desk(answers(peer_says))
    assert isinstance(await desk.client.exchange('{"action":{}}'), expected)
    assert len(desk.asked) == 1


def fill(number: int, time: int) -> dict[str, Any]:
    return {
        "coin": "SOL",
        "px": "200",
        "sz": "1",
        "side": "A",
        "time": time,
        "startPosition": "0",
        "tid": number,
        "oid": number,
    }


def paged(rows: list[dict[str, Any]], size: int) -> Peer:
    """A venue that answers at most `size` rows from startTime on, inclusive."""

    def peer(body: dict[str, Any]) -> httpx.Response:
        end = body.get("endTime") or 10**15
        found = [row for row in rows if body["startTime"] <= row["time"] <= end]
        return httpx.Response(200, json=found[:size])

    return peer


@pytest.mark.parametrize("count", [0, 1, 1999, 2000, 2001, 4500])
async def test_fills_are_paged_without_loss_or_repetition(count: int) -> None:
    """Three fills share every millisecond, so page ends fall inside a millisecond."""
    rows = [fill(number, 1_000 + number // 3) for number in range(count)]
    desk = Desk(paged(rows, 2000))
    found = await desk.client.user_fills_by_time(USER, 0)
    assert [row.tid for row in found] == list(range(count))


@pytest.mark.parametrize("count", [499, 500, 501, 1200])
async def test_funding_history_is_paged_and_respects_the_end(count: int) -> None:
    rows = [
        {"coin": "SOL", "fundingRate": "0.0000125", "premium": "0.0001", "time": hour * 3_600_000 + 44}
        for hour in range(count)
    ]
    desk = Desk(paged(rows, 500))
    assert len(await desk.client.funding_history("SOL", 0)) == count
    until = rows[count // 2]["time"]
    assert len(await desk.client.funding_history("SOL", 0, until)) == count // 2 + 1


async def test_user_funding_of_several_coins_in_one_millisecond_is_kept() -> None:
    rows = [
        {
            "time": hour * 3_600_000,
            "hash": "0x0",
            "delta": {
                "type": "funding",
                "coin": coin,
                "usdc": "1",
                "szi": "-1",
                "fundingRate": "0.1",
                "nSamples": None,
            },
        }
        for hour in range(300)
        for coin in ("BTC", "ETH", "SOL")
    ]
    desk = Desk(paged(rows, 500))
    found = await desk.client.user_funding(USER, 0)
    assert len({(row.time, row.delta.coin) for row in found}) == len(found) == 900


async def test_a_page_of_one_millisecond_does_not_loop_for_ever() -> None:
    rows = [fill(number, 5_000) for number in range(2000)] + [fill(9_999, 5_001)]
    desk = Desk(paged(rows, 2000))
    found = await desk.client.user_fills_by_time(USER, 5_000)
    assert len(found) == 2001


def test_weights_of_the_rate_limit_page() -> None:
    assert info_weight("l2Book") == info_weight("clearinghouseState") == info_weight("orderStatus") == 2
    assert info_weight("metaAndAssetCtxs") == info_weight("userFills") == 20
    assert info_weight("userRole") == 60


async def test_heavy_reading_stays_within_the_weight_of_an_address() -> None:
    """Twenty weight units a call: in any minute at most 1200 units are spent."""
    desk = Desk(lambda _: httpx.Response(200, json={"universe": []}))
    desk.client = HyperliquidClient(
        "http://venue.test", desk.clock, budget=default_budget(desk.clock), http=desk.client._http
    )
    times: list[int] = []
    for _ in range(150):
        await desk.client.meta()
        times.append(desk.clock.ms)
    for start in times:
        assert sum(20 for t in times if start <= t < start + 60_000) <= 1200
    assert desk.clock.ms - times[0] > 150 * 20 / 1200 * 30_000


async def test_rows_are_paid_for_after_they_arrived() -> None:
    clock = StandingClock()
    budget = RateBudget(clock, per_minute=60, burst=200)
    rows = [fill(number, number) for number in range(1000)]

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=rows)

    http = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    client = HyperliquidClient("http://venue.test", clock, budget=budget, http=http)
    await client.user_fills_by_time(USER, 0)
    began = clock.ms
    await budget.spend(131)  # 200 saved - 20 - 1000 / 20 rows = 130 left
    assert clock.ms > began


async def test_an_agent_that_the_venue_lists_as_expired_is_for_the_operator() -> None:
    agent = "0x" + "cd" * 20
    valid_until = 1_757_203_200_001

    def peer(body: dict[str, Any]) -> httpx.Response:
        assert body == {"type": "extraAgents", "user": USER}
        return httpx.Response(200, json=[{"name": "desk", "address": agent, "validUntil": valid_until}])

    desk = Desk(peer)
    account = HyperliquidAccount(desk.client, USER.upper().replace("0X", "0x"), desk.clock)
    await account.check_agent(agent)
    desk.clock.ms = valid_until
    with pytest.raises(OperatorError, match="expired at 1757203200001"):
        await account.check_agent(agent)


def test_before_the_first_reading_nothing_was_not_understood() -> None:
    desk = Desk(lambda body: httpx.Response(200, json=None))
    assert HyperliquidAccount(desk.client, USER, desk.clock).not_understood == {}


async def test_an_odd_candle_is_left_out_and_no_candles_are_none() -> None:
    rows = [
        {
            "t": 0,
            "T": 59_999,
            "s": "SOL",
            "i": "1m",
            "o": "200.1",
            "c": "200.4",
            "h": "201",
            "l": "200",
            "v": "1",
            "n": 3,
        },
        {"t": 60_000, "T": 119_999, "s": "SOL", "i": "1m", "o": "NaN", "c": "200.4"},
    ]
    answers = iter([rows, None])
    desk = Desk(lambda request: httpx.Response(200, text=json.dumps(next(answers))))
    [candle] = await desk.client.candles("SOL", "1m", 0, 119_999)
    assert (candle.open_ms, candle.close_ms, candle.open_px) == (0, 59_999, Decimal("200.1"))
    assert "o is" in desk.client.oddities.words()["hyperliquid candleSnapshot 1m"]
    assert await desk.client.candles("SOL", "1m", 0, 119_999) == []


HOUR = 3_600_000
MIDNIGHT = 1_757_203_200_000


def bar(at: int, **fields: str | int | None) -> dict[str, Any]:
    """A candle of the `at`-th hour after midnight; a field given as None is missing."""
    opened = MIDNIGHT + at * HOUR
    row = {"t": opened, "T": opened + HOUR - 1, "o": "200", "c": "201", "h": "202", "l": "199", **fields}
    return {name: value for name, value in row.items() if value is not None}


async def test_a_candle_that_contradicts_itself_is_left_out_and_named() -> None:
    odd = [bar(1, h=None), bar(2, h="200.5"), bar(3, l="200.5"), bar(4, l="0"), bar(5, T=MIDNIGHT + 7 * HOUR)]
    other = [bar(at) for at in range(3)]
    answers = iter([[bar(0), *odd, bar(6), bar(9, h=None)], other])
    desk = Desk(lambda request: httpx.Response(200, text=json.dumps(next(answers))))
    desk.clock.ms = MIDNIGHT + 10 * HOUR
    market = MarketData(desk.client, desk.clock)
    found = await market.bars("SOL", HOUR, MIDNIGHT, desk.clock.ms)
    assert [one.open_ms for one in found] == [MIDNIGHT, MIDNIGHT + 6 * HOUR]
    await market.bars("SOL", 300_000, MIDNIGHT, desk.clock.ms)
    words = desk.client.oddities.words()["hyperliquid candleSnapshot 1h"]
    for place, what in (
        (1, "h is no number"),
        (2, "h is below"),
        (3, "l is above"),
        (4, "l is not"),
        (5, "T is"),
    ):
        assert f"2025-09-07T0{place}:00 {what}" in words, words
    assert "T09:00" not in words and words.count("row left out") == 5, "one that is not over is no oddity yet"


@pytest.mark.parametrize(("ours_ms", "counts"), [(9_000, False), (10_500, True)])
async def test_a_candle_is_final_ten_seconds_after_its_end(ours_ms: int, counts: bool) -> None:
    desk = Desk(lambda request: httpx.Response(200, text=json.dumps([bar(0)])))
    desk.clock.ms = MIDNIGHT + HOUR + ours_ms
    found = await MarketData(desk.client, desk.clock).bars("SOL", HOUR, MIDNIGHT, desk.clock.ms)
    assert bool(found) == counts


async def test_a_candle_is_final_by_the_time_of_the_venue() -> None:
    date = {"date": formatdate((MIDNIGHT + HOUR) // 1000, usegmt=True)}
    desk = Desk(lambda request: httpx.Response(200, text=json.dumps([bar(0)]), headers=date))
    market = MarketData(desk.client, desk.clock)
    for _ in range(KEPT):  # of five stamps the least counts: one may be an old answer
        desk.clock.ms = MIDNIGHT + HOUR + 60_000
        found = await market.bars("SOL", HOUR, MIDNIGHT, desk.clock.ms)
    assert found == []


@pytest.mark.parametrize(("ahead_ms", "believed"), [(4_000, True), (60_000, False), (3 * 24 * HOUR, False)])
async def test_a_stamp_that_its_own_answers_date_contradicts_moves_no_clock(
    ahead_ms: int, believed: bool
) -> None:
    """Nothing is signed by it, and no order that may still execute is called expired by it."""
    date = {"date": formatdate(MIDNIGHT // 1000, usegmt=True)}
    body = json.dumps({"assetPositions": [], "time": MIDNIGHT + ahead_ms})
    desk = Desk(lambda request: httpx.Response(200, text=body, headers=date))
    desk.clock.ms = MIDNIGHT
    state = await desk.client.clearinghouse_state(USER)
    assert state.time == (MIDNIGHT + ahead_ms if believed else None)
    assert desk.client.time.now_ms() == MIDNIGHT + (ahead_ms if believed else 0)
    [named] = desk.client.oddities.words().values()
    assert ("time" in named) is not believed
