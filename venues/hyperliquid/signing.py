"""Signing of approved actions over the official SDK's pure functions, and the one source of nonces per signer."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from eth_account.messages import encode_typed_data
from eth_utils import keccak, to_hex
from hyperliquid.utils import signing as sdk_signing

from evenkeel.clock import Clock
from evenkeel.errors import Bug, OperatorError, shown
from venues.hyperliquid.approval import Approved
from venues.signers.local import LocalEvmKey
from venues.signers.protocol import EvmSigner, Hidden

MAINNET_URL = "https://api.hyperliquid.xyz"
_ADDRESS_FORM = re.compile(r"0x[0-9a-fA-F]{40}")
_NOBODY = "0x" + "0" * 40
_TRANSFER_CHAIN_ID = 421_614
_TRANSFERS = {
    "withdraw3": (sdk_signing.WITHDRAW_SIGN_TYPES, "HyperliquidTransaction:Withdraw"),
    "usdSend": (sdk_signing.USD_SEND_SIGN_TYPES, "HyperliquidTransaction:UsdSend"),
}


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

    def next(self) -> int:
        """Return a nonce in milliseconds that this source never gave before."""
        with self._lock:
            self._last = max(self._last + 1, self._clock.now_ms())
            return self._last


def l1_digest(action: dict[str, Any], *, nonce: int, expires_after: int | None, is_mainnet: bool) -> bytes:
    """Return the 32 bytes that are signed for an L1 action (order, cancel, leverage): EIP-712 over the phantom agent.

    Hyperliquid docs, "Signing": domain Exchange, chain id 1337; source "a" on mainnet, "b" elsewhere.
    """
    connection = sdk_signing.action_hash(action, None, nonce, expires_after)
    payload = sdk_signing.l1_payload(sdk_signing.construct_phantom_agent(connection, is_mainnet))
    source = "a" if is_mainnet else "b"
    _check_domain(payload, "Exchange", 1337, "Agent", {"source": source, "connectionId": connection})
    return _digest(payload)


def transfer_digest(action: dict[str, Any], *, is_mainnet: bool) -> bytes:
    """Return the 32 bytes that are signed for a withdrawal or transfer of USDC: EIP-712 over the action's own fields."""
    fields, primary = _TRANSFERS[action["type"]]
    if action["hyperliquidChain"] != ("Mainnet" if is_mainnet else "Testnet"):
        raise Bug(f"a transfer for {action['hyperliquidChain']} reached the signer of another network")
    payload = sdk_signing.user_signed_payload(primary, fields, action)
    _check_domain(payload, "HyperliquidSignTransaction", _TRANSFER_CHAIN_ID, primary, action)
    return _digest(payload)


def _check_domain(payload: dict[str, Any], name: str, chain_id: int, primary: str, message: Any) -> None:
    """What the library built is what we meant: a changed library must not change what a signature is good for."""
    domain = {"name": name, "version": "1", "chainId": chain_id, "verifyingContract": _NOBODY}
    found = (payload["domain"], payload["primaryType"], payload["message"])
    if found != (domain, primary, message):
        raise Bug(f"the typed data to be signed is not of domain {name}, chain {chain_id}, type {primary}")


def _digest(payload: dict[str, Any]) -> bytes:
    """EIP-191 over EIP-712: keccak(0x19, version, header, body)."""
    signable = encode_typed_data(full_message=payload)
    return bytes(keccak(b"\x19" + signable.version + signable.header + signable.body))


class HyperliquidSigner(Hidden):
    """A key that signs approved actions and nothing else. It never shows itself: not in repr, errors or a pickle."""

    __slots__ = ("_key",)

    def __init__(self, key: EvmSigner) -> None:
        self._key = key

    @classmethod
    def from_hex(cls, secret: str) -> HyperliquidSigner:
        """Return a signer from 64 hex digits, with or without 0x. OperatorError in one line, without the key."""
        return cls(LocalEvmKey.from_hex(secret))

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
        return {"r": to_hex(r), "s": to_hex(s), "v": v}

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
