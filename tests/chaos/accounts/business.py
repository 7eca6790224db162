"""Managed accounts as the harness plays them: stories, starting points, and the check of the books after a recovery."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.at_end import at_end
from tests.chaos.accounts.bed import SOL, AccountsBed, Preparation, Start, made_start, missing, served_bed
from tests.chaos.accounts.handwritten import handwritten
from tests.chaos.accounts.invariants import check, check_secrets
from tests.chaos.accounts.steps import STEPS
from tests.chaos.business import Business
from tests.chaos.findings import Findings
from tests.chaos.process import Hook, Step
from tests.chaos.scenarios import CallKinds, Scenario, Story
from twins.ostium.deployment import MILLION

OPEN: Step = ("open", {})
CLOSE: Step = ("close", {})
PART: Step = ("close", {"share": "0.5"})
LIMIT: Step = ("limit", {})
CANCEL: Step = ("cancel", {})
STOP: Step = ("watch", {})
COLLECT: Step = ("collect", {})
DEPLOY: Step = ("deploy", {})
LATE: Step = ("tend", {"ticks": 4, "apart_s": 30.0})
RECOVERY: tuple[Step, ...] = (
    ("tend", {"ticks": 4, "apart_s": 25.0}),
    COLLECT,
    ("tend", {"ticks": 3, "apart_s": 5.0}),
    ("status", {}),
)
"""What a new process does after every scenario: watch for two minutes, pull what could not be pulled, and watch on."""

STORIES = (
    Story("accounts open", "deployed", (OPEN,)),
    Story("accounts close", "gained", (CLOSE,)),
    Story("accounts part", "gained", (PART,), sparse=0),
    Story("accounts stop", "risen", (STOP,), sparse=1),
    Story("accounts collect", "closed", (COLLECT,)),
    Story("accounts deploy", "deployed", (DEPLOY,), sparse=0),
    Story("accounts revoke", "revoked", (STOP,), sparse=0),
    Story("accounts top-up", "topped up", (STOP,), sparse=1),
    Story(
        "accounts timeout",
        "deployed",
        (OPEN, LATE),
        (("ostium", "silent_keeper", "answer:.*"),),
        only="eth_sendRawTransaction",
    ),
    Story("accounts limit", "deployed", (LIMIT,), sparse=1),
    Story("accounts cancel", "waiting", (CANCEL,), sparse=0),
)
SENDING = ("accounts open", "accounts close", "accounts part", "accounts stop", "accounts collect")


async def _opened(bed: AccountsBed) -> None:
    done = await bed.run(OPEN, STOP)
    assert done.code == 0 and done.answers[0]["state"] == "OPEN", done
    await bed.later(60)


async def _waiting(bed: AccountsBed) -> None:
    done = await bed.run(("limit", {"price": "140"}))
    assert done.code == 0 and done.answers[0]["state"] == "PENDING", done
    await bed.later(60)


async def _gained(bed: AccountsBed) -> None:
    await _opened(bed)
    bed.move(156.0)


async def _closed(bed: AccountsBed) -> None:
    await _gained(bed)
    done = await bed.run(CLOSE)
    assert done.code == 0 and done.answers[0]["state"] == "CLOSED", done
    await bed.later(60)


async def _revoked(bed: AccountsBed) -> None:
    """The user has taken the delegation back; nobody here has read that yet."""
    await _opened(bed)
    bed.venue.venue.send("trading", "removeDelegate", sender=bed.user)


async def _topped_up(bed: AccountsBed) -> None:
    """The user has added to the collateral by himself."""
    await _gained(bed)
    bed.venue.venue.send("trading", "topUpCollateral", SOL, 0, 50 * MILLION, sender=bed.user)


def _acts() -> list[Scenario]:
    return handwritten(
        {
            one.name.removeprefix("accounts "): (one.snapshot, one.steps)
            for one in STORIES
            if one.name in SENDING
        }
    )


SNAPSHOTS: dict[str, Preparation | None] = {
    "deployed": None,
    "gained": _gained,
    "risen": _gained,
    "closed": _closed,
    "revoked": _revoked,
    "topped up": _topped_up,
    "waiting": _waiting,
}


async def recover_and_check(bed: AccountsBed) -> Findings:
    """New processes recover; then the books are held against the chain."""
    done = await bed.run(*RECOVERY)
    await bed.later(5)
    found = check(bed)
    if done.code != 0:
        found.add("other", f"recovery ended with {done.code}: {done.last_lines}")
    return found


def _shows_no_key(prepare: Preparation | None) -> Preparation:
    """The same; what was written on the way there shows no key."""

    async def prepared(bed: AccountsBed) -> None:
        if prepare is not None:
            await prepare(bed)
        check_secrets(found := Findings(), bed)
        assert not found.problems, found.problems

    return prepared


STARTS: dict[str, list[Start]] = {}
"""By starting point, one for each scenario that is played on it at a time."""


def make_ready(name: str, at_once: int) -> None:
    """Make a starting point so often that so many scenarios can be played on it at once."""
    made = STARTS.setdefault(name, [])
    while len(made) < at_once:
        folder = Path(tempfile.mkdtemp(prefix="evenkeel-"))
        at_end(lambda folder=folder: shutil.rmtree(folder, ignore_errors=True))  # type: ignore[misc]
        made.append(made_start(STEPS, _shows_no_key(SNAPSHOTS[name]), folder))
        at_end(made[-1].node.close)


@contextmanager
def free_one(starts: list[Start]) -> Iterator[Start]:
    """One on which nobody plays: whoever does holds its lock, which ends with his process."""
    for one in starts:
        with (one.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield one
            return
    raise AssertionError(f"all {len(starts)} nodes of this starting point are in use")


@asynccontextmanager
async def bed_of(name: str, folder: Path, mutate: Hook | None) -> AsyncIterator[AccountsBed]:
    """The bed of a starting point."""
    with free_one(STARTS[name]) as start:
        start.put_back()
        async with served_bed(STEPS, start, folder, mutate) as bed:
            yield bed


ACCOUNTS = Business(
    name="accounts",
    stories=STORIES,
    handwritten=_acts,
    snapshots={},
    steps=STEPS,
    calls=CallKinds(writing=("eth_sendRawTransaction",)),
    recover_and_check=recover_and_check,
    bed=bed_of,
    make_ready=make_ready,
    missing=missing,
    has_lives=False,
    recordings=3,
)
