"""What a person may choose for an entry, as fields of a form: assets and protocols by name, leverage and size as numbers.

Prefect shows them from their JSON schema and refuses what does not fit it; a program may also give text, and the number
that a protocol has on the wire.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from strategy.carry.limits import HIGHEST_LEVERAGE, PROTOCOL_NAMES

LOWEST_LEVERAGE = 2
"""At 1 nothing is borrowed, and Asgard opens margin positions only."""


class LongAsset(StrEnum):
    """SOL, or a token of staked SOL."""

    SOL = "SOL"
    JITOSOL = "jitoSOL"
    JUPSOL = "jupSOL"
    INF = "INF"


class LendingProtocol(StrEnum):
    """Who lends to the long leg."""

    KAMINO = "kamino"
    MARGINFI = "marginfi"
    SOLEND = "solend"
    DRIFT = "drift"

    @property
    def number(self) -> int:
        """Of this protocol on Asgard's wire."""
        return _NUMBERS[self.value]


_NUMBERS = {name.lower(): number for number, name in PROTOCOL_NAMES.items()}


def _asset(value: Any) -> Any:
    if value not in list(LongAsset):
        raise ValueError(f"asset {value!r} is unknown; allowed are {', '.join(LongAsset)}")
    return value


def _protocol(value: Any) -> Any:
    """A name in any case, or a number."""
    text = str(value).lower()
    name = next((known for known, number in _NUMBERS.items() if text == str(number)), text)
    if name not in _NUMBERS:
        raise ValueError(f"protocol {value} is unknown; allowed are {', '.join(LendingProtocol)}")
    return name


def _whole(value: Any) -> int:
    try:
        number = Decimal(str(value))
        if number == number.to_integral_value():
            return int(number)
    except (InvalidOperation, OverflowError, ValueError):
        pass
    raise ValueError(f"leverage {value} is not a whole number: Hyperliquid takes integers only")


AssetField = Annotated[LongAsset, BeforeValidator(_asset)]
ProtocolField = Annotated[LendingProtocol, BeforeValidator(_protocol)]
LeverageField = Annotated[
    int,
    BeforeValidator(_whole),
    WithJsonSchema({"type": "integer", "minimum": LOWEST_LEVERAGE, "maximum": HIGHEST_LEVERAGE}),
]
"""What lies outside the bounds is refused by the form, and for a program by the limits of the settings."""
