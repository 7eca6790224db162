"""The packages of tests/node, for tests of unmodified JavaScript clients: found, installed once into `out/`, or skipped."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node"
OLDEST_NODE = 20
INSTALL_S = 240


def node() -> str:
    """Return the Node to use; skips where there is none, or an old one."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node on this machine: clients in JavaScript are not tried")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node {version} is older than {OLDEST_NODE}: clients in JavaScript are not tried")
    return found


def packages() -> Path:
    """Return a folder that holds `node_modules`; skips where the packages cannot be installed."""
    if (FOLDER / "node_modules").is_dir():
        return FOLDER
    lock = (FOLDER / "package-lock.json").read_bytes()
    out = FOLDER.parents[1] / "out"
    ready = out / f"node-{hashlib.sha256(lock).hexdigest()[:12]}"
    if ready.is_dir():
        return ready
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine: the packages of tests/node cannot be installed")
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name:
        making = Path(name) / "node"
        making.mkdir()
        for file in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(FOLDER / file, making / file)
        try:
            done = subprocess.run(
                [npm, "ci", "--fetch-retries=1"],
                cwd=making,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
            )
        except subprocess.TimeoutExpired:
            pytest.skip(
                f"npm did not answer within {INSTALL_S} s: the packages of tests/node are not installed"
            )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"npm ci of tests/node failed: {last}")
        if not ready.is_dir():
            making.rename(ready)
    return ready
