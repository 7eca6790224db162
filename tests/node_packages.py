"""The packages of tests/node, for tests of unmodified JavaScript clients: found, installed once into `out/`, or skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from twins.npm import NotInstalled, installed

FOLDER = Path(__file__).parent / "node"
OLDEST_NODE = 20


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
    try:
        return installed(FOLDER, FOLDER.parents[1] / "out", "node")
    except NotInstalled as why:
        pytest.skip(f"the packages of tests/node are not installed: {why}")
