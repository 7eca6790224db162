"""Typed answers of the Solana JSON-RPC: what we read of each, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LatestBlockhash:
    """A blockhash, the last block height at which it is accepted, and the slot of the answer."""

    blockhash: str
    last_valid_block_height: int
    context_slot: int


@dataclass(frozen=True, slots=True)
class EpochInfo:
    epoch: int
    absolute_slot: int
    block_height: int


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """`err` is None for success; `confirmation` is processed, confirmed or finalized."""

    slot: int
    err: Any
    confirmation: str

    @classmethod
    def of(cls, wire: dict[str, Any]) -> SignatureStatus:
        """Return the status of one row. Old nodes leave `confirmationStatus` out; `confirmations: null` then means
        rooted.
        """
        level = wire.get("confirmationStatus")
        if level is None:
            level = "finalized" if wire.get("confirmations") is None else "processed"
        return cls(int(wire["slot"]), wire.get("err"), str(level))

    @property
    def settled(self) -> bool:
        """True from `confirmed` on; a processed transaction may still vanish with its fork."""
        return self.confirmation in ("confirmed", "finalized")


@dataclass(frozen=True, slots=True)
class Landing:
    """A transaction in a block, as the list of an address shows it. `err` is None for success."""

    signature: str
    slot: int
    err: Any


@dataclass(frozen=True, slots=True)
class Statuses:
    context_slot: int
    found: list[SignatureStatus | None]


@dataclass(frozen=True, slots=True)
class AccountInfo:
    owner: str
    lamports: int
    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class PrioritizationFee:
    slot: int
    micro_lamports: int


@dataclass(frozen=True, slots=True)
class PerformanceSample:
    slot: int
    num_slots: int
    period_s: float
