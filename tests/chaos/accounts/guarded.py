"""Accounts on Hyperliquid as the harness plays them: stories, starting points, and the check of the books after a recovery."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path
from typing import Any

from tests.at_end import at_end
from tests.chaos.accounts.guarded_bed import GuardedBed, Preparation, Start, guarded_bed, made_start
from tests.chaos.accounts.guarded_check import (
    check_deployments,
    check_held,
    check_money,
    check_once,
    check_secrets,
    store_of,
)
from tests.chaos.accounts.guarded_steps import STEPS
from tests.chaos.business import Business
from tests.chaos.events import at
from tests.chaos.findings import Findings
from tests.chaos.interceptor import Point
from tests.chaos.process import Hook, Step
from tests.chaos.scenarios import CallKinds, Scenario, Story

AGENT: Step = ("agent", {})
CLOSE: Step = ("close", {})
PART: Step = ("close", {"share": "0.4"})
DEPLOY: Step = ("deploy", {})
RECOVERY: tuple[Step, ...] = (("tend", {"ticks": 5, "apart_s": 25.0}), ("status", {}))
"""What a new process does after every scenario: watch for two minutes. Fills are booked, and stops stand again, by then."""
AFTER: tuple[Step, ...] = (("tend", {"ticks": 4, "apart_s": 10.0}),)
"""And once the user has closed what was left."""

STORIES = (
    Story("accounts hyperliquid open", "bought", (AGENT,)),
    Story("accounts hyperliquid stop", "risen", (AGENT,)),
    Story("accounts hyperliquid close", "gained", (CLOSE,)),
    Story("accounts hyperliquid part", "gained", (PART,), sparse=0),
    Story("accounts hyperliquid top-up", "added", (AGENT,), sparse=1),
    Story("accounts hyperliquid fired", "fired", (AGENT,), sparse=0),
    Story("accounts hyperliquid turned", "turned", (AGENT,), sparse=1),
    Story("accounts hyperliquid by the user", "his stop", (AGENT,), sparse=0),
    Story("accounts hyperliquid revoke", "revoked", (AGENT,), sparse=1),
    Story("accounts hyperliquid deploy", "approved", (DEPLOY,), sparse=0),
)


# --- starting points ----------------------------------------------------------------------------------------------


async def _bought(bed: GuardedBed) -> None:
    """The user has opened a trade by himself; nobody here has read that yet."""
    bed.user.act({"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 4})
    bed.user.trade(is_buy=True, size="5", price="230")
    await bed.later(5)


async def _guarded(bed: GuardedBed) -> None:
    await _bought(bed)
    done = await bed.run(AGENT, AGENT)
    assert done.code == 0 and len(bed.user.resting()) == 1, done
    await bed.later(20)


async def _risen(bed: GuardedBed) -> None:
    await _guarded(bed)
    bed.move(215.0)


async def _added(bed: GuardedBed) -> None:
    """The user has added to his trade by himself."""
    await _guarded(bed)
    bed.user.trade(is_buy=True, size="2", price="230")
    await bed.later(5)


async def _fired(bed: GuardedBed) -> None:
    """The market fell to the stop, and nobody watched."""
    await _guarded(bed)
    bed.move(190.0)
    await bed.later(60)
    assert not bed.user.resting() and not bed.venue.engine.read(bed.user.address).positions


async def _turned(bed: GuardedBed) -> None:
    """The user has sold more than he held: one trade is over, and another has begun."""
    await _guarded(bed)
    bed.user.trade(is_buy=False, size="8", price="150")
    await bed.later(5)


async def _his_stop(bed: GuardedBed) -> None:
    """The user has moved the stop, and the market has risen."""
    await _guarded(bed)
    [order] = bed.user.resting()
    bed.user.move_stop(order["oid"], "180.5")
    bed.move(215.0)


async def _revoked(bed: GuardedBed) -> None:
    await _risen(bed)
    bed.revoke()


async def _nothing(bed: GuardedBed) -> None:
    """Both users have approved their agents; one is deployed and has no trade."""


SNAPSHOTS: dict[str, Preparation] = {
    "approved": _nothing,
    "bought": _bought,
    "risen": _risen,
    "gained": _risen,
    "added": _added,
    "fired": _fired,
    "turned": _turned,
    "his stop": _his_stop,
    "revoked": _revoked,
}


# --- what users and the venue do meanwhile ------------------------------------------------------------------------


def _sells(bed: GuardedBed) -> None:
    """The user closes by himself."""
    bed.user.trade(is_buy=False, size="5", price="150", reduce_only=True)


def _takes_away(bed: GuardedBed) -> None:
    """The user cancels whatever rests."""
    for one in bed.user.resting():
        bed.user.cancel(one["oid"])


def _falls(bed: GuardedBed) -> None:
    """The market falls through every stop, and an hour's funding is due."""
    bed.move(150.0)
    bed.world.clock.advance_to(bed.world.now_ms() + 60_000)
    bed.venue.catch_up()


