"""Settings of hedging as rigs write them: the section, the file of it for a process of its own, and the keys around it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twins.raindex.market import BOOK


def hedging_section(
    node: str, start_block: int, *, owner: str, usdc: str, tokens: Mapping[str, str], most: str, **chain: Any
) -> dict[str, Any]:
    """Return what a file would have of hedging on this node: a dry run. `tokens` by symbol; `chain` adds to that section."""
    found = {
        "rpc_url": node,
        "cutoff": "latest-1",
        "orderbook": BOOK,
        "owner": owner,
        "usdc": usdc,
        "start_block": start_block,
        "requests_per_minute": 1_000_000,
    }
    symbols = {symbol: {"token": token, "most_shares": most} for symbol, token in tokens.items()}
    return {"enabled": True, "broker": "dry-run", "chain": found | chain, "symbols": symbols}


def alpaca_section(url: str, **more: Any) -> dict[str, Any]:
    """Return what a file would have of Alpaca's twin, without a limit of ours that a test would meet."""
    return {"url": url, "data_url": url, "requests_per_minute": 100_000, **more}


def settings_file(path: Path, settings: Mapping[str, Any]) -> Path:
    """Write settings as TOML, a table for each mapping in them, and return the path."""
    tables: dict[str, dict[str, Any]] = {}
    for name, values in settings.items():
        _flat(name, values, tables)
    text = "\n\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        for name, values in tables.items()
    )
    path.write_text(text + "\n")
    return path


def _flat(name: str, values: Mapping[str, Any], into: dict[str, dict[str, Any]]) -> None:
    into[name] = {
        key: value for key, value in values.items() if value is not None and not isinstance(value, Mapping)
    }
    for key, value in values.items():
        if isinstance(value, Mapping):
            _flat(f"{name}.{key}", value, into)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment, put back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
