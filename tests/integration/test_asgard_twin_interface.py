"""The Asgard twin's interface: shapes, refusals, limits, and what transactions look like before they are signed."""

from __future__ import annotations

import base64
import hashlib
from decimal import Decimal

import httpx
import pytest
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from tests.integration.asgard_twin_bench import DRIFT, KAMINO, MARGINFI, SOLEND, USDC, bench

MINTS = {
    "SOL": "So11111111111111111111111111111111111111112",
    "jitoSOL": "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn",
    "jupSOL": "jupSoLaHXQiZZTSfEWMTRRgpnyFm8f6sZdosWBjx93v",
    "INF": "5oVNBeEEQvYi1cX3ir8Dx5n1P7pdxydbGF2X4TxVusJm",
}
KLEND = "KLend2g3cP87fffoy8q1mQqGKjrxjC8boSyAYavgmjD"
JUPITER = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4"
SYSTEM = "11111111111111111111111111111111"
TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"


def decoded(encoded: str) -> VersionedTransaction:
    raw = base64.b64decode(encoded, validate=True)
    transaction = VersionedTransaction.from_bytes(raw)
    assert bytes(transaction) == raw and len(raw) <= 1232
    transaction.sanitize()
    return transaction


def calls(transaction: VersionedTransaction) -> list[tuple[str, bytes]]:
    """(program id, data) of each top-level instruction."""
    keys = transaction.message.account_keys
    return [(str(keys[one.program_id_index]), bytes(one.data)) for one in transaction.message.instructions]


def anchor(name: str) -> bytes:
    return hashlib.sha256(f"global:{name}".encode()).digest()[:8]


async def test_markets_have_the_documented_shape() -> None:
    async with bench(lend_apr=0.05, borrow_apr=0.06) as b:
        answer = await b.get("/markets")
        assert answer["totalStrategies"] == 4
        for symbol, mint in MINTS.items():
            strategy = answer["strategies"][f"{symbol}/USDC"]
            assert (strategy["tokenAMint"], strategy["tokenBMint"]) == (mint, str(USDC))
            assert strategy["market"] == ["MARGIN"] and strategy["tag"] == ["TRADING"]
            sources = {one["lendingProtocol"]: one for one in strategy["liquiditySources"]}
            assert {number: one["isActive"] for number, one in sources.items()} == {
                MARGINFI: True, KAMINO: True, SOLEND: True, DRIFT: False,
            }  # fmt: skip
            for source in sources.values():
                for key in ("marketKey", "tokenABank", "tokenBBank"):
                    Pubkey.from_string(source[key])
                assert isinstance(source["tokenBMaxBorrowCapacity"], str)
                assert Decimal(source["tokenAMaxDepositCapacity"]) > 0
        kamino = await b.source(KAMINO)
        assert kamino["longMaxLeverage"] == pytest.approx(1 / (1 - 0.74), abs=1e-4)
        assert kamino["tokenALendingApyRate"] == pytest.approx(0.0512711)
        assert kamino["tokenBBorrowingApyRate"] == pytest.approx(0.0618365)
        lst = await b.source(KAMINO, "jitoSOL")
        assert lst["tokenALendingApyRate"] < 0.01, "staking accrues in the price, not in the lending rate"


async def test_token_metadata() -> None:
    async with bench() as b:
        tokens = {one["symbol"]: one for one in (await b.get("/token-metadata"))["tokens"]}
        assert {symbol: tokens[symbol]["mint"] for symbol in MINTS} == MINTS
        one = await b.get(f"/token-metadata/{MINTS['jitoSOL']}")
        assert one["decimals"] == 9 and one["price"] == pytest.approx(244)
        answer = await b.http.get("/token-metadata/5oVNBeEEQvYi1cX3ir8Dx5n1P7pdxydbGF2X6TxNxsi")
        assert answer.status_code == 422


