"""The twin's answers have the keys and number formats of the venue's recorded ones; the formula gives its rates."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hyperliquid_twin import GTC, Desk
from twins.hyperliquid.funding import hourly_rate, payment_usd
from twins.world import HOUR_MS

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data")
API = DATA / "hyperliquid-api"
NUMBER = re.compile(r"-?\d+\.\d+")
pytestmark = pytest.mark.skipif(not API.is_dir(), reason="no recorded data (EVENKEEL_DATA or ../shared/data)")


def recorded(name: str) -> Any:
    return json.loads((API / "info" / f"{name}.json").read_text())[0]["response"]


def excerpt(name: str) -> Any:
    return json.loads((API / "excerpts-2026-07-19" / f"{name}.json").read_text())["selection"]


@pytest.fixture
def desk() -> Desk:
    """A trader with a position, fills, funding, a resting order and an agent."""
    desk = Desk()
    desk.order(False, "10", "199", cloid="0x" + "0" * 31 + "1")
    desk.order(True, "3", "201")
    desk.advance(3 * HOUR_MS)
    desk.order(False, "1", "205", GTC)
    agent = "0x" + "1" * 40
    desk.twin.control("approve_agent", {"master": desk.address, "agent": agent, "name": "bot"})
    return desk


def same_shape(ours: Any, theirs: Any, path: str = "", optional: frozenset[str] = frozenset()) -> None:
    """Same keys and JSON types, and decimal strings in the same notation; lists compare their first elements."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), path
        assert set(ours) - optional == set(theirs) - optional, (path, set(ours) ^ set(theirs))
        for key in set(theirs) & set(ours) - optional:
            same_shape(ours[key], theirs[key], f"{path}.{key}", optional)
    elif isinstance(theirs, list):
        assert isinstance(ours, list), path
        if theirs and ours:
            same_shape(ours[0], theirs[0], f"{path}[0]", optional)
    elif theirs is not None and ours is not None:
        assert type(ours) is type(theirs), (path, ours, theirs)
        if isinstance(theirs, str) and NUMBER.fullmatch(theirs):
            assert NUMBER.fullmatch(ours), (path, ours, theirs)
            assert ours.endswith(".0") or not ours.endswith("0"), (path, ours)


def test_clearinghouse_state(desk: Desk) -> None:
    sample = json.loads((API / "client-samples.json").read_text())["Futures/Account/GetAccountInfo"][
        "response"
    ]
    state = desk.mine("clearinghouseState")
    same_shape(state, sample, optional=frozenset({"rawUsd"}))
    assert list(state["marginSummary"]) == list(sample["marginSummary"])


def test_fills_order_status_and_open_orders(desk: Desk) -> None:
    m4 = excerpt("m4")
    fills = desk.mine("userFillsByTime", startTime=0, endTime=None, aggregateByTime=False)
    same_shape(fills, m4["fills"], optional=frozenset({"cloid"}))
    same_shape(desk.mine("orderStatus", oid=fills[0]["oid"]), m4["orderStatus"])
    same_shape(desk.mine("openOrders"), m4["openOrders"])
    assert len({row["tid"] for row in fills}) == len(fills)
    front = [row for row in recorded("get_frontend_open_orders")]
    same_shape(desk.mine("frontendOpenOrders")[0], front[0], optional=frozenset({"cloid", "tif"}))


def test_funding_rows(desk: Desk) -> None:
    m2 = excerpt("m2")
    same_shape(desk.mine("userFunding", startTime=0), m2["funding"], optional=frozenset({"hash"}))
    same_shape(desk.info("fundingHistory", coin="SOL", startTime=0), m2["btcFundingHistory"])


def test_market_answers(desk: Desk) -> None:
    message = json.loads((API / "ws" / "all_dexs_asset_ctxs.json").read_text())
    contexts = message["data"]["ctxs"][0][1]
    ours = desk.info("metaAndAssetCtxs")[1]
    same_shape(ours[5], contexts[5])
    delisted = next(one for one in contexts if one["midPx"] is None)
    assert set(ours[3]) == set(delisted)
    book = json.loads((API / "info" / "get_l2_snapshot.json").read_text())[-1]["response"]
    same_shape(desk.info("l2Book", coin="SOL"), book)
    for row, theirs in zip(desk.info("meta")["universe"], excerpt("m1")["perpUniverse"], strict=False):
        assert row == {key: value for key, value in theirs.items() if key != "index"}


def test_account_reads(desk: Desk) -> None:
    same_shape(desk.mine("extraAgents"), recorded("extra_agents"))
    rows = recorded("user_non_funding_ledger_updates_without_end_time")
    same_shape(desk.mine("userNonFundingLedgerUpdates", startTime=0, endTime=None), rows)
    optional = frozenset({"nRequestsSurplus"})
    same_shape(desk.mine("userRateLimit"), recorded("user_rate_limit"), optional=optional)
    ours, theirs = desk.mine("portfolio"), recorded("portfolio")
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    same_shape(ours[0][1], theirs[0][1])


def test_the_formula_prints_every_recorded_sol_rate() -> None:
    checked = 0
    with gzip.open(DATA / "hyperliquid-funding" / "SOL_hourly.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            recorded_rate = Decimal(row["funding_rate"])
            assert abs(hourly_rate(Decimal(row["premium"])) - recorded_rate) <= Decimal("0.0000000001"), row
            checked += 1
    assert checked == 7_636


def test_recorded_payments_have_the_sign_of_the_twin_s() -> None:
    """Income of the account has the opposite sign of size x rate."""
    rows = recorded("user_funding_history_with_end_time") + [
        {"delta": {"type": "funding", **row["delta"]}} for row in excerpt("m2")["funding"]
    ]
    assert len(rows) == 18
    for row in rows:
        delta = row["delta"]
        product = Decimal(delta["szi"]) * Decimal(delta["fundingRate"])
        ours = payment_usd(Decimal(delta["szi"]), Decimal(1), Decimal(delta["fundingRate"]))
        assert Decimal(delta["usdc"]) * product < 0 and ours * Decimal(delta["usdc"]) >= 0
