"""What a venue's own ledger says of a leg: which changes it explains, whose they are, and what is to be done about the rest.

Pure functions from (books, report) to facts. Nothing here reads a venue: a list that may be old or cut off must be able
to prove itself, and where it cannot, the answer is "unknown" and never a guess.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from enum import StrEnum
from itertools import groupby

from evenkeel.types import Fill, Forced, Frozen
from evenkeel.units import HOUR_MS, HOURS_PER_YEAR, SECOND_MS
from strategy.chains import in_order

ZERO = Decimal(0)
ROUNDING = Decimal("0.9999999")
"""A lender rounds what it shows of a deposit by a few base units."""
DUST_USD = Decimal("0.00001")
MAX_INTEREST_APR = Decimal(2)
"""Interest beyond 200 % a year is not believed: something else moved the amount."""
"""A transaction is stamped with the whole second of its block: a seizure is stamped likewise, and goes first in a tie."""
BLOCK_TIME_MS = 2 * SECOND_MS
"""An event may seem later by so much than the transaction that followed it."""


class Standing(StrEnum):
    """Of one of our rows at its venue."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    """A complete list of the venue does not have it, or has it with other figures."""
    UNKNOWN = "unknown"


class Handling(StrEnum):
    EXPLAINED = "explained"
    ALARM = "alarm"
    """A person must look; nothing is touched."""
    ACT = "act"
    """The hedge no longer holds: the other leg follows at once."""


class Finding(Frozen):
    """One thing on which books and venue did not agree, and what became of it."""

    subject: str
    """`fill`, `funding`, `fee`, `short`, `long`, `foreign position`, `foreign fill` or `late fill`."""
    venue: str
    key: str
    handling: Handling
    text: str
    standing: Standing = Standing.CONFIRMED
    position_id: str | None = None
    critical: bool = False


# --- the short: fills explain the position to the last lot ---------------------------------------------------


class ListedFill(Frozen):
    """A fill as the venue lists it. `start_position` is signed; `forced` says why the venue traded, None for an order's."""

    fill: Fill
    start_position: Decimal
    forced: Forced | None = None


class ShortExplained(Frozen):
    """What the list says of our short. Where `unproved` is not empty only `listed_qty` may be used beside it."""

    qty: Decimal
    """What is left of ours, in SOL."""
    ours: tuple[ListedFill, ...]
    """Fills that belong to the position and are not in its books."""
    foreign: tuple[ListedFill, ...]
    """Fills of orders that are not ours and did not touch our short."""
    foreign_szi: Decimal
    """Signed position of somebody else on the same account and coin."""
    unproved: str = ""
    listed_qty: Decimal | None = None
    """Without proof: what of ours the list says is held, though another position is shown; None where it says nothing."""

    @property
    def causes(self) -> str:
        """In words: what took from the short, or added to it."""
        found = dict.fromkeys(_cause(one) for one in self.ours)
        return ", ".join(found) or "nothing"

    @property
    def backstopped(self) -> bool:
        """The venue's backstop took the position, and the margin behind it with it."""
        return any(one.forced is Forced.BACKSTOP for one in self.ours)


def _cause(one: ListedFill) -> str:
    if one.forced is Forced.BACKSTOP:
        return "liquidation by the backstop"
    return one.forced or "a fill without an order of ours"


