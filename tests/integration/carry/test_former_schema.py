"""Rows of schema 0002 that a quiet trade does not leave: fills of nobody, several accounts, orders in every state, breaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import Bug
from evenkeel.legs import CARRY, LegSide
from evenkeel.types import IntentState
from state.carry.models import LegStatus
from state.fills import Owner
from state.models import AttemptOutcome
from state.store import Store
from state.watch_models import Severity
from tests.databases import KINDS, ManualClock, spec
from tests.former_schema import Rows, broken_references, former_ledger, rows_of, upgraded

ACCOUNT, WALLET, OTHER = "0xaccount", "wallet", "0xother"
ACCOUNTS = {"hyperliquid": ACCOUNT, "solana": WALLET}
STATES = tuple(IntentState)
SENT = STATES[STATES.index(IntentState.SIGNED) :]

kinds = pytest.mark.parametrize("kind", KINDS)


def position(position_id: str = "p1", facts: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    facts = {"accounts": ACCOUNTS} if facts is None else facts
    values = {"position_id": position_id, "asset": "SOL", "protocol": 1, "status": "OPEN", "leverage": "3"}
    unset = ("size_usd", "target_long_qty", "target_short_qty", "ref_long_price_usd", "ref_short_price_usd")
    unset += ("expected_apr", "close_reason", "fence", "opened_ms", "closed_ms")
    return {**values, **dict.fromkeys(unset), "facts": facts, "created_ms": 1, "updated_ms": 2, **more}


def intent(state: IntentState, step: int) -> dict[str, Any]:
    """An order of the short in a state, with what that state has left behind."""
    return {
        "intent_id": f"p1-{state}",
        "position_id": "p1",
        "venue": "hyperliquid",
        "leg": "short",
        "kind": "open",
        "step": step,
        "state": state.value,
        "order": {"size": "1.50", "nested": [{"x": None}]},
        "note": {} if state in (IntentState.IDLE, IntentState.BUILDING) else {"fee_bps": "4.5"},
        "attempts": 2 if state in SENT else 0,
        "deadline_ms": None if step % 2 else 1_757_203_200_000,
        "result": {"ref": "r", "fills": []} if state is IntentState.CONFIRMED else None,
        "failure": "no liquidity" if state is IntentState.FAILED else None,
        "created_ms": 10 + step,
        "updated_ms": 20 + step,
    }


def attempts(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The first was rejected; the second is where the intent is."""
    last = {
        "SIGNED": (AttemptOutcome.NONE, None),
        "SUBMITTING": (AttemptOutcome.NONE, 32),
        "SUBMITTED": (AttemptOutcome.UNKNOWN, 32),
        "CONFIRMED": (AttemptOutcome.CONFIRMED, 32),
        "FAILED": (AttemptOutcome.REJECTED, 32),
    }[row["state"]]
    return [
        {
            "intent_id": row["intent_id"],
            "n": n,
            "key": {"cloid": f"{row['intent_id']}-{n}"},
            "signed_ms": 30 + n,
            "sent_ms": sent_ms,
            "sends": 0 if sent_ms is None else n,
            "outcome": outcome.value,
            "evidence": None if outcome is AttemptOutcome.NONE else "in the venue's words",
            "resolved_ms": 40 if outcome in (AttemptOutcome.REJECTED, AttemptOutcome.CONFIRMED) else None,
        }
        for n, (outcome, sent_ms) in ((1, (AttemptOutcome.REJECTED, 31)), (2, last))
    ]


def fill(row_id: int, position_id: str | None, venue: str = "hyperliquid", **more: Any) -> dict[str, Any]:
    leg = None if position_id is None else "long" if venue == "asgard" else "short"
    values = {"id": row_id, "venue": venue, "fill_id": f"f{row_id}", "position_id": position_id, "leg": leg}
    values |= {"intent_id": None, "asset": "SOL", "side": "sell", "qty": "1.50", "price_usd": "150.10"}
    values |= {"fee_usd": "0.10", "closed_pnl_usd": None, "order_ref": None, "time_ms": 50 + row_id}
    return {**values, **more}


def fee(row_id: int, **more: Any) -> dict[str, Any]:
    values = {"id": row_id, "kind": "gas", "fee_key": f"gas:{row_id}", "position_id": None, "intent_id": None}
    return {**values, "amount_usd": None, "lamports": None, "at_ms": 60, **more}


def breach(row_id: int, leg: str, fired_ms: int | None, cleared_ms: int | None) -> dict[str, Any]:
    values = {"id": row_id, "position_id": "p1", "leg": leg, "kind": "liquidation", "since_ms": 70}
    return {**values, "fired_ms": fired_ms, "cleared_ms": cleared_ms}


