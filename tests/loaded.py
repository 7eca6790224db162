"""What a command has loaded when it is through, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_THROUGH = """
import json, sys
from app.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]))
"""


def modules_after(*command: str, config: Path | None = None) -> set[str]:
    """Names of all modules in the process of `evenkeel …`, which must succeed."""
    environment = os.environ | ({} if config is None else {"EVENKEEL_CONFIG": str(config.resolve())})
    done = subprocess.run(
        [sys.executable, "-c", _THROUGH, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    code, names = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(names)
