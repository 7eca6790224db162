"""The wire as it is: answers of `/info` and `/exchange`, tolerant of fields we do not know, numbers kept exact.

A field without a default is needed for its row to mean anything; one that no decision needs has a default, and spoils only
itself (`venues.reading`). Enumerations are open: a word is a `str`, judged where it matters.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from evenkeel.errors import NotUnderstood
from evenkeel.types import Forced
from venues.reading import Moment, Number, Whole

FEE_TOKEN = "USDC"


def amount_of(value: Any) -> Decimal | None:
    """Return a figure of a record whose fields differ by its kind; None where there is none that can be read."""
    try:
        return _AMOUNT.validate_python(value)
    except ValidationError:
        return None


_AMOUNT: TypeAdapter[Decimal] = TypeAdapter(Number)


class Wire(BaseModel):
    """Camel case outside, snake case inside; unknown keys are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, defer_build=True
    )


# --- market -----------------------------------------------------------------------------------------------


class WireAsset(Wire):
    name: str
    sz_decimals: Whole
    max_leverage: Whole | None = None
    is_delisted: bool | None = None
    only_isolated: bool | None = None


class WireMeta(Wire):
    """`meta`. The position in `universe` is the asset index; delisted assets keep theirs, and so do those that cannot be
    read.
    """

    universe: list[WireAsset | None]


class WireAssetCtx(Wire):
    """`funding` is the hourly rate accruing in this hour; `premium` the present sample of the 8 h-formula
    input."""

    funding: Number | None = None
    premium: Number | None = None
    oracle_px: Number
    mark_px: Number
    mid_px: Number | None = None


class WireLevel(Wire):
    px: Number
    sz: Number
    n: Whole | None = None


class WireBook(Wire):
    """`l2Book`: `levels` are bids from the best down, then asks from the best up."""

    coin: str
    levels: list[list[WireLevel]]
    time: Moment = 0


class WireCandle(Wire):
    """`candleSnapshot`: opened at `t`, closed at `T`."""

    open_ms: Moment = Field(alias="t")
    close_ms: Moment = Field(alias="T")
    open_px: Number = Field(alias="o")
    close_px: Number = Field(alias="c")
    high_px: Number | None = Field(alias="h", default=None)
    low_px: Number | None = Field(alias="l", default=None)


class WireFundingRate(Wire):
    """`fundingHistory`: the rate settled at `time`, per hour; `premium` is that hour's average."""

    coin: str
    funding_rate: Number
    premium: Number | None = None
    time: Moment


# --- account ----------------------------------------------------------------------------------------------


class WireLeverage(Wire):
    type: str
    value: Whole | None = None
    raw_usd: Number | None = None


class WireCumFunding(Wire):
    """Sign as the venue has it here: positive was *paid*, the opposite of `userFunding.usdc`."""

    all_time: Number | None = None
    since_open: Number | None = None
    since_change: Number | None = None


class WirePosition(Wire):
    coin: str
    szi: Number
    entry_px: Number | None = None
    position_value: Number | None = None
    unrealized_pnl: Number | None = None
    liquidation_px: Number | None = None
    margin_used: Number | None = None
    leverage: WireLeverage | None = None
    max_leverage: Whole | None = None
    return_on_equity: Number | None = None
    cum_funding: WireCumFunding | None = None

    @property
    def mode(self) -> str | None:
        """The venue's word for how the position's margin is kept."""
        return self.leverage.type if self.leverage else None

    @property
    def mark_px(self) -> Decimal | None:
        """`positionValue = |szi| * mark`, so this is the mark that the rest of the row was computed with; None where it
        cannot be read.
        """
        return self.position_value / abs(self.szi) if self.position_value and self.szi else None


class WireAssetPosition(Wire):
    type: str = "oneWay"
    position: WirePosition


class WireMarginSummary(Wire):
    account_value: Number
    total_ntl_pos: Number | None = None
    total_raw_usd: Number | None = None
    total_margin_used: Number | None = None


class WireClearinghouseState(Wire):
    """`clearinghouseState`. `time` is the venue's clock; recordings of 2023 lack it."""

    asset_positions: list[WireAssetPosition]
    margin_summary: WireMarginSummary | None = None
    cross_margin_summary: WireMarginSummary | None = None
    cross_maintenance_margin_used: Number | None = None
    time: Moment | None = None
    lost: tuple[str, ...] = ()
    """Coins of positions that could not be read; "" for one whose coin cannot be read either. Not on the wire."""

    def position(self, coin: str) -> WirePosition | None:
        """Return the position in this coin; None where there is none. Raises NotUnderstood where one that may be it cannot
        be read, or two contradict each other.
        """
        rows = [held.position for held in self.asset_positions if held.position.coin == coin]
        if len({row.szi for row in rows}) > 1:
            sizes = " and ".join(f"{row.szi:f}" for row in rows)
            raise NotUnderstood("hyperliquid", f"clearinghouseState has two positions in {coin}: {sizes}")
        if not rows and (coin in self.lost or "" in self.lost):
            raise NotUnderstood(
                "hyperliquid", f"clearinghouseState: the row of {coin}, or one that may be it"
            )
        return next((row for row in rows if row.szi != 0), None)

    def szi(self, coin: str) -> Decimal:
        """Return the signed size in this coin. Raises as `position` does."""
        held = self.position(coin)
        return held.szi if held else Decimal(0)


