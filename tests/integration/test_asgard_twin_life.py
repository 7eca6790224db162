"""A position's life on the Asgard twin: opened, resized and closed, with every dollar accounted for."""

from __future__ import annotations

import itertools
import random
from decimal import Decimal
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature

from tests.integration.asgard_twin_bench import KAMINO, MARGINFI, SOLEND, USDC, Bench, bench
from twins.asgard.book import LendingBook
from twins.asgard.venue import FEE_OWNER, LIVE_PROTOCOLS, POOL_OWNER, PROTOCOLS, TOKENS_A
from twins.world import LendingRates

HOUR_S = 3600


def total(b: Bench, mint: Pubkey) -> int:
    """All of a token that the twin's owners and the wallet hold, base units."""
    owners = [b.wallet.pubkey(), FEE_OWNER, POOL_OWNER, *(protocol.authority for protocol in LIVE_PROTOCOLS)]
    return sum(b.chain.token_balance(owner, mint) for owner in owners)


def read(b: Bench, pda: str) -> tuple[int, dict[str, Any]]:
    """Return the moment in ms UTC and what is true of a position at it."""
    ledger = b.twin.control("ledger", {})
    [truth] = [one for one in ledger["positions"] if one["pda"] == pda]
    return ledger["now_ms"], truth


def check_identities(step: dict[str, Any]) -> None:
    """The exact identities that `twins/asgard/records.py` promises."""
    d = {key: Decimal(value) for key, value in step.items() if isinstance(value, str) and _is_number(value)}
    assert d["tokens_after"] == (
        d["tokens_before"] + d["token_bought"] - d["token_sold"] - d["wallet_token_delta"]
    )
    assert d["debt_after_usd"] == d["debt_before_usd"] + d["borrowed_usd"] - d["repaid_usd"]
    assert d["wallet_usdc_delta"] == (
        d["borrowed_usd"] - d["repaid_usd"] - d["swap_usdc_in"] + d["swap_usdc_out"] - d["protocol_fee_usd"]
    )


def _is_number(text: str) -> bool:
    try:
        Decimal(text)
    except ArithmeticError:
        return False
    return True


@pytest.mark.parametrize("protocol", [MARGINFI, KAMINO, SOLEND])
async def test_open_and_close_conserve_money(protocol: int) -> None:
    async with bench() as b:
        before = total(b, USDC)
        record = await b.open(protocol=protocol)
        pda = record["positionPda"]
        assert record["state"] == 0 and record["leverage"] == "3"
        assert b.usdc() == 9000
        tokens, debt, health = await b.amounts(pda, protocol)
        price = Decimal(record["tokenAEntryPriceUSD"])
        # 15 bp of the 3,000 USDC notional goes to Asgard, the rest is swapped at the executed price.
        assert b.usdc(FEE_OWNER) == Decimal("4.5")
        assert abs(tokens * price - Decimal("2995.5")) < Decimal("0.001")
        assert 200 < price < Decimal("200.2")
        assert 2000 <= debt < Decimal("2000.001")
        assert 11 <= health <= 22
        closed = await b.close(pda, protocol)
        assert closed["state"] == 1 and closed["closeTxHash"] == closed["txHash"]
        assert await b.amounts(pda, protocol) == (0, 0, 100)
        steps = b.truth(pda)["position_accounting"]
        assert [step["kind"] for step in steps] == ["open", "close"]
        for step in steps:
            check_identities(step)
        assert b.usdc() == 10_000 + sum(Decimal(step["wallet_usdc_delta"]) for step in steps)
        assert 9_992 < b.usdc() < 9_994.5
        assert total(b, USDC) == before


