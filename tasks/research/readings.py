"""What the rules are given in a back-test: the same values that a tick, a scan and an entry read from the venues."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from analytics.research.account import Account
from analytics.research.liquidations import lender_distance, short_distance
from analytics.research.market import Market, Venues, trailing_mean, trailing_volatility
from strategy.carry.funding import LEAST_TODAY_HOURS, TODAY_HOURS
from strategy.carry.limits import CarryLimits, RiskLimits
from strategy.carry.liquidation import own_long_distance, rebalance_distance
from strategy.carry.readings import EntryReadings, LegReading, NeedReadings, WatchReadings
from strategy.carry.rebalance import Book, Rates
from strategy.carry.scoring import Candidate
from strategy.carry.sizing import PositionSize

FEE_LAMPORTS = 100_000
NEAR = 1.05
"""A leg counts as near a trigger of its distance or leverage from this factor on, and then the rules are asked in the hour."""
GAS_LAMPORTS = 10**9
"""A calm fee market and a wallet with SOL: neither was recorded."""


def exact(value: float) -> Decimal:
    """A float as the number that it shows."""
    return Decimal(repr(value))


def known(value: float) -> Decimal | None:
    """None where it was not recorded."""
    return None if value != value else exact(value)


@dataclass(frozen=True, slots=True)
class Known:
    """What can be known of the market at a moment: the last hour that is over."""

    funding_hourly: float
    today_hourly: float
    expected_hourly: float
    volatility_annual: float
    lend_apr: float
    borrow_apr: float
    staking_apr: float
    capacity_usd: float


@dataclass(frozen=True, slots=True)
class Entered:
    """A position as it was opened."""

    leverage: int
    long_distance: float | None
    short_distance: float | None
    position_usd: float | None = None
    """Notional of one leg: growth goes back to it, never beyond."""


def candidate_of(asset: str, venues: Venues, seen: Known, leverage: int, position_usd: Decimal) -> Candidate:
    """The offer of the market as a scan scores it."""
    return Candidate(
        asset=asset,
        protocol=venues.protocol,
        leverage=leverage,
        position_usd=position_usd,
        lend_apr=known(seen.lend_apr),
        borrow_apr=known(seen.borrow_apr),
        staking_apr=known(seen.staking_apr),
        funding_now_hourly=known(seen.funding_hourly),
        funding_today_hourly=known(seen.today_hourly),
        funding_expected_hourly=known(seen.expected_hourly),
        funding_volatility_annual=known(seen.volatility_annual),
        borrow_capacity_usd=known(seen.capacity_usd),
        market_max_leverage=exact(venues.max_leverage),
    )


def entry_readings(
    asset: str, account: Account, venues: Venues, seen: Known, size: PositionSize
) -> EntryReadings:
    """What the checks of an entry judge. Wallets hold SOL for gas, fees are calm, both legs simulate
    cleanly, and nothing is missing that an exit needs."""
    token = exact(account.oracle_usd * account.redemption)
    return EntryReadings(
        size=size,
        protocol=venues.protocol,
        solana_usdc=exact(account.wallet_usd),
        solana_gas_lamports=GAS_LAMPORTS,
        hyperliquid_free_usdc=exact(account.margin_usd),
        asgard_sol_price_usd=exact(account.oracle_usd),
        hyperliquid_mark_usd=exact(account.mark_usd),
        token_price_usd=token,
        asgard_reference_usd=exact(account.oracle_usd),
        hyperliquid_reference_usd=exact(account.mark_usd),
        token_reference_usd=token,
        long_entry_distance=own_long_distance(
            size.position_usd, size.borrow_usd, Decimal(1), exact(venues.lender.threshold)
        )
        or Decimal(1),
        short_entry_distance=_short_entry_distance(size, venues),
        funding_now_hourly=known(seen.funding_hourly),
        funding_today_hourly=known(seen.today_hourly),
        borrow_capacity_usd=known(seen.capacity_usd),
        market_max_leverage=exact(venues.max_leverage),
        priority_fee_lamports=FEE_LAMPORTS,
        needs=NeedReadings(
            now_ms=0,
            asset=asset,
            agent_approved=True,
            clock_ahead_ms={"hyperliquid": 0},
            wallet_lamports=GAS_LAMPORTS,
            perp_delisted=False,
            perp_halted=False,
            lending_active=True,
            account_mode="default",
        ),
    )


def _short_entry_distance(size: PositionSize, venues: Venues) -> Decimal:
    return (size.per_leg_usd / size.position_usd + 1) / (1 + exact(venues.maintenance)) - 1


def watch_readings(
    account: Account,
    asset: str,
    venues: Venues,
    entered: Entered,
    seen: Known,
    now_ms: int,
    breaches: dict[str, int],
) -> WatchReadings:
    """What a tick of the watch judges. Neither venue ever fails to answer, and a token trades at its redemption value."""
    oracle = exact(account.oracle_usd)
    redemption = exact(account.redemption)
    return WatchReadings(
        now_ms=now_ms,
        asset=asset,
        position_usd=exact(account.long_usd),
        debt_usd=exact(account.debt_usd),
        long=_leg(account.tokens, lender_distance(account, venues.lender), entered.long_distance, now_ms),
        short=_leg(
            account.short_qty,
            short_distance(account, venues.maintenance),
            entered.short_distance,
            now_ms,
        ),
        funding_now_hourly=known(seen.funding_hourly),
        funding_expected_hourly=known(seen.expected_hourly),
        lend_apr=known(seen.lend_apr),
        borrow_apr=known(seen.borrow_apr),
        staking_apr=known(seen.staking_apr),
        long_venue_price_usd=oracle,
        short_venue_price_usd=exact(account.mark_usd),
        lst_price_usd=oracle * redemption,
        redemption_rate=redemption,
        breaches=breaches,
    )


def _leg(qty: float, distance: float | None, at_entry: float | None, now_ms: int) -> LegReading:
    """A leg without debt cannot be liquidated: its distance is the whole price."""
    return LegReading(
        qty=exact(qty),
        liquidation_distance=exact(1.0 if distance is None else distance),
        entry_liquidation_distance=exact(1.0 if at_entry is None else at_entry),
        observed_ms=now_ms,
    )


def rates_of(seen: Known) -> Rates | None:
    """What a position is expected to earn; None where a rate was not recorded."""
    funding, lend, borrow, staking = (
        known(value) for value in (seen.expected_hourly, seen.lend_apr, seen.borrow_apr, seen.staking_apr)
    )
    if funding is None or lend is None or borrow is None or staking is None:
        return None
    return Rates(
        funding_hourly=funding,
        now_hourly=known(seen.funding_hourly),
        day_hourly=known(seen.today_hourly),
        lend_apr=lend,
        borrow_apr=borrow,
        staking_apr=staking,
    )


def book_of(account: Account, venues: Venues, entered: Entered, seen: Known, drift_cost_usd: float) -> Book:
    """Both legs as the rules of rebalancing see them."""
    long, short = lender_distance(account, venues.lender), short_distance(account, venues.maintenance)
    return Book(
        long_sol=exact(account.long_sol),
        long_debt_usd=exact(account.debt_usd),
        short_qty=exact(account.short_qty),
        short_equity_usd=exact(account.margin_usd),
        price_usd=exact(account.oracle_usd),
        target_leverage=entered.leverage,
        long_can_resize=venues.can_resize,
        long_distance=None if long is None else exact(long),
        long_entry_distance=None if entered.long_distance is None else exact(entered.long_distance),
        short_distance=None if short is None else exact(short),
        short_entry_distance=None if entered.short_distance is None else exact(entered.short_distance),
        drift_cost_usd=exact(drift_cost_usd),
        funding_hourly=known(seen.funding_hourly),
        entered_usd=None if entered.position_usd is None else exact(entered.position_usd),
    )


def knowledge(market: Market, limits: CarryLimits, *, asks_today: bool = True) -> list[Known]:
    """Of each hour, what is known when it is over."""
    settings = limits.strategy
    volatility = trailing_volatility(
        market.funding, settings.funding_lookback_hours, settings.min_funding_history_hours
    )
    hours = settings.expected_funding_hours
    columns = (
        market.funding,
        trailing_mean(market.funding, TODAY_HOURS, LEAST_TODAY_HOURS) if asks_today else market.funding,
        trailing_mean(market.funding, hours, min(settings.min_funding_history_hours, hours)),
        volatility,
        market.lend_apr,
        market.borrow_apr,
        market.staking_apr,
        market.capacity_usd,
    )
    return [Known(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def as_shown(hours: list[Known]) -> list[Known]:
    """Return what is decided by once each of these hours is over: a lender shows the rates of the hour that runs. The recorded
    mean of that hour stands for them.
    """
    following = [*hours[1:], *hours[-1:]]
    return [
        replace(one, lend_apr=after.lend_apr, borrow_apr=after.borrow_apr)
        for one, after in zip(hours, following, strict=True)
    ]


def is_near(account: Account, venues: Venues, entered: Entered, risk: RiskLimits) -> bool:
    """Whether a rule that looks at distances or leverage could speak: spares the others, which see no price."""
    most = float(risk.rebalance_leverage_trigger) * entered.leverage / NEAR
    for now, at_entry, notional, equity in (
        (
            lender_distance(account, venues.lender),
            entered.long_distance,
            account.long_usd,
            account.long_equity_usd,
        ),
        (
            short_distance(account, venues.maintenance),
            entered.short_distance,
            account.short_usd,
            account.margin_usd,
        ),
    ):
        limit = 0.0 if at_entry is None else NEAR * float(rebalance_distance(exact(at_entry), risk))
        if notional >= most * equity or (now is not None and now < limit):
            return True
    return False
