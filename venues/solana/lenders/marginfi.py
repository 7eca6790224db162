"""marginfi: what an account holds and owes, by its own account and by the banks that it names.

Offsets and formulas are those of the published source (https://github.com/mrgnlabs/marginfi-v2, `type-crate/src/types`). Both
deposits and debts are kept in shares, and a bank says what one is worth as of the last time that anybody touched it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from solders.pubkey import Pubkey

from venues.solana.anchors import account_discriminator
from venues.solana.lenders.shapes import Fields, Held, Moment, Part, odd, stale, whole_tokens
from venues.solana.rules.common import MARGINFI

ONE = 2**48
ACCOUNT_BYTES, BANK_BYTES = 2312, 1864
BALANCES = range(72, 72 + 104 * 16, 104)
DISABLED = 1
ORDINARY = (0, 1)
"""Kinds of banks whose tokens are those of their mint: an ordinary one and SOL's. Others hold another lender's shares."""
MOST_WORTH = Decimal(100)
"""What a share is worth at most: it began at 1."""
DEBT_S, DEPOSIT_S = 300, 86_400
"""Seconds for which a bank's values count that nobody has touched: in 300 s a debt at 100 % a year grows by 0.001 %. What a
deposit earns meanwhile is left out, which shows too little of it.
"""
DUST = Decimal(1)
"""Base units below which a balance is none (`EMPTY_BALANCE_THRESHOLD`)."""


class Marginfi:
    """Accounts and banks of the lending program."""

    program = str(MARGINFI)

    def banks(self, pda: str, data: bytes) -> tuple[str, ...]:
        fields = self._account(pda, data)
        return tuple(dict.fromkeys(_key(fields, at + 1) for at in BALANCES if fields.unsigned(at, 1)))

    def held(self, pda: str, data: bytes, banks: Mapping[str, bytes], at: Moment) -> Held:
        fields = self._account(pda, data)
        if fields.unsigned(1800, 8) & DISABLED:
            raise odd(fields.what, "is disabled")
        deposits: dict[str, Part] = {}
        debts: dict[str, Part] = {}
        for place in BALANCES:
            if not fields.unsigned(place, 1):
                continue
            name = _key(fields, place + 1)
            if name in deposits or name in debts:
                raise odd(fields.what, f"names the bank {name} twice")
            bank = _bank(name, banks)
            assets, owed = (Decimal(fields.signed(place + at, 16)) / ONE for at in (40, 56))
            if assets < 0 or owed < 0 or (assets >= DUST and owed >= DUST):
                raise odd(fields.what, f"has {assets:.6g} and owes {owed:.6g} shares of the bank {name}")
            if assets >= DUST:
                deposits[name] = _part(bank, assets * _worth(bank, 80, at, DEPOSIT_S), ROUND_FLOOR)
            elif owed >= DUST:
                debts[name] = _part(bank, owed * _worth(bank, 96, at, DEBT_S), ROUND_CEILING)
        return Held(_key(fields, 40), deposits, debts)

    @staticmethod
    def _account(pda: str, data: bytes) -> Fields:
        return Fields(
            f"marginfi's account {pda}", data, account_discriminator("MarginfiAccount"), ACCOUNT_BYTES
        )


def _key(fields: Fields, at: int) -> str:
    return str(Pubkey.from_bytes(fields.raw(at, 32)))


def _bank(name: str, banks: Mapping[str, bytes]) -> Fields:
    bank = Fields(f"marginfi's bank {name}", banks.get(name, b""), account_discriminator("Bank"), BANK_BYTES)
    if (kind := bank.unsigned(785, 1)) not in ORDINARY:
        raise odd(bank.what, f"is of the kind {kind}, not one of {', '.join(map(str, ORDINARY))}")
    return bank


def _worth(bank: Fields, place: int, at: Moment, most_s: int) -> Decimal:
    """What one share is worth in base units, by what the bank says at this place."""
    since_s = at.time_s - bank.signed(288, 8)
    if since_s > most_s:
        raise stale(bank.what, f"was touched {since_s} s ago, limit {most_s} s")
    worth = Decimal(bank.signed(place, 16)) / ONE
    if not 1 / MOST_WORTH <= worth <= MOST_WORTH:
        raise odd(bank.what, f"one share is worth {worth:.6g} base units")
    return worth


def _part(bank: Fields, base_units: Decimal, rounding: str) -> Part:
    return Part(_key(bank, 8), whole_tokens(base_units, bank.decimals(40, 1), rounding))
