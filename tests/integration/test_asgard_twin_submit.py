"""Submits that go wrong on the Asgard twin: only what lands on chain happened, and it happened once."""

from __future__ import annotations

import asyncio
import base64
from decimal import Decimal

import pytest
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from tests.integration.asgard_twin_bench import KAMINO, bench
from twins.faults import Fault
from twins.solana.errors import RpcError

SUBMIT = "POST /submit-create-position-tx"


async def test_the_same_submit_twice_is_one_position_and_one_row() -> None:
    async with bench() as b:
        signed = b.sign(await b.post("/create-position", await b.trade()))
        first = await b.post("/submit-create-position-tx", signed)
        again = await b.post("/submit-create-position-tx", signed)
        assert first["id"] == again["id"] and first["openTxHash"] == again["openTxHash"]
        assert b.usdc() == 9000
        assert len(await b.post("/positions", {"walletPubkey": b.address})) == 1
        b.twin.control("submit_mode", {"duplicate": "error"})
        error = await b.refused("/submit-create-position-tx", signed)
        assert error["name"] == "DuplicateSubmission" and b.usdc() == 9000


async def test_a_second_build_is_a_second_position() -> None:
    async with bench() as b:
        builds = [await b.post("/create-position", await b.trade()) for _ in range(2)]
        records = [await b.post("/submit-create-position-tx", b.sign(build)) for build in builds]
        assert records[0]["positionPda"] != records[1]["positionPda"]
        assert b.usdc() == 8000


async def test_broadcast_by_rpc_alone_opens_a_position_without_a_row() -> None:
    async with bench() as b:
        build = await b.post("/create-position", await b.trade())
        pda = build["positionPDA"]
        answer = await b.post(
            "/refresh-positions", {"positionPDAs": [{"protocol": KAMINO, "positionPDA": pda}]}
        )
        assert answer == {"positions": {}}
        signed = b.sign(build)
        (signature,) = b.broadcast(signed)
        tokens, debt, _ = await b.amounts(pda)
        assert tokens > 14 and debt >= 2000 and (await b.live(pda))["authority"] == b.address
        assert await b.post("/positions", {"walletPubkey": b.address}) == []
        assert (await b.refused(f"/positions/by-pda?pda={pda}"))["name"] == "PositionNotFound"
        # A submit of what has landed already only writes the row.
        record = await b.post("/submit-create-position-tx", signed)
        assert record["openTxHash"] == signature and b.usdc() == 9000
        assert len(b.truth(pda)["position_accounting"]) == 1


async def test_a_position_without_a_row_can_be_closed() -> None:
    async with bench() as b:
        build = await b.post("/create-position", await b.trade())
        b.broadcast(b.sign(build))
        closed = await b.close(build["positionPDA"])
        assert closed["state"] == 1 and b.usdc() > 9990


async def test_landed_without_a_row() -> None:
    async with bench() as b:
        b.fault("submit_no_row", SUBMIT)
        build = await b.post("/create-position", await b.trade())
        answer = await b.http.post("/submit-create-position-tx", json=b.sign(build))
        assert answer.status_code == 500 and b.usdc() == 9000
        assert await b.post("/positions", {"walletPubkey": b.address}) == []
        assert (await b.amounts(build["positionPDA"]))[0] > 14


@pytest.mark.parametrize("status", [200, 500])
async def test_a_lost_submit_leaves_no_trace(status: int) -> None:
    async with bench() as b:
        b.fault("submit_lost", SUBMIT, status=status)
        build = await b.post("/create-position", await b.trade())
        signed = b.sign(build)
        answer = await b.http.post("/submit-create-position-tx", json=signed)
        assert answer.status_code == status
        if status == 200:
            assert answer.json()["positionPda"] == build["positionPDA"]
        assert b.usdc() == 10_000
        assert await b.post("/positions", {"walletPubkey": b.address}) == []
        # The same bytes may still be sent: they are valid until their blockhash has expired.
        record = await b.post("/submit-create-position-tx", signed)
        assert record["positionPda"] == build["positionPDA"] and b.usdc() == 9000


async def test_two_transactions_per_build() -> None:
    async with bench() as b:
        b.twin.control("tx_count", {"n": 2})
        build = await b.post("/create-position", await b.trade(jitoTipLamport=1000))
        assert len(build["signedTxs"]) == 2
        record = await b.post("/submit-create-position-tx", b.sign(build))
        landed = [
            b.chain.transaction(VersionedTransaction.from_bytes(base64.b64decode(one)).signatures[0])
            for one in b.sign(build)["signedTxs"]
        ]
        assert all(one is not None and one.err is None for one in landed)
        b.wait(9)
        (record,) = await b.post("/positions/open", {"walletPubkey": b.address})
        executed = record["entryMarketMetadata"]["onChainExecutedMetadata"]
        assert executed["gasLamports"] == sum(one.fee_lamports for one in landed if one)
        assert record["openTxHash"] == str(landed[1].signature if landed[1] else "")
        await b.update("/position/partial-close", record, closePercentage=50)
        assert (await b.close(record["positionPda"]))["state"] == 1


