"""Columns of whole numbers, exact: `Wide` of any size, `Limbs` of up to 120 bits in 64-bit arithmetic, which is faster.

Both answer the same questions. What a question takes must be a column of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

BITS, LIMBS = 30, 4
BASE, MASK = 1 << BITS, (1 << BITS) - 1
PART_BITS = 3 * BITS
"""A part and its whole have three limbs, so that a remainder and one limb more stay within four."""
COARSE_BITS = 62
BLOCK = 1 << 15
"""Rows that are divided at once: they stay in the processor's cache."""


class Column(Protocol):
    """Whole numbers in a row, and what the pairing asks of them."""

    def __len__(self) -> int: ...

    @classmethod
    def zeros(cls, count: int) -> Self: ...

    @property
    def last(self) -> int:
        """The last number."""
        ...

    def take(self, places: Any) -> Self:
        """The numbers at these places, or of a slice."""
        ...

    def put(self, places: Any, others: Self) -> None:
        """Write others at these places."""
        ...

    def upto(self) -> Self:
        """Running sums, which begin at zero: one number more."""
        ...

    def plus(self, other: Self) -> Self: ...

    def minus(self, other: Self) -> Self: ...

    def portion(self, part: Self, whole: Self) -> Self:
        """Each number times part over whole, rounded down; 0 <= part <= whole, whole above zero."""
        ...

    def coarse(self, shift: int) -> Any:
        """Each number without its last bits, as 64-bit integers."""
        ...

    def less(self, other: Self) -> Any: ...

    def same(self, other: Self) -> Any: ...

    def ints(self) -> list[int]: ...

    def sum_of_steps(self, where: Any) -> int:
        """Sum of what the chosen numbers are above the ones before them; before the first is zero."""
        ...


