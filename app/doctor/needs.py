"""What an exit needs, by the same list that is watched while a position is open."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from app.doctor.frame import CHECKS, Check, Installation, Verdict, fail, ok, warn
from evenkeel.clock import Clock
from evenkeel.legs import LegSide
from evenkeel.settings.settings import Settings
from strategy.carry.needs.listed import NEEDS
from strategy.carry.needs.state import Level, NeedState
from tasks.carry.watching.needs import Needs, Subject
from venues.asgard.venue import AsgardVenue
from venues.protocol import PerpVenue
from venues.timing import VenueTime

GROUP = "exit needs"


@dataclass
class _Around:
    settings: Settings
    clock: Clock
    long: AsgardVenue
    short: PerpVenue
    chain_time: VenueTime


async def _states(installation: Installation) -> dict[str, NeedState]:
    """Every need of each open position, the worse of two; without a position those of the first market that may be entered."""
    clock, venues = installation.clock, installation.venues
    around = _Around(installation.settings, clock, venues.long, venues.short, VenueTime(clock))
    found: dict[str, NeedState] = {}
    for subject in _subjects(installation):
        needs = Needs(around, subject)
        await needs.read()
        for one in needs.judge():
            known = found.get(one.name)
            if known is None or list(Level).index(one.level) > list(Level).index(known.level):
                found[one.name] = one
    return found


def _subjects(installation: Installation) -> list[Subject]:
    held = []
    ledger = installation.ledger
    for position in ledger.carry.positions() if ledger is not None else []:
        leg = ledger.carry.leg(position.position_id, LegSide.LONG) if ledger is not None else None
        if position.closed_ms is None and leg is not None and leg.is_open:
            held.append(Subject(leg.asset, int(leg.protocol or 0), position, leg.qty))
    if held:
        return held
    settings = installation.settings
    usable = [
        one
        for one in settings.strategy.protocol_preference
        if one not in settings.strategy.disabled_protocols
    ]
    return [Subject(settings.limits.allowed_long_assets[0], usable[0] if usable else 0)]


async def _check(name: str, installation: Installation) -> Verdict:
    state = (await installation.once(GROUP, partial(_states, installation)))[name]
    if state.level is Level.CRITICAL:
        return fail(state.reason, state.advice)
    if state.level is Level.FINE and not state.refuses_entry:
        return ok(state.reason)
    refused = "; entries are refused" if state.refuses_entry else ""
    return warn(f"{state.reason}{refused}", state.advice)


CHECKS.extend(Check(GROUP, need.name, partial(_check, need.name)) for need in NEEDS)
