"""Every field of every answer of the chain that a window is read from, changed in every way: no fill is made up by it.

A window has the fills that it had before, less what the change spoilt, or the reading raises one of the three errors of a
reading. Nothing else is raised.
"""

from __future__ import annotations

from typing import Any

import pytest

from evenkeel.errors import UNREAD
from tests.fuzz.mutations import mutations_of
from tests.raindex_rig import RaindexRig, raindex_rig
from twins.raindex.twin import VENUE
from venues.raindex.types import ChainFill


def prepared(rig: RaindexRig) -> None:
    """Three fills of one transaction, one of them of a wrapped token."""
    rig.wrapped = {"COIN"}
    rig.twin.control("token", {"symbol": "COIN", "ratio": "1.5", "block": 1})
    rig.market.trade(
        [
            {"symbol": "COIN", "side": "sell", "tokens": "2", "price": "100"},
            {"symbol": "NVDA", "side": "buy", "tokens": "3", "price": "7", "kind": "clear"},
            {"symbol": "NVDA", "side": "sell", "tokens": "1", "price": "8", "owner": "other"},
        ]
    )
    rig.pass_blocks(4)


def bodies(rig: RaindexRig) -> dict[str, Any]:
    """What the node answers to each call."""
    number, token = hex(rig.start + 1), rig.address("COIN")
    asked: dict[str, list[Any]] = {
        "eth_getBlockByNumber": [number, False],
        "eth_getLogs": [{"fromBlock": number, "toBlock": number, "address": rig.market.book.address}],
        "eth_call": [{"to": token, "data": "0x07a2d13a" + f"{10**18:064x}"}, "latest"],
    }
    return {
        method: rig.twin._one({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        for method, params in asked.items()
    }


def said(one: ChainFill) -> tuple[str, str, str, str]:
    return one.symbol, one.side, str(one.shares), str(one.usdc)


@pytest.mark.parametrize("near", [0, 16])
async def test_a_changed_answer_makes_up_no_fill_and_raises_nothing_but_the_errors_of_a_reading(
    near: int,
) -> None:
    async with raindex_rig() as rig:
        prepared(rig)
        true = [said(one) for one in (await rig.read(rig.reader(near=near))).fills]
        assert true == [("COIN", "sell", "3.0", "200"), ("NVDA", "buy", "3", "21")]
        unread = whole = 0
        for call, body in bodies(rig).items():
            # Half of them by range, the other half by hash: both read the same fields.
            for mutation in list(mutations_of(VENUE, call, body, ["COIN"]))[near % 3 :: 2]:
                rig.running.faults.clear()
                rig.plan("field", call, times=-1, path=list(mutation.path), **mutation.change)
                try:
                    found = await rig.reader(near=near).window(rig.start + 1, 1)
                except UNREAD:
                    unread += 1
                    continue
                fills = [] if found is None else [said(one) for one in found.fills]
                assert set(fills) <= set(true), mutation.name
                whole += fills == true
        assert unread > 10 and whole > 5
