"""The accounts' watch on a real Prefect server and its host: begun with the host, handed over at a day's end, begun again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.settings.settings import load_settings
from evenkeel.units import DAY_MS
from flows.accounts.watched import ACCOUNTS
from state.accounts.models import TradeState
from state.store import Store
from tasks.accounts.alerts import ACCOUNTS_WATCH
from tests.chaos.accounts.bed import accounts_bed, missing
from tests.chaos.accounts.business import OPEN
from tests.chaos.accounts.steps import STEPS
from tests.prefect_rig import Server, hosted_monitors, processes_of, server_in_use
from twins.clock import TwinClock


def runs(server: Server, state: str = "") -> list[dict[str, Any]]:
    """Runs of the watch, the oldest first."""
    found = server.ask(
        "flow_runs", flows={"name": {"any_": ["watch-accounts"]}}, sort="EXPECTED_START_TIME_ASC"
    )
    return [one for one in found if state in ("", one["state_type"])]


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.timeout(900)
async def test_the_watch_goes_on_from_run_to_run_and_from_host_to_host(tmp_path: Path) -> None:
    async with accounts_bed(STEPS, None, tmp_path / "bed") as bed:
        done = await bed.run(OPEN)
        assert done.code == 0 and done.answers[0]["state"] == "OPEN", done
        # From here on time flows, so that a watch waits between its ticks while Prefect takes its time.
        bed.world.clock = TwinClock(bed.world.now_ms(), speed=15)
        store = Store.open(load_settings(bed.config).database.url, bed.world)  # type: ignore[arg-type]
        with server_in_use(tmp_path / "prefect") as server:

            async def ticking(run: dict[str, Any], host: int) -> int:
                """The process of a run, once it has ticked."""
                [process] = await server.reached(lambda: processes_of(run["id"], host))
                by = f"process {process} "
                await server.reached(lambda: ACCOUNTS.last_by(store, ACCOUNTS_WATCH).startswith(by))
                return int(process)

            async with hosted_monitors(server, bed.config, tmp_path) as host:
                [first] = await server.reached(lambda: runs(server, "RUNNING"))
                await ticking(first, host)
                assert store.accounts.trade("t1").stop is not None, "its first tick guards what is open"
                bed.world.clock.advance_to(bed.world.now_ms() + DAY_MS)
                await server.reached(lambda: server.state(first["id"]) == "COMPLETED")
                [second] = await server.reached(lambda: runs(server, "RUNNING"))
                process = await ticking(second, host)
                os.kill(process, signal.SIGKILL)
                await server.reached(lambda: server.state(second["id"]) == "CRASHED")
                third = (await server.reached(lambda: runs(server)[2:]))[0]
                assert third["parameters"]["request"]["watch"] == ACCOUNTS_WATCH, "a crash is followed"
            server.forget(third["id"])
            before = {one["id"] for one in runs(server)}
            async with hosted_monitors(server, bed.config, tmp_path) as host:
                fresh = await server.reached(
                    lambda: [one for one in runs(server, "RUNNING") if one["id"] not in before]
                )
                await ticking(fresh[0], host)
                lease = store.lease(ACCOUNTS_WATCH)
                assert lease is not None and lease.owner, "one watches at a time"
                assert store.alerts(open_only=True) == []
        assert store.accounts.trade("t1").state is TradeState.OPEN
        assert sum(one.kind == "stop" for one in store.intents_of("accounts", "t1")) == 1
        store.close()
