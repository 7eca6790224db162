"""The service of managed accounts: what it does is done once, what it refuses leaves no row and no signature."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

import app.accounts.service as service_package
from app.accounts.service.tokens import DAY_MS, READ, new_token
from app.cli import app
from state.accounts.access import ANSWERS
from state.accounts.access_models import ApiTokenTable, KeptAnswerTable
from state.accounts.models import DeploymentState, TradeState
from state.database import table_of
from tasks.accounts.statement import EVENT_FIELDS, LINE_FIELDS, billing, statement
from tests.evm_rig import MILLION, PLATFORM
from tests.service_rig import ServiceRig, service_rig, serving

OPEN = {"market": "SOL-USD", "side": "long", "collateral": 100, "leverage": 3, "slippageBps": 100}


def test_an_answer_is_kept_by_token_and_key() -> None:
    assert {one.name for one in table_of(KeptAnswerTable).primary_key} == {"token_id", "key"}
    assert "token" not in table_of(ApiTokenTable).c


async def test_the_whole_way_from_opening_to_the_share(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        user = rig.rig.users[0]
        before = rig.rig.evm.balance(user)
        assert (await rig.http.get("/health")).json() == {"status": "ok", "service": "ostium"}
        opened = await rig.post("/open-position", {**OPEN, "address": user}, "one")
        assert opened.status_code == 200, opened.text
        assert opened.json()["result"]["state"] == "OPEN" and opened.json()["result"]["collateral"] == 100
        again = await rig.post("/open-position", {**OPEN, "address": user}, "one")
        assert (again.status_code, again.json()) == (200, opened.json())
        other = await rig.post("/open-position", {**OPEN, "address": user, "leverage": 2}, "one")
        assert other.status_code == 422 and "another request" in other.json()["error"]
        assert rig.signed() == 1

        [held] = (await rig.get("/positions", address=user)).json()["positions"]
        assert (held["market"], held["side"], held["state"]) == ("SOL-USD", "long", "OPEN")
        assert held == (await rig.post("/positions", {"address": user}, None)).json()["positions"][0]
        money = (await rig.get("/balance", rig.of_user)).json()
        assert (money["balance"], money["inTrades"]) == (900, 100)

        rig.rig.move("156")
        closed = (await rig.post("/close-position", {"market": "SOL-USD"}, "two", rig.of_user)).json()
        wallet = Decimal(rig.rig.evm.balance(user) - before) / MILLION
        assert closed["success"] and Decimal(str(closed["closePnl"])) == wallet > 10
        assert closed["result"]["exitPrice"] == 156
        none = (await rig.post("/close-position", {"market": "SOL-USD"}, token=rig.of_user)).json()
        assert none == {"success": True, "message": "No open position", "closePnl": 0}

        [charge] = rig.store.accounts.charges()
        paid = await rig.post("/transfer", {"charge": charge.charge_id}, "three")
        assert paid.status_code == 200, paid.text
        assert paid.json()["result"]["toAddress"] == PLATFORM
        assert rig.rig.evm.balance(PLATFORM) == int(charge.usdc * MILLION)
        assert (await rig.post("/transfer", {"charge": charge.charge_id}, "three")).json() == paid.json()
        late = await rig.post("/transfer", {"charge": charge.charge_id})
        assert late.status_code == 409 and "COLLECTED" in late.json()["error"]
        assert rig.signed() == 3

        # What was done and not answered for is found by its key.
        for key, path, body, token, said in (
            ("two", "/close-position", {"market": "SOL-USD"}, rig.of_user, closed),
            ("three", "/transfer", {"charge": charge.charge_id}, None, paid.json()),
        ):
            with rig.store.access._write() as db:
                db.execute(update(ANSWERS).where(ANSWERS.c.key == key).values(status=None, answer=None))
            assert (await rig.post(path, body, key, token)).json() == said
        assert rig.signed() == 3

        after = Decimal(rig.rig.evm.balance(user) - before) / MILLION
        made = statement(rig.store, rig.user, rig.settings.ostium.markets)
        assert Decimal(made["total_usdc"]) == after == wallet - charge.usdc
        assert [one["what"] for one in made["lines"]] == ["opened", "closed: market", "share of profit"]
        assert (made["owed_usdc"], made["under_way"]) == ("0", [])
        [event] = billing(rig.store)
        assert (event["kind"], event["status"], Decimal(event["amount"])) == (
            "PROFIT_SHARE",
            "COLLECTED",
            charge.usdc,
        )
        assert event["trade"] == opened.json()["result"]["trade"] and billing(rig.store, PLATFORM) == []
        assert set(event) == set(EVENT_FIELDS) and set(made["lines"][0]) == set(LINE_FIELDS)


async def test_what_is_refused_leaves_no_row_and_no_signature(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with service_rig(tmp_path) as rig:
        access, other = rig.store.access, rig.rig.users[1].lower()
        _, late = new_token(access, "late", "", (READ,), 0)
        row, gone = new_token(access, "gone", "", (READ,), DAY_MS)
        access.revoke_token(row.token_id)
        _, reads = new_token(access, "reads", rig.user, (READ,), DAY_MS)
        _, others = new_token(access, "other", other, ("trade",), DAY_MS)
        opened = (await rig.post("/open-position", {**OPEN, "address": rig.user})).json()["result"]
        before, sent = rig.rows(), rig.signed()
        secret, mine = "0x" + "ab" * 32, {**OPEN, "address": rig.user}
        cases: list[tuple[int, str, str, Any, str | None]] = [
            (422, "market: not among", "/open-position", mine | {"market": "DOGE-USD"}, None),
            (422, "least size", "/open-position", mine | {"collateral": 1, "leverage": 1}, None),
            (422, "allowed is 20", "/open-position", mine | {"leverage": 21}, None),
            (422, "above the market's", "/open-position", mine | {"leverage": 200}, None),
            (422, "allowed is 500", "/open-position", mine | {"collateral": 600}, None),
            (422, "collateral", "/open-position", mine | {"collateral": "NaN"}, None),
            (400, "not JSON", "/open-position", '{"collateral": NaN}', None),
            (422, "size", "/open-position", mine | {"size": 1}, None),
            (422, "side", "/open-position", mine | {"side": "up"}, None),
            (422, "a field", "/open-position", mine | {secret: 1}, None),
            (404, "no account", "/open-position", mine | {"address": "0x" + "12" * 20}, None),
            (422, "address", "/open-position", mine | {"address": "0x12"}, None),
            (403, "alone", "/open-position", mine, others),
            (404, "no such trade", "/close-position", {"trade": opened["trade"]}, others),
            (404, "no such trade", "/close-position", {"tradeId": "77"}, rig.of_user),
            (422, "name one", "/close-position", {}, rig.of_user),
            (403, "scope", "/open-position", mine, reads),
            (401, "expired", "/positions", {}, late),
            (401, "revoked", "/positions", {}, gone),
            (401, "not known", "/positions", {}, "nonsense"),
            (404, "no such charge", "/transfer", {"charge": "no"}, None),
            (422, "toAddress", "/transfer", {"charge": "no", "toAddress": other}, None),
            (400, "secret key", "/open-position", mine | {"privateKey": secret}, None),
            (400, "secret key", "/transfer", {"deep": [{"fromPrivateKey": secret}]}, None),
            (400, "secret key", f"/open-position?privateKey={secret}", mine, None),
            (400, "secret key", "/cancel-order", {"trade": opened["trade"], "private_key": secret}, None),
            (400, "secret key", "/balance", {"fromPrivateKey": secret}, None),
            (400, "secret key", "/wallet/deployments", {"agent": "trend", "mnemonic": secret}, rig.of_user),
            (400, "secret key", "/wallet/session", {"privateKey": secret}, None),
        ]
        for status, says, path, body, token in cases:
            answer = await rig.post(path, body, token=token)
            error = answer.json()["error"]
            assert answer.status_code == status and says in error and "\n" not in error, (path, body, error)
            assert secret not in answer.text and secret[2:] not in caplog.text
        bare = await rig.post("/open-position", mine, None)
        assert bare.status_code == 400 and "Idempotency-Key" in bare.json()["error"]
        assert (await rig.http.get("/positions")).status_code == 401
        assert (await rig.http.get("/", headers={"host": "evil.example"})).status_code == 400
        assert (await rig.http.post("/open-position", content="x" * 20_000)).status_code == 413
        form = await rig.post("/open-position", mine, **{"content-type": "text/plain"})
        assert form.status_code == 415
        assert (rig.rows(), rig.signed()) == (before, sent)
        assert secret[2:].encode() not in (tmp_path / "evm.db").read_bytes()


async def test_openings_that_are_paused_are_refused_and_closes_go_on(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        mine = {**OPEN, "address": rig.user}
        opened = await rig.post("/open-position", mine)
        assert opened.status_code == 200, opened.text
        rig.store.accounts.move_deployment("d0", DeploymentState.PAUSED, "test")
        refused = await rig.post("/open-position", mine)
        assert refused.status_code == 409 and "PAUSED" in refused.json()["error"]
        assert (await rig.post("/close-position", {"market": "SOL"}, token=rig.of_user)).json()["success"]


async def test_a_close_that_the_wallet_cannot_pay_stands_as_a_stop_at_the_market(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        assert (await rig.post("/open-position", {**OPEN, "address": rig.user})).status_code == 200
        evm, user = rig.rig.evm, rig.rig.users[0]
        evm.transact(user, evm.usdc, "transfer(address,uint256)", rig.rig.users[2], evm.balance(user))
        before = [one.stop for one in rig.store.accounts.trades()]
        answer = await rig.post("/close-position", {"market": "SOL"}, "same", token=rig.of_user)
        assert answer.status_code == 202 and "its stop stands at the market" in answer.json()["message"]
        [trade] = rig.store.accounts.trades()
        assert trade.state is TradeState.CLOSING and [trade.stop] != before
        sent = rig.signed()
        again = await rig.post("/close-position", {"market": "SOL"}, "same", token=rig.of_user)
        assert (again.status_code, again.json()) == (202, answer.json()) and rig.signed() == sent


async def test_one_key_asked_for_many_times_at_once_is_one_trade(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        body = {**OPEN, "address": rig.user}
        answers = await asyncio.gather(*(rig.post("/open-position", body, "same") for _ in range(6)))
        assert {json.dumps(one.json()) for one in answers} == {json.dumps(answers[0].json())}
        assert len(rig.store.accounts.trades()) == 1 and rig.signed() == 1


async def test_a_process_that_dies_is_followed_by_one_that_goes_on_with_the_same_key(tmp_path: Path) -> None:
    """Between what is stored and what is answered, at each of three acts: nothing is done twice."""
    async with service_rig(tmp_path) as rig:
        rig.rig.works = False
        body = {**OPEN, "address": rig.user}
        await _broken_off(rig, "/open-position", body, "open", lambda: rig.acts() == 1)
        rig.rig.works = True
        async with serving(rig.settings) as (_, address):
            opened = await _after(rig, address, "/open-position", body, "open")
            assert opened["result"]["state"] == "OPEN" and rig.acts() == 1
            rig.rig.move("156")
            rig.rig.works = False
            part = {"address": rig.user, "market": "SOL", "share": 0.5}
            await _broken_off(rig, "/close-position", part, "close", lambda: rig.acts() == 2)
            rig.rig.works = True
            closed = await _after(rig, address, "/close-position", part, "close")
            assert closed["closePnl"] > 5 and rig.acts() == 2
            [trade] = rig.store.accounts.trades()
            assert (trade.state, trade.paid_usdc) == (TradeState.OPEN, 50)
            # The answer is kept, whoever is asked.
            again = await _after(rig, address, "/close-position", part, "close")
            assert again == closed and rig.acts() == 2


async def _broken_off(rig: ServiceRig, path: str, body: Any, key: str, when: Any) -> None:
    """Ask, and end what the server does for it as soon as the order is on the chain."""
    asked = asyncio.create_task(rig.post(path, body, key))
    while not when():
        await asyncio.sleep(0.02)
    before = {one for one in asyncio.all_tasks() if "RequestResponseCycle" in repr(one.get_coro())}
    for one in before:
        one.cancel()
    asked.cancel()
    await asyncio.gather(asked, *before, return_exceptions=True)


async def _after(rig: ServiceRig, address: str, path: str, body: Any, key: str) -> Any:
    answer = await rig.post(address + path, body, key)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_its_interface_is_described(tmp_path: Path) -> None:
    async with service_rig(tmp_path) as rig:
        shown = await rig.http.get("/")
        assert re.findall(r'(?:src|href)="([^"]+)"', shown.text) == [
            "/static/pages/icon.svg",
            "/static/pages/pages.css",
            "/static/accounts/accounts.css",
            "/static/accounts/accounts.mjs",
            "#content",
        ]
        assert "script-src 'self';" in shown.headers["content-security-policy"]
        for path in ("accounts.mjs", "calls.mjs", "wallet.mjs", "ostium-adapter.mjs"):
            module = await rig.http.get(f"/static/accounts/{path}")
            assert "javascript" in module.headers["content-type"]
            assert all(
                one.startswith("/static/accounts/") for one in re.findall(r'from "([^"]+)"', module.text)
            )
        described = (await rig.http.get("/openapi.json")).json()
        assert set(described["paths"]) == {
            "/health",
            "/balance",
            "/positions",
            "/open-position",
            "/close-position",
            "/cancel-order",
            "/transfer",
        }
        opening = described["paths"]["/open-position"]["post"]
        assert opening["security"] == [{"token": []}]
        assert opening["parameters"][0]["name"] == "Idempotency-Key"
        fields = opening["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert {"market", "side", "size", "slippageBps"} <= set(fields) and "privateKey" not in fields


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node here: `apt-get install nodejs`")
async def test_a_program_uses_the_adapter(tmp_path: Path) -> None:
    script = f"""
