"""The unmodified schwab-py 1.5.1 logs in, refreshes, trades and reads on Schwab's twin, through a proxy for its fixed host.

It needs an interpreter with the client, which is no dependency of ours: `make clients` makes one in `.venv-schwab`, and
EVENKEEL_SCHWAB_PY may name another.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.connect_proxy import ConnectProxy, connect_proxy
from twins.schwab.serve import RunningSchwab, SchwabOptions, running_schwab

SCRIPT = Path(__file__).with_name("schwab_py_calls.py")
OWN = Path(__file__).parents[2] / ".venv-schwab" / "bin" / "python"
VERSION = "1.5.1"
HOST = "api.schwabapi.com"
CASH = Decimal(100_000)


@cache
def interpreter() -> str:
    """Return an interpreter with the client of this version; skips where none is found."""
    named = os.environ.get("EVENKEEL_SCHWAB_PY") or (str(OWN) if OWN.exists() else sys.executable)
    asked = "import importlib.metadata as m; print(m.version('schwab-py'))"
    found = subprocess.run([named, "-c", asked], capture_output=True, text=True, timeout=60)
    if found.stdout.strip() != VERSION:
        pytest.skip(
            f"no interpreter with schwab-py {VERSION}: `make clients` makes one, EVENKEEL_SCHWAB_PY may name one"
        )
    return named


async def answer_of(running: RunningSchwab, proxy: ConnectProxy) -> dict[str, Any]:
    """Return what the client's process has read and done."""
    login = running.twin.login
    # Nothing of this process's own settings for proxies and certificates reaches the client.
    environment = {
        "PATH": os.environ["PATH"],
        "HTTPS_PROXY": proxy.url,
        "SSL_CERT_FILE": str(proxy.authority),
    }
    process = await asyncio.create_subprocess_exec(
        interpreter(),
        str(SCRIPT),
        login.app_key,
        login.app_secret,
        login.redirect_uri,
        env=environment,
        cwd=SCRIPT.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    line = next(one for one in said.decode().splitlines() if one.startswith("ANSWER "))
    found: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
    return found


async def test_schwab_py_logs_in_refreshes_trades_and_reads_what_the_twins_books_hold(tmp_path: Path) -> None:
    interpreter()
    options = SchwabOptions(start_ms=int(time.time() * 1000), cash=CASH)
    async with running_schwab(options, control=False) as running:
        running.twin.market.always_open = True
        running.twin.book.walk_ms = 0
        target = urlsplit(running.urls["schwab"])
        assert target.hostname and target.port
        async with connect_proxy(HOST, (target.hostname, target.port), tmp_path) as proxy:
            found = await answer_of(running, proxy)
        assert set(proxy.asked) == {f"{HOST}:443"}
        book = running.twin.book
        bought, sold = book.orders.values()
        assert found["refreshed"] == [True] and found["kept_age"] == [True]
        assert (found["placed"], found["order_id"], found["sold"]) == (201, bought.order_id, sold.order_id)
        assert found["order"]["status"] == "FILLED" and found["order"]["filledQuantity"] == 10
        assert [one["orderId"] for one in found["listed"]] == [bought.order_id]
        status, refused = found["fraction"]
        assert status == 400 and "whole number" in str(refused)
        assert book.cash == CASH - 10 * Decimal("150.27") + 4 * Decimal("150.23")
        account = found["account"]["securitiesAccount"]
        assert Decimal(str(account["currentBalances"]["cashBalance"])) == book.cash
        assert [(one["instrument"]["symbol"], one["longQuantity"]) for one in account["positions"]] == [
            ("AMD", 6)
        ]
        assert found["hours"]["equity"]["EQ"]["isOpen"] is True
        assert found["quote"]["AMD"]["quote"]["lastPrice"] == 150.25
        assert running.twin.login.refused == 0