def table(*rows: dict[str, Any], key: tuple[str, ...] = ("id",)) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[name] for name in key): row for row in rows}


def positions(*rows: dict[str, Any]) -> Rows:
    return {"positions": table(*rows, key=("position_id",))}


@contextmanager
def after_upgrade(kind: str, folder: Path, rows: Rows) -> Iterator[tuple[str, Store]]:
    """Write the rows at schema 0002, upgrade, and hold every row against where it has to be."""
    with former_ledger(kind, folder, rows) as url:
        before = rows_of(url)
        for name, written in rows.items():
            assert before[name] == written, name
        Store.upgrade(url)
        assert broken_references(url) == []
        after, expected = rows_of(url), upgraded(before)
        for name in expected:
            assert after[name] == expected[name], name
        store = Store.open(url, ManualClock())
        yield url, store
        store.close()


@kinds
def test_an_order_in_every_state_goes_on_from_there(kind: str, tmp_path: Path) -> None:
    orders = [intent(state, step) for step, state in enumerate(STATES)]
    sent = [one for row in orders if row["attempts"] for one in attempts(row)]
    moved = {"id": 9, "entity": "intent", "entity_id": "p1-SUBMITTED", "from_state": "SUBMITTING"}
    moved |= {"to_state": "SUBMITTED", "note": "", "fence": 4, "at_ms": 33}
    rows = positions(position()) | {
        "intents": table(*orders, key=("intent_id",)),
        "attempts": table(*sent, key=("intent_id", "n")),
        "transitions": table(moved),
    }
    with after_upgrade(kind, tmp_path, rows) as (_, store):
        unfinished = {one.state for one in store.unfinished_intents(CARRY, "p1")}
        assert unfinished == {state for state in STATES if not state.is_final}
        for state in SENT:
            assert [one.n for one in store.attempts_of(f"p1-{state}")] == [1, 2]
        assert store.intent("p1-SUBMITTED").part == LegSide.SHORT
        assert store.mark_submitted("p1-SUBMITTING").state is IntentState.SUBMITTED
        assert store.restart_unsent("p1-SIGNED").state is not IntentState.SIGNED
        # The same step is the same intent still; another order for it is refused.
        again = spec("p1-IDLE", step=0, size="1.50").model_copy(update={"order": orders[0]["order"]})
        assert store.plan_intent(again).intent_id == "p1-IDLE"
        with pytest.raises(Bug, match="with another order"):
            store.plan_intent(spec("new", step=STATES.index(IntentState.SUBMITTED), size="2"))
        assert store.transitions("intent", "p1-SUBMITTED")[0].fence == 4


@kinds
def test_a_fill_of_nobody_was_collected_from_the_only_account(kind: str, tmp_path: Path) -> None:
    rows = positions(position(), position("p2", facts={})) | {
        "fills": table(
            fill(1, "p1"),
            fill(2, None),
            fill(3, "p1", "asgard"),
            fill(4, None, "asgard"),
            fill(5, "p2"),
        )
    }
    with after_upgrade(kind, tmp_path, rows) as (_, store):
        found = {row.fill_id: (row.account, row.chain, row.subject) for row in store.fills()}
    assert found == {
        "f1": (ACCOUNT, "", "p1"),
        "f2": (ACCOUNT, "", None),
        "f3": (WALLET, "solana", "p1"),
        "f4": (WALLET, "solana", None),
        "f5": ("", "", "p2"),
    }


@kinds
def test_with_two_accounts_in_the_ledger_a_fill_of_nobody_has_none_until_it_is_collected_again(
    kind: str, tmp_path: Path
) -> None:
    closed = position(
        "p0", facts={"accounts": {"hyperliquid": OTHER, "solana": WALLET}}, status="CLOSED", closed_ms=5
    )
    rows = positions(closed, position()) | {"fills": table(fill(1, "p0"), fill(2, "p1"), fill(3, None))}
    with after_upgrade(kind, tmp_path, rows) as (_, store):
        found = {row.fill_id: row for row in store.fills()}
        assert [found[name].account for name in ("f1", "f2", "f3")] == [OTHER, ACCOUNT, ""]
        assert store.record_fills([found["f3"].fill], Owner(account=ACCOUNT)) == 0
        assert {row.fill_id: row.account for row in store.fills()}["f3"] == ACCOUNT


