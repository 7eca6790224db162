"""Check a configuration before money is at stake: every check side by side, each with what to do; nothing is ever sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import app.doctor  # noqa: F401  (makes every check known)
from app.doctor.frame import CHECKS, Check, Health, Installation, Missing, Verdict, fail
from app.screens import NOT_CHECKED
from evenkeel.clock import Clock, SystemClock
from evenkeel.errors import EvenkeelError
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.store import Store
from tasks.carry.connect import open_venues
from tasks.desk import make_clock

TIMEOUT_S = 30.0
"""Of one check, in wall time."""
AGAIN = "mend what is said above first"


class Line(Frozen):
    """One check and how it went."""

    group: str
    name: str
    verdict: Verdict


class Examination(Frozen):
    """Every line, in the order of the checks."""

    lines: tuple[Line, ...]

    def count(self, health: Health) -> int:
        return sum(one.verdict.health is health for one in self.lines)

    @property
    def healthy(self) -> bool:
        """No check failed; warnings are for a person to weigh."""
        return not self.count(Health.FAIL)

    def as_dict(self) -> dict[str, Any]:
        """The same as the table, for a program."""
        return {
            "ok": self.healthy,
            "counts": {health.value: self.count(health) for health in Health},
            "checks": [
                {
                    "group": one.group,
                    "name": one.name,
                    "status": one.verdict.health.value,
                    "detail": one.verdict.detail,
                    "advice": one.verdict.advice,
                }
                for one in self.lines
            ],
        }


def unreadable_settings(why: str) -> Examination:
    """The one line there is where the settings themselves cannot be read."""
    verdict = fail(why, "mend the setting; docs and `evenkeel.example.toml` say what is allowed")
    return Examination(lines=(Line(group="settings", name="readable", verdict=verdict),))


async def examine(
    settings: Settings, clock: Clock | None = None, timeout_s: float = TIMEOUT_S
) -> Examination:
    """Open what can be opened and run every check at once."""
    settings_line = Line(group="settings", name="readable", verdict=Verdict(health=Health.OK, detail="valid"))
    async with _installation(settings, clock) as installation:
        lines = [settings_line]
        if (why := installation.problems.get("clock")) is not None:
            verdict = fail(why, "start the twins, or take clock.world_url out of the settings")
            lines.append(Line(group="clock", name="world", verdict=verdict))
        verdicts = await asyncio.gather(*(_run(one, installation, timeout_s) for one in CHECKS))
    lines += [
        Line(group=one.group, name=one.name, verdict=verdict)
        for one, verdict in zip(CHECKS, verdicts, strict=True)
    ]
    return Examination(lines=tuple(lines))


async def _run(one: Check, installation: Installation, timeout_s: float) -> Verdict:
    """A check that breaks reports itself as failed and never ends the examination."""
    try:
        return await asyncio.wait_for(one.run(installation), timeout_s)
    except Missing as what:
        return fail(f"{NOT_CHECKED}{what}", AGAIN)
    except TimeoutError:
        return fail(
            f"no answer within {timeout_s:g} s", "see the host's own check; run `evenkeel doctor` again"
        )
    except EvenkeelError as problem:
        return fail(str(problem), "see the host's own check; run `evenkeel doctor` again")
    except Exception as bug:
        return fail(
            f"the check itself broke: {type(bug).__name__}: {bug}", "report it; the other checks stand"
        )


@asynccontextmanager
async def _installation(settings: Settings, clock: Clock | None) -> AsyncIterator[Installation]:
    problems: dict[str, str] = {}
    if clock is None:
        try:
            clock = await asyncio.to_thread(make_clock, settings)
        except EvenkeelError as problem:
            problems["clock"] = str(problem)
            clock = SystemClock()
    async with AsyncExitStack() as opened:
        installation = Installation(settings=settings, clock=clock, problems=problems)
        try:
            installation.opened = await opened.enter_async_context(open_venues(settings, clock))
        except EvenkeelError as problem:
            problems["venues"] = str(problem)
        try:
            installation.ledger = await asyncio.to_thread(Store.open, settings.database.url, clock)
            opened.callback(installation.ledger.close)
        except EvenkeelError as problem:
            problems["ledger"] = str(problem)
        yield installation
