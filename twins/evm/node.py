"""The node itself: anvil, installed once from npm at the version of `node/package-lock.json`, started on a free port.

Blocks are made by whoever holds it, at the times that it says: the node's own clock is never used.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from twins.npm import NotInstalled, installed

PACKAGE = Path(__file__).parent / "node"
PR_SET_PDEATHSIG = 1
BASE_FEE_WEI = 10_000_000
"""A hundredth of a gwei, as on Arbitrum One."""
BLOCK_GAS = 2**50
"""As on Arbitrum: a block has room for everything. Where it has not, the node forgets transactions that wait."""
ACCOUNTS, ETHER = 10, 10_000
_CPU = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "AMD64": "amd64"}


class NoNode(Exception):
    """No node can be had on this machine; the text says what is missing."""


def binary(out: Path) -> Path:
    """Return the node's program, installed under `out` where it is not there yet. Raises NoNode."""
    given = os.environ.get("EVENKEEL_ANVIL") or shutil.which("anvil")
    if given:
        return Path(given)
    try:
        ready = installed(PACKAGE, out, "evm-node")
    except NotInstalled as why:
        raise NoNode(f"anvil is not installed: {why}; or set EVENKEEL_ANVIL to an anvil") from None
    system, cpu = platform.system().lower(), _CPU.get(platform.machine(), platform.machine())
    found = ready / "node_modules" / "@foundry-rs" / f"anvil-{system}-{cpu}" / "bin" / "anvil"
    if not found.is_file():
        raise NoNode(f"anvil has no program for {system} on {cpu}; set EVENKEEL_ANVIL to one")
    found.chmod(0o755)
    return found


def _end_with_parent() -> None:
    """Let the kernel end this process with the one that started it, however that one ends. Linux alone does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Node:
    """A running node. `rpc` asks it anything, its own commands too. `states`: of how many blocks it keeps what every contract
    held; None for all of them, the older ones on disk, which takes the longer the more there is.
    """

    def __init__(self, out: Path, chain_id: int, start_ms: int, *, states: int | None = None) -> None:
        self.chain_id = chain_id
        options = {
            "--host": "127.0.0.1",
            "--port": "0",
            "--chain-id": str(chain_id),
            "--block-base-fee-per-gas": str(BASE_FEE_WEI),
            "--gas-limit": str(BLOCK_GAS),
            "--accounts": str(ACCOUNTS),
            "--balance": str(ETHER),
            "--timestamp": str(start_ms // 1000),
            "--slots-in-an-epoch": "1",
        }
        if states is not None:
            options["--prune-history"] = str(states)
        words = [word for pair in options.items() for word in pair]
        self._process = subprocess.Popen(
            [str(binary(out)), *words, "--no-mining"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_end_with_parent,
        )
        self.url = self._listening()
        self.connect()

    def connect(self) -> None:
        """Open connections of this process's own: what was forked must use none of its parent's."""
        self._http = httpx.Client(trust_env=False, timeout=30)

    def _listening(self) -> str:
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if line.startswith("Listening on "):
                # It says every call; nobody reads them, and a full pipe would stop it.
                threading.Thread(target=self._process.stdout.read, daemon=True).start()
                return f"http://{line.removeprefix('Listening on ').strip()}"
        self._process.wait()
        raise NoNode(f"anvil ended: {''.join(said[-3:]).strip() or 'it said nothing'}")

    def rpc(self, method: str, *params: Any) -> Any:
        """Return the result of one call. Raises RuntimeError where the node refuses it."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = self._http.post(self.url, json=body).json()
        if "error" in answer:
            raise RuntimeError(f"{method}: {json.dumps(answer['error'])}")
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        self._http.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
