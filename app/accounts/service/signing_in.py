"""A wallet says who it is: it signs a text of ours (EIP-4361), once, and gets a token for its own account for an hour."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from coincurve import PublicKey
from eth_hash.auto import keccak

from app.accounts.service.answers import Refused
from app.accounts.service.tokens import READ, TRADE, new_token
from evenkeel.clock import as_datetime
from evenkeel.settings.accounts import Service as ServiceSettings
from state.accounts.access import AccessStore
from state.accounts.access_models import ApiToken

SAYS = "This lets the page show and change your own trades here. It moves nothing and costs nothing."
TEXT_MS = 10 * 60_000
Confirmed = Callable[[str, bytes, bytes], Awaitable[None]]
"""Asks whether an account is a contract that says of a digest and a signature that it signed. Raises Refused where not."""
MOST = 1_000
"""Texts that wait to be signed at one time; the oldest go."""


@dataclass
class SigningIn:
    """The texts that wait to be signed."""

    access: AccessStore
    settings: ServiceSettings
    chain_id: int
    _waiting: OrderedDict[str, tuple[str, str, int]] = field(default_factory=OrderedDict)
    """By nonce: whose, what, until when."""

    def text_for(self, account: str) -> tuple[str, str]:
        """Return a fresh nonce and the text that a wallet is to sign."""
        nonce, now = secrets.token_hex(12), self.access.clock.now_ms()
        host = self.settings.address.partition("://")[2]
        text = (
            f"{host} wants you to sign in with your Ethereum account:\n{checksummed(account)}\n\n{SAYS}\n\n"
            f"URI: {self.settings.address}\nVersion: 1\nChain ID: {self.chain_id}\nNonce: {nonce}\n"
            f"Issued At: {_time(now)}\nExpiration Time: {_time(now + TEXT_MS)}"
        )
        self._waiting[nonce] = account, text, now + TEXT_MS
        while len(self._waiting) > MOST:
            self._waiting.popitem(last=False)
        return nonce, text

    async def session(
        self, account: str, nonce: str, signature: str, confirmed: Confirmed
    ) -> tuple[ApiToken, str]:
        """Return a token for an account whose wallet signed our text, or which is a contract and has `confirmed` that it did.
        Raises Refused: another text, too late, somebody else; UNREAD where the chain cannot be asked.
        """
        known, text, until_ms = self._waiting.pop(nonce, ("", "", 0))
        if known != account or self.access.clock.now_ms() >= until_ms:
            raise Refused(401, "this text is not ours, was used, or is too old: sign in again")
        if signer_of(text, signature) != account:
            await confirmed(account, digest_of(text), bytes_of(signature))
        return new_token(
            self.access, "wallet", account, (READ, TRADE), self.settings.session_minutes * 60_000
        )


def signer_of(text: str, signature: str) -> str:
    """Return who signed a text (EIP-191, `personal_sign`), "" where the signature is none."""
    try:
        raw = bytes_of(signature)
        if len(raw) != 65 or raw[64] not in (0, 1, 27, 28):
            return ""
        recoverable = raw[:64] + bytes([raw[64] % 27])
        key = PublicKey.from_signature_and_message(recoverable, digest_of(text), hasher=None)
    except Exception:  # a text that is no signature, or a point that is on no curve
        return ""
    return "0x" + keccak(key.format(compressed=False)[1:])[-20:].hex()


def digest_of(text: str) -> bytes:
    """What is signed of a text (EIP-191)."""
    said = text.encode()
    return bytes(keccak(b"\x19Ethereum Signed Message:\n" + str(len(said)).encode() + said))


def bytes_of(signature: str) -> bytes:
    """The bytes of a signature, none for a text that is no hex."""
    try:
        return bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        return b""


def checksummed(account: str) -> str:
    """An address in the mixed case that wallets ask for (EIP-55)."""
    digits = account[2:]
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(
        one.upper() if int(mark, 16) >= 8 else one for one, mark in zip(digits, marks, strict=False)
    )


def _time(at_ms: int) -> str:
    return f"{as_datetime(at_ms):%Y-%m-%dT%H:%M:%SZ}"
