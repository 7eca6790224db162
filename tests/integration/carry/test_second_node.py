"""A second Solana node is a way round the first, and a second opinion on what landed and what did not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evenkeel.errors import Retryable
from evenkeel.legs import CARRY, LegSide
from evenkeel.settings.settings import load_settings
from evenkeel.types import Confirmed, Signed, Unknown
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.recover import recover_everything
from tasks.carry.desk import open_desk
from tasks.carry.hosts import SOLANA, SOLANA_SECOND
from tasks.carry.watching.liveness import ChainLiveness
from tests.carry.rig import Rig, story_rig
from tests.integration.test_solana_client import Bench, bench, payload
from tests.node_proxy import NodeProxy, node_proxy
from venues.solana.confirm import ALONE_AFTER_BLOCKS, Confirmer, Dead, Landed
from venues.solana.failover import FailoverRpc
from venues.solana.rpc import SolanaRpc

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


@asynccontextmanager
async def two_nodes(folder: Path, *, proxied: str) -> AsyncIterator[tuple[Rig, NodeProxy]]:
    """A rig whose desk has two nodes, both the twin's, one of them (`first` or `second`) behind a proxy."""
    async with story_rig(folder) as rig:
        url = rig.desk.settings.solana.rpc_url
        async with node_proxy(url) as one:
            first, second = (one.url, url) if proxied == "first" else (url, one.url)
            text = rig.config.read_text()
            assert f'rpc_url = "{url}"' in text
            lines = f'rpc_url = "{first}"\nsecond_rpc_url = "{second}"'
            rig.config.write_text(text.replace(f'rpc_url = "{url}"', lines))
            async with open_desk(load_settings(rig.config)) as desk:
                await desk.clock.refresh()
                rig.desks.insert(0, desk)
                yield rig, one
                rig.desks.pop(0)


@pytest.mark.parametrize("mode", ["shut", "revoked"])
async def test_with_the_first_node_gone_both_legs_are_closed_by_the_second(tmp_path: Path, mode: str) -> None:
    """ChainLiveness says that the chain lives, and so it does: nothing may depend on the first node then."""
    async with two_nodes(tmp_path, proxied="first") as (rig, first):
        await rig.entered(**SOL_ON_KAMINO)
        first.mode = mode
        assert await ChainLiveness().is_alive(rig.desk)
        result = await exit_position(
            rig.desk, ExitRequest(position_id=rig.desk.store.carry.positions()[0].position_id)
        )
        assert result.status == "CLOSED" and rig.flat, result
        assert len(rig.executions()) == 2
        assert (await rig.desk.long.wallet_balances()).usdc > 0


async def test_each_node_has_its_own_run_of_failures(tmp_path: Path) -> None:
    """What the second answers is no success of the first; the first is asked on, so that its return is seen."""
    async with two_nodes(tmp_path, proxied="first") as (rig, first):
        first.mode = "shut"
        chain = ChainLiveness()
        for _ in range(2):
            assert await chain.is_alive(rig.desk)
            await rig.desk.clock.sleep(12)
        rows = rig.desk.health.in_a_row(60)
        assert rows[SOLANA] >= 3 and rows[SOLANA_SECOND] == 0
        first.mode = "open"
        assert await chain.is_alive(rig.desk)
        assert rig.desk.health.in_a_row(60)[SOLANA] == 0
        asked = first.calls["getBalance"]
        await rig.desk.long.rpc.get_balance(rig.desk.long.wallet)
        assert first.calls["getBalance"] == asked + 1, "the first is the first again"


async def test_an_absent_second_node_is_noticed_while_the_first_answers(tmp_path: Path) -> None:
    """It must agree before an opening is dead, so that its absence trips the breaker of entries."""
    async with two_nodes(tmp_path, proxied="second") as (rig, second):
        second.mode = "shut"
        assert await ChainLiveness().is_alive(rig.desk)
        assert rig.desk.health.in_a_row(15)[SOLANA_SECOND] >= 3
        refused = await enter_position(rig.desk, EnterRequest(**SOL_ON_KAMINO))
        assert refused.status == "refused" and any(SOLANA_SECOND in one for one in refused.reasons), refused


