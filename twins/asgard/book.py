"""The lending protocols' truth about margin positions: collateral, debt, interest, health and liquidations.

Accrual: amounts grow by exp(integral of the world's simple yearly rate dt / 365 days), the rate taken at each
hour's start. Whatever the moments of access, the result is the same. A transaction or liquidation first
settles: collateral is rounded down to the token's decimals and debt up to USDC's, so that chain balances and
book agree exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from twins.asgard.records import Execution, LiquidationEvent
from twins.asgard.reserves import Reserves
from twins.asgard.swap import ceil, floor
from twins.asgard.venue import LIVE_PROTOCOLS, USDC, Market, Protocol
from twins.world import HOUR_MS, World

YEAR_MS = Decimal(365 * 24) * HOUR_MS
MINUTE_MS = 60_000
MAX_PATH_SAMPLES = 20_000
LIQUIDATION_CLOSE_FACTOR = Decimal("0.2")
THIN_BPS = Decimal(2)
"""What a swap loses more for each multiple by which the market is thinner than in a calm hour."""
DUST_DEBT_USD = Decimal(10)
HOURLY_DEBT_GROWTH_BOUND = Decimal("1.001")
"""More than an hour's interest at 800 % a year."""


def decimal(value: float) -> Decimal:
    """Return a market float as the decimal it prints as."""
    return Decimal(repr(float(value)))


KEPT_READINGS = 64
"""As many moments as are kept, so that a block's time, which lies a little before the last reading, is accrued to exactly."""


@dataclass(frozen=True)
class Accrued:
    """The integrals of the yearly lend and borrow rate from the first reading until a moment: simple, without a unit."""

    at_ms: int
    lend: Decimal = Decimal(0)
    borrow: Decimal = Decimal(0)

    def plus(self, until_ms: int, lend_apr: Decimal, borrow_apr: Decimal) -> Accrued:
        share = Decimal(until_ms - self.at_ms) / YEAR_MS
        return Accrued(until_ms, self.lend + lend_apr * share, self.borrow + borrow_apr * share)


class RateIndex:
    """The integrals of one token's lend and borrow rate at one protocol, from its making on. Before, they are negative: a block
    of a first transaction may be older.
    """

    def __init__(self, world: World, protocol: int, symbol: str) -> None:
        self._world = world
        self._protocol = protocol
        self._symbol = symbol
        self._last = Accrued(world.now_ms())
        self._pieces = deque([self._piece()], maxlen=KEPT_READINGS)
        """Where each of the last pieces began, and its two yearly rates."""

    def until(self, at_ms: int) -> Accrued:
        """Return the integrals until `at_ms`; before what is kept by the rates of the oldest that is kept."""
        self._advance(at_ms)
        if at_ms == self._last.at_ms:
            return self._last
        found = (one for one in reversed(self._pieces) if one[0].at_ms <= at_ms)
        began, lend_apr, borrow_apr = next(found, self._pieces[0])
        return began.plus(at_ms, lend_apr, borrow_apr)

    def _advance(self, to_ms: int) -> None:
        while self._last.at_ms < to_ms:
            began, lend_apr, borrow_apr = piece = self._piece()
            self._pieces.append(piece)
            hour_end_ms = began.at_ms - began.at_ms % HOUR_MS + HOUR_MS
            self._last = began.plus(min(hour_end_ms, to_ms), lend_apr, borrow_apr)

    def _piece(self) -> tuple[Accrued, Decimal, Decimal]:
        """What begins at the last reading, by the rates of its hour's start."""
        hour_ms = self._last.at_ms - self._last.at_ms % HOUR_MS
        rates = self._world.rates(self._protocol, self._symbol, max(hour_ms, self._world.series.start_ms))
        return self._last, decimal(rates.lend_apr), decimal(rates.borrow_apr)


