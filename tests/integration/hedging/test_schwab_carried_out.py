"""Orders at Schwab's twin, driven by `carry_out` through disturbed placements and restarts: what was filled is booked, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import app
from evenkeel.errors import OperatorError
from evenkeel.settings.hedging import Hedging, SchwabAccount
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from state.store import Store
from tasks.desk import Desk
from tasks.hedging.opening import schwab_login
from tasks.intents import Done, Ending, NotDone, StillUnknown, StillWorking, carry_out
from tests.databases import database_fixtures
from tests.schwab_rig import TOKEN_KEY, SchwabRig, schwab_rig
from tests.shop import SHOP, ShopBooks, done_of, open_shop
from venues.schwab.venue import LIFE_MS

databases, url, _store = database_fixtures("sqlite")
TRIES = 2


@asynccontextmanager
async def trading(url: str) -> AsyncIterator[tuple[SchwabRig, Store]]:
    async with schwab_rig() as rig:
        store = open_shop(url, rig.clock, "AMD")
        try:
            yield rig, store
        finally:
            store.close()


def plan(rig: SchwabRig, store: Store) -> str:
    spec = rig.intent().model_copy(update={"business": SHOP})
    store.plan_intent(spec)
    return spec.intent_id


def desk_of(rig: SchwabRig, store: Store) -> Desk:
    """One process: what its adapter remembers is gone with it; the ledger says whose which order is."""
    rows = [store.intent(f"hedge-{n}") for n in range(1, rig.steps + 1)]
    rig.claims = {
        str(said["ref"]): row.intent_id for row in rows for said in (row.so_far, row.result) if said
    }
    return Desk(Settings(), rig.clock, store, {VenueName.SCHWAB: rig.venue_for()}, {SHOP: ShopBooks()})


async def to_the_end(rig: SchwabRig, store: Store, intent_id: str) -> Ending:
    """Each time another process takes it up, until it is final."""
    for _ in range(20):
        ending = await carry_out(desk_of(rig, store), intent_id, None, wait_s=20, attempts=TRIES)
        if isinstance(ending, Done | NotDone):
            return ending
        rig.later(30)
    raise AssertionError(f"not final: {ending}")


@pytest.mark.parametrize(
    "kind", ["", "drop_request", "drop_answer", "http_500", "http_500_after", "garbage", "http_429"]
)
async def test_a_disturbed_placement_is_one_order_and_a_lost_one_is_tried_again(url: str, kind: str) -> None:
    async with trading(url) as (rig, store):
        rig.twin.book.walk_ms = 2_000
        intent_id = plan(rig, store)
        if kind:
            rig.fault(kind, "order:place")
        ending = await to_the_end(rig, store, intent_id)
        if isinstance(ending, NotDone):
            # Its one attempt is proved dead, later than anybody waits for a second one: the caller plans anew.
            assert kind in ("drop_request", "http_500", "http_429") and not rig.twin.book.orders
            return
        assert isinstance(ending, Done) and len(rig.twin.book.orders) == 1
        assert rig.twin.book.shares["AMD"] == 10 == Decimal(done_of(store, intent_id) or 0)


async def test_a_part_is_booked_as_it_comes_by_processes_that_only_have_the_ledger(url: str) -> None:
    async with trading(url) as (rig, store):
        rig.fault("hold")
        intent_id = plan(rig, store)
        assert isinstance(await carry_out(desk_of(rig, store), intent_id, None, wait_s=5), StillWorking)
        (order,) = rig.twin.book.orders.values()
        row = store.intent(intent_id)
        assert row.so_far is not None and row.so_far["ref"] == str(order.order_id)
        # A person has placed the same at the website: which is ours, the ledger knows.
        rig.twin.control("foreign", {"symbol": "AMD", "instruction": "BUY", "quantity": 10})
        rig.twin.book.fill(order.order_id, Decimal(4))
        rig.later(60)
        assert isinstance(await carry_out(desk_of(rig, store), intent_id, None, wait_s=5), StillWorking)
        assert done_of(store, intent_id) == "4"
        rig.twin.book.fill(order.order_id, Decimal(6))
        ending = await to_the_end(rig, store, intent_id)
        assert isinstance(ending, Done) and ending.receipt.ref == str(order.order_id)
        assert done_of(store, intent_id) == "10" and rig.calls("order:place") == 1


async def test_of_two_candidates_nothing_is_taken_and_nothing_sent_however_long_it_takes(url: str) -> None:
    async with trading(url) as (rig, store):
        intent_id = plan(rig, store)
        rig.fault("drop_answer", "order:place")
        rig.fault("http_500", "order:list", times=-1)
        assert isinstance(await carry_out(desk_of(rig, store), intent_id, None, wait_s=5), StillUnknown)
        rig.running.faults.clear()
        rig.twin.control("foreign", {"symbol": "AMD", "instruction": "BUY", "quantity": 10})
        for _ in range(4):
            rig.later(LIFE_MS / 1000)
            ending = await carry_out(desk_of(rig, store), intent_id, None, wait_s=5, attempts=TRIES)
            assert isinstance(ending, StillUnknown) and "the operator decides" in ending.reason
        assert done_of(store, intent_id) is None and rig.calls("order:place") == 1


async def test_the_ledger_keeps_the_login_and_the_settings_open_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trading(url) as (rig, store):
        (tmp_path / "secret").write_text(rig.twin.login.app_secret + "\n")
        section = SchwabAccount(url=rig.url, account="6789", secret_file=tmp_path / "secret")
        settings = Hedging(schwab=section)
        with pytest.raises(OperatorError, match="EVENKEEL_SCHWAB_KEY"):
            schwab_login(settings, rig.clock, store)
        monkeypatch.setenv("EVENKEEL_SCHWAB_KEY", rig.twin.login.app_key)
        with pytest.raises(OperatorError, match="EVENKEEL_TOKEN_KEY"):
            schwab_login(settings, rig.clock, store)
        monkeypatch.setenv("EVENKEEL_TOKEN_KEY", TOKEN_KEY)
        login = schwab_login(settings, rig.clock, store)
        await rig.log_in(login)
        client = rig.client_for(login)
        assert await rig.venue_for(client).cash() == rig.twin.book.cash
        rig.later(1700)
        await rig.venue_for(client).cash()
        row = store.hedging.token("schwab")
        assert row is not None and row.version == 2 and row.access_ms > row.login_ms
        await login.aclose()


async def test_the_command_line_logs_in_by_its_settings_and_its_ledger(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with schwab_rig() as rig:
        config = tmp_path / "evenkeel.toml"
        config.write_text(f'[database]\nurl = "{url}"\n\n[hedging.schwab]\nurl = "{rig.url}"\n')
        (tmp_path / "new-key").write_text("4b" * 32)
        for name, value in {
            "EVENKEEL_CONFIG": str(config),
            "EVENKEEL_SCHWAB_KEY": rig.twin.login.app_key,
            "EVENKEEL_SCHWAB_SECRET": rig.twin.login.app_secret,
            "EVENKEEL_TOKEN_KEY": TOKEN_KEY,
        }.items():
            monkeypatch.setenv(name, value)

        async def run(*words: str, pasted: str = "") -> Result:
            return await asyncio.to_thread(CliRunner().invoke, app, ["auth", *words], input=pasted)

        assert (await run("status")).exit_code == 1
        done = await run("schwab", "--json", pasted=rig.twin.login.allow() + "\n")
        assert done.exit_code == 0, done.output
        assert (await run("status")).exit_code == 0
        assert (await run("rotate", "--new-key-file", str(tmp_path / "new-key"))).exit_code == 0
        again = await run("rotate", "--new-key-file", str(tmp_path / "new-key"))
        assert isinstance(again.exception, OperatorError) and "EVENKEEL_TOKEN_KEY" in str(again.exception)
        store = Store.open(url, rig.clock)
        row = store.hedging.token("schwab")
        store.close()
        assert row is not None and row.version == 2
        assert not [one for one in rig.twin.login.issued if one in row.sealed + done.output]
