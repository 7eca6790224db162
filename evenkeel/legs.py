"""Value types of a trade with two legs: the sides, a position's life, what a leg looks like, what a lending transaction did."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from evenkeel.types import Frozen, Receipt

CARRY = "carry"
"""The carry trade as a business: its intents, fills, fees and breaches have a position as subject and a leg as part."""


class LegSide(StrEnum):
    LONG = "long"
    SHORT = "short"


class IntentKind(StrEnum):
    """What an intent does to a leg."""

    OPEN = "open"
    CLOSE = "close"
    RESIZE = "resize"


class PositionStatus(StrEnum):
    OPENING = "OPENING"
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    UNWINDING = "UNWINDING"
    CLOSED = "CLOSED"
    FAILED = "FAILED"
    """FAILED: the entry ended with nothing held on either venue. It never holds a leg."""


class Capabilities(Frozen):
    """What a venue can do with a leg it holds; a strategy asks before it decides."""

    can_resize: bool
    can_add_margin: bool = False


class LegView(Frozen):
    """A leg as its venue shows it now.

    `qty` is in base tokens, positive. `exposure_sol` is signed SOL exposure (LST tokens count at their redemption rate).
    `liquidation_distance` is the adverse move of the present price, as a fraction, that liquidates the leg.
    `own_liquidation_distance` is the same by our own sums, where the figures at hand suffice for them.
    `leverage` is notional / equity. `ref` identifies the leg on the venue (position PDA, or coin). `on_chain`: what it holds
    and owes was read from its lender's accounts, which state no distance.
    """

    venue: str
    side: LegSide
    ref: str
    asset: str
    qty: Decimal
    exposure_sol: Decimal
    price_usd: Decimal
    notional_usd: Decimal
    equity_usd: Decimal
    leverage: Decimal
    liquidation_price_usd: Decimal | None
    liquidation_distance: Decimal | None
    own_liquidation_distance: Decimal | None = None
    debt_usd: Decimal = Decimal(0)
    entry_price_usd: Decimal | None = None
    protocol: int | None = None
    observed_ms: int
    on_chain: bool = False


class WayOut(Frozen):
    """Whether an order that closes a leg, or a part of it, would be taken now: asked without signing or sending anything.

    `reason` says why not. `answered` is False where the venue could not be asked, which proves nothing either way.
    """

    provable: bool
    reason: str = ""
    answered: bool = True


class FundingPayment(Frozen):
    """One hourly settlement from the venue's own ledger. `usdc` > 0 was received. Key: (venue, account, coin, hour_ms)."""

    venue: str
    account: str
    coin: str
    hour_ms: int
    time_ms: int
    usdc: Decimal
    position_size: Decimal
    funding_rate_hourly: Decimal


class LendingChange(Frozen):
    """What one landed transaction did to a margin position on a lending protocol. All amounts in whole tokens or USD.

    Invariants that the books use: `tokens_after = tokens_before + tokens_bought - tokens_sold`,
    `debt_after_usd = debt_before_usd + borrowed - repaid`; interest has been accrued into the *before* figures.
    `wallet_usdc_delta` < 0 means USDC left our wallet. `gas_lamports` includes base and priority fee.
    """

    tokens_before: Decimal
    tokens_after: Decimal
    debt_before_usd: Decimal
    debt_after_usd: Decimal
    swap_token_qty: Decimal
    swap_usdc_qty: Decimal
    wallet_usdc_delta: Decimal
    protocol_fee_usd: Decimal
    gas_lamports: int
    tip_lamports: int = 0


class LegReceipt(Receipt):
    """The receipt of a leg. `lending` is there where the leg is a margin position on a lending protocol."""

    lending: LendingChange | None = None
