"""Health and liquidation on the Asgard twin."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from solders.pubkey import Pubkey

from tests.integration.asgard_twin_bench import KAMINO, MARGINFI, SOLEND, bench
from tests.worlds import START_MS

MINUTE_MS = 60_000


@pytest.mark.parametrize(("protocol", "threshold"), [(MARGINFI, 0.82), (KAMINO, 0.80), (SOLEND, 0.85)])
async def test_health_is_the_percentage_the_market_may_fall(protocol: int, threshold: float) -> None:
    async with bench() as b:
        pda = (await b.open(protocol=protocol))["positionPda"]
        for price in (200.0, 190.0, 180.0):
            b.series.price = price
            tokens, debt, health = await b.amounts(pda, protocol)
            ltv = float(debt) / (float(tokens) * price)
            assert health == pytest.approx(100 * (1 - ltv / threshold), abs=0.001)
            # Falling by exactly that share puts the LTV at the threshold.
            assert float(debt) / (float(tokens) * price * (1 - health / 100)) == pytest.approx(
                threshold, rel=1e-4
            )


async def test_four_times_is_barely_possible_where_it_is_possible() -> None:
    async with bench() as b:
        record = await b.open(protocol=MARGINFI, leverage=4.0)
        assert 0 < (await b.amounts(record["positionPda"], MARGINFI))[2] < 10
        assert (await b.refused("/create-position", await b.trade(KAMINO, leverage=4.0)))[
            "name"
        ] == "LeverageTooHigh"


async def test_liquidation_at_zero_health_with_penalty() -> None:
    async with bench() as b:
        record = await b.open()
        pda = record["positionPda"]
        tokens, debt, _health = await b.amounts(pda)
        limit = float(debt / (tokens * Decimal("0.80")))
        b.series.price = limit * 1.001
        assert (await b.amounts(pda))[0] >= tokens, "just above the threshold nothing happens"
        b.series.price = limit * 0.999
        tokens_after, debt_after, health_after = await b.amounts(pda)
        assert tokens_after < tokens and health_after > 0
        (event,) = await b.post("/all-liquidation-events", {})
        assert event["positionPda"] == pda
        seized, repaid = Decimal(event["collateralSeizedUI"]), Decimal(event["debtRepaidUI"])
        assert repaid == pytest.approx(debt / 5, rel=Decimal("0.0001"))
        assert seized * Decimal(event["priceUSD"]) == pytest.approx(
            repaid * Decimal("1.02"), rel=Decimal("1e-6")
        )
        assert tokens_after == pytest.approx(tokens - seized, abs=Decimal("0.000001"))
        account = b.chain.account(Pubkey.from_string(pda))
        assert account is not None
        on_chain = Decimal(int.from_bytes(account.data[128:136], "little")).scaleb(-9)
        assert on_chain == pytest.approx(tokens_after, abs=Decimal("0.000001")), (
            "as klend's obligation shows it"
        )
        assert debt_after == pytest.approx(debt - repaid, abs=Decimal("0.0001"))
        (listed,) = await b.post("/positions", {"walletPubkey": b.address})
        assert listed["liquidationEvents"] == [event] and listed["state"] == 0
        assert (await b.live(pda))["liquidationEvents"] == [event]
        # What is left can still be closed, and the books agree with the wallet.
        await b.close(pda)
        steps = b.truth(pda)["position_accounting"]
        assert b.usdc() == 10_000 + sum(Decimal(step["wallet_usdc_delta"]) for step in steps)


async def test_a_dip_nobody_read_liquidates_all_the_same() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        b.twin.catch_up()
        dip_ms = b.world.now_ms() + 90 * MINUTE_MS

        def dips(t_ms: int) -> float:
            return 160.0 if abs(t_ms - dip_ms) <= MINUTE_MS else 200.0

        b.series.sol_price = dips  # type: ignore[method-assign]
        b.wait(3 * 3600)
        events = (await b.live(pda))["liquidationEvents"]
        assert len(events) >= 1 and {event["priceUSD"] for event in events} == {"160.000000000"}
        assert (await b.amounts(pda))[2] > 0


async def test_a_crash_through_the_collateral_takes_everything() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        b.series.price = 100.0
        assert await b.amounts(pda) == (0, 0, 100)
        assert b.truth(pda)["live"] is False
        assert (await b.refused("/close-position", b.modify(pda, collateralType=1)))[
            "name"
        ] == "PositionNotFound"


async def test_liquidation_on_command() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        tokens, _, _ = await b.amounts(pda)
        event = b.twin.control("liquidate", {"pda": pda})
        assert event["positionPda"] == pda and (await b.amounts(pda))[0] < tokens
        b.twin.control("liquidate", {"pda": pda, "full": True})
        tokens, debt, _ = await b.amounts(pda)
        assert debt == 0 and tokens > 0, "what is left after the penalty belongs to the owner"
        with pytest.raises(ValueError, match="no live position"):
            b.twin.control("liquidate", {"pda": pda})


async def test_too_much_leverage_after_a_fall_is_refused_but_deleveraging_is_not() -> None:
    async with bench() as b:
        record = await b.open()
        pda = record["positionPda"]
        b.series.price = 178.0  # LTV 75 %, above the opening limit of 74 %
        error = await b.refused("/position/increase-leverage", b.modify(pda, targetLeverage=4.3))
        assert error["name"] == "TransactionWouldFail"
        await b.update("/position/partial-close", record, closePercentage=10)
        await b.update("/position/deleverage", record, targetLeverage=2.0)
        assert (await b.amounts(pda))[2] > 30


async def test_a_long_watch_stays_fast() -> None:
    async with bench() as b:
        pda = (await b.open(leverage=2.0))["positionPda"]
        calls = 0

        def counted(t_ms: int) -> float:
            nonlocal calls
            calls += 1
            return 200 + 10 * math.sin((t_ms - START_MS) / 3_600_000)

        b.series.sol_price = counted  # type: ignore[method-assign]
        b.wait(5000 * 3600)
        assert (await b.amounts(pda))[0] > 9
        assert calls < 30_000
