"""What must hold of carry positions after any fault and a recovery: the venues' own ledgers compared with our books."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.types import VenueName
from state.carry.models import Position
from state.store import Store
from tests.chaos.findings import Findings, Outage
from twins.serve import RunningTwins

MAX_NAKED_S = 120
UNEVEN = Decimal("0.10")
"""Share of the larger leg by which two legs differ when one of them counts as (partly) naked."""
DRIFT = Decimal("0.01")
"""The same at the end of a scenario, when nothing is on its way any more."""
HEDGE_ERROR = Decimal("0.002")
"""By how much of the long a short may be larger at the moment it is sold: a lot, and the interest of hours."""
INTEREST = Decimal("0.001")
HALF_WAY = (PositionStatus.OPENING, PositionStatus.CLOSING, PositionStatus.UNWINDING)


@dataclass
class VenueLedgers:
    """The venues' ledgers of one trading account, as they are now."""

    now_ms: int
    short: dict[str, Any]
    lending: list[dict[str, Any]]
    landed: list[dict[str, Any]]
    wallet: str

    @classmethod
    def read(cls, twins: RunningTwins) -> VenueLedgers:
        address = twins.keys["hyperliquid"]["account_address"].lower()
        hyperliquid = twins.hyperliquid.control("ledger", {})["accounts"][address]
        asgard, chain = twins.asgard.control("ledger", {}), twins.chain.control("ledger", {})
        wallet = twins.keys["solana"]["address"]
        return cls(twins.world.now_ms(), hyperliquid, asgard["positions"], chain["transactions"], wallet)

    @property
    def short_qty(self) -> Decimal:
        """SOL short; a long position counts below zero."""
        return -sum((Decimal(row["szi"]) for row in self.short["positions"]), Decimal(0))

    @property
    def executions(self) -> list[dict[str, Any]]:
        """Every landed change of a lending position by a transaction of ours."""
        return [event for one in self.lending for event in one["position_accounting"]]

    def moves(self) -> list[tuple[int, str, Decimal]]:
        """(when, leg, what was then held), in order of time; fills of one moment keep their order."""
        found: list[tuple[int, str, Decimal]] = []
        for one in self.lending:
            events = [
                (int(e["time_ms"]), Decimal(e["tokens_after"]), None) for e in one["position_accounting"]
            ]
            liquidated = [
                (_ms(e["timestamp"]), None, Decimal(e["collateralSeizedUI"])) for e in one["liquidations"]
            ]
            held = Decimal(0)
            for at_ms, after, taken in sorted([*events, *liquidated], key=lambda event: event[0]):
                held = after if after is not None else max(held - (taken or Decimal(0)), Decimal(0))
                found.append((at_ms, "long", held))
        for fill in self.short["fills"]:
            signed = Decimal(fill["sz"]) * (1 if fill["side"] == "B" else -1)
            found.append((int(fill["time"]), "short", -(Decimal(fill["startPosition"]) + signed)))
        return sorted(found, key=lambda move: move[0])


def _ms(iso: str) -> int:
    return int(datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp() * 1000)


def check(
    venues: VenueLedgers, store: Store, *, outages: list[Outage] | None = None, entries: int = 1
) -> Findings:
    """Every invariant. `entries`: how many positions were asked for."""
    found = Findings()
    positions = store.carry.positions()
    _check_ends(found, store, positions)
    _check_owned(found, venues, store)
    _check_once(found, venues, store, positions, entries)
    _check_records(found, venues, store, positions)
    _check_naked(found, venues, outages or [])
    return found


def _check_ends(found: Findings, store: Store, positions: list[Position]) -> None:
    for intent in store.unfinished_intents(CARRY):
        found.add("unfinished", f"intent {intent.intent_id} is still {intent.state}")
    for position in positions:
        if position.status in HALF_WAY:
            found.add("unfinished", f"{position.position_id} is still {position.status}")


