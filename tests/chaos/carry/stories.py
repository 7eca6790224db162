"""The carry stories: where they start, which steps they take, and which of their outside calls can change something."""

from __future__ import annotations

from tests.chaos.interceptor import Point
from tests.chaos.process import Step
from tests.chaos.scenarios import CallKinds, Story
from tests.chaos.testbed import Preparation, Testbed, killed_at
from twins.odd_rows import ODD_ROWS

ENTER: Step = ("enter", {"asset": "SOL", "protocol": 1})
EXIT: Step = ("exit", {})
REBALANCE: Step = ("rebalance", {})
USING_THE_WALLET: Step = ("rebalance", {"wallet_kept_usd": "0"})
RECOVER: Step = ("recover", {})
FLATTEN: Step = ("flatten", {})
WATCH: Step = ("watch", {"seconds": 240.0, "interval_s": 30.0})

ORDER = Point("hyperliquid exchange:order", 1)
LEVERAGE = Point("hyperliquid exchange:updateLeverage", 1)
OPENING = Point("asgard POST /submit-create-position-tx", 1)
CLOSING = Point("asgard POST /submit-close-position-tx", 1)
RESIZING = Point("asgard POST /submit-position-update-tx", 1)
WRITING = ("exchange:", "POST /submit-", "rpc:sendTransaction")
BUILDING = ("POST /create-position", "POST /close-position", "POST /position/")
GROWING_CALLS = ("POST /", ORDER.call, "rpc:getTransaction", "info:clearinghouseState")
LANDED = Point("solana rpc:getTransaction", 1)


def special(call: str) -> tuple[str, ...]:
    """The faults that concern this call alone."""
    name = call.partition(" ")[2]
    found = [] if name not in ODD_ROWS else ["odd row"]
    if name.startswith(WRITING):
        return (*found, "refused for good", *(("lands without effect",) if "/submit-" in name else ()))
    if name.startswith(BUILDING):
        left = ("something is left",) if name == "POST /close-position" else ()
        return (*found, "refused for good", "hollow build", *left)
    return ("endpoint down", *found, "never understood", "field null")


CALLS = CallKinds(
    writing=WRITING,
    building=BUILDING,
    orders=(ORDER.call,),
    special=special,
)

STORIES = (
    Story("enter", "funded", (ENTER,)),
    Story("exit", "entered", (EXIT,)),
    Story("rebalance", "drifted", (REBALANCE,)),
    # What a growth asks beside a resize: the build, both orders, their outcomes, and the account that must carry more.
    Story("grow", "shrunk", (USING_THE_WALLET,), only=GROWING_CALLS, sparse=0),
    Story("mend from the wallet", "drifted", (USING_THE_WALLET,), only="POST /", sparse=1),
    Story("recover a growth", "half grown", (RECOVER,), only=(ORDER.call, "rpc:getTransaction"), sparse=1),
    Story("recover an entry", "half entered", (RECOVER,), sparse=0),
    Story("recover a lone long", "long alone", (RECOVER,), sparse=1),
    Story("recover an exit", "half left", (RECOVER,), sparse=0),
    Story("flatten", "entered", (FLATTEN,), sparse=1),
    # Asgard does not take the transactions: they go to the node.
    Story(
        "enter by the node",
        "funded",
        (ENTER,),
        (("asgard", "http_500", "POST /submit-create-position-tx"),),
        "rpc:sendTransaction",
    ),
    Story(
        "exit by the node",
        "entered",
        (EXIT,),
        (("asgard", "http_500", "POST /submit-close-position-tx"),),
        "rpc:sendTransaction",
    ),
    Story(
        "rebalance by the node",
        "drifted",
        (REBALANCE,),
        (("asgard", "http_500", "POST /submit-position-update-tx"),),
        "rpc:sendTransaction",
    ),
)


async def _entered(bed: Testbed) -> None:
    done = await bed.run(ENTER)
    assert done.code == 0 and done.answers[0]["status"] == "OPEN", done


async def _entered_hours_ago(bed: Testbed) -> None:
    await _entered(bed)
    bed.later(3 * 3600)


async def _drifted(bed: Testbed) -> None:
    await _entered_hours_ago(bed)
    bed.market(sol_price=180.0)


async def _shrunk(bed: Testbed) -> None:
    """Smaller since a fall that is over, and with its money paid in again: what it holds is less than it carries."""
    await _entered_hours_ago(bed)
    bed.market(sol_price=168.0)
    for step in (REBALANCE, USING_THE_WALLET):
        done = await bed.run(step)
        assert done.code == 0 and done.answers[0]["action"] == "resized", done
        bed.market(sol_price=200.0)
        bed.later(3600)


SNAPSHOTS: dict[str, Preparation | None] = {
    "funded": None,
    "entered": _entered_hours_ago,
    "drifted": _drifted,
    # an entry that died with its order filled, and one that died when its long had just landed
    "half entered": killed_at(ORDER, "kill after it was applied", ENTER),
    "long alone": killed_at(OPENING, "kill after it was applied", ENTER),
    "shrunk": _shrunk,
    "half grown": killed_at(RESIZING, "kill after it was applied", USING_THE_WALLET, _shrunk),
    "half left": killed_at(CLOSING, "kill when it arrives", EXIT, _entered_hours_ago),
}
