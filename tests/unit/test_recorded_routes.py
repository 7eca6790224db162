"""Routes of other people's transactions, as public repositories keep them: each is read whole, and judged by a named rule."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from solders.instruction import AccountMeta, Instruction

from tests.unit.test_validator_rules import OWN_USDC, OWN_WSOL, WALLET, expectation, rule_of
from venues.solana.routes.calls import JUPITER_FORMS, read_call
from venues.solana.routes.table import dated_table
from venues.solana.rules.common import JUPITER, TOKEN, USDC_MINT, WSOL_MINT, Operation
from venues.solana.rules.validator import NOT_UNDERSTOOD

FILE = Path(__file__).parents[1] / "recorded" / "jupiter_routes.json"
ROUTES: list[dict[str, Any]] = json.loads(FILE.read_text())["routes"]


def test_there_are_more_than_twenty_of_four_instructions() -> None:
    assert len(ROUTES) > 20 and len({one["form"] for one in ROUTES}) == 4
    assert all(one["source"] for one in ROUTES)


@pytest.mark.parametrize("row", ROUTES, ids=[f"{one['form']}-{'-'.join(one['steps'])}" for one in ROUTES])
def test_a_recorded_route_is_read_whole_and_gets_a_verdict(row: dict[str, Any]) -> None:
    data = base64.b64decode(row["data"])
    form = JUPITER_FORMS[data[:8]]
    call = read_call(form, data, dated_table())
    assert (form.name, list(call.names), call.not_understood) == (row["form"], row["steps"], None)
    amounts = call.amounts
    assert amounts.amount_in and amounts.quoted_out and amounts.slippage_bps <= 450 and amounts.fee_bps <= 85
    slots = form.slots
    keys = [JUPITER] * 14
    for slot, key in (
        (slots.authority, WALLET),
        (slots.source, OWN_WSOL),
        (slots.destination, OWN_USDC),
        (slots.source_mint, WSOL_MINT),
        (slots.mint, USDC_MINT),
        *((one, TOKEN) for one in slots.token_programs),
    ):
        if slot is not None:
            keys[slot] = key
    route = Instruction(JUPITER, data, [AccountMeta(one, one == WALLET, False) for one in keys])
    verdicts = {op: rule_of(route, wanted=expectation(op, slippage_bps=500)) for op in Operation}
    assert NOT_UNDERSTOOD not in verdicts.values() and "approved" not in verdicts.values(), verdicts
    assert verdicts[Operation.CLOSE] in ("contents", "router-fee", "sale"), verdicts