def _check_owned(found: Findings, venues: VenueLedgers, store: Store) -> None:
    """Each leg of the venues stands in the books with its size, and the reverse; both legs, or none."""
    held = {one["pda"]: Decimal(one["tokens"]) for one in venues.lending if one["live"]}
    ours = {leg.ref: leg.qty for leg in store.carry.open_legs() if leg.side is LegSide.LONG}
    for ref in held.keys() | ours.keys():
        there, here = held.get(ref, Decimal(0)), ours.get(ref, Decimal(0))
        if abs(there - here) > INTEREST * max(there, here):
            found.add("unowned leg", f"long {ref}: {there} on the venue, {here} in the books")
    short = sum((leg.qty for leg in store.carry.open_legs() if leg.side is LegSide.SHORT), Decimal(0))
    if venues.short_qty != short:
        found.add("unowned leg", f"short: {venues.short_qty} on the venue, {short} in the books")
    long_sol = sum(held.values(), Decimal(0))
    if abs(long_sol - venues.short_qty) > DRIFT * max(long_sol, venues.short_qty):
        found.add("unowned leg", f"the legs do not cancel: long {long_sol} SOL, short {venues.short_qty} SOL")


def _check_once(
    found: Findings, venues: VenueLedgers, store: Store, positions: list[Position], entries: int
) -> None:
    """No intent took effect twice, nothing took effect that is no intent's, and no leg was opened twice."""
    owner: dict[str, tuple[str, int]] = {}
    is_open: set[str] = set()
    for position in positions:
        for intent in store.intents_of(CARRY, position.position_id):
            for attempt in store.attempts_of(intent.intent_id):
                keys = [str(attempt.key.get("cloid")), *attempt.key.get("signatures", [])]
                owner |= {key: (intent.intent_id, attempt.n) for key in keys}
            if intent.kind == IntentKind.OPEN:
                is_open.add(intent.intent_id)
    took: dict[str, set[int]] = {}
    done = {fill["cloid"] for fill in venues.short["fills"] if fill.get("cloid")}
    done |= {event["signature"] for event in venues.executions}
    for key in sorted(done):
        if key not in owner:
            found.add("unowned leg", f"{key} took effect on a venue, but no attempt of ours has it")
            continue
        intent_id, n = owner[key]
        took.setdefault(intent_id, set()).add(n)
    for intent_id, attempts in took.items():
        if len(attempts) > 1:
            kind = "double open" if intent_id in is_open else "other"
            found.add(kind, f"{intent_id} took effect {len(attempts)} times")
    opened = [event for event in venues.executions if event["kind"] == "open"]
    if len(opened) > entries:
        found.add("double open", f"{len(opened)} lending positions were opened for {entries} entries")
    _check_never_oversold(found, venues)
    longest = sum((Decimal(event["tokens_after"]) for event in opened), Decimal(0))
    shorts = [held for _, leg, held in venues.moves() if leg == "short"]
    if shorts and max(shorts) > longest * (1 + DRIFT):
        found.add("double open", f"{max(shorts)} SOL were short at a time, against {longest} SOL ever bought")
    if shorts and min(shorts) < 0:
        found.add("double open", f"the perpetual account was long {-min(shorts)} SOL at a time")


def _check_never_oversold(found: Findings, venues: VenueLedgers) -> None:
    """Each sale leaves the account short of no more than the transactions so far had bought (and left) on the long side."""
    bought: dict[str, Decimal] = {}
    events = [(int(event["time_ms"]), 0, event) for event in venues.executions]
    events += [(int(fill["time"]), 1, fill) for fill in venues.short["fills"] if fill["side"] == "A"]
    for _, is_sale, row in sorted(events, key=lambda event: event[:2]):
        if not is_sale:
            bought[row["pda"]] = Decimal(row["tokens_after"])
            continue
        held, short = sum(bought.values(), Decimal(0)), Decimal(row["sz"]) - Decimal(row["startPosition"])
        if short > held * (1 + HEDGE_ERROR):
            found.add("double open", f"sold to {short} SOL short while {held} SOL had been bought")


