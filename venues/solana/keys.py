"""The wallet key, wrapped so that it can sign and do nothing else: it never prints, pickles or copies."""

from __future__ import annotations

import json
from typing import NoReturn

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from evenkeel.errors import OperatorError

_EXPECTED = "expected a JSON array of 64 integers (the CLI's key file) or base58 text (a wallet's export)"


class SolanaSigner:
    """Holds a keypair; `pubkey` and `sign` are all it offers. `str()` of a bare Keypair would print the
    secret.
    """

    __slots__ = ("_keypair", "pubkey")

    def __init__(self, keypair: Keypair) -> None:
        self._keypair = keypair
        self.pubkey: Pubkey = keypair.pubkey()

    @classmethod
    def from_secret(cls, text: str) -> SolanaSigner:
        """Read a secret key in either usual form. Raises `OperatorError`, which never repeats the text."""
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
            raise OperatorError(f"The Solana secret key is not usable: {problem}; {_EXPECTED}.")
        return cls(keypair)

    def sign(self, message: bytes) -> Signature:
        """Sign exactly these bytes; for a v0 message they must come from `to_bytes_versioned`."""
        return self._keypair.sign_message(message)

    def __repr__(self) -> str:
        return f"SolanaSigner({self.pubkey})"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SolanaSigner cannot be pickled or copied: it holds a secret key")
