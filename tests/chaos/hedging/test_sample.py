"""A handful of the crossings of hedging in every test run, of each kind; `make chaos-hedging` plays all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.hedging import rebalancing
from tests.chaos.hedging.__main__ import again, main, summed_up
from tests.chaos.hedging.crossing import LEDGER, Crossing, new_ledger, play
from tests.databases import Databases, database_fixtures

databases, _url, _store = database_fixtures("postgresql")
PLACE = ("alpaca", "orders:place")
ON_SQLITE = (
    Crossing("live", "alpaca", PLACE, 1, "http_500_after"),
    Crossing("recovery", "alpaca", PLACE, 1, "odd_status"),
    Crossing("live", "alpaca-broker", (LEDGER, "mark_submitted"), 1, "dies before"),
    Crossing("live", "schwab", ("schwab", "order:place"), 1, "drop_answer"),
    Crossing("live", "dry-run", (LEDGER, "confirm"), 2, "dies after"),
    Crossing("cancelled", "alpaca", (LEDGER, "record_working"), 1, "dies after"),
    Crossing("cancelled", "alpaca", PLACE, 2, "overfill"),
    Crossing("backfill", "dry-run", ("raindex", "eth_getLogs"), 1, "lag"),
    Crossing("backfill", "dry-run", ("raindex", "eth_getBlockByNumber+eth_getLogs"), 1, "no such method"),
    Crossing("reorganised", "alpaca", (LEDGER, "reverse_from"), 1, "dies before"),
    Crossing("login", "schwab", (LEDGER, "keep_token"), 1, "dies after"),
    Crossing("recovery", "alpaca", PLACE, 1, "taken over after it was applied"),
    Crossing("live", "alpaca", PLACE, 1, "SIGKILL after it was applied"),
    Crossing("live", "alpaca", (LEDGER, "record_ready"), 1, "SIGKILL after"),
    Crossing("live", "alpaca", PLACE, 1, "stopped and taken over after it was applied"),
    Crossing("live", "alpaca", (LEDGER, "lease"), 1, "two at once"),
)
MOVES = (
    Crossing("shares to the chain", rebalancing.BROKER, (LEDGER, "note_rebalance"), 1, "dies after"),
    Crossing("USDC to the chain", rebalancing.BROKER, ("alpaca", "transfers:create"), 1, "drop_answer"),
    Crossing("USDC to the broker", rebalancing.BROKER, (LEDGER, "confirm"), 2, "dies before"),
    Crossing("USDC to the broker", rebalancing.BROKER, ("alpaca", "transfers:list"), 1, "http_429"),
    Crossing("shares by journal", rebalancing.BROKER, (LEDGER, "mark_submitted"), 1, "dies after"),
)
ON_POSTGRESQL = (
    Crossing("live", "alpaca", (LEDGER, "confirm"), 1, "dies before"),
    Crossing("night", "schwab", ("schwab", "order:place"), 1, "http_500_after"),
    Crossing("reorganised", "dry-run", (LEDGER, "reverse_from"), 1, "SIGKILL before"),
)


@pytest.mark.parametrize("one", ON_SQLITE, ids=lambda one: one.name)
async def test_after_a_crossing_each_fill_is_hedged_once(tmp_path: Path, one: Crossing) -> None:
    await play(new_ledger(tmp_path), tmp_path, one)


@pytest.mark.parametrize("one", ON_POSTGRESQL, ids=lambda one: one.name)
async def test_and_so_it_is_on_a_server(databases: Databases, tmp_path: Path, one: Crossing) -> None:
    with databases.fresh() as url:
        await play(url, tmp_path, one)


@pytest.mark.parametrize("one", MOVES, ids=lambda one: one.name)
async def test_after_a_crossing_each_amount_was_moved_once(tmp_path: Path, one: Crossing) -> None:
    await rebalancing.play(new_ledger(tmp_path), one)


async def test_a_rebalance_that_was_killed_goes_on_on_a_server(databases: Databases) -> None:
    with databases.fresh() as url:
        one = Crossing("shares to the chain", rebalancing.BROKER, (LEDGER, "record_ready"), 2, "dies after")
        await rebalancing.play(url, one)


async def test_a_crossing_that_never_came_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="never came"):
        await play(new_ledger(tmp_path), tmp_path, Crossing("live", "dry-run", PLACE, 1, "http_500"))


def test_a_failure_is_said_with_the_command_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    one = ON_SQLITE[0]
    summary = summed_up(list(ON_SQLITE), {one: "lost"}, 2.0)
    assert (summary["crossings"], summary["failed"]) == (len(ON_SQLITE), 1)
    assert summary["failures"] == [{"name": one.name, "why": "lost", "again": again(one)}]
    assert again(one) == f'make chaos-hedging ONLY="{one.name}"'
    with pytest.raises(SystemExit):
        main(["--part", "3/2"])
    assert "write K/N" in capsys.readouterr().err
