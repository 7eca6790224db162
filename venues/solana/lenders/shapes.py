"""What a position holds and owes by its lender's own accounts, and what any of them must be for that to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from evenkeel.errors import NotUnderstood, Retryable
from venues.solana.answers import AccountInfo

MOST_DECIMALS = 18


@dataclass(frozen=True, slots=True)
class Part:
    """What a position has at one bank, in whole tokens of this mint."""

    mint: str
    tokens: Decimal


@dataclass(frozen=True, slots=True)
class Held:
    """What a position holds and owes, by bank. `owner` is the wallet that it belongs to."""

    owner: str
    deposits: Mapping[str, Part]
    debts: Mapping[str, Part]

    @property
    def is_empty(self) -> bool:
        return not self.deposits and not self.debts


@dataclass(frozen=True, slots=True)
class Moment:
    """When accounts were read: the slot of the answer, and the second since 1970 by our clock."""

    slot: int
    time_s: int


class Lender(Protocol):
    """How one lending program keeps its accounts. Both raise NotUnderstood for data of another shape."""

    program: str

    def banks(self, pda: str, data: bytes) -> tuple[str, ...]:
        """Return the banks in which a position has anything."""

    def held(self, pda: str, data: bytes, banks: Mapping[str, bytes], at: Moment) -> Held:
        """Return what a position holds and owes at a moment. Raises Retryable where a bank says nothing of now."""


def whole_tokens(base_units: Decimal, decimals: int, rounding: str) -> Decimal:
    """Return base units as tokens, in whole base units as a transaction would take them."""
    return base_units.quantize(Decimal(1), rounding=rounding).scaleb(-decimals)


class Fields:
    """Little-endian fields of an account's data, at the places where the published source of its program has them."""

    def __init__(self, what: str, data: bytes, discriminator: bytes, size: int) -> None:
        if data[:8] != discriminator or len(data) < size:
            raise odd(what, f"{len(data)} bytes that begin with {data[:8].hex() or 'nothing'}")
        self._data = data
        self.what = what

    def unsigned(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size], "little")

    def signed(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size], "little", signed=True)

    def raw(self, at: int, size: int) -> bytes:
        return self._data[at : at + size]

    def decimals(self, at: int, size: int) -> int:
        """Return the decimals of a mint. Raises NotUnderstood for a number that no token has."""
        found = self.unsigned(at, size)
        if found > MOST_DECIMALS:
            raise odd(self.what, f"{found} decimals")
        return found


def odd(what: str, why: str) -> NotUnderstood:
    """The error of an account that is laid out otherwise than we know it."""
    return NotUnderstood("solana", f"{what}: {why}")


def stale(what: str, why: str) -> Retryable:
    """The error of a bank that was touched too long ago to say what its shares are worth now."""
    return Retryable(f"{what}: {why}")


def program_data(what: str, account: AccountInfo | None, program: str) -> bytes:
    """Return an account's data. Raises NotUnderstood where it is not there, or another program's."""
    if account is None:
        raise odd(what, "is not on chain")
    if account.owner != program:
        raise odd(what, f"belongs to the program {account.owner}")
    return account.data
