"""Mints, associated token accounts and lookup tables put at their real addresses."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from solders.account import Account
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address
from solders.token.state import Mint, TokenAccount, TokenAccountState

from twins.solana.ledger import TokenBalance

TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
LOOKUP_TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
NATIVE_MINT = Pubkey.from_string("So11111111111111111111111111111111111111112")

MINT_BYTES = 82
TOKEN_ACCOUNT_BYTES = 165
_SUPPLY_TOKENS = 1_000_000_000

Lookup = Callable[[Pubkey], Account | None]


def ata(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the associated token account of the classic Token program."""
    return get_associated_token_address(owner, mint)


def is_token_account(account: Account | None) -> bool:
    return (
        account is not None
        and account.owner in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM)
        and len(account.data) >= TOKEN_ACCOUNT_BYTES
        and account.data[108] != 0
    )


def read_token(account: Account) -> TokenAccount:
    return TokenAccount.from_bytes(bytes(account.data[:TOKEN_ACCOUNT_BYTES]))


def read_mint(account: Account | None) -> Mint | None:
    if account is None or account.owner not in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM):
        return None
    return Mint.from_bytes(bytes(account.data[:MINT_BYTES])) if len(account.data) >= MINT_BYTES else None


def mint_account(svm: LiteSVM, decimals: int) -> Account:
    mint = Mint(None, _SUPPLY_TOKENS * 10**decimals, decimals, True, None)
    return Account(svm.minimum_balance_for_rent_exemption(MINT_BYTES), bytes(mint), TOKEN_PROGRAM)


def with_amount(svm: LiteSVM, present: Account | None, owner: Pubkey, mint: Pubkey, amount: int) -> Account:
    """Return the token account holding `amount`, made if missing; a wSOL account holds it in lamports too."""
    rent = svm.minimum_balance_for_rent_exemption(TOKEN_ACCOUNT_BYTES)
    native = mint == NATIVE_MINT
    if present is not None and is_token_account(present):
        state = read_token(present)
        reserve = state.is_native if native and state.is_native is not None else rent
        lamports = reserve + amount if native else present.lamports
        state = TokenAccount(
            state.mint, state.owner, amount, state.delegate, state.state,
            state.is_native, state.delegated_amount, state.close_authority,
        )  # fmt: skip
        return Account(lamports, bytes(state), present.owner)
    state = TokenAccount(
        mint, owner, amount, None, TokenAccountState.Initialized, rent if native else None, 0, None
    )
    return Account(rent + amount if native else rent, bytes(state), TOKEN_PROGRAM)


def token_balances(keys: Sequence[Pubkey], lookup: Lookup) -> tuple[TokenBalance, ...]:
    """Return the token accounts among `keys`, as `preTokenBalances` and `postTokenBalances` list them."""
    rows = []
    for index, key in enumerate(keys):
        account = lookup(key)
        if account is None or not is_token_account(account):
            continue
        token = read_token(account)
        mint = read_mint(lookup(token.mint))
        rows.append(
            TokenBalance(
                index, token.mint, token.owner, token.amount, mint.decimals if mint else 0, account.owner
            )
        )
    return tuple(rows)


def lookup_table_account(svm: LiteSVM, addresses: Sequence[Pubkey]) -> Account:
    """Return a frozen lookup table that was extended long ago, so that every entry is active.

    The program's layout: u32 kind 1, u64 deactivation slot (all ones: never), u64 last extended slot,
    u8 start index, optional authority (1 + 32), u16 padding, then the addresses.
    """
    head = struct.pack("<IQQBB32sH", 1, 2**64 - 1, 0, 0, 0, bytes(32), 0)
    table = head + b"".join(bytes(address) for address in addresses)
    return Account(svm.minimum_balance_for_rent_exemption(len(table)), table, LOOKUP_TABLE_PROGRAM)
