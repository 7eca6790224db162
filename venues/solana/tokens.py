"""SPL token balances, checks of mints against the chain, and rent."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import OperatorError
from venues.solana.answers import AccountInfo
from venues.solana.rpc import SolanaRpc

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
MINT_BYTES = 82


def amount_of(account: AccountInfo) -> int:
    """Return the base units in a token account (u64 LE at offset 64 of the SPL layout)."""
    return int.from_bytes(account.data[64:72], "little")


def to_tokens(base_units: int, decimals: int) -> Decimal:
    """Return base units as whole tokens, exactly."""
    return Decimal(base_units).scaleb(-decimals)


def to_base_units(tokens: Decimal, decimals: int) -> int:
    """Return whole tokens as base units, rounded down: we never promise what we do not have."""
    return int(tokens.scaleb(decimals))


async def token_balance(rpc: SolanaRpc, owner: str, mint: str) -> int:
    """Return the base units over every account of `owner` for `mint`; 0 where there is none."""
    accounts = await rpc.get_token_accounts(owner, mint)
    return sum(amount_of(account) for _, account in accounts if account.owner == TOKEN_PROGRAM)


def mint_problem(symbol: str, mint: str, decimals: int, account: AccountInfo | None) -> str | None:
    """Return what is wrong with a mint account, or None. A mistyped mint still decodes to a valid key: only the chain
    shows it.
    """
    if account is None:
        return f"mint {mint} of {symbol} does not exist on this chain"
    if account.owner != TOKEN_PROGRAM:
        return f"mint {mint} of {symbol} is owned by {account.owner}, not by the Token program"
    if len(account.data) != MINT_BYTES or account.data[45] != 1:
        return f"account {mint} of {symbol} is not an initialized mint"
    if account.data[44] != decimals:
        return f"mint {mint} of {symbol} has {account.data[44]} decimals, expected {decimals}"
    return None


async def check_mints(rpc: SolanaRpc, expected: dict[str, tuple[str, int]]) -> None:
    """Check mints against the chain. `expected` is {symbol: (mint, decimals)}. Raises `OperatorError` naming every mint
    that is not what we think.
    """
    accounts = await rpc.get_multiple_accounts([mint for mint, _ in expected.values()])
    problems = [
        problem
        for (symbol, (mint, decimals)), account in zip(expected.items(), accounts, strict=True)
        if (problem := mint_problem(symbol, mint, decimals, account)) is not None
    ]
    if problems:
        raise OperatorError("; ".join(problems) + ". Check the mint table and the RPC endpoint.")


async def mint_supply(rpc: SolanaRpc, mint: str) -> int | None:
    """Return the base units in existence (u64 LE at offset 36 of the mint), or None where the mint is absent."""
    account = await rpc.get_account(mint)
    if account is None or account.owner != TOKEN_PROGRAM or len(account.data) < MINT_BYTES:
        return None
    return int.from_bytes(account.data[36:44], "little")
