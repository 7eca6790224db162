"""Dollars into USDC and back: market orders of the pair, known by a client order id like every other."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from venues.alpaca.client import AlpacaClient
from venues.alpaca.transfers import USDC_DECIMALS, USDC_PAIR
from venues.alpaca.venue import AlpacaVenue, capabilities
from venues.broker_rules import OrderRules

NAME = "alpaca-conversions"


class Conversions(AlpacaVenue):
    """Orders of `USDCUSD` alone, which are open until they are filled or cancelled; quantities in USDC."""

    terms: Mapping[str, Any] = {"type": "market", "time_in_force": "gtc"}

    def __init__(self, client: AlpacaClient, most_usdc: Decimal) -> None:
        can = capabilities(is_broker=True).model_copy(update={"decimals": USDC_DECIMALS})
        super().__init__(client, OrderRules({USDC_PAIR: most_usdc}, can))
        self.name = NAME
