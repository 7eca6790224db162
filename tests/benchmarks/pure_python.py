"""A secp256k1 key that signs in pure Python, as eth_account does where libsecp256k1 is not installed."""

from __future__ import annotations

from eth_keys.backends import NativeECCBackend
from eth_keys.datatypes import PrivateKey

from venues.hyperliquid.signing import HyperliquidSigner
from venues.signers.protocol import EvmSignature


class PurePythonKey:
    """`venues.signers.protocol.EvmSigner` over eth_keys' native backend. Like eth_account it makes the key, and with it the
    public half, anew for every signature.
    """

    is_remote = False

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.address = self._key().public_key.to_address()

    def _key(self) -> PrivateKey:
        return PrivateKey(self._secret, backend=NativeECCBackend())

    def sign_digest(self, digest: bytes) -> EvmSignature:
        """Deterministic (RFC 6979), low s."""
        v, r, s = self._key().sign_msg_hash(digest).vrs
        return EvmSignature(r, s, v + 27)


def both(secret_hex: str) -> tuple[HyperliquidSigner, HyperliquidSigner]:
    """The same key as the product signs with it, and in pure Python."""
    slow = PurePythonKey(bytes.fromhex(secret_hex.strip().removeprefix("0x")))
    return HyperliquidSigner.from_hex(secret_hex), HyperliquidSigner(slow)
