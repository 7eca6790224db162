"""Settings of hedging that are unknown, missing or contradict each other are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evenkeel.settings.hedging import Hedging

ONE, TWO = "0x" + "1" * 40, "0x" + "2" * 40
COIN = {"token": ONE, "most_shares": "10"}
CHAIN = {"cutoff": "safe", "orderbook": "0x" + "3" * 40, "owner": "0x" + "4" * 40}
WHOLE: dict[str, Any] = {"enabled": True, "chain": CHAIN, "symbols": {"COIN": COIN}}


def test_what_is_whole_is_taken() -> None:
    found = Hedging.model_validate(WHOLE)
    assert found.symbols["COIN"].token == ONE


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"chain": {**CHAIN, "cutoff": ""}}, "chain.cutoff is empty"),
        ({"chain": {**CHAIN, "cutoff": "latest"}}, "write latest-N"),
        ({"chain": {**CHAIN, "cutoff": "latest-0"}}, "write latest-N"),
        ({"chain": {**CHAIN, "owner": ""}}, "chain.owner is empty"),
        ({"chain": {**CHAIN, "orderbook": "0x" + "0" * 40}}, "the zero address"),
        ({"chain": {**CHAIN, "confirmations": 3}}, "confirmations"),
        ({"symbols": {}}, "symbols is empty"),
        ({"symbols": {"COIN": COIN, "NVDA": {**COIN, "token": ONE.upper().replace("X", "x")}}},
         "symbols.NVDA and symbols.COIN have one address"),
        ({"symbols": {"COIN": {**COIN, "token": CHAIN["orderbook"]}}}, "symbols.COIN and chain.orderbook"),
        ({"symbols": {"COIN": {**COIN, "token": "0x12"}}}, "symbols.COIN.token"),
        ({"symbols": {"COIN": {**COIN, "threshold_shares": 1, "threshold_usd": 2}}}, "contradict"),
        ({"symbols": {"COIN": {"token": ONE}}}, "symbols.COIN.most_shares"),
        ({"symbols": {"coin": COIN}}, "symbols.coin is no symbol"),
        ({"symbols": {"A": COIN, "B": {"token": TWO, "most_shares": 1, "broker_symbol": "A"}}}, "two symbols are A"),
        ({"broker": "alpaca-broker"}, "alpaca.account_id is empty"),
        ({"broker": "alpaca", "alpaca": {"account_id": "x"}}, "remove one"),
        ({"broker": "alpaca", "alpaca": {"token_url": "https://authx.alpaca.markets/v1/oauth2/token"}}, "token_url"),
        ({"broker": "schwab"}, "schwab.account is empty"),
        ({"chain": {**CHAIN, "ws_url": "https://node"}}, "must be a ws:// or wss:// URL"),
        ({"broker": "robinhood"}, "broker"),
    ],
)  # fmt: skip
def test_what_is_not_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Hedging.model_validate({**WHOLE, **changes})
