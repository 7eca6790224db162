"""Whether a position may be entered now: every check in its order. Only what passed them all can be written down.

`get_ready` asks what needs no market: unfinished work, pauses, books. `clear` asks the markets, the breakers, the limits
and the pre-flight checks. Each answers with a type of its own that nothing else can make, or with `Declined`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn, final

from evenkeel.errors import Bug
from evenkeel.legs import CARRY
from strategy.carry.checks import judge_price_consensus
from strategy.decisions import Check
from tasks.carry.books.reconcile import unsettled_books
from tasks.carry.desk import CarryDesk
from tasks.carry.entering.choose import Declined, EntryPlan, RequestedEntry, choose
from tasks.carry.entering.preflight import run_preflight
from tasks.carry.market import MarketView, read_market
from tasks.carry.watching import breakers
from venues.asgard.mints import TOKENS

_TOKEN = object()
"""The right to clear, known to this module alone."""


class _Sealed:
    """Made by this module alone, and never changed, copied or pickled: a clearance does not outlive its moment."""

    __slots__ = ()

    def __init__(self, token: object) -> None:
        if token is not _TOKEN:
            raise Bug(f"{type(self).__name__} is made by the checks of an entry alone")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("what was cleared cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("what was cleared cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("what was cleared cannot be pickled or copied: check again")


@final
class Ready(_Sealed):
    """Nothing is unfinished or paused, and the books agree with the venues."""

    __slots__ = ()


@final
class Cleared(_Sealed):
    """A plan that passed every check, and what the last of them said. The only thing that can be written down."""

    __slots__ = ("checks", "plan")

    plan: EntryPlan
    checks: tuple[Check, ...]

    def __init__(self, token: object, plan: EntryPlan, checks: tuple[Check, ...]) -> None:
        super().__init__(token)
        put: Any = object.__setattr__
        put(self, "plan", plan)
        put(self, "checks", checks)


async def get_ready(desk: CarryDesk) -> Ready | Declined:
    """Ask what may refuse any entry before its markets are read: unfinished work, pauses and remembered trips, books."""
    if (unfinished := _unfinished(desk)) is not None:
        return Declined(reasons=(unfinished,))
    if paused := await breakers.refuse_entry(desk):
        return Declined(reasons=paused)
    if unsettled := await unsettled_books(desk):
        return Declined(reasons=unsettled)
    return Ready(_TOKEN)


async def clear(
    desk: CarryDesk,
    ready: Ready,
    requested: RequestedEntry,
    without: Collection[tuple[str, int]] = (),
) -> Cleared | Declined:
    """Read the markets, judge the breakers, choose within the limits, and make the pre-flight checks: of the best offer,
    and of the next where what fails is that offer's alone. Nothing is sent. `without`: (asset, protocol) of offers that
    have been tried already.

    Raises Retryable or VenueRefused where a market cannot be read, Bug where `ready` was not made by `get_ready`.
    """
    if not isinstance(ready, Ready):
        raise Bug("an entry is cleared only when it is ready")
    market = await read_market(desk)
    if tripped := await breakers.refuse_market(desk, market):
        return Declined(reasons=tripped)
    choice = await choose(desk, market, requested)
    if isinstance(choice, Declined):
        return choice
    reasons: list[str] = []
    for plan in choice.plans:
        if (plan.asset, plan.protocol) in without:
            continue
        preflight = await run_preflight(desk, plan)
        if preflight.ok:
            return Cleared(_TOKEN, plan, preflight.checks)
        where = f"{plan.where}: " if len(choice.plans) > 1 else ""
        reasons += [f"{where}{reason}" for reason in preflight.reasons]
        if not preflight.offer_alone:
            break
    return Declined(reasons=tuple(reasons))


async def would_refuse(desk: CarryDesk, market: MarketView) -> dict[str | None, tuple[str, ...]]:
    """What would refuse an entry of now before any offer is weighed: under None whatever refuses all of them, under an
    asset what refuses it alone. Nothing is stored. Fees are those of the cheapest lender.
    """
    found: dict[str | None, list[str]] = {None: []}
    states = [one for one in await breakers.standing(desk, market) if one.tripped]
    if (unfinished := _unfinished(desk)) is not None:
        found[None].append(unfinished)
    found[None] += breakers.halted(desk, but={one.name for one in states})
    for one in states:
        found.setdefault(one.scope if one.scope in TOKENS else None, []).append(f"{one.name}: {one.reason}")
    gap = judge_price_consensus(market.asgard_sol_price_usd, market.perp.mark_px, desk.settings.limits)
    if not gap.ok:
        found[None].append(f"{gap.name}: {gap.reason}")
    return {asset: tuple(reasons) for asset, reasons in found.items()}


def _unfinished(desk: CarryDesk) -> str | None:
    """Work that an earlier run left unfinished comes first."""
    waiting = desk.store.unfinished_intents(CARRY)
    if waiting:
        return f"{len(waiting)} intents are unfinished (first: {waiting[0].intent_id}): run `evenkeel recover` first"
    return None
