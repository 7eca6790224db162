"""The last bounds on what may be signed, whatever a strategy has decided."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

from pydantic import Field, field_validator

from evenkeel.errors import shown
from evenkeel.settings.section import Section


class Safety(Section):
    """What may be signed at all: the last bounds, after everything that the strategy has decided."""

    withdrawal_hyperliquid: tuple[str, ...] = ()
    """Addresses that may receive USDC from the Hyperliquid account; empty: nothing is ever withdrawn."""
    max_withdrawal_usd: Decimal = Field(default=Decimal(0), ge=0, le=10**9)
    max_order_usd: Decimal | None = Field(default=None, gt=0, le=10**9)
    """Most notional of one opening order on Hyperliquid; unset: 1.1 times `limits.max_position_usd`."""
    max_short_usd: Decimal | None = Field(default=None, gt=0, le=10**10)
    """Most notional short there altogether; unset: 1.1 times `limits.max_total_exposure_usd`."""
    entry_gap: Decimal = Field(default=Decimal("0.02"), gt=0, lt=1)
    """How far a limit price may be from the oracle's, for the worse."""
    exit_gap: Decimal = Field(default=Decimal("0.10"), gt=0, lt=1)
    """The same from the mark price when getting out: wider, because an exit must not fail in the market it is for."""

    withdrawal_solana: str = ""
    """The one Solana address that may ever be sent money to; empty: none."""
    routes_file: Path = Path("evenkeel-routes.json")
    """Where `evenkeel routes add` keeps exchanges and accounts beyond the program's dated table; a file that is not there adds
    nothing.
    """
    allowed_programs: tuple[str, ...] = ()
    """Solana programs that an approved program may call, besides those built in and those of the route table."""
    banks: tuple[str, ...] = ()
    """Reserves and banks that may be deposited to and borrowed from; empty: those that Asgard's list names."""
    fee_accounts: tuple[str, ...] = ()
    """Token accounts that may receive the router's platform fee, within `router_fee_cap_bps`; empty: nobody."""
    router_fee_cap_bps: int = Field(default=50, ge=0, le=255)
    tip_cap_lamports: int = Field(default=1_000_000, ge=0, le=10**9)
    rent_cap_lamports: int = Field(default=60_000_000, ge=0, le=10**10)
    """Most that a build may lock in new accounts."""
    entry_price_tolerance: Decimal = Field(default=Decimal("0.03"), gt=0, lt=1)
    """How much worse than the independent price a swap may end on top of its slippage, when getting in."""
    exit_price_tolerance: Decimal = Field(default=Decimal("0.10"), gt=0, lt=1)
    exit_lst_tolerance: Decimal = Field(default=Decimal("0.25"), gt=0, lt=1)
    """The same when getting out in an emergency, for an LST from its redemption value. An ordinary way out gets what a way in
    gets, and 0.01 more for each try that failed, up to 0.06; every way out 0.12 more per hour of the price's age, up to 0.50.
    """

    @field_validator("withdrawal_solana", "allowed_programs", "banks", "fee_accounts")
    @classmethod
    def _are_pubkeys(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in (value,) if isinstance(value, str) else value:
            if one and not re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{32,44}", one):
                raise ValueError(f"{shown(one)} is not a base58 public key of 32 to 44 characters")
        return value

    @field_validator("withdrawal_hyperliquid")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not re.fullmatch(r"0x[0-9a-fA-F]{40}", one):
                raise ValueError(f"{shown(one)} is not 0x followed by 40 hex digits")
        return tuple(one.lower() for one in value)
