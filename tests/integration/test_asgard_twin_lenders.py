"""Lenders with finite reserves, paused ones, closes that leave something or do nothing, and markets that leave the list."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.integration.asgard_twin_bench import KAMINO, MARGINFI, SOLEND, WSOL, Bench, bench
from twins.solana.errors import RpcError

WORDS = {
    MARGINFI: "Error Number: 6026. Error Message: Invalid bank utilization ratio",
    KAMINO: "Error Number: 6008. Error Message: Insufficient liquidity available",
    SOLEND: "Error: Insufficient liquidity available",
}
PAUSED = {MARGINFI: "Bank paused", KAMINO: "Emergency mode is enabled", SOLEND: "needs to be refreshed"}


def close_body(b: Bench, pda: str, protocol: int) -> dict[str, Any]:
    return b.modify(pda, protocol, collateralType=1)


@pytest.mark.parametrize("protocol", [MARGINFI, KAMINO, SOLEND])
async def test_an_empty_reserve_refuses_a_close_in_the_lenders_words(protocol: int) -> None:
    async with bench() as b:
        pda = (await b.open(protocol=protocol))["positionPda"]
        body = close_body(b, pda, protocol)
        built = await b.post("/close-position", body)
        b.twin.control("set_liquidity", {"protocol": protocol, "symbol": "SOL", "amount": "2"})
        error = await b.refused("/close-position", body)
        assert error["name"] == "TransactionWouldFail" and WORDS[protocol] in error["message"]
        # A build from before fails on chain for the same reason, and the position stays.
        with pytest.raises(RpcError, match="custom program error") as refused:
            b.broadcast(b.sign(built))
        assert any(WORDS[protocol] in line for line in refused.value.data["logs"])
        assert b.truth(pda)["live"]
        b.twin.control("set_liquidity", {"protocol": protocol, "symbol": "SOL", "amount": "20"})
        await b.close(pda, protocol)
        assert not b.truth(pda)["live"]


async def test_a_partial_close_takes_what_is_there() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        tokens, _, _ = await b.amounts(pda)
        b.twin.control(
            "set_liquidity", {"protocol": KAMINO, "symbol": "SOL", "amount": str(tokens * Decimal("0.45"))}
        )
        half = b.modify(pda, closePercentage=50)
        assert WORDS[KAMINO] in (await b.refused("/position/partial-close", half))["message"]
        build = await b.post("/position/partial-close", half | {"closePercentage": 40})
        b.broadcast(b.sign(build))
        left, _, _ = await b.amounts(pda)
        assert left == pytest.approx(tokens * Decimal("0.6"), rel=Decimal("1e-6"))
        # What was taken out is gone from the reserve as well.
        again = build | {"closePercentage": 40}
        assert WORDS[KAMINO] in (await b.refused("/position/partial-close", again))["message"]


async def test_a_builder_may_make_what_the_lender_refuses() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        b.twin.control("set_liquidity", {"protocol": KAMINO, "symbol": "SOL", "amount": "0"})
        b.twin.control("builds", {"unchecked": True})
        build = await b.post("/close-position", close_body(b, pda, KAMINO))
        with pytest.raises(RpcError, match="0x1778"):
            b.broadcast(b.sign(build))


@pytest.mark.parametrize("protocol", [MARGINFI, KAMINO, SOLEND])
async def test_a_paused_lender_refuses_what_is_paused(protocol: int) -> None:
    async with bench() as b:
        pda = (await b.open(protocol=protocol))["positionPda"]
        b.twin.control("pause", {"protocol": protocol, "operations": ["borrow", "deposit"]})
        error = await b.refused("/create-position", await b.trade(protocol))
        assert PAUSED[protocol] in error["message"]
        built = await b.post("/close-position", close_body(b, pda, protocol))
        b.twin.control("pause", {"protocol": protocol})
        assert (
            PAUSED[protocol] in (await b.refused("/close-position", close_body(b, pda, protocol)))["message"]
        )
        with pytest.raises(RpcError):
            b.broadcast(b.sign(built))
        b.twin.control("pause", {"protocol": protocol, "on": False})
        await b.close(pda, protocol)
        with pytest.raises(ValueError, match="operations are"):
            b.twin.control("pause", {"protocol": protocol, "operations": ["breathe"]})


@pytest.mark.parametrize("protocol", [MARGINFI, KAMINO, SOLEND])
async def test_a_close_may_leave_collateral_in_the_lender(protocol: int) -> None:
    async with bench() as b:
        pda = (await b.open(protocol=protocol))["positionPda"]
        tokens, _, _ = await b.amounts(pda, protocol)
        b.fault("leftover", "POST /close-position", fraction="0.2")
        record = await b.close(pda, protocol)
        assert record["state"] == 1, "the service calls it closed"
        left, debt, _ = await b.amounts(pda, protocol)
        assert debt == 0 and left == pytest.approx(tokens / 5, rel=Decimal("1e-6"))
        assert b.truth(pda)["live"]
        await b.close(pda, protocol)
        assert not b.truth(pda)["live"]


async def test_a_close_may_leave_collateral_in_the_wallet() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        tokens, _, _ = await b.amounts(pda)
        b.fault("leftover", "POST /close-position", fraction="0.2", where="wallet")
        await b.close(pda)
        assert not b.truth(pda)["live"]
        held = Decimal(b.chain.token_balance(b.wallet.pubkey(), WSOL)).scaleb(-9)
        assert held == pytest.approx(tokens / 5, rel=Decimal("1e-6"))


async def test_a_close_may_land_and_do_nothing() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        before = await b.amounts(pda)
        b.fault("hollow", "POST /close-position")
        record = await b.close(pda)
        assert record["state"] == 1
        landed = b.chain.ledger.by_signature
        assert str(next(reversed(landed))) == record["txHash"] and landed[next(reversed(landed))].err is None
        assert (await b.amounts(pda))[0] == pytest.approx(before[0], rel=Decimal("1e-6"))
        assert (await b.post("/positions/by-pda?pda=" + pda))["state"] == 0
        await b.close(pda)
        assert not b.truth(pda)["live"]


async def test_a_market_leaves_the_list_and_what_is_open_there_can_be_closed() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        trade = await b.trade()
        b.twin.control("set_listed", {"symbol": "SOL", "protocol": KAMINO, "on": False})
        sources = (await b.get("/markets"))["strategies"]["SOL/USDC"]["liquiditySources"]
        assert [one["lendingProtocol"] for one in sources] == [MARGINFI, SOLEND, 3]
        assert (await b.refused("/create-position", trade))["name"] == "MarketNotFound"
        b.twin.control("set_listed", {"symbol": "SOL", "on": False})
        answer = await b.get("/markets")
        assert "SOL/USDC" not in answer["strategies"] and answer["totalStrategies"] == 3
        assert "SOL" not in {row["symbol"] for row in (await b.get("/token-metadata"))["tokens"]}
        assert (await b.amounts(pda))[0] > 0
        await b.close(pda)
        assert not b.truth(pda)["live"]
        for protocol in (None, KAMINO):
            b.twin.control("set_listed", {"symbol": "SOL", "protocol": protocol, "on": True})
        assert len((await b.get("/markets"))["strategies"]["SOL/USDC"]["liquiditySources"]) == 4
