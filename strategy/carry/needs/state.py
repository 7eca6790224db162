"""What one need answers: how it stands, why, what to do, and whether an entry is refused for it."""

from __future__ import annotations

from enum import StrEnum

from evenkeel.types import Frozen
from strategy.decisions import Judged


class Level(StrEnum):
    """How a need stands."""

    FINE = "fine"
    UNKNOWN = "unknown"
    """It could not be read: what was known before stands."""
    WARNING = "warning"
    CRITICAL = "critical"


class NeedState(Frozen):
    """How one need stands. `reason` names value and limit; `advice` says what a person does, and is empty where all is fine.

    `phase` names how far it has come: a change of it is a new alert, so that a person is warned again.
    """

    name: str
    level: Level
    reason: str
    advice: str = ""
    phase: str = ""
    refuses_entry: bool = False

    @property
    def rule(self) -> str:
        return self.name

    @property
    def is_bad(self) -> bool:
        return self.level in (Level.WARNING, Level.CRITICAL)


def fine(name: str, reason: str) -> Judged[NeedState]:
    return Judged(NeedState(name=name, level=Level.FINE, reason=reason))


def unknown(name: str, what: str, *, refuses_entry: bool = True) -> Judged[NeedState]:
    """The answer where a reading is missing: it neither raises an alert nor ends one."""
    return Judged(
        NeedState(
            name=name,
            level=Level.UNKNOWN,
            reason=f"{what} could not be read",
            advice="try again in a minute; see the checks of that host",
            refuses_entry=refuses_entry,
        )
    )


def warned(
    name: str, reason: str, advice: str, *, phase: str = "", refuses_entry: bool = False
) -> Judged[NeedState]:
    return Judged(
        NeedState(
            name=name,
            level=Level.WARNING,
            reason=reason,
            advice=advice,
            phase=phase,
            refuses_entry=refuses_entry,
        )
    )


def critical(
    name: str, reason: str, advice: str, *, phase: str = "", refuses_entry: bool = True
) -> Judged[NeedState]:
    return Judged(
        NeedState(
            name=name,
            level=Level.CRITICAL,
            reason=reason,
            advice=advice,
            phase=phase or "critical",
            refuses_entry=refuses_entry,
        )
    )
