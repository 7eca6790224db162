"""Who is logged in, and which forms are ours: signed with a secret that lives as long as this process."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from itsdangerous import BadSignature, TimestampSigner

FORM_S = 1800
"""How long a form may be open before it is sent."""
FAILURES, WITHIN_S = 5, 60.0
"""Wrong keys in so many seconds, whoever gave them: then no key is tried for a while."""


class _Signer(TimestampSigner):
    """Stamps by the clock that it is given."""

    def __init__(self, secret: bytes, salt: str, now_s: Callable[[], float]) -> None:
        super().__init__(secret, salt=salt)
        self._now_s = now_s

    def get_timestamp(self) -> int:
        return int(self._now_s())


@dataclass(frozen=True)
class Session:
    """One login."""

    name: str

    @property
    def who(self) -> str:
        """As the audit log names it."""
        return f"a holder of the admin key, by `evenkeel desk` (session {self.name[:8]})"


@dataclass
class Sessions:
    """Makes and reads the values of session cookies and of the hidden fields of forms."""

    minutes: int
    now_s: Callable[[], float] = time.monotonic
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _ended: set[str] = field(default_factory=set)

    def begin(self) -> str:
        """Return the cookie of a new session."""
        return self._signer("session").sign(secrets.token_urlsafe(24)).decode()

    def read(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; None where it is not ours, has expired or was ended."""
        try:
            name = self._signer("session").unsign(cookie or "", max_age=self.minutes * 60).decode()
        except (BadSignature, UnicodeError):
            return None
        return None if name in self._ended else Session(name)

    def end(self, session: Session) -> None:
        """Log out: the cookie is worth nothing any more, whoever has a copy of it."""
        self._ended.add(session.name)

    def token(self, session: Session | None, path: str) -> str:
        """Return the hidden field of a form: good for this session and this address alone."""
        return self._of_form(session, path).sign("form").decode()

    def is_token(self, given: str, session: Session | None, path: str) -> bool:
        """Whether a form of ours, shown to this session for this address, was sent in time."""
        try:
            return self._of_form(session, path).unsign(given, max_age=FORM_S) == b"form"
        except (BadSignature, UnicodeError):
            return False

    def _of_form(self, session: Session | None, path: str) -> TimestampSigner:
        return self._signer(f"form:{session.name if session else ''}:{path}")

    def _signer(self, salt: str) -> _Signer:
        return _Signer(self._secret, salt, self.now_s)


@dataclass
class Failures:
    """Counts wrong keys, so that nobody can try many."""

    now_s: Callable[[], float] = time.monotonic
    _at_s: deque[float] = field(default_factory=deque)

    def wait_s(self) -> float:
        """Seconds until a key is tried again; 0 where one may be tried now."""
        while self._at_s and self.now_s() - self._at_s[0] >= WITHIN_S:
            self._at_s.popleft()
        return self._at_s[0] + WITHIN_S - self.now_s() if len(self._at_s) >= FAILURES else 0.0

    def add(self) -> None:
        """Note one."""
        self._at_s.append(self.now_s())

    def take_back(self) -> None:
        """The newest was none."""
        if self._at_s:
            self._at_s.pop()
