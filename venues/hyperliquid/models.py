"""The wire as it is: answers of `/info` and `/exchange`, tolerant of fields we do not know, numbers kept
exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from evenkeel.types import Forced


class Wire(BaseModel):
    """Camel case outside, snake case inside; unknown keys are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, defer_build=True
    )


# --- market -----------------------------------------------------------------------------------------------


class WireAsset(Wire):
    name: str
    sz_decimals: int
    max_leverage: int
    is_delisted: bool | None = None
    only_isolated: bool | None = None


class WireMeta(Wire):
    """`meta`. The position in `universe` is the asset index; delisted assets keep theirs."""

    universe: list[WireAsset]


class WireAssetCtx(Wire):
    """`funding` is the hourly rate accruing in this hour; `premium` the present sample of the 8 h-formula
    input."""

    funding: Decimal
    premium: Decimal | None = None
    oracle_px: Decimal
    mark_px: Decimal
    mid_px: Decimal | None = None


class WireLevel(Wire):
    px: Decimal
    sz: Decimal
    n: int | None = None


class WireBook(Wire):
    """`l2Book`: `levels` are bids from the best down, then asks from the best up."""

    coin: str
    levels: tuple[list[WireLevel], list[WireLevel]]
    time: int = 0


class WireFundingRate(Wire):
    """`fundingHistory`: the rate settled at `time`, per hour; `premium` is that hour's average."""

    coin: str
    funding_rate: Decimal
    premium: Decimal
    time: int


# --- account ----------------------------------------------------------------------------------------------


class WireLeverage(Wire):
    type: Literal["cross", "isolated"]
    value: int
    raw_usd: Decimal | None = None


class WireCumFunding(Wire):
    """Sign as the venue has it here: positive was *paid*, the opposite of `userFunding.usdc`."""

    all_time: Decimal
    since_open: Decimal
    since_change: Decimal


class WirePosition(Wire):
    coin: str
    szi: Decimal
    entry_px: Decimal | None = None
    position_value: Decimal
    unrealized_pnl: Decimal
    liquidation_px: Decimal | None = None
    margin_used: Decimal
    leverage: WireLeverage
    max_leverage: int | None = None
    return_on_equity: Decimal | None = None
    cum_funding: WireCumFunding | None = None

    @property
    def mark_px(self) -> Decimal:
        """`positionValue = |szi| * mark`, so this is the mark that the rest of the row was computed with."""
        return self.position_value / abs(self.szi)


class WireAssetPosition(Wire):
    type: str = "oneWay"
    position: WirePosition


class WireMarginSummary(Wire):
    account_value: Decimal
    total_ntl_pos: Decimal
    total_raw_usd: Decimal
    total_margin_used: Decimal


class WireClearinghouseState(Wire):
    """`clearinghouseState`. `time` is the venue's clock; recordings of 2023 lack it."""

    asset_positions: list[WireAssetPosition]
    margin_summary: WireMarginSummary
    cross_margin_summary: WireMarginSummary
    cross_maintenance_margin_used: Decimal | None = None
    time: int | None = None

    def position(self, coin: str) -> WirePosition | None:
        for held in self.asset_positions:
            if held.position.coin == coin and held.position.szi != 0:
                return held.position
        return None

    def szi(self, coin: str) -> Decimal:
        held = self.position(coin)
        return held.szi if held else Decimal(0)


class WireSpotBalance(Wire):
    coin: str
    total: Decimal
    hold: Decimal = Decimal(0)


class WireSpotState(Wire):
    """`spotClearinghouseState`. In a unified account its USDC is the collateral of the perpetuals too."""

    balances: list[WireSpotBalance] = []

    @property
    def usdc(self) -> Decimal:
        return sum((row.total for row in self.balances if row.coin == "USDC"), Decimal(0))