async def test_life_with_every_kind_of_resize_is_accounted_to_the_last_unit() -> None:
    async with bench() as b:
        record = await b.open(jitoTipLamport=5_000)
        pda = record["positionPda"]
        sol = b.chain.lamports(b.wallet.pubkey())
        token_mint = Pubkey.from_string(record["tokenATokenMint"])
        totals = total(b, USDC), total(b, token_mint)
        b.wait(24 * HOUR_S)
        tokens_0, debt_0, _ = await b.amounts(pda)
        part, answer = await b.update("/position/partial-close", record, closePercentage=25)
        assert answer["position"]["updateCount"] == 1 and answer["positionUpdate"]["updateType"] == 4
        tokens_1, debt_1, _ = await b.amounts(pda)
        assert abs(tokens_1 - tokens_0 * Decimal("0.75")) < Decimal("0.0001")
        assert abs(debt_1 - debt_0 * Decimal("0.75")) < Decimal("0.0001")
        assert b.usdc() == 9_000 + Decimal(part["equityWithdrawnUI"])

        b.series.price = 180.0
        await b.update("/position/deleverage", record, targetLeverage=2.5)
        tokens_2, debt_2, _ = await b.amounts(pda)
        leverage = tokens_2 * 180 / (tokens_2 * 180 - debt_2)
        assert abs(leverage - Decimal("2.5")) < Decimal("0.0005")
        await b.update("/position/increase-leverage", record, targetLeverage=2.8)
        tokens_3, debt_3, _ = await b.amounts(pda)
        leverage = tokens_3 * 180 / (tokens_3 * 180 - debt_3)
        assert abs(leverage - Decimal("2.8")) < Decimal("0.0005")
        usdc = {"collateralAmountNative": 100 * 10**6, "collateralType": 1, "collateralMint": str(USDC)}
        await b.update("/position/add-collateral", record, **usdc)
        tokens_4, debt_4, _ = await b.amounts(pda)
        assert tokens_4 - tokens_3 == pytest.approx(Decimal(100) / 180, abs=Decimal("0.001"))
        repay = {"protocol": KAMINO, "walletPubkey": b.address, "positionPDA": pda, "jitoTipLamport": 0}
        build = await b.post("/position/repay-debt", repay | {"repayAmountNative": 50 * 10**6})
        assert build["repayAmountUI"] == "50.000000" and build["updateRecordData"]["swapInAmount"] is None
        await b.post("/submit-position-update-tx", b.update_body(build, record))
        _, debt_5, _ = await b.amounts(pda)
        assert abs(debt_4 - debt_5 - 50) < Decimal("0.0001")

        shown = await b.post(f"/positions/by-pda?pda={pda}")
        assert shown["updateCount"] == 5 and Decimal(shown["tokenBAmountUICurrent"]) <= debt_5
        closed = await b.close(pda)
        steps = b.truth(pda)["position_accounting"]
        assert len(steps) == 7 and closed["updateCount"] == 5
        for step in steps:
            check_identities(step)
        # Between transactions only interest changes the amounts.
        for earlier, later in itertools.pairwise(steps):
            gained = Decimal(later["tokens_before"]) - Decimal(earlier["tokens_after"])
            owed = Decimal(later["debt_before_usd"]) - Decimal(earlier["debt_after_usd"])
            assert gained == Decimal(later["token_interest"]) >= 0
            assert owed == Decimal(later["debt_interest_usd"]) >= 0
        assert b.usdc() == 10_000 + sum(Decimal(step["wallet_usdc_delta"]) for step in steps)
        assert (total(b, USDC), total(b, token_mint)) == totals
        # SOL: nothing but the fees and tips of the transactions after the open.
        spent = sum(step["gas_lamports"] + step["tip_lamports"] for step in steps[1:])
        assert b.chain.lamports(b.wallet.pubkey()) == sol - spent


