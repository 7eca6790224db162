"""What clients send: request bodies, strictly typed, and the refusals they get back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from solders.pubkey import Pubkey

from twins.asgard.venue import LIVE_PROTOCOLS, PROTOCOLS, Protocol

B = TypeVar("B", bound="Body")


class ApiError(Exception):
    """An answer other than success: HTTP status and the vendor's error object."""

    def __init__(
        self, status: int, name: str, message: str, details: Any = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"name": name, "code": code or name, "message": message, "details": details or {}}


def refuse(name: str, message: str, **details: Any) -> ApiError:
    """Return a logical refusal, HTTP 422."""
    return ApiError(422, name, message, details)


class Body(BaseModel):
    """Unknown keys are ignored, numbers must be numbers."""

    model_config = ConfigDict(strict=True, extra="ignore")


class WalletBody(Body):
    walletPubkey: str

    @field_validator("walletPubkey")
    @classmethod
    def _is_pubkey(cls, value: str) -> str:
        Pubkey.from_string(value)
        return value

    @property
    def wallet(self) -> Pubkey:
        return Pubkey.from_string(self.walletPubkey)


class BuildBody(WalletBody):
    protocol: int
    jitoTipLamport: int = Field(ge=0)


class RoutedBody(BuildBody):
    slippageBps: int = Field(ge=1, le=10_000)
    useDirectRoute: bool
    swapPlatform: str = "jupiter"


class TradeBody(RoutedBody):
    tokenABank: str
    tokenBBank: str
    direction: int
    collateralType: int
    collateralAmountNative: int = Field(gt=0, lt=2**63)
    collateralMint: str
    collateralUnitPrice: float = Field(gt=0)
    leverage: float = Field(ge=1)

    @property
    def target(self) -> Decimal:
        return Decimal(repr(self.leverage))


class CloseBody(RoutedBody):
    positionPDA: str
    collateralType: int


class ModifyBody(RoutedBody):
    positionPDA: str


class PartialCloseBody(ModifyBody):
    closePercentage: int = Field(ge=1, le=99)


class LeverageBody(ModifyBody):
    targetLeverage: float = Field(ge=1)

    @property
    def target(self) -> Decimal:
        return Decimal(repr(self.targetLeverage))


class AddCollateralBody(ModifyBody):
    collateralAmountNative: int = Field(gt=0, lt=2**63)
    collateralType: int
    collateralMint: str


class RepayBody(BuildBody):
    positionPDA: str
    repayAmountNative: int = Field(gt=0, lt=2**63)


class RefreshItem(Body):
    protocol: int
    positionPDA: str


class RefreshBody(Body):
    positionPDAs: list[RefreshItem] = Field(max_length=100)


class UpdateSubmitBody(WalletBody):
    protocol: int
    positionPDA: str
    positionId: int | str
    tokenATokenMint: str
    tokenBTokenMint: str
    signedTxs: list[str]
    updateRecordData: dict[str, Any]


def parse(model: type[B], body: Any) -> B:
    """Return the body as this model; ApiError 422 names the first field that is wrong."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise refuse("ValidationError", f"{field}: {first['msg']}", field=field) from error


def live_protocol(number: int) -> Protocol:
    """Return a protocol one can trade at; ApiError 422 for Drift and unknown numbers."""
    protocol = PROTOCOLS.get(number)
    if protocol not in LIVE_PROTOCOLS or protocol is None:
        raise refuse("ProtocolNotSupported", f"lending protocol {number} is not active", protocol=number)
    return protocol