class WireFill(Wire):
    """`fee` > 0 is a cost; `closedPnl` is gross of fees. Unique by (time, coin, tid)."""

    coin: str
    px: Decimal
    sz: Decimal
    side: Literal["A", "B"]
    time: int
    start_position: Decimal
    dir: str = ""
    closed_pnl: Decimal = Decimal(0)
    hash: str = ""
    oid: int = 0
    crossed: bool = True
    fee: Decimal = Decimal(0)
    tid: int | None = None
    fee_token: str = "USDC"
    cloid: str | None = None
    liquidation: dict[str, Any] | None = None

    @property
    def signed_sz(self) -> Decimal:
        return self.sz if self.side == "B" else -self.sz

    def forced_on(self, account: str) -> Forced | None:
        """Return why the venue itself traded for `account`; None where an order of the account did.

        Whoever trades against a liquidation gets the field `liquidation` too; it names the one liquidated.
        """
        if self.liquidation is not None:
            if str(self.liquidation.get("liquidatedUser", "")).lower() != account.lower():
                return None
            return Forced.BACKSTOP if self.liquidation.get("method") == "backstop" else Forced.LIQUIDATION
        if self.dir.startswith("Liquidated"):
            return Forced.LIQUIDATION
        return Forced.AUTO_DELEVERAGING if self.dir == "Auto-Deleveraging" else None

    @property
    def fill_id(self) -> str:
        if self.tid is not None:
            return f"{self.time}:{self.coin}:{self.tid}"
        return f"{self.time}:{self.coin}:{self.oid}:{self.start_position}:{self.px}:{self.sz}"


class WireFundingDelta(Wire):
    """`usdc` > 0 was received; `fundingRate` is hourly today."""

    type: str = "funding"
    coin: str
    usdc: Decimal
    szi: Decimal
    funding_rate: Decimal
    n_samples: int | None = None


class WireUserFunding(Wire):
    time: int
    hash: str = ""
    delta: WireFundingDelta


class WireLedgerUpdate(Wire):
    """`userNonFundingLedgerUpdates`: deposits, withdrawals, transfers; `delta` differs by its `type`."""

    time: int
    hash: str
    delta: dict[str, Any]


class WireOrder(Wire):
    coin: str
    side: Literal["A", "B"]
    limit_px: Decimal
    sz: Decimal
    oid: int
    orig_sz: Decimal
    timestamp: int
    tif: str | None = None
    reduce_only: bool | None = None
    cloid: str | None = None


class WireOrderRecord(Wire):
    order: WireOrder
    status: str
    status_timestamp: int

    @property
    def is_final(self) -> bool:
        """Every status except an order that rests or waits for its trigger."""
        return self.status not in ("open", "triggered")


class WireOrderStatus(Wire):
    """`orderStatus`: `order` is absent when the venue does not know the id (any more)."""

    status: str
    order: WireOrderRecord | None = None


class WireAgent(Wire):
    name: str = ""
    address: str
    valid_until: int | None = None


# --- answers of /exchange ---------------------------------------------------------------------------------


class OrderFilled(Wire):
    """Also the answer to an IOC that filled in part: compare `total_sz` with what was asked for."""

    total_sz: Decimal
    avg_px: Decimal
    oid: int
    cloid: str | None = None


class OrderResting(Wire):
    oid: int
    cloid: str | None = None


class OrderRefused(Wire):
    error: str


class OrderWaiting(Wire):
    """A child order that waits: the venue answers a bare string."""

    kind: str


OrderAnswer = OrderFilled | OrderResting | OrderRefused | OrderWaiting


def order_answers(answer: dict[str, Any]) -> list[OrderAnswer]:
    """Return one answer per order of an `ok` body of type "order"; ValueError when the body has another shape."""
    try:
        statuses = answer["response"]["data"]["statuses"]
    except (KeyError, TypeError) as error:
        raise ValueError("the answer holds no order statuses") from error
    return [_order_answer(status) for status in statuses]


def _order_answer(status: Any) -> OrderAnswer:
    if isinstance(status, str):
        return OrderWaiting(kind=status)
    if "filled" in status:
        return OrderFilled.model_validate(status["filled"])
    if "resting" in status:
        return OrderResting.model_validate(status["resting"])
    if "error" in status:
        return OrderRefused(error=str(status["error"]))
    raise ValueError(f"unknown order status with keys {sorted(status)}")
