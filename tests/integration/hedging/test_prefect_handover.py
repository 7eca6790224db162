"""Hedging as Prefect runs it: a day's end hands it over, a killed run is followed by another one, each fill is hedged once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from flows.hedging.watched import UNWATCHED
from tests.databases import database_fixtures
from tests.hedging_rig import hedging_rig, host_settings, keys_of
from tests.prefect_rig import Server, hosted_monitors, processes_of, server_in_use

DAY_S = 86_400
WITHIN_S = 300.0
databases, url, _store = database_fixtures("sqlite")


def runs(server: Server, state: str) -> list[dict[str, Any]]:
    found = server.ask("flow_runs", flows={"name": {"any_": ["hedge"]}}, sort="EXPECTED_START_TIME_ASC")
    return [one for one in found if one["state_type"] == state]


@pytest.mark.timeout(1200)
async def test_hedging_goes_on_from_run_to_run_and_hedges_each_fill_once(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig:
        alpaca = rig.given().hedging.alpaca.model_copy(update={"updates": False})
        rig.settings = {"pass_interval_s": 1.0, "alpaca": alpaca}
        rig.world.clock.stepped = False
        rig.world.clock.set_speed(1.0)
        async with host_settings(rig, url, tmp_path) as config:
            with keys_of(rig.keys["trading"]), server_in_use(tmp_path / "prefect") as server:
                rig.trade("AAPL", "sell", "3")
                async with hosted_monitors(server, config, tmp_path) as host:
                    (first,) = await server.reached(lambda: runs(server, "RUNNING"), WITHIN_S)
                    await server.reached(lambda: rig.store.hedging.hedges("AAPL"), WITHIN_S)
                    rig.later(DAY_S)
                    await server.reached(lambda: server.state(first["id"]) == "COMPLETED", WITHIN_S)
                    assert "until_ms" not in first["parameters"]["request"], "it has handed over"
                    (second,) = await server.reached(lambda: runs(server, "RUNNING"), WITHIN_S)
                    lease = rig.store.leases()

                    rig.trade("MSFT", "sell", "1")
                    await server.reached(lambda: processes_of(second["id"], host), WITHIN_S)
                    os.kill(processes_of(second["id"], host)[0], signal.SIGKILL)
                    (third, *_) = await server.reached(
                        lambda: [one for one in runs(server, "RUNNING") if one["id"] != second["id"]],
                        WITHIN_S,
                    )
                    assert third["id"] not in (first["id"], second["id"])
                    await server.reached(lambda: rig.store.hedging.hedges("MSFT"), WITHIN_S)
                    await server.reached(
                        lambda: (
                            not [one for one in rig.store.alerts(open_only=True) if one.kind == UNWATCHED]
                        ),
                        WITHIN_S,
                    )
                    assert rig.store.leases() != lease, "each run has a lease of its own"
        rig.check()
        assert sorted(one.symbol for one in rig.account.orders) == ["AAPL", "MSFT"]