@dataclass
class Holding:
    """One position on its lending protocol. `tokens` and `debt_usd` are as of the last settlement."""

    pda: str
    owner: str
    market: Market
    live: bool = False
    tokens: Decimal = Decimal(0)
    debt_usd: Decimal = Decimal(0)
    lend_mark: Decimal = Decimal(0)
    borrow_mark: Decimal = Decimal(0)
    token_interest: Decimal = Decimal(0)
    debt_interest_usd: Decimal = Decimal(0)
    executions: list[Execution] = field(default_factory=list)
    liquidations: list[LiquidationEvent] = field(default_factory=list)


@dataclass(frozen=True)
class Amounts:
    """Settled collateral and debt at a moment, and the interest since the last settlement that is inside
    them.
    """

    tokens: Decimal
    debt_usd: Decimal
    token_interest: Decimal
    debt_interest_usd: Decimal


class LendingBook:
    """All positions at all protocols. `catch_up` must be called with non-decreasing times."""

    def __init__(self, world: World, reserves: Reserves) -> None:
        self._world = world
        self.reserves = reserves
        self.holdings: dict[str, Holding] = {}
        self.events: list[LiquidationEvent] = []
        self.on_liquidation: Callable[[Holding], None] = lambda holding: None
        """Called after each round: it shows on chain what a position holds now."""
        self._checked_ms = world.now_ms()
        self._indices = {
            (protocol.id, symbol): RateIndex(world, protocol.id, symbol)
            for protocol in LIVE_PROTOCOLS
            for symbol in (*protocol.risk, "USDC")
        }

    def index(self, protocol: Protocol, symbol: str, at_ms: int) -> Accrued:
        return self._indices[(protocol.id, symbol)].until(at_ms)

    def exact(self, holding: Holding, at_ms: int) -> tuple[Decimal, Decimal]:
        """Return collateral and debt with interest to `at_ms`, unrounded."""
        lend = self.index(holding.market.protocol, holding.market.token_a.symbol, at_ms).lend
        borrow = self.index(holding.market.protocol, "USDC", at_ms).borrow
        return (
            holding.tokens * (lend - holding.lend_mark).exp(),
            holding.debt_usd * (borrow - holding.borrow_mark).exp(),
        )

    def amounts(self, holding: Holding, at_ms: int) -> Amounts:
        """Return what a settlement at `at_ms` would write; changes nothing."""
        exact_tokens, exact_debt = self.exact(holding, at_ms)
        tokens = floor(exact_tokens, holding.market.token_a)
        debt = ceil(exact_debt, USDC)
        return Amounts(tokens, debt, tokens - holding.tokens, debt - holding.debt_usd)

    def write(
        self, holding: Holding, at_ms: int, tokens: Decimal, debt_usd: Decimal, settled: Amounts
    ) -> None:
        """Put new amounts in force at `at_ms`, on top of the settlement `settled` of the same moment."""
        holding.tokens, holding.debt_usd = tokens, debt_usd
        protocol = holding.market.protocol
        holding.lend_mark = self.index(protocol, holding.market.token_a.symbol, at_ms).lend
        holding.borrow_mark = self.index(protocol, "USDC", at_ms).borrow
        holding.token_interest += settled.token_interest
        holding.debt_interest_usd += settled.debt_interest_usd

    def oracle_price(self, market: Market, at_ms: int) -> Decimal:
        """Return what the protocol values one token A at, in USD (Kamino prices LSTs by their stake rate)."""
        symbol = market.token_a.symbol
        if market.protocol.stake_rate_oracle:
            return decimal(self._world.sol_price(at_ms)) * decimal(self._world.redemption_rate(symbol, at_ms))
        return decimal(self._world.token_price(symbol, at_ms))

    def market_price(self, market: Market, at_ms: int) -> Decimal:
        """Return what one token A trades at, in USD."""
        return decimal(self._world.token_price(market.token_a.symbol, at_ms))

    def thin_bps(self, at_ms: int) -> Decimal:
        """Return how much worse a swap is filled than in a calm hour, in basis points: pools thin out in a wild one."""
        return THIN_BPS * (decimal(self._world.thinness(at_ms)) - 1)

    def health(self, market: Market, tokens: Decimal, debt_usd: Decimal, at_ms: int) -> Decimal:
        """Return the health in percent: 100 x (1 - LTV / liquidation threshold); 0 is liquidation."""
        if debt_usd <= 0:
            return Decimal(100)
        assets = tokens * self.oracle_price(market, at_ms)
        if assets <= 0:
            return Decimal(0)
        return max(Decimal(0), 100 * (1 - debt_usd / assets / market.risk.threshold))

    def catch_up(self, now_ms: int) -> None:
        """Follow the price path since the last call, minute by minute, and liquidate where health reached
        zero.
        """
        start_ms = self._checked_ms
        self._checked_ms = max(start_ms, now_ms)
        at_risk = [h for h in self.holdings.values() if h.live and h.debt_usd > 0]
        if not at_risk or now_ms < start_ms:
            return
        step_ms = max(MINUTE_MS, (now_ms - start_ms) // MAX_PATH_SAMPLES)
        at_ms = start_ms
        hour_end_ms = 0
        trigger_prices: list[tuple[Holding, Decimal]] = []
        while True:
            at_ms = min(at_ms + step_ms, now_ms)
            if at_ms >= hour_end_ms:
                hour_end_ms = at_ms + HOUR_MS
                trigger_prices = [(h, self._trigger_price(h, at_ms)) for h in at_risk if h.live]
            self._check_all(trigger_prices, at_ms)
            if at_ms >= now_ms:
                return

    def _trigger_price(self, holding: Holding, at_ms: int) -> Decimal:
        """Above this price nothing can be liquidated in the hour from `at_ms`, whatever the interest."""
        tokens, debt = self.exact(holding, at_ms)
        return debt * HOURLY_DEBT_GROWTH_BOUND / (tokens * holding.market.risk.threshold)

    def _check_all(self, trigger_prices: list[tuple[Holding, Decimal]], at_ms: int) -> None:
        prices: dict[tuple[int, str], Decimal] = {}
        for holding, trigger in trigger_prices:
            key = (holding.market.protocol.id, holding.market.token_a.symbol)
            if key not in prices:
                prices[key] = self.oracle_price(holding.market, at_ms)
            while prices[key] <= trigger and holding.live and self._underwater(holding, prices[key], at_ms):
                self.liquidate(holding, at_ms)

    def _underwater(self, holding: Holding, price: Decimal, at_ms: int) -> bool:
        tokens, debt = self.exact(holding, at_ms)
        return debt > 0 and debt >= tokens * price * holding.market.risk.threshold

    def liquidate(self, holding: Holding, at_ms: int) -> LiquidationEvent:
        """Liquidate one round: a fifth of the debt (all of it when small) is repaid for collateral plus the penalty."""
        settled = self.amounts(holding, at_ms)
        price = self.oracle_price(holding.market, at_ms)
        token = holding.market.token_a
        penalty = holding.market.risk.penalty
        small = settled.debt_usd <= DUST_DEBT_USD
        repaid = settled.debt_usd if small else ceil(settled.debt_usd * LIQUIDATION_CLOSE_FACTOR, USDC)
        seized = min(settled.tokens, ceil(repaid * (1 + penalty) / price, token))
        tokens, debt = settled.tokens - seized, settled.debt_usd - repaid
        if tokens <= 0:
            # Nothing is left to be seized: the lenders bear what remains, the position is gone.
            debt = Decimal(0)
        self.write(holding, at_ms, tokens, debt, settled)
        holding.live = tokens > 0
        event = LiquidationEvent(
            id=len(self.events) + 1,
            pda=holding.pda,
            owner=holding.owner,
            market=holding.market,
            time_ms=at_ms,
            seized_tokens=seized,
            repaid_usd=repaid,
            penalty_usd=floor(max(Decimal(0), seized * price - repaid), USDC),
            price_usd=price,
        )
        holding.liquidations.append(event)
        self.events.append(event)
        self.on_liquidation(holding)
        return event
