"""What has no id that Alpaca takes once (mint, payment out, journal): a lost answer or a death never sends a second one."""

from __future__ import annotations

from contextlib import ExitStack
from decimal import Decimal

import pytest

from evenkeel.errors import OperatorError
from tasks.hedging.rebalancing.carrying import STUCK
from tasks.hedging.rebalancing.choosing import choose_row, rows_of
from tests.chaos.hedging import rebalancing as stories
from tests.databases import database_fixtures
from tests.interruptions import Killed, die, hooked
from tests.rebalancing_rig import RebalanceRig, rebalancing_rig
from venues.alpaca.moves import JOURNAL, MINT, PAY_OUT
from venues.alpaca.transfers import AlpacaTransfers

databases, url, _store = database_fixtures("sqlite")
D = Decimal
S = stories.S
MOVES = {
    MINT: ("shares to the chain", "tokens:mint", "mint"),
    PAY_OUT: ("USDC to the chain", "transfers:create", "send_usdc"),
    JOURNAL: ("shares by journal", "journals:create", "journal_shares"),
}
LOST = ("drop_request", "drop_answer", "http_500", "http_500_after", "garbage", "http_429")
DEATHS = (
    "before its key is stored",
    "after its key is stored",
    "after it was sent",
    "before it is noted",
    "after it is noted",
)


def made(rig: RebalanceRig, kind: str) -> int:
    """How many of them the broker has carried out or will, by its own rows."""
    broker = rig.hedging.broker
    if kind == PAY_OUT:
        return len(rig.transfers())
    if kind == MINT:
        return sum(len(rows) for rows in broker.moves.requests.values())
    return len(broker.moves.journals)


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("kind", MOVES)
async def test_an_answer_that_is_lost_sends_no_second_one(url: str, kind: str, fault: str) -> None:
    story, call, _ = MOVES[kind]
    async with rebalancing_rig(url) as rig:
        name = await stories.begun(rig, story)
        before = rig.everything(name)
        rig.hedging.timeout_s = 1.0 if fault.startswith("drop") else 10.0
        rig.hedging.fault("alpaca", fault, call)
        await stories._to_the_end(rig, name)
        stories.check(rig, name, before)
        assert made(rig, kind) == (1 if rig.row(name).state is S.DONE else 0)


@pytest.mark.parametrize("moment", DEATHS)
@pytest.mark.parametrize("kind", MOVES)
async def test_a_death_around_its_sending_sends_no_second_one(url: str, kind: str, moment: str) -> None:
    story, _, method = MOVES[kind]
    async with rebalancing_rig(url) as rig:
        name = await stories.begun(rig, story)
        before = rig.everything(name)
        store = rig.hedging.store
        with ExitStack() as stack:
            if moment == "after it was sent":
                real = getattr(AlpacaTransfers, method)
                struck: list[int] = []

                async def sent(self: AlpacaTransfers, *given: object, **more: object) -> object:
                    found = await real(self, *given, **more)
                    if not struck:
                        struck.append(1)
                        die()
                    return found

                patch = stack.enter_context(pytest.MonkeyPatch.context())
                patch.setattr(AlpacaTransfers, method, sent)
            else:
                target = "record_ready" if "key" in moment else "mark_submitted"
                side = {"before" if moment.startswith("before") else "after": die}

                def is_it(intent_id: str, *_: object, **__: object) -> bool:
                    return store.intent(intent_id).kind == kind

                stack.enter_context(hooked(store, target, when=is_it, **side))  # type: ignore[arg-type]
            with pytest.raises(Killed):
                for _ in range(20):
                    await rig.go(name)
                    rig.hedging.later(10)
            await stories._to_the_end(rig, name)
        stories.check(rig, name, before)
        assert rig.row(name).state is S.DONE and made(rig, kind) == 1


# --- two that are alike ---------------------------------------------------------------------------------------------


def paid_by_hand(rig: RebalanceRig) -> str:
    """A person pays the same amount to the same address at the broker's own page; return its row's name."""
    moves, account = rig.hedging.broker.moves, rig.hedging.account
    row = moves._transfer_row(account, "OUTGOING", D(450_000), rig.owner)
    row["status"] = "COMPLETE"
    return str(row["id"])


async def chosen(rig: RebalanceRig, name: str, row: str, why: str = "we have asked the broker") -> None:
    async with rig.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
        await choose_row(rd, name, row, "a person", why, fence)


