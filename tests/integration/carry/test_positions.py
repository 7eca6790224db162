"""Positions, legs, the append-only log and leases, on both databases."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from evenkeel.errors import Bug, LostRace
from evenkeel.legs import CARRY, FundingPayment, LegSide, PositionStatus
from evenkeel.types import IntentState, Working
from state.carry.models import LegStatus, PositionSnapshot
from state.carry.store import CarryStore
from state.fills import Owner
from state.ledger_models import Fee
from state.models import Fence
from state.outbox_models import DeliveryState
from state.store import Store
from tests.databases import ManualClock, database_fixtures, spec
from tests.journal import advance, booking, receipt, short_leg

P = PositionStatus
databases, url, store = database_fixtures()
EXPIRED, LONG = -1, 600_000
"""How long a lease stands, in ms of the database's time: one that has run out when it is taken, and one that does not."""


def clock_of(store: Store) -> ManualClock:
    assert isinstance(store.clock, ManualClock)
    return store.clock


def test_a_position_keeps_every_digit_and_its_life_is_logged(store: Store) -> None:
    figures = {
        "size_usd": Decimal("1000.10"),
        "target_long_qty": Decimal("12.345678901234567890123456789"),
        "target_short_qty": Decimal("1E-18"),
        "ref_long_price_usd": Decimal("200.00"),
        "ref_short_price_usd": Decimal("-0"),
        "expected_apr": Decimal("0.0831"),
    }
    facts = {"entry_equity_usd": Decimal("666.70"), "why": ["best"]}
    where = {
        "underlying": "SOL",
        "long_venue": "asgard",
        "long_account": "Wallet1",
        "short_venue": "hyperliquid",
        "short_account": "0xA",
    }
    store.carry.create_position(
        "p2", asset="jitoSOL", leverage=Decimal("3.0"), protocol=1, facts=facts, **where, **figures
    )
    row = store.carry.position("p2")
    assert row.model_dump(include=set(where)) == where
    for name, value in figures.items():
        assert getattr(row, name).as_tuple() == value.as_tuple()
    assert row.facts == {"entry_equity_usd": "666.70", "why": ["best"]}
    clock_of(store).ms += 5
    opened = store.carry.move_position("p2", P.OPENING, P.OPEN, "validated")
    assert opened.opened_ms == clock_of(store).ms
    store.carry.set_facts("p2", {"entry_fees_usd": Decimal("1.20"), "why": "again"})
    closing = store.carry.move_position("p2", P.OPEN, P.CLOSING, "funding negative", close_reason="carry")
    assert (closing.close_reason, closing.opened_ms) == ("carry", opened.opened_ms)
    assert closing.facts == {"entry_equity_usd": "666.70", "why": "again", "entry_fees_usd": "1.20"}
    closed = store.carry.move_position("p2", P.CLOSING, P.CLOSED)
    assert closed.closed_ms == clock_of(store).ms
    log = [(t.from_state, t.to_state, t.note) for t in store.transitions("position", "p2")]
    assert log == [
        ("", "OPENING", "planned"),
        ("OPENING", "OPEN", "validated"),
        ("OPEN", "CLOSING", "funding negative"),
        ("CLOSING", "CLOSED", ""),
    ]


def test_positions_are_found_by_status(store: Store) -> None:
    store.carry.create_position("p2", asset="jitoSOL", leverage=Decimal(2))
    store.carry.move_position("p2", P.OPENING, P.OPEN)
    assert [p.position_id for p in store.carry.positions()] == ["p1", "p2"]
    assert [p.position_id for p in store.carry.positions([P.OPEN, P.CLOSING])] == ["p2"]
    assert store.carry.positions([]) == []
    assert store.carry.find_position("p9") is None
    with pytest.raises(Bug, match="not stored"):
        store.carry.position("p9")


