"""What must hold after a command was killed: the venues' own ledgers compared with ours."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import VenueName
from tests.chaos.carry.command_rig import CarryRig

MAX_NAKED_S = 120
LIVE = (PositionStatus.OPENING, PositionStatus.OPEN, PositionStatus.CLOSING, PositionStatus.UNWINDING)


async def recovered(rig: CarryRig) -> str:
    """Recover twice with hours between, check every invariant, and give the position's status ("" for none)."""
    first = await rig.run("recover", "--json")
    assert first.code == 0, (first.out, first.err)
    assert first.json()["clean"], first.out
    status = _status_of(rig)
    # Hours pass, so that funding is due; the second run finds nothing to mend and collects it.
    rig.twins.world.clock.advance_to(rig.twins.world.now_ms() + 2.5 * 3_600_000)
    second = await rig.run("recover", "--json")
    assert second.code == 0, (second.out, second.err)
    assert second.json()["positions"] == {}, second.out
    seen = (await rig.run("status", "--json")).json()
    assert seen["unfinished_intents"] == []
    assert seen["unowned_legs"] == []
    assert seen["unreadable"] == {}
    assert _status_of(rig) == status
    check_opened_once(rig)
    check_books(rig)
    check_naked(rig)
    if status == "OPEN":
        assert rig.hyperliquid()["fundings"], "hours have passed with a short open: funding was due"
    return status


def _status_of(rig: CarryRig) -> str:
    store = rig.store()
    try:
        found = store.carry.positions()
        assert len(found) <= 1, found
        return found[0].status.value if found else ""
    finally:
        store.close()


def check_opened_once(rig: CarryRig) -> None:
    """Each leg was opened by one transaction or order at most, and what is held now is in the books."""
    opened = [event for event in long_events(rig) if event["kind"] == "open"]
    assert len(opened) <= 1, opened
    sold = {fill["oid"] for fill in rig.hyperliquid()["fills"] if fill["dir"] == "Open Short"}
    kept_level = {fill["oid"] for fill in rig.hyperliquid()["fills"] if fill["startPosition"] == "0.0"}
    assert len(sold) <= 1, sold
    assert kept_level <= sold, "a fill turned the account long"
    store = rig.store()
    try:
        open_legs = {leg.side: leg.qty for leg in store.carry.open_legs()}
    finally:
        store.close()
    held = [one for one in rig.asgard()["positions"] if one["live"]]
    assert len(held) == (1 if LegSide.LONG in open_legs else 0)
    assert rig.short_qty() == open_legs.get(LegSide.SHORT, Decimal(0))
    assert set(open_legs) in (set(), set(LegSide)), "one leg alone is left"


def check_books(rig: CarryRig) -> None:
    """Every fill, payment and lending change of the venues' ledgers stands in ours, once, with the same figures."""
    venue, store = rig.hyperliquid(), rig.store()
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
    assert len(changes) == len(long_events(rig))


def check_naked(rig: CarryRig) -> None:
    """The venues' own times: never one leg alone for longer than the limit."""
    moves = [(int(e["time_ms"]), "long", bool(Decimal(e["tokens_after"]))) for e in long_events(rig)]
    for fill in rig.hyperliquid()["fills"]:
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


def long_events(rig: CarryRig) -> list[dict[str, Any]]:
    """Every landed change of a lending position."""
    return [event for one in rig.asgard()["positions"] for event in one["position_accounting"]]
