"""What must hold after any crash, read from the venues' own ledgers and compared with ours."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import VenueName
from tests.chaos.rig import Drill

MAX_NAKED_S = 120
LIVE = (PositionStatus.OPENING, PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING)


async def recovered(drill: Drill) -> str:
    """Recover twice with hours between, check every invariant, and give the position's status ("" for none)."""
    first = await drill.run("recover", "--json")
    assert first.code == 0, (first.out, first.err)
    assert first.json()["clean"], first.out
    status = _status_of(drill)
    # Hours pass, so that funding is due; the second run finds nothing to mend and collects it.
    drill.twins.world.clock.advance_to(drill.twins.world.now_ms() + 2.5 * 3_600_000)
    second = await drill.run("recover", "--json")
    assert second.code == 0, (second.out, second.err)
    assert second.json()["positions"] == {}, second.out
    seen = (await drill.run("status", "--json")).json()
    assert seen["unfinished_intents"] == []
    assert seen["unowned_legs"] == []
    assert seen["unreadable"] == {}
    assert _status_of(drill) == status
    check_opened_once(drill)
    check_books(drill)
    check_naked(drill)
    if status == "OPEN":
        assert drill.hyperliquid()["fundings"], "hours have passed with a short open: funding was due"
    return status


def _status_of(drill: Drill) -> str:
    store = drill.store()
    try:
        found = store.carry.positions()
        assert len(found) <= 1, found
        return found[0].status.value if found else ""
    finally:
        store.close()


def check_opened_once(drill: Drill) -> None:
    """Each leg was opened by one transaction or order at most, and what is held now is in the books."""
    opened = [event for event in long_events(drill) if event["kind"] == "open"]
    assert len(opened) <= 1, opened
    sold = {fill["oid"] for fill in drill.hyperliquid()["fills"] if fill["dir"] == "Open Short"}
    kept_level = {fill["oid"] for fill in drill.hyperliquid()["fills"] if fill["startPosition"] == "0.0"}
    assert len(sold) <= 1, sold
    assert kept_level <= sold, "a fill turned the account long"
    store = drill.store()
    try:
        open_legs = {leg.side: leg.qty for leg in store.carry.open_legs()}
    finally:
        store.close()
    held = [one for one in drill.asgard()["positions"] if one["live"]]
    assert len(held) == (1 if LegSide.LONG in open_legs else 0)
    assert drill.short_qty() == open_legs.get(LegSide.SHORT, Decimal(0))
    assert set(open_legs) in (set(), set(LegSide)), "one leg alone is left"


def check_books(drill: Drill) -> None:
    """Every fill, payment and lending change of the venues' ledgers stands in ours, once, with the same figures."""
    venue, store = drill.hyperliquid(), drill.store()
    try:
        positions = [position.position_id for position in store.carry.positions()]
        booked = [row for one in positions for row in store.fills_of(CARRY, one)]
        payments = store.carry.funding_payments()
        changes = [
            intent.result["lending"]["tokens_after"]
            for one in positions
            for intent in store.intents_of(CARRY, one)
            if intent.part == LegSide.LONG and intent.result
        ]
    finally:
        store.close()
    ours = sorted((row.fill.qty, row.fill.price_usd) for row in booked if row.venue == VenueName.HYPERLIQUID)
    assert ours == sorted((Decimal(fill["sz"]), Decimal(fill["px"])) for fill in venue["fills"])
    theirs = [Decimal(row["delta"]["usdc"]) for row in venue["fundings"]]
    assert sorted(payment.usdc for payment in payments) == sorted(theirs)
    assert len(changes) == len(long_events(drill))


def check_naked(drill: Drill) -> None:
    """The venues' own times: never one leg alone for longer than the limit."""
    moves = [(int(e["time_ms"]), "long", bool(Decimal(e["tokens_after"]))) for e in long_events(drill)]
    for fill in drill.hyperliquid()["fills"]:
        signed = Decimal(fill["sz"]) * (1 if fill["side"] == "B" else -1)
        moves.append((int(fill["time"]), "short", bool(Decimal(fill["startPosition"]) + signed)))
    held, naked_ms, since = set[str](), 0, 0
    for at_ms, leg, still in sorted(moves, key=lambda move: move[0]):  # fills of one moment keep their order
        if len(held) == 1:
            naked_ms += at_ms - since
        (held.add if still else held.discard)(leg)
        since = at_ms
    assert len(held) != 1, held
    assert naked_ms <= MAX_NAKED_S * 1000, f"naked for {naked_ms} ms"


def long_events(drill: Drill) -> list[dict[str, Any]]:
    """Every landed change of a lending position."""
    return [event for one in drill.asgard()["positions"] for event in one["position_accounting"]]
