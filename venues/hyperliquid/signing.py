"""Signing of approved actions, and the one source of nonces per signer."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from evenkeel.clock import Clock
from evenkeel.errors import Bug, OperatorError, shown
from venues.hyperliquid.approval import Approved
from venues.signers.protocol import EvmSigner, Hidden

MAINNET_URL = "https://api.hyperliquid.xyz"
_ADDRESS_FORM = re.compile(r"0x[0-9a-fA-F]{40}")


def is_mainnet_url(base_url: str) -> bool:
    """Return True for the real mainnet only. Everything else (testnet, a twin) is signed as testnet, so that a payload
    made for a twin can never execute on mainnet.
    """
    return base_url.rstrip("/") == MAINNET_URL


def normal_address(address: str) -> str:
    """Return the address in lower case, as the venue hashes and answers it; OperatorError when it is not one."""
    if not _ADDRESS_FORM.fullmatch(address):
        raise OperatorError(
            f"Hyperliquid account address must be 0x and 40 hex digits, got {shown(address)}. Check settings."
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
        """Return the source of this signer at this venue, created at first use."""
        key = (base_url.rstrip("/"), address.lower())
        with cls._all_lock:
            if key not in cls._all:
                cls._all[key] = cls(clock)
            return cls._all[key]

    def next(self, at_ms: int | None = None) -> int:
        """Return a nonce in milliseconds that this source never gave before; `at_ms` is the venue's time, where it is known."""
        with self._lock:
            self._last = max(self._last + 1, self._clock.now_ms() if at_ms is None else at_ms)
            return self._last


class HyperliquidSigner(Hidden):
    """A key that signs approved actions and nothing else. It never shows itself: not in repr, errors or a pickle."""

    __slots__ = ("_key",)

    def __init__(self, key: EvmSigner) -> None:
        self._key = key

    @property
    def address(self) -> str:
        """The signer's address in lower case: the account itself, or an approved agent of it."""
        return self._key.address

    @property
    def is_remote(self) -> bool:
        """Signing waits for a network: call it off the event loop."""
        return self._key.is_remote

    def sign(self, approved: Approved) -> dict[str, Any]:
        """Return `{"r", "s", "v"}` as the venue's own client writes them.

        Raises Bug for anything but an intact approval; Retryable or OperatorError from a remote key.
        """
        if type(approved) is not Approved or not approved.intact:
            raise Bug(f"only an intact approval is signed, got {type(approved).__name__}")
        from venues.hyperliquid.digests import l1_digest, transfer_digest

        if approved.is_transfer:
            digest = transfer_digest(approved.action, is_mainnet=approved.is_mainnet)
        else:
            digest = l1_digest(
                approved.action,
                nonce=approved.nonce,
                expires_after=approved.expires_after,
                is_mainnet=approved.is_mainnet,
            )
        r, s, v = self._key.sign_digest(digest)
        return {"r": hex(r), "s": hex(s), "v": v}

    def signed_body(self, approved: Approved) -> str:
        """Return the whole request body of `/exchange` as text. Text, because a retry must send identical bytes and a
        JSON column of a database may reorder keys.
        """
        signature = self.sign(approved)
        body = {
            "action": approved.action,
            "nonce": approved.nonce,
            "signature": signature,
            "vaultAddress": None,
            "expiresAfter": approved.expires_after,
        }
        return json.dumps(body, separators=(",", ":"))

    def public_name(self) -> str:
        return self.address