def test_creating_again_returns_the_stored_position_and_other_terms_are_a_bug(store: Store) -> None:
    first = store.carry.position("p1")
    clock_of(store).ms += 1000
    assert store.carry.create_position("p1", asset="SOL", leverage=Decimal("3.00")) == first
    with pytest.raises(Bug, match="another asset, protocol or leverage"):
        store.carry.create_position("p1", asset="SOL", leverage=Decimal(4))
    assert len(store.transitions("position", "p1")) == 1


def test_wrong_moves_change_nothing(store: Store) -> None:
    with pytest.raises(LostRace):
        store.carry.move_position("p1", P.OPEN, P.CLOSING)
    with pytest.raises(Bug, match="cannot move"):
        store.carry.move_position("p1", P.OPENING, P.CLOSED)
    for fixed in ({"facts": {"x": 1}}, {"underlying": "ETH"}):
        with pytest.raises(Bug, match="no movable column"):
            store.carry.move_position("p1", P.OPENING, P.OPEN, **fixed)
    with pytest.raises(Bug, match="give a Decimal"):
        store.carry.move_position("p1", P.OPENING, P.OPEN, size_usd=1000.5)
    assert store.carry.position("p1").status is P.OPENING
    assert len(store.transitions()) == 1


def test_legs_are_replaced_logged_and_closed(store: Store) -> None:
    store.carry.put_leg(short_leg())
    store.carry.put_leg(short_leg())
    store.carry.put_leg(short_leg().grown(Decimal("0.5"), Decimal(210)))
    leg = store.carry.leg("p1", LegSide.SHORT)
    assert leg is not None
    assert (leg.qty, leg.entry_price_usd) == (Decimal("2.0"), Decimal("202.5"))
    assert store.carry.leg("p1", LegSide.LONG) is None
    assert store.carry.close_leg("p1", LegSide.SHORT, "liquidated").status is LegStatus.CLOSED
    assert store.carry.close_leg("p1", LegSide.SHORT).qty == 0
    assert store.carry.open_legs() == []
    assert [(t.from_state, t.to_state, t.note) for t in store.transitions("leg", "p1/short")] == [
        ("", "OPEN", "qty 0 -> 1.5"),
        ("OPEN", "OPEN", "qty 1.5 -> 2.0"),
        ("OPEN", "CLOSED", "liquidated; qty 2.0 -> 0"),
    ]
    with pytest.raises(Bug, match="no long leg"):
        store.carry.close_leg("p1", LegSide.LONG)
    with pytest.raises(Bug, match="not stored"):
        store.carry.put_leg(short_leg().model_copy(update={"position_id": "p9"}))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transitions SET note = 'nothing happened'",
        "DELETE FROM transitions",
        "INSERT OR REPLACE INTO transitions (id, entity, entity_id, from_state, to_state, note, at_ms) "
        "VALUES (1, 'position', 'p1', '', 'OPEN', '', 0)",
        "TRUNCATE transitions",
    ],
)
def test_the_database_refuses_to_change_the_audit_log(store: Store, statement: str) -> None:
    before = store.transitions()
    dialect = store._engine.dialect.name
    if statement.startswith("TRUNCATE") and dialect == "sqlite":
        statement = "DELETE FROM transitions WHERE id > 0"  # SQLite has no TRUNCATE
    if statement.startswith("INSERT OR") and dialect == "postgresql":
        statement = (
            "INSERT INTO transitions SELECT * FROM transitions ON CONFLICT (id) DO UPDATE SET note = 'x'"
        )
    with pytest.raises(Bug, match="append-only"), store._write() as connection:
        connection.execute(text(statement))
    assert store.transitions() == before
    assert len(before) == 1


