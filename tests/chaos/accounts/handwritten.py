"""What only a chain and its venue do wrong: blocks taken back, transactions dropped or outbid, gas above the cap, a keeper that
is silent, a subgraph that lags or lies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from tests.chaos.accounts.bed import DEEPEST, AccountsBed
from tests.chaos.events import answer_of, at
from tests.chaos.interceptor import Point
from tests.chaos.process import Step
from tests.chaos.scenarios import Scenario, Script
from twins.evm.node import BASE_FEE_WEI
from twins.ostium.keeper import VENUE

SEND = Point("evm eth_sendRawTransaction", 1)
RECEIPT = Point("evm eth_getTransactionReceipt", 1)
DEAR_WEI = 10**12
"""Of a unit of gas: above every cap."""
Act = Callable[[AccountsBed], None]


async def _reorganise(bed: AccountsBed, depth: int) -> None:
    """The chain takes back its last blocks, and forgets what was in them."""
    await bed.chain.own("anvil_reorg", depth, [])


async def _outbid(bed: AccountsBed, key: str) -> None:
    """Somebody who has the key too uses its next number for something else."""
    address = bed.keys[key].address
    await bed.chain.own("anvil_impersonateAccount", address)
    await bed.chain.own("eth_sendTransaction", {"from": address, "to": address, "gas": "0x5208"})
    await bed.chain.own("anvil_stopImpersonatingAccount", address)


def _lose(bed: AccountsBed, times: int) -> None:
    """The node takes transactions and forgets them."""
    bed.fault("evm", "lost", "eth_sendRawTransaction", times=times)


def _silence(bed: AccountsBed, times: int) -> None:
    """The keeper answers nobody for so many blocks."""
    bed.fault(VENUE, "silent_keeper", "answer:.*", times=times)


def _lag(bed: AccountsBed) -> None:
    bed.fault(VENUE, "lag", "graph:.*", seconds=3_600)


def _lie(bed: AccountsBed) -> None:
    bed.fault(VENUE, "field", "graph:.*", path="data.p0.0.collateral", value="5000000")


def _before(act: Act, steps: Sequence[Step]) -> Script:
    """It has begun before the story does, and is over when that ends."""

    async def script(bed: Any) -> str:
        act(bed)
        return answer_of(await bed.run(*steps))

    return script


def _dear(steps: Sequence[Step]) -> Script:
    """Gas costs more than every cap while the story runs."""

    async def script(bed: Any) -> str:
        bed.chain.base_fee_wei = DEAR_WEI
        await bed.later(2)
        try:
            return answer_of(await bed.run(*steps))
        finally:
            bed.chain.base_fee_wei = BASE_FEE_WEI
            await bed.later(2)

    return script


def handwritten(stories: dict[str, tuple[str, tuple[Step, ...]]]) -> list[Scenario]:
    """Return them all. `stories`: by name, the starting point and the steps of those that send something."""
    rows: list[Scenario] = []

    def add(story: str, what: str, label: str, script: Script) -> None:
        rows.append(Scenario(f"accounts {story}", what, stories[story][0], script=script, label=label))

    def then(story: str, point: Point, event: Callable[[AccountsBed], Awaitable[None]]) -> Script:
        return at(point, event, *stories[story][1])

    for story in stories:
        steps = stories[story][1]
        key = "collector" if story == "collect" else "ostium"
        for depth in range(1, DEEPEST + 1):
            script = then(story, RECEIPT, partial(_reorganise, depth=depth))
            add(story, "blocks taken back", f"{depth} at its first receipt", script)
        add(story, "dropped", "once", _before(partial(_lose, times=1), steps))
        add(story, "dropped", "three times", _before(partial(_lose, times=3), steps))
        add(story, "replaced", "its number is used by another", then(story, SEND, partial(_outbid, key=key)))
        add(story, "gas above the cap", "while it lasts", _dear(steps))
    for story in ("open", "close", "part"):
        for blocks in (10, 80):
            script = _before(partial(_silence, times=blocks), stories[story][1])
            add(story, "silent keeper", f"for {blocks} blocks", script)
    add("stop", "subgraph behind", "an hour", _before(_lag, stories["stop"][1]))
    add("stop", "subgraph lies", "about a trade", _before(_lie, stories["stop"][1]))
    return rows
