"""Everything we know, in one database: intents done exactly once, positions, and the books that prove them.

`from state import Store, Fence, Leg, Fee, …`. SQLite (`sqlite:///file`) or PostgreSQL (`postgresql://…`).
Calls are synchronous, short, and one transaction each; they return frozen rows. All times are ms, all money
is Decimal, and floats are refused. `fence` is what `acquire` gave: with it a write raises LostRace once the
lease has moved on.

Errors: LostRace (another worker was first: read again or stop), Bug (a rule would be broken), Retryable
(database busy or gone), OperatorError (only from `open` and `upgrade`).

Store
    open(url, clock) -> Store · upgrade(url) -> version · close()

Positions (OPENING → OPEN → CLOSING → CLOSED; OPENING → UNWINDING → FAILED or CLOSED; OPENING → FAILED)
    create_position(position_id, *, asset, leverage, protocol=None, size_usd=None, target_long_qty=None,
        target_short_qty=None, ref_long_price_usd=None, ref_short_price_usd=None, expected_apr=None,
        facts=None, fence=None) -> Position                       idempotent
    move_position(position_id, from_, to, note="", fence=None, **columns) -> Position
        CLOSED and FAILED are refused while a leg is open or an intent is unfinished
    set_facts(position_id, facts, fence=None) -> Position         merges
    position(id) -> Position · find_position(id) -> Position | None · positions(statuses=None, asset=None)
    put_leg(leg, fence=None) · close_leg(position_id, side, note="", fence=None)
    leg(position_id, side) -> Leg | None · legs(position_id) · open_legs()
    Leg.grown(qty, price_usd) · Leg.shrunk(qty, at_ms)            pure: the leg after a change
    transitions(entity=None, entity_id=None) -> list[Transition]  the audit log

Intents (IDLE → BUILDING → BUILT → SIGNING → SIGNED → SUBMITTING → SUBMITTED → CONFIRMED, or FAILED)
    plan_intent(spec, deadline_ms=None, fence=None) -> Intent     idempotent; use the returned row's `.spec`
    move(intent_id, from_state, to_state, note="", fence=None)    IDLE→BUILDING, BUILDING→BUILT, BUILT→SIGNING
    mark_built(intent_id, note, fence=None)                       BUILDING→BUILT, keeping `Built.note`
    record_signed(intent_id, key, fence=None) -> Attempt          SIGNING→SIGNED with a new attempt
    mark_submitting(intent_id, fence=None)                        SIGNED→SUBMITTING; call it *before* the wire
    mark_submitted(intent_id, note="", fence=None)                SUBMITTING→SUBMITTED
    record_unknown(intent_id, reason, fence=None) -> Attempt      state stays; ask the venue, or resend
    mark_resending(intent_id, fence=None) -> Attempt              before the same bytes go out again
    confirm(intent_id, receipt, *, leg, evidence="", sol_price_usd=None, fence=None)
        SUBMITTING or SUBMITTED →CONFIRMED with fills, lending change, fees and leg row (None: unchanged)
    attempt_dead(intent_id, evidence, *, again, fence=None)       venue's proof: →BUILDING (again) or →FAILED
    restart_unsent(intent_id, fence=None)                         BUILT, SIGNING, SIGNED →BUILDING
    fail_unsent(intent_id, reason, fence=None)                    IDLE … SIGNED →FAILED; nothing had left
    intent(id) · unfinished_intents(position_id=None) · intents_of(position_id) · intent_counts()
    attempts_of(intent_id) · live_attempt(intent_id) -> Attempt | None

Leases
    acquire(name, owner, ttl_ms, seen=None) -> Fence | None · renew(fence, ttl_ms) · release(fence)
    lease(name) · leases() · database_ms()                        their time is the database's own
    take_over(name, owner, ttl_ms, dead: Fence)                   when the holder is known to be dead

Books (collecting twice adds nothing; a changed figure raises Bug and never overwrites)
    record_fills(fills, position_id=None, intent_id=None, leg=None, fence=None) -> new
    fills_of(position_id) · fills(since_ms=None, until_ms=None)
    lending_changes(position_id) -> list[LendingRow]
    record_fee(fee, fence=None) -> bool · fees(position_id)       `confirm` and `record_fills` write theirs
    record_funding(payments, position_id=None, fence=None) -> new
    funding_payments(position_id=None, account=None, coin=None, since_ms=None, until_ms=None)
    last_funding_hour(account, coin) -> hour_ms | None
    record_rates(rates) · rates(venue, market, kind, since_ms, until_ms)
    record_prices(prices) · prices(venue, asset, kind, since_ms, until_ms)
    record_snapshot(snapshot) · snapshots(position_id, since_ms=None, until_ms=None)

Truth of the venues
    record_liquidations(rows, leg, note, fence=None) -> new       what a lender took, and the leg that it left
    liquidations(position_id)
    move_checkpoint(name, at_ms, detail=None) · checkpoint(name) -> Checkpoint | None   only moves forward

Watch
    alert(kind, severity, text, subject="") -> (Alert, is_new) · ack_alert(kind, subject="")
    acknowledge(kind, subject, note) -> [Alert]                   by a person, with a line in the audit log
    alerts(open_only=False, since_ms=None)
    pause(scope, reason, until_ms=None) · resume(scope, reason=None) · active_pauses(scope=None)
    breach_start(position_id, kind, leg=None, fence=None) -> Breach   `since_ms` of the running one stands
    breach_fire(…) -> bool, True once · breach_clear(…) -> bool
    running_breaches(position_id=None) · breaches(position_id)
    beat(name, detail=None) · heartbeats()
"""

from state.carry.liquidation_models import Liquidation
from state.carry.models import Leg, LegStatus, LendingRow, Position, PositionSnapshot
from state.ledger_models import Fee, FillRow, PriceSnapshot, RateSnapshot
from state.models import Attempt, AttemptOutcome, Fence, Intent, Lease, Transition
from state.store import Store
from state.watch_models import Alert, Breach, Checkpoint, Heartbeat, Pause, Severity

__all__ = [
    "Alert",
    "Attempt",
    "AttemptOutcome",
    "Breach",
    "Checkpoint",
    "Fee",
    "Fence",
    "FillRow",
    "Heartbeat",
    "Intent",
    "Lease",
    "Leg",
    "LegStatus",
    "LendingRow",
    "Liquidation",
    "Pause",
    "Position",
    "PositionSnapshot",
    "PriceSnapshot",
    "RateSnapshot",
    "Severity",
    "Store",
    "Transition",
]
