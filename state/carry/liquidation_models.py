"""The tables of what a venue did on its own: forced changes of a lending position, and up to when its ledgers were read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import UniqueConstraint

from state.models import Row, money, ms, row_id, word


class Liquidation(Row):
    """Collateral that a lender seized from a position of ours and the debt that it repaid with it; no order of ours did it.

    `repaid_usd` counts debt that was forgiven, so that before, after and the change always add up. Prices are those of
    the moment, in USD; `redemption_rate` is SOL per token. `ref` is the venue's own id of it.
    """

    id: int | None = row_id()
    position_id: str = word(foreign_key="positions.position_id")
    ref: str = word()
    at_ms: int = ms()
    tokens_before: Decimal = money()
    tokens_after: Decimal = money()
    debt_before_usd: Decimal = money()
    debt_after_usd: Decimal = money()
    token_price_usd: Decimal = money()
    sol_price_usd: Decimal = money()
    redemption_rate: Decimal = money()

    @property
    def seized_tokens(self) -> Decimal:
        return self.tokens_before - self.tokens_after

    @property
    def repaid_usd(self) -> Decimal:
        return self.debt_before_usd - self.debt_after_usd


class LiquidationTable(Liquidation, table=True):
    __tablename__ = "liquidations"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("position_id", "ref", name="uq_liquidations_position_ref"),
    )