async def test_chain_transfers_equal_the_books() -> None:
    async with bench() as b:
        record = await b.open()
        steps = b.truth(record["positionPda"])["position_accounting"]
        landed = b.chain.transaction(Signature.from_string(record["openTxHash"]))
        assert landed is not None and landed.err is None
        mint = Pubkey.from_string(record["tokenATokenMint"])
        vault = landed.token_change(PROTOCOLS[KAMINO].authority, mint)
        assert Decimal(vault).scaleb(-9) == Decimal(steps[0]["tokens_after"])
        assert Decimal(landed.token_change(PROTOCOLS[KAMINO].authority, USDC)).scaleb(-6) == -2000
        assert landed.token_change(b.wallet.pubkey(), USDC) == -1000 * 10**6
        assert landed.fee_lamports == steps[0]["gas_lamports"] == 65_000


async def test_token_collateral_buys_only_the_borrowed_part() -> None:
    async with bench() as b:
        wsol = str(TOKENS_A[0].mint)
        trade = {"collateralType": 0, "collateralMint": wsol, "collateralAmountNative": 2 * 10**9}
        sol = b.chain.lamports(b.wallet.pubkey())
        record = await b.open(leverage=2.0, **trade)
        tokens, debt, _ = await b.amounts(record["positionPda"])
        assert Decimal("3.99") < tokens < 4 and 400 <= debt < Decimal("400.001")
        assert b.usdc() == 10_000
        assert 2 * 10**9 < sol - b.chain.lamports(b.wallet.pubkey()) < 2.01 * 10**9
        # Closed for tokens: the debt is paid by a sale, and the collateral comes back as tokens.
        await b.close(record["positionPda"], collateralType=0)
        back = b.chain.token_balance(b.wallet.pubkey(), TOKENS_A[0].mint)
        assert 1.95 * 10**9 < back < 2 * 10**9
        assert b.usdc() >= 10_000
        for step in b.truth(record["positionPda"])["position_accounting"]:
            check_identities(step)


async def test_lst_price_follows_redemption_and_peg() -> None:
    async with bench() as b:
        record = await b.open(symbol="jitoSOL")
        pda = record["positionPda"]
        assert Decimal(record["tokenAEntryPriceUSD"]) == pytest.approx(Decimal(244), rel=Decimal("0.001"))
        health = (await b.amounts(pda))[2]
        b.series.redemption["jitoSOL"] = 1.25
        assert (await b.amounts(pda))[2] > health
        # A discount on the market is not seen by Kamino's stake-rate oracle, but a seller pays it.
        health = (await b.amounts(pda))[2]
        b.world.overrides.lst_peg["jitoSOL"] = 0.98
        assert (await b.amounts(pda))[2] == pytest.approx(health, abs=0.001)
        await b.close(pda)
        step = b.truth(pda)["position_accounting"][-1]
        executed = Decimal(step["swap_usdc_out"]) / Decimal(step["token_sold"])
        assert executed == pytest.approx(Decimal("245"), rel=Decimal("0.001"))


async def test_interest_has_the_closed_form_whenever_it_is_read() -> None:
    hours = 100
    async with (
        bench(lend_apr=0.04, borrow_apr=0.08) as watched,
        bench(lend_apr=0.04, borrow_apr=0.08) as left,
    ):
        for b, readings in ((watched, 37), (left, 1)):
            record = await b.open()
            pda = record["positionPda"]
            start_ms = b.truth(pda)["position_accounting"][0]["time_ms"]
            for reading in range(1, readings + 1):
                b.world.clock.advance_to(start_ms + hours * 3_600_000 * reading / readings)
                b.twin.catch_up()
            now_ms, truth = read(b, pda)
            years = Decimal(now_ms - start_ms) / (8760 * 3_600_000)
            opened = truth["position_accounting"][0]
            debt = Decimal(opened["debt_after_usd"]) * (Decimal("0.08") * years).exp()
            tokens = Decimal(opened["tokens_after"]) * (Decimal("0.04") * years).exp()
            assert Decimal(truth["debt_usd_exact"]) == pytest.approx(debt, abs=Decimal("1e-15"))
            assert Decimal(truth["tokens_exact"]) == pytest.approx(tokens, abs=Decimal("1e-15"))
        market = await watched.source()
        assert market["tokenBBorrowingApyRate"] == pytest.approx(float(Decimal("0.08").exp()) - 1)


