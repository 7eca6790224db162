"""What a person must know of managed accounts: each condition judged by what was read, in one alert by its kind and subject.

A reading that failed is None, and judges nothing: what stood stands on, what did not is not raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from evenkeel.types import Frozen

PAUSED, DONE, DRAINED = "venue paused", "venue done", "vault drained"
"""Of the venue; each refuses openings while it stands, as a breaker does."""
REVOKED, ALLOWANCE = "delegate revoked", "allowance lowered"
"""Of a deployment."""
PAUSED_FOR = "paused_for"
"""In what is kept of a deployment as seen: for which alert the watch paused it."""
OUTSTANDING, TAKEN_BACK = "charge outstanding", "charge taken back"
"""Of a charge."""
STALE, STOP_MOVED, UNPAYABLE = "trade stale", "stop moved by user", "close unpayable"
"""Of a trade."""
UNGUARDED = "trade unguarded"
"""Of a trade whose stop the venue did not take, or whose stop the market has passed."""
AGENT_ENDS, MODE = "agent ends", "account mode"
"""Of a deployment whose agent the venue ends by itself."""
NO_GAS, STUCK = "no gas", "nonce stuck"
"""Of a key: the agent's or the collector's."""
MARKET_CLOSED = "market closed"
"""Of a market in which trades are open."""
GRAPH_BEHIND, GRAPH_DIFFERS = "subgraph behind", "subgraph differs"
UNWATCHED = "accounts not watched"
KINDS = (
    PAUSED,
    DONE,
    DRAINED,
    REVOKED,
    ALLOWANCE,
    OUTSTANDING,
    TAKEN_BACK,
    STALE,
    STOP_MOVED,
    UNPAYABLE,
    UNGUARDED,
    AGENT_ENDS,
    MODE,
    NO_GAS,
    STUCK,
    MARKET_CLOSED,
    GRAPH_BEHIND,
    GRAPH_DIFFERS,
    UNWATCHED,
)
BREAKERS = (PAUSED, DONE, DRAINED)
MOST_FALL = Decimal("0.20")
"""Of the vault's dollars within a day."""
SENDS, FEW_SENDS = 100, 5
"""A key should be able to pay for so many transactions; with fewer than the second it may fail at any moment."""
STUCK_MS = 30_000
"""By then dearer copies of it have been offered several times."""
BEHIND_MS = 600_000
"""The subgraph is some 14 s behind when all is well."""
MOST_NAMES = 5
VENUE = "ostium"
AGENT, COLLECTOR = "agent", "collector"


class Finding(Frozen):
    """That a condition stands: how bad it is, and in which words."""

    text: str
    critical: bool = False


Judged = dict[tuple[str, str], Finding | None]
"""By kind and subject what was judged: None for what does not stand."""


class KeySeen(Frozen):
    """A key as the chain shows it. `send_wei`: what one transaction may cost. `stuck`: its oldest number that no block holds,
    and for how many milliseconds it has been on the wire; None where nothing waits.
    """

    address: str
    wei: int | None
    send_wei: int | None
    stuck: tuple[int, int] | None = None


class AccountSeen(Frozen):
    """A user as the chain shows him. Dollars of his wallet: what it holds, what the venue may take, what the collector may.
    `owed`: the sum of his charges that are to be paid.
    """

    account: str
    holds_usdc: Decimal
    venue_may_usdc: Decimal
    collector_may_usdc: Decimal
    owed_usdc: Decimal = Decimal(0)


def judge_venue(paused: bool | None, done: bool | None) -> Judged:
    """Whether openings are stopped there, and whether the venue has ended."""
    found: Judged = {}
    if paused is not None:
        text = "the venue has paused openings; closes and stops go on"
        found[PAUSED, VENUE] = Finding(text=text) if paused else None
    if done is not None:
        text = "the venue has ended (isDone): nothing can be opened, closed or guarded there any more"
        found[DONE, VENUE] = Finding(text=text, critical=True) if done else None
    return found