async def test_an_open_is_a_real_unsigned_v0_transaction_with_a_lookup_table() -> None:
    async with bench() as b:
        build = await b.post("/create-position", await b.trade(jitoTipLamport=10_000))
        assert build["collateralAmountNative"] == 10**9 and build["positionPDA"]
        (transaction,) = [decoded(one) for one in build["signedTxs"]]
        message = transaction.message
        assert isinstance(message, MessageV0) and len(message.address_table_lookups) == 1
        assert list(transaction.signatures) == [Signature.default()]
        assert str(message.account_keys[0]) == b.address
        assert not transaction.uses_durable_nonce()
        made = calls(transaction)
        klend = [data[:8] for program, data in made if program == KLEND]
        assert klend == [
            anchor(name)
            for name in (
                "init_obligation",
                "refresh_reserve",
                "refresh_reserve",
                "refresh_obligation",
                "flash_borrow_reserve_liquidity",
                "deposit_reserve_liquidity_and_obligation_collateral",
                "borrow_obligation_liquidity",
                "flash_repay_reserve_liquidity",
            )
        ]
        (route,) = [data for program, data in made if program == JUPITER]
        assert route[:8] == anchor("route")
        assert int.from_bytes(route[-19:-11], "little") == 3000 * 10**6
        assert int.from_bytes(route[-3:-1], "little") == 50 and route[-1] == 15
        (tip,) = [data for program, data in made if program == SYSTEM]
        assert tip == b"\x02\0\0\0" + (10_000).to_bytes(8, "little")


async def test_all_protocols_have_their_own_instructions() -> None:
    async with bench() as b:
        marginfi = await b.post("/create-position", await b.trade(MARGINFI))
        data = [one[:8] for _, one in calls(decoded(marginfi["signedTxs"][0]))]
        assert anchor("lending_account_start_flashloan") in data and anchor("lending_account_borrow") in data
        save = await b.post("/create-position", await b.trade(SOLEND))
        program = "So1endDq2YkqhipRh3WViPa8hdiSpxWy6z3Z6tMCpAo"
        tags = [one[0] for name, one in calls(decoded(save["signedTxs"][0])) if name == program]
        assert tags == [6, 3, 3, 7, 19, 14, 10, 20]


async def test_a_cosigner_has_signed_already_and_its_account_is_made_and_closed_inside() -> None:
    async with bench() as b:
        b.twin.control("cosigner", {"on": True})
        build = await b.post("/create-position", await b.trade())
        transaction = decoded(build["signedTxs"][0])
        assert transaction.verify_with_results() == [False, True]
        program = [(name, data[0]) for name, data in calls(transaction) if name in (SYSTEM, TOKEN)]
        assert program == [(SYSTEM, 0), (TOKEN, 18), (TOKEN, 9)]
        record = await b.post("/submit-create-position-tx", b.sign(build))
        assert (await b.amounts(record["positionPda"]))[0] > 14
        await b.close(record["positionPda"])


async def test_position_account_holds_owner_at_its_true_offset() -> None:
    async with bench() as b:
        for protocol, offset, name in (
            (KAMINO, 64, "Obligation"),
            (MARGINFI, 40, "MarginfiAccount"),
            (SOLEND, 42, ""),
        ):
            record = await b.open(protocol=protocol, usdc=100)
            account = b.chain.account(Pubkey.from_string(record["positionPda"]))
            assert account is not None
            assert bytes(account.data[offset : offset + 32]) == bytes(b.wallet.pubkey())
            if name:
                assert bytes(account.data[:8]) == hashlib.sha256(f"account:{name}".encode()).digest()[:8]