async def test_a_node_that_has_shut_us_out_is_alarmed_too(tmp_path: Path) -> None:
    async with two_nodes(tmp_path, proxied="second") as (rig, second):
        second.mode = "revoked"
        chain = ChainLiveness()
        for _ in range(4):
            assert await chain.is_alive(rig.desk)
            await rig.desk.clock.sleep(12)
        refused = await enter_position(rig.desk, EnterRequest(**SOL_ON_KAMINO))
        assert refused.status == "refused" and any(SOLANA_SECOND in one for one in refused.reasons), refused


@pytest.mark.parametrize("proxied", ["first", "second"])
async def test_the_chain_is_alive_while_either_height_grows(tmp_path: Path, proxied: str) -> None:
    async with two_nodes(tmp_path, proxied=proxied) as (rig, one):
        chain = ChainLiveness()
        assert await chain.is_alive(rig.desk)
        one.mode = "frozen"
        for _ in range(4):
            await rig.desk.clock.sleep(12)
            assert await chain.is_alive(rig.desk)
        rig.control("solana", "halt")
        await rig.desk.clock.sleep(12)
        await chain.is_alive(rig.desk)
        await rig.desk.clock.sleep(30)
        assert not await chain.is_alive(rig.desk)


@pytest.mark.parametrize("mode", ["revoked", "frozen"])
async def test_a_close_that_never_landed_is_tried_again_though_the_second_node_is_gone(
    tmp_path: Path, mode: str
) -> None:
    async with two_nodes(tmp_path, proxied="second") as (rig, second):
        position_id = await rig.entered(**SOL_ON_KAMINO)
        second.mode = mode
        lost = rig.fault("solana", "drop_transaction", "rpc:sendTransaction", times=-1)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status != "CLOSED" and rig.holdings() and lost.hits
        rig.heal()
        for _ in range(12):
            rig.later(30)
            await rig.desk.clock.refresh()
            await recover_everything(rig.desk)
            if rig.flat:
                break
        assert rig.flat and len(rig.executions()) == 2


async def test_a_landing_that_only_the_second_node_shows_is_booked(tmp_path: Path) -> None:
    async with two_nodes(tmp_path, proxied="first") as (rig, first):
        position_id = await rig.entered(**SOL_ON_KAMINO)
        first.mode = "blind"
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSED" and rig.flat, result
        assert len(rig.executions()) == 2


# --- the rule of the proof, node by node ---


@asynccontextmanager
async def two_confirming_nodes() -> AsyncIterator[tuple[Bench, Confirmer, NodeProxy, NodeProxy]]:
    """A confirmer with two nodes, each behind a proxy, on one chain."""
    async with bench() as b, node_proxy(b.rpc._url) as one, node_proxy(b.rpc._url) as two:
        first, second = SolanaRpc(one.url, b.clock), SolanaRpc(two.url, b.clock)
        yield b, Confirmer(FailoverRpc(first, second, b.clock), b.clock), one, two
        await first.close()
        await second.close()


async def until_beyond(b: Bench, height: int) -> None:
    while b.chain.height("finalized") <= height:
        await b.clock.sleep(20)


@pytest.mark.parametrize("blind", [0, 1])
async def test_a_landing_seen_by_either_node_counts(blind: int) -> None:
    async with two_confirming_nodes() as (b, confirmer, *proxies):
        tx, _, limit = await b.transfer()
        proxies[blind].mode = "blind"
        [result] = await confirmer.settle([payload(tx)], limit)
        assert isinstance(result, Landed) and result.err is None
        await until_beyond(b, limit + ALONE_AFTER_BLOCKS)
        for exit in (False, True):
            assert isinstance(await confirmer.result_of(payload(tx).signature, limit, is_exit=exit), Landed)


