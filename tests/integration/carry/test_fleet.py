"""Several accounts on one ledger: each trades its own, sees its own, and together they stay under the caps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import actions
from app.requests.asking import Asking
from evenkeel.errors import LedgerUnavailable, OperatorError
from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings, load_settings
from flows.carry.daily import DailyRequest, as_markdown, daily_report
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.flatten import flatten
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.recover import recover_accounts
from flows.carry.watch import Watching
from state.requests.models import RequestAction
from state.watch_models import TRIPPED_BY, Severity
from tasks import admin
from tasks.carry.books.recovery import compare_legs
from tasks.carry.desk import CarryDesk, open_desk, open_desk_to_close, open_desks
from tasks.carry.watching import breakers
from tasks.carry.watching.watcher import Watcher
from tests.carry.fleet import FleetRig, fleet_rig


async def entered(desk: CarryDesk) -> str:
    result = await enter_position(desk, EnterRequest(asset="SOL", protocol=1))  # type: ignore[arg-type]
    assert result.status == "OPEN" and result.position_id is not None, result
    return result.position_id


async def test_two_accounts_hold_a_position_each_and_neither_sees_the_others(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        north, south = rig.of("north"), rig.of("south")
        first = await entered(north)
        assert (await enter_position(north, EnterRequest(asset="SOL", protocol=1))).status == "refused"  # type: ignore[arg-type]
        second = await entered(south)

        assert [one.position_id for one in north.store.carry.positions()] == [first]
        assert [one.position_id for one in south.store.carry.positions()] == [second]
        assert {one.position_id for one in rig.whole.carry.positions()} == {first, second}
        assert all(qty > 1 for qty in rig.shorts().values()), rig.shorts()
        for desk in rig.desks:
            found = await compare_legs(desk)
            assert not found.unowned and not found.unreadable, found

        done = await exit_position(north, ExitRequest(position_id=first))
        assert done.status is PositionStatus.CLOSED
        assert rig.shorts()["north"] == 0 and rig.shorts()["south"] > 1
        with pytest.raises(OperatorError, match=f"{second} belongs to the hyperliquid account"):
            await exit_position(north, ExitRequest(position_id=second))


async def test_the_books_of_a_fleet_agree_after_it_was_watched(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path, strategy={"poll_interval_s": 120}) as rig:
        names = {desk.store.member: await entered(desk) for desk in rig.desks}
        # One after the other: each wait moves the clock of this world, also while another account is being read.
        each = []
        for desk, seconds in ((one, seconds) for seconds in (3700, 10) for one in rig.desks):
            until_ms = desk.clock.now_ms() + seconds * 1000
            request = MonitorRequest(position_id=names[desk.store.member], until_ms=until_ms)
            each.append(await watch_position(desk, request))
        assert all(one.status is PositionStatus.OPEN and not one.actions for one in each), each
        found = await recover_accounts(rig.desks)
        assert found.clean and not found.findings, found
        assert not rig.whole.alerts(open_only=True), rig.whole.alerts(open_only=True)
        for desk in rig.desks:
            mine = desk.store.carry.funding_payments(position_id=names[desk.store.member])
            assert mine and {one.account for one in mine} == {desk.short.address}


async def test_the_caps_of_exposure_count_the_whole_fleet_and_those_of_an_asset_each_account(
    tmp_path: Path,
) -> None:
    async with fleet_rig(tmp_path) as rig:
        north, south = rig.of("north"), rig.of("south")
        first = await entered(north)
        size = rig.whole.carry.position(first).size_usd
        assert size is not None
        limits = south.settings.limits.model_copy(
            update={"max_total_exposure_usd": size + 2_000, "max_position_usd": size}
        )
        south.settings = south.settings.model_copy(update={"limits": limits})
        refused = await enter_position(south, EnterRequest(asset="SOL", protocol=1, size_usd=size))  # type: ignore[arg-type]
        assert refused.status == "refused"
        assert any("the cap on all positions" in one for one in refused.reasons), refused


async def test_alerts_and_pauses_of_an_account_are_its_own_and_those_of_everybody_are_everybodys(
    tmp_path: Path,
) -> None:
    async with fleet_rig(tmp_path) as rig:
        north, south = rig.of("north"), rig.of("south")
        north.store.pause("entries", "drill")
        assert breakers.halted(north) and not breakers.halted(south)
        assert [one.scope for one in rig.whole.active_pauses()] == ["entries@north"]
        rig.whole.pause("entries", "all of us")
        assert breakers.halted(south)
        assert north.store.resume("entries") == 1 and breakers.halted(north), (
            "what a person set for all stays"
        )

        north.store.alert("agent key", Severity.WARNING, "36 h left")
        south.store.alert("agent key", Severity.WARNING, "20 h left")
        assert {one.subject for one in rig.whole.alerts()} == {"@north", "@south"}
        assert [one.text for one in north.store.alerts()] == ["36 h left"]
        assert south.store.ack_alert("agent key") and not south.store.alerts(open_only=True)
        assert north.store.alerts(open_only=True)


async def test_flatten_closes_every_account_and_one_named_only_that(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        for desk in rig.desks:
            await entered(desk)
        settings = load_settings(rig.config)
        one = await flatten(settings.for_account("north"), "drill", 60)
        assert one.flat and rig.shorts()["north"] == 0 and rig.shorts()["south"] > 1
        everything = await flatten(settings, "drill", 60)
        assert everything.flat and set(rig.shorts().values()) == {0}
        assert len(everything.positions) == 1, "the other had ended"


async def test_a_position_says_whose_desk_it_needs(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        settings = load_settings(rig.config)
        with pytest.raises(
            OperatorError, match=r"2 accounts are in the fleet \(north, south\): name one with --account"
        ):
            async with open_desk(settings):
                pass
        with pytest.raises(OperatorError, match="no account is named 'west'; the fleet has north, south"):
            async with open_desk(settings, account="west"):
                pass
        second = await entered(rig.of("south"))
        async with open_desk(settings, position_id=second) as desk:
            assert desk.store.member == "south"
        async with open_desk_to_close(settings.for_account("south")) as desk:
            assert desk.store.member == "south" and not desk.without_key


async def no_flow(*_: Any) -> None:
    """Prefect is not there."""


async def test_without_a_name_the_only_position_of_the_fleet_is_meant(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        settings = load_settings(rig.config)
        for command in (
            lambda: actions.rebalance(settings, None, no_flow),
            lambda: actions.exit_(settings, {}),
        ):
            with pytest.raises(
                OperatorError, match=r"^no position is OPEN.*; the fleet's accounts: north, south$"
            ):
                await command()
        second = await entered(rig.of("south"))
        with pytest.raises(OperatorError, match=r"^no position is OPEN; .*: north, south$"):
            await actions.rebalance(settings.model_copy(update={"account": "north"}), None, no_flow)
        assert (await actions.rebalance(settings, None, no_flow))["position_id"] == second
        first = await entered(rig.of("north"))
        with pytest.raises(
            OperatorError, match=f"2 positions are OPEN .{second}, {first}.: name the one you mean"
        ):
            await actions.rebalance(settings, None, no_flow)
        assert (await actions.exit_(settings, {"position_id": second}))["status"] == "CLOSED"
        assert (await actions.exit_(settings, {}))["position_id"] == first


async def test_a_flatten_that_was_asked_for_closes_every_account(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        names = [await entered(desk) for desk in rig.desks]
        asking = Asking(load_settings(rig.config), rig.whole)
        answer = asking.ask(RequestAction.FLATTEN, who="U0ANN", via="slack", key="t1")
        asking.confirm(answer.request_id, who="U0ANN")
        for desk, name in zip(rig.desks, names, strict=True):
            assert breakers.refuse_growth(desk) is not None
            until_ms = desk.clock.now_ms() + 60_000
            done = await watch_position(desk, MonitorRequest(position_id=name, until_ms=until_ms))
            assert done.status is PositionStatus.CLOSED
        assert set(rig.shorts().values()) == {0}


def account(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "hyperliquid_account": f"0x{number:040x}",
        "hyperliquid": {"keystore_file": f"/keys/{name}-h"},
        "solana": {"keystore_file": f"/keys/{name}-s"},
    } | more


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ({"fleet": [account("a", 1), account("a", 2)]}, "two accounts of the fleet have one name"),
        ({"fleet": [account("a", 1), account("b", 1)]}, "have one hyperliquid_account"),
        (
            {"fleet": [account("a", 1), account("b", 2, solana={"keystore_file": "/keys/a-s"})]},
            "have one solana key",
        ),
        ({"fleet": [account("A b", 1)]}, "must be 1 to 31 of a-z"),
        ({"fleet": [account("a", 1, solana={})]}, "needs solana.keystore_file or solana.kms_key_id"),
        (
            {"fleet": [account("a", 1)], "hyperliquid": {"account_address": f"0x{3:040x}"}},
            "hyperliquid.account_address is of a single account",
        ),
        ({"fleet": [account(f"a{n}", n) for n in range(1, 102)]}, "at most 100"),
    ],
)
def test_a_fleet_that_contradicts_itself_is_refused(content: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Settings(**content)


def test_settings_of_a_single_account_are_a_fleet_of_one() -> None:
    settings = Settings()
    assert settings.for_account() is settings and settings.each_account() == [settings]
    with pytest.raises(
        OperatorError, match="no account is named 'north': the settings are of a single account"
    ):
        settings.for_account("north")


async def until(rig: FleetRig, holds: Callable[[], bool]) -> None:
    """Wait until something holds, however long this machine takes (the test's own limit ends it)."""
    while not holds():
        await asyncio.sleep(0.01)


async def test_one_process_watches_every_account_and_what_is_entered_meanwhile(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path, accounts=3) as rig:
        first = await entered(rig.of("north"))
        ended = asyncio.Event()
        watching = Watching(rig.desks)
        task = asyncio.create_task(watching.run(ended))

        def ticked(*names: str) -> bool:
            beating = {one.name for one in rig.whole.heartbeats()}
            return {f"tick:{name}" for name in names} <= beating

        await until(rig, lambda: ticked(first))
        second = await entered(rig.of("south"))
        await until(rig, lambda: ticked(first, second))
        asking = Asking(load_settings(rig.config), rig.whole)
        answer = asking.ask(RequestAction.EXIT, second, who="U0ANN", via="slack", key="t1")
        asking.confirm(answer.request_id, who="U0ANN")
        await until(rig, lambda: rig.whole.carry.position(second).status is PositionStatus.CLOSED)
        assert rig.whole.carry.position(first).status is PositionStatus.OPEN
        ended.set()
        await task
        assert all(one.done() for one in watching.tasks.values())
        assert rig.shorts()["south"] == 0 and rig.shorts()["north"] > 1


async def test_a_fault_of_one_account_ends_no_other_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_fault(asset: str) -> None:
        raise ZeroDivisionError("a fault of ours")

    async with fleet_rig(tmp_path) as rig:
        names = [await entered(desk) for desk in rig.desks]
        monkeypatch.setattr(rig.of("north").long, "redemption_rate", at_fault)
        ended = asyncio.Event()
        task = asyncio.create_task(Watching(rig.desks).run(ended))
        await until(rig, lambda: f"tick:{names[1]}" in {one.name for one in rig.whole.heartbeats()})
        assert f"tick:{names[0]}" not in {one.name for one in rig.whole.heartbeats()}
        ended.set()
        await task


async def test_what_is_everybodys_is_read_once_for_all(tmp_path: Path) -> None:
    """Three accounts tick together: prices, markets and live positions are asked for once, the accounts one by one."""
    async with fleet_rig(tmp_path, accounts=3) as rig:
        names = {desk.store.member: await entered(desk) for desk in rig.desks}
        for desk in rig.desks:  # what is read once an hour or at the first tick
            await Watcher(desk, names[desk.store.member]).tick()
        rig.later(60)
        calls = ("info:metaAndAssetCtxs", "info:clearinghouseState")
        before = [rig.calls("hyperliquid", name) for name in calls]
        asgard = [rig.calls("asgard", name) for name in ("GET /token-metadata", "POST /refresh-positions")]
        await asyncio.gather(*(Watcher(desk, names[desk.store.member]).tick() for desk in rig.desks))
        assert [rig.calls("hyperliquid", name) - had for name, had in zip(calls, before, strict=True)] == [
            1,
            3,
        ]
        after = [rig.calls("asgard", name) for name in ("GET /token-metadata", "POST /refresh-positions")]
        assert [now - had for now, had in zip(after, asgard, strict=True)] == [1, 1]


async def test_an_account_whose_keys_cannot_be_opened_is_left_out_and_named(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        settings = load_settings(rig.config)
        Path(str(settings.fleet[0].solana.keystore_file)).unlink()
        left_out: dict[str, str] = {}
        async with open_desks(settings, lambda name, why: left_out.update({name: str(why)})) as desks:
            assert [one.store.member for one in desks] == ["south"]
        assert "keystore" in left_out["north"] and "cannot be read" in left_out["north"]
        with pytest.raises(OperatorError, match="cannot be read"):
            async with open_desks(settings):
                pass


async def test_what_stood_before_there_was_a_fleet_is_ended_by_whoever_finds_it_over(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        north, south = rig.of("north"), rig.of("south")
        rig.whole.trip("asgard", "fee_market")
        rig.whole.alert("breaker tripped", Severity.WARNING, "fees", subject="fee_market")
        assert breakers.halted(north) and breakers.halted(south)
        assert north.store.resume("asgard", f"{TRIPPED_BY}fee_market") == 1
        assert north.store.ack_alert("breaker tripped", subject="fee_market")
        assert not rig.whole.active_pauses() and not rig.whole.alerts(open_only=True)


async def test_an_alert_of_an_account_reaches_people_where_the_ledger_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_rig(tmp_path) as rig:
        store = rig.of("north").store
        said: list[str] = []
        store.unstored = lambda alert: said.append(f"{alert.kind} {alert.subject}")  # type: ignore[method-assign]

        def away(*_: Any) -> None:
            raise LedgerUnavailable("the server is away")

        monkeypatch.setattr(rig.whole.carry, "find_position", away)
        monkeypatch.setattr(store, "_write", away)
        with pytest.raises(LedgerUnavailable):
            store.alert("exit held back", Severity.CRITICAL, "no way out", subject="sol-1")
        assert said == ["exit held back sol-1"]


async def test_a_person_may_pause_one_account_and_end_that_alone(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        asking = Asking(load_settings(rig.config), rig.whole)
        asking.ask(RequestAction.PAUSE, scope="entries@north", who="U0ANN", via="slack", key="t1")
        asking.ask(RequestAction.PAUSE, scope="entries", who="U0ANN", via="slack", key="t2")
        assert breakers.halted(rig.of("south")) and len(breakers.halted(rig.of("north"))) == 2
        answer = asking.ask(RequestAction.RESUME, scope="entries@north", who="U0ANN", via="slack", key="t3")
        asking.confirm(answer.request_id, who="U0ANN")
        assert [one.scope for one in rig.whole.active_pauses()] == ["entries"]
        assert admin.end_pauses(rig.of("north").store, "ann", None) == [], "everybody's, and not ended by one"
        with pytest.raises(
            OperatorError, match=r"'entries@west' is unknown; .* with @ and one of north, south"
        ):
            asking.ask(RequestAction.PAUSE, scope="entries@west", who="U0ANN", via="slack", key="t4")


async def test_the_daily_report_names_an_account_whose_keys_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the message to people by which they hear of it, and the others' rows are in it."""
    async with fleet_rig(tmp_path) as rig:
        held = await entered(rig.of("south"))
        Path(str(load_settings(rig.config).fleet[0].solana.keystore_file)).unlink()
        monkeypatch.setenv("EVENKEEL_CONFIG", str(rig.config))
        found = await daily_report.fn(DailyRequest())
        assert [row.position_id for row in found.positions] == [held] and found.needs_a_person
        assert len(found.left_out) == 1 and found.left_out[0].startswith("north: ")
        [said] = [row for row in rig.whole.messages() if row.kind == "report"]
        assert (
            said.severity is Severity.WARNING
            and f"account that could not be opened: {found.left_out[0]}" in said.text
        )
        assert "## Accounts that could not be opened" in as_markdown(found)