def _check_records(found: Findings, venues: VenueLedgers, store: Store, positions: list[Position]) -> None:
    """Each fill, payment, fee and lending change of the venues' ledgers stands in ours, once, with its figures."""
    rows = [row for row in store.fills() if row.venue == VenueName.HYPERLIQUID]
    ours = Counter((row.qty, row.price_usd, row.fee_usd) for row in rows)
    theirs = Counter(
        (Decimal(one["sz"]), Decimal(one["px"]), Decimal(one["fee"])) for one in venues.short["fills"]
    )
    _compare(found, "fill", ours, theirs)
    paid = Counter((row.hour_ms, row.usdc) for row in store.carry.funding_payments())
    owed = Counter(
        (round(row["time"] / 3_600_000) * 3_600_000, Decimal(row["delta"]["usdc"]))
        for row in venues.short["fundings"]
    )
    _compare(found, "funding payment", paid, owed)
    changes = Counter(row.ref for one in positions for row in store.carry.lending_changes(one.position_id))
    _compare(found, "lending change", changes, Counter(event["signature"] for event in venues.executions))
    fees = {fee.fee_key: fee for one in positions for fee in store.fees(CARRY, one.position_id)}
    for event in venues.executions:
        gas = fees.get(f"gas:{event['signature']}")
        if gas is None or gas.native_amount != int(event["gas_lamports"]):
            found.add("lost record", f"the gas of {event['signature']} is booked as {gas}")
    known = {
        signature
        for one in positions
        for intent in store.intents_of(CARRY, one.position_id)
        for attempt in store.attempts_of(intent.intent_id)
        for signature in attempt.key.get("signatures", [])
    }
    for landed in venues.landed:
        if landed["accounts"][0] == venues.wallet and landed["signature"] not in known:
            found.add("lost record", f"transaction {landed['signature']} of our wallet is no attempt of ours")


def _compare(found: Findings, what: str, ours: Counter[Any], theirs: Counter[Any]) -> None:
    for row in (theirs - ours).elements():
        found.add("lost record", f"{what} {row} is in the venue's ledger and not in ours")
    for row in (ours - theirs).elements():
        found.add("lost record", f"{what} {row} is in our books and not in the venue's ledger")


def _check_naked(found: Findings, venues: VenueLedgers, outages: list[Outage]) -> None:
    """How long the legs were uneven at a stretch, by the venues' own times, without the time a venue was out of reach."""
    held = {"long": Decimal(0), "short": Decimal(0)}
    since: int | None = None
    stretch = 0.0
    larger = "long"
    moves = [*venues.moves(), (venues.now_ms, "", Decimal(0))]
    for index, (at_ms, leg, qty) in enumerate(moves):
        if since is not None:
            stretch += (at_ms - since - _out_of_reach(larger, since, at_ms, outages)) / 1000
            found.naked_s = max(found.naked_s, stretch)
        if leg:
            held[leg] = qty
        if index + 1 < len(moves) and moves[index + 1][0] == at_ms:
            since = at_ms if since is not None else None
            continue
        larger = max(held, key=lambda name: held[name])
        uneven = abs(held["long"] - held["short"]) > UNEVEN * held[larger]
        if not uneven:
            stretch = 0.0
        since = at_ms if uneven else None
    if found.naked_s > MAX_NAKED_S:
        found.add("naked", f"one leg stood alone for {found.naked_s:.0f} s, limit {MAX_NAKED_S} s")


def _out_of_reach(leg: str, since_ms: int, until_ms: int, outages: list[Outage]) -> int:
    return sum(
        max(min(until_ms, one.until_ms) - max(since_ms, one.from_ms), 0)
        for one in outages
        if one.part in (leg, "*")
    )
