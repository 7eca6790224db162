"""A lease has one holder, whatever the clocks say, and it is not taken from a process that lives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy

from evenkeel.errors import LostRace, OperatorError
from state.models import Fence
from state.store import Store
from state.watch_models import Severity
from tasks import leases
from tasks.leases import HolderState, OwnLeases, own_name, state_of_holder
from tests.databases import ManualClock, another_process, database_fixtures, make_ledger
from tests.upgrades import next_program

databases, url, store = database_fixtures()


@pytest.fixture(autouse=True)
def _short_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that a lease is not renewed takes three of them."""
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.02)


EXPIRED, LONG = -1, 600_000
DEAD_PID = 2**22 + 1  # above every number that Linux gives
GONE, ALIVE, UNKNOWN = HolderState.GONE, HolderState.ALIVE, HolderState.UNKNOWN


def changed(owner: str, **parts: str) -> str:
    """Another process's name, made from one that is there."""
    names = ("host", "pid", "life", "boot", "namespace", "start")
    known = dict(zip(names, owner.split(":"), strict=True)) | parts
    return ":".join(known[name] for name in names)


async def take(store: Store, *, from_living: bool = False) -> Fence:
    async with OwnLeases(store).exclusive("p", "p", from_living=from_living) as fence:
        return fence


@pytest.mark.parametrize("by_ms", [31_000, -31_000, 10**12])
def test_a_host_whose_clock_is_wrong_takes_no_lease_and_loses_none(
    url: str, store: Store, by_ms: int
) -> None:
    """The lease is given out and judged by one clock, the database's."""
    right = ManualClock(int(time.time() * 1000))
    wrong = ManualClock(right.ms + by_ms)
    first, second = Store.open(url, right), Store.open(url, wrong)
    for holder, other in ((first, second), (second, first)):
        fence = holder.acquire("p", "holder", 30_000)
        assert fence is not None
        assert other.acquire("p", "other", 30_000) is None
        lease = other.lease("p")
        assert lease is not None and 25_000 < lease.expires_ms - other.database_ms() <= 30_000
        holder.renew(fence, EXPIRED)
        taken = other.acquire("p", "other", 30_000)
        assert taken is not None, "it has run out, also for the one whose clock is behind"
        assert other.release(taken)
    first.close()
    second.close()


def test_the_databases_time_is_unix_time_in_ms(store: Store) -> None:
    assert abs(store.database_ms() - time.time() * 1000) < 5_000


def test_what_was_seen_of_a_holder_counts_only_while_it_is_the_holder(store: Store) -> None:
    assert store.acquire("p", "a", EXPIRED, seen=7) is None
    first = store.acquire("p", "a", EXPIRED, seen=0)
    assert first == Fence("p", 1)
    assert store.acquire("p", "b", EXPIRED, seen=0) is None
    assert store.acquire("p", "b", EXPIRED, seen=1) == Fence("p", 2)


@pytest.mark.parametrize("ttl_ms", [EXPIRED, LONG])
async def test_a_living_process_keeps_its_lease_until_the_kill_switch_takes_it(
    store: Store, ttl_ms: int
) -> None:
    """Also one that hangs and does not renew: who takes over could trade beside it."""
    with another_process() as (child, owner):
        held = store.acquire("p", owner, ttl_ms)
        assert held is not None and state_of_holder(owner) is ALIVE
        with pytest.raises(LostRace, match=f"process {child.pid} on ") as refused:
            await take(store)
        if ttl_ms == EXPIRED:
            assert "alive and has not renewed its lease for 30 s" in str(refused.value)
            assert "stop that process" in str(refused.value) and "evenkeel flatten" in str(refused.value)
        assert OwnLeases(store).held_elsewhere("p")
        assert (await take(store, from_living=True)).token == held.token + 1
        with pytest.raises(LostRace):
            store.renew(held, LONG)


