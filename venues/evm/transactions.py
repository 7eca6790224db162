"""A transaction's bytes: EIP-1559 (type 2), as they are signed and as they are sent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak

from evenkeel.errors import NotUnderstood
from venues.signers.protocol import EvmSignature

TYPE = b"\x02"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One call of a contract, without a signature. Fees are wei a unit of gas; no value and no access list go along."""

    chain_id: int
    nonce: int
    tip_wei: int
    max_fee_wei: int
    gas: int
    to: str
    calldata: bytes

    @property
    def _fields(self) -> list[object]:
        to = bytes.fromhex(self.to[2:])
        return [self.chain_id, self.nonce, self.tip_wei, self.max_fee_wei, self.gas, to, 0, self.calldata, []]

    @property
    def digest(self) -> bytes:
        """The 32 bytes that are signed (EIP-1559: keccak of 0x02 and the fields without the signature)."""
        return keccak(TYPE + rlp.encode(self._fields))

    def signed(self, signature: EvmSignature) -> bytes:
        """Return the bytes to be sent."""
        return TYPE + rlp.encode([*self._fields, signature.v - 27, signature.r, signature.s])

    def dearer(self, tip_wei: int, max_fee_wei: int) -> Envelope:
        """Return the same call at the same nonce for another fee."""
        return replace(self, tip_wei=tip_wei, max_fee_wei=max_fee_wei)

    @property
    def most_wei(self) -> int:
        """The most that it can cost its sender."""
        return self.gas * self.max_fee_wei


def hash_of(raw: bytes) -> str:
    """Return the hash by which the chain knows signed bytes."""
    return "0x" + keccak(raw).hex()


def envelope_of(raw: bytes) -> Envelope:
    """Return what was signed. Raises NotUnderstood for bytes that are no such transaction."""
    try:
        fields = rlp.decode(raw[1:]) if raw[:1] == TYPE else []
        chain_id, nonce, tip, most, gas = (int.from_bytes(one, "big") for one in fields[:5])
        found = Envelope(chain_id, nonce, tip, most, gas, "0x" + fields[5].hex(), fields[7])
        if len(fields) == 12 and not int.from_bytes(fields[6], "big") and not fields[8]:
            return found
    except (rlp.exceptions.DecodingError, IndexError, TypeError, ValueError, AttributeError):
        pass
    raise NotUnderstood("transaction", "not a call of type 2 without value")
