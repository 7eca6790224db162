"""What a row of the Broker's says of a move: nothing, or more than was asked for, is not counted."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from evenkeel.types import Confirmed, IntentSpec, Signed, Working
from tests.databases import ManualClock
from venues.alpaca.client import Access, AlpacaClient
from venues.alpaca.moves import JOURNAL, MINT, NAME, AlpacaMoves, Bounds, JournalOrder, MintOrder
from venues.alpaca.transfers import AlpacaTransfers
from venues.ratebudget import RateBudget

WALLET, MARK = "0x" + "1" * 40, "ek-mark"
MINTED = MintOrder(symbol="AAPL", qty=Decimal(5), wallet=WALLET, network="base", issuer="one")
JOURNALED = JournalOrder(what="AAPL", amount=Decimal(5), way="out")


def moves_of(answer: Any) -> AlpacaMoves:
    """The moves of an account whose broker answers everything by this body."""
    clock = ManualClock()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=json.dumps(answer)))
    access, budget = Access("CK", "secret", "account"), RateBudget(clock, per_minute=10**9)
    client = AlpacaClient("http://broker", "http://data", access, clock, budget=budget, transport=transport)
    transfers = AlpacaTransfers(client)
    return AlpacaMoves(transfers, transfers, Bounds(most={"AAPL": Decimal(100)}, wallet=WALLET))


async def found(order: MintOrder | JournalOrder, answer: Any) -> object:
    kind = MINT if isinstance(order, MintOrder) else JOURNAL
    fields = order.model_dump(mode="json")
    intent = IntentSpec(
        intent_id="m", business="hedging", subject="r", venue=NAME, kind=kind, step=0, order=fields
    )
    key = {"mark": MARK, "at_ms": 0, "until_ms": 0}
    return await moves_of(answer).find(intent, Signed(key=key, wire=None))


@pytest.mark.parametrize(
    ("qty", "moved"), [("5", "5"), ("4.5", "4.5"), ("0", None), ("5.000000001", None), ("1000000", None)]
)
async def test_what_was_asked_for_is_the_most_that_counts(qty: str, moved: str | None) -> None:
    token = {"tokenization_request_id": "t", "status": "completed", "qty": qty, "client_request_id": MARK}
    journal = {"id": "j", "status": "executed", "symbol": "AAPL", "qty": f"-{qty}", "description": MARK}
    for outcome in (await found(MINTED, token), await found(JOURNALED, [journal])):
        if moved is None:
            assert isinstance(outcome, Working) and "was asked for" in outcome.reason and not outcome.so_far
        else:
            assert isinstance(outcome, Confirmed) and outcome.value.done_qty == Decimal(moved)
