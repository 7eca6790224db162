"""One rebalance, as far as it goes now: step by step, each from what the one before it gave.

Every go begins with the rows: a killed process, a second try and a lost answer are the next go. Once a step has passed nothing
goes back, and the scope stays taken until the last step has passed or a person has ended it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from evenkeel.errors import UNREAD, LostRace, OperatorError, VenueRefused
from state.hedging.amounts import minus
from state.hedging.models import Rebalance, RebalanceState
from state.hedging.store import HEDGING
from state.ledger_models import Fee
from state.models import Attempt, Fence, Intent
from state.store import Store
from state.watch_models import Severity
from strategy.hedging.rebalancing import USDC, Direction, Kind, Prices, Way, into_step
from tasks.hedging.choosing import refuse_no_reason
from tasks.hedging.deciding import paused_by
from tasks.hedging.rebalancing.desk import RebalanceDesk
from tasks.hedging.rebalancing.left import LEFT
from tasks.hedging.rebalancing.step import Ended, Failed, Passed, Result, Step, Wait
from tasks.hedging.rebalancing.steps import STEPS, checked_kind
from venues.alpaca.transfers import WireJournal, WireTransfer
from venues.broker_rules import text_of

STUCK = "rebalance stuck"
"""The alert of a rebalance whose step takes too long, or that is not tried again by itself."""
TO_BRIDGE = "bridge to confirm"
"""The alert of USDC that a person has to bring from one chain to the other."""
_S = RebalanceState


async def advance(rd: RebalanceDesk, name: str, fence: Fence | None) -> Rebalance:
    """Carry it out as far as it goes now, with the lease `rd.lease` held, and return how it stands then.

    Raises LostRace where another process moved it, OperatorError where there is none or it was not approved, LedgerUnavailable.
    What a venue answers is in the row and in alerts.
    """
    store = rd.at.desk.store.hedging
    row = known(rd, name)
    if row.state is _S.PROPOSED:
        raise OperatorError(f"{name} is not approved: `evenkeel hedging rebalance approve {name}`")
    if not row.state.is_wanted:
        return row
    if row.state is _S.APPROVED:
        if (pause := paused_by(rd.at)) is not None:
            return _note(rd, row, f"paused ({pause.scope}): {pause.reason}", fence)
        if row.plan["wallet"] != rd.wallet:
            why = f"it was planned for {row.plan['wallet']}, the key is of {rd.wallet}"
            return _over(rd, row, _S.REFUSED, why, fence)
        row = store.move_rebalance(name, _S.RUNNING, was=_S.APPROVED, fence=fence)
    elif row.state is _S.STUCK:
        return row
    else:
        row = store.note_rebalance(name, row.done, fence=fence)  # somebody goes on with it
    _say_gone_on(rd, name)
    while True:
        kinds = [checked_kind(one) for one in row.plan["steps"]]
        done: list[dict[str, Any]] = row.done.get("steps", [])
        if len(done) == len(kinds):
            return _over(rd, row, _S.DONE, "", fence)
        kind = kinds[len(done)]
        way, prices = Way.model_validate(row.plan["way"]), Prices.model_validate(row.plan["prices"])
        given = Decimal(done[-1]["amount"]) if done else row.amount
        amount = into_step(kind, way, given, prices, Direction(row.direction))
        step = Step(rd, row, len(done), kind, amount, fence)
        result: Result
        if amount <= 0:
            result = Ended(f"{given:f} are left, less than the smallest amount of a {kind}")
        else:
            try:
                row = await _marked(rd, step)
                result = await STEPS[kind](Step(rd, row, len(done), kind, amount, fence))
            except UNREAD as fault:
                result = Wait(str(fault))
        if isinstance(result, Wait):
            return _waits(rd, step, result, fence)
        if isinstance(result, Failed):
            return _fails(rd, row, kind, result, fence)
        if isinstance(result, Ended):
            return _over(rd, row, _S.DONE, result.why, fence)
        row = _passes(rd, row, kind, amount, result, fence)


async def _marked(rd: RebalanceDesk, step: Step) -> Rebalance:
    """Keep what our wallet held when the bridge became the present step: what comes or goes is proved against it."""
    if step.kind is not Kind.BRIDGE or "bridge" in step.row.done:
        return step.row
    held = await rd.vaults.held(rd.token(step.scope))
    mark = {"base_units": str(held), "at_ms": rd.at.desk.clock.now_ms()}
    return rd.at.desk.store.hedging.note_rebalance(
        step.row.name, step.row.done | {"bridge": mark}, fence=step.fence
    )


def _passes(
    rd: RebalanceDesk, row: Rebalance, kind: Kind, amount: Decimal, result: Passed, fence: Fence | None
) -> Rebalance:
    """Store what a step gave. What was said of it is over."""
    entry = {
        "kind": str(kind),
        "asked": str(amount),
        "amount": str(result.amount),
        "ref": result.ref,
        "at_ms": rd.at.desk.clock.now_ms(),
        "moved": result.moved,
        "detail": result.detail,
    }
    done = {key: value for key, value in row.done.items() if key not in ("waits", "for_person")}
    done = done | {"steps": [*done.get("steps", []), entry]}
    note = f"{kind}: {result.amount} by {result.ref or 'proof'}"
    _say_over(rd, row.name)
    return rd.at.desk.store.hedging.note_rebalance(row.name, done, note, fence)


def _waits(rd: RebalanceDesk, step: Step, result: Wait, fence: Fence | None) -> Rebalance:
    row = _note(
        rd, known(rd, step.row.name), f"{step.kind}: {result.why}", fence, for_person=result.for_person
    )
    store, age_s = rd.at.desk.store, (rd.at.desk.clock.now_ms() - step.since_ms) // 1000
    if result.for_person:
        store.alert(TO_BRIDGE, Severity.WARNING, f"{row.name}: {result.why}", subject=row.name)
    if age_s >= rd.settings.stuck_s:
        text = f"{row.name}, {_left(step)}: the {step.kind} has taken {age_s} s: {result.why}"
        store.alert(STUCK, Severity.CRITICAL, text, subject=row.name)
    return row


def _left(step: Step) -> str:
    return f"{step.amount:f} {step.scope} {step.row.direction}"


def _fails(rd: RebalanceDesk, row: Rebalance, kind: Kind, result: Failed, fence: Fence | None) -> Rebalance:
    """End it where nothing was moved yet; else stop it where it is, and alert a person."""
    if not row.done.get("steps"):
        return _over(rd, row, _S.REFUSED, f"{kind}: {result.why}", fence)
    why = f"{kind}: {result.why}"
    row = rd.at.desk.store.hedging.move_rebalance(row.name, _S.STUCK, why=why, was=_S.RUNNING, fence=fence)
    rd.at.desk.store.alert(
        STUCK,
        Severity.CRITICAL,
        f"{row.name} ({row.amount:f} {row.scope} {row.direction}) has moved something and stands at the {why}: remove the "
        f"cause, then `evenkeel hedging rebalance resume {row.name}`",
        subject=row.name,
    )
    return row


def _over(rd: RebalanceDesk, row: Rebalance, to: RebalanceState, why: str, fence: Fence | None) -> Rebalance:
    row = rd.at.desk.store.hedging.move_rebalance(row.name, to, why=why, was=row.state, fence=fence)
    _say_over(rd, row.name)
    return row


def _say_over(rd: RebalanceDesk, name: str) -> None:
    store = rd.at.desk.store
    for one in store.open_alerts_of(name):
        if one.kind in (STUCK, TO_BRIDGE, LEFT):
            store.ack_alert(one.kind, name)


def _say_gone_on(rd: RebalanceDesk, name: str) -> None:
    """End the alert that nobody goes on with it."""
    store = rd.at.desk.store
    if any(one.kind == LEFT for one in store.open_alerts_of(name)):
        store.ack_alert(LEFT, name)


def _note(
    rd: RebalanceDesk, row: Rebalance, why: str, fence: Fence | None, *, for_person: bool = False
) -> Rebalance:
    """Keep what it waits for, and that it was gone over now."""
    done = row.done | {"waits": why, "for_person": for_person}
    return rd.at.desk.store.hedging.note_rebalance(row.name, done, fence=fence)


def known(rd: RebalanceDesk, name: str) -> Rebalance:
    """Return the rebalance of this name. Raises OperatorError where none has it."""
    return _named(rd.at.desk.store, name)


def _named(store: Store, name: str) -> Rebalance:
    row = store.hedging.rebalance(name)
    if row is None:
        raise OperatorError(f"no rebalance is called {name}: see `evenkeel hedging rebalance list`")
    return row


# --- what a person says ------------------------------------------------------------------------------------------


async def bridged(rd: RebalanceDesk, name: str, usdc: Decimal, by: str, fence: Fence | None) -> Rebalance:
    """Take a person's word that so much came over the bridge, and prove it: by our wallet's balance on this chain, or by the
    broker's own row of what came to its wallet. Raises OperatorError in one line where that is not so; UNREAD.
    """
    row = known(rd, name)
    done: list[dict[str, Any]] = row.done.get("steps", [])
    kinds = row.plan["steps"]
    if row.state is not _S.RUNNING or len(done) >= len(kinds) or kinds[len(done)] != Kind.BRIDGE:
        raise OperatorError(
            f"{name} is {row.state} and waits for no bridge: see `evenkeel hedging rebalance list`"
        )
    mark = row.done.get("bridge")
    if mark is None:
        raise OperatorError(f"{name} has not come to its bridge: `evenkeel hedging rebalance run {name}`")
    sent = Decimal(done[-1]["amount"])
    if not 0 < usdc <= sent or usdc != usdc.quantize(Decimal("0.000001")):
        raise OperatorError(f"{usdc} USDC: give more than 0 and at most {sent}, with at most 6 decimals")
    held, base = await rd.vaults.held(rd.token(row.scope)), int(mark["base_units"])
    units = int(usdc.scaleb(6))
    if row.direction == "to-chain":
        if held - base < units:
            raise OperatorError(
                f"{rd.wallet} holds {Decimal(held - base).scaleb(-6)} USDC more than before on {rd.at.chain}, not {usdc}: "
                "wait until it has come, or give what came"
            )
        ref = f"balance {held}"
    else:
        if base - held < units:
            raise OperatorError(
                f"{rd.wallet} holds {Decimal(base - held).scaleb(-6)} USDC less than before on {rd.at.chain}, not {usdc} less: "
                "it has not left"
            )
        ref = await _came_to_broker(rd, usdc, int(mark["at_ms"]))
    result = Passed(usdc, ref, {}, {"by": by})
    store = rd.at.desk.store
    with store.one_transaction():
        if sent > usdc:
            store.record_fee(_bridge_fee(rd, name, minus(sent, usdc)), fence)
        return _passes(rd, row, Kind.BRIDGE, sent, result, fence)


def _bridge_fee(rd: RebalanceDesk, name: str, usdc: Decimal) -> Fee:
    return Fee(
        kind="bridge",
        fee_key=f"hedging:{name}:bridge",
        business=HEDGING,
        subject=USDC,
        amount_usd=usdc,
        at_ms=rd.at.desk.clock.now_ms(),
    )


async def _came_to_broker(rd: RebalanceDesk, usdc: Decimal, since_ms: int) -> str:
    """Return the broker's name of the one payment that came; one that another bridge has is none."""
    claimed = {
        str(step["ref"])
        for row in rd.at.desk.store.hedging.rebalances()
        for step in row.done.get("steps", ())
        if step["kind"] == Kind.BRIDGE
    }
    mine = [
        one
        for one in await rd.transfers.transfers()
        if (one.direction, one.status.upper(), one.amount) == ("INCOMING", "COMPLETE", usdc)
        and (one.created_ms or 0) >= since_ms
        and one.id not in claimed
    ]
    if len(mine) != 1:
        raise OperatorError(
            f"the broker shows {len(mine)} payments of {usdc} USDC that came since then: wait until one is complete, or give "
            "what came"
        )
    return mine[0].id


