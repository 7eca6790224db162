"""One error tree, sorted by who must act: nobody yet, the strategy, the operator, or a developer.

A reading ends in one of three ways: read, failed (`Retryable`, `VenueRefused`), or answered and not understood.

An *unknown* outcome is not an error (see `evenkeel.types.Unknown`): it is a fact to be resolved by asking the venue.
"""

import re


class EvenkeelError(Exception):
    """Base of every error we raise on purpose. The message names the thing, the value, the limit and the next step."""


class Retryable(EvenkeelError):
    """Nothing happened and the same call may succeed later: unreachable, timed out on a read, rate limited, stale."""


class LaneTaken(Retryable):
    """The number that an attempt was signed with was given to another one meanwhile: nothing was sent, the next is signed."""


class LedgerUnavailable(Retryable):
    """Our own ledger cannot be read or written now: full, locked, damaged or out of reach. Whatever must not wait for it has
    another way (`tasks.carry.watching.unledgered`).
    """


class VenueRefused(EvenkeelError):
    """The venue said no, and would say no again. `reason` is the venue's own wording."""

    def __init__(self, venue: str, reason: str) -> None:
        super().__init__(f"{venue} refused: {reason}")
        self.venue = venue
        self.reason = reason


class NotUnderstood(EvenkeelError):
    """The venue answered, and what it said cannot be made sense of. Nothing happened and nothing was learnt: it is alerted
    by name and asked again. It is no outage, and no reason to close anything.
    """

    def __init__(self, venue: str, reason: str) -> None:
        super().__init__(f"{venue} answered what cannot be understood: {reason}")
        self.venue = venue
        self.reason = reason


class OperatorError(EvenkeelError):
    """Only a person can mend it: settings, keys, funds, account mode, schema version."""


class LostRace(EvenkeelError):
    """Another worker moved the row first, or holds the lease. Stop: it is being taken care of."""


class Bug(EvenkeelError):
    """An invariant of our own does not hold. Never retried, always reported."""


def words_of(fault: BaseException) -> str:
    """A fault in words; what is no error of ours, or a bug, is called one."""
    if isinstance(fault, EvenkeelError) and not isinstance(fault, Bug):
        return str(fault)
    return f"a bug: {type(fault).__name__}: {fault}"


UNREAD = (Retryable, VenueRefused, NotUnderstood)
"""How a reading ends that gave nothing."""
NOT_NOW = (Retryable, NotUnderstood)
"""What the same call, made again later, may mend."""


SHOWN_CHARACTERS = 12
"""Shorter than any secret that we take: an admin key has at least so many."""


def shown(value: object) -> str:
    """A value that was refused, for the message that refuses it. What is long enough to be a key that was put in the
    wrong place is shown by its length alone: messages go to terminals, logs and reports.
    """
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return f"({len(value)} values)"
    text = repr(value)
    length = len(value) if isinstance(value, (str, bytes)) else len(text)
    return text if length < SHOWN_CHARACTERS else f"({length} characters, not shown)"


def shown_path(path: object) -> str:
    """A file's path, unless it has the look of a key that was put where the name of its file belongs."""
    text = str(path)
    keylike = re.search(r"[0-9A-Za-z]{40}", text) or text.startswith("[") or len(text.split()) > 10
    return f"({len(text)} characters that look like a key, not like a path)" if keylike else text
