"""While Hyperliquid is out, the long is closed at a price that is held against the last one known, never against none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.actions import _last_resort
from evenkeel.errors import EvenkeelError, Retryable
from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.settings.host import Database
from evenkeel.types import IntentSpec, VenueName
from flows.carry.exit import ExitRequest, exit_position
from tasks.carry.desk import CarryDesk
from tasks.carry.prices import prices_without_ledger
from tasks.carry.watching.watcher import Watcher
from tests.carry.rig import Rig, story_rig
from venues.asgard.orders import CloseLong, OpenLong
from venues.solana.rules.bounds import tolerance_of
from venues.solana.rules.common import Expectation, Operation, Rules, key
from venues.solana.transactions import UnsafeBuild

SOL_ON_KAMINO: dict[str, Any] = {"asset": "SOL", "protocol": 1}


@contextmanager
def hostile_builder(rig: Rig, share: str) -> Iterator[None]:
    """Asgard's builder quotes sales at this share of their worth: enough for the debt, the rest is somebody else's."""
    builder = rig.twins.asgard._builder
    real = builder._sell

    def worse(*args: Any, **kwargs: Any) -> Any:
        honest = real(*args, **kwargs)
        return replace(honest, quoted_out=honest.quoted_out * Decimal(share))

    builder._sell = worse  # type: ignore[method-assign]
    try:
        yield
    finally:
        del builder._sell


def closing(desk: CarryDesk, position_id: str, step: int = 90) -> IntentSpec:
    leg = desk.store.carry.leg(position_id, LegSide.LONG)
    assert leg is not None
    order = CloseLong(
        asset=leg.asset, protocol=int(leg.protocol or 0), position_pda=leg.ref, slippage_bps=100
    )
    return IntentSpec(
        intent_id=f"{position_id}-close-{step}",
        business=CARRY,
        subject=position_id,
        venue=VenueName.ASGARD,
        part=LegSide.LONG,
        kind=IntentKind.CLOSE,
        step=step,
        order=order.model_dump(mode="json"),
    )


async def test_a_hostile_builder_gets_nothing_in_an_outage_and_an_honest_one_closes(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        rig.later(300)
        with hostile_builder(rig, "0.75"):
            robbed = await exit_position(
                rig.desk, ExitRequest(position_id=position_id, emergency=True, one_leg=True)
            )
        assert robbed.status == "CLOSING" and rig.holdings() and len(rig.executions()) == 1
        assert any("rule price" in one for one in robbed.reasons), robbed

        closed = await exit_position(
            rig.desk, ExitRequest(position_id=position_id, emergency=True, one_leg=True)
        )
        assert not rig.holdings(), closed
        rig.control("hyperliquid", "resume")
        rig.assert_clean(await rig.recovered())
        assert rig.flat


@pytest.mark.parametrize("asset", ["SOL", "jitoSOL"])
async def test_a_process_that_starts_in_the_outage_goes_by_the_ledgers_price(
    tmp_path: Path, asset: str
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset=asset, protocol=1)
        rig.control("hyperliquid", "halt", mode="502")
        rig.later(1_800)
        async with rig.another_desk() as desk:
            await desk.clock.refresh()
            with hostile_builder(rig, "0.6"), pytest.raises(UnsafeBuild, match="rule price"):
                await desk.long.build(closing(desk, position_id))
            built = await desk.long.build(closing(desk, position_id))
        checks = built.note["checks"]
        rate = Decimal(str(rig.world.redemption_rate(asset)))
        assert abs(Decimal(checks["price_usd"]) / (200 * rate) - 1) < Decimal("0.001")
        assert checks["price_age_s"] >= 1_800


async def test_every_tick_of_the_watch_is_remembered(tmp_path: Path) -> None:
    """The price of the last tick bounds the exit that an outage leads to, not that of the last build."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        async with rig.another_desk() as desk:
            rig.market(sol_price=190.0)
            await desk.clock.refresh()
            await Watcher(desk, position_id).tick()
            rig.control("hyperliquid", "halt", mode="502")
            rig.later(200)
            await desk.clock.refresh()
            built = await desk.long.build(closing(desk, position_id))
            assert built.note["checks"]["price_usd"] == "190.0"
            assert 200 <= built.note["checks"]["price_age_s"] < 300