async def in_doubt(rig: RebalanceRig, fault: str, by_hand: int) -> tuple[str, list[str]]:
    """A payment whose answer was lost, and some that a person made: return the rebalance and their rows."""
    rig.rebalance["stuck_s"] = 60
    row = await rig.usdc_approved()
    rig.hedging.timeout_s = 1.0
    rig.hedging.fault("alpaca", fault, "transfers:create")
    rig.hedging.fault("alpaca", "http_500", "transfers:list", times=-1)
    others: list[str] = []
    for _ in range(6):
        await rig.go(row.name)
        if rig.sent("transfers:create") and not others:  # so soon that its time does not say whose it is
            others = [paid_by_hand(rig) for _ in range(by_hand)]
        rig.hedging.later(5)
    rig.hedging.plan.clear()
    rig.hedging.timeout_s = 10.0
    for _ in range(12):
        await rig.go(row.name)
        rig.hedging.later(10)
    return row.name, others


async def test_of_two_payments_that_are_alike_a_person_takes_one(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        name, [other] = await in_doubt(rig, "drop_answer", 1)
        assert (STUCK, name) in rig.alerts() and rig.sent("transfers:create") == 1
        with pytest.raises(OperatorError, match="may be it"):
            await rig.unsent(name)
        async with rig.desk() as rd:
            rows = [str(one["row"]) for one in await rows_of(rd, name)]
        [ours] = [one for one in rows if one != other]
        for row, why, words in (("else", "a reason", "not among"), (ours, "no", "says too little")):
            with pytest.raises(OperatorError, match=words) as refused:
                await chosen(rig, name, row, why)
            assert "\n" not in str(refused.value)
        await chosen(rig, name, ours)
        done = await rig.to_the_end(name)
        assert done.state is S.DONE and rig.sent("transfers:create") == 1
        assert [one["ref"] for one in done.done["steps"] if one["kind"] == "pay-out"] == [ours]


async def test_the_row_that_the_broker_named_is_asked_for_whatever_is_like_it(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        row = await rig.usdc_approved()
        for _ in range(20):
            await rig.go(row.name)
            if rig.transfers():
                break
            rig.hedging.later(5)
        [ours] = [str(one["id"]) for one in rig.transfers()]
        paid_by_hand(rig)
        done = await rig.to_the_end(row.name)
        assert done.state is S.DONE and rig.sent("transfers:create") == 1
        assert [one["ref"] for one in done.done["steps"] if one["kind"] == "pay-out"] == [ours]


async def test_where_none_of_two_is_ours_a_person_says_so_and_it_is_sent_once(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        name, others = await in_doubt(rig, "drop_request", 2)
        assert sorted(others) == sorted(str(one["id"]) for one in rig.transfers())
        assert (STUCK, name) in rig.alerts() and rig.sent("transfers:create") == 1
        await chosen(rig, name, "none")
        assert (await rig.to_the_end(name)).state is S.DONE
        assert rig.sent("transfers:create") == 2 and len(rig.transfers()) == 3
        with pytest.raises(OperatorError, match="nothing of"):
            await chosen(rig, name, "none")


async def test_a_payment_that_was_made_when_ours_could_no_longer_arrive_is_not_ours(url: str) -> None:
    """Ours never left; some minutes later a person pays the same amount to the same address."""
    async with rebalancing_rig(url) as rig:
        rig.rebalance["stuck_s"] = 60
        row = await rig.usdc_approved()
        rig.hedging.timeout_s = 1.0
        rig.hedging.fault("alpaca", "drop_request", "transfers:create")
        for _ in range(6):
            await rig.go(row.name)
            rig.hedging.later(5)
        rig.hedging.later(300)
        other = paid_by_hand(rig)
        for _ in range(6):
            await rig.go(row.name)
            rig.hedging.later(30)
        kinds = [one["kind"] for one in rig.row(row.name).done["steps"]]
        assert (
            "pay-out" not in kinds and (STUCK, row.name) in rig.alerts() and rig.sent("transfers:create") == 1
        )
        await rig.unsent(row.name)
        done = await rig.to_the_end(row.name)
        [ours] = [one["ref"] for one in done.done["steps"] if one["kind"] == "pay-out"]
        assert done.state is S.DONE and ours != other and rig.sent("transfers:create") == 2
