"""The back-test decides on what was known, earns from the next hour on, and accounts for every cent."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from analytics.research.market import Market
from analytics.research.path import path_of_bars
from analytics.research.results import Run, by_rule, summarise
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from strategy.carry.funding import expected_hourly
from strategy.carry.limits import CarryLimits, StrategySettings
from tasks.research.assumptions import Assumptions
from tasks.research.backtest import Backtest, backtest, limits_at, span_of
from tasks.research.readings import knowledge
from tasks.research.simulation import Simulation
from tasks.research.study import cases, study
from tests.research.markets import FIRST_MS, calm, priced, stormy

RESTLESS = {"expected_funding_hours": 1, "exit_horizon_hours": 97}
"""Settings that come and go by the hour."""


def run(market: Market, leverage: int = 3, strategy: dict[str, int] | None = None, **assumed: object) -> Run:
    limits = CarryLimits(strategy=StrategySettings(leverage=leverage, **(strategy or {})))  # type: ignore[arg-type]
    return Simulation(market, limits, Assumptions(**assumed), 0, len(market)).run()  # type: ignore[arg-type]


def test_an_entry_waits_for_history_and_earns_from_the_next_hour_on() -> None:
    found = run(calm(40))
    [entry] = [one for one in found.trades if one.kind == "entry"]
    assert entry.at_ms == FIRST_MS + 24 * HOUR_MS
    assert found.equity[22] == 100_000
    assert found.equity[23] == pytest.approx(100_000 - entry.cost_usd)
    assert found.items["funding"] == pytest.approx(16 * 0.0000125 * found.notional[-1], rel=0.001)


@pytest.mark.parametrize("column", ["funding", "lend_apr", "borrow_apr"])
def test_hours_held_without_a_rate_are_counted(column: str) -> None:
    """Rows that a recording lost are no hours that cost nothing: the result says how many there were."""
    rates = getattr(calm(100), column).copy()
    rates[60:75] = np.nan
    assert run(calm(100, **{column: rates}), always_in=True).unrated_hours == 15
    assert run(calm(100), always_in=True).unrated_hours == 0


def test_what_is_earned_in_a_calm_year_is_the_arithmetic() -> None:
    found = summarise(run(calm(800), always_in=True))
    notional = 3 * 100_000 / 2 * 0.9
    yearly = notional * (0.1095 + 0.05) - notional * 2 / 3 * 0.06
    cost = notional * (15 + 1.75 + 4.5 + 1.25) / 10_000 + 1
    assert found.net_usd == pytest.approx(yearly * 799 / 8760 - cost, rel=0.01)
    assert (found.entries, found.exits, found.liquidations) == (1, 0, 0)


@pytest.mark.parametrize("leverage", [1, 2, 3])
def test_items_sum_to_what_was_earned(leverage: int) -> None:
    found = run(stormy(400, 5), leverage, always_in=True)
    assert sum(found.items.values()) == pytest.approx(found.equity[-1] - 100_000, abs=0.005)
    assert {one.kind for one in found.trades} > {"entry"}


def test_a_run_on_a_series_cut_at_any_hour_is_the_beginning_of_the_whole_run() -> None:
    market = stormy(110, 19, 0.02)
    whole = run(market, strategy=RESTLESS)
    assert {one.kind for one in whole.trades} >= {"entry", "exit", "resize", "reserve", "transfer", "grow"}
    chance = random.Random(1)
    for _ in range(50):
        hours = chance.randint(30, 109)
        part = run(market.cut(hours), strategy=RESTLESS)
        end_ms = FIRST_MS + hours * HOUR_MS
        assert part.equity == whole.equity[:hours]
        assert part.trades == [one for one in whole.trades if one.at_ms <= end_ms]


def test_a_fall_inside_the_hour_is_met_by_the_rules_before_the_lender() -> None:
    """The price falls by 18 % and is back within the hour: at its end nothing would be seen of it."""
    low, prices = np.full(40, 200.0), np.full(40, 200.0)
    low[30] = 164.0
    found = run(calm(40, open=prices, high=prices, low=low, close=prices))
    met = [one for one in found.trades if one.rule == "leg_margin"]
    assert [one.kind for one in met][:1] == ["reserve"]
    assert "resize" in [one.kind for one in met], "the reserve alone does not do"
    assert all(FIRST_MS + 30 * HOUR_MS < one.at_ms < FIRST_MS + 31 * HOUR_MS for one in met)
    assert not [one for one in found.trades if one.kind == "liquidation"]


def test_no_hour_without_a_price_decides_anything() -> None:
    market = calm(60)
    for name in ("open", "high", "low", "close"):
        getattr(market, name)[20:40] = np.nan
    found = run(market)
    assert found.gap_hours == 20
    assert [one.at_ms for one in found.trades] == [FIRST_MS + 41 * HOUR_MS]


def test_negative_carry_exits_and_the_baseline_stays() -> None:
    funding = np.full(120, 0.0000125)
    funding[60:] = -0.0002
    market = calm(120, funding=funding)
    assert [one.kind for one in run(market).trades] == ["entry", "exit"]
    held = run(market, always_in=True)
    assert [one.kind for one in held.trades] == ["entry"]
    assert by_rule(run(market))["carry"]["acted"] == 1


def test_costs_are_doubled_and_the_drawdown_is_from_the_highest() -> None:
    market = priced(np.linspace(200, 210, 100))
    once, twice = run(market, always_in=True), run(market, always_in=True, cost_factor=2.0)
    paid = once.items["fees"] + once.items["slippage"]
    assert twice.items["fees"] + twice.items["slippage"] == pytest.approx(2 * paid, rel=0.01)
    assert summarise(twice).max_drawdown > summarise(once).max_drawdown > 0


def test_a_span_or_leverage_that_cannot_be_is_refused() -> None:
    market = calm(48)
    assert span_of(market, FIRST_MS + HOUR_MS, FIRST_MS + 5 * HOUR_MS) == (1, 5)
    with pytest.raises(OperatorError, match="holds no hour"):
        span_of(market, FIRST_MS + 100 * HOUR_MS, None)
    with pytest.raises(OperatorError, match="outside 1 to 4"):
        limits_at(Settings(), 5)


def test_the_answer_has_what_a_program_reads() -> None:
    body = backtest(stormy(80, 3), Settings(), 2).as_dict()
    named = {"net_apr", "entries", "liquidations", "mean_notional_share", "transfers"}
    assert named <= set(body)
    assert named <= set(body["baseline"])
    assert sum(body["attribution_usd"].values()) == pytest.approx(body["net_usd"], abs=0.05)


def test_a_position_that_shrank_grows_back_once_the_money_has_come() -> None:
    """The price falls by an eighth: the long is mended from the wallet, the short's gain comes a day later, and both grow."""
    closes = np.concatenate((np.full(30, 200.0), np.linspace(200, 172, 20), np.full(80, 172.0)))
    found = run(priced(closes))
    kinds = [one.kind for one in found.trades if one.rule != "delta_drift"]
    assert kinds[0] == "entry"
    assert {"reserve", "resize", "transfer", "grow"} <= set(kinds)
    asked = next(one for one in found.trades if one.kind == "transfer")
    assert asked.cost_usd == 3
    shrunk = min(found.notional[31:])
    assert found.notional[-1] > shrunk * 1.1
    assert found.notional[-1] / found.target[-1] > 0.9
    alone = run(priced(closes), transfer_delay_hours=None)
    assert alone.notional[-1] < found.notional[-1]
    as_before = run(priced(closes), keeps_size=False)
    assert {one.kind for one in as_before.trades} == {"entry", "resize"}