import {{ closeOstiumPosition, connectOstium, getOstiumBalance, getOstiumPositions, openOstiumPosition }}
  from '{(Path(service_package.__file__).parent / "static" / "ostium-adapter.mjs").as_uri()}';
connectOstium({{ token: process.env.TOKEN }});
const address = process.env.ADDRESS;
const asked = {{ market: 'SOL-USD', side: 'long', size: 2, leverage: 3, slippageBps: 100, takeProfit: 200 }};
const opened = await openOstiumPosition({{ ...asked, idempotencyKey: 'mine' }});
const same = await openOstiumPosition({{ ...asked, idempotencyKey: 'mine' }});
const positions = await getOstiumPositions(address);
const balance = await getOstiumBalance(address);
const refused = await openOstiumPosition({{ ...asked, leverage: 21 }}).catch((fault) => [fault.status, fault.message]);
const closed = await closeOstiumPosition({{ market: 'SOL-USD' }});
console.log(JSON.stringify({{ opened, same, positions, balance, refused, closed }}));
"""
    async with service_rig(tmp_path) as rig:
        given = {"OSTIUM_SERVICE_URL": rig.address, "TOKEN": rig.of_user, "ADDRESS": rig.user}
        done = await asyncio.create_subprocess_exec(
            "node", "--input-type=module", "-e", script, stdout=-1, stderr=-1, env=os.environ | given
        )
        printed, faults = await done.communicate()
        assert done.returncode == 0, faults.decode()
        found = json.loads(printed)
        assert found["opened"] == found["same"] and found["opened"]["result"]["collateral"] == 100
        [held] = found["positions"]
        assert (held["market"], held["state"], held["leverage"]) == ("SOL-USD", "OPEN", 3)
        [opening] = [one for one in rig.store.intents_of("accounts", held["trade"]) if one.kind == "open"]
        assert opening.order["take_profit"] == "200"
        assert found["balance"]["inTrades"] == 100
        assert found["refused"][0] == 422 and "allowed is 20" in found["refused"][1]
        assert found["closed"]["success"] and found["closed"]["closePnl"] < 0


async def test_an_installation_serves_and_ends_when_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a person starts it: `evenkeel accounts serve`, with PORT, until SIGTERM; tokens made beside it are taken."""
    async with service_rig(tmp_path) as rig:
        config = tmp_path / "evenkeel.toml"
        ostium, at = rig.settings.ostium, rig.rig.venue.at
        config.write_text(
            f'[database]\nurl = "{rig.rig.evm.ledger}"\n[collector]\nplatform_wallet = "{PLATFORM}"\n'
            f'[hyperliquid]\nurl = "{rig.settings.hyperliquid.url}"\n'
            f'[ostium]\nenabled = true\nrpc_url = "{ostium.rpc_url}"\nprices_url = "{ostium.prices_url}"\n'
            + "".join(f'{name} = "{at[name]}"\n' for name in ("trading", "storage", "usdc"))
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))

        def run(*words: str) -> str:
            done = CliRunner().invoke(app, ["--config", str(config), "accounts", *words])
            assert done.exit_code == 0, done.output
            return done.output

        token = json.loads(run("token", "new", "mine", "--account", rig.user, "--days", "3650", "--json"))
        assert token["scopes"] == ["read"] and token["token"].startswith(f"evenkeel_{token['token_id']}_")
        command = [sys.executable, "-m", "app.cli", "--config", str(config), "accounts"]
        serving = await asyncio.create_subprocess_exec(*command, "serve", stdout=-1, stderr=-1)
        try:
            assert serving.stdout is not None
            said = (await asyncio.wait_for(serving.stdout.readline(), 60)).decode()
            assert said == f"managed accounts are at http://127.0.0.1:{port}/\n"
            url = f"http://127.0.0.1:{port}"
            assert (await rig.http.get(f"{url}/health")).json()["status"] == "ok"
            answer = await rig.get(f"{url}/balance", token["token"])
            assert answer.json()["balance"] == 1000
            assert json.loads(run("token", "revoke", token["token_id"], "--json"))["revoked"] is True
            assert (await rig.get(f"{url}/balance", token["token"])).status_code == 401
        finally:
            serving.terminate()
            printed, faults = await serving.communicate()
        assert (serving.returncode, printed, faults) == (0, b"", b"")
        for words in (("token", "list"), ("statement", rig.user), ("billing",)):
            for form in ((), ("--json",)):
                assert token["token"] not in run(*words, *form)
        assert run("billing", "--csv").startswith("occurred_at,kind,deployment_id")
        assert run("statement", rig.user, "--csv").startswith("at,what,trade")
