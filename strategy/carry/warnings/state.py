"""What one early warning answers, and the band between the point where it starts and the one where it ends."""

from __future__ import annotations

from decimal import Decimal

from pydantic import model_validator

from evenkeel.types import Frozen
from strategy.decisions import Judged

LEAST_BAND = Decimal("0.002")
"""Two points in a thousand: the least that start and end of a warning about a share lie apart."""


class WarningState(Frozen):
    """How one warning stands. `reason` names value and limit; `advice` says what a person does.

    `mark` names the one event that the warning is about, where it is about events: a new mark is a new event of the same
    incident, and one that is over already is noted all the same.
    """

    name: str
    stands: bool
    reason: str
    advice: str = ""
    mark: str = ""
    critical: bool = False

    @property
    def rule(self) -> str:
        return self.name


class Band(Frozen):
    """Where a warning starts and where it ends, in the same unit. With `starts` above `ends` high values are bad, else low
    ones. Raises ValueError where both are the same: it could start and end on the same figure.
    """

    starts: Decimal
    ends: Decimal

    @model_validator(mode="after")
    def _apart(self) -> Band:
        if self.starts == self.ends:
            raise ValueError(f"a warning that starts and ends at {self.starts} is raised at every swing")
        return self

    def stands(self, value: Decimal | None, *, runs: bool) -> bool:
        """Whether the warning stands after this value, `runs` being whether it stood before: it starts beyond `starts` and
        goes on until the value has passed `ends`. A value that could not be read changes nothing.
        """
        if value is None:
            return runs
        if self.starts > self.ends:
            return value > self.starts or (runs and value > self.ends)
        return value <= self.starts or (runs and value < self.ends)


def unread(name: str, what: str, *, runs: bool) -> Judged[WarningState]:
    """The answer where a reading is missing: what stood before stands."""
    return Judged(WarningState(name=name, stands=runs, reason=f"{what} could not be read"))
