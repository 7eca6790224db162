"""What the rules of the carry trade would have earned over a span of a market, beside a position that is always held."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from pydantic import Field

from analytics.research.market import Market
from evenkeel.clock import SystemClock
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from flows.carry.forms import AssetField, LendingProtocol, LeverageField, LongAsset, ProtocolField
from flows.forms import Form
from flows.running import settings_for_run
from state.store import Store
from tasks.artifacts import show_table
from tasks.research.assumptions import Assumptions
from tasks.research.backtest import backtest as run_backtest
from tasks.research.collected import read_collected
from tasks.research.recorded import read_recorded


class BacktestRequest(Form):
    """Which market, and which part of it."""

    data: str | None = Field(
        default=None, description="folder of recorded series; empty: what `collect` has stored in the ledger"
    )
    since: str | None = Field(default=None, description="first hour, like 2025-01-01T00:00 (UTC); empty: all")
    until: str | None = Field(default=None, description="end, like 2025-11-15 (UTC); empty: all")
    asset: AssetField | None = Field(default=None, description="what the long leg holds; empty: SOL")
    protocol: ProtocolField | None = Field(
        default=None,
        description="who lends to the long leg; empty: Kamino, of which alone rates were recorded",
    )
    leverage: LeverageField | None = Field(default=None, description="of both legs; empty: strategy.leverage")
    deleveraged_at: str | None = Field(
        default=None,
        description="scenario: from this time on, like 2025-10-10T21 (UTC), the venue closes a part of the short; empty: none",
    )
    deleveraged_share: float = Field(
        default=0.5, gt=0, le=1, description="how much of the short it closes then"
    )
    out_dir: str | None = Field(
        default=None, description="folder for hours.csv, trades.csv and the picture; empty: none"
    )


async def backtest_market(settings: Settings, request: BacktestRequest) -> dict[str, Any]:
    """Read the market, run the rules over it, and write what was asked for."""
    since_ms, until_ms = time_ms("from", request.since), time_ms("to", request.until)
    due_ms = time_ms("adl", request.deleveraged_at)

    def work() -> dict[str, Any]:
        folder = Path(request.out_dir) if request.out_dir else None
        if folder is not None:
            with writable(folder):  # before the runs, which take long
                folder.mkdir(parents=True, exist_ok=True)
        market = market_of(settings, request.data, request.asset, request.protocol)
        assumed = Assumptions(deleveraged_ms=due_ms, deleveraged_share=request.deleveraged_share)
        found = run_backtest(market, settings, request.leverage, since_ms, until_ms, assumed)
        files: list[Path] = []
        if folder is not None:
            with writable(folder):
                files = found.write(folder)
        return found.as_dict() | {"files": [str(path) for path in files]}

    return await asyncio.to_thread(work)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Raise OperatorError where a folder that a person named cannot be written."""
    try:
        yield
    except OSError as error:
        file = "" if error.filename is None else f" ({Path(error.filename).name})"
        raise OperatorError(f"--out {folder} cannot be written: {error.strerror or error}{file}") from error


def market_of(
    settings: Settings, data: str | None, long_asset: LongAsset | None, lender: LendingProtocol | None
) -> Market:
    """From the folder where one is named, else from the ledger. Raises OperatorError for what neither holds."""
    asset, protocol = long_asset or LongAsset.SOL, lender or LendingProtocol.KAMINO
    if data is None:
        store = Store.open(settings.database.url, SystemClock())
        try:
            return read_collected(store, asset.value, settings.staking, protocol.number)
        finally:
            store.close()
    if protocol is not LendingProtocol.KAMINO:
        raise OperatorError(
            f"nothing was recorded of {protocol.value}: a folder of series holds Kamino's rates alone"
        )
    return read_recorded(Path(data), asset.value, settings.staking)


def time_ms(name: str, text: str | None) -> int | None:
    """Milliseconds of a time as a person writes it. Raises OperatorError, which names the option."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OperatorError(
            f"{name} {text!r} is not a time; write it like 2025-01-01 or 2025-01-01T06:00"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


@flow(name="backtest", flow_run_name="backtest-{request.asset}")
async def backtest(request: BacktestRequest) -> dict[str, Any]:
    """The result as JSON, with a table artifact."""
    with settings_for_run() as settings:
        result = await backtest_market(settings, request)
    rows = [{"run": "the rules", **_row(result)}]
    rows += [
        {"run": name, **_row(result[key])}
        for name, key in (("always in", "baseline"), ("at twice the cost", "twice_the_cost"))
    ]
    await show_table(
        "backtest", rows, f"{result['asset']} {result['leverage']}x, {result['from']} to {result['to']}"
    )
    return result


def _row(found: dict[str, Any]) -> dict[str, Any]:
    names = ("net_apr", "max_drawdown", "entries", "liquidations", "mean_notional_share", "transfers")
    return {name: found[name] for name in names}