async def rows_that_may_be(
    rd: RebalanceDesk, intent: Intent, attempt: Attempt
) -> list[WireTransfer | WireJournal]:
    """Return the broker's rows that may be a move. Raises OperatorError for a move that leaves none, UNREAD."""
    try:
        return await rd.moves.candidates(intent.spec, attempt.key)
    except VenueRefused as refused:
        raise OperatorError(str(refused)) from None


def refuse_too_early(rd: RebalanceDesk, attempt: Attempt) -> None:
    """Raise OperatorError where a move may have left so lately that the broker need not list it yet."""
    waited_s = (rd.at.desk.clock.now_ms() - int(attempt.key["until_ms"])) // 1000
    if waited_s < rd.settings.stuck_s:
        wait = f"wait {rd.settings.stuck_s} s (rebalance.stuck_s) first"
        raise OperatorError(f"{attempt.intent_id} may have left {max(waited_s, 0)} s ago: {wait}")


async def unsent(rd: RebalanceDesk, name: str, by: str, why: str, fence: Fence | None) -> Rebalance:
    """Take a person's word that what is in doubt never left, and let it be tried again. Raises OperatorError where nothing is
    in doubt, without a reason, and where the broker shows what may be it; UNREAD where it cannot be asked.
    """
    known(rd, name)
    refuse_no_reason(why, "--why")
    store = rd.at.desk.store
    doubts = [one for one in store.unfinished_intents(HEDGING, name) if one.state.may_be_on_the_wire]
    if len(doubts) != 1 or doubts[0].venue != rd.moves.name:
        raise OperatorError(
            f"nothing of {name} is in doubt that a person decides on: see `evenkeel hedging rebalance list`"
        )
    intent = doubts[0]
    attempt = store.live_attempt(intent.intent_id)
    if attempt is None:
        raise OperatorError(f"{intent.intent_id} has no attempt: `evenkeel hedging rebalance run {name}`")
    if rows := await rows_that_may_be(rd, intent, attempt):
        raise OperatorError(
            f"the broker shows {', '.join(one.id for one in rows)}, which may be it: it is not given up"
        )
    refuse_too_early(rd, attempt)
    store.attempt_dead(
        intent.intent_id, f"{by} says that it never left: {why.strip()}", again=False, fence=fence
    )
    return known(rd, name)