def test_levelling_at_once_is_a_bound_that_keeps_the_size() -> None:
    closes = np.concatenate((np.full(30, 200.0), np.linspace(200, 150, 30), np.full(30, 150.0)))
    bound = run(priced(closes), margin_at_once=True, always_in=True)
    assert bound.notional[-1] / bound.target[-1] == pytest.approx(1, abs=0.15)
    assert sum(bound.items.values()) == pytest.approx(bound.equity[-1] - 100_000, abs=0.005)


def test_what_was_expected_is_the_mean_that_the_live_product_reads() -> None:
    market = stormy(300, 4)
    market.funding[100:120] = np.nan
    settings = StrategySettings()
    known = knowledge(market, CarryLimits())
    settled = [
        (market.start_ms(hour + 1) + 37, Decimal(repr(rate)))
        for hour, rate in enumerate(market.funding.tolist())
        if rate == rate
    ]
    for hour in (10, 30, 115, 250, 299):
        expected = expected_hourly(
            settled,
            market.start_ms(hour + 1) + 1000,
            settings.expected_funding_hours,
            settings.min_funding_history_hours,
        )
        if expected is None:
            assert np.isnan(known[hour].expected_hourly)
        else:
            assert known[hour].expected_hourly == pytest.approx(float(expected))


def test_a_study_names_every_run_and_changes_one_thing_each() -> None:
    lines = list(study(stormy(60, 2), Settings(), None, only="ten points"))
    assert lines[0].startswith("### Ten points less funding a year (jitoSOL)")
    rows = [line for line in lines if line.startswith("| the rules")]
    assert [row.split(" | ")[1] for row in rows] == ["1x", "2x", "3x", "4x"]
    headings = list(cases())
    assert len(headings) == len(set(headings)) == 6
    assert all(1 <= case.leverage <= 4 for rows in cases().values() for case in rows)


def test_a_token_whose_redemption_rate_is_not_known_is_not_bought() -> None:
    """Its first known rate is no gain, and an hour without one leaves it as it was."""
    known = np.full(60, 1.2)
    known[:40], known[50] = np.nan, np.nan
    found = run(calm(60, "jitoSOL", redemption=known), always_in=True)
    [entry] = [one for one in found.trades if one.kind == "entry"]
    assert entry.at_ms == FIRST_MS + 41 * HOUR_MS
    assert found.items["staking"] == 0
    assert not np.isnan(found.equity).any()


