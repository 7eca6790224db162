"""What a key can do, one protocol per curve: name its public half and sign. Where the secret lives is its own affair.

The two protocols share no method, so a key of one chain cannot stand where the other's is expected. Only
`venues.hyperliquid.signing`, `venues.evm.sender` and `venues.solana.keys` call them, and those sign nothing but what a
validator approved.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn, Protocol

from solders.pubkey import Pubkey
from solders.signature import Signature

from evenkeel.errors import OperatorError


class EvmSignature(NamedTuple):
    """A recoverable secp256k1 signature: `s` in the lower half of the order, `v` 27 or 28."""

    r: int
    s: int
    v: int


class EvmSigner(Protocol):
    """A secp256k1 key. `is_remote` keys wait for a network and are called off the event loop."""

    is_remote: bool

    @property
    def address(self) -> str:
        """0x and 40 hex digits in lower case."""
        ...

    def sign_digest(self, digest: bytes) -> EvmSignature:
        """Sign 32 bytes as they are. Raises Retryable (key store unreachable) or OperatorError (refused)."""
        ...


class SolanaSigning(Protocol):
    """An Ed25519 key. `is_remote` as above."""

    is_remote: bool

    @property
    def pubkey(self) -> Pubkey: ...

    def sign_message(self, message: bytes) -> Signature:
        """Return the RFC 8032 signature of exactly these bytes. Raises Retryable or OperatorError as above."""
        ...


class Hidden:
    """A thing with a secret inside: it shows its public name only, and is never copied, pickled or compared by content."""

    __slots__ = ()

    def public_name(self) -> str:
        """Return what may be shown of it."""
        raise OperatorError("a key without a public name")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.public_name()}, key hidden)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is never serialised or copied: it holds a key")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is never serialised or copied: it holds a key")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is never serialised or copied: it holds a key")
