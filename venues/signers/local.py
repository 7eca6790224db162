"""Keys held in this process: read from text (environment, key file, opened keystore), shown to nobody afterwards."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets

from eth_account import Account
from eth_account.signers.local import LocalAccount
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
    """A secp256k1 key in memory."""

    __slots__ = ("_account", "_secret_mark", "address")
    is_remote = False
    address: str

    def __init__(self, account: LocalAccount) -> None:
        self._account = account
        self._secret_mark = _mark(bytes(account.key))
        self.address = str(account.address).lower()

    @classmethod
    def from_hex(cls, secret: str) -> LocalEvmKey:
        """Return the key from 64 hex digits, with or without 0x. OperatorError in one line, without the key."""
        text = secret.strip()
        if not _EVM_FORM.fullmatch(text):
            raise OperatorError(
                f"Hyperliquid signing key is malformed: expected 64 hex digits, got {len(text)} characters. "
                "Check its source."
            )
        account: LocalAccount | None = None
        try:
            account = Account.from_key(text)
        except Exception:  # raised below, outside of the handler: a chained error could show the key
            account = None
        if account is None:
            raise OperatorError("Hyperliquid signing key is not a valid secp256k1 key. Check its source.")
        return cls(account)

    def sign_digest(self, digest: bytes) -> EvmSignature:
        """Return the signature of a digest, deterministic (RFC 6979) and with low s."""
        signed = self._account.unsafe_sign_hash(digest)
        return EvmSignature(int(signed.r), int(signed.s), int(signed.v))

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
