"""How each venue is reached: address, account, key file, time limit and request budget."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator

from evenkeel.settings.section import Section

HYPERLIQUID_MAINNET = "https://api.hyperliquid.xyz"


class Hyperliquid(Section):
    """The perpetual venue. `account_address` is the account that trades; the key may be an agent's of that account."""

    url: str = HYPERLIQUID_MAINNET
    account_address: str = ""
    key_file: Path | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    weight_per_minute: float = Field(default=1000.0, gt=0, le=1200)
    stream: bool = True
    """Whether a watch has prices pushed beside those that it asks for: it notices a danger between two ticks."""
    order_life_s: float = Field(default=10.0, ge=2, le=60)
    """`expiresAfter` of an order: after this it can no longer execute."""

    @field_validator("account_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
            raise ValueError("must be 0x followed by 40 hex digits")
        return value


class Solana(Section):
    """The chain of the long leg. A second provider serves where the first is away, and must agree that an opening is dead."""

    rpc_url: str = "https://api.mainnet-beta.solana.com"
    second_rpc_url: str = ""
    key_file: Path | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    requests_per_minute: float = Field(default=600.0, gt=0, le=1_000_000)


class Asgard(Section):
    """The margin aggregator. Without an API key the venue allows one request a second per address."""

    url: str = "https://v2-ultra-edge.asgard.finance/margin-trading"
    api_key_file: Path | None = None
    timeout_s: float = Field(default=15.0, gt=0, le=120)
    requests_per_minute: float = Field(default=60.0, gt=0, le=1_000_000)
    read_on_chain: bool = True
    """Of several accounts, read lending positions from their lenders' accounts, and ask Asgard itself once a minute."""
    jito_tip_lamports: int = Field(default=0, ge=0, le=10_000_000)
    """Of an ordinary transaction. Asgard chooses the priority fee: a tip is all that we can offer for speed."""
    emergency_tip_lamports: int = Field(default=400_000, ge=0, le=10_000_000)
    """Least tip of an emergency or of a close tried again; doubled with every try, up to `safety.tip_cap_lamports`."""
