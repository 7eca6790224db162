"""Recorded answers of the venue parse with our models, and carry the signs and identities that we rely on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from venues.hyperliquid import models as m
from venues.hyperliquid.account import to_payment
from venues.hyperliquid.orders import to_fill

HOUR_MS = 3_600_000
DATA = (
    Path(os.environ.get("EVENKEEL_DATA", Path(__file__).parents[3] / "shared" / "data")) / "hyperliquid-api"
)
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data at {DATA} (set EVENKEEL_DATA)")


def load(name: str) -> Any:
    return json.loads((DATA / name).read_text(), parse_float=Decimal)


def recorded(name: str, kind: str) -> Any:
    """The answer to the request of this type in a recording of `/info`."""
    return next(row["response"] for row in load(f"info/{name}.json") if row["request"]["type"] == kind)


def funding_rows() -> Iterator[m.WireUserFunding]:
    for path in sorted(DATA.glob("info/user_funding_history*.json")):
        for row in json.loads(path.read_text()):
            if row["request"]["type"] == "userFunding":
                yield from TypeAdapter(list[m.WireUserFunding]).validate_python(row["response"])
    yield from TypeAdapter(list[m.WireUserFunding]).validate_python(
        load("excerpts-2026-07-19/m2.json")["selection"]["funding"]
    )


def test_every_recorded_payment_has_the_sign_of_a_short_that_receives_positive_funding() -> None:
    payments = [to_payment("0x" + "00" * 20, row) for row in funding_rows()]
    assert len(payments) >= 18
    sides = set()
    for payment in payments:
        income = -payment.position_size * payment.funding_rate_hourly
        assert payment.usdc * income > 0, payment
        assert payment.hour_ms % HOUR_MS == 0 and 0 <= payment.time_ms - payment.hour_ms < HOUR_MS
        sides.add((payment.position_size > 0, payment.funding_rate_hourly > 0))
    assert (False, True) in sides and (True, True) in sides and (True, False) in sides


def test_income_is_minus_size_times_oracle_times_rate() -> None:
    """Inverted, the hourly rows of 2026-07-19 give the oracle prices of that day."""
    selection = load("excerpts-2026-07-19/m2.json")["selection"]
    today = Decimal(selection["btcAssetContext"]["oraclePx"])
    rows = TypeAdapter(list[m.WireUserFunding]).validate_python(selection["funding"])
    bitcoin = [row.delta for row in rows if row.delta.coin == "BTC"]
    assert bitcoin
    for delta in bitcoin:
        oracle = delta.usdc / (-delta.szi * delta.funding_rate)
        assert abs(oracle / today - 1) < Decimal("0.02")


def test_the_recorded_account_keeps_the_identities() -> None:
    state = m.WireClearinghouseState.model_validate(recorded("get_user_state", "clearinghouseState"))
    held = [row.position for row in state.asset_positions]
    signed = sum((p.position_value if p.szi > 0 else -p.position_value for p in held), Decimal(0))
    assert state.margin_summary.account_value == state.margin_summary.total_raw_usd + signed
    for p in held:
        assert abs(p.margin_used - p.position_value / p.leverage.value) < Decimal("0.000002")


def test_recorded_liquidation_prices_of_five_shorts_follow_from_one_rate() -> None:
    state = m.WireClearinghouseState.model_validate(recorded("get_user_state", "clearinghouseState"))
    value, notional = state.cross_margin_summary.account_value, state.cross_margin_summary.total_ntl_pos
    shorts = [row.position for row in state.asset_positions if row.position.szi < 0]
    assert len(shorts) == 5
    first = shorts[0]
    assert first.liquidation_px is not None
    gap = (first.liquidation_px - first.mark_px) * abs(first.szi)
    rate = (value - gap) / (notional + gap)
    for p in shorts:
        found = p.mark_px + (value - notional * rate) / abs(p.szi) / (1 + rate)
        assert p.liquidation_px is not None
        assert abs(found / p.liquidation_px - 1) < Decimal("1e-8"), p.coin


def test_a_recorded_isolated_account_parses() -> None:
    state = m.WireClearinghouseState.model_validate(
        load("client-samples.json")["Futures/Account/GetAccountInfo"]["response"]
    )
    held = state.position("HYPE")
    assert held is not None and held.leverage.type == "isolated" and state.time == 1754467216357
    assert held.leverage.raw_usd is not None
    assert held.margin_used == held.position_value + held.leverage.raw_usd
    assert state.szi("SOL") == 0


def test_recorded_markets_parse() -> None:
    meta = m.WireMeta.model_validate(recorded("get_info", "meta"))
    assert meta.universe[5].name == "SOL" and meta.universe[5].sz_decimals == 2
    m.WireMeta.model_validate(load("info/meta_perp_sample.json"))
    book = m.WireBook.model_validate(recorded("get_l2_snapshot", "l2Book"))
    assert book.levels[0][0].px < book.levels[1][0].px
    assert m.WireBook.model_validate(load("info/l2_book_btc.json")).time == 1761786491067
    sample = load("client-samples.json")["Futures/ExchangeData/GetExchangeInfoAndTickers"]["response"]
    _, contexts = TypeAdapter(tuple[m.WireMeta, list[m.WireAssetCtx]]).validate_python(sample)
    assert contexts[0].funding == Decimal("0.0000125")
    rates = TypeAdapter(list[m.WireFundingRate]).validate_python(
        recorded("get_funding_history_None", "fundingHistory")
    )
    assert len(rates) == 1038


def test_recorded_contexts_of_a_whole_dex_parse() -> None:
    message = load("ws/all_dexs_asset_ctxs.json")
    first = message["data"]["ctxs"][0][1]
    contexts = TypeAdapter(list[m.WireAssetCtx]).validate_python(first)
    assert len(contexts) == 230 and any(ctx.mid_px is None for ctx in contexts)


def test_recorded_fills_parse_and_have_unique_ids() -> None:
    old = TypeAdapter(list[m.WireFill]).validate_python(recorded("get_user_fills", "userFills"))
    new = TypeAdapter(list[m.WireFill]).validate_python(
        load("excerpts-2026-07-19/m4.json")["selection"]["fills"]
        + load("excerpts-2026-07-19/m2.json")["selection"]["fills"]
    )
    assert len(old) == 500 and len({row.fill_id for row in new}) == len(new) == 12
    for row in old + new:
        fill = to_fill(row)
        assert fill.qty > 0 and fill.side == ("buy" if row.side == "B" else "sell")


def test_recorded_order_and_exchange_answers_parse() -> None:
    status = m.WireOrderStatus.model_validate(load("excerpts-2026-07-19/m4.json")["selection"]["orderStatus"])
    assert status.order is not None and status.order.status == "filled" and status.order.is_final
    assert status.order.order.orig_sz == Decimal("0.56") and status.order.order.cloid is None
    answers = load("exchange-and-fills.json")
    filled = m.order_answers(answers["order_market_sell_filled"])
    assert isinstance(filled[0], m.OrderFilled) and filled[0].total_sz == 1
    three = m.order_answers(answers["order_with_take_profit_and_stop_loss"])
    assert [type(row) for row in three] == [m.OrderFilled, m.OrderWaiting, m.OrderWaiting]
    resting = m.order_answers(load("client-samples.json")["Spot/Trading/PlaceOrder"]["response"])
    assert resting == [m.OrderResting(oid=77738308)]


def test_recorded_account_facts_parse() -> None:
    agents = TypeAdapter(list[m.WireAgent]).validate_python(recorded("extra_agents", "extraAgents"))
    assert agents[0].valid_until == 1767776120478
    ledger = TypeAdapter(list[m.WireLedgerUpdate]).validate_python(
        recorded("user_non_funding_ledger_updates_without_end_time", "userNonFundingLedgerUpdates")
    )
    assert {"deposit", "accountClassTransfer", "spotTransfer"} <= {row.delta["type"] for row in ledger}
