"""The books and the watch on both databases: collecting twice adds nothing, and nothing is written over."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from evenkeel.errors import Bug, LostRace
from evenkeel.legs import CARRY, FundingPayment, LegSide
from evenkeel.types import Fill, VenueName
from state.carry.models import PositionSnapshot
from state.fills import Owner
from state.ledger_models import Fee, PriceSnapshot, RateSnapshot
from state.store import Store
from state.watch_models import Heartbeat, Severity
from tests.databases import ManualClock, database_fixtures, spec

HOUR_MS = 3_600_000
databases, url, store = database_fixtures()


MINE = Owner(CARRY, "p1", LegSide.SHORT)


def clock_of(store: Store) -> ManualClock:
    assert isinstance(store.clock, ManualClock)
    return store.clock


def fill(fill_id: str = "f1", qty: str = "1.50", time_ms: int = 5, fee: str = "0.1") -> Fill:
    return Fill(
        fill_id=fill_id,
        venue=VenueName.HYPERLIQUID,
        asset="SOL",
        side="sell",
        qty=Decimal(qty),
        price_usd=Decimal("201.25"),
        fee_usd=Decimal(fee),
        closed_pnl_usd=Decimal("-0.5"),
        order_ref="0xabc",
        time_ms=time_ms,
    )


def payment(hour: int, usdc: str = "0.031415", account: str = "0xA", coin: str = "SOL") -> FundingPayment:
    return FundingPayment(
        venue="hyperliquid",
        account=account,
        coin=coin,
        hour_ms=hour * HOUR_MS,
        time_ms=hour * HOUR_MS + 63,
        usdc=Decimal(usdc),
        position_size=Decimal("-1.5"),
        funding_rate_hourly=Decimal("0.0000125"),
    )


def test_a_fill_seen_first_by_the_collector_gains_its_owner_later(store: Store) -> None:
    store.plan_intent(spec("i1"))
    assert store.record_fills([fill(), fill("f2", time_ms=4)]) == 2
    assert store.record_fills([fill()]) == 0
    assert store.fills_of(CARRY, "p1") == []
    assert [row.fill_id for row in store.fills()] == ["f2", "f1"]
    assert [row.fill_id for row in store.fills(since_ms=4, until_ms=5)] == ["f2"]
    assert store.record_fills([fill()], MINE._replace(intent_id="i1")) == 0
    mine = store.fills_of(CARRY, "p1")
    assert [(row.intent_id, row.part, row.fill) for row in mine] == [("i1", LegSide.SHORT, fill())]
    fees = store.fees(CARRY, "p1")
    assert [(f.kind, f.amount_usd, f.intent_id) for f in fees] == [("hl_taker", Decimal("0.1"), "i1")]
    store.record_fills([fill()])
    assert store.fills_of(CARRY, "p1") == mine


def test_a_fill_is_never_written_over_nor_taken_from_its_owner(store: Store) -> None:
    store.carry.create_position("p2", asset="SOL", leverage=Decimal(3))
    store.record_fills([fill()], MINE)
    before = (store.fills(), store.fees(CARRY, "p1"))
    with pytest.raises(Bug, match="other figures"):
        store.record_fills([fill("new"), fill(qty="1.51")], MINE)
    for theirs, said in (
        ({"subject": "p2"}, "subject p1, not to p2"),
        ({"business": "shop"}, "business carry, not to shop"),
        ({"part": LegSide.LONG}, "part short, not to long"),
    ):
        with pytest.raises(Bug, match=f"belongs to {said}"):
            store.record_fills([fill()], MINE._replace(**theirs))
    assert [row.fill for row in store.fills()] == [fill()]
    assert (store.fills(), store.fees(CARRY, "p1")) == before


def test_a_maker_rebate_is_a_fee_below_zero_and_no_fee_is_no_row(store: Store) -> None:
    store.record_fills([fill("a", fee="-0.02"), fill("b", fee="0")], MINE)
    assert [f.amount_usd for f in store.fees(CARRY, "p1")] == [Decimal("-0.02")]


def test_funding_is_booked_once_and_a_changed_amount_is_reported_after_the_rest_is_stored(
    store: Store,
) -> None:
    assert store.carry.last_funding_hour("0xA", "SOL") is None
    assert store.carry.record_funding([payment(2), payment(1)]) == 2
    assert store.carry.record_funding([payment(1), payment(2), payment(3)], "p1") == 1
    with pytest.raises(Bug, match="1 funding payments changed"):
        store.carry.record_funding([payment(2, "9.9"), payment(4)], "p1")
    assert store.carry.funding_payments("p1") == [payment(n) for n in (1, 2, 3, 4)]
    assert store.carry.last_funding_hour("0xA", "SOL") == 4 * HOUR_MS
    store.carry.record_funding([payment(9, account="0xB"), payment(9, coin="ETH")])
    assert store.carry.last_funding_hour("0xA", "SOL") == 4 * HOUR_MS
    assert store.carry.funding_payments(account="0xB") == [payment(9, account="0xB")]
    assert store.carry.funding_payments(coin="ETH") == [payment(9, coin="ETH")]
    window = store.carry.funding_payments(since_ms=2 * HOUR_MS, until_ms=4 * HOUR_MS)
    assert window == [payment(2), payment(3)]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=6))
def test_overlapping_collections_sum_to_the_ledger_exactly(store: Store, batches: list[list[int]]) -> None:
    account = f"0x{len(store.carry.funding_payments())}"  # new for every example that stores anything
    amounts = {hour: Decimal("0.1") + Decimal(hour).scaleb(-9) for hour in range(13)}
    new = sum(
        store.carry.record_funding([payment(hour, str(amounts[hour]), account) for hour in batch])
        for batch in batches
    )
    hours = {hour for batch in batches for hour in batch}
    booked = store.carry.funding_payments(account=account)
    assert new == len(hours) == len(booked)
    assert sum((p.usdc for p in booked), Decimal(0)) == sum((amounts[h] for h in hours), Decimal(0))


def test_a_fee_is_booked_once_and_gains_its_value_later(store: Store) -> None:
    gas = Fee(
        kind="gas",
        fee_key="gas:sig",
        business=CARRY,
        subject="p1",
        native_amount=Decimal(5000),
        native_unit="lamports",
        at_ms=3,
    )
    assert store.record_fee(gas) is True
    assert store.record_fee(gas) is False
    valued = gas.model_copy(update={"amount_usd": Decimal("0.001")})
    assert store.record_fee(valued) is False
    assert store.record_fee(gas) is False
    assert [f.amount_usd for f in store.fees(CARRY, "p1")] == [Decimal("0.001")]
    for changed in (
        {"native_amount": Decimal(6000)},
        {"native_unit": "gwei"},
        {"kind": "tip"},
        {"amount_usd": Decimal("0.002")},
    ):
        with pytest.raises(Bug, match="is stored"):
            store.record_fee(valued.model_copy(update=changed))


def test_snapshots_keep_the_first_of_a_time(store: Store) -> None:
    rate = RateSnapshot(
        venue="hyperliquid",
        market="SOL",
        kind="funding",
        value=Decimal("-0.0000125"),
        interval_ms=HOUR_MS,
        at_ms=1,
    )
    later = rate.model_copy(update={"at_ms": 2})
    assert store.record_rates([later, rate]) == 2
    assert store.record_rates([rate.model_copy(update={"value": Decimal(9)})]) == 0
    assert [(r.at_ms, r.value) for r in store.rates("hyperliquid", "SOL", "funding")] == [
        (1, Decimal("-0.0000125")),
        (2, Decimal("-0.0000125")),
    ]
    assert len(store.rates(since_ms=2)) == 1
    assert store.rate_points("hyperliquid", "SOL", "funding") == [
        (1, Decimal("-0.0000125")),
        (2, Decimal("-0.0000125")),
    ]
    assert (store.rate_markets("hyperliquid", "funding"), store.rate_markets("asgard", "funding")) == (
        ["SOL"],
        [],
    )
    assert store.rates(kind="premium") == []
    price = PriceSnapshot(
        venue="asgard", asset="jitoSOL", kind="redemption", price_usd=Decimal("244.40"), at_ms=1
    )
    assert store.record_prices([price, price]) == 1
    assert [p.price_usd for p in store.prices(asset="jitoSOL")] == [Decimal("244.40")]
    assert store.price_points("asgard", "jitoSOL", "redemption") == [(1, Decimal("244.40"))]
    moment = PositionSnapshot(
        position_id="p1", at_ms=5, equity_usd=Decimal("1000.01"), delta_sol=Decimal("-0.003")
    )
    assert store.carry.record_snapshots([moment]) == 1
    assert store.carry.record_snapshots([moment]) == 0
    assert store.carry.record_snapshots([moment.model_copy(update={"at_ms": 4})])
    assert [s.at_ms for s in store.carry.snapshots("p1")] == [4, 5]
    assert store.carry.snapshots("p1", since_ms=5)[0].model_dump(exclude={"id"}) == moment.model_dump(
        exclude={"id"}
    )


def test_an_alert_is_new_once_until_somebody_acknowledges_it(store: Store) -> None:
    first, new = store.alert("delta_drift", Severity.WARNING, "0.6 %", subject="p1")
    assert new
    clock_of(store).ms += 10
    again, new = store.alert("delta_drift", Severity.CRITICAL, "1.2 %", subject="p1")
    assert not new
    assert (again.id, again.times, again.text, again.severity) == (first.id, 2, "1.2 %", Severity.CRITICAL)
    assert again.last_ms - again.at_ms == 10
    calmer, _ = store.alert("delta_drift", Severity.INFO, "0.4 %", subject="p1")
    assert calmer.severity is Severity.CRITICAL
    assert store.alert("delta_drift", Severity.INFO, "0.1 %", subject="p2")[1]
    assert store.ack_alert("delta_drift", "p1") is True
    assert store.ack_alert("delta_drift", "p1") is False
    assert [a.subject for a in store.alerts(open_only=True)] == ["p2"]
    assert store.alert("delta_drift", Severity.WARNING, "0.7 %", subject="p1")[1]
    assert len(store.alerts()) == 3


def test_pauses_hold_until_their_end_or_until_resumed(store: Store) -> None:
    clock = clock_of(store)
    store.pause("entries", "price deviation", until_ms=clock.ms + 100)
    store.pause("entries", "price deviation", until_ms=clock.ms + 200)
    store.pause("asgard", "gas")
    assert [(p.scope, p.until_ms) for p in store.active_pauses()] == [
        ("entries", clock.ms + 200),
        ("asgard", None),
    ]
    clock.ms += 200
    assert [p.scope for p in store.active_pauses()] == ["asgard"]
    renewed = store.pause("entries", "price deviation")
    assert renewed.since_ms == clock.ms
    assert renewed.until_ms is None
    store.pause("all", "operator")
    assert [p.scope for p in store.active_pauses()] == ["asgard", "entries", "all"]
    assert store.resume("asgard") == 1
    assert store.resume("asgard") == 0
    assert store.resume("entries", "another reason") == 0
    assert [p.scope for p in store.active_pauses()] == ["entries", "all"]


def test_a_breach_keeps_its_start_fires_once_and_begins_anew_after_it_is_cleared(store: Store) -> None:
    clock = clock_of(store)
    began = store.breach_start(CARRY, "p1", "liquidation_distance", LegSide.LONG)
    clock.ms += 20_000
    assert store.breach_start(CARRY, "p1", "liquidation_distance", LegSide.LONG) == began
    whole = store.breach_start(CARRY, "p1", "liquidation_distance")
    assert whole.id != began.id
    assert store.breach_fire(CARRY, "p1", "liquidation_distance", LegSide.LONG) is True
    assert store.breach_fire(CARRY, "p1", "liquidation_distance", LegSide.LONG) is False
    assert [b.fired_ms for b in store.running_breaches(CARRY, "p1")] == [clock.ms, None]
    assert store.breach_clear(CARRY, "p1", "liquidation_distance", LegSide.LONG) is True
    assert store.breach_clear(CARRY, "p1", "liquidation_distance", LegSide.LONG) is False
    assert store.breach_fire(CARRY, "p1", "liquidation_distance", LegSide.LONG) is False
    fresh = store.breach_start(CARRY, "p1", "liquidation_distance", LegSide.LONG)
    assert (fresh.since_ms, fresh.fired_ms) == (clock.ms, None)
    assert len(store.breaches(CARRY, "p1")) == 3
    assert len(store.running_breaches(CARRY)) == 2


def test_a_breach_belongs_to_one_business_subject_and_part(store: Store) -> None:
    """The same words elsewhere are another breach: it starts, fires and clears alone."""
    whose = [
        (business, subject, "price", part)
        for business in (CARRY, "shop")
        for subject in ("p1", "p2")
        for part in ("", "short")
    ]
    started = {}
    for one in whose:
        clock_of(store).ms += 1
        started[one] = store.breach_start(*one)
        assert (started[one].business, started[one].subject, started[one].part) == (one[0], one[1], one[3])
    assert len({row.id for row in started.values()}) == len(whose)
    assert store.running_breaches(CARRY) == [started[one] for one in whose if one[0] == CARRY]
    assert store.running_breaches("shop", "p2") == [
        started[one] for one in whose if one[:2] == ("shop", "p2")
    ]
    assert store.running_breaches("nobody") == []
    assert store.breach_fire("shop", "p1", "price", "short")
    assert store.breach_clear("shop", "p1", "price", "short")
    ended = ("shop", "p1", "price", "short")
    for one in whose:
        if one != ended:
            assert store.breach_start(*one) == started[one]
    assert [(b.part, b.fired_ms is None, b.cleared_ms is None) for b in store.breaches("shop", "p1")] == [
        ("", True, True),
        ("short", False, False),
    ]


def test_heartbeats_keep_the_latest(store: Store) -> None:
    store.record_heartbeat("monitor", {"positions": 1})
    clock_of(store).ms += 7
    store.record_heartbeat("monitor")
    assert [(h.name, h.at_ms, h.detail) for h in store.heartbeats()] == [("monitor", clock_of(store).ms, {})]


def test_what_is_written_in_one_transaction_is_written_whole_or_not_at_all(store: Store) -> None:
    at = PositionSnapshot(position_id="p1", at_ms=1, detail={"a": Decimal("1.50")})
    with pytest.raises(ZeroDivisionError), store.one_transaction():
        assert store.carry.record_snapshots([at]) == 1
        store.record_heartbeat("tick:p1")
        assert store.carry.last_snapshot("p1") is not None, "inside it is seen"
        raise ZeroDivisionError
    assert store.carry.last_snapshot("p1") is None and not store.heartbeats()
    with store.one_transaction():
        assert store.carry.record_snapshots([at]) == 1
        store.record_heartbeats([Heartbeat(name="tick:p1", at_ms=7), Heartbeat(name="tick:p2", at_ms=8)])
    store.record_heartbeats([Heartbeat(name="tick:p1", at_ms=9, detail={"took_s": Decimal("0.5")})])
    assert [(one.name, one.at_ms, one.detail) for one in store.heartbeats()] == [
        ("tick:p1", 9, {"took_s": "0.5"}),
        ("tick:p2", 8, {}),
    ]
    assert store.carry.record_snapshots([at]) == 0, "the first of a moment stands"


def test_a_lost_lease_stops_a_write_in_a_joined_transaction_too(store: Store) -> None:
    fence = store.acquire("lease", "a", 60_000)
    assert fence is not None and store.release(fence)
    with pytest.raises(LostRace), store.one_transaction():
        store.record_heartbeat("tick:p1")
        store.breach_start(CARRY, "p1", "delta", fence=fence)
    assert not store.heartbeats() and not store.running_breaches(CARRY)


def test_what_is_read_at_one_moment_is_what_single_readings_give(store: Store) -> None:
    store.alert("delta", Severity.WARNING, "text", subject="p1")
    store.alert("delta", Severity.WARNING, "text", subject="p2")
    alone = store.carry.position("p1"), store.open_alerts_of("p1", ""), store.running_breaches(CARRY, "p1")
    with store.one_moment():
        joined = (
            store.carry.position("p1"),
            store.open_alerts_of("p1", ""),
            store.running_breaches(CARRY, "p1"),
        )
    assert joined == alone and [row.subject for row in joined[1]] == ["p1"]


def test_an_insert_is_compiled_once(store: Store) -> None:
    """Compiling takes longer than inserting: a watch of many accounts does it at every tick."""
    compiled = []
    event.listen(
        store._engine, "after_execute", lambda *given: compiled.append(given[-1].context.cache_hit.name)
    )
    for at_ms in range(3):
        store.record_heartbeat(f"tick:{at_ms}")
    assert compiled[2:] == ["CACHE_HIT"] * 4, compiled
