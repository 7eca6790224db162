"""Secrets at rest: sealed with AES-256-GCM, each bound to the name and the version of the row that holds it."""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Protocol

from evenkeel.errors import OperatorError

_KEY = re.compile(r"[0-9a-fA-F]{64}")
_NONCE_BYTES = 12
_FORM = "v1:"


@dataclass(frozen=True)
class StoredToken:
    """A sealed row. `version` begins with 1 and grows by one with each writing; `login_ms` and `access_ms` say in clear when a
    person logged in and when the last access token was asked for.
    """

    name: str
    version: int
    sealed: str
    login_ms: int
    access_ms: int


class TokenStore(Protocol):
    """Where sealed rows are kept."""

    def token(self, name: str) -> StoredToken | None: ...

    def keep_token(self, kept: StoredToken) -> None:
        """Store a row in the place of version `kept.version - 1` (0: none). Raises LostRace where another one is there."""
        ...


class Sealer:
    """One key of 64 hex digits (`openssl rand -hex 32`). Raises OperatorError for another one, which it never shows."""

    def __init__(self, key: str) -> None:
        if not _KEY.fullmatch(key.strip()):
            raise OperatorError(
                f"the token key has {len(key.strip())} characters, it must be 64 hex digits: `openssl rand -hex 32`"
            )
        # Imported here: whoever opens the ledger knows what a stored row is, and needs no cipher.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(bytes.fromhex(key.strip()))

    def __repr__(self) -> str:
        return "Sealer()"

    def seal(self, name: str, version: int, text: str) -> str:
        """Return the text sealed for this row, different each time."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), _bound(name, version))
        return _FORM + b64encode(nonce + sealed).decode()

    def opened(self, name: str, version: int, sealed: str) -> str:
        """Return the text. Raises OperatorError where the key is another one, or the text is of another row or was changed."""
        from cryptography.exceptions import InvalidTag

        try:
            if not sealed.startswith(_FORM):
                raise ValueError
            raw = b64decode(sealed.removeprefix(_FORM), validate=True)
            nonce, rest = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, rest, _bound(name, version)).decode()
        except (InvalidTag, ValueError):
            raise OperatorError(
                f"the stored tokens of {name} cannot be opened: another key (EVENKEEL_TOKEN_KEY), or the row was changed. "
                f"Give the key that sealed them, or log in again, `evenkeel auth {name}`"
            ) from None


def _bound(name: str, version: int) -> bytes:
    return f"evenkeel token {version} {name}".encode()
