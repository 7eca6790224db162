"""Carry as the harness plays it: twins on a standing market, its stories, and the check of its books after a recovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.demo import environment
from evenkeel.settings.settings import load_settings
from state.store import Store
from tests.chaos.business import Business
from tests.chaos.carry.handwritten import handwritten
from tests.chaos.carry.invariants import VenueLedgers, check
from tests.chaos.carry.lives import CARRY_LIVES
from tests.chaos.carry.steps import STEPS
from tests.chaos.carry.stories import CALLS, SNAPSHOTS, STORIES
from tests.chaos.findings import Findings, check_secrets
from tests.chaos.process import Hook, Step
from tests.chaos.testbed import Testbed
from tests.worlds import flat_world
from twins.serve import BuiltTwins, TwinOptions, build_twins

STRATEGY = {"deployment_pct": "0.5", "leverage": 3, "wallet_kept_usd": "1000000000"}
"""Most stories are of legs that can only be made smaller; those of a wallet that mends and grows them say so themselves."""
RECOVERY: tuple[Step, ...] = (
    ("recover", {}),
    ("level", {}),
    ("rest", {"seconds": 2.5 * 3600}),
    ("recover", {}),
    ("status", {}),
)
"""What a new process does after every scenario: take up what is unfinished, tick once over what is open, and hours
later, when funding is due, once more."""


def _build_twins() -> BuiltTwins:
    return build_twins(TwinOptions(stepped=True), flat_world())


def _build_standing_twins(key_seed: int) -> BuiltTwins:
    return build_twins(TwinOptions(stepped=True, key_seed=key_seed), flat_world(speed=0.0))


def _write_settings(folder: Path, announcement: dict[str, Any]) -> Path:
    return environment.write_settings(folder, announcement, STRATEGY, "")


async def recover_and_check(bed: Testbed) -> Findings:
    """A new process recovers; then everything is held against the venues' ledgers."""
    done = await bed.run(*RECOVERY)
    found = _findings(bed)
    if done.code != 0:
        last = done.answers[-1] if done.answers else done.last_lines
        found.add("other", f"recovery ended with {done.code}: {last}")
        return found
    first, _, _, second, status = done.answers
    for recovery in (first, second):
        if not recovery["clean"]:
            found.add("unfinished", f"recovery was not clean: {recovery}")
    for name in ("unfinished_intents", "unowned_legs", "unreadable"):
        if status[name]:
            found.add("unfinished", f"status shows {name}: {status[name]}")
    return found


def _findings(bed: Testbed) -> Findings:
    """All invariants, now."""
    store = Store.open(load_settings(bed.config).database.url, bed.twins.world)  # type: ignore[arg-type]
    try:
        found = check(VenueLedgers.read(bed.twins), store, outages=bed.outages)
    finally:
        store.close()
    check_secrets(found, bed.folder, bed.twins.keys)
    return found


def _mutations() -> dict[str, Hook]:
    from tests.chaos.carry.mutations import MUTATIONS  # it plays scenarios of this business

    return {one.breaking.__name__: one.breaking for one in MUTATIONS}


CARRY = Business(
    name="carry",
    stories=STORIES,
    handwritten=handwritten,
    snapshots=SNAPSHOTS,
    steps=STEPS,
    calls=CALLS,
    build_twins=_build_twins,
    build_standing_twins=_build_standing_twins,
    write_settings=_write_settings,
    mutations=_mutations,
    lives=CARRY_LIVES,
    recover_and_check=recover_and_check,
)