def explain_short(
    booked: Collection[str],
    listed: Sequence[ListedFill],
    shown_szi: Decimal | None,
    own_refs: Collection[str],
) -> ShortExplained:
    """Go through a coin's fills since the position began and say what they leave of our short.

    `booked` are the ids of fills in its books, `own_refs` the client ids of orders that we ever signed for it, `shown_szi`
    the signed position that the venue shows now, None where that cannot be read. Proof is that every booked fill is
    listed, and that the list leads from where its first fill started to what is shown. A fill that is not ours belongs to
    the position where it shrinks its short (one account nets, and it is our hedge that got smaller), unless it takes back
    what the same foreign orders added.
    """
    rows = sorted(listed, key=lambda one: one.fill.time_ms)
    missing = set(booked) - {one.fill.fill_id for one in rows}
    if missing:
        return _unproved(f"{len(missing)} fills that we booked are not listed")
    if not rows:
        return _unproved("no fill is listed")
    chain = _chained(rows)
    rows = chain or rows
    base = rows[0].start_position
    ends_at = base + sum((_signed(one.fill) for one in rows), ZERO)
    unproved = ""
    if shown_szi is None and chain is None:
        return _unproved("the fills do not lead from one to the next: one is not listed")
    if shown_szi is not None and ends_at != shown_szi:
        unproved = f"the fills lead to {ends_at}, the position shown is {shown_szi}"
    net, foreign_net = ZERO, base
    ours: list[ListedFill] = []
    foreign: list[ListedFill] = []
    for one in rows:
        change = _signed(one.fill)
        if one.fill.fill_id in booked:
            net -= change
            continue
        own = (one.fill.order_ref or "") in own_refs
        takes_back = not one.forced and foreign_net < 0 and change > 0 and foreign_net + change <= 0
        if own or (change > 0 and net > 0 and not takes_back):
            ours.append(one)
            net -= change
            if net < 0 and not own:  # it took more than was ours
                foreign_net, net = foreign_net - net, ZERO
        else:
            foreign.append(one)
            foreign_net += change
    if unproved:
        return _unproved(unproved, listed_qty=max(net, ZERO))
    return ShortExplained(
        qty=max(net, ZERO), ours=tuple(ours), foreign=tuple(foreign), foreign_szi=foreign_net
    )


def _chained(rows: Sequence[ListedFill]) -> list[ListedFill] | None:
    """The fills in an order in which each starts where the one before it ended, of those of one moment in any; None where
    there is none, because one is not listed.
    """
    first_ms = rows[0].fill.time_ms
    for anchor in dict.fromkeys(one.start_position for one in rows if one.fill.time_ms == first_ms):
        if (found := _chained_from(rows, anchor)) is not None:
            return found
    return None


def _chained_from(rows: Sequence[ListedFill], held: Decimal) -> list[ListedFill] | None:
    chain: list[ListedFill] = []
    for _, moment in groupby(rows, key=lambda one: one.fill.time_ms):
        together = list(moment)
        order = in_order([(one.start_position, _signed(one.fill)) for one in together], held)
        if order is None:
            return None
        chain += [together[place] for place in order]
        held += sum((_signed(one.fill) for one in together), ZERO)
    return chain


def _signed(fill: Fill) -> Decimal:
    return fill.qty if fill.side == "buy" else -fill.qty


def _unproved(why: str, listed_qty: Decimal | None = None) -> ShortExplained:
    return ShortExplained(
        qty=ZERO, ours=(), foreign=(), foreign_szi=ZERO, unproved=why, listed_qty=listed_qty
    )


# --- the long: seizures explain every fall of collateral and debt -------------------------------------------


class Holding(Frozen):
    """Collateral in whole tokens and debt in USD."""

    tokens: Decimal
    debt_usd: Decimal

    def follows(self, before: Holding, over_ms: int) -> bool:
        """Whether it can be what that became by interest alone."""
        pairs = ((before.tokens, self.tokens), (before.debt_usd, self.debt_usd))
        return all(interest_finding(was, now, over_ms) is None for was, now in pairs)

    def has_lost(self, since: Holding) -> bool:
        """Interest only grows: less than before means that something was taken."""
        return self.tokens < since.tokens * ROUNDING or self.debt_usd < since.debt_usd * ROUNDING - DUST_USD


class BookedChange(Frozen):
    """A landed transaction or a booked seizure."""

    at_ms: int
    before: Holding
    after: Holding


class Seized(Frozen):
    """A liquidation as the venue reports it. `ref` is the venue's own id."""

    ref: str
    at_ms: int
    tokens: Decimal
    repaid_usd: Decimal
    price_usd: Decimal | None = None


class Placed(Frozen):
    """A seizure at its place in the books: before, after and the change add up."""

    seized: Seized
    at_ms: int
    before: Holding
    after: Holding


class LongExplained(Frozen):
    """Seizures that the books lacked, and what they do not explain (empty: everything)."""

    placed: tuple[Placed, ...]
    unexplained: str = ""


