"""Tokens of the service: made once, shown once, kept as a hash; each for some scopes, until a date."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from evenkeel.clock import as_datetime
from evenkeel.errors import OperatorError
from state.accounts.access import AccessStore
from state.accounts.access_models import ApiToken

READ, TRADE, COLLECT = "read", "trade", "collect"
SCOPES = (READ, TRADE, COLLECT)
"""Balance and positions; open and close; pull a charge that is due."""
DAY_MS = 86_400_000
MOST_DAYS = 3_650


@dataclass(frozen=True)
class Caller:
    """Who asks. `account`: whose trades the token is for, "" for everybody's."""

    token_id: str
    account: str
    scopes: frozenset[str]


class NotKnown(Exception):
    """The caller has no token that is good, in one line."""


def hash_of(token: str) -> str:
    """What is kept of a token. It is long and drawn by chance, so that no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(
    access: AccessStore, name: str, account: str, scopes: Sequence[str], good_ms: int
) -> tuple[ApiToken, str]:
    """Store a token and return its row and the token itself, which is nowhere else. Raises OperatorError for a scope that
    there is not.
    """
    if not name.strip():
        raise OperatorError("a token needs a name: what it is for")
    if unknown := [one for one in scopes if one not in SCOPES]:
        raise OperatorError(f"there is no scope {unknown[0]!r}: {', '.join(SCOPES)}")
    if not scopes:
        raise OperatorError(f"a token without a scope is good for nothing: {', '.join(SCOPES)}")
    token_id, now = secrets.token_hex(4), access.clock.now_ms()
    token = f"evenkeel_{token_id}_{secrets.token_urlsafe(32)}"
    row = ApiToken(
        token_id=token_id,
        name=name,
        token_hash=hash_of(token),
        account=account,
        scopes=sorted(set(scopes)),
        created_ms=now,
        expires_ms=now + good_ms,
    )
    return access.add_token(row), token


def caller_of(access: AccessStore, header: str | None) -> Caller:
    """Return who sends this `Authorization`. Raises NotKnown: none, unknown, expired, revoked."""
    kind, _, token = (header or "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise NotKnown("send `Authorization: Bearer TOKEN`; `evenkeel accounts token new` makes one")
    row = access.token_of(hash_of(token.strip()))
    if row is None:
        raise NotKnown("this token is not known here")
    if row.revoked_ms is not None:
        raise NotKnown(
            f"token {row.token_id} was revoked at {as_datetime(row.revoked_ms):%Y-%m-%d %H:%M} UTC"
        )
    if access.clock.now_ms() >= row.expires_ms:
        raise NotKnown(f"token {row.token_id} expired at {as_datetime(row.expires_ms):%Y-%m-%d %H:%M} UTC")
    return Caller(row.token_id, row.account, frozenset(row.scopes))
