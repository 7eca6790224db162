"""What the Broker moves for rebalancing, before the twin: amounts and books of both sides agree, a lost answer is unknown."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import OperatorError
from evenkeel.types import Confirmed, Rejected, Unknown
from tests.alpaca_rig import PLACE, alpaca_rig
from venues.alpaca.transfers import AlpacaTransfers, Conversion

D = Decimal
VAULT = "0x" + "5a" * 20


async def test_dollars_become_usdc_and_leave_for_an_address_that_is_allowed() -> None:
    async with alpaca_rig(is_broker=True) as rig:
        moves, cash = AlpacaTransfers(rig.client), rig.account.cash
        done = await moves.convert(Conversion(side="buy", usdc=D("1000.25"), client_order_id="convert-1"))
        assert isinstance(done, Confirmed)
        rig.later(1)
        order = await rig.client.order_by_client_id("convert-1")
        assert order is not None and order.status == "filled" and order.id == done.value
        assert rig.account.held("USDCUSD") == D("1000.25")
        assert rig.account.cash == cash - D("1000.25") * D("1.01"), "at the ask"

        assert isinstance(await moves.send_usdc(D(10), VAULT), Rejected)
        assert isinstance(await moves.allow(VAULT), Confirmed)
        rig.later(5)
        assert [one.status for one in await moves.whitelist()] == ["APPROVED"]
        left = list[str]()
        rig.twin.moves.on_chain.append(lambda kind, row: left.append(row["amount"]))
        sent = await moves.send_usdc(D("900.000001"), VAULT)
        assert isinstance(sent, Confirmed) and sent.value.status == "PROCESSING"
        rig.later(5)
        (row,) = await moves.transfers()
        assert row.status == "COMPLETE" and row.tx_hash and left == ["900.000001"]
        assert rig.account.held("USDCUSD") == D("100.249999")
        assert isinstance(await moves.send_usdc(D(200), VAULT), Rejected)
        with pytest.raises(OperatorError, match="6 decimals"):
            await moves.send_usdc(D("0.0000001"), VAULT)
        assert len(await moves.wallet("base")) == 42


async def test_a_transfer_that_fails_comes_back() -> None:
    async with alpaca_rig(is_broker=True) as rig:
        moves = AlpacaTransfers(rig.client)
        rig.account.move("USDCUSD", D(50), D(1))
        await moves.allow(VAULT)
        rig.later(5)
        rig.fault("transfer_fails", "transfer")
        await moves.send_usdc(D(50), VAULT)
        assert rig.account.held("USDCUSD") == 0
        rig.later(5)
        assert [one.status for one in await moves.transfers()] == ["FAILED"]
        assert rig.account.held("USDCUSD") == 50


async def test_shares_become_tokens_and_tokens_become_shares() -> None:
    async with alpaca_rig(is_broker=True) as rig:
        moves = AlpacaTransfers(rig.client)
        rig.account.move("AAPL", D(8), D(260))
        asked = await moves.mint("AAPL", D("2.5"), VAULT, "base", "st0x", "ours-1")
        assert isinstance(asked, Confirmed) and asked.value.status == "pending"
        assert rig.account.held("AAPL") == D("5.5")
        rig.twin.control("redeem", {"symbol": "AAPL", "qty": "1.5", "tx_hash": "0x12"})
        rig.later(5)
        minted, redeemed = await moves.tokenizations()
        assert (minted.status, minted.type, minted.client_request_id) == ("completed", "mint", "ours-1")
        assert (redeemed.status, redeemed.type, redeemed.qty) == ("completed", "redeem", D("1.5"))
        assert rig.account.held("AAPL") == 7
        rig.fault("mint_rejected", "mint")
        await moves.mint("AAPL", D(7), VAULT, "base", "st0x", "ours-2")
        rig.later(5)
        assert (await moves.tokenizations())[-1].status == "rejected" and rig.account.held("AAPL") == 7
        assert isinstance(await moves.mint("AAPL", D(70), VAULT, "base", "st0x", "ours-3"), Rejected)


async def test_journals_move_cash_and_shares_and_a_lost_answer_is_unknown() -> None:
    async with alpaca_rig(is_broker=True) as rig:
        moves, other = AlpacaTransfers(rig.client), rig.twin.engine.open_account(D(0))
        rig.account.move("MSFT", D(3), D(480))
        assert isinstance(await moves.journal_cash(other.id, D("12.34"), "note-1"), Confirmed)
        assert isinstance(await moves.journal_shares(other.id, "MSFT", D(1), "note-2"), Confirmed)
        assert (other.cash, other.held("MSFT"), rig.account.held("MSFT")) == (D("12.34"), 1, 2)
        rig.fault("drop_answer", "journals:create")
        assert isinstance(await moves.journal_cash(other.id, D(1), "note-3"), Unknown)
        assert [one.description for one in await moves.journals()] == ["note-1", "note-2", "note-3"]
        rig.fault("http_500", PLACE)
        found = await moves.convert(Conversion(side="buy", usdc=D(5), client_order_id="convert-2"))
        assert isinstance(found, Unknown) and await rig.client.order_by_client_id("convert-2") is None


async def test_a_trading_key_moves_nothing() -> None:
    async with alpaca_rig() as rig:
        with pytest.raises(OperatorError, match="Broker's interface"):
            AlpacaTransfers(rig.client)
