"""Asks for the verdict on a build: gathers the chain and an independent price, judges, and plays it through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeAlias

from solders.pubkey import Pubkey

from evenkeel.clock import Clock
from evenkeel.errors import EvenkeelError, Retryable
from venues.asgard.building import judged
from venues.asgard.client import BuildBlob
from venues.asgard.effects import BUYING, read_effect
from venues.asgard.expecting import expectation_of
from venues.asgard.mints import token
from venues.asgard.models import LivePosition, Strategy
from venues.asgard.orders import AsgardOrder, CloseLong, Deleverage, PartialClose, RepayDebt
from venues.solana.approval import Refused
from venues.solana.lookup import read_view
from venues.solana.rpc import SolanaRpc
from venues.solana.rules import Expectation, Rules, Violation
from venues.solana.rules_router import tolerance_of
from venues.solana.simulation import NotSimulated, Simulated, simulate
from venues.solana.transactions import UnsafeBuild
from venues.solana.validator import Verdict, decode, sizes_wanted

PriceSource: TypeAlias = Callable[[], Awaitable[Decimal]]
EXIT_PATIENCE_S = 1.5
"""Wall seconds that an exit waits for what is not required of it: a price, a simulation."""
PRICE_MEMORY_MS = 60_000
"""A price of this age still bounds an exit whose price source is silent."""


def is_exit(order: AsgardOrder) -> bool:
    return isinstance(order, CloseLong | PartialClose | Deleverage | RepayDebt)


class Approver:
    """The way from a build to a verdict. Openings need price and simulation; exits take them where they are to be had."""

    def __init__(
        self,
        rpc: SolanaRpc,
        wallet: Pubkey,
        clock: Clock,
        rules: Rules,
        sol_price: PriceSource,
        redemption_rate: Callable[[str], Awaitable[Decimal | None]],
    ) -> None:
        self._rpc = rpc
        self._wallet = wallet
        self._clock = clock
        self._rules = rules
        self._sol_price = sol_price
        self._redemption_rate = redemption_rate
        self._seen: dict[str, tuple[int, Decimal]] = {}

    @asynccontextmanager
    async def pricing(self, order: AsgardOrder) -> AsyncIterator[asyncio.Task[Decimal | None]]:
        """The fair price, asked for while the build is being made."""
        task = asyncio.create_task(self._fair_price(order))
        try:
            yield task
        finally:
            if not task.done():
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _fair_price(self, order: AsgardOrder) -> Decimal | None:
        """USD per token: SOL's price elsewhere times the pool's redemption rate. None only on the way out.

        Raises what the source raises on the way in: no price, no entry.
        """
        if isinstance(order, RepayDebt):
            return None
        if not is_exit(order):
            return await self._asked(order.asset)
        try:
            async with asyncio.timeout(EXIT_PATIENCE_S):
                return await self._asked(order.asset)
        except (EvenkeelError, TimeoutError):
            at_ms, price = self._seen.get(order.asset, (0, None))
            return price if self._clock.now_ms() - at_ms <= PRICE_MEMORY_MS else None

    async def _asked(self, asset: str) -> Decimal:
        sol, rate = await self._sol_price(), await self._redemption_rate(asset)
        if rate is None:
            raise Retryable(
                f"no redemption rate of {asset} is to be had, so that no swap of it can be judged"
            )
        self._seen[asset] = (self._clock.now_ms(), sol * rate)
        return sol * rate

    async def approve(
        self,
        order: AsgardOrder,
        blob: BuildBlob,
        strategies: Sequence[Strategy],
        before: LivePosition | None,
        price_usd: Decimal | None,
    ) -> tuple[Verdict, dict[str, Any]]:
        """The verdict, and what it rests on, for the note. Raises `UnsafeBuild` or `Retryable`; nothing is signed then."""
        expectation = expectation_of(order, self._wallet, strategies, before, price_usd)
        try:
            transactions = [decode(one) for one in blob.encoded]
        except Violation as broken:
            raise UnsafeBuild.of(Refused(broken.rule, broken.reason)) from None
        extra = [expectation.asset_bank, expectation.usdc_bank]
        view = await read_view(self._rpc, transactions, extra, sizes_wanted(transactions))
        verdict = judged(order, blob, expectation, view, self._rules)
        found: Simulated | Refused | NotSimulated
        try:
            async with asyncio.timeout(EXIT_PATIENCE_S if is_exit(order) else None):
                found = await simulate(self._rpc, verdict, expectation, view, self._rules)
        except TimeoutError:
            found = NotSimulated("the node was too slow for an exit", transient=True)
        if isinstance(found, Simulated):
            self._check_prices(order, expectation, found)
        elif isinstance(found, Refused):
            raise UnsafeBuild.of(found)
        elif not is_exit(order):
            if found.transient:
                raise Retryable(
                    f"the build cannot be simulated, and nothing is opened unseen: {found.reason}"
                )
            raise UnsafeBuild(f"rule simulation: nothing is opened unseen: {found.reason}", "simulation")
        simulated = "passed" if isinstance(found, Simulated) else found.reason
        return verdict, {"simulation": simulated, "price_usd": None if price_usd is None else str(price_usd)}

    def _check_prices(self, order: AsgardOrder, expectation: Expectation, found: Simulated) -> None:
        """The price that the simulated swap really got, against the independent one."""
        fair = expectation.price_usd
        for meta in found.metas:
            if meta is None or fair is None or not meta.get("postTokenBalances") or meta.get("fee") is None:
                continue
            got = read_effect(order.op, token(order.asset), str(self._wallet), {"meta": meta}).price_usd
            if got is None:
                continue
            limit = tolerance_of(expectation, self._rules)
            worse = got / fair - 1 if order.op in BUYING else 1 - got / fair
            if worse > limit:
                raise UnsafeBuild(
                    f"rule price: simulation: the swap would get {got:.6g} USD a token, fair is {fair:.6g}",
                    "price",
                )
