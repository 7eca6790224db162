"""What a lender can pay out of a token, by its own account on chain: others may have borrowed what was deposited."""

from __future__ import annotations

from decimal import Decimal

from solders.pubkey import Pubkey

from venues.asgard.mints import Token
from venues.asgard.models import Protocol
from venues.solana.answers import AccountInfo
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.common import KAMINO, MARGINFI, SAVE
from venues.solana.tokens import TOKEN_PROGRAM, amount_of, to_tokens

RESERVES = {Protocol.KAMINO: (str(KAMINO), 128, 224), Protocol.SOLEND: (str(SAVE), 42, 171)}
"""By protocol its program, and where a reserve account has its mint and its available amount (u64, base units):
https://github.com/Kamino-Finance/klend (`state/reserve.rs`), https://github.com/solendprotocol/solana-program-library
(`token-lending/program/src/state/reserve.rs`).
"""


async def lender_tokens(rpc: SolanaRpc, protocol: int, bank: str, token: Token) -> Decimal | None:
    """Return whole tokens that the lender holds and has not lent out; None where its account is not as we know it.

    Raises `Retryable` or `VenueRefused`.
    """
    if protocol == Protocol.MARGINFI:
        # https://github.com/mrgnlabs/marginfi-v2: the vault's address is derived from the bank's.
        vault, _ = Pubkey.find_program_address(
            [b"liquidity_vault", bytes(Pubkey.from_string(bank))], Pubkey.from_string(str(MARGINFI))
        )
        account = await rpc.get_account(str(vault))
        if account is None or account.owner != TOKEN_PROGRAM or len(account.data) < 72:
            return None
        is_ours = account.data[:32] == bytes(Pubkey.from_string(token.mint))
        return to_tokens(amount_of(account), token.decimals) if is_ours else None
    if protocol not in RESERVES:
        return None
    return reserve_tokens(protocol, await rpc.get_account(bank), token)


def reserve_tokens(protocol: int, account: AccountInfo | None, token: Token) -> Decimal | None:
    """Return the available amount of a reserve account; None where it is none of this program and mint."""
    program, mint_at, amount_at = RESERVES[Protocol(protocol)]
    if account is None or account.owner != program or len(account.data) < amount_at + 8:
        return None
    if account.data[mint_at : mint_at + 32] != bytes(Pubkey.from_string(token.mint)):
        return None
    return to_tokens(int.from_bytes(account.data[amount_at : amount_at + 8], "little"), token.decimals)