def test_a_reference_to_nothing_is_refused_by_the_database(store: Store) -> None:
    """A subject of the core is any name, because each business has tables of its own; carry's tables refer to positions."""
    references: list[Callable[[], object]] = [
        lambda: store.carry.record_snapshots([PositionSnapshot(position_id="p9", at_ms=1)]),
        lambda: store.carry.record_funding([PAYMENT], "p9"),
        lambda: store.record_fills(receipt().fills, Owner(CARRY, "p1", intent_id="nothing")),
        lambda: store.record_fee(Fee(kind="gas", fee_key="g", intent_id="nothing", at_ms=1)),
    ]
    for act in references:
        with pytest.raises(Bug, match="breaks a rule"):
            act()
    assert (store.carry.snapshots("p9"), store.carry.funding_payments(), store.fills()) == ([], [], [])


PAYMENT = FundingPayment(
    venue="hyperliquid",
    account="0xA",
    coin="SOL",
    hour_ms=1,
    time_ms=2,
    usdc=Decimal("0.1"),
    position_size=Decimal("-1.5"),
    funding_rate_hourly=Decimal("0.0000125"),
)
FENCED: dict[str, Callable[[Store, Fence], object]] = {
    "create_position": lambda s, f: s.carry.create_position("p7", asset="SOL", leverage=Decimal(3), fence=f),
    "move_position": lambda s, f: s.carry.move_position("p1", P.OPENING, P.OPEN, fence=f),
    "set_facts": lambda s, f: s.carry.set_facts("p1", {"a": 1}, fence=f),
    "put_leg": lambda s, f: s.carry.put_leg(short_leg("2"), fence=f),
    "close_leg": lambda s, f: s.carry.close_leg("p1", LegSide.SHORT, fence=f),
    "record_liquidations": lambda s, f: s.carry.record_liquidations([], short_leg("2"), "taken", fence=f),
    "plan_intent": lambda s, f: s.plan_intent(spec("i7", step=7), fence=f),
    "plan_intent anew": lambda s, f: s.plan_intent(spec("IDLE", size="9"), fence=f),
    "record_ready": lambda s, f: s.record_ready("IDLE", {}, {"k": 1}, fence=f),
    "record_ready again": lambda s, f: s.record_ready("BUILDING", {}, {"k": 1}, fence=f),
    "mark_submitted": lambda s, f: s.mark_submitted("SUBMITTING", fence=f),
    "record_unknown": lambda s, f: s.record_unknown("SUBMITTED", "?", fence=f),
    "replace_key": lambda s, f: s.replace_key("SUBMITTED", {"k": 2}, fence=f),
    "mark_resending": lambda s, f: s.mark_resending("SUBMITTED", fence=f),
    "record_working": lambda s, f: s.record_working(
        "SUBMITTED", Working("rests", 9, receipt("r7")), booking=booking(receipt("r7"), short_leg()), fence=f
    ),
    "confirm": lambda s, f: s.confirm("SUBMITTED", receipt("r9"), booking=booking(receipt("r9")), fence=f),
    "attempt_dead": lambda s, f: s.attempt_dead("SUBMITTED", "proof", again=True, fence=f),
    "restart_unsent": lambda s, f: s.restart_unsent("SIGNED", fence=f),
    "fail_unsent": lambda s, f: s.fail_unsent("SIGNED", "no", fence=f),
    "record_fills": lambda s, f: s.record_fills(receipt("r8").fills, Owner(CARRY, "p1"), fence=f),
    "record_fee": lambda s, f: s.record_fee(Fee(kind="gas", fee_key="g", at_ms=1), fence=f),
    "breach_start": lambda s, f: s.breach_start(CARRY, "p1", "k", fence=f),
    "breach_fire": lambda s, f: s.breach_fire(CARRY, "p1", "running", fence=f),
    "skip_messages": lambda s, f: s.skip_messages([1], ["slack"], "less", 1, fence=f),
    "begin_delivery": lambda s, f: s.begin_delivery(1, "slack", 1, fence=f),
    "settle_delivery": lambda s, f: s.settle_delivery(1, "slack", DeliveryState.SENT, 1, fence=f),
    "breach_clear": lambda s, f: s.breach_clear(CARRY, "p1", "running", fence=f),
}


