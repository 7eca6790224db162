"""Hedging as Prefect runs it: a day's end hands it over, a killed run is followed by another one, each fill is hedged once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from flows.hedging.watched import UNWATCHED
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig, keys_of
from tests.prefect_rig import Server, hosted_monitors, processes_of, server_in_use
from twins.control import control_app
from twins.http import served

DAY_S = 86_400
databases, url, _store = database_fixtures("sqlite")


def written(rig: HedgingRig, folder: Path, url: str, world_url: str) -> Path:
    """The settings of the host, as a file."""
    hedging = rig.given().hedging.model_dump(mode="json", exclude_none=True)
    sections: dict[str, dict[str, Any]] = {"database": {"url": url}, "clock": {"world_url": world_url}}
    sections["hedging"] = {name: value for name, value in hedging.items() if not isinstance(value, dict)}
    sections |= {
        f"hedging.{name}": hedging[name] for name in ("chain", "alpaca") if isinstance(hedging[name], dict)
    }
    sections |= {f"hedging.symbols.{symbol}": one for symbol, one in hedging["symbols"].items()}
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    path = folder / "evenkeel.toml"
    path.write_text("\n".join(lines))
    return path


def runs(server: Server, state: str) -> list[dict[str, Any]]:
    found = server.ask("flow_runs", flows={"name": {"any_": ["hedge"]}}, sort="EXPECTED_START_TIME_ASC")
    return [one for one in found if one["state_type"] == state]


@pytest.mark.timeout(300)
async def test_hedging_goes_on_from_run_to_run_and_hedges_each_fill_once(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig:
        alpaca = rig.given().hedging.alpaca.model_copy(update={"updates": False})
        rig.settings = {"pass_interval_s": 1.0, "alpaca": alpaca}
        rig.world.clock.stepped = False
        rig.world.clock.set_speed(1.0)
        app = control_app(rig.world, rig.plan, {}, lambda: (rig.broker.catch_up(), None)[1], lambda: None)
        async with served(app) as world_url:
            config = written(rig, tmp_path, url, world_url)
            with keys_of(rig.keys["trading"]), server_in_use(tmp_path / "prefect") as server:
                rig.trade("AAPL", "sell", "3")
                async with hosted_monitors(server, config, tmp_path) as host:
                    (first,) = await server.reached(lambda: runs(server, "RUNNING"))
                    await server.reached(lambda: rig.store.hedging.hedges("AAPL"))
                    rig.later(DAY_S)
                    await server.reached(lambda: server.state(first["id"]) == "COMPLETED")
                    assert first["parameters"]["request"]["until_ms"] is None, "it has handed over"
                    (second,) = await server.reached(lambda: runs(server, "RUNNING"))
                    lease = rig.store.leases()

                    rig.trade("MSFT", "sell", "1")
                    await server.reached(lambda: processes_of(second["id"], host))
                    os.kill(processes_of(second["id"], host)[0], signal.SIGKILL)
                    (third, *_) = await server.reached(
                        lambda: [one for one in runs(server, "RUNNING") if one["id"] != second["id"]]
                    )
                    assert third["id"] not in (first["id"], second["id"])
                    await server.reached(lambda: rig.store.hedging.hedges("MSFT"))
                    await server.reached(
                        lambda: not [one for one in rig.store.alerts(open_only=True) if one.kind == UNWATCHED]
                    )
                    assert rig.store.leases() != lease, "each run has a lease of its own"
        rig.check()
        assert sorted(one.symbol for one in rig.account.orders) == ["AAPL", "MSFT"]
