"""The only thing that a Hyperliquid signer signs: an action that the validator has judged, sealed with all that is signed.

`Approved` is made with a token that is handed out once per process, to `venues.hyperliquid.validator`, when that module
is loaded. Refused is a different type that cannot be signed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NoReturn, final

from evenkeel.errors import Bug

_TOKEN = object()
_handed_out = False


def take_token() -> object:
    """Return the right to approve, given to the first that asks: the validator. Raises `Bug` afterwards."""
    global _handed_out
    if _handed_out:
        raise Bug("only the validator approves actions, and it has taken its token already")
    _handed_out = True
    return _TOKEN


@final
class Approved:
    """An action that passed every rule. Cannot be changed, copied, pickled or derived.

    `text` is the action as JSON in the order of its fields, which is part of what is hashed; `judged` is the rule set that
    it passed and the figures that it was held against, as text for people. `expires_after` is None for transfers alone.
    """

    __slots__ = ("digest", "expires_after", "is_mainnet", "is_transfer", "judged", "nonce", "text")

    text: str
    nonce: int
    expires_after: int | None
    is_mainnet: bool
    is_transfer: bool
    judged: str
    digest: bytes

    def __init__(
        self,
        token: object,
        action: dict[str, Any],
        *,
        nonce: int,
        expires_after: int | None,
        is_mainnet: bool,
        is_transfer: bool,
        judged: str,
    ) -> None:
        if token is not _TOKEN:
            raise Bug("an action is approved by the validator alone")
        put = object.__setattr__
        put(self, "text", json.dumps(action, separators=(",", ":")))
        put(self, "nonce", nonce)
        put(self, "expires_after", expires_after)
        put(self, "is_mainnet", is_mainnet)
        put(self, "is_transfer", is_transfer)
        put(self, "judged", judged)
        put(self, "digest", self._content())

    @property
    def action(self) -> dict[str, Any]:
        """A fresh copy of the action, its fields in the order they are hashed in."""
        found: dict[str, Any] = json.loads(self.text)
        return found

    @property
    def intact(self) -> bool:
        """Everything that is signed still is what was judged."""
        return self._content() == self.digest

    def _content(self) -> bytes:
        parts = (self.text, self.nonce, self.expires_after, self.is_mainnet, self.is_transfer)
        return hashlib.sha256(repr(parts).encode()).digest()

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("Approved cannot be subclassed")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("an approved action cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("an approved action cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an approved action cannot be pickled or copied: approval does not outlive its process"
        )

    def __repr__(self) -> str:
        return f"Approved({self.digest.hex()[:16]}, nonce {self.nonce}, {self.judged})"


@dataclass(frozen=True, slots=True)
class Refused:
    """A verdict against an action: the rule by name, and what broke it. `again`: a fresh reading may pass."""

    rule: str
    reason: str
    again: bool = False

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.reason}"
