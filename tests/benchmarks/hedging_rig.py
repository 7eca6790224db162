"""What hedging is measured on: the twins in threads of their own, a desk in this one, and a process that reads back."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from subprocess import PIPE, run
from typing import Any

import httpx

from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import hedging_desk
from tests.databases import make_ledger
from tests.hedging_rig import keys_of
from tests.hedging_settings import alpaca_section, hedging_section, settings_file
from tests.integration.hyperliquid_rig import SteppedClock
from twins.alpaca import AlpacaTwin
from twins.alpaca.serve import START_MS, AlpacaOptions
from twins.alpaca.serve import build as build_alpaca
from twins.clock import TwinClock
from twins.faults import FaultMiddleware, FaultPlan
from twins.http import served_in_thread
from twins.raindex.market import OWNER, USDC
from twins.raindex.serve import RaindexOptions, make_twin
from twins.raindex.twin import RaindexTwin
from twins.series import ModelSeries
from twins.world import World

PRICE = "100"
TABLES = (
    "chain_fills",
    "raw_logs",
    "vault_moves",
    "quarantine",
    "exposures",
    "hedge_cursors",
    "hedge_blocks",
)
ROOT = Path(__file__).parents[2]


@dataclass
class Bench:
    """Twins that run, and what a settings file says of them."""

    world: World
    chain: RaindexTwin
    broker: AlpacaTwin
    keys: dict[str, Any]
    urls: dict[str, str]
    clock: SteppedClock
    store: Store
    sections: dict[str, Any]

    def later(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[HedgingDesk]:
        with keys_of(self.keys["trading"]):
            settings = Settings.model_validate({"hedging": self.sections})
            async with hedging_desk(settings, self.clock, self.store) as found:
                yield found


@contextmanager
def bench(folder: Path, symbols: tuple[str, ...], *, held: int = 10_000) -> Iterator[Bench]:
    """The order book with these symbols, and Alpaca with shares of them; a ledger with nothing in it."""
    world = World(ModelSeries(7, START_MS), TwinClock(START_MS, speed=0, stepped=True))
    plan, url = FaultPlan(), f"sqlite:///{folder / 'evenkeel.db'}"
    make_ledger(url)
    chain = make_twin(world, plan, RaindexOptions(symbols=symbols))
    chain.market.tokens |= {
        symbol: type(chain.market.tokens["USDC"])(f"0x{at + 1:040x}", symbol)
        for at, symbol in enumerate(symbols)
    }
    options = AlpacaOptions(
        start_ms=START_MS, key_seed=12, cash=Decimal(10**9), prices=dict.fromkeys(symbols, PRICE)
    )
    broker, keys = build_alpaca(world, plan, options)
    for symbol in symbols:
        broker.control("give", {"symbol": symbol, "qty": str(held)})
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(
                served_in_thread(FaultMiddleware(twin.app, plan, name, twin.call_name, world.now_ms))
            )
            for name, twin in (("raindex", chain), ("alpaca", broker))
        }
        stack.callback(broker.streams.disconnect)
        clock = SteppedClock(world)
        store = stack.enter_context(closing(Store.open(url, clock)))
        tokens = {symbol: chain.market.tokens[symbol].address for symbol in symbols}
        sections = hedging_of(urls["raindex"], chain.chain.height(), tokens) | {
            "broker": "alpaca",
            "alpaca": alpaca_section(urls["alpaca"]),
        }
        yield Bench(world, chain, broker, keys, urls, clock, store, sections)


def hedging_of(node: str, start_block: int, tokens: dict[str, str], **chain: Any) -> dict[str, Any]:
    """The section of hedging: a dry run on this node."""
    given = {"owner": OWNER, "usdc": USDC} | chain
    return hedging_section(node, start_block, tokens=tokens, most="1000", **given)


# --- who waits for whom -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call to somebody else. Times are those of `time.perf_counter`; `is_order`: of which symbol."""

    began: float
    ended: float
    has_fills: bool
    is_order: str


@dataclass
class Calls(httpx.AsyncBaseTransport):
    """A transport that writes down each call."""

    inner: httpx.AsyncBaseTransport
    made: list[Call] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body, began = bytes(request.content), time.perf_counter()
        answer = await self.inner.handle_async_request(request)
        said = await answer.aread()
        ended = time.perf_counter()
        is_order = request.method == "POST" and request.url.path.endswith("/orders")
        fills = b"eth_getLogs" in body and b'"topics"' in said
        symbol = str(json.loads(body)["symbol"]) if is_order else ""
        self.made.append(Call(began, ended, fills, symbol))
        return answer

    async def aclose(self) -> None:
        await self.inner.aclose()


def watched(at: HedgingDesk) -> list[Call]:
    """Let a desk's clients write down their calls, into one list."""
    made: list[Call] = []
    for client in (at.reader.rpc, at.broker.client):  # type: ignore[attr-defined]
        client._http._transport = Calls(client._http._transport, made)  # type: ignore[union-attr]
    return made


def own_ms(calls: list[Call]) -> dict[str, tuple[float, float]]:
    """By symbol: ms from the node's answer with the fills to the order's leaving, less the time in which any call was under
    way; and with it.
    """
    answered = max(one.ended for one in calls if one.has_fills)
    found = {}
    for order in (one for one in calls if one.is_order):
        others, upto = 0.0, answered
        for one in sorted(calls, key=lambda one: one.began):
            begins, ends = max(one.began, upto), min(one.ended, order.began)
            if ends > begins:
                others, upto = others + ends - begins, ends
        whole = order.began - answered
        found[order.is_order] = ((whole - others) * 1000, whole * 1000)
    return found


# --- a process that reads back ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadBack:
    """What `evenkeel hedging backfill` came to: wall seconds, the most memory it had, and what it answered."""

    seconds: float
    megabytes: float
    answer: dict[str, Any]


MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process runs the command and prints the most memory it had: one that is begun by a large process counts that one's as
its own.
"""


def read_back(folder: Path, sections: dict[str, Any], first: int | None = None) -> ReadBack:
    """Run the command on the ledger of this folder."""
    ledger = {"url": f"sqlite:///{folder / 'evenkeel.db'}"}
    config = settings_file(folder / "evenkeel.toml", {"database": ledger, "hedging": sections})
    words = [
        "--config",
        str(config),
        "hedging",
        "backfill",
        *(["--first", str(first)] if first else []),
        "--json",
    ]
    began = time.monotonic()
    done = run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", "app.cli", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=PIPE,
        text=True,
    )
    seconds = time.monotonic() - began
    said, _, used = done.stdout.rstrip().rpartition("\n")
    if done.returncode:
        raise RuntimeError(f"backfill ended with {done.returncode}: {done.stdout[-500:]}")
    return ReadBack(seconds, int(used) / (1024 if sys.platform == "linux" else 1024**2), json.loads(said))


def digest(folder: Path) -> str:
    """All rows of the chain in the ledger of this folder, as one number."""
    found = sha256()
    with closing(sqlite3.connect(folder / "evenkeel.db")) as ledger:
        for table in TABLES:
            for row in ledger.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"):
                found.update(repr(row).encode())
    return found.hexdigest()
