"""The login at Schwab as this program keeps it: sealed at rest, refreshed in time, counted from the moment of the login.

| age of the login | what happens |
| --- | --- |
| 5 days | a warning: a person must log in within two days |
| 6 days | a second one |
| 6.5 days | the last one, and no token is given any more: what would begin now might end without one |
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evenkeel.clock import Clock, as_datetime
from evenkeel.errors import NOT_NOW, LostRace, OperatorError, Retryable
from evenkeel.sealing import Sealer, StoredToken, TokenStore
from evenkeel.units import DAY_MS
from state.watch import Watch
from state.watch_models import Severity
from venues.schwab.models import VENUE
from venues.schwab.oauth import LoginEnded, SchwabOauth

log = logging.getLogger("evenkeel.login")

REFRESH_BEFORE_MS = 300_000
"""An access token is refreshed so long before its end, or after half of its life: not at each call where that is short."""
USED_UNTIL_MS = 60_000
"""Where it cannot be refreshed it serves until so long before its end: a request lasts 30 s at most."""
ENDS_AFTER_MS = 13 * DAY_MS // 2
WARNINGS = (
    (5 * DAY_MS, "login day 5", Severity.WARNING),
    (6 * DAY_MS, "login day 6", Severity.WARNING),
    (ENDS_AFTER_MS, "login over", Severity.CRITICAL),
)
"""From which age on which warning is due."""


class _Secrets(BaseModel):
    """What a row holds under its seal."""

    model_config = ConfigDict(frozen=True)

    access: str = Field(repr=False)
    refresh: str = Field(repr=False)
    login_ms: int
    access_ms: int
    lives_s: int

    @property
    def ends_ms(self) -> int:
        return self.access_ms + self.lives_s * 1000


@dataclass(frozen=True)
class LoginWarning:
    """What a person should hear of a login's age: one of `WARNINGS`."""

    kind: str
    severity: Severity
    text: str


@dataclass(frozen=True)
class LoginState:
    """A login as anybody may see it; `ends_ms` is when no token is given any more."""

    name: str
    login_ms: int
    access_ms: int
    ends_ms: int
    is_over: bool


@dataclass(frozen=True)
class _Held:
    """The row as this process knows it."""

    version: int
    secrets: _Secrets = field(repr=False)


