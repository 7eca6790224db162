"""How near liquidation each position of this process is at the price just streamed, and which of those in danger are read next.

A streamed price moves distances that were read, wakes a calm watch, and orders the readings. It closes nothing: what a rule
judges is read from the venues.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.legs import LegSide
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import exit_distance, moved_distance
from strategy.carry.readings import LegReading
from venues.perp import PerpContext
from venues.ratebudget import Lane, RateBudget
from venues.shared import ended

READING, MARKET = 2.0, 20.0
"""What an account's reading weighs at the venue, and the market's, which is one for all that are read at a time."""
MOST_PACES = 3
"""So many paces of a danger lie at most between two moments at which positions are read."""
ASKED_EVERY_S = 2.0
WAIT_MS = 20_000
"""A position that has just come to its exit distance may wait so long to be read again; one at liquidation not at all."""


@dataclass
class Standing:
    """A position as its last tick read it, moved to the price streamed since. Distances and exit distances by leg; a leg whose
    distance is not known has None, and one that cannot be liquidated is left out.
    """

    read: Mapping[LegSide, tuple[Decimal | None, Decimal | None]]
    """Distance, and the price that it was read at."""
    at_exit: Mapping[LegSide, Decimal]
    read_ms: int
    closely: bool = False
    """Its watch ticks at the pace of a danger."""
    now: dict[LegSide, Decimal | None] = field(default_factory=dict)
    price: PerpContext | None = None
    """What `now` is worked out at; None: as it was read."""
    woken: bool = False
    """Its watch was woken since the last tick."""
    in_vain: int = 0
    """Wakings in a row after which the tick found no danger."""

    def share(self) -> Decimal:
        """The least share of its exit distance that a leg has left: below 1 it is in danger, at 0 it can be liquidated."""
        shares = [
            Decimal(0) if distance is None else distance / self.at_exit[side]
            for side, distance in self.now.items()
        ]
        return min(shares, default=Decimal(1))


class Danger:
    """The positions that are watched in this process."""

    def __init__(self, clock: Clock, budget: RateBudget, danger_s: float) -> None:
        """`danger_s`: seconds between two ticks of one position in danger."""
        self._clock, self._budget, self._danger_s = clock, budget, danger_s
        self.standing: dict[str, Standing] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._moments: asyncio.Task[None] | None = None

    # --- distances ------------------------------------------------------------------------------------------------

    def follow(
        self,
        position_id: str,
        legs: Mapping[LegSide, LegReading],
        prices: Mapping[LegSide, Decimal | None],
        limits: CarryLimits,
        *,
        closely: bool,
    ) -> None:
        """Take what a tick has read. `prices`: of one SOL, as each leg's distance was read at."""
        before = self.standing.get(position_id)
        in_vain = before.in_vain + 1 if before is not None and before.woken and not closely else 0
        held = {side: leg for side, leg in legs.items() if leg.qty is None or leg.distance is not None}
        self.standing[position_id] = Standing(
            read={side: (leg.distance, prices[side]) for side, leg in held.items()},
            at_exit={
                side: exit_distance(leg.entry_liquidation_distance, limits.risk) for side, leg in held.items()
            },
            read_ms=self._clock.now_ms(),
            closely=closely,
            now={side: leg.distance for side, leg in held.items()},
            in_vain=in_vain,
        )

    def forget(self, position_id: str) -> None:
        """Follow this position no more: its watch has ended."""
        self.standing.pop(position_id, None)

    def moved(self, price: PerpContext) -> None:
        """Work out every distance at a price just streamed: the long's by the oracle, the short's by the mark."""
        prices = {LegSide.LONG: price.oracle_px, LegSide.SHORT: price.mark_px}
        for one in self.standing.values():
            for side, (distance, then) in one.read.items():
                if distance is not None and then is not None:
                    one.now[side] = moved_distance(side, distance, then, prices[side])
            one.price = price

    def comes_near(self, position_id: str) -> bool:
        """Whether the streamed price has brought a leg to its exit distance since its last tick, which did not find it there.
        Asked once, it is so no more until the next one; where ticks find no danger, it is so less and less often.
        """
        one = self.standing.get(position_id)
        if one is None or one.woken or one.closely or one.price is None or one.share() >= 1:
            return False
        wait_ms = self._danger_s * 1000 * 2**one.in_vain if one.in_vain else 0
        if self._clock.now_ms() - one.read_ms < wait_ms:
            return False
        one.woken = True
        return True

    # --- turns ----------------------------------------------------------------------------------------------------

    def pace_s(self) -> float:
        """Seconds between two moments at which positions in danger are read: as long as reading them takes of the request
        budget, from `danger_s` to three times that.
        """
        closely = sum(one.closely or one.woken for one in self.standing.values())
        taken_s = (MARKET + READING * closely) / self._budget.per_minute * 60
        return self._danger_s * min(MOST_PACES, max(1, math.ceil(taken_s / self._danger_s)))

    async def turn(self, position_id: str, asked: Callable[[], bool] = lambda: False) -> None:
        """Return when this position is to be read again: at a moment of all in danger, so that what is everybody's is read
        once. Where the request budget does not suffice for all of them, the most endangered are first, and none waits for ever.
        Nor does a person: every 2 s of the wall `asked` says whether one wants something now.
        """
        mine = self._waiting.setdefault(position_id, asyncio.get_running_loop().create_future())
        if self._moments is None or self._moments.done():
            self._moments = asyncio.create_task(self._give_turns())
        try:
            while not mine.done():
                await asyncio.wait([mine], timeout=ASKED_EVERY_S)
                if not mine.done() and asked():
                    return
            mine.result()
        finally:
            if not mine.done():
                mine.cancel()
                self._waiting.pop(position_id, None)

    async def close(self) -> None:
        """Break off what waits."""
        await ended([] if self._moments is None else [self._moments])

    async def _give_turns(self) -> None:
        fault: BaseException | None = None
        try:
            while self._waiting:
                pace_s = self.pace_s()
                await self._clock.sleep(pace_s - self._clock.now_ms() / 1000 % pace_s)
                affordable = int((self._budget.saved(Lane.URGENT) - MARKET) // READING)
                for name in sorted(self._waiting, key=self._due_ms)[: max(1, affordable)]:
                    self._waiting.pop(name).set_result(None)
        except Exception as error:  # the clock's: whoever waits by it knows what to do
            fault = error
        finally:
            left, self._waiting = self._waiting, {}
            for one in left.values():
                one.cancel() if fault is None else one.set_exception(fault)

    def _due_ms(self, position_id: str) -> float:
        """By when it should be read again: the nearer to liquidation, the sooner after its last reading."""
        one = self.standing.get(position_id)
        if one is None:
            return 0.0
        return one.read_ms + WAIT_MS * float(min(Decimal(1), max(Decimal(0), one.share())))