def explain_long(changes: Sequence[BookedChange], now: Holding, seizures: Sequence[Seized]) -> LongExplained:
    """Put seizures that are not booked yet where the books have a fall that no transaction of ours explains.

    The amounts after a seizure are those of the next thing known (the transaction that followed, or what is shown now),
    so that interest up to there lies before it. Debt that is forgiven when nothing is left to be seized counts as repaid.
    """
    waiting = sorted(seizures, key=lambda one: one.at_ms)
    placed: list[Placed] = []
    open_ends: list[str] = []
    rows = sorted(changes, key=lambda one: one.at_ms)
    for index, row in enumerate(rows):
        following = rows[index + 1] if index + 1 < len(rows) else None
        after = following.before if following else now
        if not after.has_lost(row.after):
            continue
        until_ms = None if following is None else following.at_ms + BLOCK_TIME_MS
        mine = [one for one in waiting if until_ms is None or one.at_ms <= until_ms]
        waiting = [one for one in waiting if one not in mine]
        chain = _chain(mine, after, row.after)
        first = chain[0].before if chain else after
        if first.has_lost(row.after):
            open_ends.append(
                f"tokens went from {row.after.tokens:f} to {after.tokens:f} and debt from {row.after.debt_usd:f} to "
                f"{after.debt_usd:f} USD, {len(mine)} liquidation events explain only {row.after.tokens - first.tokens:f} less"
                if mine
                else f"tokens went from {row.after.tokens:f} to {after.tokens:f} and debt from {row.after.debt_usd:f} to "
                f"{after.debt_usd:f} USD without a transaction of ours and without a liquidation event"
            )
            continue
        placed += [_stamped(one, row, following) for one in chain]
    return LongExplained(placed=tuple(placed), unexplained="; ".join(open_ends))


def _chain(mine: Sequence[Seized], after: Holding, start: Holding) -> list[Placed]:
    found: list[Placed] = []
    for one in reversed(mine):
        before = Holding(tokens=after.tokens + one.tokens, debt_usd=after.debt_usd + one.repaid_usd)
        found.insert(0, Placed(seized=one, at_ms=one.at_ms, before=before, after=after))
        after = before
    if found and found[-1].after.tokens == 0:
        forgiven = max(ZERO, start.debt_usd - found[0].before.debt_usd)
        found = [_raised(one, forgiven, last=one is found[-1]) for one in found]
    return found


def _raised(one: Placed, forgiven: Decimal, *, last: bool) -> Placed:
    def more(holding: Holding) -> Holding:
        return holding.model_copy(update={"debt_usd": holding.debt_usd + forgiven})

    return one.model_copy(
        update={"before": more(one.before), "after": one.after if last else more(one.after)}
    )


def _stamped(one: Placed, previous: BookedChange, following: BookedChange | None) -> Placed:
    """Between its neighbours in time, as it is in the amounts."""
    at_ms = max(one.at_ms - one.at_ms % SECOND_MS, previous.at_ms + 1)
    return one.model_copy(update={"at_ms": at_ms if following is None else min(at_ms, following.at_ms)})


def from_balances(since: Holding, now: Holding, at_ms: int, ref: str) -> Seized:
    """A seizure whose event is there but cannot be read, taken from the balances before and after it."""
    return Seized(
        ref=ref,
        at_ms=at_ms,
        tokens=max(ZERO, since.tokens - now.tokens),
        repaid_usd=max(ZERO, since.debt_usd - now.debt_usd),
    )


def interest_finding(booked: Decimal, shown: Decimal, over_ms: int) -> str | None:
    """Why an amount cannot be `booked` plus interest of at most MAX_INTEREST_APR over that time; None: it can."""
    hours = Decimal(max(0, over_ms)) / HOUR_MS
    most = booked * (1 + MAX_INTEREST_APR * hours / HOURS_PER_YEAR) + DUST_USD
    if booked * ROUNDING - DUST_USD <= shown <= most:
        return None
    return f"{shown:f} is shown, {booked:f} is booked; {hours:.1f} h of interest make at most {most:.6f}"
