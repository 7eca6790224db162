"""A real Prometheus scrapes what the watchdog serves, with the rules as they are shipped: alerts fire there, stay while nothing
can be read, and end. It scrapes and judges every second instead of every 15; how long a rule waits is as in the product.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app.metrics.serving import metrics
from app.watchdog import Watchdog
from evenkeel.settings.settings import load_settings
from state.watch_models import Severity
from tests.carry.rig import story_rig, watched
from tests.dashboard import queries

RULES = Path(__file__).resolve().parents[3] / "deploy" / "prometheus" / "rules.yml"
WITHIN_S = 100
"""Far more than anything here takes: a machine may be busy."""
SILENT = ("EvenkeelSilent", "critical")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """The address of one that scrapes this target as the documents say, but more often."""
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {
                        "job_name": "evenkeel",
                        "static_configs": [{"targets": [target]}],
                    }
                ],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def asked(address: str, path: str) -> Any:
    """Its answer; None while it does not answer yet."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


def empty(address: str, leaves_out: str = "evenkeel_(messages|sender|hedging)", only: str = "") -> list[str]:
    """Queries of the dashboard to which nothing is found, without those of channels that are not set, and of a business that is
    not run; both are patterns.
    """
    found = []
    for one in queries():
        if re.search(leaves_out, one) or not re.search(only, one):
            continue
        filled = one.replace("$__rate_interval", "1m").replace("$position", ".*")
        rows = asked(address, f"query?query={urllib.parse.quote(filled)}")
        if not (rows or {}).get("result"):
            found.append(one)
    return found


def firing(address: str) -> set[tuple[str, str]]:
    """Name and severity of every alert that fires there."""
    found = asked(address, "alerts")
    rows = [] if found is None else found["alerts"]
    return {
        (one["labels"]["alertname"], one["labels"]["severity"]) for one in rows if one["state"] == "firing"
    }


async def until(what: Callable[[], bool], why: str) -> None:
    ends = time.monotonic() + WITHIN_S
    while not await asyncio.to_thread(what):
        assert time.monotonic() < ends, why
        await asyncio.sleep(0.2)


def rounds(address: str) -> str:
    """When the rules were judged last; "" before the first time."""
    groups = (asked(address, "rules") or {}).get("groups", [])
    judged = [one["lastEvaluation"] for one in groups]
    return "" if not judged or judged[0].startswith("0001") else str(judged[0])


async def judged_again(address: str) -> None:
    """Both rounds begin after now: the first may have begun before."""
    for _ in range(2):
        before = await asyncio.to_thread(rounds, address)
        await until(lambda: rounds(address) != before, "the rules were not judged again")  # noqa: B023


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here")
@pytest.mark.timeout(900)
async def test_a_position_without_a_watch_fires_holds_and_ends_there(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        await watched(rig, name, 40)
        settings, port = load_settings(rig.config), free_port()
        watchdog = Watchdog(settings, rig.desk.store)
        with prometheus(tmp_path, f"127.0.0.1:{port}") as address:
            with metrics(settings, port) as served:
                assert served
                await until(
                    lambda: bool((asked(address, "query?query=evenkeel_ledger_up") or {}).get("result")),
                    "nothing was scraped",
                )
                await judged_again(address)
                assert firing(address) == set(), "a calm position fires nothing"

                rig.later(300)
                assert [one.position_id for one in await watchdog.round()] == [name]
                rig.desk.store.alert("leg_margin", Severity.CRITICAL, "thin", name)
                incident = {
                    ("EvenkeelNotWatched", "critical"),
                    ("EvenkeelCritical", "critical"),
                    ("HealthFalls", "critical"),
                }
                await until(lambda: firing(address) == incident, "the incident does not fire")
                rig.desk.store.pause("entries", "a holiday")
                await until(lambda: empty(address) == [], "the dashboard shows nothing of it")

            await until(lambda: SILENT in firing(address), "its silence does not fire")
            assert firing(address) == {SILENT, *incident}, "while nothing can be read nothing is over"

            with metrics(settings, port) as served:
                assert served
                await watched(rig, name, 40)
                rig.desk.store.ack_alert("leg_margin", name)
                await until(lambda: firing(address) <= {SILENT}, "the incident does not end")
