"""Live positions from their lenders' accounts, held against Asgard's own answer in turns, or where it shows none.

Without a key Asgard allows one request a second. A position is read from chain only once Asgard has said the same of it. What
cannot be read there, is empty, or differs is asked of Asgard, whose word counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from solders.pubkey import Pubkey

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, NotUnderstood, Retryable, VenueRefused
from venues.asgard.expecting import PROGRAMS
from venues.asgard.mints import BY_MINT
from venues.asgard.models import Balance, LivePosition
from venues.reading import Oddities, Oddity
from venues.solana.lenders.reader import MOST_TOGETHER, LenderAccounts
from venues.solana.lenders.shapes import Held
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.common import MARGINFI
from venues.solana.rules.holdings import holdings_of

Pair = tuple[int, str]
Found = dict[str, LivePosition | NotUnderstood]
SOURCE = "lenders' accounts"
TURN_MS = 60_000
"""So often Asgard itself is asked for a position that is read from chain meanwhile."""
TURN_S = 5.0
"""Wall seconds that a look waits for Asgard's answer where the chain's is there."""
AGREED = Decimal("0.001")
"""Share by which both may differ in what is held and owed: interest of some minutes, and what Asgard rounds away."""
AGAIN_S = 2.0
"""Before a position account that contradicts Asgard is read once more: one of the two may be a block behind."""
LEAST_UNITS = 10**6
"""Collateral tokens, in base units, below which a deposit is a rest that a close may leave."""
SHARE_BITS = 48
"""Of a share's fraction in Marginfi's accounts."""


class StillOnChain(NotUnderstood):
    """Asgard shows nothing of a position, and the position's own account says that it holds a deposit."""


async def confirm_absence(
    rpc: SolanaRpc, clock: Clock, shown: Mapping[str, object], pairs: Iterable[Pair]
) -> None:
    """Check that positions of which Asgard shows nothing hold nothing by their own accounts. Where these cannot be read,
    Asgard's word stands. Raises StillOnChain.
    """
    doubted = [pair for pair in pairs if pair[0] in PROGRAMS and _is_nothing(shown.get(pair[1]))]
    for pause_s in (AGAIN_S, 0.0):
        if doubted := await _holding(rpc, doubted):
            await clock.sleep(pause_s)
    if doubted:
        names = ", ".join(pda for _, pda in doubted)
        raise StillOnChain(
            "asgard", f"it shows nothing of position {names}, whose account on chain holds a deposit"
        )


def _is_nothing(one: object) -> bool:
    return one is None or (
        isinstance(one, LivePosition)
        and not one.lost
        and not any(bank.assets for bank in one.balances.values())
    )


async def _holding(rpc: SolanaRpc, pairs: list[Pair]) -> list[Pair]:
    """Those of the positions whose account holds a deposit."""
    if not pairs:
        return []
    try:
        accounts = [
            account
            for at in range(0, len(pairs), MOST_TOGETHER)
            for account in await rpc.get_multiple_accounts([pda for _, pda in pairs[at : at + MOST_TOGETHER]])
        ]
    except UNREAD:
        return []
    found = []
    for pair, account in zip(pairs, accounts, strict=True):
        program: Pubkey = PROGRAMS[pair[0]]
        least = LEAST_UNITS << SHARE_BITS if program == MARGINFI else LEAST_UNITS
        if account is not None and account.owner == str(program):
            held = holdings_of(program, account)
            if held is not None and held.deposited >= least:
                found.append(pair)
    return found


async def held_on_chain(rpc: SolanaRpc, clock: Clock, protocol: int, pda: str) -> LivePosition | None:
    """Return what a position holds and owes by its lender's accounts; None where these do not say it now."""
    program, accounts = str(PROGRAMS.get(protocol, "")), LenderAccounts(rpc, clock)
    if not accounts.can_read(program):
        return None
    try:
        return _live(pda, await accounts.held(program, pda))
    except UNREAD:
        return None
    finally:
        await accounts.close()


