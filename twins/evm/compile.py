"""`python -m twins.evm.compile`: compile the twins' contracts, and write what a node is given beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TWINS = Path(__file__).parents[1]


def sources() -> list[Path]:
    """Return every contract that is deployed, of any twin; the modules in folders beside them are parts of those."""
    return sorted(TWINS.glob("*/contracts/*.vy"))


def compiled(source: Path) -> str:
    """Return the artefact of a contract: its interface and the bytes that deploy it, as JSON text."""
    command = [sys.executable, "-m", "vyper.cli.vyper_compile", "-f", "abi,bytecode", source.name]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, check=True)
    abi, bytecode = done.stdout.strip().splitlines()
    return json.dumps({"abi": json.loads(abi), "bytecode": bytecode}, indent=1) + "\n"


def main() -> None:
    for source in sources():
        source.with_suffix(".json").write_text(compiled(source))


if __name__ == "__main__":
    main()
