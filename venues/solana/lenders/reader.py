"""Positions read from their lenders' accounts: those that are asked for at one moment in one call of the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evenkeel.clock import Clock
from venues.shared import Gathered
from venues.solana.answers import AccountInfo
from venues.solana.lenders.kamino import Kamino
from venues.solana.lenders.marginfi import Marginfi
from venues.solana.lenders.shapes import Held, Lender, Moment, program_data
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.common import KAMINO, MARGINFI

GATHER_S = 0.02
"""Wall seconds for which a position waits for others that can be read with it."""
MOST_TOGETHER = 100
"""Accounts that a node gives in one answer."""
LENDERS: dict[str, Lender] = {str(KAMINO): Kamino(), str(MARGINFI): Marginfi()}
"""By program. Of Save no account is recorded, so its layout is not proved; Drift is frozen."""


class _Read(NamedTuple):
    slot: int
    account: AccountInfo


class LenderAccounts:
    """Reads for all accounts of a process."""

    def __init__(self, rpc: SolanaRpc, clock: Clock) -> None:
        self._rpc, self._clock = rpc, clock
        self._gathered: Gathered[str, _Read] = Gathered(self._together, GATHER_S, MOST_TOGETHER)
        self._banks: dict[str, tuple[str, ...]] = {}
        """By position, the banks that it named last: they are asked for with it."""

    @staticmethod
    def can_read(program: str) -> bool:
        """Return whether this program's layout is known."""
        return program in LENDERS

    async def held(self, program: str, pda: str) -> Held:
        """Return what a position holds and owes now. Raises NotUnderstood for accounts that are laid out otherwise or not
        there, Retryable where the node does not answer, or a bank was touched too long ago to say.
        """
        lender = LENDERS[program]
        found = await self._gathered.ask([pda, *self._banks.get(pda, ())])
        position = found.get(pda)
        data = program_data(f"position {pda}", position.account if position else None, program)
        named = lender.banks(pda, data)
        if more := [bank for bank in named if bank not in found]:
            found |= await self._gathered.ask(more)
        self._banks[pda] = named
        banks = {
            bank: program_data(f"bank {bank}", found[bank].account if bank in found else None, program)
            for bank in named
        }
        slot = max(one.slot for one in found.values())
        return lender.held(pda, data, banks, Moment(slot, self._clock.now_ms() // 1000))

    async def close(self) -> None:
        """Break off what is on its way."""
        await self._gathered.close()

    async def _together(self, keys: Sequence[str]) -> dict[str, _Read]:
        slot, accounts = await self._rpc.get_accounts_at(list(keys))
        return {key: _Read(slot, one) for key, one in zip(keys, accounts, strict=True) if one is not None}