async def test_resizing_is_refused_outside_kamino() -> None:
    async with bench() as b:
        for protocol in (MARGINFI, SOLEND):
            pda = (await b.open(protocol=protocol))["positionPda"]
            for path, extra in (
                ("partial-close", {"closePercentage": 50}),
                ("deleverage", {"targetLeverage": 2.0}),
                ("increase-leverage", {"targetLeverage": 3.2}),
                ("repay-debt", {"repayAmountNative": 10**6}),
                (
                    "add-collateral",
                    {"collateralAmountNative": 10**6, "collateralType": 1, "collateralMint": str(USDC)},
                ),
            ):
                error = await b.refused(f"/position/{path}", b.modify(pda, protocol, **extra))
                assert error["name"] == "ProtocolNotSupported"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"leverage": 4.0}, "LeverageTooHigh"),
        ({"direction": 1}, "DirectionNotSupported"),
        ({"collateralType": 2}, "CollateralTypeNotSupported"),
        ({"collateralType": 0}, "CollateralMintMismatch"),
        ({"protocol": DRIFT}, "ProtocolNotSupported"),
        ({"protocol": MARGINFI}, "MarketNotFound"),
        ({"collateralAmountNative": 1e9}, "ValidationError"),
        ({"collateralAmountNative": "1000000000"}, "ValidationError"),
        ({"walletPubkey": "nobody"}, "ValidationError"),
        ({"swapPlatform": "raydium"}, "ValidationError"),
    ],
)
async def test_impossible_opens_are_refused_with_the_error_body(
    changes: dict[str, object], name: str
) -> None:
    async with bench() as b:
        error = await b.refused("/create-position", await b.trade() | changes)
        assert error["name"] == name and error["message"]


async def test_inactive_markets_and_small_capacities_refuse() -> None:
    async with bench() as b:
        trade = await b.trade()
        b.twin.control("set_capacity", {"protocol": KAMINO, "symbol": "USDC", "amount": "1999.99"})
        assert (await b.source())["tokenBMaxBorrowCapacity"] == "1999.99"
        assert (await b.refused("/create-position", trade))["name"] == "InsufficientCapacity"
        b.twin.control("set_capacity", {"protocol": KAMINO, "symbol": "USDC", "amount": "2000"})
        await b.post("/create-position", trade)
        b.twin.control("set_active", {"protocol": KAMINO, "symbol": "SOL", "on": False})
        assert (await b.source())["isActive"] is False
        assert (await b.refused("/create-position", trade))["name"] == "MarketInactive"


async def test_bad_targets_percentages_and_amounts_are_refused() -> None:
    async with bench() as b:
        pda = (await b.open())["positionPda"]
        for path, extra in (
            ("partial-close", {"closePercentage": 100}),
            ("partial-close", {"closePercentage": 0.5}),
            ("deleverage", {"targetLeverage": 3.5}),
            ("increase-leverage", {"targetLeverage": 2.0}),
            ("increase-leverage", {"targetLeverage": 4.5}),
            ("repay-debt", {"repayAmountNative": 2001 * 10**6}),
        ):
            await b.refused(f"/position/{path}", b.modify(pda, **extra))
        await b.refused("/close-position", b.modify(b.address, collateralType=1))
        other = b.modify(pda, collateralType=1) | {"walletPubkey": str(USDC)}
        assert (await b.refused("/close-position", other))["name"] == "NotOwner"


async def test_simulations_change_nothing() -> None:
    async with bench() as b:
        found = await b.post("/create-position-simulate", await b.trade())
        assert found["simulation"]["err"] is None and "signedTxs" not in found
        poor = await b.post("/create-position-simulate", await b.trade(usdc=20_000))
        assert poor["simulation"]["err"] is not None
        assert b.usdc() == 10_000
        pda = (await b.open())["positionPda"]
        found = await b.post("/close-position-simulate", b.modify(pda, collateralType=1))
        assert found["simulation"]["err"] is None
        closed = await b.post("/submit-close-position-tx", b.sign(found))
        assert closed["state"] == 1


async def test_rate_limit_is_one_per_world_second_without_a_key() -> None:
    async with bench() as b:
        async with httpx.AsyncClient(base_url=b.http.base_url, trust_env=False) as keyless:
            assert (await keyless.get("/markets")).status_code == 200
            limited = await keyless.get("/markets")
            assert limited.status_code == 429 and limited.json()["error"]["name"] == "TooManyRequests"
            b.wait(1)
            assert (await keyless.get("/markets")).status_code == 200
            assert (await keyless.get("/markets")).status_code == 429
            wrong = await keyless.get("/markets", headers={"X-API-Key": "guess"})
            assert wrong.status_code == 401 and "X-API-Key" in wrong.json()["error"]["message"]
        for _ in range(5):
            await b.get("/markets")
        b.twin.control("rate_limit", {"keyed_per_s": 2})
        statuses = [(await b.http.get("/markets")).status_code for _ in range(4)]
        assert statuses.count(429) >= 2


