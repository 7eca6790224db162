"""One error tree, sorted by who must act: nobody yet, the strategy, the operator, or a developer.

An *unknown* outcome is not an error (see `evenkeel.types.Unknown`): it is a fact to be resolved by asking the venue.
"""


class EvenkeelError(Exception):
    """Base of every error we raise on purpose. The message names the thing, the value, the limit and the next step."""


class Retryable(EvenkeelError):
    """Nothing happened and the same call may succeed later: unreachable, timed out on a read, rate limited, stale."""


class VenueRefused(EvenkeelError):
    """The venue said no, and would say no again. `reason` is the venue's own wording."""

    def __init__(self, venue: str, reason: str) -> None:
        super().__init__(f"{venue} refused: {reason}")
        self.venue = venue
        self.reason = reason


class OperatorError(EvenkeelError):
    """Only a person can mend it: settings, keys, funds, account mode, schema version."""


class LostRace(EvenkeelError):
    """Another worker moved the row first, or holds the lease. Stop: it is being taken care of."""


class Bug(EvenkeelError):
    """An invariant of our own does not hold. Never retried, always reported."""
