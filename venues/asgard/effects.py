"""What a landed transaction did to a position, read from its own token balances and checked against late
metadata.

The chain comes first because Asgard's executed metadata may be empty for a minute, and a hedge must not wait
for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evenkeel.errors import NotUnderstood, VenueRefused
from venues.asgard.mints import BY_MINT, USDC, Token

ZERO = Decimal(0)
BUYING = frozenset({"open_long", "increase_leverage", "add_collateral"})
SELLING = frozenset({"close_long", "partial_close", "deleverage"})
PRICE_TOLERANCE = Decimal("0.05")
"""An executed price further than this from the oracle is a misread ratio, not a price."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Movements in whole tokens, all positive but the signed `wallet_*`. Sums over the transactions of a
    build.
    """

    tokens_bought: Decimal
    tokens_sold: Decimal
    borrowed_usd: Decimal
    repaid_usd: Decimal
    wallet_usdc_delta: Decimal
    wallet_token_delta: Decimal
    protocol_fee_usd: Decimal
    fee_is_certain: bool
    gas_lamports: int
    wallet_lamports_delta: int
    time_ms: int | None

    @property
    def moved(self) -> bool:
        """False for a transaction that only set up accounts."""
        return any((self.tokens_bought, self.tokens_sold, self.borrowed_usd, self.repaid_usd))

    @property
    def swap_usdc(self) -> Decimal:
        """USDC of the swap itself, without the protocol's fee: what went in on a buy, what came out on a
        sale.

        From `wallet = borrowed - repaid - swap in + swap out - fee`, which holds for every operation.
        """
        flow = self.borrowed_usd - self.repaid_usd - self.wallet_usdc_delta - self.protocol_fee_usd
        return flow if self.tokens_bought > 0 else -flow if self.tokens_sold > 0 else ZERO

    @property
    def swap_tokens(self) -> Decimal:
        return self.tokens_bought + self.tokens_sold

    @property
    def price_usd(self) -> Decimal | None:
        return self.swap_usdc / self.swap_tokens if self.swap_tokens else None


def token_deltas(meta: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Return (owner, mint) -> change in base units, from `preTokenBalances` and `postTokenBalances`."""
    deltas: dict[tuple[str, str], int] = defaultdict(int)
    for sign, rows in ((-1, meta.get("preTokenBalances")), (1, meta.get("postTokenBalances"))):
        for row in rows or []:
            deltas[(row["owner"], row["mint"])] += sign * int(row["uiTokenAmount"]["amount"])
    return {key: value for key, value in deltas.items() if value}


def read_effect(op: str, asset: Token, wallet: str, transaction: dict[str, Any]) -> Effect:
    """Return one landed or simulated transaction (`getTransaction`, encoding json) as movements of the position.

    The lending vault is the owner, other than our wallet, whose holding of the asset moves the way the
    operation moves it; the pool on the other side of the swap moves against it. A repayment moves no asset:
    there the vault is whoever receives the USDC. Raises `NotUnderstood` for a transaction without readable
    metadata: a balance that cannot be read may be ours.
    """
    try:
        return _effect_of(op, asset, wallet, transaction)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise NotUnderstood("solana rpc", f"balances of a transaction: {type(error).__name__}") from None


def _effect_of(op: str, asset: Token, wallet: str, transaction: dict[str, Any]) -> Effect:
    meta = transaction["meta"]
    deltas = token_deltas(meta)
    others = {owner for owner, _ in deltas} - {wallet}
    asset_moves = {owner: deltas.get((owner, asset.mint), 0) for owner in others}
    usdc_moves = {owner: deltas.get((owner, USDC.mint), 0) for owner in others}
    if op in BUYING:
        vaults = {owner for owner, moved in asset_moves.items() if moved > 0}
    elif op in SELLING:
        vaults = {owner for owner, moved in asset_moves.items() if moved < 0}
    else:
        vaults = {owner for owner, moved in usdc_moves.items() if moved > 0}
    in_vault = Decimal(sum(asset_moves[owner] for owner in vaults)).scaleb(-asset.decimals)
    vault_usdc = _usdc(sum(usdc_moves[owner] for owner in vaults))
    bystanders = [owner for owner in others - vaults if not asset_moves[owner]]
    fee = _usdc(sum(max(0, usdc_moves[owner]) for owner in bystanders))
    routed = any(mint not in (asset.mint, USDC.mint) and mint in BY_MINT for _, mint in deltas)
    routed = routed or any(usdc_moves[owner] < 0 for owner in bystanders)
    keys = transaction.get("transaction", {}).get("message", {}).get("accountKeys", [])
    lamports = _lamports_delta(meta, keys, wallet)
    block_time = transaction.get("blockTime")
    return Effect(
        tokens_bought=max(ZERO, in_vault),
        tokens_sold=max(ZERO, -in_vault),
        borrowed_usd=max(ZERO, -vault_usdc),
        repaid_usd=max(ZERO, vault_usdc),
        wallet_usdc_delta=_usdc(deltas.get((wallet, USDC.mint), 0)),
        wallet_token_delta=Decimal(deltas.get((wallet, asset.mint), 0)).scaleb(-asset.decimals),
        protocol_fee_usd=ZERO if routed else fee,
        fee_is_certain=not routed,
        gas_lamports=int(meta["fee"]),
        wallet_lamports_delta=lamports,
        time_ms=None if block_time is None else int(block_time) * 1000,
    )