def resume(rd: RebalanceDesk, name: str, by: str, fence: Fence | None) -> Rebalance:
    """Let one that is stuck be tried again. Raises OperatorError for one that is not."""
    row = known(rd, name)
    if row.state is not _S.STUCK:
        raise OperatorError(f"{name} is {row.state}, not STUCK")
    store = rd.at.desk.store.hedging
    goes = int(row.done.get("goes", 1)) + 1
    store.note_rebalance(name, row.done | {"goes": goes}, f"resumed by {by}", fence)
    return store.move_rebalance(name, _S.RUNNING, was=_S.STUCK, fence=fence)


def end(rd: RebalanceDesk, name: str, by: str, why: str, fence: Fence | None) -> Rebalance:
    """Take a person's word that the rest was done by hand. Raises OperatorError without a reason, where an intent is under way,
    and for one that is neither running nor stuck.
    """
    row = known(rd, name)
    refuse_no_reason(why, "--why")
    if row.state not in (_S.RUNNING, _S.STUCK):
        raise OperatorError(f"{name} is {row.state}: only what is running or stuck is ended by hand")
    if open_ones := rd.at.desk.store.unfinished_intents(HEDGING, name):
        raise OperatorError(f"{open_ones[0].intent_id} is under way: it is not ended before that is known")
    text = f"ended by {by}: {why.strip()}"
    return _over(rd, row, _S.DONE, text, fence)


