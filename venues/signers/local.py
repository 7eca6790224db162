"""Keys held in this process: read from text (environment, key file, opened keystore), shown to nobody afterwards."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets

from coincurve import PrivateKey
from eth_hash.auto import keccak
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from evenkeel.errors import OperatorError
from venues.signers.protocol import EvmSignature, Hidden

_EVM_FORM = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_SOLANA_FORMS = "expected a JSON array of 64 integers (the CLI's key file) or base58 text (a wallet's export)"
_SALT = secrets.token_bytes(32)
"""Of this process: marks show whether two keys share a secret, and mean nothing outside it."""


def _mark(secret: bytes) -> bytes:
    return hmac.new(_SALT, secret, hashlib.sha256).digest()


class LocalEvmKey(Hidden):
    """A secp256k1 key in memory, used through libsecp256k1: a tenth of what eth_keys' own arithmetic takes."""

    __slots__ = ("_key", "_secret_mark", "address")
    is_remote = False
    address: str

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._secret_mark = _mark(key.secret)
        self.address = "0x" + keccak(key.public_key.format(compressed=False)[1:])[-20:].hex()

    @classmethod
    def from_hex(cls, secret: str) -> LocalEvmKey:
        """Return the key from 64 hex digits, with or without 0x. OperatorError in one line, without the key."""
        text = secret.strip()
        if not _EVM_FORM.fullmatch(text):
            raise OperatorError(
                f"Hyperliquid signing key is malformed: expected 64 hex digits, got {len(text)} characters. "
                "Check its source."
            )
        made: LocalEvmKey | None = None
        try:
            made = cls(PrivateKey(bytes.fromhex(text.removeprefix("0x"))))
        except Exception:  # raised below, outside of the handler: a chained error could show the key
            made = None
        if made is None:
            raise OperatorError("Hyperliquid signing key is not a valid secp256k1 key. Check its source.")
        return made

    def sign_digest(self, digest: bytes) -> EvmSignature:
        """Deterministic (RFC 6979), low s. `v` is 27 or 28, as Ethereum writes the parity."""
        signed = self._key.sign_recoverable(digest, hasher=None)
        return EvmSignature(
            int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:64], "big"), signed[64] + 27
        )

    def public_name(self) -> str:
        return self.address


class LocalSolanaKey(Hidden):
    """An Ed25519 key in memory. `str()` of a bare solders Keypair would print the secret."""

    __slots__ = ("_keypair", "_secret_mark", "pubkey")
    is_remote = False
    pubkey: Pubkey

    def __init__(self, keypair: Keypair) -> None:
        self._keypair = keypair
        self._secret_mark = _mark(keypair.secret())
        self.pubkey = keypair.pubkey()

    @classmethod
    def from_text(cls, text: str) -> LocalSolanaKey:
        """Return the key from either usual form. OperatorError in one line, which never repeats the text."""
        cleaned = text.strip()
        problem = ""
        keypair: Keypair | None = None
        try:
            if cleaned.startswith("["):
                numbers = json.loads(cleaned)
                if len(numbers) != 64:
                    problem = f"it has {len(numbers)} numbers"
                else:
                    keypair = Keypair.from_bytes(bytes(numbers))
            elif cleaned:
                keypair = Keypair.from_base58_string(cleaned)
            else:
                problem = "it is empty"
        except BaseException as error:  # solders may panic past Exception on bad base58
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            problem = "it does not decode, or its public half does not match"
        if keypair is None:
            # Raised outside the handler: a chained exception could carry the secret in its message.
            raise OperatorError(f"The Solana secret key is not usable: {problem}; {_SOLANA_FORMS}.")
        return cls(keypair)

    def sign_message(self, message: bytes) -> Signature:
        return self._keypair.sign_message(message)

    def public_name(self) -> str:
        return str(self.pubkey)


def same_secret(one: object, other: object) -> bool:
    """Return whether two keys in memory come from the same 32 secret bytes. A key that lives elsewhere never does."""
    if not isinstance(one, LocalEvmKey | LocalSolanaKey) or not isinstance(
        other, LocalEvmKey | LocalSolanaKey
    ):
        return False
    return hmac.compare_digest(one._secret_mark, other._secret_mark)
