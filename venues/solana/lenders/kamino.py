"""Kamino: what an obligation holds and owes, by its own account and by the reserves that it names.

Offsets and formulas are those of the published source (https://github.com/Kamino-Finance/klend, `state/obligation.rs`,
`state/reserve.rs`). A deposit is kept in collateral tokens, of which each is worth (available + lent out − fees not yet paid
out) / collateral tokens given out; a debt as of when it was touched last, and grows as its reserve's cumulative borrow rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from solders.pubkey import Pubkey

from venues.solana.anchors import account_discriminator
from venues.solana.lenders.shapes import Fields, Held, Moment, Part, odd, stale, whole_tokens
from venues.solana.rules.common import KAMINO

ONE = 2**60
OBLIGATION_BYTES, RESERVE_BYTES = 3344, 8624
DEPOSITS, BORROWS = (96, 136, 8), (1208, 200, 5)
"""Where the slots begin, bytes of one, and how many there are."""
MOST_RATE = Decimal(100)
"""What a collateral token is worth at most, and a debt has grown by at most: each began at 1."""
DEBT_SLOTS, DEPOSIT_SLOTS = 1_500, 400_000
"""Slots for which a reserve's rates count that nobody has refreshed. Interest accrues by slots, 63,072,000 to a year: 1,500 are
0.0024 % of a debt at 100 % a year. What a deposit earns meanwhile is left out, which shows too little of it.
"""
BEHIND = Decimal("0.000001")
"""By so much a reserve's rate may be behind the obligation's: two answers may be some slots apart."""


class Kamino:
    """Obligations and reserves of the lending program."""

    program = str(KAMINO)

    def banks(self, pda: str, data: bytes) -> tuple[str, ...]:
        fields = self._obligation(pda, data)
        places = (*_slots(*DEPOSITS), *_slots(*BORROWS))
        return tuple(dict.fromkeys(_key(fields, at) for at in places if any(fields.raw(at, 32))))

    def held(self, pda: str, data: bytes, banks: Mapping[str, bytes], at: Moment) -> Held:
        fields = self._obligation(pda, data)
        deposits: dict[str, Part] = {}
        debts: dict[str, Part] = {}
        for place in _slots(*DEPOSITS):
            if any(fields.raw(place, 32)) and (shares := fields.unsigned(place + 32, 8)):
                bank = _key(fields, place)
                _once(pda, deposits, bank)
                deposits[bank] = _deposit(_reserve(bank, banks), shares, at)
        for place in _slots(*BORROWS):
            if any(fields.raw(place, 32)) and (owed := fields.unsigned(place + 88, 16)):
                bank = _key(fields, place)
                _once(pda, debts, bank)
                debts[bank] = _debt(_reserve(bank, banks), owed, fields.unsigned(place + 32, 32), at)
        return Held(_key(fields, 64), deposits, debts)

    @staticmethod
    def _obligation(pda: str, data: bytes) -> Fields:
        return Fields(
            f"Kamino's obligation {pda}", data, account_discriminator("Obligation"), OBLIGATION_BYTES
        )


def _slots(start: int, size: int, count: int) -> range:
    return range(start, start + size * count, size)


def _key(fields: Fields, at: int) -> str:
    return str(Pubkey.from_bytes(fields.raw(at, 32)))


def _once(pda: str, found: Mapping[str, Part], bank: str) -> None:
    if bank in found:
        raise odd(f"Kamino's obligation {pda}", f"names the reserve {bank} twice")


def _reserve(bank: str, banks: Mapping[str, bytes]) -> Fields:
    what = f"Kamino's reserve {bank}"
    return Fields(what, banks.get(bank, b""), account_discriminator("Reserve"), RESERVE_BYTES)


def _fresh(reserve: Fields, at: Moment, most_slots: int) -> None:
    behind = at.slot - reserve.unsigned(16, 8)
    if behind > most_slots:
        raise stale(reserve.what, f"was refreshed {behind} slots ago, limit {most_slots}")


def _deposit(reserve: Fields, shares: int, at: Moment) -> Part:
    _fresh(reserve, at, DEPOSIT_SLOTS)
    unpaid = sum(reserve.unsigned(place, 16) for place in (344, 360, 376))
    supplied = reserve.unsigned(224, 8) * ONE + reserve.unsigned(232, 16) - unpaid
    given_out = reserve.unsigned(2592, 8)
    rate = Decimal(supplied) / (given_out * ONE) if given_out else Decimal(0)
    if not 1 / MOST_RATE <= rate <= MOST_RATE:
        raise odd(reserve.what, f"one collateral token is worth {rate:.6g} tokens")
    return _part(reserve, shares * rate, ROUND_FLOOR)


def _debt(reserve: Fields, owed: int, rate_then: int, at: Moment) -> Part:
    _fresh(reserve, at, DEBT_SLOTS)
    rate_now = reserve.unsigned(296, 32)
    grown = Decimal(rate_now) / rate_then if rate_then else Decimal(0)
    if not 1 - BEHIND <= grown <= MOST_RATE:
        raise odd(reserve.what, f"a debt has grown to {grown:.6g} of what it was")
    return _part(reserve, Decimal(owed) / ONE * max(Decimal(1), grown), ROUND_CEILING)


def _part(reserve: Fields, base_units: Decimal, rounding: str) -> Part:
    return Part(_key(reserve, 128), whole_tokens(base_units, reserve.decimals(272, 8), rounding))