async def test_setup_alone_opens_nothing_and_the_second_alone_fails() -> None:
    async with bench() as b:
        b.twin.control("tx_count", {"n": 2})
        setup, main = b.sign(build := await b.post("/create-position", await b.trade()))["signedTxs"]
        with pytest.raises(RpcError, match="simulation failed"):
            b.chain.submit(base64.b64decode(main))
        b.chain.submit(base64.b64decode(setup))
        assert await b.amounts(build["positionPDA"]) == (0, 0, 100)
        assert b.usdc() == 10_000
        b.chain.submit(base64.b64decode(main))
        assert (await b.amounts(build["positionPDA"]))[0] > 14
        # An update of nothing but half of its transactions is not recognised.
        answer = await b.refused("/submit-create-position-tx", build | {"signedTxs": [main]})
        assert answer["name"] == "BuildMismatch"


async def test_what_comes_back_must_be_what_was_built_and_fully_signed() -> None:
    async with bench() as b:
        build = await b.post("/create-position", await b.trade())
        assert (await b.refused("/submit-create-position-tx", build))["name"] == "SignatureVerificationFailed"
        signed = b.sign(build)
        changed = await b.refused("/submit-create-position-tx", signed | {"leverage": 2.0})
        assert changed["name"] == "BuildMismatch" and changed["details"]["keys"] == ["leverage"]
        for bad in (None, [], ["?"], ["AAAA"], "x"):
            await b.refused("/submit-create-position-tx", signed | {"signedTxs": bad})
        assert (await b.refused("/submit-close-position-tx", signed))["name"] == "BuildMismatch"
        assert b.usdc() == 10_000
        record = await b.post("/submit-create-position-tx", signed)
        build = await b.post("/position/partial-close", b.modify(record["positionPda"], closePercentage=20))
        body = b.update_body(build, record)
        wrong = body["updateRecordData"] | {"postTokenAAmountUI": "0"}
        await b.refused("/submit-position-update-tx", body | {"updateRecordData": wrong})
        await b.refused("/submit-position-update-tx", body | {"positionId": 77})
        answer = await b.post("/submit-position-update-tx", body)
        assert answer == await b.post("/submit-position-update-tx", body)
        assert answer["position"]["updateCount"] == 1


async def test_the_same_submit_at_the_same_moment_writes_one_row() -> None:
    async with bench() as b:
        b.faults.add(Fault("solana", "land_late", args={"blocks": 4}))
        signed = b.sign(await b.post("/create-position", await b.trade()))
        both = await asyncio.gather(*(b.post("/submit-create-position-tx", signed) for _ in range(2)))
        assert both[0]["id"] == both[1]["id"] and b.usdc() == 9000
        assert len(await b.post("/positions", {"walletPubkey": b.address})) == 1


@pytest.mark.parametrize("kind", ["submit_lost", "submit_no_row"])
async def test_updates_and_closes_can_be_lost_or_go_unrecorded(kind: str) -> None:
    async with bench() as b:
        record = await b.open()
        pda = record["positionPda"]
        tokens, _, _ = await b.amounts(pda)
        b.fault(kind, "POST /submit-position-update-tx", status=200)
        build = await b.post("/position/partial-close", b.modify(pda, closePercentage=50))
        answer = await b.post("/submit-position-update-tx", b.update_body(build, record))
        assert answer["success"] is True
        landed = kind == "submit_no_row"
        left = (await b.amounts(pda))[0]
        assert left == pytest.approx(tokens / (2 if landed else 1), abs=Decimal("0.0001"))
        assert (await b.post(f"/positions/by-pda?pda={pda}"))["updateCount"] == 0
        again = await b.post("/submit-position-update-tx", b.update_body(build, record))
        assert again["position"]["updateCount"] == 1
        assert (await b.amounts(pda))[0] == pytest.approx(tokens / 2, abs=Decimal("0.0001"))
        b.fault(kind, "POST /submit-close-position-tx", status=200)
        close = b.sign(await b.post("/close-position", b.modify(pda, collateralType=1)))
        assert (await b.post("/submit-close-position-tx", close))["state"] == 1
        assert len(await b.post("/positions/open", {"walletPubkey": b.address})) == 1
        assert (await b.amounts(pda))[0] == (
            0 if landed else pytest.approx(tokens / 2, abs=Decimal("0.0001"))
        )
        await b.post("/submit-close-position-tx", close)
        assert await b.post("/positions/open", {"walletPubkey": b.address}) == []


