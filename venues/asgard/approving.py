"""Asks for the verdict on a build: gathers the chain and an independent price, judges, and plays it through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from solders.pubkey import Pubkey

from evenkeel.clock import Clock
from evenkeel.errors import EvenkeelError, NotUnderstood, Retryable
from venues.asgard.building import judged
from venues.asgard.client import BuildBlob
from venues.asgard.effects import BUYING, read_effect
from venues.asgard.expecting import expectation_of
from venues.asgard.mints import token
from venues.asgard.models import LivePosition, Strategy
from venues.asgard.no_effect import digest
from venues.asgard.orders import AsgardOrder, CloseLong, Deleverage, PartialClose, RepayDebt
from venues.solana.lookup import read_view
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.approval import Refused
from venues.solana.rules.bounds import tolerance_of
from venues.solana.rules.common import Expectation, Rules
from venues.solana.rules.simulation import NotSimulated, Simulated, simulate
from venues.solana.rules.validator import Verdict, decode, sizes_wanted
from venues.solana.transactions import UnsafeBuild
from venues.solana.view import Violation

PriceSource: TypeAlias = Callable[[], Awaitable[Decimal]]
EXIT_TIMEOUT_S = 1.5
"""Wall seconds that an exit waits for what is not required of it: a price, a simulation."""
SEEN_TIMEOUT_S = 6.0
"""The same where a simulation is required, because the route holds something that is not understood."""
StoredPrice: TypeAlias = Callable[[str], tuple[int, Decimal] | None]
"""The last price of an asset that somebody wrote down: when (ms) and USD per token; None where there is none."""


@dataclass(frozen=True, slots=True)
class FairPrice:
    """USD per token by a source other than the builder. Age 0 where the source has just said it.

    `seen`: what it was made of, for the books: `sol_price_usd`, `redemption_rate`, `at_ms`; None where it is an old one.
    """

    usd: Decimal
    age_ms: int = 0
    seen: dict[str, Any] | None = None


def _must_be_seen(order: AsgardOrder, verdict: Verdict) -> bool:
    """Whether the simulation must pass: for what is opened, and for a way out with something that is not understood. An
    emergency does not wait for it.
    """
    return not is_exit(order) or (bool(verdict.warnings) and not getattr(order, "emergency", False))


def is_exit(order: AsgardOrder) -> bool:
    return isinstance(order, CloseLong | PartialClose | Deleverage | RepayDebt)


class Approver:
    """The way from a build to a verdict. Openings need price and simulation; exits take them where they are to be had."""

    def __init__(
        self,
        rpc: SolanaRpc,
        wallet: Pubkey,
        clock: Clock,
        rules: Rules | Callable[[], Rules],
        sol_price: PriceSource,
        redemption_rate: Callable[[str], Awaitable[Decimal | None]],
    ) -> None:
        self._rpc = rpc
        self._wallet = wallet
        self._clock = clock
        self._given_rules = rules
        self._sol_price = sol_price
        self._redemption_rate = redemption_rate
        self._seen: dict[str, tuple[int, Decimal]] = {}
        self.stored_price: StoredPrice = lambda asset: None
        """Where a price is to be had that this process has not seen itself."""

    @property
    def _rules(self) -> Rules:
        """The limits as they stand now."""
        return self._given_rules if isinstance(self._given_rules, Rules) else self._given_rules()

    def note_price(self, asset: str, price_usd: Decimal, at_ms: int) -> None:
        """Note a fair price as somebody else has just read it: what an exit is held against once the source falls
        silent.
        """
        if price_usd > 0 and at_ms >= self._seen.get(asset, (0, price_usd))[0]:
            self._seen[asset] = (at_ms, price_usd)

    def last_price(self, asset: str) -> Decimal | None:
        """Return USD per token as last known from another source than the builder, however old; None where none ever was."""
        found = self._last_known(asset)
        return None if found is None else found.usd

    @asynccontextmanager
    async def pricing(self, order: AsgardOrder) -> AsyncIterator[asyncio.Task[FairPrice | None]]:
        """Yield the fair price, asked for while the build is being made."""
        task = asyncio.create_task(self._fair_price(order))
        try:
            yield task
        finally:
            if not task.done():
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _fair_price(self, order: AsgardOrder) -> FairPrice | None:
        """USD per token: SOL's price elsewhere times the pool's redemption rate. On the way out, where the source is
        silent, the last one known, however old; None only where none ever was.

        Raises what the source raises on the way in: no price, no entry.
        """
        if isinstance(order, RepayDebt):
            return None
        if not is_exit(order):
            return await self._asked(order.asset)
        try:
            async with asyncio.timeout(EXIT_TIMEOUT_S):
                return await self._asked(order.asset)
        except (EvenkeelError, TimeoutError):
            return self._last_known(order.asset)

    def _last_known(self, asset: str) -> FairPrice | None:
        try:
            stored = self.stored_price(asset)
        except EvenkeelError:  # a ledger that cannot be read does not hold up an exit
            stored = None
        known = [one for one in (self._seen.get(asset), stored) if one is not None]
        if not known:
            return None
        at_ms, price = max(known)
        return FairPrice(price, max(0, self._clock.now_ms() - at_ms))

    async def _asked(self, asset: str) -> FairPrice:
        sol, rate = await self._sol_price(), await self._redemption_rate(asset)
        if rate is None:
            raise Retryable(
                f"no redemption rate of {asset} is to be had, so that no swap of it can be judged"
            )
        at_ms = self._clock.now_ms()
        self.note_price(asset, sol * rate, at_ms)
        seen = {"sol_price_usd": str(sol), "redemption_rate": str(rate), "at_ms": at_ms}
        return FairPrice(sol * rate, seen=seen)

    async def approve(
        self,
        order: AsgardOrder,
        blob: BuildBlob,
        strategies: Sequence[Strategy],
        before: LivePosition | None,
        price: FairPrice | None,
    ) -> tuple[Verdict, dict[str, Any]]:
        """Return the verdict, and what it rests on, for the note. Raises `UnsafeBuild` or `Retryable`; nothing is
        signed then.
        """
        fair, age_ms = (price.usd, price.age_ms) if price is not None else (None, 0)
        expectation = expectation_of(order, self._wallet, strategies, before, fair, age_ms)
        try:
            transactions = [decode(one) for one in blob.encoded]
        except Violation as broken:
            raise UnsafeBuild.of(Refused(broken.rule, broken.reason)) from None
        extra = [expectation.asset_bank, expectation.usdc_bank]
        if expectation.position is not None:
            extra.append(expectation.position)
        view = await read_view(self._rpc, transactions, extra, sizes_wanted(transactions))
        rules = self._rules
        verdict = judged(order, blob, expectation, view, rules)
        must_pass = _must_be_seen(order, verdict)
        wait_s = None if not is_exit(order) else SEEN_TIMEOUT_S if must_pass else EXIT_TIMEOUT_S
        found: Simulated | Refused | NotSimulated
        try:
            async with asyncio.timeout(wait_s):
                found = await simulate(self._rpc, verdict, expectation, view, rules)
        except TimeoutError:
            found = NotSimulated("the node was too slow for an exit", transient=True)
        if isinstance(found, Simulated):
            self._check_prices(order, expectation, found)
        elif isinstance(found, Refused):
            raise UnsafeBuild.of(found)
        elif must_pass:
            why = f"{'; '.join(verdict.warnings) or 'nothing is opened unseen'}: {found.reason}"
            if found.transient:
                raise Retryable(f"the build cannot be simulated: {why}")
            raise UnsafeBuild(f"rule simulation: {why}", "simulation")
        simulated = "passed" if isinstance(found, Simulated) else found.reason
        checks: dict[str, Any] = {"simulation": simulated, "price_usd": None if fair is None else str(fair)}
        if (position := expectation.position or verdict.position) is not None:
            checks["position_digest"] = digest(view.account(position))
        if verdict.warnings:
            checks["warnings"] = list(verdict.warnings)
        return verdict, checks | ({"price_age_s": age_ms // 1000} if age_ms else {})

    def _check_prices(self, order: AsgardOrder, expectation: Expectation, found: Simulated) -> None:
        """The price that the simulated swap really got, against the independent one."""
        fair = expectation.price_usd
        for meta in found.metas:
            if meta is None or fair is None or not meta.get("postTokenBalances") or meta.get("fee") is None:
                continue
            try:
                got = read_effect(order.op, token(order.asset), str(self._wallet), {"meta": meta}).price_usd
            except NotUnderstood:
                if is_exit(order):  # the static bounds stand
                    continue
                raise
            if got is None:
                continue
            limit = tolerance_of(expectation, self._rules)
            worse = got / fair - 1 if order.op in BUYING else 1 - got / fair
            if worse > limit:
                raise UnsafeBuild(
                    f"rule price: simulation: the swap would get {got:.6g} USD a token, fair is {fair:.6g}",
                    "price",
                )
