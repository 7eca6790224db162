"""Rebalancing between chain and broker: targets, caps, wallets and what moves are assumed to cost. Off until switched on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from evenkeel.settings.section import Section

ADDRESS = r"^(0x[0-9a-fA-F]{40})?$"
NOBODY = "0x" + "0" * 40


def _number(value: Any) -> Any:
    """A vault's number as it is written: whole, or 0x and hexadecimal digits."""
    if isinstance(value, str) and value.lower().startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            raise ValueError(
                f"{value} is no number: write it whole, or with 0x and hexadecimal digits"
            ) from None
    return value


VaultNumber = Annotated[int, BeforeValidator(_number), Field(gt=0, lt=2**256)]


class Band(Section):
    """Which share of all is to be on chain, and how far from it nothing is moved yet."""

    target: Decimal = Field(default=Decimal("0.5"), gt=0, lt=1)
    deviation: Decimal = Field(default=Decimal("0.2"), gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.target - self.deviation <= 0 or self.target + self.deviation >= 1:
            raise ValueError(
                f"target {self.target} and deviation {self.deviation} reach 0 or 1: a side could run dry first"
            )
        return self


class Rebalancing(Section):
    """What is moved, who approves it, and by which wallets. The chain's key comes from EVENKEEL_VAULTS_KEY or a file."""

    enabled: bool = False
    equity: Band = Band()
    """Of each symbol that has a vault here."""
    usdc: Band = Band(deviation=Decimal("0.3"))
    auto: bool = False
    """Proposals are approved without a person, as long as the cap of a day lasts."""
    auto_usd_a_day: Decimal = Field(default=Decimal(10_000), gt=0, le=10**9)
    every_minutes: int = Field(default=15, ge=5, le=1_440)
    """How often `auto` looks whether something is out of its band, under Prefect."""
    most_usd: Decimal = Field(default=Decimal(50_000), gt=0, le=10**9)
    """Of one proposal."""
    least_usd: Decimal = Field(default=Decimal(100), ge=1, le=10**6)
    """Below it nothing is proposed."""
    least_withdrawal_usdc: Decimal = Field(default=Decimal(51), ge=0, le=10**6)
    """What the broker's wallet sends at least."""
    lapse_s: int = Field(default=3_600, ge=60, le=604_800)
    """A proposal that nobody approved by then lapses: its figures are old."""
    stuck_s: int = Field(default=1_800, ge=60, le=604_800)
    """A step that takes longer is reported."""
    most_shares: dict[str, Decimal] = Field(default={})
    """Of each symbol, the most of one move: nothing above it is signed."""
    vaults: dict[str, VaultNumber] = Field(default={})
    """The vault of each symbol, and of USDC."""
    assets: dict[str, str] = Field(default={})
    """Of a symbol whose token is wrapped: the token inside, which the issuer makes and takes back."""
    redemption_wallet: str = Field(default="", pattern=ADDRESS)
    """Where the issuer takes tokens back."""
    issuer: str = Field(default="st0x", min_length=1, max_length=32)
    network: str = Field(default="base", min_length=1, max_length=32)
    """Where the issuer makes tokens."""
    wallet_network: str = Field(default="ethereum", min_length=1, max_length=32)
    """From and to which the broker's wallet sends USDC."""
    wallet_account: str = Field(default="", max_length=64)
    """The broker's account that has wallets and tokens, where another one hedges: what is moved goes there by journal."""
    confirmations: int = Field(default=12, ge=1, le=1_000)
    most_gas_gwei: Decimal = Field(default=Decimal("0.5"), gt=0, le=100)
    conversion_bps: Decimal = Field(default=Decimal(10), ge=0, le=1_000)
    bridge_bps: Decimal = Field(default=Decimal(1), ge=0, le=1_000)
    withdrawal_usd: Decimal = Field(default=Decimal(2), ge=0, le=1_000)
    key_file: Path | None = None

    @field_validator("redemption_wallet")
    @classmethod
    def _lower(cls, value: str) -> str:
        if value.lower() == NOBODY:
            raise ValueError("the zero address is nobody's")
        return value.lower()

    @field_validator("most_shares")
    @classmethod
    def _are_bounds(cls, value: dict[str, Decimal]) -> dict[str, Decimal]:
        for symbol, one in value.items():
            if not 0 < one <= 1_000_000:
                raise ValueError(f"{symbol} is {one}: allowed is more than 0 and at most 1000000")
        return value

    @field_validator("assets")
    @classmethod
    def _are_addresses(cls, value: dict[str, str]) -> dict[str, str]:
        found = {symbol: one.lower() for symbol, one in value.items()}
        for symbol, one in found.items():
            if (
                len(one) != 42
                or not one.startswith("0x")
                or set(one[2:]) - set("0123456789abcdef")
                or one == NOBODY
            ):
                raise ValueError(f"{symbol} is no address: write 0x and 40 hexadecimal digits")
        return found