async def test_only_documented_paths_exist_below_the_base_path() -> None:
    async with bench() as b:
        assert (await b.http.post("/ping")).status_code == 404
        host = str(b.http.base_url).split("/margin-trading")[0]
        async with httpx.AsyncClient(base_url=host, trust_env=False) as outside:
            assert (await outside.get("/markets")).status_code == 404
        assert b.twin.call_name("POST", "/margin-trading/create-position", b"{}") == "POST /create-position"
        with pytest.raises(ValueError, match="no command"):
            b.twin.control("nonsense", {})


async def test_metadata_comes_late() -> None:
    async with bench() as b:
        record = await b.open()
        pda = record["positionPda"]
        assert record["entryMarketMetadata"] is None
        b.wait(7)
        assert (await b.post("/positions/open", {"walletPubkey": b.address}))[0][
            "entryMarketMetadata"
        ] is None
        b.wait(1.5)
        (record,) = await b.post("/positions/open", {"walletPubkey": b.address})
        executed = record["entryMarketMetadata"]["onChainExecutedMetadata"]
        assert (executed["inputMint"], executed["outputMint"]) == (str(USDC), MINTS["SOL"])
        price = Decimal(executed["inputAmount"]).scaleb(-6) / Decimal(executed["outputAmount"]).scaleb(-9)
        assert price == pytest.approx(Decimal(record["tokenAEntryPriceUSD"]), abs=Decimal("1e-8"))
        b.twin.control("metadata_delay", {"seconds": 60})
        build, answer = await b.update("/position/partial-close", record, closePercentage=10)
        assert answer["txMetadata"] == {"onChainExecutedMetadata": None}
        b.wait(61)
        again = await b.post("/submit-position-update-tx", b.update_body(build, record))
        assert again["positionUpdate"] == answer["positionUpdate"]
        assert again["txMetadata"]["onChainExecutedMetadata"]["txHash"] == answer["txHash"]
        closed = await b.close(pda)
        assert closed["exitMarketMetadata"] is None and closed["txMetadata"] is None
        b.wait(61)
        (closed,) = await b.post("/positions/closed", {"walletPubkey": b.address})
        assert closed["exitMarketMetadata"]["onChainExecutedMetadata"]["inputMint"] == MINTS["SOL"]
        with pytest.raises(ValueError, match="0 to 60"):
            b.twin.control("metadata_delay", {"seconds": 61})


async def test_errors_may_be_plain_strings() -> None:
    async with bench() as b:
        b.twin.control("submit_mode", {"errors": "string"})
        answer = await b.http.post("/create-position", json={})
        assert answer.status_code == 422 and isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("protocol", [MARGINFI, KAMINO, SOLEND])
@pytest.mark.parametrize("symbol", ["SOL", "INF"])
async def test_the_largest_builds_fit_a_packet_and_run_on_either_router(protocol: int, symbol: str) -> None:
    async with bench() as b:
        b.twin.control("cosigner", {"on": True})
        trade = await b.trade(protocol, symbol, leverage=2.5, jitoTipLamport=5000, swapPlatform="dflow")
        if symbol == "SOL":
            trade |= {"collateralType": 0, "collateralMint": MINTS["SOL"], "collateralAmountNative": 10**9}
        build = await b.post("/create-position", trade)
        assert len(calls(decoded(build["signedTxs"][0]))) >= 10
        record = await b.post("/submit-create-position-tx", b.sign(build))
        pda = record["positionPda"]
        body = b.modify(pda, protocol, collateralType=0, jitoTipLamport=5000, swapPlatform="dflow")
        build = await b.post("/close-position", body)
        decoded(build["signedTxs"][0])
        assert (await b.post("/submit-close-position-tx", b.sign(build)))["state"] == 1
