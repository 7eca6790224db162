"""Growth in a back-test: what the legs' money carries, whether that pays, and what refuses it at its order."""

from __future__ import annotations

from analytics.research.account import Account
from analytics.research.market import Venues
from strategy.breakers.state import Memory
from strategy.carry.breakers.funding import funding_breaker
from strategy.carry.breakers.liquidation import liquidation_breaker
from strategy.carry.breakers.price_deviation import NAME as DEVIATION
from strategy.carry.breakers.price_deviation import price_deviation_breaker
from strategy.carry.checks import judge_price_consensus
from strategy.carry.keeping_size import Growth, growth_pays, plan_growth
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import BreakerReadings
from strategy.rules import judge_all
from tasks.carry.entering.growing import LEFT_ALONE_MS
from tasks.research.readings import Entered, Known, book_of, exact, known, rates_of

ASKED = (liquidation_breaker, funding_breaker, price_deviation_breaker)
"""The breakers of an entry that prices and rates alone can trip."""


class Growing:
    """Decides on growth as the live product does, and remembers what that remembers of it."""

    def __init__(self, account: Account, venues: Venues, limits: CarryLimits) -> None:
        self._account, self._venues, self._limits = account, venues, limits
        self._trips: dict[str, Memory] = {}
        self._left_alone_until_ms = 0

    def note(self, now_ms: int) -> None:
        """Remember at a tick that the venues' prices of SOL are too far apart; nothing grows for a while after that."""
        state = price_deviation_breaker(self._readings(now_ms), self._limits.risk).answer
        if not state.tripped:
            self._trips.pop(DEVIATION, None)
        elif state.keep:
            self._trips[DEVIATION] = Memory(since_ms=state.since_ms or now_ms, until_ms=state.until_ms)

    def asked(
        self,
        entered: Entered,
        seen: Known,
        shown_hourly: float | None,
        breaches: dict[str, int],
        now_ms: int,
        *,
        always: bool,
        asks_market: bool,
    ) -> Growth | None:
        """Return what both legs grow by; None where they do not. `shown_hourly`: the running hour's rate as its venue shows it,
        however young the hour is; None: nobody read it. `always`: whether it pays, and what refuses it, is not asked.
        `asks_market`: whether its order is refused as an entry would be, which takes the prices of its moment.
        """
        account, limits = self._account, self._limits
        book = book_of(account, self._venues, entered, seen, 0.0)
        growth = plan_growth(book, exact(account.wallet_usd), limits)
        if growth is None or always:
            return growth
        rates = rates_of(seen)
        if now_ms < self._left_alone_until_ms or rates is None:
            return None
        if not growth_pays(growth, book, rates, limits).ok:
            return None
        if asks_market and self._refused(seen, shown_hourly, breaches, now_ms):
            self._left_alone_until_ms = now_ms + LEFT_ALONE_MS
            return None
        return growth

    def _refused(
        self, seen: Known, shown_hourly: float | None, breaches: dict[str, int], now_ms: int
    ) -> bool:
        """Whether the market refuses it once its order is to be sent, as it would an entry."""
        account, risk = self._account, self._limits.risk
        now_hourly = seen.funding_hourly if shown_hourly is None else shown_hourly
        readings = self._readings(now_ms).model_copy(
            update={
                "running_since_ms": breaches,
                "funding_now_hourly": known(now_hourly),
                "funding_today_hourly": known(seen.today_hourly),
            }
        )
        if any(one.answer.tripped for one in judge_all(ASKED, readings, risk)):
            return True
        return not judge_price_consensus(exact(account.oracle_usd), exact(account.mark_usd), risk).ok

    def _readings(self, now_ms: int) -> BreakerReadings:
        account = self._account
        return BreakerReadings(
            now_ms=now_ms,
            trips=self._trips,
            long_venue_price_usd=exact(account.oracle_usd),
            short_venue_price_usd=exact(account.mark_usd),
        )