class OnChain:
    """Of all accounts of a process."""

    def __init__(self, accounts: LenderAccounts, clock: Clock, oddities: Oddities) -> None:
        self._accounts, self._clock, self._oddities = accounts, clock, oddities
        self._agreed_ms: dict[str, int] = {}
        """By position, when Asgard was heard last and said the same as the chain."""
        self._odd: dict[str, Oddity] = {}
        self.unanswered: set[str] = set()
        """Positions whose last question to Asgard found no answer."""

    async def close(self) -> None:
        await self._accounts.close()

    async def refresh(self, ask: Callable[[list[Pair]], Awaitable[Found]], pairs: Sequence[Pair]) -> Found:
        """Return live positions, `on_chain` where Asgard was not asked now; `ask` asks it, and one that is nowhere is absent.
        Raises as `ask` does.
        """
        each = await asyncio.gather(*(self._one(ask, pair) for pair in pairs))
        return {pda: one for (_, pda), one in zip(pairs, each, strict=True) if one is not None}

    async def _one(
        self, ask: Callable[[list[Pair]], Awaitable[Found]], pair: Pair
    ) -> LivePosition | NotUnderstood | None:
        protocol, pda = pair
        program = str(PROGRAMS.get(protocol, ""))

        async def stated() -> LivePosition | NotUnderstood | None:
            found = (await ask([pair])).get(pda)
            self.unanswered.discard(pda)
            return found

        if not self._accounts.can_read(program):
            return await stated()
        agreed_ms = self._agreed_ms.get(pda)
        is_turn = agreed_ms is None or not 0 <= self._clock.now_ms() - agreed_ms < TURN_MS
        if not is_turn:
            own = await self._held(program, pda)
            return await stated() if own is None else _live(pda, own)
        asked = asyncio.ensure_future(stated())
        try:
            own = await self._held(program, pda)
            known = own is not None and agreed_ms is not None
            if known and not (await asyncio.wait([asked], timeout=TURN_S))[0]:
                raise Retryable("asgard does not answer")
            answer = await asked
        except (Retryable, VenueRefused):
            if own is None or agreed_ms is None:
                raise
            self.unanswered.add(pda)
            return _live(pda, own)
        finally:
            asked.cancel()
        self._compare(pda, answer, own)
        return answer

    async def _held(self, program: str, pda: str) -> Held | None:
        """What the chain says; None where that cannot be used. An account that is laid out otherwise is noted by name."""
        try:
            held = await self._accounts.held(program, pda)
        except NotUnderstood as odd:
            self._note(pda, odd.reason)
            return None
        except UNREAD:
            return None
        return None if held.is_empty else held

    def _compare(self, pda: str, answer: LivePosition | NotUnderstood | None, own: Held | None) -> None:
        """Note whether both say the same: only then the chain is read alone until the next turn."""
        self._agreed_ms.pop(pda, None)
        if own is None or answer is None or isinstance(answer, NotUnderstood):
            return
        apart = gap(answer, _live(pda, own))
        if apart is None:
            self._agreed_ms[pda] = self._clock.now_ms()
        self._note(pda, apart or "")

    def _note(self, pda: str, why: str) -> None:
        """Note why a position cannot be read from chain, or that it can be; Asgard's word counts meanwhile."""
        before = self._odd.pop(pda, None)
        if why:
            self._odd[pda] = Oddity(SOURCE, pda, "", f"{why}; asked of Asgard instead", lost=False)
        if self._odd.get(pda) != before:
            self._oddities.answered(SOURCE, self._odd.values())


def _live(pda: str, held: Held) -> LivePosition:
    """The position as the chain has it. How far the market may fall is not in it."""
    none = Decimal(0)
    balances = {
        bank: Balance(mint=one.mint, assets=one.tokens, liabs=none) for bank, one in held.deposits.items()
    }
    balances |= {
        bank: Balance(mint=one.mint, assets=none, liabs=one.tokens) for bank, one in held.debts.items()
    }
    return LivePosition(pda=pda, authority=held.owner, health_pct=None, balances=balances, on_chain=True)


def gap(stated: LivePosition, own: LivePosition) -> str | None:
    """In what both differ, in words; None where they say the same."""
    try:
        stated.understood(BY_MINT)
        pairs = {"holds": (stated.collateral(), own.collateral()), "owes": (stated.debt(), own.debt())}
    except NotUnderstood as odd:
        return odd.reason
    for word, (theirs, ours) in pairs.items():
        said, seen = ((Decimal(0) if one is None else one.assets + one.liabs) for one in (theirs, ours))
        same_mint = theirs is None or ours is None or theirs.mint == ours.mint
        if not same_mint or abs(said - seen) > AGREED * max(said, seen):
            return f"Asgard says that it {word} {said:.9g}, its lender's accounts say {seen:.9g}"
    if stated.authority not in (own.authority, None):
        return f"Asgard says that it belongs to {stated.authority}, its lender's account to {own.authority}"
    return None