class SchwabLogin:
    """One login, in the row `name`; the source of access tokens for a client (`TokenSource`)."""

    def __init__(
        self, oauth: SchwabOauth, store: TokenStore, sealer: Sealer, clock: Clock, *, name: str = VENUE
    ) -> None:
        self._oauth = oauth
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self.name = name
        self._held: _Held | None = None
        self._refused = ""
        self._lock = asyncio.Lock()
        self._state = secrets.token_urlsafe(16)

    def __repr__(self) -> str:
        return f"SchwabLogin({self.name})"

    async def aclose(self) -> None:
        """Close the connections to the token endpoint."""
        await self._oauth.aclose()

    # --- the login itself --------------------------------------------------------------------------------------

    def begin(self) -> str:
        """Return the address that a person opens in a browser."""
        return self._oauth.authorize_url(self._state)

    async def finish(self, pasted: str) -> LoginState:
        """Exchange the code of the address to which the browser was sent, and store what it buys: the seven days begin.

        Raises OperatorError (another address, a code that was used or is too old), Retryable, NotUnderstood.
        """
        grant = await self._oauth.exchange(self._oauth.code_of(pasted, self._state))
        assert grant.refresh is not None
        held = _Secrets(
            access=grant.access,
            refresh=grant.refresh,
            login_ms=grant.asked_ms,
            access_ms=grant.asked_ms,
            lives_s=grant.lives_s,
        )
        while True:  # a service that refreshes the former login meanwhile only takes the version
            before = self._store.token(self.name)
            try:
                self._held = self._keep(held, before.version if before else 0)
                return self._shown(held.login_ms, held.access_ms)
            except LostRace:
                continue

    # --- tokens ------------------------------------------------------------------------------------------------

    async def access(self) -> str:
        """Return an access token that lives. Raises OperatorError where a person must log in, Retryable or NotUnderstood where
        none can be had now.
        """
        async with self._lock:
            held = self._held
            if held is None or not self._serves(held):
                held = self._held = (
                    self._read()
                )  # another process may have refreshed it, or a person logged in
            if not self._serves(held):
                held = self._held = await self._refreshed(held)
            return held.secrets.access

    def refused(self, token: str) -> None:
        """Note that the venue does not take this token any more."""
        self._refused = token

    def state(self) -> LoginState | None:
        """Return the login as it is stored; None where nobody has logged in. Needs no key."""
        row = self._store.token(self.name)
        return None if row is None else self._shown(row.login_ms, row.access_ms)

    def warning(self) -> LoginWarning | None:
        """Return what is due to be said about the login's age now; None while it is young, or there is none."""
        found = self.state()
        if found is None:
            return None
        due = [row for row in WARNINGS if self._clock.now_ms() - found.login_ms >= row[0]]
        if not due:
            return None
        _, kind, severity = due[-1]
        end = f"{as_datetime(found.ends_ms):%a %d %b %H:%M} UTC"
        what = f"ended {end}: no order leaves" if found.is_over else f"ends {end}"
        text = f"the login at Schwab ({self.name}) {what}. Log in again: `evenkeel auth schwab`"
        return LoginWarning(kind, severity, text)

    def rotate(self, new: Sealer) -> int:
        """Seal the stored login with another key and return its row's version; 0 where nobody is logged in.

        Raises OperatorError where the key of this login does not open it, LostRace where a service wrote meanwhile: then
        nothing was done.
        """
        row = self._store.token(self.name)
        if row is None:
            return 0
        held = opened(self._sealer, row)
        self._store.keep_token(_sealed(new, row.name, row.version + 1, held))
        return row.version + 1

    # --- how it is kept ----------------------------------------------------------------------------------------

    def _serves(self, held: _Held) -> bool:
        """Whether its token serves without a refresh."""
        found, now_ms = held.secrets, self._clock.now_ms()
        return (
            now_ms - found.login_ms < ENDS_AFTER_MS
            and now_ms < found.ends_ms - min(REFRESH_BEFORE_MS, found.lives_s * 500)
            and found.access != self._refused
        )

    def _read(self) -> _Held:
        row = self._store.token(self.name)
        if row is None:
            raise OperatorError("nobody is logged in at Schwab: `evenkeel auth schwab`")
        return _Held(row.version, opened(self._sealer, row))

    async def _refreshed(self, held: _Held) -> _Held:
        if self._clock.now_ms() - held.secrets.login_ms >= ENDS_AFTER_MS:
            raise OperatorError(
                "the login at Schwab is older than 6.5 days: log in again, `evenkeel auth schwab`"
            )
        try:
            grant = await self._oauth.refresh(held.secrets.refresh)
        except LoginEnded:
            now = self._read()
            if now.version == held.version or not self._serves(now):
                raise
            return now
        except NOT_NOW:
            left_ms = held.secrets.ends_ms - self._clock.now_ms()
            if held.secrets.access != self._refused and left_ms > USED_UNTIL_MS:
                return held
            raise
        # The login keeps its age, whatever is refreshed.
        changes: dict[str, object] = {
            "access": grant.access,
            "refresh": grant.refresh or held.secrets.refresh,
            "access_ms": grant.asked_ms,
            "lives_s": grant.lives_s,
        }
        found = held.secrets.model_copy(update=changes)
        try:
            return self._keep(found, held.version)
        except LostRace:
            return self._read()
        except Retryable as fault:
            log.warning("a refreshed token serves this process alone, it could not be stored: %s", fault)
            return _Held(held.version, found)

    def _keep(self, found: _Secrets, version: int) -> _Held:
        """Store it in the place of that version. Raises LostRace where another one is there."""
        self._store.keep_token(_sealed(self._sealer, self.name, version + 1, found))
        return _Held(version + 1, found)

    def _shown(self, login_ms: int, access_ms: int) -> LoginState:
        ends_ms = login_ms + ENDS_AFTER_MS
        return LoginState(self.name, login_ms, access_ms, ends_ms, self._clock.now_ms() >= ends_ms)


def opened(sealer: Sealer, row: StoredToken) -> _Secrets:
    """Return what a row holds. Raises OperatorError for another key, or a row that was changed or is not this one."""
    text = sealer.opened(row.name, row.version, row.sealed)
    try:
        found = _Secrets.model_validate_json(text)
    except ValidationError:  # not chained: it would show what is sealed
        raise OperatorError(f"what is sealed in the row {row.name} is no login: log in again") from None
    if (found.login_ms, found.access_ms) != (row.login_ms, row.access_ms):
        raise OperatorError(
            f"the row of {row.name} was changed: its times are not those under its seal. Log in again"
        )
    return found


def _sealed(sealer: Sealer, name: str, version: int, found: _Secrets) -> StoredToken:
    text = sealer.seal(name, version, found.model_dump_json())
    return StoredToken(name, version, text, found.login_ms, found.access_ms)


def warn_of_age(alerts: Watch, login: SchwabLogin) -> LoginWarning | None:
    """Raise the warning that is due as an alert, once for each, and end those that are not due any more."""
    due = login.warning()
    kinds = {kind for _, kind, _ in WARNINGS}
    standing = {one.kind for one in alerts.alerts(open_only=True) if one.subject == login.name} & kinds
    for kind in standing - {due.kind if due else ""}:
        alerts.ack_alert(kind, login.name, followed=due is not None)
    if due is not None and due.kind not in standing:
        alerts.alert(due.kind, due.severity, due.text, login.name)
    return due
