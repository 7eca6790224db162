"""Whether the ledger can be trusted and is clean: schema, writing, durability, space, and what earlier runs left."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import text

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from evenkeel.legs import CARRY
from state.engine import damage, head_revision, make_engine, parse_url, writing
from state.watch_models import Severity
from tasks.carry.books.recovery import compare_legs, interrupted_positions
from tasks.carry.desk import CarryDesk
from tasks.carry.last_ticks import last_ticks, overdue_after_s
from tasks.leases import HolderState, described, state_of_holder

T = TypeVar("T")
GROUP = "ledger"
LOCK_TIMEOUT_S = 2.0
CHECK_S = 10.0
"""Wall seconds for the pages of the file: some gigabytes."""
RESTORE = 'stop every process, then restore a copy (docs/runbook.md, "Restore a copy")'


async def _apart(work: Callable[[], T]) -> T:
    """The ledger is synchronous: a locked one must not hold up the other checks."""
    return await asyncio.to_thread(work)


@check(GROUP, "schema")
async def schema(installation: Installation) -> Verdict:
    if (why := installation.problems.get("ledger")) is not None:
        advice = (
            "run `evenkeel db upgrade`" if "db upgrade" in why else "check database.url and who else uses it"
        )
        return fail(why, advice)
    assert installation.ledger is not None
    return ok(f"schema {head_revision()}")


@check(GROUP, "writable")
async def writable(installation: Installation) -> Verdict:
    """A writer's transaction is begun and given up. Nothing is written."""
    url = parse_url(installation.settings.database.url)
    if url.drivername.startswith("sqlite"):
        path = Path(str(url.database))
        if not path.is_file():
            return fail(f"{path} does not exist", "run `evenkeel db upgrade`")
        return await _apart(lambda: _try_sqlite(path))
    return await _apart(lambda: _try_postgres(installation.settings.database.url))


def _try_sqlite(path: Path) -> Verdict:
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    except sqlite3.Error as error:
        if not isinstance(error, sqlite3.OperationalError):
            return fail(f"{path} is damaged: {error}", RESTORE)
        advice = (
            "another process holds it for long: stop that process, or look for a backup tool that locks it"
            if "locked" in str(error)
            else "check the rights and the file system of the folder"
        )
        return fail(f"{path} cannot be written: {error}", advice)
    finally:
        connection.close()
    if str(mode).lower() != "wal":
        return fail(
            f"journal mode is {mode}, not WAL",
            "put the ledger on a local file system, not on a network share",
        )
    engine = make_engine(parse_url(f"sqlite:///{path}"))
    try:
        found = damage(engine, CHECK_S)
    finally:
        engine.dispose()
    if found is not None:
        return fail(f"{path} is damaged: {found}", RESTORE)
    return ok("writable, WAL, synchronous FULL")


def _try_postgres(url_text: str) -> Verdict:
    engine = make_engine(parse_url(url_text))
    try:
        with writing(engine) as connection:
            read_only = connection.execute(text("SHOW transaction_read_only")).scalar_one()
            durable = connection.execute(text("SHOW synchronous_commit")).scalar_one()
            said = connection.execute(text("SELECT current_setting('evenkeel.schema', true)")).scalar_one()
    finally:
        engine.dispose()
    if read_only != "off":
        return fail("the server is read-only (a standby?)", "point database.url at the primary")
    if durable == "off":
        return fail(
            "synchronous_commit is off: a key could be lost after it was sent",
            "set synchronous_commit = on for this database",
        )
    if said != head_revision():
        return fail(
            f"a transaction's setting evenkeel.schema arrives as {said or 'nothing'}: every write would be refused",
            "connect to the server itself, or let the pooler keep a transaction's settings",
        )
    return ok("writable, commits are durable")