def _liquidated(bed: GuardedBed) -> None:
    """The venue takes the trade."""
    bed.venue.control("liquidate", {"address": bed.user.address, "coin": "SOL"})


def _hides(bed: GuardedBed) -> None:
    """The venue's index lags behind its matching: an order that is there is not found for a while."""
    bed.fault("hyperliquid", "hidden_order", times=1, seconds=20)


EVENTS: dict[str, Callable[[GuardedBed], Awaitable[None] | None]] = {
    "the user closes by himself": _sells,
    "the user takes his orders away": _takes_away,
    "the market falls through the stop": _falls,
    "the venue liquidates": _liquidated,
    "the agent is revoked": GuardedBed.revoke,
    "the order is hidden": _hides,
}
SENDS = {
    "open": "exchange:order",
    "stop": "exchange:batchModify",
    "close": "exchange:order",
    "part": "exchange:order",
    "top-up": "exchange:batchModify",
}


def handwritten() -> list[Scenario]:
    """Something happens right before the order of a story arrives."""
    stories = {one.name: one for one in STORIES}
    rows = []
    for name, call in SENDS.items():
        story = stories[f"accounts hyperliquid {name}"]
        for label, event in EVENTS.items():
            script = at(Point(f"hyperliquid {call}", 1), event, *story.steps)
            rows.append(Scenario(story.name, "meanwhile", story.snapshot, script=script, label=label))
    return rows


# --- the end ------------------------------------------------------------------------------------------------------


async def recover_and_check(bed: GuardedBed) -> Findings:
    """Recover by a new process and hold the books against the venue; then have the user close all, and compare the money."""
    found = Findings()
    done = await bed.run(*RECOVERY)
    if done.code != 0:
        found.add("other", f"recovery ended with {done.code}: {done.last_lines}")
    store = store_of(bed)
    try:
        check_held(found, bed, store)
        check_once(found, bed, store)
        check_deployments(found, bed, store)
    finally:
        store.close()
    for coin, held in [*bed.venue.engine.read(bed.user.address).positions.items()]:
        assert coin == "SOL"
        size, is_buy = f"{abs(held.szi):f}", held.szi < 0
        bed.user.trade(is_buy=is_buy, size=size, price="300" if is_buy else "100", reduce_only=True)
    await bed.later(5)
    ended = await bed.run(*AFTER)
    if ended.code != 0:
        found.add("other", f"the watch ended with {ended.code}: {ended.last_lines}")
    store = store_of(bed)
    try:
        check_money(found, bed, store)
    finally:
        store.close()
    check_secrets(found, bed)
    return found


@cache
def start_of(name: str) -> Start:
    """A starting point, made when it is first asked for; what was written on the way there shows no key."""

    async def prepare(bed: GuardedBed) -> None:
        await SNAPSHOTS[name](bed)
        check_secrets(found := Findings(), bed)
        assert not found.problems, found.problems

    folder = Path(tempfile.mkdtemp(prefix="evenkeel-"))
    at_end(lambda: shutil.rmtree(folder, ignore_errors=True))
    return made_start(STEPS, prepare, folder)


def bed_of(snapshot: str, folder: Path, mutate: Hook | None) -> AbstractAsyncContextManager[Any]:
    """The bed of a starting point."""
    return guarded_bed(STEPS, start_of(snapshot), folder, mutate)


GUARDED = Business(
    name="accounts-hyperliquid",
    stories=STORIES,
    handwritten=handwritten,
    snapshots={},
    steps=STEPS,
    calls=CallKinds(writing=("exchange:",), orders=("hyperliquid exchange:order",)),
    recover_and_check=recover_and_check,
    bed=bed_of,
    make_ready=lambda name, at_once: start_of(name),
    has_lives=False,
)
