"""What users of other programs reported of these venues, once each, with where: none of it may cost a fill or an order.

Reported too, and tried by other tests: a provider's node that lags answers a range of blocks with nothing
(ethereum/go-ethereum#24078: `test_an_empty_answer_of_a_node_that_lags_is_no_answer`), a cumulative count of a partial fill is
taken for an increment (QuantConnect/Lean#4014: `test_a_restart_across_an_open_order_counts_its_part_once`), a `Location` names
somebody else's order (studerw/td-ameritrade-client#54: the crossings with `wrong_location`).
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.errors import Retryable, VenueRefused
from flows.hedging.backfill import backfill_chain
from tasks.hedging.passing import OPEN_TOO_LONG
from tasks.hedging.reconciling import DIFFERS, reconcile_hedging
from tests.databases import database_fixtures
from tests.hedging_rig import hedging_rig
from tests.integration.hedging.test_stories import PLACE, until_flat
from tests.schwab_rig import schwab_rig

databases, url, _store = database_fixtures("sqlite")
D = Decimal


async def test_a_post_that_fails_after_it_was_taken_is_no_second_order(url: str) -> None:
    """bennycode/trading-signals#1178, scrtlabs/catalyst#317: a library repeats a POST by itself."""
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3")
        rig.fault("alpaca", "http_500_after", PLACE, times=3)
        rig.fault("alpaca", "http_500", "orders:by_client_id", times=4)
        await until_flat(rig)
        assert [(one.side, one.qty, one.status) for one in rig.account.orders] == [("buy", 3, "filled")]


async def test_an_order_that_was_replaced_by_nothing_that_is_named_is_neither_done_nor_forgotten(
    url: str,
) -> None:
    """alpacahq/Alpaca-API#275: an order of ours ends as `replaced` with nothing filled. alpacahq/Alpaca-API#165: what takes the
    place of one that was filled in part is for all of it once more.
    """
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "4")
        rig.fault("alpaca", "replace", "order:.*", fraction="0.25")
        for _ in range(12):
            await rig.one_pass()
            rig.later(60)
        said = {one.kind: one.text for one in rig.store.alerts(open_only=True) if one.subject == "AAPL"}
        assert rig.calls("alpaca", PLACE) == 1 and len(rig.store.hedging.open_orders()) == 1
        assert OPEN_TOO_LONG in said or not rig.store.hedging.exposure("AAPL").open_shares


async def test_a_fill_whose_node_has_the_block_and_not_its_logs_is_found_by_the_vaults(url: str) -> None:
    """filecoin-project/lotus#13749, bobanetwork/boba_legacy#239: asked by the block's hash a node answers `[]`, for it has no
    index of that block's events. Nothing in the answer shows it: the vaults do, and reading again finds the fill.
    """
    async with hedging_rig(url) as rig:
        rig.chain.market.move_vault("AAPL", D(50))
        rig.chain.market.move_vault("USDC", D(9_000))
        await rig.one_pass()
        rig.later(20)
        async with rig.desk() as at:
            await backfill_chain(at)
            assert not (await reconcile_hedging(at)).differences
            rig.trade("AAPL", "sell", "2")
            rig.fault("raindex", "field", "eth_getLogs", times=-1, path="result", value=[])
            await backfill_chain(at)
            assert not rig.store.hedging.fills()
            rig.plan.clear()
            found = {one.what: one.venue - one.ledger for one in (await reconcile_hedging(at)).differences}
            assert found == {"AAPL in vaults": D(-2), "USDC in vaults": D(520)}
            assert {one.kind for one in rig.store.alerts(open_only=True)} >= {DIFFERS}
            assert (await backfill_chain(at, rig.start)).fills == 1
            assert not (await reconcile_hedging(at)).differences
        await until_flat(rig)
        assert len(rig.account.orders) == 1


async def test_a_refresh_that_schwab_refuses_in_its_own_words_asks_for_a_person() -> None:
    """tylerebowers/Schwabdev#40: what an old refresh token is answered is `unsupported_token_type`, no word of OAuth's."""
    async with schwab_rig() as rig:
        rig.later(1800)
        rig.fault("invalid_grant", "", error="unsupported_token_type")
        with pytest.raises(VenueRefused, match="log in again"):
            await rig.venue.cash()


async def test_a_page_before_the_token_endpoint_ends_no_login() -> None:
    """tylerebowers/Schwabdev#61: for a day the endpoint answered with a page, "Access Denied", and HTTP 403."""
    async with schwab_rig() as rig:
        before = await rig.login.access()
        rig.later(26 * 60)
        rig.fault("denied", "", times=2)
        assert await rig.login.access() == before, "the token lives for four minutes more"
        rig.later(240)
        with pytest.raises(Retryable, match="no word of the login"):
            await rig.login.access()
        assert await rig.login.access() != before
