"""The environment of the demo: twins and Prefect as processes of their own, test keys in files, settings in a TOML."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Any

import httpx

from evenkeel.errors import OperatorError

ORPHAN_IDLE_S = 600.0
"""Twins whose demo was killed stay this long without a call, so that `evenkeel recover` can be tried against them."""
WORK = 2**14
"""The least that a keystore may cost: those of a fleet's test keys are many, and worth nothing."""
NAMES = ("north", "south", "east", "west")
_ALPACA = {"key_file": "alpaca", "secret_file": "alpaca-secret"}
OURS = (
    "evenkeel.db",
    "evenkeel.db-wal",
    "evenkeel.db-shm",
    "evenkeel.toml",
    "summary.json",
    "keys",
    "prefect",
)


def clear(folder: Path) -> None:
    """Remove what an earlier demo left in its folder, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def twins_process(options: list[str]) -> Iterator[dict[str, Any]]:
    """`evenkeel twins serve` as a child; yields its announcement. It outlives a killed parent for a while (see above)."""
    command = [sys.executable, "-m", "app.cli", "twins", "serve", *options]
    command += ["--parent-pid", str(os.getpid()), "--idle-exit-s", str(ORPHAN_IDLE_S)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, errors = process.communicate(timeout=10)
            last = errors.strip().splitlines()[-1:] or ["no reason given"]
            raise OperatorError(last[0].removeprefix("evenkeel: "))
        yield json.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_keys(folder: Path, keys: dict[str, Any]) -> dict[str, Path]:
    """The funded test keys as files that only their owner reads; the trading side gets the agent's key, not the master's. Those
    of a fleet are not among them.
    """
    secrets = {"asgard": keys["asgard"]["api_key"]}
    if "fleet" not in keys:
        secrets |= {
            "hyperliquid": keys["hyperliquid"]["agent_private_key"],
            "solana": keys["solana"]["private_key"],
        }
    if "slack" in keys:
        secrets |= {"slack": keys["slack"]["token"], "slack-app": keys["slack"]["app_token"]}
    if "ostium" in keys:
        users = enumerate(keys["ostium"]["traders"], start=1)
        secrets |= {f"user-{number}": one["private_key"] for number, one in users}
        secrets |= {
            "ostium": keys["ostium"]["delegate"]["private_key"],
            "collector": keys["ostium"]["collector"]["private_key"],
        }
    if "alpaca" in keys:
        secrets |= {"alpaca": keys["alpaca"]["key_id"], "alpaca-secret": keys["alpaca"]["secret"]}
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    paths = {}
    for name, secret in secrets.items():
        paths[name] = folder / f"{name}.key"
        _write_secret(paths[name], secret)
    return paths


def name_of(number: int) -> str:
    """The name of the fleet's account of this number."""
    return NAMES[number] if number < len(NAMES) else f"account-{number}"


def _fleet(folder: Path, each: list[dict[str, Any]]) -> list[str]:
    """Lines of the settings for these accounts, whose keys are written into encrypted files."""
    from venues.signers.keystore import encrypt_evm, encrypt_solana

    phrase, passphrase = token_urlsafe(18), folder.resolve() / "passphrase"
    _write_secret(passphrase, phrase)
    lines = []
    for number, keys in enumerate(each):
        name, account = name_of(number), keys["hyperliquid"]["account_address"]
        lines += ["", "[[fleet]]", f'name = "{name}"', f'hyperliquid_account = "{account}"']
        for chain, text in (
            ("hyperliquid", encrypt_evm(keys["hyperliquid"]["agent_private_key"], phrase, work=WORK)),
            ("solana", encrypt_solana(keys["solana"]["private_key"], phrase, work=WORK)),
        ):
            path = folder.resolve() / f"{name}-{chain}.json"
            _write_secret(path, text)
            places = {"keystore_file": str(path), "passphrase_file": str(passphrase)}
            lines.append(f"{chain} = {{ {', '.join(f'{k} = {json.dumps(v)}' for k, v in places.items())} }}")
    return lines


def _write_secret(path: Path, secret: str) -> None:
    path.touch(mode=0o600)
    path.write_text(secret)


