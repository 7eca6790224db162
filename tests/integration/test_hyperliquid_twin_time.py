"""What time does on the twin: funding by the hour, liquidation on the price path, margin figures, rate limits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from decimal import Decimal

import httpx
import pytest

from tests.integration.hyperliquid_twin import Desk, wallet
from tests.worlds import START_MS, FlatSeries
from twins.clock import TwinClock
from twins.faults import FaultPlan
from twins.hyperliquid import HyperliquidTwin
from twins.hyperliquid.funding import hourly_rate, payment_usd
from twins.hyperliquid.margin import liquidation_price
from twins.hyperliquid.meta import BY_NAME, maintenance
from twins.hyperliquid.numbers import num
from twins.world import HOUR_MS, World


@pytest.mark.parametrize(
    ("premium", "rate"),
    [
        ("-0.002", "-0.0001875"),
        ("-0.001", "-0.0000625"),
        ("-0.0006", "-0.0000125"),
        ("-0.0005", "0.0"),
        ("-0.0004", "0.0000125"),
        ("0.0006", "0.0000125"),
        ("0.001", "0.0000625"),
        ("0.9", "0.04"),
        ("-0.9", "-0.04"),
    ],
)
def test_funding_formula_with_dead_zone_and_cap(premium: str, rate: str) -> None:
    assert num(hourly_rate(Decimal(premium))) == rate


def test_payments_have_the_sign_and_size_of_recorded_rows() -> None:
    """Mainnet rows of 2026-07-19: a long pays, a short receives at a positive rate."""
    rate = Decimal("0.0000125")
    assert payment_usd(Decimal("0.22273"), Decimal("64295.3"), rate) == Decimal("-0.179006")
    assert payment_usd(Decimal("-123824.3"), Decimal("0.12058"), rate) == Decimal("0.186634")


@pytest.mark.parametrize("premium", [0.0003, 0.0012, -0.0012, 0.0])
def test_the_context_reproduces_the_premium_and_the_running_rate(premium: float) -> None:
    desk = Desk(hourly_premium=premium, price=187.4321)
    context = desk.info("metaAndAssetCtxs")[1][5]
    oracle = Decimal(context["oraclePx"])
    bid, ask = map(Decimal, context["impactPxs"])
    formula = (max(bid - oracle, Decimal(0)) - max(oracle - ask, Decimal(0))) / oracle
    assert formula.quantize(Decimal("0.0000000001")) == Decimal(context["premium"]) == Decimal(str(premium))
    assert Decimal(context["funding"]) == hourly_rate(Decimal(str(premium)))
    book = desk.info("l2Book", coin="SOL")["levels"]
    tick = Decimal("0.01")
    assert abs(Decimal(book[0][0]["px"]) - bid) <= tick and abs(Decimal(book[1][0]["px"]) - ask) <= tick
    assert Decimal(book[0][0]["px"]) < Decimal(book[1][0]["px"])
    within = Decimal(book[0][0]["px"]) * Decimal("0.999")
    depth = sum(Decimal(one["px"]) * Decimal(one["sz"]) for one in book[0] if Decimal(one["px"]) >= within)
    assert 300_000 < depth < 1_000_000


@pytest.mark.parametrize("premium", [0.0012, -0.0012])
def test_every_hour_is_settled_once_however_far_the_clock_jumps(premium: float) -> None:
    desk = Desk("100000", hourly_premium=premium)
    desk.order(False, "10", "199")
    desk.advance(700 * HOUR_MS + 5_000)
    first = desk.mine("userFunding", startTime=0, endTime=None)
    assert len(first) == 500
    rest = desk.mine("userFunding", startTime=first[-1]["time"] + 1)
    rows = first + rest
    assert len(rows) == 700 and len({row["time"] // HOUR_MS for row in rows}) == 700
    assert all(0 < row["time"] % HOUR_MS < 1000 for row in rows)
    rate = hourly_rate(Decimal(str(premium)))
    expected = payment_usd(Decimal(-10), Decimal(200), rate)
    assert {row["delta"]["usdc"] for row in rows} == {num(expected)}
    assert (expected > 0) == (premium > 0)  # the short receives when the rate is positive
    paid = Decimal(desk.position()["cumFunding"]["sinceOpen"])  # type: ignore[index]
    assert paid == -700 * expected  # the counter runs the other way
    history = desk.info("fundingHistory", coin="SOL", startTime=START_MS - 5 * HOUR_MS, endTime=None)
    assert len(history) == 500 and history[0]["time"] < START_MS < history[-1]["time"]
    assert [b["time"] // HOUR_MS - a["time"] // HOUR_MS for a, b in itertools.pairwise(history)] == (
        [1] * 499
    )
    desk.check_ledger()


def test_small_steps_and_one_jump_pay_the_same() -> None:
    totals = []
    for step in (HOUR_MS // 4, 6 * HOUR_MS):
        desk = Desk("100000", hourly_premium=0.0009)
        desk.order(False, "10", "199")
        for _ in range(6 * HOUR_MS // step):
            desk.advance(step)
        desk.advance(1_000)
        totals.append([row["delta"]["usdc"] for row in desk.mine("userFunding", startTime=0)])
    assert totals[0] == totals[1] and len(totals[0]) == 6


@dataclass
class SpikeSeries(FlatSeries):
    """A price that runs up for ten minutes inside one hour and is back before its end."""

    factor: float = 1.5

    def sol_price(self, t_ms: int) -> float:
        minute = (t_ms - START_MS) // 60_000
        return self.price * (self.factor if 100 <= minute < 110 else 1.0)


def _spiked(factor: float, equity: str, size: str) -> tuple[HyperliquidTwin, str]:
    world = World(SpikeSeries(factor=factor), TwinClock(START_MS, stepped=True))
    twin = HyperliquidTwin(world, FaultPlan())
    desk = Desk.__new__(Desk)
    desk.world, desk.twin, desk.wallet = world, twin, wallet(1001)
    desk.address = desk.wallet.address.lower()
    desk._nonces = iter(range(START_MS, START_MS + 100))  # type: ignore[assignment]
    twin.control("fund", {"address": desk.address, "usdc": equity})
    assert "filled" in desk.order(False, size, "199")
    world.clock.advance_to(START_MS + 24 * HOUR_MS)
    twin.catch_up()
    desk.check_ledger()
    return twin, desk.address


def test_a_jump_over_a_spike_still_liquidates_on_the_path() -> None:
    twin, address = _spiked(1.03, "1050", "100")
    dump = twin.control("ledger", {})["accounts"][address]
    liquidated = [row for row in dump["fills"] if "liquidation" in row]
    assert dump["positions"] == [] and liquidated
    assert {row["liquidation"]["method"] for row in liquidated} == {"market"}
    assert liquidated[0]["liquidation"]["liquidatedUser"] == address
    assert START_MS + 100 * 60_000 <= liquidated[0]["time"] <= START_MS + 101 * 60_000
    assert Decimal(dump["account_value_usd"]) > 0


def test_a_large_position_is_cut_by_a_fifth_first() -> None:
    twin, address = _spiked(1.03, "52500", "5000")
    dump = twin.control("ledger", {})["accounts"][address]
    cut = sum(Decimal(row["sz"]) for row in dump["fills"] if "liquidation" in row)
    assert cut == 1_000 and dump["positions"][0]["szi"] == "-4000.0"


def test_far_below_maintenance_the_backstop_takes_everything() -> None:
    twin, address = _spiked(1.04, "1050", "100")
    dump = twin.control("ledger", {})["accounts"][address]
    assert [row["dir"] for row in dump["fills"] if "liquidation" in row] == ["Liquidated Cross Short"]
    row = dump["ledger"][-1]["delta"]
    assert (row["type"], row["leverageType"]) == ("liquidation", "Cross")
    assert Decimal(dump["account_value_usd"]) == 0


def test_a_safe_short_survives_the_spike() -> None:
    twin, address = _spiked(1.04, "20000", "100")
    dump = twin.control("ledger", {})["accounts"][address]
    assert dump["positions"][0]["szi"] == "-100.0" and len(dump["fundings"]) >= 23


def test_maintenance_tiers_of_sol() -> None:
    sol = BY_NAME["SOL"]
    assert maintenance(sol, Decimal(70_000_000)) == Decimal(1_750_000)
    assert maintenance(sol, Decimal(80_000_000)) == Decimal(80_000_000) / 20 - 1_750_000


@pytest.mark.parametrize(
    ("m", "distance"),
    [("1", "0.951"), ("0.5", "0.463"), ("0.2", "0.171"), ("0.1", "0.073"), ("0.05", "0.024")],
)
def test_liquidation_price_of_a_cross_short(m: str, distance: str) -> None:
    """(m - l) / (1 + l) with l = 2.5 %, m = equity over notional."""
    mark, size = Decimal(200), Decimal(-10)
    notional = mark * 10
    available = Decimal(m) * notional - maintenance(BY_NAME["SOL"], notional)
    px = liquidation_price(mark, size, available, Decimal("0.025"))
    assert px is not None and round(px / mark - 1, 3) == Decimal(distance)


def test_liquidation_price_of_a_recorded_isolated_long() -> None:
    """Recorded 2025-08-06: HYPE, 10x, rawUsd -68.126246, value 75.652, liquidationPx 35.8559189474."""
    value, mark = Decimal("75.652"), Decimal("37.826")
    margin = value - Decimal("68.126246")
    px = liquidation_price(mark, Decimal(2), margin - value * Decimal("0.05"), Decimal("0.05"))
    assert px == Decimal("35.8559189474")


def test_state_identities() -> None:
    desk = Desk("5000")
    desk.leverage(4)
    desk.order(False, "30", "199")
    state, held = desk.mine("clearinghouseState"), desk.position()
    assert held is not None
    summary = {key: Decimal(value) for key, value in state["marginSummary"].items()}
    value = Decimal(held["positionValue"])
    assert summary["accountValue"] == summary["totalRawUsd"] - value
    assert Decimal(held["marginUsed"]) == value / 4
    mark = Decimal(desk.info("metaAndAssetCtxs")[1][5]["markPx"])
    assert value == 30 * mark
    required = Decimal(state["crossMaintenanceMarginUsed"])
    expected = liquidation_price(mark, Decimal(-30), summary["accountValue"] - required, Decimal("0.025"))
    assert Decimal(held["liquidationPx"]) == expected


def test_adl_takes_part_of_the_short_without_an_order() -> None:
    desk = Desk()
    desk.order(False, "10", "199")
    orders = len(desk.mine("historicalOrders"))
    desk.twin.control("adl", {"address": desk.address, "coin": "SOL", "fraction": "0.4"})
    fill = desk.mine("userFills")[0]
    assert (fill["sz"], fill["dir"], fill["fee"]) == ("4.0", "Auto-Deleveraging", "0.0")
    assert desk.position()["szi"] == "-6.0"  # type: ignore[index]
    assert len(desk.mine("historicalOrders")) == orders
    assert desk.mine("orderStatus", oid=fill["oid"]) == {"status": "unknownOid"}
    desk.twin.control("liquidate", {"address": desk.address, "coin": "SOL"})
    assert desk.position() is None and "liquidation" in desk.mine("userFills")[0]
    desk.check_ledger()


def test_order_records_are_evicted_after_two_thousand() -> None:
    desk = Desk()
    cloid = "0x" + "a" * 32
    desk.order(False, "1", "199", cloid=cloid)
    account = desk.twin.engine.accounts[desk.address]
    empty = {"a": 5, "b": False, "p": "199", "s": "0", "r": False, "t": {"limit": {"tif": "Ioc"}}}
    for _ in range(10):
        desk.act({"type": "order", "orders": [empty] * 200, "grouping": "na"})
    assert len(account.order_records) == 2_000
    assert desk.mine("orderStatus", oid=cloid) == {"status": "unknownOid"}
    assert desk.mine("userFills")[0]["cloid"] == cloid


async def test_http_envelope_weights_and_halts() -> None:
    desk = Desk()
    transport = httpx.ASGITransport(app=desk.twin.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://twin") as client:
        bad = await client.post("/info", json={"type": "nope"})
        assert (bad.status_code, bad.text) == (
            422,
            "Failed to deserialize the JSON body into the target type",
        )
        assert bad.headers["content-type"].startswith("text/plain")
        assert (await client.post("/exchange", content=b"{")).status_code == 422
        answer = await client.post("/exchange", json=desk.body({"type": "noop"}))
        assert answer.json() == {"status": "ok", "response": {"type": "default"}}
        desk.advance(60_000)
        desk.twin.ip_weight_per_minute = 45
        codes = [(await client.post("/info", json={"type": "meta"})).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert (await client.post("/info", json={"type": "allMids"})).status_code == 200
        desk.advance(60_000)
        assert (await client.post("/info", json={"type": "meta"})).status_code == 200
        desk.twin.control("halt", {})
        assert (await client.post("/exchange", json=desk.body({"type": "noop"}))).status_code == 502
        assert (await client.post("/info", json={"type": "allMids"})).status_code == 502
        desk.twin.control("resume", {})
        assert (await client.post("/info", json={"type": "allMids"})).status_code == 200


def test_call_names() -> None:
    name = HyperliquidTwin.call_name
    assert name("POST", "/info", b'{"type": "clearinghouseState"}') == "info:clearinghouseState"
    assert name("POST", "/exchange", b'{"action": {"type": "order"}}') == "exchange:order"
    assert name("POST", "/exchange", b"{") == "exchange:?" and name("GET", "/ws", b"") == "GET /ws"
