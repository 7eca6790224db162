"""Breaks one protection of the product at a time, in its processes only, to show that the harness notices.

`python -m tests.chaos.carry.mutations FILE NAME…` plays for each breakage of these names, or for all, the scenarios that must
uncover it, with and without it, and writes what was found.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from evenkeel.types import Outcome, Receipt, Rejected, Unknown
from state.carry.models import Position
from state.intents import Intents
from state.models import Intent
from tasks import intents
from tasks.carry.entering import entry
from tests.chaos.carry.business import CARRY
from tests.chaos.carry.stories import CLOSING, EXIT
from tests.chaos.harness import Harness, Result
from tests.chaos.interceptor import Point
from tests.chaos.scenarios import Scenario, scenarios_of
from venues.asgard import receipts
from venues.hyperliquid.lookup import OrderLookup
from venues.solana.confirm import Confirmer, Dead, SignatureResult
from venues.solana.heights import Life
from venues.solana.rpc import SolanaRpc

WITHOUT_EFFECT = Scenario("exit", "lands without effect", "entered", (EXIT,), CLOSING)
"""As the matrix has it; so the exit need not be recorded."""
ORDER = Point("hyperliquid exchange:order", 1)
FIRST_ORDER = f"enter / {ORDER}"


def resend_with_a_new_key() -> None:
    """A lost answer counts as a refusal: the order is sent again under a new key."""

    async def ask(*anything: Any) -> Outcome[Receipt]:
        return Rejected("no answer came")

    intents._ask = ask  # type: ignore[assignment]


def commit_after_the_wire() -> None:
    """The key and SUBMITTING are written down only when the answer is there."""
    before_the_wire, submitted = Intents.record_ready, Intents.mark_submitted
    ready: list[tuple[Any, ...]] = []

    def nothing_yet(
        self: Intents,
        intent_id: str,
        note: dict[str, Any],
        key: dict[str, Any],
        *,
        lane: Any = None,
        fence: Any = None,
    ) -> None:
        ready.append((intent_id, note, key, lane, fence))

    def both(self: Intents, intent_id: str, fence: Any = None) -> Intent:
        *of_attempt, lane, own = ready.pop()
        before_the_wire(self, *of_attempt, lane=lane, fence=own)
        return submitted(self, intent_id, fence)

    Intents.record_ready, Intents.mark_submitted = nothing_yet, both  # type: ignore[method-assign,assignment]


def order_dead_before_its_expiry() -> None:
    """An order that the venue does not show is called dead at the first tick."""
    OrderLookup._expired = lambda self, key, state: True  # type: ignore[method-assign]


def transaction_dead_before_its_height() -> None:
    """A transaction that the node does not show is called dead at the first tick, and another one is built."""
    whole = Confirmer._result_at

    async def too_early(self: Confirmer, rpc: SolanaRpc, signature: str, life: Life) -> SignatureResult:
        found = (await rpc.get_signature_statuses([signature], history=True)).found[0]
        return await whole(self, rpc, signature, life) if found is not None else Dead("not seen")

    Confirmer._result_at = too_early  # type: ignore[method-assign]


def any_height_is_believed() -> None:
    """A transaction is dead once the height that the node says has passed its limit, whatever that height is."""
    Life.allows = lambda self, height, now_ms: True  # type: ignore[method-assign]


def short_sized_from_the_plan() -> None:
    """The short is what was planned, whatever the long got."""
    planned: list[Decimal] = []
    hedge = entry.hedge

    async def remembering(desk: Any, position: Position, fence: Any) -> entry.Hedge:
        planned.append(position.target_short_qty or Decimal(0))
        return await hedge(desk, position, fence)

    def as_planned(*of_the_long: Decimal) -> Decimal:
        return planned[-1]

    entry.hedge = remembering
    entry.short_qty_for = entry.exposure_sol = as_planned  # type: ignore[assignment]


def keys_in_the_log() -> None:
    """Somebody logs what is signed with."""
    import logging

    from evenkeel.settings.settings import Settings

    secret = Settings.secret

    def logged(self: Settings, name: Any) -> Any:
        found = secret(self, name)
        logging.getLogger("evenkeel").debug("key of %s: %s", name, found and found.get_secret_value())
        return found

    Settings.secret = logged  # type: ignore[method-assign]


def landed_without_effect_is_never_dead() -> None:
    """What landed and changed nothing stays unknown for ever."""

    async def unknown(*anything: Any) -> Unknown:
        return Unknown("it landed, and what it did cannot be read")

    receipts.proof_of_no_effect = unknown  # type: ignore[assignment]


@dataclass(frozen=True)
class Mutation:
    """A breakage, the scenario that uncovers it, and the kind of finding that it must be."""

    breaking: Callable[[], None]
    scenario: str
    finding: str


MUTATIONS = (
    Mutation(resend_with_a_new_key, f"{FIRST_ORDER} / answer lost", "double open"),
    Mutation(commit_after_the_wire, f"{FIRST_ORDER} / kill after it was applied", "double open"),
    Mutation(order_dead_before_its_expiry, f"{FIRST_ORDER} / late, after a tick", "double open"),
    Mutation(transaction_dead_before_its_height, "enter / twice by 60 blocks / lands late", "double open"),
    Mutation(any_height_is_believed, "enter / one height, lands late / slots for heights", "double open"),
    Mutation(short_sized_from_the_plan, "enter / by 40 bps / worse price", "double open"),
    Mutation(landed_without_effect_is_never_dead, WITHOUT_EFFECT.name, "unfinished"),
    Mutation(keys_in_the_log, f"{FIRST_ORDER} / 429", "key shown"),
)


SAMPLE = (resend_with_a_new_key, commit_after_the_wire, landed_without_effect_is_never_dead, keys_in_the_log)
"""Those of every test run: each kind of finding, and a kill."""


def known_scenarios() -> dict[str, Scenario]:
    """Those that breakages name, as the matrix has them. An entry need not be recorded: its first order is known."""
    enter = next(one for one in CARRY.stories if one.name == "enter")
    found = [one for one in scenarios_of(enter, [ORDER], CARRY.calls) if one.point == ORDER]
    return {one.name: one for one in [*found, *CARRY.handwritten(), WITHOUT_EFFECT]}


def proved(home: Path, names: Container[str]) -> dict[str, dict[str, Any]]:
    """By mutation: the scenario, and what was found with the protection and without it."""
    harness, known, found = Harness(CARRY, home), known_scenarios(), {}
    for one in MUTATIONS:
        if one.breaking.__name__ not in names:
            continue
        scenario = known[one.scenario]
        (whole,) = harness.play([scenario])
        (broken,) = harness.play([scenario], mutate=one.breaking)
        found[one.breaking.__name__] = {
            "scenario": one.scenario,
            "must_find": one.finding,
            "whole": _short(whole),
            "broken": _short(broken),
        }
    return found


def _short(result: Result) -> list[tuple[str, str]]:
    return asdict(result)["problems"]  # type: ignore[no-any-return]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="evenkeel-chaos-", ignore_cleanup_errors=True) as folder:
        asked = sys.argv[2:] or [one.breaking.__name__ for one in MUTATIONS]
        Path(sys.argv[1]).write_text(json.dumps(proved(Path(folder), asked), indent=2))
