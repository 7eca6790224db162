"""Host the monitors of this machine in one long-lived process: `python -m flows.serve` under a supervisor.

Monitors are served, not sent to a work pool: a worker that stops kills its flow processes without their `finally`, while
`serve` passes the signal on and lets them end. There is no concurrency limit: a restart of the Prefect server would end
the holders of its slots within minutes. One writer a position is kept by the lease in our own ledger.
"""

from __future__ import annotations

from typing import Any

import prefect

from flows.monitor import monitor

NAME = "served"
AT_ONCE = 8
"""Monitors that this process hosts at the same time; each is a process of about 100 MB."""


def main() -> None:
    """Serve until SIGTERM. A stop does not pause the deployment, so that the next start takes runs again at once."""
    hosted: Any = monitor.to_deployment(
        name=NAME,
        tags=["evenkeel", "monitor"],
        description="Watch one open position until it is closed, for a day at most.",
    )
    prefect.serve(hosted, pause_on_shutdown=False, limit=AT_ONCE)


if __name__ == "__main__":
    main()