def judge_vault(now_usdc: Decimal, by_hour: Mapping[int, Decimal]) -> Judged:
    """Whether the vault, which pays every gain, has lost a fifth within a day. `by_hour`: what it held in the last 24 hours."""
    best = max([now_usdc, *by_hour.values()])
    if best <= 0 or now_usdc > best * (1 - MOST_FALL):
        return {(DRAINED, VENUE): None}
    fall = 1 - now_usdc / best
    text = f"the vault holds {now_usdc:.0f} USDC, {fall:.0%} less than the {best:.0f} of the last day: gains may not be paid"
    return {(DRAINED, VENUE): Finding(text=text, critical=True)}


def judge_key(name: str, seen: KeySeen) -> Judged:
    """Whether a key can pay for what it must send, and whether a number of it is stuck."""
    found: Judged = {}
    if seen.wei is not None and seen.send_wei is not None:
        sends = seen.wei // max(seen.send_wei, 1)
        text = f"the {name}'s key {seen.address} holds {Decimal(seen.wei) / 10**18:.6f} ETH, enough for {sends} sends"
        found[NO_GAS, name] = Finding(text=text, critical=sends < FEW_SENDS) if sends < SENDS else None
    if seen.stuck is not None and seen.stuck[1] >= STUCK_MS:
        number, waited_ms = seen.stuck
        text = (
            f"no block holds number {number} of the {name}'s key {seen.address} after {waited_ms // 1000} s: "
            "what it sends later waits behind it"
        )
        found[STUCK, name] = Finding(text=text, critical=True)
    else:
        found[STUCK, name] = None
    return found


def judge_allowance(deployment: str, seen: AccountSeen, fee_usdc: Decimal) -> Judged:
    """Whether a user still lets the venue take what an order costs, and the collector what he owes."""
    less = []
    if seen.venue_may_usdc < fee_usdc:
        less.append(f"the venue may take {seen.venue_may_usdc} USDC, an order takes {fee_usdc} and more")
    least = max(seen.owed_usdc, fee_usdc)
    if seen.collector_may_usdc < least:
        owes = f", {seen.owed_usdc} are owed" if seen.owed_usdc else ""
        less.append(f"the collector may take {seen.collector_may_usdc} USDC{owes}")
    text = f"{seen.account} lowered what he allows: {'; '.join(less)}; nothing more is opened for him"
    return {(ALLOWANCE, deployment): Finding(text=text) if less else None}


def judge_close(trade: str, seen: AccountSeen, fee_usdc: Decimal, *, is_closing: bool) -> Judged:
    """Whether the wallet can pay what a close takes before anything comes back. `is_closing`: somebody has asked for one."""
    free = min(seen.holds_usdc, seen.venue_may_usdc)
    if free >= fee_usdc:
        return {(UNPAYABLE, trade): None}
    then = "its stop was set at the market instead" if is_closing else "its stop goes on guarding it"
    text = f"a close of {trade} takes {fee_usdc} USDC of {seen.account} first, {free} can be taken: {then}"
    return {(UNPAYABLE, trade): Finding(text=text, critical=is_closing)}


def judge_markets(is_open: Mapping[str, bool], held: Mapping[str, int]) -> Judged:
    """Whether a market is closed in which trades are open. `is_open`: of the markets whose hours could be read; `held`: how
    many trades are there.
    """
    found: Judged = {}
    for market, trades_now in is_open.items():
        trades = held.get(market, 0)
        text = f"{market} is closed, and {trades} trades are open in it: no order closes them and no stop acts until it opens"
        found[MARKET_CLOSED, market] = None if trades_now or not trades else Finding(text=text)
    return found


def judge_graph(behind_ms: int, differs: Sequence[str]) -> Judged:
    """Whether the subgraph is far behind, and in what it contradicts our books, which are the chain's."""
    late = Finding(
        text=f"the subgraph is {behind_ms // 1000} s behind: it checks nothing until it has caught up"
    )
    more = f" and {len(differs) - MOST_NAMES} more" if len(differs) > MOST_NAMES else ""
    text = (
        f"the subgraph contradicts our books, which follow the chain: {'; '.join(differs[:MOST_NAMES])}{more}"
    )
    if behind_ms > BEHIND_MS:
        return {(GRAPH_BEHIND, VENUE): late}
    return {(GRAPH_BEHIND, VENUE): None, (GRAPH_DIFFERS, VENUE): Finding(text=text) if differs else None}