@pytest.mark.parametrize("gone", [0, 1])
@pytest.mark.parametrize("mode", ["shut", "revoked", "frozen"])
async def test_one_node_alone_ends_a_way_out_late_and_an_opening_never(gone: int, mode: str) -> None:
    async with two_confirming_nodes() as (b, confirmer, *proxies):
        tx, _, limit = await b.transfer()
        signature = payload(tx).signature
        await confirmer.result_of(signature, limit)  # what a frozen node will go on saying
        proxies[gone].mode = mode
        await until_beyond(b, limit)
        assert isinstance(await confirmer.result_of(signature, limit, is_exit=True), Unknown)
        await until_beyond(b, limit + ALONE_AFTER_BLOCKS)
        assert isinstance(await confirmer.result_of(signature, limit), Unknown)
        alone = await confirmer.result_of(signature, limit, is_exit=True)
        assert isinstance(alone, Dead) and "alone" in alone.evidence
        proxies[gone].mode = "open"
        await b.clock.sleep(20)
        both = await confirmer.result_of(signature, limit)
        assert isinstance(both, Dead) and "alone" not in both.evidence


async def test_slow_nodes_prove_a_death_all_the_same() -> None:
    """Three readings take them seconds; a proof that never comes would leave a leg open for ever."""
    async with two_confirming_nodes() as (b, confirmer, *proxies):
        tx, _, limit = await b.transfer()
        await until_beyond(b, limit)
        for one in proxies:
            one.mode = "slow"
        assert isinstance(await confirmer.result_of(payload(tx).signature, limit), Dead)


async def test_a_landing_is_no_failure_of_the_slower_node(tmp_path: Path) -> None:
    """What the faster one has seen ends the question; the other is healthy, and no breaker may think otherwise."""
    async with two_nodes(tmp_path, proxied="second") as (rig, second):
        position_id = await rig.entered(**SOL_ON_KAMINO)
        store = rig.desk.store
        [opening] = [one for one in store.intents_of(CARRY, position_id) if one.part == LegSide.LONG]
        [attempt] = store.attempts_of(opening.intent_id)
        second.mode = "slow"
        found = await rig.desk.long.find(opening.spec, Signed(key=attempt.key, wire=None))
        assert isinstance(found, Confirmed)
        assert rig.desk.health.failed_ms()[SOLANA_SECOND] == ()


async def test_where_one_node_fails_once_and_the_other_shuts_us_out_another_try_is_worth_it() -> None:
    async with two_confirming_nodes() as (_, confirmer, first, second):
        for first.mode, second.mode in (("shut", "revoked"), ("revoked", "shut")):
            with pytest.raises(Retryable, match="503"):
                await confirmer.rpc.get_balance("11111111111111111111111111111111")


async def test_with_both_nodes_gone_nothing_is_known() -> None:
    async with two_confirming_nodes() as (b, confirmer, *proxies):
        tx, _, limit = await b.transfer()
        await until_beyond(b, limit + ALONE_AFTER_BLOCKS)
        for one in proxies:
            one.mode = "shut"
        assert isinstance(await confirmer.result_of(payload(tx).signature, limit, is_exit=True), Unknown)
        assert isinstance(await confirmer.send(payload(tx).raw or b""), Unknown)
        with pytest.raises(Retryable, match="HTTP 503"):
            await confirmer.height_limit()


async def test_the_life_of_a_build_is_bounded_by_the_node_that_is_further() -> None:
    """A node that lags would set the bound too low, and what is still alive would be called dead."""
    async with two_confirming_nodes() as (b, confirmer, first, _):
        await confirmer.height_limit()
        first.mode = "frozen"
        await b.clock.sleep(120)
        assert await confirmer.height_limit() >= b.chain.height("processed") + 150


async def test_what_the_first_node_does_not_take_is_sent_by_the_second() -> None:
    async with two_confirming_nodes() as (b, confirmer, first, second):
        tx, _, limit = await b.transfer()
        first.mode = "shut"
        [result] = await confirmer.settle([payload(tx)], limit)
        assert isinstance(result, Landed) and second.calls["sendTransaction"] >= 1
        assert b.landed() == 1
