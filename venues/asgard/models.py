"""Asgard's wire as it is: strategies, position records and the live view, tolerant of extra keys, units asserted.

A field without a default is needed for its row to mean anything; one that no decision needs has a default, and spoils only
itself (`venues.reading`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from evenkeel.errors import NotUnderstood
from venues.reading import Moment, Number, Oddity, Whole, read

MAX_CREDIBLE_APY = Decimal(5)
"""500 % a year. A rate above it is a percentage that somebody forgot to divide."""


class Protocol(IntEnum):
    MARGINFI = 0
    KAMINO = 1
    SOLEND = 2
    DRIFT = 3


RESIZABLE = frozenset({Protocol.KAMINO})
"""Documented for Kamino and Drift; Drift is frozen since April 2026 and disabled here."""


class UnitChanged(NotUnderstood):
    """A number is not in the unit we were built for. Acting on it would be worse than stopping."""

    def __init__(self, reason: str) -> None:
        super().__init__("asgard", f"unit check: {reason}")


class Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, defer_build=True)


def _a_fraction(value: Decimal) -> Decimal:
    if not -1 <= value <= MAX_CREDIBLE_APY:
        raise ValueError(f"APY {value} is not a credible yearly fraction (0.05 = 5 %)")
    return value


Apy = Annotated[Number, AfterValidator(_a_fraction)]


class LiquiditySource(Wire):
    """One lending protocol behind a strategy. Rates are yearly fractions, None where they cannot be read; capacities whole
    tokens.
    """

    lending_protocol: Whole = Field(alias="lendingProtocol")
    is_active: bool = Field(alias="isActive", default=False)
    market_key: str = Field(alias="marketKey", default="")
    token_a_bank: str = Field(alias="tokenABank")
    token_b_bank: str = Field(alias="tokenBBank")
    long_max_leverage: Number = Field(alias="longMaxLeverage", default=Decimal(0))
    short_max_leverage: Number = Field(alias="shortMaxLeverage", default=Decimal(0))
    token_a_max_deposit_capacity: Number = Field(alias="tokenAMaxDepositCapacity", default=Decimal(0))
    token_a_max_borrow_capacity: Number = Field(alias="tokenAMaxBorrowCapacity", default=Decimal(0))
    token_b_max_deposit_capacity: Number = Field(alias="tokenBMaxDepositCapacity", default=Decimal(0))
    token_b_max_borrow_capacity: Number = Field(alias="tokenBMaxBorrowCapacity", default=Decimal(0))
    token_a_lending_apy: Apy | None = Field(alias="tokenALendingApyRate", default=None)
    token_a_borrowing_apy: Apy | None = Field(alias="tokenABorrowingApyRate", default=None)
    token_b_lending_apy: Apy | None = Field(alias="tokenBLendingApyRate", default=None)
    token_b_borrowing_apy: Apy | None = Field(alias="tokenBBorrowingApyRate", default=None)

    @property
    def can_resize(self) -> bool:
        return self.lending_protocol in RESIZABLE

    @property
    def max_ltv(self) -> Decimal | None:
        """Highest loan-to-value at opening, `1 - 1/longMaxLeverage`."""
        return 1 - 1 / self.long_max_leverage if self.long_max_leverage > 1 else None


class Strategy(Wire):
    """A token pair. Its key in `/markets` is a display name: select by mints, never by name."""

    name: str = ""
    token_a_mint: str = Field(alias="tokenAMint")
    token_b_mint: str = Field(alias="tokenBMint")
    liquidity_sources: list[LiquiditySource] = Field(alias="liquiditySources", default_factory=list)


class Markets(Wire):
    """`/markets`."""

    strategies: dict[str, Strategy]


class TokenInfo(Wire):
    """A row of `/token-metadata`. `price` is USD per whole token; 0 or missing means no price."""

    symbol: str = ""
    mint: str
    decimals: Whole
    price: Number | None = None


class Tokens(Wire):
    """`/token-metadata`."""

    tokens: list[TokenInfo]


class PositionRecord(Wire):
    """A row of Asgard's database. It may be missing for a position that exists, and its metadata may come
    late.
    """

    id: str = ""
    owner: str = Field(alias="ownerAddress", default="")
    pda: str = Field(validation_alias=AliasChoices("positionPda", "positionPDA"))
    protocol: Whole
    state: Whole = 0
    position_side: Whole = Field(alias="positionSide", default=0)
    token_a_mint: str = Field(alias="tokenATokenMint", default="")
    token_b_mint: str = Field(alias="tokenBTokenMint", default="")
    leverage: Number | None = None
    token_a_entry_price_usd: Number | None = Field(alias="tokenAEntryPriceUSD", default=None)
    token_a_exit_price_usd: Number | None = Field(alias="tokenAExitPriceUSD", default=None)
    entry_metadata: dict[str, Any] | None = Field(alias="entryMarketMetadata", default=None)
    exit_metadata: dict[str, Any] | None = Field(alias="exitMarketMetadata", default=None)
    open_fees: dict[str, Any] | None = Field(alias="openFeesMetadata", default=None)
    close_fees: dict[str, Any] | None = Field(alias="closeFeesMetadata", default=None)
    open_tx: str | None = Field(alias="openTxHash", default=None)
    close_tx: str | None = Field(alias="closeTxHash", default=None)
    token_a_amount_entry: Number | None = Field(alias="tokenAAmountUIEntry", default=None)
    token_b_amount_entry: Number | None = Field(alias="tokenBAmountUIEntry", default=None)
    token_a_amount_current: Number | None = Field(alias="tokenAAmountUICurrent", default=None)
    token_b_amount_current: Number | None = Field(alias="tokenBAmountUICurrent", default=None)
    leverage_current: Number | None = Field(alias="leverageCurrent", default=None)
    update_count: Whole | None = Field(alias="updateCount", default=None)

    @field_validator("id", mode="before")
    @classmethod
    def _id_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @property
    def token_a_amount(self) -> Decimal | None:
        """Whole tokens A as the database has them: current, or entry where there was no update."""
        current = self.token_a_amount_current
        return self.token_a_amount_entry if current is None else current

    @property
    def token_b_amount(self) -> Decimal | None:
        """Whole tokens B likewise."""
        current = self.token_b_amount_current
        return self.token_b_amount_entry if current is None else current


class Balance(Wire):
    """One bank of a live position, quantities in whole tokens. One that is not a number is not taken for nothing."""

    mint: str
    assets: Number = Field(alias="assetsQt", ge=0)
    liabs: Number = Field(alias="liabsQt", ge=0)


class Seizure(Wire):
    """A liquidation event: what the lender took and what it repaid with it. The vendor does not document its fields."""

    id: str = Field(validation_alias=AliasChoices("id", "txHash", "signature"))
    at_ms: Moment = Field(validation_alias=AliasChoices("timestamp", "createdAt"))
    pda: str = Field(default="", validation_alias=AliasChoices("positionPda", "positionPDA"))
    seized_tokens: Number = Field(alias="collateralSeizedUI", ge=0)
    repaid_usd: Number = Field(alias="debtRepaidUI", ge=0)
    price_usd: Number | None = Field(default=None, alias="priceUSD", gt=0)

    @field_validator("id", mode="before")
    @classmethod
    def _id_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("at_ms", mode="before")
    @classmethod
    def _moment(cls, value: Any) -> Any:
        """ISO 8601 UTC, or seconds or milliseconds since 1970."""
        if isinstance(value, str) and not value.isdigit():
            moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        return int(value) if int(value) > 10**11 else int(value) * 1000


def read_seizures(rows: Any) -> tuple[list[Seizure], int]:
    """Return events in order of time, and how many could not be read."""
    found, unread = [], 0
    for row in rows if isinstance(rows, list) else []:
        try:
            found.append(Seizure.model_validate(row))
        except (ValidationError, ValueError, TypeError, ArithmeticError):
            unread += 1
    return sorted(found, key=lambda one: one.at_ms), unread


class LiveRows(Wire):
    """`/refresh-positions`, each position as it came."""

    positions: dict[str, Any]


class _Books(Wire):
    balances: list[dict[str, Balance]]


class _Summary(Wire):
    books: _Books = Field(alias="booksAndBalances")
    health: Number | None = Field(alias="healthFactor", default=None)


class _LiveWire(Wire):
    summary: _Summary
    authority: str | None = None
    account: str = Field(alias="accountAddress", default="")
    events: list[Any] = Field(alias="liquidationEvents", default_factory=list)


def _mints_in(wire: Any) -> set[str]:
    """Every mint that a balance of the answer names, whatever else is odd about it."""
    found = set()
    for entry in wire["summary"]["booksAndBalances"]["balances"]:
        for one in entry.values() if isinstance(entry, dict) else ():
            if isinstance(one, dict) and isinstance(one.get("mint"), str):
                found.add(one["mint"])
    return found


class LivePosition(Wire):
    """A position as `/refresh-positions` reads it from the chain. None is what could not be read."""

    pda: str
    authority: str | None
    health_pct: Decimal | None
    balances: dict[str, Balance]
    seizures: tuple[Seizure, ...] = ()
    unread_events: int = 0
    """Liquidation events in a shape that we do not know."""
    lost: tuple[str, ...] = ()
    """Mints of balances that could not be read; "" for one whose mint cannot be read either."""
    odd: tuple[Oddity, ...] = ()
    on_chain: bool = False
    """Read from its lender's accounts, and not by Asgard."""

    @classmethod
    def parse(cls, pda: str, wire: Any) -> LivePosition:
        """Return the position of one answer. `balances` on the wire is a list of single-key objects. Raises NotUnderstood,
        as `UnitChanged` for a health outside 0..100.
        """
        found = read("asgard", f"asgard /refresh-positions {pda}", _LiveWire, wire)
        body: _LiveWire = found.value
        health = body.summary.health
        if health is not None and not 0 <= health <= 100:
            raise UnitChanged(f"healthFactor {health} of {pda} is not a percentage between 0 and 100")
        seizures, unread = read_seizures(body.events)
        balances: dict[str, Balance] = {}
        for bank, one in (pair for entry in body.summary.books.balances for pair in entry.items()):
            if balances.setdefault(bank, one) != one:
                raise NotUnderstood("asgard", f"position {pda}: two balances of bank {bank} that differ")
        return cls(
            pda=body.account or pda,
            authority=body.authority,
            health_pct=health,
            balances=balances,
            seizures=tuple(seizures),
            unread_events=unread,
            lost=tuple(name if name in _mints_in(wire) else "" for name in found.lost("balances")),
            odd=found.odd,
        )

    def understood(self, mints: Collection[str]) -> LivePosition:
        """Return the position, unless a balance that cannot be read may be in one of these mints: NotUnderstood then."""
        for lost in self.lost:
            if not lost or lost in mints:
                raise NotUnderstood("asgard", f"position {self.pda}: a balance of {lost or 'an unread mint'}")
        return self

    def collateral(self) -> Balance | None:
        """Return the one bank with assets; None when empty. Raises `NotUnderstood` for more than one."""
        return self._only([one for one in self.balances.values() if one.assets > 0], "collaterals")

    def debt(self) -> Balance | None:
        return self._only([one for one in self.balances.values() if one.liabs > 0], "debts")

    def _only(self, found: list[Balance], what: str) -> Balance | None:
        if len(found) > 1:
            raise NotUnderstood("asgard", f"position {self.pda} has {len(found)} {what}, expected one")
        return found[0] if found else None


def check_health_unit(pda: str, health_pct: Decimal, ltv: Decimal, max_ltv: Decimal | None) -> None:
    """Check that the health is a percentage. Health is 100 x (1 - LTV/LT), so it implies a liquidation threshold LT,
    which must lie between the highest LTV that may be opened and 1 (docs/rules.md, "The health factor"). A fraction in
    place of a percentage implies LT = LTV and is caught here. Skipped close to liquidation, where both readings agree.
    Raises `UnitChanged`.
    """
    if health_pct <= 1 and max_ltv is not None and ltv < max_ltv * Decimal("0.97"):
        raise UnitChanged(
            f"healthFactor {health_pct} of {pda} at a loan-to-value of {ltv:.3f} "
            f"(openable up to {max_ltv:.3f}): it looks like a fraction, not a percentage"
        )
    if health_pct < 100:
        implied = ltv / (1 - health_pct / 100)
        if implied > Decimal("1.02"):
            raise UnitChanged(
                f"healthFactor {health_pct} of {pda} at a loan-to-value of {ltv:.3f} implies a liquidation "
                f"threshold of {implied:.3f}, above 1"
            )