@pytest.mark.parametrize("waited_for", [True, False])
async def test_the_lease_of_a_process_that_is_gone_is_taken_at_once(store: Store, waited_for: bool) -> None:
    """Also while its parent has not asked for its exit code: it is still listed then, and runs no more."""
    with another_process() as (child, owner):
        assert store.acquire("p", owner, LONG)
        child.kill()
        if waited_for:
            child.wait()
        else:
            await asyncio.to_thread(os.waitid, os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert state_of_holder(owner) is GONE
        assert not OwnLeases(store).held_elsewhere("p")
        assert (await take(store)).token == 2


async def test_a_process_that_has_the_holders_number_is_not_the_holder(store: Store) -> None:
    with another_process() as (_, owner):
        earlier = changed(owner, start="1")
        assert state_of_holder(earlier) is GONE
        assert store.acquire("p", earlier, LONG)
        assert (await take(store)).token == 2
    ours = changed(own_name(), life="earlier", start="1")
    assert state_of_holder(ours) is GONE and state_of_holder(own_name()) is ALIVE


@pytest.mark.parametrize("part", ["boot", "namespace", "host"])
async def test_a_process_that_cannot_be_judged_from_here_is_waited_for(store: Store, part: str) -> None:
    """Another container under this host's name, or another machine: that nothing has its number here proves nothing."""
    elsewhere = {
        "boot": {"boot": "another"},
        "namespace": {"namespace": "1"},
        "host": {"host": "far", "boot": "another"},
    }
    owner = changed(own_name(), pid=str(DEAD_PID), **elsewhere[part])
    assert state_of_holder(owner) is UNKNOWN
    held = store.acquire("p", owner, LONG)
    assert held is not None
    with pytest.raises(LostRace, match=f"process {DEAD_PID} on "):
        await take(store)
    assert OwnLeases(store).held_elsewhere("p")
    store.renew(held, EXPIRED)
    assert not OwnLeases(store).held_elsewhere("p")
    assert (await take(store)).token == 2


@pytest.mark.parametrize("pid", [DEAD_PID, os.getpid()], ids=["dead here", "alive here"])
async def test_a_holder_of_the_first_release_is_waited_for(store: Store, pid: int) -> None:
    """Its name is host, process and life: enough for no judgement, however its number stands here."""
    owner = f"{own_name().split(':')[0]}:{pid}:0badcafe"
    held = store.acquire("p", owner, LONG)
    assert held is not None
    with pytest.raises(LostRace, match=f"process {pid} on "):
        await take(store)
    store.renew(held, EXPIRED)
    assert (await take(store)).token == 2


async def test_what_this_process_could_not_give_back_is_in_nobodys_way(store: Store) -> None:
    """A busy ledger refused the release: nothing of this process uses the lease any more, and any part of it takes it."""
    held = store.acquire("p", own_name(), LONG)
    assert held is not None and not OwnLeases(store).held_elsewhere("p")
    async with OwnLeases(store).exclusive("p", "p") as fence:
        assert fence.token == held.token + 1
        assert OwnLeases(store).held_elsewhere("p")
        with pytest.raises(LostRace):
            await take(store)


async def test_where_the_system_does_not_say_a_lease_is_waited_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_process() as (_, owner):
        monkeypatch.setattr(leases, "_PROC", tmp_path)
        assert len(own_name().split(":")) == 3
        assert state_of_holder(owner) is UNKNOWN and state_of_holder(own_name()) is ALIVE
        held = store.acquire("p", owner, LONG)
        assert held is not None
        with pytest.raises(LostRace):
            await take(store)
        store.renew(held, EXPIRED)
        assert (await take(store)).token == 2


def test_names_that_are_no_process_are_not_judged() -> None:
    for owner in ("worker", "", "a:b:c", "a:1", "a:1:2:3"):
        assert state_of_holder(owner) is UNKNOWN


TRY = """
import asyncio, sys
from evenkeel.clock import SystemClock
from evenkeel.errors import LostRace
from state.store import Store
from tasks.leases import OwnLeases, own_name
async def main():
    store = Store.open(sys.argv[1], SystemClock())
    try:
        async with OwnLeases(store).exclusive("p", "p"):
            print("TAKEN", own_name())
    except LostRace as lost:
        print("REFUSED", own_name(), lost)
asyncio.run(main())
"""


def _launcher(*more: str) -> tuple[str, ...]:
    """Starts a program in a namespace of process numbers of its own, under the same host name."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = ("unshare", *user, "--pid", "--fork", "--kill-child", *more)
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us make a namespace of process numbers")
    return command


@pytest.mark.parametrize("own_proc", [True, False])
async def test_two_containers_under_one_host_name_take_no_lease_from_each_other(
    url: str, store: Store, own_proc: bool
) -> None:
    """Neither finds the other's number among its own processes. The second sees a /proc that is not its own, too."""
    launcher = _launcher(*(["--mount-proc"] if own_proc else []))
    async with OwnLeases(store).exclusive("p", "p"):
        tried = await asyncio.to_thread(
            subprocess.run,
            [*launcher, sys.executable, "-c", TRY, url],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert tried.stdout.startswith("REFUSED"), tried
        assert f"process {os.getpid()} on " in tried.stdout
        assert len(tried.stdout.split()[1].split(":")) == (6 if own_proc else 3)
    with another_process(*launcher) as (_, owner):
        assert owner.split(":")[:2] == [own_name().split(":")[0], "1"]
        assert state_of_holder(owner) is UNKNOWN
        away = owner.replace(":1:", f":{DEAD_PID}:", 1)  # a number that nothing has here
        assert store.acquire("p", away, LONG)
        with pytest.raises(LostRace):
            await take(store)


async def test_a_clock_that_jumps_ahead_takes_no_lease_that_is_renewed(store: Store) -> None:
    """By the clock it has expired for as long as the holder takes to renew it; the holder lives where we cannot look."""
    held = store.acquire("p", changed(own_name(), pid=str(DEAD_PID), namespace="1"), EXPIRED)
    assert held is not None

    async def renew() -> None:
        while True:
            store.renew(held, EXPIRED)
            await asyncio.sleep(0.005)

    renewing = asyncio.create_task(renew())
    try:
        with pytest.raises(LostRace):
            await take(store)
    finally:
        renewing.cancel()
    assert (await take(store)).token == 2


async def test_a_clock_that_was_set_back_holds_up_nobody_for_longer_than_a_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_MS", 50)
    assert store.acquire("p", changed(own_name(), pid=str(DEAD_PID), namespace="1"), 3_600_000)
    own, refused = OwnLeases(store), 0
    async with asyncio.timeout(20):
        while True:
            try:
                async with own.exclusive("p", "p") as fence:
                    break
            except LostRace:
                refused += 1
                await asyncio.sleep(0.01)
    assert refused and fence.token == 2


async def test_a_lease_is_renewed_while_the_work_lasts_and_given_back_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnLeases(store)
    async with own.exclusive("p", "p") as fence:
        store.renew(fence, EXPIRED)
        async with asyncio.timeout(20):
            while (lease := store.lease("p")) is None or lease.expires_ms <= store.database_ms():
                await asyncio.sleep(0.01)
        with pytest.raises(LostRace, match=f"process {os.getpid()} on "):
            async with own.exclusive("p", "p"):
                pass
    lease = store.lease("p")
    assert lease is not None and lease.owner is None


async def test_a_process_that_is_older_than_the_ledger_says_so_when_it_writes(
    url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal ends at the refusal, and what is written next raises it."""
    before = asyncio.all_tasks()
    with pytest.raises(OperatorError, match="restart it"):
        async with OwnLeases(store).exclusive("p", "p") as fence:
            [renewing] = asyncio.all_tasks() - before
            with next_program(tmp_path, "    pass\n"):
                Store.upgrade(url)
            await asyncio.wait_for(renewing, 20)
            store.record_heartbeat("monitor")
    assert fence.token == 1


def test_a_lease_does_not_wait_for_the_disk_and_what_is_written_with_it_does(tmp_path: Path) -> None:
    """SQLite's own word for it as each transaction begins: 1 where a commit does not wait, 2 where it does."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    make_ledger(url)
    store, levels = Store.open(url, ManualClock(int(time.time() * 1000))), list[int]()

    def note(connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement == "BEGIN IMMEDIATE":
            cursor = connection.connection.cursor()
            levels.append(cursor.execute("PRAGMA synchronous").fetchone()[0])

    with contextlib.closing(store):
        sqlalchemy.event.listen(store._engine, "before_cursor_execute", note)
        fence = store.acquire("p", "holder", LONG)
        assert fence is not None
        store.alert("anything", Severity.WARNING, "is written", subject="p")
        store.renew(fence, LONG)
        store.alert("anything else", Severity.WARNING, "is written", subject="p")
        assert store.release(fence)
    assert levels == [1, 2, 1, 2, 1]


def test_a_forked_process_has_a_name_of_its_own() -> None:
    reading, writing = os.pipe()
    before = own_name()
    if (child := os.fork()) == 0:
        os.write(writing, own_name().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 500).decode().split(":")[1] == str(child)
    assert own_name() == before
    os.close(reading)
    os.close(writing)
