"""Pause and resume with an admin key, which is not a trading key, and acknowledge alerts: no venue is asked, and no key of
one is needed."""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import os
import socket
from collections.abc import Collection

from evenkeel.errors import OperatorError, Retryable
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from evenkeel.units import HOUR_MS
from state.fleet.member import member_of
from state.store import Store
from state.watch_models import Alert, Pause, Severity

ENTRIES, ALL = "entries", "all"
SCOPES = (ENTRIES, *(venue for venue in VenueName), ALL)
LEAST_KEY = 12
"""Characters of an admin key."""
_COST, _BLOCK, _LANES = 2**14, 8, 1
"""scrypt as RFC 7914 recommends for interactive use: 16 MB and some tens of milliseconds a try."""
_MOST_COST = 2**16


def make_hash(key: str) -> str:
    """What `admin.key_hash` is to be set to. Raises OperatorError for a key that could be guessed."""
    if len(key) < LEAST_KEY:
        raise OperatorError(f"the admin key has {len(key)} characters, at least {LEAST_KEY} are needed")
    salt = os.urandom(16)
    return "$".join(
        ("scrypt", str(_COST), str(_BLOCK), str(_LANES), _text(salt), _text(_scrypt(key, salt, _COST)))
    )


def is_key(key: str, key_hash: str) -> bool:
    """Whether the hash was made of this key; compared in constant time."""
    name, cost, block, lanes, salt, wanted = key_hash.split("$")
    try:
        if (name, int(block), int(lanes)) != ("scrypt", _BLOCK, _LANES) or not 2 <= int(cost) <= _MOST_COST:
            raise ValueError
        found = _scrypt(key, base64.urlsafe_b64decode(salt), int(cost))
        return hmac.compare_digest(found, base64.urlsafe_b64decode(wanted))
    except ValueError:
        raise OperatorError("admin.key_hash is not what `evenkeel admin hash` makes: make it again") from None


def pause(
    settings: Settings, store: Store, key: str, scope: str, reason: str, hours: float | None = None
) -> Pause:
    """`halt` by whoever has the admin key. Raises OperatorError for a wrong one."""
    check_key(settings, store, key, "pause")
    return halt(store, user_here(), scope, reason, hours)


def halt(
    store: Store,
    who: str,
    scope: str,
    reason: str,
    hours: float | None = None,
    accounts: Collection[str] = (),
) -> Pause:
    """Halt a scope until it is resumed, or for some hours; `who` goes into the audit log. Raises OperatorError for an unknown
    scope, and for no reason. `accounts`: those of a fleet, of which one may be named behind an @.
    """
    check_scope(scope, accounts)
    if not reason.strip():
        raise OperatorError("a pause needs a reason: whoever finds it must know why; nothing was paused")
    if hours is not None and not 0 < hours <= 24 * 365:
        raise OperatorError(f"hours {hours} must be above 0 and at most a year; nothing was paused")
    until_ms = None if hours is None else store.clock.now_ms() + int(hours * HOUR_MS)
    return store.pause(scope, reason.strip(), until_ms, note=f"{who}: {reason.strip()}")


def resume(settings: Settings, store: Store, key: str, scope: str | None, reason: str = "") -> list[Pause]:
    """`end_pauses` by whoever has the admin key. Raises OperatorError for a wrong one."""
    check_key(settings, store, key, "resume")
    return end_pauses(store, user_here(), scope, reason)


def end_pauses(store: Store, who: str, scope: str | None, reason: str = "") -> list[Pause]:
    """End the pauses of a scope, or every pause; `who` goes into the audit log. Returns those that were ended: an account of a
    fleet ends its own alone.
    """
    if scope is not None:
        check_scope(scope)
    running = [one for one in store.active_pauses() if scope in (None, one.scope)]
    return [
        one
        for one in running
        if store.resume(
            one.scope, one.reason, note=f"{who}: {reason or 'no reason given'}; was: {one.reason}"
        )
    ]


def acknowledge(
    store: Store,
    kind: str,
    subject: str | None,
    reason: str = "",
    who: str | None = None,
    *,
    unseen: bool = False,
) -> list[Alert]:
    """A person has seen these alerts. Raises OperatorError, naming what is open, where there is none such. Needs no key: it
    halts and starts nothing, and what goes on stays open. `who` goes into the audit log; None: the user of this process. Of
    what is `unseen` only: acknowledged twice it is not closed.
    """
    note = f"{who or user_here()}: {reason.strip() or 'no reason given'}"
    closed = store.acknowledge(kind, subject, note, unseen=unseen)
    if closed:
        return closed
    which = f"{kind!r}" if subject is None else f"{kind!r} of {subject!r}"
    rows = store.alerts(open_only=True)
    if unseen and any(row.kind == kind and subject in (None, row.subject) for row in rows):
        raise OperatorError(f"{which} is acknowledged already; nothing was done")
    names = dict.fromkeys(f"{row.kind} ({row.subject})" for row in rows)
    raise OperatorError(
        f"no open alert is {which}; open are: {', '.join(names)}"
        if names
        else f"no open alert is {which}: none is open"
    )


def check_key(settings: Settings, store: Store, key: str, doing: str, who: str | None = None) -> None:
    """Raise OperatorError, and a critical alert that names `who` (None: the user of this process), for a wrong admin key."""
    if not settings.admin.key_hash:
        raise OperatorError("no admin key is set: put what `evenkeel admin hash` prints into admin.key_hash")
    if is_key(key, settings.admin.key_hash):
        return
    try:
        text = f"{who or user_here()} tried to {doing} with a wrong admin key"
        store.alert("wrong admin key", Severity.CRITICAL, text, news=True, anew=True)
    except Retryable:  # a busy ledger must not turn a refusal into something else
        pass
    raise OperatorError("that is not the admin key; nothing was changed")


def check_scope(scope: str, accounts: Collection[str] = ()) -> None:
    """Raise OperatorError for a scope that does not exist, or that of an account which is none of these."""
    plain, member = member_of(scope)
    if plain not in SCOPES or (member and member not in accounts):
        of_one = f", each alone or with @ and one of {', '.join(accounts)}" if accounts else ""
        raise OperatorError(f"scope {scope!r} is unknown; allowed are {', '.join(SCOPES)}{of_one}")


def user_here() -> str:
    """Return the user of this process and its host, as the audit log names a person at the command line."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}@{socket.gethostname()}"


def _scrypt(key: str, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(
        key.encode(), salt=salt, n=cost, r=_BLOCK, p=_LANES, maxmem=256 * 1024 * 1024, dklen=32
    )


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()
