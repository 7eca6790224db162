"""What may be signed on Solana, from settings."""

from __future__ import annotations

from solders.pubkey import Pubkey

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from venues.solana.rules.common import Rules


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
