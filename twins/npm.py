"""What npm installs: the packages of a folder's lock file, once, under `out/`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

INSTALL_S = 240
FILES = ("package.json", "package-lock.json", ".npmrc")


class NotInstalled(Exception):
    """The packages cannot be had on this machine; the text says what is missing."""


def installed(packages: Path, out: Path, name: str) -> Path:
    """Return the folder under `out` that holds `node_modules` of a lock file in `packages`; it is made where it is not there
    yet, under a name of its own for each lock file. Raises NotInstalled.
    """
    lock = (packages / "package-lock.json").read_bytes()
    ready = out / f"{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    if ready.is_dir():
        return ready
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("no npm on this machine")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        making = Path(folder) / "node"
        making.mkdir()
        for file in FILES:
            shutil.copy(packages / file, making / file)
        command = [npm, "ci", "--fetch-retries=1"]
        try:
            done = subprocess.run(command, cwd=making, capture_output=True, text=True, timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"npm did not answer within {INSTALL_S} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NotInstalled(f"npm ci failed: {last}")
        if not ready.is_dir():
            making.rename(ready)
    return ready