@check(GROUP, "leases")
async def leases(installation: Installation) -> Verdict:
    """A lease of a dead process is taken over at once on its own machine, and elsewhere after it has run out. One that ran out
    while its holder is alive here belongs to a process that hangs.
    """
    held = [(one, str(one.owner)) for one in await _apart(installation.store.leases) if one.owner]
    now_ms = await _apart(installation.store.database_ms)
    states = {one.name: state_of_holder(owner) for one, owner in held}
    running = {one.name for one, _ in held if one.expires_ms > now_ms}
    dead = [name for name in running if states[name] is HolderState.GONE]
    if dead:
        return warn(
            f"held by a process that is gone: {', '.join(sorted(dead))}",
            "run `evenkeel recover`: it takes them over and goes on",
        )
    hanging = [
        f"{one.name} ({described(owner)})"
        for one, owner in held
        if one.name not in running and states[one.name] is HolderState.ALIVE
    ]
    if hanging:
        return warn(
            f"held by a process that is alive and does not renew: {', '.join(hanging)}",
            "stop that process, then run `evenkeel recover`; `evenkeel flatten` takes the lease over",
        )
    return ok(f"{len(running)} held" + (f" ({', '.join(sorted(running))})" if running else ""))


@check(GROUP, "watched")
async def watched(installation: Installation) -> Verdict:
    """Whether somebody looks at every live position, by the rule of `evenkeel watchdog`."""
    after = overdue_after_s(installation.settings)
    found = await _apart(lambda: last_ticks(installation.store))
    alone = [f"{one.position_id} ({one.age_s:.0f} s ago)" for one in found if one.is_overdue(after)]
    if alone:
        return fail(
            f"nobody has looked for {after:.0f} s at {', '.join(alone)}",
            "keep `evenkeel monitor POSITION` or `python -m flows.serve` running",
        )
    return ok(f"{len(found)} live positions, all looked at" if found else "no live position")


@check(GROUP, "unfinished work")
async def unfinished(installation: Installation) -> Verdict:
    def read() -> tuple[list[str], list[str]]:
        intents = [one.intent_id for one in installation.store.unfinished_intents(CARRY)]
        return intents, [
            f"{one.position_id} is {one.status}" for one in interrupted_positions(_desk(installation))
        ]

    intents, positions = await _apart(read)
    if intents or positions:
        return warn(
            "; ".join([*positions, *(f"intent {one} is unfinished" for one in intents)]),
            "run `evenkeel recover` before anything else",
        )
    return ok("no intent and no position is half-way")


@check(GROUP, "legs are owned")
async def owned(installation: Installation) -> Verdict:
    """Our rows against what both venues hold now."""
    found = await compare_legs(_desk(installation))
    if found.unreadable:
        answer = "; ".join(f"{venue}: {why}" for venue, why in found.unreadable.items())
        return fail(f"cannot be compared: {answer}", "see the checks of that venue")
    if found.unowned:
        return fail(
            "; ".join(str(one) for one in found.unowned),
            "run `evenkeel reconcile`; what it cannot explain, close by hand on the venue",
        )
    return ok("books and venues hold the same legs")


def _desk(installation: Installation) -> CarryDesk:
    venues = installation.venues
    return CarryDesk(installation.settings, installation.clock, installation.store, venues.long, venues.short)


@check(GROUP, "pauses")
async def pauses(installation: Installation) -> Verdict:
    found = await _apart(installation.store.active_pauses)
    if found:
        return warn(
            "; ".join(f"{one.scope}: {one.reason}" for one in found),
            "entries are refused until `evenkeel resume`, or until the pause ends",
        )
    return ok("nothing is paused")


@check(GROUP, "alerts")
async def alerts(installation: Installation) -> Verdict:
    found = [one for one in await _apart(lambda: installation.store.alerts(open_only=True))]
    critical = [one for one in found if one.severity is Severity.CRITICAL and one.seen_ms is None]
    if critical:
        return warn(
            "; ".join(f"{one.kind}: {one.text}" for one in critical),
            "see `evenkeel status` and docs/runbook.md",
        )
    seen = sum(one.seen_ms is not None for one in found)
    return ok(
        f"{len(found)} open{f', {seen} of them acknowledged' if seen else ''}, none critical that nobody has seen"
    )
