"""Host the monitors of this machine in one long-lived process: `python -m flows.serve` under a supervisor.

Monitors are served, not sent to a work pool: a worker that stops kills its flow processes without their `finally`, while
`serve` passes the signal on and lets them end. There is no concurrency limit: a restart of the Prefect server would end
the holders of its slots within minutes. One writer a position is kept by the lease in our own ledger.
"""

from __future__ import annotations

from flows.monitor import monitor

NAME = "served"
AT_ONCE = 8
"""Monitors that this process hosts at the same time; each is a process of about 100 MB."""


def main() -> None:
    """Serve until SIGTERM. A stop does not pause the deployment: the next start takes over where this one ended."""
    from prefect import serve

    hosted = monitor.to_deployment(
        name=NAME,
        tags=["evenkeel", "monitor"],
        description="Watch one open position until it is closed; hand over to a fresh run once a day.",
    )
    serve(hosted, pause_on_shutdown=False, limit=AT_ONCE, print_starting_message=True)


if __name__ == "__main__":
    main()
