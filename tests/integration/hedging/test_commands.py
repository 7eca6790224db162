"""What `evenkeel hedging` does: the ledger's rows shown, the chain read again, orders by hand, one process an account."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from secrets import token_hex

import pytest
from typer.testing import CliRunner

from analytics.hedging.report import as_csv
from app.cli import app
from app.hedging import actions
from evenkeel.errors import LostRace, OperatorError
from evenkeel.settings.settings import Settings
from flows.hedging.backfill import backfill_chain, read_transaction
from flows.hedging.hedge import HedgeRequest, hedge_account
from flows.hedging.pnl import account_for_hedging
from flows.hedging.watched import UNWATCHED, alarm_unwatched, last_by
from tasks.hedging.by_hand import order_by_hand
from tasks.hedging.reconciling import DIFFERS, reconcile_hedging
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig

databases, url, _store = database_fixtures("sqlite")
D = Decimal


def settings_of(rig: HedgingRig, url: str) -> Settings:
    given = rig.given()
    return given.model_copy(update={"database": given.database.model_copy(update={"url": url})})


async def hedged(rig: HedgingRig, *fills: tuple[str, str, str]) -> list[str]:
    """Trade, and hedge until nothing is on the way; return the transactions."""
    transactions = [rig.trade(*fill) for fill in fills]
    async with rig.desk() as at:
        until_ms = rig.clock.now_ms() + 60_000
        done = await hedge_account(at, HedgeRequest(until_ms=until_ms))
        assert done.failed == 0 and done.passes > 5
    return transactions


async def test_what_the_ledger_has_is_shown_and_traced(url: str) -> None:
    async with hedging_rig(url) as rig:
        first, _ = await hedged(rig, ("AAPL", "sell", "2"), ("NVDA", "buy", "1.5"))
        settings = settings_of(rig, url)
        shown = actions.fills(settings, "", 20)
        assert [(one["symbol"], one["side"], D(one["shares"])) for one in shown["fills"]] == [
            ("AAPL", "sell", D(2)),
            ("NVDA", "buy", D("1.5")),
        ]
        [order] = actions.orders(settings, "AAPL", 20)["orders"]
        assert (order["side"], D(order["filled"]), order["state"]) == ("buy", 2, "CONFIRMED")
        for key in (first, order["order"], order["ref"]):
            [pair] = actions.trace(settings, key)["pairs"]
            assert pair["opener"].startswith(first) and pair["closer"].startswith(order["order"])
            assert (D(pair["shares"]), pair["what"]) == (2, "spread")
        body = actions.status(settings)
        assert {one["symbol"]: D(one["open_shares"]) for one in body["symbols"]} == {
            "AAPL": 0, "MSFT": 0, "NVDA": 0, "TSLA": 0
        }  # fmt: skip
        assert body["cursors"][0]["behind_blocks"] == 0 and not body["alerts"]
        sums = actions.pnl(settings, None)
        found, files = await account_for_hedging(rig.store, None)
        assert D(sums["realised_usd"]) == found.realised_usd and not files
        chain = D(rig.chain.market.truth(rig.chain.chain.height())["usdc"])
        assert found.net_cash_usd == chain + rig.account.cash - 1_000_000
        rows = list(csv.DictReader(io.StringIO(as_csv(found))))
        assert [row["trade_type"] for row in rows].count("ONCHAIN") == 2 and len(rows) == 4
        for refused in (
            lambda: actions.trace(settings, "nothing"),
            lambda: actions.fills(settings, "XYZ", 1),
        ):
            with pytest.raises(OperatorError):
                refused()


async def test_reading_again_changes_nothing_and_a_transaction_can_be_asked_for(url: str) -> None:
    async with hedging_rig(url) as rig:
        transaction = rig.trade("AAPL", "sell", "2")
        async with rig.desk() as at:
            first = await backfill_chain(at)
            assert (first.fills, rig.store.hedging.orders()) == (1, [])
            again = await backfill_chain(at, rig.start)
            assert (again.fills, again.block) == (0, first.block)
            late = rig.trade("AAPL", "sell", "1")
            assert (await read_transaction(at, late)).fills == 1
            assert (await read_transaction(at, transaction)).fills == 0
            with pytest.raises(OperatorError, match="no node knows"):
                await read_transaction(at, "0x" + "9" * 64)
            assert rig.store.hedging.exposure("AAPL").open_shares == -3


async def test_an_order_by_hand_is_booked_and_one_beyond_means_is_refused(url: str) -> None:
    async with (
        hedging_rig(url) as rig,
        rig.desk() as at,
        at.desk.leases.exclusive(at.lease, "a test") as fence,
    ):
        intent = await order_by_hand(at, "AAPL", "sell", D("1.5"), fence)
        [row] = rig.store.hedging.hedges(intent_id=intent.intent_id)
        assert (row.side, row.qty, rig.store.hedging.exposure("AAPL").open_shares) == (
            "sell",
            D("1.5"),
            D("-1.5"),
        )
        for symbol, side, shares, why in (
            ("AAPL", "buy", "0", "more than 0"),
            ("AAPL", "buy", "101", "the most of one order"),
            ("XYZ", "buy", "1", "not among"),
            ("AAPL", "buy", "0.00000000001", "9 decimals"),
        ):
            with pytest.raises(OperatorError, match=why):
                await order_by_hand(at, symbol, "buy" if side == "buy" else "sell", D(shares), fence)
        rig.broker.control("give", {"symbol": "TSLA", "qty": "-999.5"})
        with pytest.raises(OperatorError, match=r"only 0\.5"):
            await order_by_hand(at, "TSLA", "sell", D(1), fence)


async def test_two_processes_on_one_account_and_a_run_that_follows(url: str) -> None:
    async with hedging_rig(url) as rig, rig.desk() as at:
        async with at.desk.leases.exclusive(at.lease, "hedging"):
            with pytest.raises(LostRace):
                await hedge_account(at, HedgeRequest(), once=True)
            alarm_unwatched(rig.store, "alpaca", "a test")
            follows = asyncio.create_task(hedge_account(at, HedgeRequest(), once=True, wait_s=60))
            await asyncio.sleep(0)
            assert not follows.done()
        assert (await follows).passes == 1
        assert UNWATCHED not in {one.kind for one in rig.store.alerts(open_only=True)}
        assert last_by(rig.store, "alpaca")
        with pytest.raises(OperatorError, match="not at schwab"):
            await hedge_account(at, HedgeRequest(account="schwab"), once=True)


async def test_what_moved_without_an_order_is_reported_until_it_is_agreed(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.chain.market.move_vault("AAPL", D(50))
        rig.chain.market.move_vault("USDC", D(9_000))
        await hedged(rig, ("AAPL", "sell", "2"))
        async with rig.desk() as at:
            first = await reconcile_hedging(at)
            assert not first.differences
            assert {"NVDA in vaults", "MSFT in vaults", "TSLA in vaults"} == set(first.left_out)
        await hedged(rig, ("AAPL", "sell", "3"), ("AAPL", "buy", "0.25"))
        async with rig.desk() as at:
            assert not (await reconcile_hedging(at)).differences
            rig.broker.control("give", {"symbol": "AAPL", "qty": "1"})
            rig.broker.control("give", {"usd": "-12.5"})
            found = {one.what: one.venue - one.ledger for one in (await reconcile_hedging(at)).differences}
            assert found == {"AAPL at alpaca": 1, "cash at alpaca": D("-12.5")}
            assert {one.subject for one in rig.store.alerts(open_only=True) if one.kind == DIFFERS} == set(
                found
            )
            assert not (await reconcile_hedging(at, rebase=True)).differences
            assert not [one for one in rig.store.alerts(open_only=True) if one.kind == DIFFERS]


async def test_commands_answer_in_json_and_refuse_in_one_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "evenkeel.toml"
    config.write_text(f'[database]\nurl = "{url}"\n')
    monkeypatch.setenv("EVENKEEL_CONFIG", str(config))

    def called(*words: str) -> dict[str, object]:
        answer = CliRunner().invoke(app, ["hedging", *words, "--json"])
        assert answer.exit_code == 0, answer.output
        found: dict[str, object] = json.loads(answer.stdout)
        return found

    def all_of_them() -> None:
        assert called("status")["symbols"] == []
        assert called("fills") == {"fills": [], "all": 0}
        assert called("orders") == {"orders": []}
        assert called("pnl")["realised_usd"] == "0"
        for words in (["run", "--once"], ["backfill"], ["buy", "AAPL", "1"], ["process-tx", "0x" + "1" * 64]):
            refused = CliRunner().invoke(app, ["hedging", *words])
            assert isinstance(refused.exception, OperatorError) and "hedging is off" in str(refused.exception)

    await asyncio.to_thread(all_of_them)


async def test_a_login_needs_its_keys_and_says_that_nobody_is_logged_in(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "evenkeel.toml"
    config.write_text(f'[database]\nurl = "{url}"\n')
    monkeypatch.setenv("EVENKEEL_CONFIG", str(config))
    for name in ("EVENKEEL_SCHWAB_KEY", "EVENKEEL_SCHWAB_SECRET", "EVENKEEL_TOKEN_KEY"):
        monkeypatch.delenv(name, raising=False)

    def without_and_with() -> None:
        refused = CliRunner().invoke(app, ["auth", "status"])
        assert isinstance(refused.exception, OperatorError) and "EVENKEEL_SCHWAB_KEY" in str(
            refused.exception
        )
        monkeypatch.setenv("EVENKEEL_SCHWAB_KEY", "app")
        monkeypatch.setenv("EVENKEEL_SCHWAB_SECRET", "word")
        monkeypatch.setenv("EVENKEEL_TOKEN_KEY", token_hex(32))
        answer = CliRunner().invoke(app, ["auth", "status", "--json"])
        assert (answer.exit_code, json.loads(answer.stdout)) == (1, {"login": None})

    await asyncio.to_thread(without_and_with)