def decide(
    store: Store, name: str, by: str, *, approve: bool, why: str = "", now_ms: int, lapse_s: int
) -> Rebalance:
    """Approve a proposal or refuse it. Raises OperatorError where it is none any more, or is too old."""
    row = _named(store, name)
    if row.state is not _S.PROPOSED:
        raise OperatorError(f"{name} is {row.state}: it waits for no decision")
    if approve and now_ms - row.created_ms >= lapse_s * 1000:
        raise OperatorError(f"{name} is older than {lapse_s} s (rebalance.lapse_s): propose anew")
    to = _S.APPROVED if approve else _S.REFUSED
    try:
        return store.hedging.move_rebalance(name, to, by=by, why=why.strip(), was=_S.PROPOSED)
    except LostRace as lost:
        raise OperatorError(str(lost)) from None


def summary_of(row: Rebalance) -> Mapping[str, Any]:
    """Return a rebalance as commands, forms and artifacts show it: JSON-able, money as text."""
    done = row.done.get("steps", [])
    steps = row.plan["steps"]
    return {
        "name": row.name,
        "scope": row.scope,
        "direction": row.direction,
        "amount": text_of(row.amount),
        "usd": f"{row.usd:.2f}",
        "state": row.state.value,
        "steps": " > ".join(
            f"{kind} {text_of(Decimal(done[place]['amount']))}" if place < len(done) else kind
            for place, kind in enumerate(steps)
        ),
        "costs": ", ".join(f"{one['what']} {one['usd']} USD" for one in row.plan["costs"])
        + (", " if row.plan["costs"] else "")
        + f"gas of {row.plan['transactions']} transactions at most",
        "by": row.decided_by,
        "why": row.why if row.state.is_over else row.done.get("waits", "") or row.why,
    }


def waiting_rebalances(store: Store) -> dict[str, str]:
    """Return by name what a person has to do of each open rebalance; nothing of one that goes on by itself."""
    found: dict[str, str] = {}
    for one in store.hedging.rebalances(open_only=True):
        what = f"{one.amount:f} {one.scope} {one.direction}, {one.usd:.2f} USD"
        if one.state is _S.PROPOSED:
            found[one.name] = f"approve or refuse it ({what})"
        elif one.state is _S.STUCK:
            found[one.name] = f"it is stuck ({what}): {one.why}"
        elif one.done.get("for_person"):
            found[one.name] = f"{one.done.get('waits', '')} ({what})"
    return found