def write_settings(
    folder: Path,
    announcement: dict[str, Any],
    strategy: dict[str, Any],
    prefect_url: str,
    *,
    with_admin: bool = False,
) -> Path:
    """The TOML that demo and command line share while the twins run: with the Slack beside them, the venues of hedging and
    Ostium, where there are any, and of a fleet where they have several accounts. With `with_admin` an admin key is made for
    it, in `keys/admin.key`, and a secret of the agents: users' accounts on the venue can be guarded then.
    """
    slack = announcement.get("slack")
    hedging, ostium = announcement.get("hedging"), announcement.get("ostium")
    more = ({"slack": slack} if slack else {}) | ({"alpaca": hedging["key"]} if hedging else {})
    more |= {"ostium": ostium["keys"]} if ostium else {}
    keys = write_keys(folder / "keys", announcement["keys"] | more)
    root, fleet = folder.resolve(), announcement["keys"].get("fleet")
    single: dict[str, dict[str, str]] = {"hyperliquid": {}, "solana": {}}
    if not fleet:
        single = {chain: {"key_file": str(keys[chain].resolve())} for chain in single}
        single["hyperliquid"]["account_address"] = announcement["keys"]["hyperliquid"]["account_address"]
    sections: dict[str, dict[str, Any]] = {
        "database": {"url": f"sqlite:///{root / 'evenkeel.db'}"},
        "clock": {"world_url": announcement["control"]["url"]},
        "prefect": {"api_url": prefect_url},
        "hyperliquid": {"url": announcement["hyperliquid"]["url"], **single["hyperliquid"]},
        "solana": {"rpc_url": announcement["solana"]["url"], **single["solana"]},
        "asgard": {
            "url": announcement["asgard"]["url"],
            "api_key_file": str(keys["asgard"].resolve()),
            "requests_per_minute": 600,
        },
        "safety": {"fee_accounts": [announcement["asgard"]["fee_account"]]},
        "strategy": strategy,
    }
    if slack:
        token = str(keys["slack"].resolve())
        sections["slack"] = {
            "url": slack["url"],
            "channel": slack["channel"],
            "token_file": token,
            "app_token_file": str(keys["slack-app"].resolve()),
            "operators": [slack["operator"]],
        }
    if hedging:
        files = {name: str(keys[key].resolve()) for name, key in _ALPACA.items()}
        sections["hedging"] = {
            "enabled": True,
            "broker": "alpaca",
            "chain": hedging["chain"],
            "alpaca": hedging["alpaca"] | files,
            "symbols": hedging["symbols"],
        }
    if ostium:
        sections |= _managed(ostium, keys)
    if with_admin:
        from tasks.admin import make_hash

        key = token_urlsafe(18)
        _write_secret(folder / "keys" / "admin.key", key)
        sections["admin"] = {"key_hash": make_hash(key)}
        agents = folder / "keys" / "agents.key"
        _write_secret(agents, token_hex(32))
        sections["agents"] = {"enabled": True, "key_file": str(agents.resolve())}
    lines = ["# Written for local twins, test money. Not for real venues."]
    lines += ['log_level = "ERROR"']
    if ostium:
        lines += [
            f"# A user of managed accounts: {one['address']}, its key in keys/user-{number}.key"
            for number, one in enumerate(ostium["keys"]["traders"], start=1)
        ]
    for name, values in sections.items():
        lines += _table(name, values)
    if fleet:
        lines += _fleet(folder / "keys", fleet)
    path = folder / "evenkeel.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _managed(ostium: dict[str, Any], keys: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Sections for managed accounts at this twin of Ostium. The platform's wallet is a new one that nobody has the key of."""
    at = ostium["contracts"]
    return {
        "ostium": {
            "enabled": True,
            "rpc_url": ostium["rpc_url"],
            "prices_url": ostium["url"],
            "subgraph_url": ostium["subgraph_url"],
            **{name: at[name] for name in ("trading", "storage", "usdc")},
            "confirmations": 2,
            "cutoff": "latest-2",
            "key_file": str(keys["ostium"].resolve()),
        },
        "collector": {
            "platform_wallet": f"0x{token_hex(20)}",
            "key_file": str(keys["collector"].resolve()),
        },
    }


def _table(name: str, values: dict[str, Any]) -> list[str]:
    """Lines of one TOML table; a dictionary within becomes a table below it."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    below = [_table(f"{name}.{key}", value) for key, value in values.items() if isinstance(value, dict)]
    return ["", f"[{name}]", *plain, *(line for lines in below for line in lines)]


class Control:
    """The twins' control endpoint."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def fault(self, venue: str, kind: str, call: str, **more: Any) -> None:
        """Plan a fault."""
        self._http.post(
            "/control/faults", json={"venue": venue, "kind": kind, "call": call, **more}
        ).raise_for_status()

    def ledger(self) -> dict[str, Any]:
        """What the twins' own books say."""
        return dict(self._http.get("/control/ledger").raise_for_status().json())

    def now_ms(self) -> int:
        """World time."""
        return int(self._http.get("/control/clock").raise_for_status().json()["world_ms"])
