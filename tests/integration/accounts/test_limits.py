"""Limits of a deployment and figures of an order: what cannot be meant is one line, and leaves no row and no signature."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app import cli
from app.accounts import actions
from app.accounts.limits import Asked
from evenkeel.errors import EvenkeelError
from evenkeel.settings.settings import Settings
from state.accounts.many import OSTIUM
from state.accounts.models import UserTable
from state.database import table_of
from state.store import Store
from strategy.accounts.share import FeeModel
from tests.accounts_rig import accounts_rig
from tests.databases import ManualClock, make_ledger
from tests.integration.accounts.test_commands import installed
from tests.service_rig import service_rig

WALLET = "0x" + "1" * 40
NO_NUMBER = ("", "abc", "NaN", "-NaN", "sNaN", "Infinity", "-inf", "1.5.2", "0x10")
BAD = {
    "collateral": (*NO_NUMBER, "0", "-0", "-1", "0.0000001", "1000000.000001", "1e30", "1.0000001", "1e-400"),
    "leverage": (*NO_NUMBER, "0", "-3", "0.99", "200.01", "1e9", "2.001"),
    "slippage-bps": (*NO_NUMBER, "0", "-1", "1001", "1000000000", "1.5"),
}
HEIGHT = 10_000_000_000


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A ledger with an agent, beside settings in which trades in users' names are switched off."""
    monkeypatch.chdir(tmp_path)
    for name in ("EVENKEEL_CONFIG", "EVENKEEL_ACCOUNT", "EVENKEEL_DATABASE__URL", "EVENKEEL_DATA"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    Path("evenkeel.toml").write_text('log_level = "ERROR"\n')
    make_ledger("sqlite:///evenkeel.db")
    store = Store.open("sqlite:///evenkeel.db", ManualClock())
    for name, venue, key in (("steady", OSTIUM, "0x" + "2" * 40), ("night", "hyperliquid", "a" * 16)):
        store.accounts.add_agent(name, venue, key, Decimal("0.1"), FeeModel.PER_TRADE, {})
    return store


def refused(patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line in which a command is refused."""
    patch.setattr("sys.argv", ["evenkeel", *words])
    patch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert ended.value.code == 2 and said.out == "" and line.startswith("evenkeel: "), (words, said)
    return line


def test_limits_that_are_none_are_refused_in_one_line(
    ledger: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, values in BAD.items():
        for value in values:
            line = refused(
                *(monkeypatch, capsys, "accounts", "deploy", WALLET, "--agent", "steady"),
                f"--{option}={value}",
            )
            assert option.partition("-")[0] in line and "managed accounts are off" not in line, (value, line)
    for wallet in ("", "0x12", WALLET + "1", "0x" + "g" * 40, "1" * 42, "0x" + "0" * 40, " " + WALLET[1:]):
        assert "wallet" in refused(monkeypatch, capsys, "accounts", "deploy", wallet, "--agent", "steady")
    for agent in ("nobody", "", "STEADY"):
        line = refused(monkeypatch, capsys, "accounts", "deploy", WALLET, "--agent", agent)
        assert f"there is no agent {agent!r}" in line
    assert "--agent" in refused(monkeypatch, capsys, "accounts", "deploy", WALLET)
    for option in BAD:
        line = refused(
            *(monkeypatch, capsys, "accounts", "deploy", WALLET, "--agent", "night", f"--{option}=2")
        )
        assert "users open by themselves" in line, "no limit is taken that nothing would keep"
    # Good limits, and settings by which nothing can be asked: no row of it either.
    off = ("accounts", "deploy", WALLET, "--agent")
    assert "managed accounts are off" in refused(monkeypatch, capsys, *off, "steady", "--collateral=5")
    assert "agents.enabled" in refused(monkeypatch, capsys, *off, "night")
    assert ledger.accounts.deployments(venue=None) == []
    with ledger._read() as database:
        assert database.execute(select(table_of(UserTable))).all() == []


def test_how_long_a_token_is_good_is_bounded(
    ledger: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for days in ("0", "-1", "3651", "1e3", "NaN", "abc", "", "1.5"):
        line = refused(monkeypatch, capsys, "accounts", "token", "new", "a", f"--days={days}")
        assert "--days" in line
    for more, says in (
        (("--scope", "all"), "scope"),
        (("--scope", ""), "scope"),
        (("--account", "0x12"), "wallet"),
    ):
        assert says in refused(monkeypatch, capsys, "accounts", "token", "new", "a", *more)
    assert ledger.access.tokens() == []


async def test_limits_given_again_hold_from_now_on_and_those_left_out_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_rig(tmp_path, speed=4) as rig, installed(rig, tmp_path, monkeypatch) as settings:
        accounts, user = rig.evm.stores[0].accounts, rig.users[0]

        async def stored(*limits: Any) -> list[Any]:
            body = await actions.deploy(settings, user, "steady", Asked(*limits))
            found = accounts.deployment(body["deployment_id"]).limits
            return [found[name] for name in ("most_collateral_usdc", "most_leverage", "most_slippage_bps")]

        await actions.add_agent(settings, "steady", None)
        assert await stored() == ["100", "3", 100]
        assert await stored(Decimal(40)) == ["40", "3", 100]
        assert await stored(None, Decimal("2.5"), 250) == ["40", "2.5", 250]
        assert await stored() == ["40", "2.5", 250]


def rows(store: Store, settings: Settings) -> Any:
    accounts = store.accounts
    return accounts.trades(), accounts.deployments(venue=None), store.intent_counts(), accounts.charges()


async def test_an_order_that_cannot_be_leaves_no_trade_and_its_name_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_rig(tmp_path, speed=4) as rig, installed(rig, tmp_path, monkeypatch) as settings:
        store = rig.evm.stores[0]
        usual: dict[str, Any] = {"collateral": "100", "leverage": "3", "slippage_bps": 100}

        async def opened(name: str = "t1", market: str = "SOL/USD", side: str = "long", **other: Any) -> Any:
            terms = usual | other
            size = Decimal(terms["collateral"]), Decimal(terms["leverage"])
            profit, limit = (
                Decimal(terms[key]) if key in terms else None for key in ("take_profit", "limit")
            )
            asked = (settings, "d0", market, side, *size, int(terms["slippage_bps"]), name, profit)
            return await actions.open_trade(*asked, limit=limit)

        async def fails(doing: Any, said: Any) -> None:
            before = rows(store, settings), rig.evm.calls("eth_sendRawTransaction")
            with pytest.raises(EvenkeelError) as why:
                await doing
            assert "\n" not in str(why.value), said
            assert (rows(store, settings), rig.evm.calls("eth_sendRawTransaction")) == before, said

        bad: list[dict[str, Any]] = [
            *({"collateral": one} for one in ("0", "-5", "0.0000001", "1e30", "501", "0.5")),
            *({"leverage": one} for one in ("0", "-3", "0.5", "3.001", "21", "1e9")),
            *({"slippage_bps": one} for one in (0, -1, 301, 10**9)),
            *({"limit": one} for one in ("0", "-5", "1e30", "160")),
            *({"take_profit": one} for one in ("0", "-5", "1e30", "140")),
            {"market": "DOGE/USD"},
            {"side": "up"},
        ]
        for one in bad:
            await fails(opened(**one), one)
        assert (await opened())["state"] == "OPEN", "the name was not used up by what was refused"
        for share, slippage in (
            *(("0", 100), ("-1", 100), ("1.1", 100), ("0.00001", 100)),
            *(("1", 0), ("1", -1), ("1", 301), ("1", 10**9)),
        ):
            doing = actions.close_trade(settings, "t1", Decimal(share), slippage)
            await fails(doing, (share, slippage))


async def test_a_body_with_limits_or_figures_that_are_none_is_refused(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        no_number = ["abc", "NaN", "Infinity", "-Infinity", "", True, None, [], {}, ["1"], "1.5.2"]
        limits = {"agent": "trend", "collateral": 80, "leverage": 2}
        caps = {"deployment": "d0", "trades": "12.5", "share": 1}
        order = {"address": rig.user, "market": "SOL", "side": "long", "collateral": 100, "leverage": 3}
        usdc = [0, -1, "0.0000001", "1e30", 10**40]
        times = [0, -3, "0.99", "2.001", 1001, "1e9"]
        points = [0, -1, 1001, 10**40, 1.5]
        fields: list[tuple[str, dict[str, Any], str, list[Any]]] = [
            ("/wallet/deployments", limits, "collateral", [*usdc, 1_000_001, "1.0000001"]),
            ("/wallet/deployments", limits, "leverage", [*times, "200.01"]),
            ("/wallet/calls", caps, "trades", [*usdc, 1_000_001]),
            ("/wallet/calls", caps, "share", [*usdc, 1_000_001]),
            ("/open-position", order, "collateral", usdc),
            ("/open-position", order, "leverage", times),
            ("/open-position", order, "slippageBps", points),
            ("/open-position", order | {"orderType": "limit"}, "price", [0, -5, "1e30"]),
            ("/open-position", order, "takeProfit", [0, -5, "1e30"]),
            ("/open-position", order, "stopLoss", [0, -5, "1e30"]),
            ("/close-position", {"trade": "none"}, "share", [0, -1, "1.1", "0.00001"]),
            ("/close-position", {"trade": "none"}, "slippageBps", points),
        ]
        before = rig.rows(), rig.store.accounts.deployments(), rig.signed()
        may_be_left_out = {"price", "takeProfit", "stopLoss", ("/open-position", "collateral")}
        for path, body, field, values in fields:
            for value in [*values, *no_number]:
                if value is None and (field in may_be_left_out or (path, field) in may_be_left_out):
                    continue
                answer = await rig.post(path, body | {field: value}, token=rig.of_user)
                said = (path, field, value, answer.status_code, answer.text)
                assert answer.status_code == 422 and answer.json()["error"].startswith(f"{field}: "), said
                assert "\n" not in answer.json()["error"], said
            for word in ("NaN", "Infinity", "-Infinity", "1e", "0x10", "9" * 5_000):
                text = json.dumps(body | {field: HEIGHT}).replace(str(HEIGHT), word)
                answer = await rig.post(path, text, token=rig.of_user)
                assert answer.status_code == 400 and "not JSON" in answer.json()["error"], (field, word[:20])
        for agent in ("nobody", "TREND", ""):
            answer = await rig.post("/wallet/deployments", limits | {"agent": agent}, token=rig.of_user)
            assert answer.status_code == 404 and "no such agent" in answer.json()["error"]
        for market in ("DOGE", "", "SOL/EUR", " "):
            answer = await rig.post("/open-position", order | {"market": market}, token=rig.of_user)
            assert answer.status_code == 422 and answer.json()["error"].startswith("market: "), market
        assert (rig.rows(), rig.store.accounts.deployments(), rig.signed()) == before
