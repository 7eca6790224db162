"""Run a command and end it when the process that asked for it is gone: `python -m app.with_parent PID COMMAND…`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main(arguments: list[str]) -> int:
    """Exit code of the command; its process group gets SIGTERM, then SIGKILL, when the watched process has died."""
    watched, command = int(arguments[0]), arguments[1:]
    child = subprocess.Popen(command, start_new_session=True)

    def end(number: int = signal.SIGTERM, frame: object = None) -> None:
        try:
            os.killpg(child.pid, signal.SIGTERM)
        except ProcessLookupError:
            return

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    asked_to_end = 0
    while True:
        try:
            return child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if os.getppid() != watched:
                end()
                asked_to_end += 1
                if asked_to_end > 20:
                    os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