@kinds
@pytest.mark.parametrize(
    "facts",
    [{}, {"accounts": {}}, {"accounts": None}, {"accounts": {"solana": WALLET}}],
    ids=["no facts", "no accounts", "null", "one account"],
)
def test_a_position_that_does_not_say_its_accounts_has_none(
    kind: str, facts: dict[str, Any], tmp_path: Path
) -> None:
    with after_upgrade(kind, tmp_path, positions(position(facts=facts))) as (_, store):
        found = store.carry.position("p1")
        assert found.short_account == ""
        assert found.long_account == (WALLET if (facts.get("accounts") or {}) else "")
        assert found.facts == facts


@kinds
def test_a_running_breach_runs_on_and_fires_once(kind: str, tmp_path: Path) -> None:
    rows = positions(position()) | {
        "breaches": table(breach(4, "short", None, None), breach(5, "", 71, None), breach(6, "short", 71, 72))
    }
    with after_upgrade(kind, tmp_path, rows) as (_, store):
        running = store.running_breaches(CARRY, "p1")
        assert [(one.id, one.part, one.since_ms) for one in running] == [(4, "short", 70), (5, "", 70)]
        assert store.breach_start(CARRY, "p1", "liquidation", "short").id == 4
        assert store.breach_fire(CARRY, "p1", "liquidation", "short")
        assert not store.breach_fire(CARRY, "p1", "liquidation")


@kinds
def test_fees_alerts_pauses_legs_and_liquidations_keep_what_they_say(kind: str, tmp_path: Path) -> None:
    money = ("tokens_before", "tokens_after", "debt_before_usd", "debt_after_usd")
    money += ("token_price_usd", "sol_price_usd", "redemption_rate")
    liquidation = {"id": 2, "position_id": "p1", "ref": "sig", "at_ms": 5, **dict.fromkeys(money, "1.230")}
    leg = {"position_id": "p1", "side": "short", "venue": "hyperliquid", "ref": "SOL", "asset": "SOL"}
    leg |= {"protocol": None, "qty": "1.50", "entry_price_usd": None, "status": "OPEN", "opened_ms": 1}
    alert = {
        "kind": "leg vanished",
        "severity": "critical",
        "text": "gone",
        "at_ms": 1,
        "last_ms": 2,
        "times": 3,
    }
    rows = positions(position()) | {
        "legs": table({**leg, "closed_ms": None, "detail": {"a": 1}}, key=("position_id", "side")),
        "liquidations": table(liquidation),
        "fees": table(
            fee(1, position_id="p1", lamports=9_007_199_254_740_993, amount_usd="0.00100"),
            fee(2, position_id="p1", lamports=0),
            fee(3, amount_usd="1.10"),
        ),
        "alerts": table(
            {"id": 1, **alert, "subject": "p1", "acked_ms": None},
            {"id": 7, **alert, "subject": "", "acked_ms": 3},
        ),
        "pauses": table(
            {
                "id": 1,
                "scope": "entries",
                "reason": "breaker outage",
                "since_ms": 1,
                "until_ms": None,
                "resumed_ms": None,
            }
        ),
        "leases": table(
            {"name": "position:p1", "owner": "host/1/2", "token": 12, "expires_ms": 99}, key=("name",)
        ),
        "heartbeats": table({"name": "monitor", "at_ms": 5, "detail": {"x": "y"}}, key=("name",)),
    }
    with after_upgrade(kind, tmp_path, rows) as (_, store):
        (open_alert,) = store.alerts(open_only=True)
        assert (open_alert.subject, open_alert.times, open_alert.severity) == ("p1", 3, Severity.CRITICAL)
        raised, new = store.alert("another", Severity.INFO, "text")
        assert new and raised.id == 8, "rows are numbered on from where they were"
        assert [str(one.native_amount) for one in store.fees(CARRY, "p1")] == ["9007199254740993", "0"]
        assert store.active_pauses()[0].breaker == "outage"
        (held,) = store.carry.open_legs()
        assert (held.side, held.status) == (LegSide.SHORT, LegStatus.OPEN)
        assert len(store.carry.liquidations("p1")) == 1
        lease = store.lease("position:p1")
        assert lease is not None and lease.token == 12


WRONG: dict[str, Callable[[dict[str, Any]], None]] = {
    "an amount": lambda row: row.update(qty="1.5"),
    "an owner": lambda row: row.update(position_id=None, leg=None),
    "an account": lambda row: row.update(venue="asgard"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_comparison_finds_what_it_is_for(what: str, tmp_path: Path) -> None:
    rows = positions(position()) | {"fills": table(fill(1, "p1"))}
    with after_upgrade("sqlite", tmp_path, rows) as (url, _):
        WRONG[what](rows["fills"][(1,)])
        assert rows_of(url)["fills"] != upgraded(rows)["fills"]
