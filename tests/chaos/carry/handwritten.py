"""The carry scenarios that are more than one call gone wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.carry.events import (
    HEIGHTS,
    deleveraged,
    hidden,
    hyperliquid_halted,
    key_ends,
    long_liquidated,
    mode_switched,
    paused,
    price,
    reserve_left,
    short_liquidated,
    slots_for_heights,
    solana_halted,
    unlisted,
)
from tests.chaos.carry.stories import (
    CLOSING,
    ENTER,
    EXIT,
    FLATTEN,
    LANDED,
    LEVERAGE,
    OPENING,
    ORDER,
    REBALANCE,
    RECOVER,
    RESIZING,
    WATCH,
)
from tests.chaos.events import (
    Event,
    at,
    clock_jumps,
    controlled,
    database_locked,
    failing,
    fault,
    first,
    prefect_dies,
    race,
    suspended,
    two_take_over,
)
from tests.chaos.interceptor import Point
from tests.chaos.process import Step
from tests.chaos.scenarios import Scenario, Script
from tests.chaos.testbed import SHORT_TIMEOUT

STEPS: dict[str, Step] = {
    "enter": ENTER,
    "exit": EXIT,
    "rebalance": REBALANCE,
    "recover": RECOVER,
    "watch": WATCH,
}
FROM = {
    "enter": "funded",
    "exit": "entered",
    "rebalance": "drifted",
    "recover": "entered",
    "watch": "entered",
}
COMMANDS = {"enter": ("enter", "--asset", "SOL", "--protocol", "1"), "rebalance": ("rebalance",)}
"""Those that run as flows. A way out never does."""
SUBMITS = {"enter": OPENING, "exit": CLOSING, "rebalance": RESIZING}


@dataclass
class _List:
    rows: list[Scenario] = field(default_factory=list)

    def add(
        self, story: str, what: str, label: str, script: Script, begin: str = "", slow: bool = False
    ) -> None:
        snapshot = begin or FROM[story]
        start = f"from {begin}" if begin else ""
        full = ", ".join(part for part in (label, start) if part) or what
        self.rows.append(Scenario(story, what, snapshot, script=script, label=full, slow=slow))

    def at(self, story: str, what: str, label: str, point: Point, event: Event) -> None:
        """It happens in the middle of the story."""
        self.add(story, what, label, at(point, event, STEPS[story]))

    def first(self, story: str, what: str, label: str, event: Event, begin: str = "") -> None:
        """It has happened before the story begins."""
        self.add(story, what, label, first(event, STEPS[story]), begin)


def _halts(rows: _List) -> None:
    for seconds in (20.0, 70.0, 400.0):
        long = f"for {seconds:.0f} s"
        hyperliquid, solana = hyperliquid_halted(seconds), solana_halted(seconds)
        asgard, node = failing("asgard", "long", seconds), failing("solana", "long", seconds)
        for story, submit in SUBMITS.items():
            rows.at(story, "Hyperliquid halted", f"{long} at the order", ORDER, hyperliquid)
            rows.at(story, "Solana halted", f"{long} at the submit", submit, solana)
            rows.at(story, "Asgard halted", f"{long} at the submit", submit, asgard)
            rows.at(story, "node out of reach", f"{long} at the submit", submit, node)
        rows.at("enter", "Solana halted", f"{long} at the order", ORDER, solana)
        rows.at("enter", "Asgard halted", f"{long} at the order", ORDER, asgard)
        rows.at("enter", "Hyperliquid halted", f"{long} at the leverage", LEVERAGE, hyperliquid)
        rows.at("enter", "Hyperliquid halted", f"{long} when the long lands", LANDED, hyperliquid)
        rows.at("exit", "Solana halted", f"{long} at the order", ORDER, solana)
        rows.first("recover", "Hyperliquid halted", f"{long} at once", hyperliquid, "long alone")
        rows.first("recover", "Hyperliquid halted", f"{long} at once", hyperliquid, "half entered")
        rows.first("recover", "Solana halted", f"{long} at once", solana, "half left")
    silent = at(ORDER, hyperliquid_halted(15, "timeout"), ENTER, timeout_s=SHORT_TIMEOUT)
    rows.add("enter", "Hyperliquid halted", "for 15 s, silent, at the order", silent)


def _chain(rows: _List) -> None:
    send = "rpc:sendTransaction"
    for story, submit in SUBMITS.items():
        rows.at(story, "blockhash expired", "at the submit", submit, controlled("chain", "expire_blockhash"))
        rows.first(story, "blockhash expired", "old in the build", fault("asgard", "stale_blockhash"))
        rows.first(story, "transaction lost", "by the chain", fault("solana", "drop_transaction", send))
        rows.first(story, "transaction lost", "by Asgard", fault("asgard", "submit_lost"))
        rows.first(story, "lands late", "by 60 blocks", fault("solana", "land_late", send, blocks=60))
        rows.first(
            story, "lands late", "twice by 60 blocks", fault("solana", "land_late", send, 2, blocks=60)
        )
        rows.first(story, "lands late", "by 140 blocks", fault("solana", "land_late", send, blocks=140))
        rows.first(story, "transaction fails", "in its block", fault("solana", "fail_transaction", send))
        rows.first(story, "transaction fails", "on its slippage", fault("asgard", "slippage_fail"))
        rows.first(story, "node lags", "by 30 slots", controlled("chain", "lag", slots=30))
        rows.first(story, "worse price", "by 40 bps", fault("asgard", "bad_price", bps="40"))
        for methods, which in (
            (("getEpochInfo",), "one height"),
            (("getLatestBlockhash",), "the limit"),
            (HEIGHTS, "all"),
        ):
            late = slots_for_heights(*methods, send="land_late", times=2, blocks=60)
            rows.first(story, "slots for heights", f"{which}, lands late", late)
            lost = slots_for_heights(*methods, send="drop_transaction", times=1)
            rows.first(story, "slots for heights", f"{which}, transaction lost", lost)
        rows.first(story, "no row at Asgard", "", fault("asgard", "submit_no_row"))


def _book(rows: _List) -> None:
    stale = fault("hyperliquid", "stale", "info:clearinghouseState", times=3, age_s=20)
    parts = fault("hyperliquid", "partial_fill", "exchange:order", times=4)
    for story in SUBMITS:
        rows.first(story, "order hidden", "for 8 s, answer lost", hidden(8))
        rows.first(story, "order hidden", "for 40 s, answer lost", hidden(40))
        rows.first(story, "no liquidity", "for one order", fault("hyperliquid", "no_liquidity"))
        rows.first(story, "no liquidity", "for good", fault("hyperliquid", "no_liquidity", times=-1))
        rows.first(story, "partial fill", "again and again", parts)
        rows.first(story, "stale reads", "of the account", stale)


def _market(rows: _List) -> None:
    what = "price jumps between the legs"
    for usd in (150.0, 190.0, 196.0, 199.0, 204.0, 215.0):
        rows.at("enter", what, f"to {usd:.0f} USD", ORDER, price(usd))
        rows.at("enter", what, f"to {usd:.0f} USD, when the long lands", LANDED, price(usd))
    for usd in (170.0, 230.0):
        rows.at("exit", what, f"to {usd:.0f} USD", CLOSING, price(usd))
    sources = {
        "mark prices": fault("hyperliquid", "http_500", "info:metaAndAssetCtxs", times=-1),
        "the book": fault("hyperliquid", "http_500", "info:l2Book", times=-1),
        "token prices": fault("asgard", "http_500", "GET /token-metadata", times=-1),
    }
    for which, missing in sources.items():
        rows.at("enter", "price source missing", f"{which}, when the long lands", LANDED, missing)
        for story in SUBMITS:
            rows.first(story, "price source missing", f"{which}, from the start", missing)


def _legs_taken(rows: _List) -> None:
    what = "ADL of the short"
    for fraction, how in (("1", "whole"), ("0.5", "half"), ("0.05", "a twentieth")):
        rows.first("watch", what, how, deleveraged(fraction))
        rows.at("exit", what, f"{how}, at the order", ORDER, deleveraged(fraction))
        rows.at("rebalance", what, f"{how}, at the submit", RESIZING, deleveraged(fraction))
        rows.first("recover", what, f"{how}, nobody watching", deleveraged(fraction))
        rows.first("recover", what, f"{how}, its fill not booked", deleveraged(fraction), "half entered")
    what = "liquidation of the short"
    rows.first("watch", what, "watched", short_liquidated)
    rows.at("exit", what, "at the order", ORDER, short_liquidated)
    rows.first("recover", what, "nobody watching", short_liquidated)
    rows.first("watch", what, "by a rise of 60 %", price(320.0))
    rows.first("recover", what, "by a rise of 60 %", price(320.0))
    what, closing = "liquidation of the long", Point("asgard POST /close-position", 1)
    rows.first("watch", what, "by a fall of 35 %", price(130.0))
    rows.first("recover", what, "by a fall of 35 %", price(130.0))
    for full, how in ((True, "whole"), (False, "one round")):
        rows.first("watch", what, how, long_liquidated(full))
        rows.at("enter", what, f"{how}, before the order", ORDER, long_liquidated(full))
        rows.at("exit", what, f"{how}, before its close", closing, long_liquidated(full))
        rows.first("recover", what, f"{how}, nobody watching", long_liquidated(full))
        rows.first("recover", what, f"{how}, not booked yet", long_liquidated(full), "long alone")


def _hosts(rows: _List) -> None:
    for story, points in (
        ("enter", (OPENING, ORDER)),
        ("exit", (ORDER, CLOSING)),
        ("rebalance", (RESIZING, ORDER)),
    ):
        for point in points:
            where = f"at {point.name.rpartition('/')[2]}"
            rows.at(story, "database locked", f"for 2 s {where}", point, database_locked(2.0))
            rows.at(story, "machine suspended", f"for 60 s {where}", point, suspended)
            for seconds in (90, -90, 3600):
                script = clock_jumps(point, seconds, STEPS[story])
                rows.add(story, "clock jump", f"by {seconds} s {where}", script)


def _races(rows: _List) -> None:
    what = "two workers"
    pairs = (
        "exit exit",
        "exit recover",
        "exit watch",
        "recover recover",
        "rebalance exit",
        "rebalance rebalance",
    )
    for pair in pairs:
        one, other = pair.split()
        rows.add(one, what, f"against {other}, at once", race(STEPS[one], STEPS[other]))
        if one != "recover":
            point = RESIZING if one == "rebalance" else ORDER
            script = race(STEPS[one], STEPS[other], at_point=point)
            rows.add(one, what, f"against {other}, in the middle", script)
    against: tuple[tuple[str, Point | None], ...] = (
        ("enter", None),
        ("enter", ORDER),
        ("recover", ORDER),
        ("recover", OPENING),
    )
    for other, at_point in against:
        when = f"at {at_point.name.rpartition('/')[2]}" if at_point else "at once"
        rows.add("enter", what, f"against {other}, {when}", race(ENTER, STEPS[other], at_point=at_point))
    for begin in ("half entered", "half left", "long alone"):
        rows.add("recover", what, "two at once", race(RECOVER, RECOVER), begin)
    for story, point in (("enter", ORDER), ("exit", CLOSING), ("rebalance", RESIZING)):
        script = two_take_over(point, "kill after it was applied", STEPS[story], RECOVER)
        rows.add(story, "two take over", "of a call that was applied", script)


def _slow(rows: _List) -> None:
    for story, point in (("enter", ORDER), ("exit", CLOSING)):
        script = at(point, database_locked(12.0), STEPS[story])
        rows.add(story, "database locked", "for 12 s", script, slow=True)
    for story, point in (("enter", ORDER), ("rebalance", RESIZING)):
        for again in (False, True):
            what = "Prefect server restarted" if again else "Prefect server killed"
            rows.add(
                story,
                what,
                "in the middle",
                prefect_dies(point, *COMMANDS[story], restarted=again),
                slow=True,
            )


def _cannot_be_moved(rows: _List) -> None:
    """Venues answer, and what an exit needs is not there."""
    conditions: dict[str, dict[str, Event]] = {
        "reserve empty": {"to the last token": reserve_left("0"), "but for 5 SOL": reserve_left("5")},
        "lender paused": {"withdrawals": paused("withdraw"), "all of it": paused()},
        "market not listed": {"": unlisted},
        "key ends": {"": key_ends(0.0), "in 36 hours": key_ends(36.0)},
        "account mode switched": {"to unified": mode_switched("unifiedAccount")},
    }
    for what, ways in conditions.items():
        for how, event in ways.items():
            rows.at("enter", what, f"{how} when the long lands".strip(), LANDED, event)
            rows.first("exit", what, f"{how} at first".strip(), event)
            rows.at("exit", what, f"{how} at the order".strip(), ORDER, event)
            rows.at("rebalance", what, f"{how} at the submit".strip(), RESIZING, event)
            rows.first("recover", what, f"{how} at once".strip(), event, "half left")
            rows.first("watch", what, f"{how} watched".strip(), event)
            rows.add("flatten", what, f"{how} at first".strip(), first(event, FLATTEN), "entered")
    for seconds in (-12, 12, -6):
        for story, point in (("enter", ORDER), ("exit", ORDER), ("exit", CLOSING)):
            script = clock_jumps(point, seconds, STEPS[story])
            rows.add(story, "clock jump", f"by {seconds} s at {point.name.rpartition('/')[2]}", script)


def handwritten() -> list[Scenario]:
    """Return all of them."""
    rows = _List()
    for write in (_halts, _chain, _book, _market, _legs_taken, _cannot_be_moved, _hosts, _races, _slow):
        write(rows)
    return rows.rows
