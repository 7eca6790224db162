"""Signing of L1 actions over the official SDK's pure functions, and the one source of nonces per signer."""

from __future__ import annotations

import json
import re
import threading
from typing import Any, NoReturn

from eth_account import Account
from eth_account.signers.local import LocalAccount
from hyperliquid.utils import signing as sdk_signing

from evenkeel.clock import Clock
from evenkeel.errors import OperatorError

MAINNET_URL = "https://api.hyperliquid.xyz"
_KEY_FORM = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_ADDRESS_FORM = re.compile(r"0x[0-9a-fA-F]{40}")


def is_mainnet_url(base_url: str) -> bool:
    """True for the real mainnet only. Everything else (testnet, a twin) is signed as testnet, so that a
    payload made for a twin can never execute on mainnet."""
    return base_url.rstrip("/") == MAINNET_URL


def normal_address(address: str) -> str:
    """The address in lower case, as the venue hashes and answers it; OperatorError when it is not one."""
    if not _ADDRESS_FORM.fullmatch(address):
        raise OperatorError(
            f"Hyperliquid account address must be 0x and 40 hex digits, got {address!r}. Check settings."
        )
    return address.lower()


class NonceSource:
    """Unused, rising nonces for one signer: `max(last + 1, now)` under a lock.

    The venue keeps a set of nonces per signer, so every action of a key must draw from the same source;
    `shared` gives each (venue URL, signer) of the process exactly one.
    """

    _all: dict[tuple[str, str], NonceSource] = {}  # noqa: RUF012
    _all_lock = threading.Lock()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    @classmethod
    def shared(cls, base_url: str, address: str, clock: Clock) -> NonceSource:
        """The source of this signer at this venue, created at first use."""
        key = (base_url.rstrip("/"), address.lower())
        with cls._all_lock:
            if key not in cls._all:
                cls._all[key] = cls(clock)
            return cls._all[key]

    def next(self) -> int:
        """A nonce in milliseconds that this source never gave before."""
        with self._lock:
            self._last = max(self._last + 1, self._clock.now_ms())
            return self._last


class HyperliquidSigner:
    """A key that signs orders. It never shows itself: not in repr, not in errors, not in a pickle."""

    __slots__ = ("_account",)

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    @classmethod
    def from_hex(cls, secret: str) -> HyperliquidSigner:
        """A signer from 64 hex digits, with or without 0x. OperatorError in one line, without the key."""
        text = secret.strip()
        if not _KEY_FORM.fullmatch(text):
            raise OperatorError(
                f"Hyperliquid signing key is malformed: expected 64 hex digits, got {len(text)} characters. "
                "Check its source."
            )
        try:
            account = Account.from_key(text)
        except Exception:
            raise OperatorError(
                "Hyperliquid signing key is not a valid secp256k1 key. Check its source."
            ) from None
        return cls(account)

    @property
    def address(self) -> str:
        """The signer's address in lower case: the account itself, or an approved agent of it."""
        return str(self._account.address).lower()

    def sign_l1(
        self, action: dict[str, Any], *, nonce: int, expires_after: int | None, is_mainnet: bool
    ) -> dict[str, Any]:
        """`{"r", "s", "v"}` of an L1 action (order, cancel, leverage)."""
        signature: dict[str, Any] = sdk_signing.sign_l1_action(
            self._account, action, None, nonce, expires_after, is_mainnet
        )
        return signature

    def signed_body(
        self, action: dict[str, Any], *, nonce: int, expires_after: int | None, is_mainnet: bool
    ) -> str:
        """The whole request body of `/exchange` as text. Text, because a retry must send identical bytes
        and a JSON column of a database may reorder keys."""
        body = {
            "action": action,
            "nonce": nonce,
            "signature": self.sign_l1(
                action, nonce=nonce, expires_after=expires_after, is_mainnet=is_mainnet
            ),
            "vaultAddress": None,
            "expiresAfter": expires_after,
        }
        return json.dumps(body, separators=(",", ":"))

    def __repr__(self) -> str:
        return f"HyperliquidSigner({self.address}, key hidden)"

    __str__ = __repr__

    def __getstate__(self) -> NoReturn:
        raise TypeError("a signer is never serialised")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is never serialised")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a signer is never serialised")
