"""Faults of answers, of one endpoint alone, of the host's clock and of one account, as any client of the twins meets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from solders.compute_budget import set_compute_unit_price
from solders.pubkey import Pubkey

from tests.chains import SOL, bench
from tests.worlds import flat_world
from twins.faults import Fault
from twins.odd_rows import ODD_ROWS
from twins.serve import BuiltTwins, TwinOptions, build_twins
from twins.solana.fees import recent_fees

HOSTS = {
    "hyperliquid": "http://hl",
    "solana": "http://node",
    "asgard": "http://api",
    "control": "http://control",
}


class Client:
    """An HTTP client of each twin, without a network in between."""

    def __init__(self, built: BuiltTwins) -> None:
        self.built = built
        self.http = {
            name: httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOSTS[name])
            for name, app in built.apps.items()
        }
        self.user = built.keys["hyperliquid"]["account_address"]
        self.wallet = built.keys["solana"]["address"]

    def fault(self, venue: str, kind: str, call: str, times: int = -1, **args: Any) -> Fault:
        planned = Fault(venue, kind, call, times=times, args=args)
        self.built.faults.add(planned)
        return planned

    async def info(self, kind: str, **body: Any) -> Any:
        return (await self.http["hyperliquid"].post("/info", json={"type": kind, **body})).json()

    async def rpc(self, method: str, *params: Any) -> dict[str, Any]:
        call = {"jsonrpc": "2.0", "id": 3, "method": method, "params": list(params)}
        return dict((await self.http["solana"].post("/", json=call)).json())

    async def asgard(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"X-API-Key": self.built.keys["asgard"]["api_key"]}
        return await self.http["asgard"].request(method, "/margin-trading" + path, json=body, headers=headers)

    async def control(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.http["control"].request(method, "/control" + path, json=body)


@pytest.fixture
async def at() -> AsyncIterator[Client]:
    made = Client(build_twins(TwinOptions(), flat_world(speed=1e-9)))
    yield made
    for one in made.http.values():
        await one.aclose()


async def test_any_field_takes_any_value_by_its_path(at: Client) -> None:
    before = await at.info("metaAndAssetCtxs")
    sol = next(i for i, row in enumerate(before[0]["universe"]) if row["name"] == "SOL")
    planned = at.fault("hyperliquid", "field", "info:metaAndAssetCtxs", path=f"1.{sol}.markPx", value=None)
    after = await at.info("metaAndAssetCtxs")
    assert after[1][sol].pop("markPx") is None and before[1][sol].pop("markPx")
    assert after == before and planned.hits == 1
    assert at.built.faults.calls[-1]["fault"] == "field"
    at.built.faults.clear()

    at.fault(
        "hyperliquid", "field", "info:metaAndAssetCtxs", path="0.universe.[name=SOL].szDecimals", missing=True
    )
    at.fault("hyperliquid", "field", "info:metaAndAssetCtxs", path="1.*.premium", value="NaN")
    at.fault("hyperliquid", "field", "info:metaAndAssetCtxs", path="0.universe", extra={"name": "NEW"})
    after = await at.info("metaAndAssetCtxs")
    assert "szDecimals" not in after[0]["universe"][sol] and after[0]["universe"][-1] == {"name": "NEW"}
    assert {row["premium"] for row in after[1]} == {"NaN"}


async def test_a_field_freezes_at_its_first_value_or_is_scaled(at: Client) -> None:
    row = "tokens.[symbol=SOL].price"
    at.fault("asgard", "field", "GET /token-metadata", path=row, freeze=True)
    prices = []
    for price in (200.0, 180.0):
        at.built.world.overrides.sol_price = price
        listed = (await at.asgard("GET", "/token-metadata")).json()["tokens"]
        prices.append(next(one["price"] for one in listed if one["symbol"] == "SOL"))
    assert prices == [200.0, 200.0]
    at.built.faults.clear()
    at.fault("asgard", "field", "GET /token-metadata", path=row, scale="0.5", times=1)
    answers = [(await at.asgard("GET", "/token-metadata")).json()["tokens"] for _ in range(2)]
    assert [next(one["price"] for one in listed if one["symbol"] == "SOL") for listed in answers] == [
        90.0,
        180.0,
    ]
    at.fault("hyperliquid", "field", "info:allMids", path="SOL", scale="0.5")
    assert (await at.info("allMids"))["SOL"].startswith("90")


async def test_a_change_that_finds_nothing_does_not_count(at: Client) -> None:
    state = {"user": at.user}
    planned = at.fault("hyperliquid", "field", "info:.*", times=1, path="withdrawable", value="NaN")
    await at.info("allMids")
    assert (planned.hits, planned.times) == (0, 1) and at.built.faults.calls[-1]["fault"] == ""
    assert (await at.info("clearinghouseState", **state))["withdrawable"] == "NaN"
    assert (await at.info("clearinghouseState", **state))["withdrawable"] == "50000.0"
    with pytest.raises(ValueError, match="exactly one of"):
        at.fault("hyperliquid", "field", "info:.*", path="withdrawable")
    answer = await at.control("POST", "/faults", {"venue": "solana", "kind": "field", "args": {"value": 1}})
    assert answer.status_code == 422 and "path must be" in answer.json()["error"]


async def test_json_rpc_answers_change_by_path_too(at: Client) -> None:
    at.fault("solana", "field", "rpc:getBalance", path="result.value", value="NaN")
    assert (await at.rpc("getBalance", at.wallet))["result"]["value"] == "NaN"
    assert (await at.rpc("getBlockHeight"))["result"] > 0


async def test_an_odd_row_comes_beside_the_ones_that_are_there(at: Client) -> None:
    state = {"user": at.user}
    before = await at.info("spotClearinghouseState", **state)
    for call, venue in (
        ("info:clearinghouseState", "hyperliquid"),
        ("info:spotClearinghouseState", "hyperliquid"),
    ):
        at.fault(venue, "odd_row", call)
    odd = (await at.info("clearinghouseState", **state))["assetPositions"]
    assert [row["position"]["coin"] for row in odd] == ["DOGE"]
    after = (await at.info("spotClearinghouseState", **state))["balances"]
    assert after[:-1] == before["balances"] and after[-1]["total"] == "NaN"
    at.fault("asgard", "odd_row", "GET /markets")
    strategies = (await at.asgard("GET", "/markets")).json()["strategies"]
    assert {one["lendingProtocol"] for one in strategies["SOL/USDC"]["liquiditySources"]} == {0, 1, 2, 3, 9}
    assert "ODD/USDC" in strategies
    own = {"like": 0, "change": {"delta.type": "send", "delta.usdc": None}, "at": 0}
    at.fault("hyperliquid", "odd_row", "info:userNonFundingLedgerUpdates", path=[], **own)
    rows = await at.info("userNonFundingLedgerUpdates", user=at.user, startTime=0)
    assert [row["delta"]["type"] for row in rows] == ["send", "deposit"] and rows[0]["delta"]["usdc"] is None


@pytest.mark.parametrize("call", sorted(ODD_ROWS))
async def test_every_listed_odd_row_belongs_to_a_call_that_exists(at: Client, call: str) -> None:
    venue = {"i": "hyperliquid", "r": "solana"}.get(call[0], "asgard")
    planned = at.fault(venue, "odd_row", call)
    if venue == "hyperliquid":
        body = {"user": at.user, "coin": "SOL", "startTime": 0, "type": call.removeprefix("info:")}
        answer = await at.http[venue].post("/info", json=body)
    elif venue == "asgard":
        method, path = call.split(" ")
        answer = await at.asgard(method, path, {"walletPubkey": at.wallet, "positionPDAs": []})
    else:
        return
    assert answer.status_code == 200, answer.text
    empty = {"info:userFunding", "info:userFills", "info:userFillsByTime", "POST /refresh-positions"}
    assert planned.hits == (call not in empty)


async def test_one_endpoint_is_down_and_every_other_one_works(at: Client) -> None:
    at.fault("asgard", "one_endpoint", "GET /markets")
    assert (await at.asgard("GET", "/markets")).status_code == 500
    assert (await at.asgard("GET", "/token-metadata")).status_code == 200
    at.fault("solana", "one_endpoint", "rpc:getAccountInfo", how="rpc_error", code=-32603)
    assert (await at.rpc("getAccountInfo", at.wallet))["error"]["code"] == -32603
    assert (await at.rpc("getBalance", at.wallet))["result"]["value"] > 0
    at.fault("hyperliquid", "one_endpoint", "info:meta", how="503")
    answer = await at.http["hyperliquid"].post("/info", json={"type": "meta"})
    assert answer.status_code == 503 and (await at.info("allMids"))["SOL"]
    with pytest.raises(ValueError, match="needs the `call`"):
        at.fault("solana", "one_endpoint", ".*")
    with pytest.raises(ValueError, match="down in one of these ways"):
        at.fault("solana", "one_endpoint", "rpc:getSlot", how="tired")


async def test_the_hosts_clock_is_wrong_and_the_venues_are_not(at: Client) -> None:
    world = at.built.world
    anchor = (await at.control("POST", "/clock", {"host_ahead_s": -12})).json()
    assert world.now_ms() - anchor["world_ms"] == pytest.approx(12_000, abs=50)
    for name, path, body in (
        ("hyperliquid", "/info", {"type": "allMids"}),
        ("solana", "/", {"jsonrpc": "2.0", "id": 1, "method": "getSlot"}),
        ("asgard", "/margin-trading/token-metadata", None),
    ):
        answer = await at.http[name].request("POST" if body else "GET", path, json=body)
        (date,) = answer.headers.get_list("date")
        assert parsedate_to_datetime(date).timestamp() == pytest.approx(world.now_ms() / 1000, abs=1.1)
    # A client of the host's clock waits as long as it asked for.
    before = world.now_ms()
    await at.control("POST", "/clock/advance", {"until_ms": anchor["world_ms"] + 5_000})
    assert world.now_ms() - before == pytest.approx(5_000, abs=50)
    await at.control("POST", "/clock", {"host_ahead_s": 0})
    assert (await at.control("GET", "/clock")).json()["world_ms"] == pytest.approx(world.now_ms(), abs=50)


async def test_an_account_is_congested_alone() -> None:
    b = bench()
    busy, quiet = Pubkey.new_unique(), Pubkey.new_unique()
    b.chain.control("congestion", {"account": str(busy), "micro_lamports": 50_000, "binding": True})
    free, poor = b.pay(quiet, SOL), b.pay(busy, SOL)
    rich = b.signed(set_compute_unit_price(60_000), b.transfer(busy, SOL))
    for tx in (free, poor, rich):
        b.chain.submit(bytes(tx))
    landed = [b.chain.transaction(tx.signatures[0]) is not None for tx in (free, poor, rich)]
    assert landed == [True, False, True]
    b.pass_blocks(10)
    assert b.chain.transaction(poor.signatures[0]) is None
    b.chain.control("congestion", {"account": str(busy), "micro_lamports": 0})
    b.pass_blocks(1)
    assert b.chain.transaction(poor.signatures[0]) is not None

    b.chain.control("congestion", {"account": str(busy), "micro_lamports": 50_000, "binding": True})
    late = b.pay(busy, 2 * SOL)
    b.chain.submit(bytes(late))
    b.pass_blocks(200)
    b.chain.control("congestion", {"account": str(busy), "micro_lamports": 0})
    b.pass_blocks(5)
    assert b.chain.transaction(late.signatures[0]) is None, "expired while it waited"


async def test_a_price_that_begins_now_leaves_the_blocks_before_it_as_they_were() -> None:
    b, busy = bench(), Pubkey.new_unique()

    def dear() -> list[bool]:
        return [row["prioritizationFee"] > 0 for row in recent_fees(b.chain, [busy])]

    b.chain.control("congestion", {"account": str(busy), "micro_lamports": 100_000, "from_now": True})
    assert dear() == [False] * 150
    b.pass_blocks(40)
    assert dear() == [False] * 110 + [True] * 40
    b.chain.control("congestion", {"account": str(busy), "micro_lamports": 0, "from_now": True})
    b.pass_blocks(5)
    assert dear() == [False] * 105 + [True] * 40 + [False] * 5


async def test_fees_asked_for_an_account_show_its_own_congestion(at: Client) -> None:
    busy = str(Pubkey.new_unique())
    at.built.chain.control("congestion", {"account": busy, "micro_lamports": 100_000})
    fees = (await at.rpc("getRecentPrioritizationFees", [busy]))["result"]
    assert min(row["prioritizationFee"] for row in fees) >= 80_000
    assert {row["prioritizationFee"] for row in (await at.rpc("getRecentPrioritizationFees"))["result"]} == {
        0
    }