class WireSpotBalance(Wire):
    coin: str
    total: Number
    hold: Number = Decimal(0)


class WireSpotState(Wire):
    """`spotClearinghouseState`. In a unified account its USDC is the collateral of the perpetuals too."""

    balances: list[WireSpotBalance] = []
    lost: tuple[str, ...] = ()
    """Tokens whose row could not be read; "" for one without a name. Not on the wire."""

    @property
    def usdc(self) -> Decimal:
        """The USDC. Raises NotUnderstood where a row that may be its cannot be read."""
        if "USDC" in self.lost or "" in self.lost:
            raise NotUnderstood(
                "hyperliquid", "spotClearinghouseState: the row of USDC, or one that may be it"
            )
        totals = {row.total for row in self.balances if row.coin == "USDC"}
        if len(totals) > 1:
            raise NotUnderstood("hyperliquid", "spotClearinghouseState has two rows of USDC that differ")
        return next(iter(totals), Decimal(0))


class WireFill(Wire):
    """`fee` > 0 is a cost; `closedPnl` is gross of fees. Unique by (time, coin, tid)."""

    coin: str
    px: Number
    sz: Number
    side: Literal["A", "B"]
    time: Moment
    start_position: Number
    dir: str = ""
    closed_pnl: Number = Decimal(0)
    hash: str = ""
    oid: Whole = 0
    crossed: bool = True
    fee: Number | None = None
    tid: Whole | None = None
    fee_token: str = "USDC"
    cloid: str | None = None
    builder_fee: Number | None = None
    """Which part of `fee` goes to the builder of the page that the order came from."""
    liquidation: dict[str, Any] | None = None

    @property
    def fee_is_known(self) -> bool:
        """Whether the fee is in the money that we count in. One that is missing is not known, and that has been said."""
        return not self.fee or self.fee_token == FEE_TOKEN

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
        return self.instead_id if self.tid is None else f"{self.time}:{self.coin}:{self.tid}"

    @property
    def instead_id(self) -> str:
        """What sets it apart from every other fill where its number is not known."""
        return f"{self.time}:{self.coin}:{self.oid}:{self.start_position}:{self.px}:{self.sz}"


class WireFundingDelta(Wire):
    """`usdc` > 0 was received; `fundingRate` is hourly today."""

    type: str = "funding"
    coin: str
    usdc: Number
    szi: Number
    funding_rate: Number
    n_samples: Whole | None = None


class WireUserFunding(Wire):
    time: Moment
    hash: str = ""
    delta: WireFundingDelta


class WireLedgerUpdate(Wire):
    """`userNonFundingLedgerUpdates`: deposits, withdrawals, transfers; `delta` differs by its `type`."""

    time: Moment
    hash: str = ""
    delta: dict[str, Any]

    @property
    def usdc(self) -> Decimal | None:
        """The amount, where the record has one that can be read. Whether it came or went depends on the kind."""
        return amount_of(self.delta.get("usdc"))


class WireOrder(Wire):
    oid: Whole
    coin: str = ""
    side: str = ""
    limit_px: Number | None = None
    sz: Number | None = None
    orig_sz: Number | None = None
    timestamp: Moment | None = None
    tif: str | None = None
    reduce_only: bool | None = None
    cloid: str | None = None
    is_trigger: bool | None = None
    trigger_px: Number | None = None
    order_type: str = ""


class WireOrderRecord(Wire):
    order: WireOrder
    status: str
    status_timestamp: Moment

    @property
    def is_alive(self) -> bool:
        """The order rests, or waits for its trigger."""
        return self.status in ("open", "triggered")

    @property
    def is_final(self) -> bool:
        """The order is filled, or ended in one of the venue's many ways, all of which name cancelling or rejecting. A word
        that does neither says nothing yet.
        """
        word = self.status.lower()
        return word == "filled" or "cancel" in word or "reject" in word


class WireOrderStatus(Wire):
    """`orderStatus`: `order` is absent when the venue does not know the id (any more)."""

    status: str
    order: WireOrderRecord | None = None


class WireAgent(Wire):
    name: str = ""
    address: str
    valid_until: Moment | None = None


# --- answers of /exchange ---------------------------------------------------------------------------------


class OrderFilled(Wire):
    """Also the answer to an IOC that filled in part: compare `total_sz` with what was asked for.

    Recorded answers give `oid` as a number and, of some, as text.
    """

    total_sz: Number
    avg_px: Number
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
