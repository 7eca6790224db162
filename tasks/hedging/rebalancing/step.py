"""One step of a rebalance: the intents that carry it out, and what an ending of one means for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from evenkeel.types import IntentSpec, IntentState, Receipt
from state.hedging.models import Rebalance
from state.hedging.store import HEDGING
from state.models import Fence, Intent
from strategy.hedging.rebalancing import Direction, Kind
from tasks.hedging.rebalancing.desk import RebalanceDesk
from tasks.intents import Done, Ending, NotDone, carry_out

WAIT_S = 15.0
"""How long one go asks about an outcome that is unknown."""
MOST_TRIES = 4
"""Of one step, each after the one before it is proved dead; then a person decides."""
A_STEP = 100
"""Numbers that an intent's step has for one step of the plan."""


@dataclass(frozen=True)
class Passed:
    """The step is over: `amount` goes into the next. `moved` is what the account that hedges gained, by symbol or `USD`."""

    amount: Decimal
    ref: str = ""
    moved: dict[str, str] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done now. `for_person`: somebody has to confirm it."""

    why: str
    for_person: bool = False


@dataclass(frozen=True)
class Failed:
    """It did not happen, and is not tried again by itself."""

    why: str


@dataclass(frozen=True)
class Ended:
    """What is left stays where it is: too little to go on with."""

    why: str


Result: TypeAlias = Passed | Wait | Failed | Ended


@dataclass(frozen=True)
class Step:
    """One step of one rebalance. `amount` is what the one before it gave, rounded down."""

    rd: RebalanceDesk
    row: Rebalance
    index: int
    kind: Kind
    amount: Decimal
    fence: Fence | None

    @property
    def scope(self) -> str:
        return self.row.scope

    @property
    def done(self) -> list[dict[str, Any]]:
        """What the steps before this one gave."""
        found: list[dict[str, Any]] = self.row.done.get("steps", [])
        return found

    @property
    def since_ms(self) -> int:
        """Since when this step is the present one."""
        return int(self.done[-1]["at_ms"]) if self.done else self.row.decided_ms

    @property
    def is_to_chain(self) -> bool:
        return self.row.direction == Direction.TO_CHAIN

    def own(self, delta: Decimal, what: str | None = None) -> dict[str, str]:
        """What the account that hedges gained; nothing where another one has the wallets."""
        return {} if self.rd.is_by_journal else {what or self.scope: str(delta)}

    def intents(self, part: int = 0) -> list[Intent]:
        """The intents of this step so far, in order; `part` where a step has several."""
        first = self.index * A_STEP + part * (A_STEP // 4)
        every = self.rd.at.desk.store.intents_of(HEDGING, self.row.name)
        mine = [one for one in every if first <= one.step < first + A_STEP // 4]
        return sorted(mine, key=lambda one: one.step)

    @property
    def most_tries(self) -> int:
        """Tries of one intent of the step, more of them each time that a person resumed it."""
        return MOST_TRIES * int(self.row.done.get("goes", 1))

    async def carry(self, venue: str, kind: str, order: Mapping[str, Any], part: int = 0) -> Ending:
        """Bring the step's intent to its end, or as far as it goes now. One that failed is planned anew, with the order of now,
        so many times.
        """
        mine, desk = self.intents(part), self.rd.at.desk
        last = mine[-1] if mine else None
        # An approval that was made and is not there any more is made again: it moves nothing.
        is_used = (
            last is not None and last.state is IntentState.CONFIRMED and part and len(mine) < self.most_tries
        )
        if last is None or last.state is IntentState.FAILED or is_used:
            if last is not None and len(mine) >= self.most_tries:
                return NotDone(f"{len(mine)} tries failed, the last: {last.failure}", refused=True)
            step = self.index * A_STEP + part * (A_STEP // 4) + len(mine)
            spec = IntentSpec(
                intent_id=f"{self.row.name}-{kind}-{step}",
                business=HEDGING,
                subject=self.row.name,
                venue=venue,
                kind=kind,
                step=step,
                order=dict(order),
            )
            last = desk.store.plan_intent(spec, fence=self.fence)
        return await carry_out(desk, last.intent_id, self.fence, wait_s=WAIT_S)

    def result(self, ending: Ending, passed: Callable[[Receipt], Passed]) -> Result:
        """Return what an ending is for the step. What failed on its way, or was refused fewer times than are tried, waits."""
        if isinstance(ending, Done):
            return passed(ending.receipt)
        if not isinstance(ending, NotDone):
            return Wait(ending.reason)
        tried = len(self.intents())
        is_first_refusal = ending.refused and not self.done and tried >= 1
        if is_first_refusal or tried >= self.most_tries:
            return Failed(ending.reason)
        return Wait(f"tried {tried} times: {ending.reason}")