def test_the_way_inside_an_hour_is_walked_where_it_is_known() -> None:
    """The hour's candle alone has its low before its high; the way along candles of five minutes says the contrary."""
    low, high = np.full(40, 200.0), np.full(40, 200.0)
    low[30], high[30] = 164.0, 201.0
    market = calm(40, high=high, low=low)
    bars = [(200.0, 200.0, 200.0, 200.0)] * 10 + [(200.0, 200.0, 164.0, 164.0), (164.0, 201.0, 164.0, 200.0)]
    finer = replace(market, inner={30: path_of_bars(bars)})
    acted = [
        min(one.at_ms for one in run(one_market).trades if one.rule == "leg_margin")
        for one_market in (market, finer)
    ]
    begin = FIRST_MS + 30 * HOUR_MS
    assert acted[0] < begin + 20 * 60_000
    assert begin + 50 * 60_000 < acted[1] < begin + 56 * 60_000


def deleveraged(hours: int, at_hour: int, share: float, **assumed: object) -> Backtest:
    chosen = Assumptions(deleveraged_ms=FIRST_MS + at_hour * HOUR_MS, deleveraged_share=share, **assumed)  # type: ignore[arg-type]
    return backtest(calm(hours), Settings(), 2, assumed=chosen)


def test_after_an_auto_deleveraging_the_rules_sell_the_missing_part_again_at_once() -> None:
    found = deleveraged(60, 30, 0.5)
    assert found.deleveraged is not None
    without = found.deleveraged.without
    at = next(place for place, one in enumerate(found.run.trades) if one.kind == "deleveraging")
    taken, mended = found.run.trades[at : at + 2]
    assert FIRST_MS + 30 * HOUR_MS < taken.at_ms == mended.at_ms < FIRST_MS + 31 * HOUR_MS
    assert (mended.kind, mended.rule, taken.cost_usd) == ("resize", "delta_drift", 0)
    assert found.run.equity[:30] == without.equity[:30], "what comes later is not known before"
    said = found.as_dict()["deleveraging"]
    half_usd = 0.5 * found.run.notional[30]
    costs = CarryLimits().strategy.costs
    bps = float(costs.short_taker_fee_bps + costs.short_slippage_bps)
    assert said["cost_usd"] == pytest.approx(half_usd * bps / 10_000 + float(costs.gas_usd) / 2, rel=0.01)
    assert [one["rule"] for one in said["then"]] == ["delta_drift"]
    assert (said["happened"], said["without"]["resizes"] + 1) == (True, found.as_dict()["resizes"])


def test_a_short_that_is_closed_whole_ends_the_position() -> None:
    found = deleveraged(60, 30, 1.0)
    said = found.as_dict()["deleveraging"]
    assert next((one["kind"], one["rule"]) for one in said["then"]) == ("exit", "missing_leg")
    assert sum(found.run.items.values()) == pytest.approx(found.run.equity[-1] - 100_000, abs=0.005)


def test_an_auto_deleveraging_needs_a_short_and_lies_in_the_span() -> None:
    nothing = deleveraged(60, 3, 0.5)
    said = nothing.as_dict()["deleveraging"]
    assert (said["happened"], said["cost_usd"], said["then"]) == (False, 0, [])
    with pytest.raises(OperatorError, match="outside of the span"):
        deleveraged(60, 60, 0.5)


def in_a_gap(hours: int, gap: range, at_hour: int) -> Backtest:
    """An auto-deleveraging in hours without a price."""
    market = calm(hours)
    for name in ("open", "high", "low", "close"):
        getattr(market, name)[list(gap)] = np.nan
    chosen = Assumptions(deleveraged_ms=FIRST_MS + at_hour * HOUR_MS, deleveraged_share=0.5)
    return backtest(market, Settings(), 2, assumed=chosen)


def test_an_auto_deleveraging_in_a_gap_comes_with_the_next_price() -> None:
    found = in_a_gap(60, range(30, 36), 30)
    said = found.as_dict()["deleveraging"]
    [taken] = [one for one in found.run.trades if one.kind == "deleveraging"]
    assert FIRST_MS + 36 * HOUR_MS < taken.at_ms < FIRST_MS + 37 * HOUR_MS
    assert (said["happened"], said["why_not"]) == (True, None)
    assert [one["rule"] for one in said["then"]] == ["delta_drift"], "by the time that it happened"


def test_why_no_auto_deleveraging_happened_is_said() -> None:
    assert (
        in_a_gap(60, range(50, 60), 52).as_dict()["deleveraging"]["why_not"] == "no price follows in the span"
    )
    assert deleveraged(60, 3, 0.5).as_dict()["deleveraging"]["why_not"] == "no short was open"
    assert in_a_gap(60, range(3, 6), 3).as_dict()["deleveraging"]["why_not"] == "no short was open"