def _usdc(base_units: int) -> Decimal:
    return Decimal(base_units).scaleb(-USDC.decimals)


def _lamports_delta(meta: dict[str, Any], keys: list[Any], wallet: str) -> int:
    names = [key["pubkey"] if isinstance(key, dict) else key for key in keys]
    if wallet not in names:
        return 0
    at = names.index(wallet)
    return int(meta["postBalances"][at]) - int(meta["preBalances"][at])


def total(effects: Iterable[Effect]) -> Effect:
    """Return the effect of a whole build."""
    every = list(effects)
    times = [one.time_ms for one in every if one.time_ms is not None]
    return Effect(
        tokens_bought=sum((one.tokens_bought for one in every), ZERO),
        tokens_sold=sum((one.tokens_sold for one in every), ZERO),
        borrowed_usd=sum((one.borrowed_usd for one in every), ZERO),
        repaid_usd=sum((one.repaid_usd for one in every), ZERO),
        wallet_usdc_delta=sum((one.wallet_usdc_delta for one in every), ZERO),
        wallet_token_delta=sum((one.wallet_token_delta for one in every), ZERO),
        protocol_fee_usd=sum((one.protocol_fee_usd for one in every), ZERO),
        fee_is_certain=all(one.fee_is_certain for one in every),
        gas_lamports=sum(one.gas_lamports for one in every),
        wallet_lamports_delta=sum(one.wallet_lamports_delta for one in every),
        time_ms=max(times, default=None),
    )


@dataclass(frozen=True, slots=True)
class Swap:
    """The swap as Asgard's executed metadata states it, in whole tokens."""

    tokens: Decimal
    usdc: Decimal
    buys: bool

    @property
    def price_usd(self) -> Decimal:
        return self.usdc / self.tokens


def executed_metadata(market_metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return `onChainExecutedMetadata`, or None while it has not arrived (up to a minute after landing)."""
    found = (market_metadata or {}).get("onChainExecutedMetadata")
    return found if isinstance(found, dict) and found else None


def read_swap(executed: dict[str, Any], asset: Token, oracle_usd: Decimal | None) -> Swap | None:
    """Return the swap in executed metadata, None where there was none.

    The documented `outputAmount / inputAmount` is tokens per USDC on a buy, the inverse of a price: the mints
    decide which is which. Amounts are base units, which the vendor does not say: a price far from the oracle
    is refused (`VenueRefused`) rather than believed.
    """
    if executed.get("inputMint") is None:
        return None
    mints = (executed["inputMint"], executed["outputMint"])
    amounts = (Decimal(executed["inputAmount"]), Decimal(executed["outputAmount"]))
    if mints == (USDC.mint, asset.mint):
        usdc, tokens, buys = amounts[0], amounts[1], True
    elif mints == (asset.mint, USDC.mint):
        tokens, usdc, buys = amounts[0], amounts[1], False
    else:
        raise VenueRefused(
            "asgard", f"executed metadata swaps {mints[0]} into {mints[1]}, not {asset.symbol}"
        )
    swap = Swap(tokens.scaleb(-asset.decimals), usdc.scaleb(-USDC.decimals), buys)
    if tokens <= 0 or usdc <= 0:
        raise VenueRefused("asgard", f"executed metadata has amounts {amounts[0]} and {amounts[1]}")
    if oracle_usd and not plausible(swap.price_usd, oracle_usd):
        raise VenueRefused(
            "asgard",
            f"executed metadata gives {swap.price_usd:.6g} USD for {asset.symbol}, "
            f"the oracle {oracle_usd:.6g}: the unit of its amounts has changed",
        )
    return swap


def plausible(price_usd: Decimal, oracle_usd: Decimal) -> bool:
    return abs(price_usd / oracle_usd - 1) <= PRICE_TOLERANCE
