"""The hash by which Schwab names an account in every path: read once, and anew where the venue takes the known one no more."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from evenkeel.errors import VenueRefused
from venues.schwab import models as m
from venues.schwab.client import AccountUnknown, SchwabClient
from venues.schwab.models import VENUE

T = TypeVar("T")


class NamedAccount:
    """One account of a login. `wanted` is its number or the end of it; empty: the only one of the login."""

    def __init__(self, client: SchwabClient, wanted: str) -> None:
        self._client = client
        self._wanted = wanted
        self._hash = ""
        self.mark = ""
        """What stays of the number: it says whether two hashes are of one account."""

    async def hash(self) -> str:
        """Return the account's hash. Raises UNREAD; VenueRefused where not one account is meant, or another than before."""
        if self._hash and self._hash not in self._client.refused_accounts:
            return self._hash
        rows = await self._client.account_numbers()
        meant = [one for one in rows if one.accountNumber.endswith(self._wanted)]
        if len(meant) != 1:
            words = "of this login are meant: name one by the end of its number"
            raise VenueRefused(VENUE, f"{len(meant)} of the {len(rows)} accounts {words}")
        mark = mark_of(meant[0])
        if self.mark and mark != self.mark:
            raise VenueRefused(
                VENUE,
                "the login is of another account than when this process began: end it, and start it again",
            )
        self._hash, self.mark = meant[0].hashValue, mark
        self._client.refused_accounts.discard(self._hash)
        return self._hash

    async def asked(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """Return what a reading under the account's hash gives: once more where that was refused and another one is named now.
        Raises UNREAD.
        """
        known = await self.hash()
        try:
            return await ask(known)
        except AccountUnknown:
            named = await self.hash()
            if named == known:
                raise
            return await ask(named)

    async def hash_now(self, known: str, mark: str) -> str:
        """Return the hash under which an order is looked for whose account had the hash `known`. Raises UNREAD; VenueRefused
        where the login does not show by the number that it is the same account: another one's list proves nothing.
        """
        if known not in self._client.refused_accounts:
            return known
        rows = await self._client.account_numbers()
        found = [one.hashValue for one in rows if one.hashValue == known or (mark and mark_of(one) == mark)]
        if len(found) != 1:
            raise VenueRefused(
                VENUE, "the account in which it was placed is not of this login: the operator decides"
            )
        self._client.refused_accounts.discard(found[0])
        return found[0]


def mark_of(row: m.WireAccountNumber) -> str:
    """Return what is stored of an account's number."""
    return hashlib.sha256(row.accountNumber.encode()).hexdigest()[:16]
