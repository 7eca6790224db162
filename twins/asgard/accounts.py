"""Lenders' accounts as their programs keep them: what a position holds in shares, and what a share is worth by its bank."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from solders.account import Account
from solders.pubkey import Pubkey

from twins.asgard.venue import KAMINO, MARGINFI, TOKENS, Market, Protocol, Token

POSITION_ACCOUNT_LAMPORTS = 30_000_000
"""Rent of a position account. It is not charged to the wallet."""
BANK_ACCOUNT_LAMPORTS = 60_000_000
ONE_SF, ONE_I80F48 = 2**60, 2**48
"""One in Kamino's scaled fractions and in marginfi's fixed-point numbers."""
LENT_OUT = 3
"""A Kamino reserve has given out so many times what lies in its vault: the rest is lent out."""
UNPAID_FEES = 1_234_567
"""Base units of fees that a reserve owes to its market and not to its depositors."""


@dataclass(frozen=True)
class Worth:
    """What one share of a deposit and of a debt is worth at a moment, in tokens; both begin at 1."""

    deposit: Decimal = Decimal(1)
    debt: Decimal = Decimal(1)


@dataclass(frozen=True)
class BankState:
    """A bank at a moment. `available` are base units in its vault."""

    worth: Worth
    available: int
    price_usd: Decimal
    slot: int
    time_s: int


def position_account(
    market: Market, wallet: Pubkey, tokens: Decimal | int, debt_usd: Decimal | int, worth: Worth
) -> Account:
    """Return the position's account as its program keeps it: discriminator, market and owner at their true offsets.

    What it holds and owes (whole tokens, USD) stands where the program has it too, in shares as of the last transaction that
    touched it, of which each was `worth` so much then.
    """
    protocol: Protocol = market.protocol
    pool, owner = bytes(protocol.market), bytes(wallet)
    held = int(Decimal(tokens).scaleb(market.token_a.decimals))
    debt = int(Decimal(debt_usd).scaleb(6))
    if protocol is KAMINO:
        data = account_discriminator("Obligation") + bytes(24) + pool + owner
        size = 3344
    elif protocol is MARGINFI:
        data = account_discriminator("MarginfiAccount") + pool + owner
        size = 2312
    else:
        data = b"\x01" + bytes(9) + pool + owner
        size = 1300
    content = bytearray(data.ljust(size, b"\0"))
    asset_bank, usdc_bank = bytes(protocol.bank(market.token_a)), bytes(protocol.bank(TOKENS[-1]))
    if protocol is KAMINO:
        collateral = int(held / worth.deposit)
        places = {96: asset_bank, 128: _le(collateral, 8)} if held else {}
        if debt:
            rate = int(worth.debt * ONE_SF)
            places |= {1208: usdc_bank, 1240: _le(rate, 32), 1296: _le(debt * ONE_SF, 16), 2287: b"\1"}
    elif protocol is MARGINFI:
        shares, owed = (int(one * ONE_I80F48) for one in (held / worth.deposit, debt / worth.debt))
        places = {72: b"\1" + asset_bank, 112: _le(shares, 16)} if held else {}
        places |= {176: b"\1" + usdc_bank, 232: _le(owed, 16)} if debt else {}
    else:
        places = {202: bytes([held > 0, debt > 0])}
        places |= {204: asset_bank, 236: _le(held, 8)} if held else {}
        at = 292 if held else 204
        places |= {at: usdc_bank, at + 48: _le(debt * 10**18, 16)} if debt else {}
    _put(content, places)
    return Account(POSITION_ACCOUNT_LAMPORTS, bytes(content), protocol.program)


def bank_account(protocol: Protocol, token: Token, state: BankState) -> Account:
    """Return a reserve of Kamino or a bank of marginfi as its program keeps it."""
    content, places = _reserve(token, state) if protocol is KAMINO else _bank(token, state)
    _put(content, places)
    return Account(BANK_ACCOUNT_LAMPORTS, bytes(content), protocol.program)


def _reserve(token: Token, state: BankState) -> tuple[bytearray, dict[int, bytes]]:
    given_out = LENT_OUT * state.available + 10**token.decimals
    supplied = int(given_out * state.worth.deposit * ONE_SF)
    lent = supplied - state.available * ONE_SF + UNPAID_FEES * ONE_SF
    return bytearray(8624), {
        0: account_discriminator("Reserve"),
        8: _le(1, 8),
        16: _le(state.slot, 8),
        32: bytes(KAMINO.market),
        128: bytes(token.mint),
        224: _le(state.available, 8),
        232: _le(lent, 16),
        248: _le(int(state.price_usd * ONE_SF), 16),
        264: _le(state.time_s, 8),
        272: _le(token.decimals, 8),
        296: _le(int(state.worth.debt * ONE_SF), 32),
        344: _le(UNPAID_FEES * ONE_SF, 16),
        2560: bytes(KAMINO.collateral_mint(token)),
        2592: _le(given_out, 8),
    }


def _bank(token: Token, state: BankState) -> tuple[bytearray, dict[int, bytes]]:
    return bytearray(1864), {
        0: account_discriminator("Bank"),
        8: bytes(token.mint),
        40: bytes([token.decimals]),
        41: bytes(MARGINFI.market),
        80: _le(int(state.worth.deposit * ONE_I80F48), 16),
        96: _le(int(state.worth.debt * ONE_I80F48), 16),
        288: _le(state.time_s, 8),
        608: b"\1",
    }


class Banks:
    """The bank accounts of the lenders whose books are kept in shares, worked out when somebody reads them."""

    def __init__(self, state: Callable[[Protocol, Token], BankState]) -> None:
        self._state = state

    def readers(self) -> dict[Pubkey, Callable[[], Account]]:
        """By address, what gives the account as it is now."""

        def reader(protocol: Protocol, token: Token) -> Callable[[], Account]:
            return lambda: bank_account(protocol, token, self._state(protocol, token))

        return {
            protocol.bank(token): reader(protocol, token)
            for protocol in (KAMINO, MARGINFI)
            for token in TOKENS
        }


def account_discriminator(name: str) -> bytes:
    return hashlib.sha256(f"account:{name}".encode()).digest()[:8]


def _le(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")


def _put(content: bytearray, places: dict[int, bytes]) -> None:
    for at, found in places.items():
        content[at : at + len(found)] = found
