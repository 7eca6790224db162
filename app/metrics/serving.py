"""Serve `/metrics` from a thread of a long-lived process, with a ledger connection of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from app.metrics.collector import LedgerCollector
from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.desk import make_clock

log = logging.getLogger("evenkeel.metrics")


@contextmanager
def metrics(settings: Settings, port: int) -> Iterator[str]:
    """Yield the address under which the metrics of the ledger are served; "" where `port` is 0, or where it is taken, which the
    log says.
    """
    if not port:
        yield ""
        return
    try:
        with _served(settings, port) as address:
            log.warning("metrics: %s", address)
            yield address
    except _Unserved as fault:  # an alarm must not depend on it
        log.error("%s", fault)
        yield ""


class _Unserved(Exception):
    """The port is taken, or the ledger cannot be opened."""


def registry_of(settings: Settings, store: Store) -> CollectorRegistry:
    """Return everything that is served: the ledger's metrics, and those of the process that serves them."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(LedgerCollector(settings, store))
    return registry


@contextmanager
def _served(settings: Settings, port: int) -> Iterator[str]:
    store = Store.open(settings.database.url, make_clock(settings))
    registry = registry_of(settings, store)
    host = settings.metrics.host
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as fault:
        store.close()
        raise _Unserved(
            f"metrics cannot be served on {host}:{port} ({fault.strerror}): choose another port"
        ) from None
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
        store.close()
