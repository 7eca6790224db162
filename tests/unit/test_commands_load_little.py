"""A command loads what it needs and nothing else, so that looking is quick and costs no memory beside a running desk."""

from __future__ import annotations

import subprocess
import sys

from tests.loaded import modules_after

HEAVY = {"alembic", "altair", "eth_account", "hyperliquid", "numpy", "pandas", "prefect", "vl_convert"}


def test_help_loads_neither_venues_nor_ledger_nor_settings() -> None:
    loaded = modules_after("--help")
    ours = {"analytics", "flows", "state", "strategy", "tasks", "twins", "venues", "evenkeel.settings"}
    theirs = {"coincurve", "eth_keys", "httpx", "pydantic", "solana", "solders", "sqlalchemy", "websockets"}
    assert not loaded & (HEAVY | ours | theirs)


def test_what_trades_has_loaded_what_signs_before_its_first_order() -> None:
    """The first order of an emergency must not wait for a module to be read."""
    for trader in ("flows.carry.monitor", "flows.carry.enter", "tasks.carry.closing.last_resort"):
        code = f"import sys, {trader}; sys.exit('venues.hyperliquid.digests' not in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, trader
