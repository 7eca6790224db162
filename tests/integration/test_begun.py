"""What begins to live while a host runs: asked for once, where nobody looks at it by itself."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import PositionStatus
from flows.accounts.watched import ACCOUNTS
from flows.begun import TICKS_MS, UNSEEN_S, Begun
from flows.carry.watched import POSITIONS
from state.store import Store
from tasks.accounts.alerts import ACCOUNTS_WATCH
from tasks.carry.mark import TICKED
from tests.databases import ManualClock, database_fixtures

databases, url, store = database_fixtures()


def entered(store: Store, position_id: str) -> None:
    store.carry.create_position(position_id, asset="SOL", leverage=Decimal(3))


def deployed(store: Store) -> None:
    user = "0x" + "1" * 40
    store.accounts.add_user(user)
    store.accounts.add_agent("trend", "ostium", "0x" + "2" * 40, Decimal("0.1"), "PROFIT_SHARE", {})
    store.accounts.deploy("d1", user, "trend", {})


def seen(store: Store, position_id: str, by: str) -> None:
    store.record_heartbeat(f"{TICKED}{position_id}", {"by": by})


def asked(begun: Begun, store: Store, now_s: float) -> list[str]:
    return [subject for _, subject in begun.unseen(store, now_s)]


def test_what_nobody_watches_is_found_after_a_while_and_what_lived_before_is_not(store: Store) -> None:
    entered(store, "before")
    begun = Begun((POSITIONS,))
    begun.known(store)
    entered(store, "after")
    assert asked(begun, store, 100.0) == []
    assert asked(begun, store, 100.0 + UNSEEN_S - 0.1) == []
    assert asked(begun, store, 100.0 + UNSEEN_S) == ["after"]


def test_a_tick_of_anybody_ends_it_for_good_however_old_it_gets(store: Store) -> None:
    """A watch that ends later has followers of its own; one that a person cancelled has none."""
    begun = Begun((POSITIONS,))
    entered(store, "p1")
    assert asked(begun, store, 0.0) == []
    seen(store, "p1", "process 7 on a terminal")
    for now_s in (5.0, 500.0, 50_000.0):
        assert asked(begun, store, now_s) == []


def test_a_tick_before_it_was_noticed_is_one(store: Store) -> None:
    """An entry of its own run may be watched before we see it, and by one process for ever."""
    begun = Begun((POSITIONS,))
    entered(store, "p1")
    seen(store, "p1", "process 7 of a run")
    for now_s in (0.0, UNSEEN_S, 50_000.0):
        assert asked(begun, store, now_s) == []


def test_a_tick_in_an_earlier_life_is_none(store: Store) -> None:
    """The watch of the accounts has one name for ever."""
    name = ACCOUNTS_WATCH
    store.record_heartbeat(name, {"by": "process 1, months ago"})
    assert isinstance(store.clock, ManualClock)
    store.clock.ms += 10 * TICKS_MS
    begun = Begun((ACCOUNTS,))
    assert asked(begun, store, 0.0) == []
    deployed(store)
    assert asked(begun, store, 1.0) == []
    assert asked(begun, store, 1.0 + UNSEEN_S) == [name]


def test_what_has_ended_is_forgotten(store: Store) -> None:
    begun = Begun((POSITIONS,))
    entered(store, "p1")
    asked(begun, store, 0.0)
    store.carry.move_position("p1", PositionStatus.OPENING, PositionStatus.FAILED)
    assert asked(begun, store, UNSEEN_S) == [] and not begun._noticed