async def test_an_opening_goes_by_no_old_price(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        [opened] = [
            one for one in rig.desk.store.intents_of(CARRY, rig.desk.store.carry.positions()[0].position_id)
        ][:1]
        assert isinstance(OpenLong.model_validate(opened.order), OpenLong)
        rig.control("hyperliquid", "halt", mode="502")
        spec = IntentSpec(
            intent_id="again",
            business=CARRY,
            subject=opened.subject,
            venue=opened.venue,
            part=opened.part,
            kind=opened.kind,
            step=99,
            order=opened.order,
        )
        with pytest.raises(Retryable, match="hyperliquid"):
            await rig.desk.long.build(spec)


async def test_the_last_resort_goes_by_what_can_be_read_of_the_ledger(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        with hostile_builder(rig, "0.75"):
            robbed = await _last_resort(rig.desk.settings, 6.0, tmp_path / "keys.jsonl")
        assert not robbed["flat"] and rig.holdings()
        assert any("rule price" in one for one in robbed["left"]), robbed
        await _last_resort(rig.desk.settings, 30.0, tmp_path / "keys.jsonl")
        assert not rig.holdings()


async def test_the_last_resort_works_without_a_ledger(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        settings = rig.desk.settings
        gone = settings.model_copy(update={"database": Database(url=f"sqlite:///{tmp_path}/gone/none.db")})
        stored_price = await prices_without_ledger(gone, rig.desk.clock)
        assert stored_price("SOL") is None


async def test_a_ledger_that_cannot_be_read_does_not_hold_up_an_exit(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")

        def locked(asset: str) -> tuple[int, Decimal] | None:
            raise EvenkeelError("database is locked")

        rig.desk.long.use_stored_prices(locked)
        built = await rig.desk.long.build(closing(rig.desk, position_id))
        assert built.note["checks"]["price_usd"] is not None


def test_a_way_out_gives_away_what_a_way_in_does_and_more_only_by_emergency_age_and_failed_tries() -> None:
    one = key("11111111111111111111111111111111")
    sale = Expectation(
        op=Operation.CLOSE,
        wallet=one,
        lender=one,
        market=None,
        asset_mint=key("So11111111111111111111111111111111111111112"),
        asset_bank=one,
        usdc_bank=one,
        slippage_bps=100,
    )

    def at(age_s: int = 0, rules: Rules | None = None, **changes: Any) -> Decimal:
        return tolerance_of(replace(sale, price_age_ms=age_s * 1000, **changes), rules or Rules())

    opening = replace(sale, op=Operation.OPEN, price_age_ms=86_400_000)
    assert at() == tolerance_of(opening, Rules()) == Decimal("0.04")
    lst = key("J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn")
    assert at(asset_mint=lst) == Decimal("0.04")
    assert [at(failed_tries=tries) for tries in (1, 2, 3, 9)] == [
        Decimal(one) for one in ("0.05", "0.06", "0.07", "0.07")
    ]
    assert at(emergency=True) == Decimal("0.11") and at(emergency=True, asset_mint=lst) == Decimal("0.26")
    assert at(120) == Decimal("0.044") and at(3_600) == Decimal("0.16") and at(86_400 * 30) == Decimal("0.51")
    assert at(86_400 * 30, Rules(exit_price_tolerance=Decimal("0.6")), emergency=True) == Decimal("0.61")
    assert at(failed_tries=9, rules=Rules(price_tolerance=Decimal("0.08"))) == Decimal("0.09")
    assert at(failed_tries=9, op=Operation.OPEN) == Decimal("0.04")


@pytest.mark.parametrize(
    ("asset", "share", "emergency", "passes"),
    [
        ("SOL", "0.98", False, True),
        ("SOL", "0.96", False, False),
        ("SOL", "0.90", False, False),
        ("SOL", "0.92", True, True),
        ("SOL", "0.85", True, False),
        ("jitoSOL", "0.98", False, True),
        ("jitoSOL", "0.75", False, False),
        ("jitoSOL", "0.80", True, True),
    ],
)
async def test_what_a_builder_may_take_on_the_way_out(
    tmp_path: Path, asset: str, share: str, emergency: bool, passes: bool
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset=asset, protocol=1)
        spec = closing(rig.desk, position_id)
        spec = replace_order(spec, emergency=emergency)
        with hostile_builder(rig, share):
            if passes:
                await rig.desk.long.build(spec)
            else:
                with pytest.raises(UnsafeBuild, match="rule price"):
                    await rig.desk.long.build(spec)


def replace_order(spec: IntentSpec, **changes: Any) -> IntentSpec:
    return spec.model_copy(update={"order": {**spec.order, **changes}})
