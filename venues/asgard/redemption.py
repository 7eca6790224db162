"""What an LST is worth in SOL by its own pool's books on chain: the exposure of a leg, and the yardstick for
its peg.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from solders.pubkey import Pubkey

from venues.asgard.mints import INFINITY_PROGRAM, Token, token
from venues.solana.answers import AccountInfo
from venues.solana.rpc import SolanaRpc
from venues.solana.tokens import mint_supply

_TOTAL_LAMPORTS_AT = 258
_POOL_TOKEN_SUPPLY_AT = 266
_LAST_UPDATE_EPOCH_AT = 274
_POOL_MINT_AT = 162


class RedemptionSource(Protocol):
    """Where redemption rates come from. None = not known, which a caller must treat as danger, never as
    calm.
    """

    async def redemption_rate(self, asset: str) -> Decimal | None: ...


@dataclass(frozen=True, slots=True)
class StakePool:
    """Borsh fields of an SPL stake pool account (https://github.com/solana-program/stake-pool, `program/src/state.rs`)."""

    pool_mint: bytes
    total_lamports: int
    pool_token_supply: int
    last_update_epoch: int

    @property
    def sol_per_token(self) -> Decimal:
        """`total_lamports / pool_token_supply`; both sides have 9 decimals."""
        return Decimal(self.total_lamports) / Decimal(self.pool_token_supply)


def parse_stake_pool(data: bytes) -> StakePool | None:
    """Return the pool's fields, None where the bytes are too short, not a stake pool (account type 1), or the pool is
    empty.
    """
    if len(data) < _LAST_UPDATE_EPOCH_AT + 8 or data[0] != 1:
        return None

    def u64(at: int) -> int:
        return int.from_bytes(data[at : at + 8], "little")

    pool = StakePool(
        data[_POOL_MINT_AT : _POOL_MINT_AT + 32],
        u64(_TOTAL_LAMPORTS_AT),
        u64(_POOL_TOKEN_SUPPLY_AT),
        u64(_LAST_UPDATE_EPOCH_AT),
    )
    return pool if pool.pool_token_supply > 0 else None


def infinity_rate(pool: AccountInfo, supply: int) -> Decimal | None:
    """Return SOL per INF: `total_sol_value` (first u64 of PoolState) over the mint's supply. INF is no SPL stake pool."""
    if len(pool.data) < 8 or supply <= 0:
        return None
    return Decimal(int.from_bytes(pool.data[:8], "little")) / Decimal(supply)


CREDIBLE = (Decimal("0.5"), Decimal(10))
"""SOL per token, at least and at most: each pool began at 1, and earns some per cent a year."""
JUMP = Decimal("0.05")
"""Share by which a pool's books do not move between two readings of one process: they step by rewards of a day or two."""


class OnChainRedemption:
    """Reads the pool accounts. One that is absent, foreign, empty, of another token, or far from what it said before gives
    None: a rate decides how much is hedged, and one wrong reading of it would trade the hedge away.
    """

    def __init__(self, rpc: SolanaRpc) -> None:
        self._rpc = rpc
        self._last: dict[str, Decimal] = {}

    async def redemption_rate(self, asset: str) -> Decimal | None:
        """Return SOL per token; 1 for SOL. Raises `Retryable` when the node does not answer, `KeyError` for an unknown
        asset.
        """
        known = token(asset)
        if known.pool is None:
            return Decimal(1)
        account = await self._rpc.get_account(known.pool)
        if account is None or account.owner != known.pool_program:
            return None
        rate = await self._rate(known, account)
        last = self._last.get(asset, rate)
        if rate is None or last is None or not CREDIBLE[0] <= rate <= CREDIBLE[1]:
            return None
        if abs(rate / last - 1) > JUMP:
            return None
        self._last[asset] = rate
        return rate

    async def _rate(self, known: Token, account: AccountInfo) -> Decimal | None:
        if known.pool_program == INFINITY_PROGRAM:
            supply = await mint_supply(self._rpc, known.mint)
            return None if supply is None else infinity_rate(account, supply)
        pool = parse_stake_pool(account.data)
        is_its_own = pool is not None and pool.pool_mint == bytes(Pubkey.from_string(known.mint))
        return pool.sol_per_token if pool is not None and is_its_own else None
