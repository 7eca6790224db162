"""What can be asked of Asgard, as stored in `IntentSpec.order` and distinguished by `op`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from evenkeel.types import Decided, Frozen
from venues.asgard.mints import USDC, token
from venues.solana.tokens import to_base_units

LONG = 0
DEPOSIT_DEBT_TOKEN = 1
"""`collateralType`: the deposit (or what a close pays out) is the token that is owed, USDC for our longs."""


class _Order(Frozen):
    """`slippage_bps` is a request that the builder may ignore; the caps on what we sign are ours. `decided` is kept for the
    books alone.
    """

    build_path: ClassVar[str]
    submit_path: ClassVar[str] = "/submit-position-update-tx"
    update_type: ClassVar[int | None] = None
    is_resize: ClassVar[bool] = True

    asset: str
    protocol: int
    jito_tip_lamports: int = Field(default=0, ge=0)
    decided: Decided | None = None

    def body(self, wallet: str) -> dict[str, Any]:
        return {"protocol": self.protocol, "walletPubkey": wallet, "jitoTipLamport": self.jito_tip_lamports}


class _Routed(_Order):
    slippage_bps: int = Field(default=50, ge=1, le=1000)
    use_direct_route: bool = False

    def body(self, wallet: str) -> dict[str, Any]:
        route = {"slippageBps": self.slippage_bps, "useDirectRoute": self.use_direct_route}
        return super().body(wallet) | route


class OpenLong(_Routed):
    """Deposit USDC, borrow more of it against the asset, and hold `leverage` times the deposit in the
    asset.
    """

    build_path = "/create-position"
    submit_path = "/submit-create-position-tx"
    is_resize = False

    op: Literal["open_long"] = "open_long"
    token_a_bank: str
    token_b_bank: str
    collateral_usdc: Decimal = Field(gt=0)
    collateral_unit_price: Decimal = Field(default=Decimal(1), gt=0)
    leverage: Decimal = Field(gt=1, le=4)

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {
            "tokenABank": self.token_a_bank,
            "tokenBBank": self.token_b_bank,
            "direction": LONG,
            "collateralType": DEPOSIT_DEBT_TOKEN,
            "collateralAmountNative": to_base_units(self.collateral_usdc, USDC.decimals),
            "collateralMint": USDC.mint,
            "collateralUnitPrice": float(self.collateral_unit_price),
            "leverage": float(self.leverage),
        }


class _OfPosition(_Order):
    position_pda: str

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {"positionPDA": self.position_pda}


class _RoutedOfPosition(_Routed):
    """`emergency` and `failed_tries` (earlier ones for the same purpose) are ours alone: what a way out may give away."""

    position_pda: str
    emergency: bool = False
    failed_tries: int = Field(default=0, ge=0)

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {"positionPDA": self.position_pda}


class CloseLong(_RoutedOfPosition):
    """Sell everything, repay the debt, and take the rest out in USDC. A close is always full."""

    build_path = "/close-position"
    submit_path = "/submit-close-position-tx"
    is_resize = False

    op: Literal["close_long"] = "close_long"

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {"collateralType": DEPOSIT_DEBT_TOKEN}


class PartialClose(_RoutedOfPosition):
    """Close `close_percentage` percent of the position at its present leverage."""

    build_path = "/position/partial-close"
    update_type = 4

    op: Literal["partial_close"] = "partial_close"
    close_percentage: int = Field(ge=1, le=99)

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {"closePercentage": self.close_percentage}


class Deleverage(_RoutedOfPosition):
    """Sell part of the asset to repay debt until `target_leverage` (gross assets / equity)."""

    build_path = "/position/deleverage"
    update_type = 1

    op: Literal["deleverage"] = "deleverage"
    target_leverage: Decimal = Field(ge=1, le=4)

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {"targetLeverage": float(self.target_leverage)}


class IncreaseLeverage(_RoutedOfPosition):
    """Borrow more USDC and buy the asset with it until `target_leverage`."""

    build_path = "/position/increase-leverage"
    update_type = 0

    op: Literal["increase_leverage"] = "increase_leverage"
    target_leverage: Decimal = Field(gt=1, le=4)

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {"targetLeverage": float(self.target_leverage)}


class AddCollateral(_RoutedOfPosition):
    """Put more USDC from our wallet into the position."""

    build_path = "/position/add-collateral"
    update_type = 2

    op: Literal["add_collateral"] = "add_collateral"
    collateral_usdc: Decimal = Field(gt=0)

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {
            "collateralAmountNative": to_base_units(self.collateral_usdc, USDC.decimals),
            "collateralType": DEPOSIT_DEBT_TOKEN,
            "collateralMint": USDC.mint,
        }


class RepayDebt(_OfPosition):
    """Repay debt with USDC from our wallet; nothing is swapped."""

    build_path = "/position/repay-debt"
    update_type = 5

    op: Literal["repay_debt"] = "repay_debt"
    repay_usdc: Decimal = Field(gt=0)

    def body(self, wallet: str) -> dict[str, Any]:
        return super().body(wallet) | {"repayAmountNative": to_base_units(self.repay_usdc, USDC.decimals)}


Resize: TypeAlias = PartialClose | Deleverage | IncreaseLeverage | AddCollateral | RepayDebt
AsgardOrder: TypeAlias = OpenLong | CloseLong | Resize
_ADAPTER: TypeAdapter[AsgardOrder] = TypeAdapter(Annotated[AsgardOrder, Field(discriminator="op")])


def parse_order(order: dict[str, Any]) -> AsgardOrder:
    """Return the order of an intent. Raises pydantic's `ValidationError`, or `KeyError` for an asset we do not know."""
    parsed = _ADAPTER.validate_python(order)
    token(parsed.asset)
    return parsed