def test_every_method_that_takes_a_fence_is_tried_with_a_stale_one() -> None:
    taking = {
        name
        for owner in (Store, CarryStore)
        for name, method in inspect.getmembers(owner, inspect.isfunction)
        if "fence" in inspect.signature(method).parameters and not name.startswith("_")
    }
    assert taking - {"renew", "release"} == {name.split()[0] for name in FENCED}


@pytest.mark.parametrize("stale", ["taken", "released", "never"])
def test_no_write_passes_with_a_stale_fence(store: Store, stale: str) -> None:
    for n, state in enumerate(("IDLE", "BUILDING", "SIGNING", "SIGNED", "SUBMITTING", "SUBMITTED")):
        store.plan_intent(spec(state, step=n))
        advance(store, state, IntentState(state))
    store.carry.put_leg(short_leg())
    store.breach_start(CARRY, "p1", "running")
    fence = store.acquire("p1", "first", 1000)
    assert fence is not None
    if stale == "taken":
        assert store.take_over("p1", "second", 1000, fence) is not None
    elif stale == "released":
        store.release(fence)
    else:
        fence = Fence("nobody", 1)

    def everything() -> object:
        return (
            store.transitions(),
            store.intents_of(CARRY, "p1"),
            store.carry.legs("p1"),
            store.carry.positions(),
            store.carry.funding_payments(),
            store.fills(),
            store.fees(CARRY, "p1"),
            store.breaches(CARRY, "p1"),
            [store.attempts_of(row.intent_id) for row in store.intents_of(CARRY, "p1")],
        )

    before = everything()
    for name, write in FENCED.items():
        with pytest.raises(LostRace, match="no longer held"):
            write(store, fence)
        assert everything() == before, name


def test_a_held_fence_writes_even_after_its_time_while_nobody_took_it(store: Store) -> None:
    fence = store.acquire("p1", "w", EXPIRED)
    assert fence is not None
    assert store.carry.move_position("p1", P.OPENING, P.OPEN, fence=fence).fence == fence.token
    assert store.transitions("position", "p1")[-1].fence == fence.token
    store.renew(fence, LONG)
    assert store.acquire("p1", "other", LONG) is None


def test_a_dead_holder_is_replaced_before_its_time_only_if_nobody_else_was_faster(store: Store) -> None:
    dead = store.acquire("p1", "dead", 60_000)
    assert dead is not None
    assert store.acquire("p1", "w1", 10) is None
    taken = store.take_over("p1", "w1", 60_000, dead)
    assert taken == Fence("p1", dead.token + 1)
    assert store.take_over("p1", "w2", 60_000, dead) is None
    lease = store.lease("p1")
    assert lease is not None
    assert lease.owner == "w1"
    assert store.release(dead) is False
    with pytest.raises(LostRace):
        store.renew(dead, 10)


LEASE_OPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "renew", "release"]), st.integers(0, 2), st.sampled_from([EXPIRED, LONG])
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(LEASE_OPS)
def test_tokens_only_grow_and_one_worker_holds_at_a_time(
    store: Store, ops: list[tuple[str, int, int]]
) -> None:
    name = uuid4().hex
    fences: dict[int, Fence] = {}
    holder: int | None = None
    expired, last_token = False, 0
    for op, worker, ttl_ms in ops:
        if op == "acquire":
            fence = store.acquire(name, f"w{worker}", ttl_ms)
            assert (fence is not None) is (holder is None or expired)
            if fence is not None:
                assert fence.token == last_token + 1
                fences[worker], holder = fence, worker
                last_token, expired = fence.token, ttl_ms == EXPIRED
        elif worker in fences:
            holds = holder == worker and fences[worker].token == last_token
            if op == "release":
                assert store.release(fences[worker]) is holds
                holder = None if holds else holder
            elif holds:
                store.renew(fences[worker], ttl_ms)
                expired = ttl_ms == EXPIRED
            else:
                with pytest.raises(LostRace):
                    store.renew(fences[worker], ttl_ms)
