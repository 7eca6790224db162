"""What users of other programs reported of Alpaca's and Schwab's interfaces, with where: no hedge is lost or doubled by it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from evenkeel.errors import VenueRefused
from strategy.hedging.sessions import Market
from tasks.hedging.passing import OPEN_TOO_LONG
from tests.databases import database_fixtures
from tests.hedging_rig import hedging_rig
from tests.integration.hedging.test_schwab_pass import bought, trading
from tests.integration.hedging.test_stories import PLACE, until_flat
from tests.schwab_rig import schwab_rig

databases, url, _store = database_fixtures("sqlite")
D = Decimal
TUESDAY, NEXT_TUESDAY = date(2026, 1, 6), date(2026, 1, 13)


@pytest.mark.parametrize("refused", ["2026-01-08", "2026-01-13"])
async def test_a_day_whose_hours_schwab_refuses_spoils_no_other(refused: str) -> None:
    """alexgolec/tda-api#167: for some hours the endpoint answered HTTP 400, "Input date is not acceptable", for a good date."""
    async with schwab_rig() as rig:
        rig.fault("no_day", "", times=-1, day=refused)
        week = await rig.venue.calendar(TUESDAY, NEXT_TUESDAY)
        assert week.unread == {date.fromisoformat(refused)}
        assert {6, 7, 8, 9, 12, 13} - {one.day.day for one in week.sessions} == {int(refused[-2:])}
        assert refused in rig.venue.client.oddities.words()["hours"]
        with pytest.raises(VenueRefused, match="not acceptable"):
            await rig.venue.calendar(date.fromisoformat(refused), date.fromisoformat(refused))


async def test_hedges_leave_though_the_hours_of_another_day_are_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trading(url, monkeypatch) as (rig, twin):
        rig.fault("schwab", "no_day", "", times=-1, day="2026-01-09")
        rig.trade("AAPL", "sell", "3")
        report = await rig.one_pass()
        assert report.market is Market.OPEN
        for _ in range(3):
            rig.later(20)
            await rig.one_pass()
        assert bought(twin, "AAPL") == 3


@pytest.mark.parametrize("status", ["pending_cancel", "held"])
async def test_an_order_that_is_filled_and_never_called_so_keeps_its_symbol_from_no_further_hedge(
    url: str, status: str
) -> None:
    """alpacahq/Alpaca-API#199, alpacahq/alpaca-py#400: an order stays `pending_cancel` for a day. forum.alpaca.markets/t/813:
    it was filled meanwhile, and the broker has not written that down as its status. Petersoj/alpaca-java#101: `held`.
    """
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "4")
        rig.fault("alpaca", "odd_status", "order:.*", status=status)
        for _ in range(4):
            await rig.one_pass()
            rig.later(300)
        assert rig.store.hedging.exposure("AAPL").open_shares == 0
        rig.trade("AAPL", "sell", "3")
        await until_flat(rig)
        assert [(one.side, one.qty) for one in rig.account.orders] == [("buy", 4), ("buy", 3)]
        rig.check()


async def test_an_order_that_is_neither_filled_nor_over_for_hours_is_not_doubled_and_not_kept_quiet(
    url: str,
) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "4")
        rig.fault("alpaca", "odd_status", "order:.*", status="pending_cancel")
        rig.fault("alpaca", "slow", "order:.*", seconds=3 * 3600)
        for _ in range(8):
            await rig.one_pass()
            rig.later(900)
        said = {one.kind: one.text for one in rig.store.alerts(open_only=True) if one.subject == "AAPL"}
        assert rig.calls("alpaca", PLACE) == 1 and "an order is open" in said[OPEN_TOO_LONG]
        rig.later(5400)
        await until_flat(rig)
        assert len(rig.account.orders) == 1
