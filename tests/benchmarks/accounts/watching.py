"""The process that is measured: it watches all accounts and asks for openings, as it is asked to line by line.

    {"do": "tick", "check": false}    one tick; with `check` the subgraph is compared
    {"do": "open", "deployments": [], "at_once": true}

It answers each line with its own processor time, its resident memory, and what it did.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from app.accounts.service.service import Service
from app.accounts.service.site import make_app, outside
from app.accounts.service.tokens import DAY_MS, SCOPES, new_token
from evenkeel.settings.settings import Settings, load_settings, settings_path
from tasks.accounts.alerts import ACCOUNTS_WATCH
from tasks.accounts.desk import AccountsDesk, open_accounts_desk
from tasks.accounts.watcher import CHECK_EVERY, AccountsWatcher
from tests.benchmarks.stopwatch import Stopwatch

SEND = b"eth_sendRawTransaction"
PACE_S = 30.0


class Watched(httpx.AsyncBaseTransport):
    """What a client takes is somebody else's time; at the first transaction on its way the watch is stopped."""

    def __init__(self, inner: httpx.AsyncBaseTransport, watch: Stopwatch, sent: list[float]) -> None:
        self._inner, self._watch, self._sent = inner, watch, sent

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if SEND in request.content and self._watch.ended < self._watch.began:
            self._watch.stop()
            self._sent.append(self._watch.own_ms)

        async def call() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            await answer.aread()
            return answer

        found: httpx.Response = await self._watch.other(call)
        return found


def memory_mb() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(one for one in status if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def _tick(watcher: AccountsWatcher, check: bool) -> dict[str, Any]:
    watcher.check_every = 1 if check else CHECK_EVERY**9
    await watcher.desk.desk.clock.sleep(PACE_S)
    wall, cpu = time.perf_counter(), time.process_time()
    report = await watcher.tick()
    found = {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "memory_mb": memory_mb(),
    }
    if report is None:
        return found | {"failed": True}
    return found | {
        "settled": report.settled,
        "faults": list(report.faults.values())[:3],
        "moved": len(report.moved_stops),
    }


async def _open(
    settings: Settings, desk: AccountsDesk, deployments: list[str], at_once: bool
) -> dict[str, Any]:
    """Ask the service for an opening of each: all at once, or one after another with the time of each up to its bytes."""
    watch, sent, keys, refused = Stopwatch(), list[float](), count(), list[str]()
    if not at_once:
        for client in (desk.where.rpc, desk.prices, desk.second._client):
            client._http._transport = Watched(client._http._transport, watch, sent)  # type: ignore[union-attr]
    service = Service(settings, desk)
    _, token = new_token(service.store.access, f"bench {time.time_ns()}", "", SCOPES, DAY_MS)
    app = outside(make_app(service))
    address = f"http://127.0.0.1:{settings.service.port}"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=address, timeout=None) as http:

        async def one(deployment: str) -> int:
            account = service.store.accounts.deployment(deployment).account
            body = {
                "address": account,
                "market": "SOL-USD",
                "side": "long",
                "collateral": 20,
                "leverage": 2,
                "stopLoss": 140,
                "slippageBps": 100,
            }
            head = {
                "authorization": f"Bearer {token}",
                "idempotency-key": f"bench-{time.time_ns()}-{next(keys)}",
            }
            watch.start()
            answer = await http.post("/open-position", json=body, headers=head)
            if not answer.is_success:
                refused.append(answer.text)
            return answer.status_code

        cpu = time.process_time()
        if at_once:
            codes = await asyncio.gather(*(one(name) for name in deployments))
        else:
            codes = [await one(name) for name in deployments]
    return {"codes": codes, "refused": refused[:3], "own_ms": sent, "cpu_s": time.process_time() - cpu}


async def main() -> None:
    settings = load_settings(settings_path())
    async with (
        open_accounts_desk(settings) as desk,
        desk.desk.exclusive(ACCOUNTS_WATCH, "the watch of the accounts") as fence,
    ):
        watcher = AccountsWatcher(desk, fence)
        answer: dict[str, Any] = {"memory_mb": memory_mb()}
        while True:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
            line = await asyncio.to_thread(sys.stdin.readline)
            if not line:
                return
            asked = json.loads(line)
            if asked["do"] == "tick":
                answer = await _tick(watcher, asked.get("check", False))
            else:
                answer = await _open(settings, desk, asked["deployments"], asked["at_once"])


if __name__ == "__main__":
    asyncio.run(main())
