"""What a close needs, as it was kept with the positions that are live, where a venue's list is not to be had."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from evenkeel.clock import Clock
from evenkeel.errors import EvenkeelError
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.store import Store
from tasks.carry.mark import LIVE
from tasks.carry.prices import within_a_moment
from venues.asgard.models import Strategy
from venues.asgard.venue import AsgardVenue
from venues.perp import AssetSpec
from venues.protocol import PerpVenue

EXIT_NEEDS = "exit_needs"
"""In a position's facts."""


class ExitNeeds(Frozen):
    """The perpetual's number and precision, and the banks of every market against USDC: those of the position, and those
    that lend for the moment of a close.
    """

    perpetual: AssetSpec
    markets: tuple[Strategy, ...]


def stored_needs(store: Store) -> list[ExitNeeds]:
    """Return what is kept with the live positions, the latest first. A ledger that cannot be read has none."""
    found = []
    try:
        positions = store.carry.positions(LIVE)
    except EvenkeelError:
        return []
    for position in reversed(positions):
        if (kept := position.facts.get(EXIT_NEEDS)) is not None:
            try:
                found.append(ExitNeeds.model_validate(kept))
            except ValidationError:
                continue  # of an older program; the venue is asked as if nothing had been kept
    return found


async def needs_without_ledger(settings: Settings, clock: Clock) -> list[ExitNeeds]:
    """The same for the last resort: whatever can still be read of the ledger within a moment. Never raises."""
    found: list[ExitNeeds] = []
    await within_a_moment(settings, clock, lambda store: found.extend(stored_needs(store)))
    return found


def use_stored_needs(kept: Callable[[], list[ExitNeeds]], long: AsgardVenue, short: PerpVenue) -> None:
    """Let both adapters fall back on what is kept."""

    def markets() -> list[Strategy]:
        return [one for needs in kept()[:1] for one in needs.markets]

    def asset(coin: str) -> AssetSpec | None:
        return next((one.perpetual for one in kept() if one.perpetual.coin == coin), None)

    long.stored_markets = markets
    short.market.stored_asset = asset