async def test_without_the_usdc_the_transaction_fails() -> None:
    async with bench() as b:
        build = await b.post("/create-position", await b.trade(usdc=20_000))
        error = await b.refused("/submit-create-position-tx", b.sign(build))
        assert error["name"] == "TransactionSimulationFailed" and b.usdc() == 10_000
        assert await b.post("/positions", {"walletPubkey": b.address}) == []


async def test_price_moves_beyond_the_slippage_bound() -> None:
    async with bench() as b:
        signed = b.sign(await b.post("/create-position", await b.trade()))
        b.series.price = 202.0
        error = await b.refused("/submit-create-position-tx", signed)
        assert '"Custom": 6001' in str(error["details"]).replace("'", '"')
        assert b.usdc() == 10_000
        b.series.price = 200.5
        await b.post("/submit-create-position-tx", signed)
        assert b.usdc() == 9000


async def test_slippage_failure_between_preflight_and_block_costs_only_the_fee() -> None:
    async with bench() as b:
        b.fault("slippage_fail", SUBMIT)
        build = await b.post("/create-position", await b.trade())
        signed = b.sign(build)
        sol = b.chain.lamports(b.wallet.pubkey())
        error = await b.refused("/submit-create-position-tx", signed)
        assert error["name"] == "TransactionFailed"
        landed = b.chain.transaction(Signature.from_string(error["details"]["txHash"]))
        assert landed is not None and landed.err is not None and "6001" in str(landed.err)
        assert b.chain.lamports(b.wallet.pubkey()) == sol - landed.fee_lamports
        assert b.usdc() == 10_000
        # The bytes are used up.
        error = await b.refused("/submit-create-position-tx", signed)
        assert error["name"] == "TransactionFailed" and b.usdc() == 10_000


async def test_bad_price_within_the_bound_is_executed() -> None:
    async with bench() as b:
        b.fault("bad_price", SUBMIT, bps=40)
        record = await b.open()
        step = b.truth(record["positionPda"])["position_accounting"][0]
        executed = Decimal(step["swap_usdc_in"]) / Decimal(step["token_bought"])
        quoted = Decimal(record["tokenAEntryPriceUSD"])
        assert executed / quoted - 1 == pytest.approx(Decimal("0.004"), abs=Decimal("0.0001"))


async def test_stale_blockhash_and_empty_builds() -> None:
    async with bench() as b:
        b.fault("stale_blockhash", "POST /create-position")
        stale = b.sign(await b.post("/create-position", await b.trade()))
        error = await b.refused("/submit-create-position-tx", stale)
        assert "Blockhash not found" in error["message"]
        b.fault("empty_txs", "POST /create-position")
        assert (await b.post("/create-position", await b.trade()))["signedTxs"] == []


async def test_planned_refusals() -> None:
    async with bench() as b:
        trade = await b.trade()
        b.fault("reject", "POST /create-position", name="NoLiquidity", message="try later", code="E42")
        error = await b.refused("/create-position", trade)
        assert error == {"name": "NoLiquidity", "code": "E42", "message": "try later", "details": {}}
        await b.post("/create-position", trade)


async def test_an_expired_build_can_never_land() -> None:
    async with bench() as b:
        signed = b.sign(await b.post("/create-position", await b.trade()))
        b.wait(60)
        error = await b.refused("/submit-create-position-tx", signed)
        assert "Blockhash not found" in error["message"] and b.usdc() == 10_000


async def test_a_late_landing_is_recorded_when_it_comes() -> None:
    async with bench() as b:
        b.faults.add(Fault("solana", "land_late", args={"blocks": 60}))
        build = await b.post("/create-position", await b.trade())
        answer = await b.http.post("/submit-create-position-tx", json=b.sign(build))
        assert answer.status_code == 500 and answer.json()["error"]["name"] == "ConfirmationTimeout"
        assert b.usdc() == 10_000
        b.wait(30)
        (record,) = await b.post("/positions/open", {"walletPubkey": b.address})
        assert record["positionPda"] == build["positionPDA"] and b.usdc() == 9000


async def test_a_close_that_landed_cannot_close_again() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        body = b.modify(pda, collateralType=1)
        first = b.sign(await b.post("/close-position", body))
        b.wait(1)
        second = b.sign(await b.post("/close-position", body))
        await b.post("/submit-close-position-tx", first)
        after = b.usdc()
        error = await b.refused("/submit-close-position-tx", second)
        assert error["name"] == "TransactionSimulationFailed" and b.usdc() == after
        assert (await b.refused("/close-position", body))["name"] == "PositionNotFound"
