"""Recorded answers of Hyperliquid, every field changed, through the real client: a row at most is lost, and named."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from evenkeel.errors import EvenkeelError
from tests.fuzz.mutations import Mutation, mutations_of
from tests.unit.test_hyperliquid_client import StandingClock
from twins.answers import altered
from venues.hyperliquid.client import HyperliquidClient

RECORDED = Path(os.environ.get("EVENKEEL_DATA", "no-data")) / "hyperliquid-api" / "info"
ROWS = 8
Reading = Callable[[HyperliquidClient], Awaitable[Any]]
READINGS: dict[str, Reading] = {
    "clearinghouseState": lambda client: client.clearinghouse_state("0xa"),
    "spotClearinghouseState": lambda client: client.spot_clearinghouse_state("0xa"),
    "fundingHistory": lambda client: client.funding_history("ETH", 0),
    "userFunding": lambda client: client.user_funding("0xa", 0),
    "userFillsByTime": lambda client: client.user_fills_by_time("0xa", 0),
    "userFills": lambda client: client.user_fills_by_time("0xa", 0),
    "userNonFundingLedgerUpdates": lambda client: client.non_funding_ledger("0xa", 0),
    "extraAgents": lambda client: client.extra_agents("0xa"),
    "metaAndAssetCtxs": lambda client: client.meta_and_asset_ctxs(),
    "meta": lambda client: client.meta(),
    "l2Book": lambda client: client.l2_book("BTC"),
}
"""By the type of the recorded request, what asks for it."""


def recordings() -> list[tuple[str, Any]]:
    found = []
    for path in sorted(RECORDED.glob("*.json")):
        rows = json.loads(path.read_text())
        for row in rows if isinstance(rows, list) else []:
            if (
                isinstance(row, dict)
                and row.get("request", {}).get("type") in READINGS
                and row.get("response")
            ):
                found.append((row["request"]["type"], shortened(row["response"])))
    return found


def shortened(value: Any) -> Any:
    """The same with at most so many rows in each list: the others are alike."""
    if isinstance(value, dict):
        return {key: shortened(inner) for key, inner in value.items()}
    return [shortened(inner) for inner in value[:ROWS]] if isinstance(value, list) else value


async def read(kind: str, body: Any) -> tuple[Any, dict[str, str]]:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=json.dumps(body))

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    client = HyperliquidClient("http://venue.test", StandingClock(), http=http)
    return await READINGS[kind](client), client.oddities.words()


@pytest.mark.skipif(not RECORDED.is_dir(), reason="needs the recordings of EVENKEEL_DATA")
async def test_no_change_of_a_recorded_answer_leaves_the_tree_of_errors_or_passes_in_silence() -> None:
    tried, wrong = 0, []
    for kind, body in recordings():
        whole, odd = await read(kind, body)
        assert not any(odd.values()), (kind, odd)
        for mutation in mutations_of("hyperliquid", kind, body, ["SOL", "BTC"]):
            tried += 1
            wrong += await _wrong(kind, body, whole, mutation)
    assert tried >= 500 and not wrong, (tried, wrong[:20])


async def _wrong(kind: str, body: Any, whole: Any, mutation: Mutation) -> list[str]:
    holder = [copy.deepcopy(body)]
    if not altered(holder, "field", {"path": list(mutation.path), **mutation.change}, kind):
        return []
    try:
        found, odd = await read(kind, holder[0])
    except EvenkeelError:
        return []
    except Exception as error:
        return [f"{mutation.name}: {type(error).__name__} {error}"]
    if isinstance(whole, list) and mutation.what not in ("missing", "before its hour"):
        lost = len(whole) - len(found)
        if lost > 1 or (lost and not any(odd.values())):
            return [f"{mutation.name}: {lost} rows are gone, {odd}"]
    return []
