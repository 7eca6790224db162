"""Orders that wait for a price, as programs and commands ask for them: placed once, shown, cancelled once, refused plainly."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.accounts import actions
from evenkeel.errors import OperatorError, VenueRefused
from tests.accounts_rig import SOL
from tests.evm_rig import MILLION
from tests.service_rig import service_rig

LIMIT: dict[str, Any] = {
    "market": "SOL-USD",
    "side": "long",
    "collateral": 100,
    "leverage": 3,
    "orderType": "limit",
    "price": 145,
}


async def test_an_order_is_placed_shown_and_cancelled_and_each_is_done_once(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        user = rig.rig.users[0]
        placed = await rig.post("/open-position", LIMIT, "one", rig.of_user)
        assert placed.status_code == 200, placed.text
        shown = placed.json()["result"]
        assert (shown["state"], shown["orderType"], shown["waitsFor"]) == ("PENDING", "limit", 145)
        assert (await rig.post("/open-position", LIMIT, "one", rig.of_user)).json() == placed.json()
        [held] = (await rig.get("/positions", rig.of_user)).json()["positions"]
        assert held["trade"] == shown["trade"] and held["collateral"] == 100
        money = (await rig.get("/balance", rig.of_user)).json()
        assert (money["balance"], money["inTrades"]) == (900, 100)
        none = await rig.post("/close-position", {"market": "SOL"}, token=rig.of_user)
        assert none.json()["message"] == "No open position"
        early = await rig.post("/close-position", {"trade": shown["trade"]}, token=rig.of_user)
        assert early.status_code == 409 and "nothing to close yet" in early.json()["error"]
        name = {"trade": shown["trade"]}
        gone = await rig.post("/cancel-order", name, "two", rig.of_user)
        assert gone.status_code == 200, gone.text
        assert (gone.json()["result"]["state"], gone.json()["result"]["realizedPnl"]) == ("FAILED", -0.1)
        assert (await rig.post("/cancel-order", name, "two", rig.of_user)).json() == gone.json()
        late = await rig.post("/cancel-order", name, token=rig.of_user)
        assert late.status_code == 409 and "no order of it waits" in late.json()["error"]
        assert rig.rig.evm.balance(user) == 999_900_000 and rig.acts() == 2
        assert rig.rig.venue.read("storage", "openLimitOrdersCount", user, SOL) == 0


async def test_what_would_not_wait_or_is_nobodys_is_refused_in_one_line(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        placed = (await rig.post("/open-position", LIMIT, token=rig.of_user)).json()["result"]
        _, other = rig.rig.users[0], rig.rig.users[1].lower()
        before, sent = rig.rows(), rig.signed()
        mine = {name: value for name, value in LIMIT.items() if name != "price"}
        cases = [
            (422, "needs the price", "/open-position", mine),
            (422, "takes none", "/open-position", mine | {"orderType": "market", "price": 145}),
            (422, "orderType", "/open-position", LIMIT | {"orderType": "soon"}),
            (422, "price", "/open-position", LIMIT | {"price": "NaN"}),
            (422, "it would not wait", "/open-position", LIMIT | {"price": 160}),
            (422, "it would not wait", "/open-position", LIMIT | {"orderType": "stop"}),
            (422, "it would not wait", "/open-position", LIMIT | {"side": "short"}),
            (422, "allowed is 50%", "/open-position", LIMIT | {"price": 60}),
            (422, "allowed is 500", "/open-position", LIMIT | {"collateral": 501}),
            (422, "stop lies on the side", "/open-position", LIMIT | {"stopLoss": 146}),
            (403, "alone", "/open-position", LIMIT | {"address": other}),
            (404, "no such trade", "/cancel-order", {"trade": "no"}),
            (422, "trade", "/cancel-order", {}),
        ]
        for status, says, path, body in cases:
            answer = await rig.post(path, body, token=rig.of_user)
            error = answer.json()["error"]
            assert answer.status_code == status and says in error and "\n" not in error, (body, error)
        assert (rig.rows(), rig.signed()) == (before, sent)
        # Of two commands at once, and of one that comes too late, none cancels what somebody else placed in its slot.
        done = await actions.cancel_order(rig.settings, placed["trade"])
        assert (done["state"], done["result_usdc"]) == ("FAILED", "-0.100000")
        with pytest.raises(OperatorError, match="no order of it waits"):
            await actions.cancel_order(rig.settings, placed["trade"])


async def test_commands_place_and_cancel_and_say_what_cannot_be_meant(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        terms = (rig.settings, "d0", "SOL/USD", "long", Decimal(100), Decimal(3), 100)
        placed = await actions.open_trade(*terms, "t1", stop_entry=Decimal(155))
        assert (placed["state"], placed["why"]) == ("PENDING", "it waits for its price")
        again = await actions.open_trade(*terms, "t1", stop_entry=Decimal(155))
        assert again == placed and rig.acts() == 1
        assert rig.rig.evm.balance(rig.rig.users[0]) == 900 * MILLION
        with pytest.raises(OperatorError, match="give one"):
            await actions.open_trade(*terms, "t2", limit=Decimal(145), stop_entry=Decimal(155))
        with pytest.raises(OperatorError, match="there is no deployment 'd7'"):
            await actions.open_trade(rig.settings, "d7", *terms[2:], "t3", limit=Decimal(145))
        for asked in (
            actions.cancel_order,
            lambda settings, name: actions.close_trade(settings, name, Decimal(1), 50),
        ):
            with pytest.raises(OperatorError, match="there is no trade 'no'"):
                await asked(rig.settings, "no")
        with pytest.raises(VenueRefused, match="it would not wait"):
            await actions.open_trade(*terms, "t4", limit=Decimal(160))
        assert [one.name for one in rig.store.accounts.trades()] == ["t1"]
        assert (await actions.cancel_order(rig.settings, "t1"))["state"] == "FAILED"
        assert rig.acts() == 2
