"""The ground of every repository: one short transaction per call, the fence check, and the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import Connection, Engine, Insert, Select, Table, bindparam, select
from sqlalchemy.exc import DatabaseError, OperationalError, ProgrammingError, StatementError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.compiler import compiles

from evenkeel.clock import Clock
from evenkeel.errors import Bug, EvenkeelError, LedgerUnavailable, LostRace, OperatorError
from state.engine import first_line, refuse_other_schema, writing
from state.models import Fence, LeaseTable, Row, Transition, TransitionTable
from state.version_triggers import is_refusal

R = TypeVar("R", bound=Row)
AnyFence = Fence | tuple[str, int] | None


def table_of(model: type[Any]) -> Table:
    """The SQL table behind a `…Table` class."""
    return cast(Table, model.__table__)


LEASES = table_of(LeaseTable)
TRANSITIONS = table_of(TransitionTable)
_LOG = TRANSITIONS.insert()
_HELD = (
    select(LEASES.c.token, LEASES.c.owner)
    .where(LEASES.c.name == bindparam("name"))
    .with_for_update(read=True)
)


class _Joined(NamedTuple):
    """The transaction that others join, and whether it may write."""

    engine: Engine
    connection: Connection
    writes: bool


_joined: ContextVar[_Joined | None] = ContextVar("joined", default=None)


class Database:
    """Connections and transactions. Callers get frozen rows, never live objects."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self.clock = clock

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Read several things in one transaction: each of its own would cost more than the reading. Nothing that is inside
        waits, and what is written inside is not seen there.
        """
        with self._read() as connection, _joining(_Joined(self._engine, connection, writes=False)):
            yield

    @contextmanager
    def one_transaction(self) -> Iterator[None]:
        """Write several things in one transaction, all or nothing. Nothing that is inside waits."""
        with self._write() as connection, _joining(_Joined(self._engine, connection, writes=True)):
            yield

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        joined = _joined.get()
        if joined is not None and joined.engine is self._engine:
            yield joined.connection
            return
        with _errors_of_ours("read", self._engine), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _write(self, fence: AnyFence = None, *, durable: bool = True) -> Iterator[Connection]:
        """One transaction. With a fence it fails, changing nothing, once the lease has moved on. `durable` as in `writing`."""
        joined = _joined.get()
        if joined is not None and joined.engine is self._engine and joined.writes:
            if fence is not None:
                check_fence(joined.connection, fence)
            yield joined.connection
            return
        with _errors_of_ours("written", self._engine), writing(self._engine, durable=durable) as connection:
            if fence is not None:
                check_fence(connection, fence)
            yield connection

    def _rows(self, row_type: type[R], query: Select[Any], **keys: Any) -> list[R]:
        with self._read() as connection:
            return fetch(connection, row_type, query, **keys)

    def transitions(self, entity: str | None = None, *entity_ids: str) -> list[Transition]:
        """The audit log in order; `entity` is "intent", "pause", "alert" or what a business names. With ids, of these alone."""
        query = select(TRANSITIONS).order_by(TRANSITIONS.c.id)
        if entity is not None:
            query = query.where(TRANSITIONS.c.entity == entity)
        if entity_ids:
            query = query.where(TRANSITIONS.c.entity_id.in_(entity_ids))
        return self._rows(Transition, query)

    def _insert_all(self, table: Table, rows: Iterable[Row]) -> int:
        """Insert the rows that are not stored yet, all of them in one transaction; returns how many were new."""
        values = [values_of(row) for row in rows]  # made before the transaction begins: others wait for that
        if not values:
            return 0
        with self._write() as db:
            return insert_all_new(db, table, values)


@contextmanager
def _joining(joined: _Joined) -> Iterator[None]:
    before = _joined.set(joined)
    try:
        yield
    finally:
        _joined.reset(before)


@contextmanager
def _errors_of_ours(doing: str, engine: Engine) -> Iterator[None]:
    """Say who must act: retry what the database could not do now; what it refuses is a bug of ours. What it does not
    understand may be neither: an upgrade renames columns under a process that still runs.
    """
    try:
        yield
    except (OperationalError, NoConnection) as error:
        if "no such " in first_line(error):
            refuse_other_schema(engine)
        raise LedgerUnavailable(f"database cannot be {doing} now: {first_line(error)}") from error
    except StatementError as error:
        if isinstance(error, ProgrammingError):
            refuse_other_schema(engine)
        if isinstance(error.orig, EvenkeelError):  # raised by a column type while the statement was prepared
            raise error.orig from None
        if is_refusal(error):
            raise OperatorError(first_line(error)) from error
        # The file is damaged or no database any more, or the server has closed the connection.
        if type(error) is DatabaseError or getattr(error, "connection_invalidated", False):
            raise LedgerUnavailable(f"database cannot be {doing}: {first_line(error)}") from error
        raise Bug(f"database refused a statement that breaks a rule: {first_line(error)}") from error


def check_fence(connection: Connection, fence: Fence | tuple[str, int]) -> None:
    """Raise LostRace unless the lease still has the fence's token; it cannot move before we commit."""
    name, token = fence
    row = connection.execute(_HELD, {"name": name}).first()
    if row is None or row.token != token or row.owner is None:
        raise LostRace(f"lease {name!r} is no longer held with token {token}: another worker writes here now")


