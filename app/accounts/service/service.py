"""What every request has at hand: settings, the desk, and who asks; and each act of an idempotency key, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from app.accounts.service.answers import Answer, Refused
from app.accounts.service.tokens import Caller, NotKnown, caller_of
from evenkeel.errors import Bug
from evenkeel.settings.settings import Settings
from state.accounts.many import OSTIUM
from state.accounts.models import AccountTrade
from state.store import Store
from tasks.accounts.desk import AccountsDesk
from tasks.accounts.trading import CHARGES
from tasks.desk import Desk
from venues.evm.pulls import TokenPulls
from venues.ostium.venue import OstiumVenue

MOST_KEY = 200
KEPT_MS = 30 * 86_400_000
"""How long answers are kept under their idempotency keys."""
Work = dict[str, Any]


@dataclass
class Service:
    """One process that serves."""

    settings: Settings
    accounts_desk: AccountsDesk
    _locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = field(default_factory=dict)

    @property
    def desk(self) -> Desk:
        return self.accounts_desk.desk

    @property
    def store(self) -> Store:
        return self.desk.store

    @property
    def venue(self) -> OstiumVenue:
        found = self.desk.venue(OSTIUM)
        if not isinstance(found, OstiumVenue):
            raise Bug("the desk's venue of trades is another one")
        return found

    @property
    def pulls(self) -> TokenPulls:
        found = self.desk.venue(CHARGES)
        if not isinstance(found, TokenPulls):
            raise Bug("the desk's venue of charges is another one")
        return found

    def market(self, pair: int) -> str:
        """A market's name."""
        return self.settings.ostium.markets.get(pair, str(pair))

    def pair(self, market: str) -> int:
        """The number of a market, named SOL/USD, SOL-USD or SOL. Raises Refused for one that is not traded here."""
        name = market.upper().replace("-", "/")
        for number, known in self.settings.ostium.markets.items():
            if name in (known.upper(), known.upper().partition("/")[0]):
                return number
        raise Refused(422, f"market: not among {', '.join(self.settings.ostium.markets.values())}")

    def trades_of(self, caller: Caller, account: str | None) -> list[AccountTrade]:
        """The trades that a caller may see: of an account, or all of his."""
        return self.store.accounts.trades(account=account or caller.account or None)

    @asynccontextmanager
    async def alone(self, *names: str) -> AsyncIterator[None]:
        """Hold back whoever asks for the same in this process."""
        name = (names[0], "/".join(names[1:]))
        lock, holders = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = lock, holders + 1
        try:
            async with lock:
                yield
        finally:
            lock, holders = self._locks[name]
            if holders == 1:
                del self._locks[name]
            else:
                self._locks[name] = lock, holders - 1


def service_of(request: Request) -> Service:
    """What the application keeps."""
    found: Service = request.app.state.service
    return found


def caller(request: Request, scope: str) -> Caller:
    """Return who asks. Raises Refused: no good token (401), or one without this scope (403)."""
    try:
        found = caller_of(service_of(request).store.access, request.headers.get("authorization"))
    except NotKnown as why:
        raise Refused(401, str(why)) from None
    if scope not in found.scopes:
        raise Refused(403, f"token {found.token_id} has not the scope {scope}")
    return found


def account_for(service: Service, who: Caller, address: str | None) -> str:
    """Return whose account is meant, in lower case. Raises Refused: nobody, an account that is not known, somebody else's."""
    account = (address or who.account).lower()
    if not account:
        raise Refused(422, "address: say whose account is meant, 0x and 40 hex digits")
    if who.account and account != who.account:
        raise Refused(403, f"token {who.token_id} is for {who.account} alone")
    if not service.store.accounts.deployments(account=account):
        raise Refused(404, f"{account} is no account of ours: nobody is deployed for it")
    return account


async def once(
    service: Service,
    who: Caller,
    request: Request,
    digest: str,
    prepare: Callable[[str], Awaitable[Work | Answer]],
    do: Callable[[Work], Awaitable[Answer]],
) -> Answer:
    """Return what was done under the request's idempotency key, doing it where it was not done.

    `prepare` says what is to be done, or the answer where nothing is; it stores nothing, and is given the key. `do` may be
    asked for again after any crash, with the same work, and must find what it did. Raises Refused: no key (400), one that had
    another body (422).
    """
    key, path = request.headers.get("idempotency-key", "").strip(), request.url.path
    if not key or len(key) > MOST_KEY or not key.isprintable():
        raise Refused(
            400, f"send `Idempotency-Key`, 1 to {MOST_KEY} characters: the same key again is the same act"
        )
    access = service.store.access
    async with service.alone("key", who.token_id, key):
        row = access.answer_of(who.token_id, key)
        if row is None:
            work = await prepare(key)
            if isinstance(work, Answer):
                return work
            row = access.begin_request(who.token_id, key, path, digest, work)
        if (row.path, row.digest) != (path, digest):
            raise Refused(422, "this idempotency key was used for another request: use a new one")
        if row.status is not None:
            return Answer(row.status, row.answer or {})
        answer = await do(row.work)
        if answer.status != 202:
            access.finish_request(who.token_id, key, answer.status, answer.body)
        return answer
