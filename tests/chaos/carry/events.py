"""What happens to a carry position in handwritten scenarios: halted venues, a moving market, a leg that the venue takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chaos.events import Event, out_of_reach
from tests.chaos.testbed import Testbed, TwinsAccess
from twins.asgard.venue import PROTOCOLS, SOL

HOUR_MS = 3_600_000
KAMINO = 1
"""The lender of these positions."""


def account_of(bed: TwinsAccess) -> dict[str, str]:
    """The short's account and coin, as the Hyperliquid twin's control commands name them."""
    return {"address": bed.twins.keys["hyperliquid"]["account_address"], "coin": "SOL"}


def live_pda(bed: Testbed) -> str:
    """The one lending position that holds something."""
    (held,) = [one for one in bed.twins.asgard.control("ledger", {})["positions"] if one["live"]]
    return str(held["pda"])


def control(twin: Callable[[str, dict[str, Any]], dict[str, Any]], op: str, body: dict[str, Any]) -> None:
    """A control command whose answer is of no interest."""
    twin(op, body)


def hyperliquid_halted(seconds: float, mode: str = "502") -> Event:
    return out_of_reach(
        "short",
        seconds,
        lambda bed: control(bed.twins.hyperliquid.control, "halt", {"mode": mode}),
        lambda bed: control(bed.twins.hyperliquid.control, "resume", {}),
    )


def solana_halted(seconds: float) -> Event:
    return out_of_reach(
        "long",
        seconds,
        lambda bed: control(bed.twins.chain.control, "halt", {}),
        lambda bed: control(bed.twins.chain.control, "resume", {}),
    )


HEIGHTS = {
    "getEpochInfo": "result.blockHeight",
    "getBlockHeight": "result",
    "getLatestBlockhash": "result.value.lastValidBlockHeight",
}
"""Where our node says a height."""
SLOT = "1.0537"
"""Times the height it is some 22 million more, as slots are on mainnet."""


def slots_for_heights(*methods: str, send: str = "", **args: Any) -> Event:
    """Our node says slots for heights in these answers, and does this to what is sent through it."""

    def event(bed: Testbed) -> None:
        for method in methods:
            bed.fault("solana", "field", f"rpc:{method}", times=-1, path=HEIGHTS[method], scale=SLOT)
        if send:
            bed.fault("solana", send, "rpc:sendTransaction", **args)

    return event


def hidden(seconds: float) -> Event:
    """An order is filled, its answer is lost, and its record stays unseen for a while."""

    def event(bed: Testbed) -> None:
        bed.fault("hyperliquid", "hidden_order", times=1, seconds=seconds)
        bed.fault("hyperliquid", "drop_answer", "exchange:order", times=1)

    return event


def price(usd: float) -> Event:
    """The price of SOL jumps."""
    return lambda bed: bed.market(sol_price=usd)


def deleveraged(fraction: str) -> Event:
    """Hyperliquid closes this fraction of the short by auto-deleveraging."""
    return lambda bed: control(bed.twins.hyperliquid.control, "adl", account_of(bed) | {"fraction": fraction})


def short_liquidated(bed: Testbed) -> None:
    control(bed.twins.hyperliquid.control, "liquidate", account_of(bed))


def long_liquidated(full: bool) -> Event:
    return lambda bed: control(bed.twins.asgard.control, "liquidate", {"pda": live_pda(bed), "full": full})


# --- what is there and cannot be moved, until the bed is healed --------------------------------------------------


def reserve_left(amount: str) -> Event:
    """The lender's reserve of SOL has lent out all but so much."""

    def event(bed: TwinsAccess) -> None:
        asgard = bed.twins.asgard
        before = asgard.book.reserves.liquidity(PROTOCOLS[KAMINO], SOL)
        _restored(
            bed,
            "set_liquidity",
            {"symbol": "SOL", "amount": amount},
            {"symbol": "SOL", "amount": str(before)},
        )

    return event


def paused(*operations: str) -> Event:
    """The lender refuses these operations, by default all."""
    body = {"operations": list(operations)} if operations else {}
    return lambda bed: _restored(bed, "pause", body, body | {"on": False})


def unlisted(bed: TwinsAccess) -> None:
    """The market is on no list any more."""
    _restored(bed, "set_listed", {"symbol": "SOL", "on": False}, {"symbol": "SOL", "on": True})


def _restored(bed: TwinsAccess, op: str, now: dict[str, Any], then: dict[str, Any]) -> None:
    asgard = bed.twins.asgard.control
    asgard(op, {"protocol": KAMINO} | now)
    bed.restore.append(lambda: control(asgard, op, {"protocol": KAMINO} | then))


def approve_key(bed: TwinsAccess, hours: float) -> None:
    """The account's owner approves our key for so long from now."""
    keys = bed.twins.keys["hyperliquid"]
    body = {"master": keys["account_address"], "agent": keys["agent_address"], "name": "trader"}
    bed.twins.hyperliquid.control(
        "approve_agent", body | {"valid_until_ms": bed.now_ms + int(hours * HOUR_MS)}
    )


def key_ends(hours: float) -> Event:
    """Our key on Hyperliquid ends so many hours from now."""

    def event(bed: TwinsAccess) -> None:
        approve_key(bed, hours)
        bed.restore.append(lambda: approve_key(bed, 90 * 24.0))

    return event


def mode_switched(mode: str) -> Event:
    """The account's owner switches its mode. Nobody switches it back."""

    def event(bed: TwinsAccess) -> None:
        body = {"address": account_of(bed)["address"], "mode": mode}
        control(bed.twins.hyperliquid.control, "set_abstraction", body)

    return event