def token_of(fence: AnyFence) -> int | None:
    """The number stored beside a write, to see later who made it."""
    return None if fence is None else fence[1]


def fetch(connection: Connection, row_type: type[R], query: Select[Any], **keys: Any) -> list[R]:
    """All rows of a query as frozen values. `keys` are the parameters of a query that was made beforehand."""
    return [row_type.model_validate(dict(row)) for row in connection.execute(query, keys).mappings()]


def fetch_one(connection: Connection, row_type: type[R], query: Select[Any], **keys: Any) -> R | None:
    """The first row of a query, if any. `keys` are the parameters of a query that was made beforehand and finds one row."""
    row = connection.execute(query if keys else query.limit(1), keys).mappings().first()
    return None if row is None else row_type.model_validate(dict(row))


def fetch_all(connection: Connection, row_type: type[R], query: Select[Any]) -> list[R]:
    """Every row of a query."""
    return [row_type.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def values_of(row: Row) -> dict[str, Any]:
    """The columns to insert for a row; a key that the database gives is left out."""
    columns = {name: getattr(row, name) for name in type(row).model_fields}
    if columns.get("id", 0) is None:
        del columns["id"]
    return columns


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert unless a row with the same key, or any of the same keys, is there; True when it was inserted."""
    return connection.execute(_insert_new(table), dict(values)).first() is not None


def insert_all_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert each row unless one with the same key is there; returns how many were inserted."""
    return len(connection.execute(_insert_new(table), [dict(row) for row in rows]).all())


class _InsertNew(Insert):
    """An INSERT that passes over rows whose key is known. Compiled once: the dialects' own way of saying so is compiled anew at
    each execution, which takes longer than the insert.
    """

    inherit_cache = True


@compiles(_InsertNew)  # type: ignore[no-untyped-call,untyped-decorator]
def _do_nothing(insert: _InsertNew, compiler: Any, **options: Any) -> str:
    text: str = compiler.visit_insert(insert, **options)
    return text.replace(" RETURNING ", " ON CONFLICT DO NOTHING RETURNING ", 1)


@cache
def _insert_new(table: Table) -> Insert:
    # RETURNING, because the row count of an INSERT is not reported alike by the two drivers.
    return _InsertNew(table).returning(next(iter(table.primary_key.columns)))


def log_move(
    connection: Connection,
    entity: str,
    entity_id: str,
    from_state: str,
    to_state: str,
    *,
    note: str,
    at_ms: int,
    fence: AnyFence,
) -> None:
    """Append one line to the audit log, in the transaction of the move itself."""
    connection.execute(
        _LOG,
        dict(
            entity=entity,
            entity_id=entity_id,
            from_state=from_state,
            to_state=to_state,
            note=note,
            at_ms=at_ms,
            fence=token_of(fence),
        ),
    )
