"""What may be signed on Solana, from settings, and the price that its swaps are held against."""

from __future__ import annotations

from decimal import Decimal

from solders.pubkey import Pubkey

from evenkeel.errors import OperatorError
from evenkeel.settings import Settings
from state.store import Store
from venues.asgard.approving import PriceSource, Recall
from venues.asgard.mints import TOKENS
from venues.hyperliquid.venue import HyperliquidVenue
from venues.solana.rules import Rules

COIN = "SOL"


def signing_rules(settings: Settings) -> Rules:
    """The validator's limits. OperatorError for an address that is no public key."""
    safety = settings.safety
    return Rules(
        fee_cap_lamports=settings.limits.max_fee_lamports,
        exit_fee_cap_lamports=settings.limits.max_fee_emergency_lamports,
        tip_cap_lamports=safety.tip_cap_lamports,
        rent_cap_lamports=safety.rent_cap_lamports,
        router_fee_cap_bps=safety.router_fee_cap_bps,
        price_tolerance=safety.entry_price_tolerance,
        exit_price_tolerance=safety.exit_price_tolerance,
        exit_lst_tolerance=safety.exit_lst_tolerance,
        cpi_programs=_keys("allowed_programs", safety.allowed_programs),
        fee_accounts=_keys("fee_accounts", safety.fee_accounts),
        banks=_keys("banks", safety.banks),
        withdrawal=next(iter(_keys("withdrawal_solana", (safety.withdrawal_solana,))), None),
    )


def _keys(name: str, texts: tuple[str, ...]) -> frozenset[Pubkey]:
    try:
        return frozenset(Pubkey.from_string(text) for text in texts if text)
    except ValueError as error:
        raise OperatorError(f"safety.{name} holds an address that is no public key: {error}") from None


def sol_price_of(venue: HyperliquidVenue) -> PriceSource:
    """USD per SOL as Hyperliquid's oracle states it: a source that knows nothing of Asgard's builder."""

    async def price() -> Decimal:
        return (await venue.market.context(COIN)).oracle_px

    return price


def stored_price_of(store: Store) -> Recall:
    """USD per token as the ledger knew it last: Hyperliquid's oracle price of SOL times the pool's redemption rate."""

    def recall(asset: str) -> tuple[int, Decimal] | None:
        sol = store.last_price("hyperliquid", COIN, "oracle")
        if sol is None:
            return None
        rate = store.last_price("solana", asset, "redemption") if TOKENS[asset].is_lst else None
        return sol.at_ms, sol.price_usd * (
            rate.price_usd if rate else 1
        )  # a staked token is never worth less

    return recall