class Wide:
    """Numbers of any size."""

    def __init__(self, values: Any) -> None:
        self.values = values

    @classmethod
    def of(cls, values: Sequence[int]) -> Wide:
        held = np.empty(len(values), dtype=object)
        held[:] = values
        return cls(held)

    @classmethod
    def zeros(cls, count: int) -> Wide:
        return cls.of([0] * count)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def last(self) -> int:
        return int(self.values[-1])

    def take(self, places: Any) -> Wide:
        return Wide(self.values[places])

    def put(self, places: Any, others: Wide) -> None:
        self.values[places] = others.values

    def upto(self) -> Wide:
        start = np.zeros(1, dtype=object)
        return Wide(np.concatenate((start, np.add.accumulate(self.values))) if len(self) else start)

    def plus(self, other: Wide) -> Wide:
        return Wide(self.values + other.values)

    def minus(self, other: Wide) -> Wide:
        return Wide(self.values - other.values)

    def portion(self, part: Wide, whole: Wide) -> Wide:
        return Wide(self.values * part.values // whole.values)

    def coarse(self, shift: int) -> Any:
        return (self.values >> shift).astype(np.int64) if len(self) else np.zeros(0, dtype=np.int64)

    def less(self, other: Wide) -> Any:
        return (self.values < other.values).astype(bool)

    def same(self, other: Wide) -> Any:
        return (self.values == other.values).astype(bool)

    def ints(self) -> list[int]:
        found: list[int] = self.values.tolist()
        return found

    def sum_of_steps(self, where: Any) -> int:
        """Only where a run of chosen ones begins and ends anything is to be added."""
        inside = np.concatenate(([False], where, [False]))
        ends = np.flatnonzero(inside[1:-1] & ~inside[2:])
        begins = np.flatnonzero(inside[1:-1] & ~inside[:-2])
        before = [self.values[place - 1] if place else 0 for place in begins.tolist()]
        return int(sum(self.values[ends].tolist()) - sum(before))


class Limbs:
    """Numbers in limbs of 30 bits, the lowest first: what is multiplied stays within 64 bits. The highest has the sign."""

    def __init__(self, limbs: Any) -> None:
        self.limbs = limbs

    @classmethod
    def of(cls, values: Sequence[int]) -> Limbs:
        """Numbers from zero to below 2**120."""
        packed = b"".join([value.to_bytes(16, "little") for value in values])
        low, high = np.frombuffer(packed, dtype="<u8").reshape(-1, 2).T
        limbs = np.empty((LIMBS, len(values)), dtype=np.int64)
        limbs[0] = low & MASK
        limbs[1] = (low >> BITS) & MASK
        limbs[2] = (low >> (2 * BITS)) | ((high & (BASE // 16 - 1)) << 4)
        limbs[3] = high >> (BITS - 4)
        return cls(limbs)

    @classmethod
    def zeros(cls, count: int) -> Limbs:
        return cls(np.zeros((LIMBS, count), dtype=np.int64))

    def __len__(self) -> int:
        return int(self.limbs.shape[1])

    @property
    def last(self) -> int:
        return sum(int(limb) << (BITS * place) for place, limb in enumerate(self.limbs[:, -1].tolist()))

    def take(self, places: Any) -> Limbs:
        if isinstance(places, slice):
            return Limbs(self.limbs[:, places])
        return Limbs(np.take(self.limbs, places, axis=1))

    def put(self, places: Any, others: Limbs) -> None:
        for limb, other in zip(self.limbs, others.limbs, strict=True):
            np.put(limb, places, other)

    def upto(self) -> Limbs:
        """At most 2**33 rows, so that a limb's sum keeps within 64 bits."""
        sums = np.zeros((LIMBS, len(self) + 1), dtype=np.int64)
        np.cumsum(self.limbs, axis=1, out=sums[:, 1:])
        return Limbs(_carried(sums))

    def plus(self, other: Limbs) -> Limbs:
        return Limbs(_carried(self.limbs + other.limbs))

    def minus(self, other: Limbs) -> Limbs:
        return Limbs(_carried(self.limbs - other.limbs))

    def portion(self, part: Limbs, whole: Limbs) -> Limbs:
        found = np.empty_like(self.limbs)
        for begin in range(0, len(self), BLOCK):
            block = slice(begin, begin + BLOCK)
            found[:, block] = _portion(self.limbs[:, block], part.limbs[:3, block], whole.limbs[:3, block])
        return Limbs(found)

    def coarse(self, shift: int) -> Any:
        found = np.zeros(len(self), dtype=np.int64)
        for place, limb in enumerate(self.limbs):
            up = BITS * place - shift
            if up > -BITS and limb.any():
                found |= limb << up if up >= 0 else limb >> -up
        return found

    def less(self, other: Limbs) -> Any:
        return _carried(self.limbs - other.limbs)[-1] < 0

    def same(self, other: Limbs) -> Any:
        return (self.limbs == other.limbs).all(axis=0)

    def ints(self) -> list[int]:
        low = self.limbs[0] | (self.limbs[1] << BITS)
        high = self.limbs[2] + (self.limbs[3] << BITS)
        return (high.astype(object) * (1 << (2 * BITS)) + low).tolist() if len(self) else []

    def sum_of_steps(self, where: Any) -> int:
        steps = np.diff(self.limbs, axis=1, prepend=0)
        return sum(int(limb[where].sum()) << (BITS * place) for place, limb in enumerate(steps))


def column_kind(shares: Sequence[int], usdc: Sequence[int]) -> type[Wide] | type[Limbs]:
    """Limbs where every number and every sum of them fits, else numbers of any size. The sums have two bits to spare."""
    if not shares or len(shares) > 1 << 30:
        return Wide
    rows = len(shares).bit_length()
    fits = (
        max(shares).bit_length() + rows < LIMBS * BITS - 2
        and max(usdc).bit_length() + rows < LIMBS * BITS - 2
    )
    return Limbs if fits and max(shares).bit_length() < PART_BITS else Wide


def _carried(limbs: Any) -> Any:
    """Limbs of 30 bits again, in place; the highest keeps what is over, and the sign."""
    for place in range(len(limbs) - 1):
        limbs[place + 1] += limbs[place] >> BITS
        limbs[place] &= MASK
    return limbs


def _portion(amount: Any, part: Any, whole: Any) -> Any:
    """Long division from the highest limb: remainder and next limb times part, over the whole, give one digit below 2**31.

    A digit is guessed by floats, never too large and at most one too small, and the exact remainder says which.
    """
    digits = np.zeros_like(amount)
    as_float = (whole[2].astype(np.float64) * BASE + whole[1]) * BASE + whole[0]
    shrunk = (1 - 2.0**-48) / as_float
    left = np.zeros((LIMBS, amount.shape[1]), dtype=np.int64)
    for place in reversed(range(LIMBS)):
        if not amount[place].any() and not left.any():
            continue
        left[1:] = left[:-1]
        left[0] = 0
        left[:3] += amount[place] * part
        guess = ((left[3].astype(np.float64) * BASE + left[2]) * BASE + left[1]) * BASE + left[0]
        digit = (guess * shrunk).astype(np.int64)
        left[:3] -= digit * whole
        _carried(left)
        over = (left[2] > whole[2]) | (
            (left[2] == whole[2]) & ((left[1] > whole[1]) | ((left[1] == whole[1]) & (left[0] >= whole[0])))
        )
        over |= left[3] > 0
        if over.any():
            digit += over
            left[:3] -= np.where(over, whole, 0)
            _carried(left)
        digits[place] = digit
    return _carried(digits)