async def test_a_block_that_lies_before_the_last_reading_is_accrued_to_its_own_time() -> None:
    async with bench(lend_apr=0.04, borrow_apr=0.08) as b:
        book = LendingBook(b.world, b.twin.book.reserves)
        first = book.index(PROTOCOLS[KAMINO], "SOL", b.world.now_ms() + 900)
        for apart_ms in (100, -500, 1_100, 1_099):
            found = book.index(PROTOCOLS[KAMINO], "SOL", first.at_ms + apart_ms)
            assert found.at_ms == first.at_ms + apart_ms
            years = Decimal(apart_ms) / (8760 * 3_600_000)
            assert found.lend - first.lend == pytest.approx(Decimal("0.04") * years, abs=Decimal("1e-20"))


async def test_rates_that_change_each_hour_are_summed_in_hourly_pieces() -> None:
    async with bench() as b:
        record = await b.open()
        start_ms, first = read(b, record["positionPda"])
        rates = {}

        def rates_at(protocol: int, token: str, t_ms: int) -> Any:
            rate = 0.05 + 0.01 * ((t_ms // 3_600_000) % 5)
            rates[t_ms // 3_600_000] = Decimal(repr(rate))
            return LendingRates(0.0, rate)

        b.series.rates = rates_at  # type: ignore[method-assign]
        b.wait(10 * HOUR_S)
        end_ms, after = read(b, record["positionPda"])
        exponent = Decimal(0)
        t = start_ms
        while t < end_ms:
            until = min(t - t % 3_600_000 + 3_600_000, end_ms)
            exponent += rates[t // 3_600_000] * (until - t) / (8760 * 3_600_000)
            t = until
        wanted = Decimal(first["debt_usd_exact"]) * exponent.exp()
        assert Decimal(after["debt_usd_exact"]) == pytest.approx(wanted, abs=Decimal("1e-15"))
        assert len(rates) == 11


@pytest.mark.parametrize("seed", range(4))
async def test_any_sequence_of_resizes_conserves_every_token(seed: int) -> None:
    """Prices walk, resizes come in any order and may be refused; nothing is ever made or lost."""
    rng = random.Random(seed)
    async with bench() as b:
        record = await b.open(symbol="jitoSOL", leverage=2.5)
        pda, mint = record["positionPda"], Pubkey.from_string(record["tokenATokenMint"])
        totals = total(b, USDC), total(b, mint)
        refused = done = 0
        for _ in range(14):
            b.wait(rng.uniform(1, 12 * HOUR_S))
            b.series.price *= rng.uniform(0.97, 1.03)
            usdc = {"collateralType": 1, "collateralMint": str(USDC)}
            path, extra = rng.choice(
                [
                    ("partial-close", {"closePercentage": rng.randint(1, 40)}),
                    ("deleverage", {"targetLeverage": rng.uniform(1.2, 2.6)}),
                    ("increase-leverage", {"targetLeverage": rng.uniform(2.0, 3.4)}),
                    ("add-collateral", usdc | {"collateralAmountNative": rng.randint(1, 2 * 10**8)}),
                ]
            )
            answer = await b.http.post(f"/position/{path}", json=b.modify(pda, **extra))
            if answer.status_code == 422:
                refused += 1
                continue
            await b.post("/submit-position-update-tx", b.update_body(answer.json(), record))
            done += 1
        await b.close(pda)
        truth = b.truth(pda)
        assert not truth["liquidations"] and done >= 5, (done, refused)
        for step in truth["position_accounting"]:
            check_identities(step)
        deltas = [Decimal(step["wallet_usdc_delta"]) for step in truth["position_accounting"]]
        assert b.usdc() == 10_000 + sum(deltas)
        assert (total(b, USDC), total(b, mint)) == totals
        assert b.usdc(FEE_OWNER) == sum(Decimal(s["protocol_fee_usd"]) for s in truth["position_accounting"])
