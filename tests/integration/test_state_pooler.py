"""The ledger on PostgreSQL behind a pooler that drops what a session says of itself at its start."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.doctor.frame import Health
from app.doctor.ledger import _try_postgres
from evenkeel.clock import SystemClock
from evenkeel.errors import OperatorError
from state import engine
from state.engine import make_engine, parse_url
from state.store import Store
from tests.databases import empty_postgres

NO_ENCRYPTION = (80877103, 80877104)
"""Requests for TLS and GSS, which come before the start of a session."""


def _exactly(peer: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = peer.recv(size - len(found))
        if not part:
            raise OSError("closed")
        found += part
    return found


def _pump(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            to.sendall(part)
    for peer in (source, to):
        with suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)


def _session(client: socket.socket, server: tuple[str, int]) -> None:
    with suppress(OSError), closing(client):
        while True:
            (size,) = struct.unpack("!I", _exactly(client, 4))
            body = _exactly(client, size - 4)
            if struct.unpack("!I", body[:4])[0] not in NO_ENCRYPTION:
                break
            client.sendall(b"N")
        words = body[4:].split(b"\0")
        kept = b"".join(
            name + b"\0" + value + b"\0"
            for name, value in zip(words[0::2], words[1::2], strict=False)
            if name and name != b"options"
        )
        with socket.create_connection(server) as upstream:
            start = body[:4] + kept + b"\0"
            upstream.sendall(struct.pack("!I", len(start) + 4) + start)
            threading.Thread(target=_pump, args=(upstream, client), daemon=True).start()
            _pump(client, upstream)


@contextmanager
def without_options(url: str) -> Iterator[str]:
    """The URL of a database by way of a proxy that leaves `options` out of a session's start."""
    server = make_url(url)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    where = (server.host or "127.0.0.1", server.port or 5432)
                    threading.Thread(target=_session, args=(client, where), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        port = listening.getsockname()[1]
        yield server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)


def test_a_pooler_that_drops_the_options_of_a_session_refuses_no_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As pgbouncer/pgbouncer#525 (`ignore_startup_parameters = options`): each transaction says its schema itself."""
    with empty_postgres() as url, without_options(url) as pooled:
        Store.upgrade(pooled)
        store = Store.open(pooled, SystemClock())
        store.pause("entries", "through the pooler")
        assert [one.reason for one in store.active_pauses()] == ["through the pooler"]
        assert _try_postgres(pooled).health is Health.OK
        store.close()

        probe = make_engine(parse_url(pooled))
        with probe.connect() as connection:  # nothing stays behind in a session that others share
            assert connection.execute(text("SELECT current_setting('evenkeel.schema', true)")).scalar() in (
                None,
                "",
            )
        probe.dispose()

        monkeypatch.setattr(engine, "SCHEMA", "9999")
        older = Store(make_engine(parse_url(pooled)), SystemClock())
        with pytest.raises(OperatorError, match="9999"):
            older.pause("entries", "by a process of another version")
        older.close()
