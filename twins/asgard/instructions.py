"""Instructions as the real programs take them: discriminators, argument layouts and account order.

The programs themselves run elsewhere (see `execution`); account lists follow the published interfaces, with
the twin's own stand-in markets and reserves behind them.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.token.associated import get_associated_token_address

from twins.asgard.venue import (
    ATA_PROGRAM,
    FEE_OWNER,
    INSTRUCTIONS_SYSVAR,
    JUPITER,
    POOL_OWNER,
    RENT_SYSVAR,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    TOKENS_A,
    USDC,
    USDC_MINT,
    WSOL_MINT,
    Protocol,
    Token,
    derive,
)

ALL = 2**64 - 1
"""KLend's, and Save's, amount for "everything"."""
TOKEN_ACCOUNT_BYTES = 165


def anchor(name: str) -> bytes:
    """Return Anchor's instruction discriminator."""
    return hashlib.sha256(f"global:{name}".encode()).digest()[:8]


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def writable(*keys: Pubkey) -> list[AccountMeta]:
    return [AccountMeta(key, False, True) for key in keys]


def readonly(*keys: Pubkey) -> list[AccountMeta]:
    return [AccountMeta(key, False, False) for key in keys]


def signer(key: Pubkey) -> list[AccountMeta]:
    return [AccountMeta(key, True, True)]


def vault(protocol: Protocol, token: Token) -> Pubkey:
    """Return the reserve's liquidity supply."""
    return get_associated_token_address(protocol.authority, token.mint)


def lookup_addresses(protocol: Protocol) -> list[Pubkey]:
    """Return everything that a build at this protocol names besides programs, signers, the wallet's accounts and its
    PDA.
    """
    keys = [
        protocol.market,
        protocol.authority,
        TOKEN_PROGRAM,
        SYSTEM_PROGRAM,
        INSTRUCTIONS_SYSVAR,
        RENT_SYSVAR,
    ]
    for token in (*TOKENS_A, USDC):
        keys += [protocol.bank(token), vault(protocol, token), protocol.collateral_mint(token), token.mint]
        keys += [
            protocol.oracle(token),
            collateral_supply(protocol, token),
            get_associated_token_address(POOL_OWNER, token.mint),
        ]
    keys += [POOL_OWNER, get_associated_token_address(FEE_OWNER, USDC_MINT), EVENT_AUTHORITY, JUPITER]
    keys += [SHARED_AUTHORITY, *(shared_account(token) for token in (*TOKENS_A, USDC))]
    return list(dict.fromkeys(keys))


def collateral_supply(protocol: Protocol, token: Token) -> Pubkey:
    """Return where the reserve keeps deposited collateral tokens."""
    return derive(protocol.program, "csupply", protocol.market, token.mint)


# Wallet and system


def compute_budget(limit: int, micro_lamports: int) -> list[Instruction]:
    return [set_compute_unit_limit(limit), set_compute_unit_price(micro_lamports)]


def create_ata(wallet: Pubkey, mint: Pubkey) -> Instruction:
    """Return CreateIdempotent of the wallet's own token account."""
    accounts = signer(wallet) + writable(get_associated_token_address(wallet, mint))
    return Instruction(ATA_PROGRAM, b"\x01", accounts + readonly(wallet, mint, SYSTEM_PROGRAM, TOKEN_PROGRAM))


def lamport_transfer(wallet: Pubkey, to: Pubkey, lamports: int) -> Instruction:
    return transfer(TransferParams(from_pubkey=wallet, to_pubkey=to, lamports=lamports))


def sync_native(account: Pubkey) -> Instruction:
    return Instruction(TOKEN_PROGRAM, b"\x11", writable(account))


def temporary_wsol(
    wallet: Pubkey, fresh: Pubkey, rent_lamports: int
) -> tuple[list[Instruction], Instruction]:
    """Return a wSOL account under a key made for this transaction: how to make it, and how to close it again."""
    made = create_account(
        CreateAccountParams(
            from_pubkey=wallet,
            to_pubkey=fresh,
            lamports=rent_lamports,
            space=TOKEN_ACCOUNT_BYTES,
            owner=TOKEN_PROGRAM,
        )
    )
    initialize = Instruction(TOKEN_PROGRAM, b"\x12" + bytes(wallet), writable(fresh) + readonly(WSOL_MINT))
    close = Instruction(TOKEN_PROGRAM, b"\x09", writable(fresh, wallet) + signer(wallet))
    return [made, initialize], close


# Router

EVENT_AUTHORITY = derive(JUPITER, "__event_authority")
SHARED_AUTHORITY = derive(JUPITER, "authority", b"\0")
"""Owner of the token accounts that shared-account routes pass through."""
ROUTE_WHIRLPOOL = 17


def shared_account(token: Token) -> Pubkey:
    return get_associated_token_address(SHARED_AUTHORITY, token.mint)


def route(
    router: Pubkey,
    wallet: Pubkey,
    source: Token,
    destination: Token,
    in_amount: int,
    quoted_out: int,
    slippage_bps: int,
    platform_fee_bps: int,
) -> Instruction:
    """Return Jupiter v6 `route`: a plan of one step, amounts in base units, Asgard's fee as platform fee in USDC.

    It is the form that builds come in unless an operator asks for another (`routing`). The DFlow router is given the
    same layout, its own being unpublished.
    """
    a_to_b = source.symbol != "USDC"
    step = struct.pack("<IBBBBB", 1, ROUTE_WHIRLPOOL, a_to_b, 100, 0, 1)
    data = (
        anchor("route") + step + struct.pack("<QQHB", in_amount, quoted_out, slippage_bps, platform_fee_bps)
    )
    accounts = (
        readonly(TOKEN_PROGRAM)
        + signer(wallet)
        + writable(
            get_associated_token_address(wallet, source.mint),
            get_associated_token_address(wallet, destination.mint),
        )
        + readonly(router, destination.mint)
        + writable(get_associated_token_address(FEE_OWNER, USDC_MINT))
        + readonly(EVENT_AUTHORITY, router, POOL_OWNER)
        + writable(
            get_associated_token_address(POOL_OWNER, source.mint),
            get_associated_token_address(POOL_OWNER, destination.mint),
        )
    )
    return Instruction(router, data, accounts)


@dataclass(frozen=True)
class Party:
    """Whose position an instruction is about."""

    wallet: Pubkey
    pda: Pubkey
    index: int

    def ata(self, token: Token) -> Pubkey:
        return get_associated_token_address(self.wallet, token.mint)
