"""Hour by hour through a market: the rules of the product decide on what was known, and a simulated account does it.

An hour is walked along its candle's path; a rule that the path could bring to act is asked on the way. At the hour's end
funding is paid for what is held, then the watch, or the entry, decides. What is decided then earns from the next hour on.
"""

from __future__ import annotations

from decimal import Decimal

from analytics.research.account import Account
from analytics.research.liquidations import (
    lender_distance,
    liquidate_long,
    liquidate_short,
    short_distance,
)
from analytics.research.market import Market
from analytics.research.path import hour_path
from analytics.research.results import DELEVERAGING, Run, Trade
from evenkeel.units import HOUR_MS
from strategy.carry.decisions import Decision, Exit, Resize
from strategy.carry.keeping_size import (
    Growth,
    Transfer,
    growth_pays,
    plan_growth,
    propose_transfer,
    reserve_repayment,
)
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import rebalance_distance
from strategy.carry.monitor import judge, plan_rebalance
from strategy.carry.preflight import judge_entry
from strategy.carry.rebalance import MARGIN_RULE, Book, drift_cost_usd_per_hour
from strategy.carry.scoring import rank
from strategy.carry.sizing import PositionSize, size_position
from strategy.decisions import Hold, Urgency, combine
from tasks.research.assumptions import Assumptions
from tasks.research.orders import Broker, frictions_of
from tasks.research.readings import (
    Entered,
    Known,
    book_of,
    candidate_of,
    entry_readings,
    exact,
    knowledge,
    rates_of,
    watch_readings,
)

NEAR = 1.05
"""A leg counts as near a trigger of its distance or leverage from this factor on, and then the rules are asked in the hour."""
CARRY_RULE = "carry"
ENDED = Exit(rule="end of the span", reason="the span ended", urgency=Urgency.NORMAL)


class Simulation:
    """One position after the other on one market."""

    def __init__(
        self, market: Market, limits: CarryLimits, assumed: Assumptions, first: int, last: int
    ) -> None:
        """From hour `first` up to, and without, `last`; what lies before is history."""
        self._market, self._limits, self._assumed = market, limits, assumed
        self._first, self._last = first, last
        self._rows = {
            name: getattr(market, name).tolist()
            for name in ("open", "high", "low", "close", "premium", "funding", "redemption")
        }
        self._known = knowledge(market, limits, asks_today=assumed.asks_today)
        margin = assumed.capital_usd * assumed.margin_share
        wallet = assumed.capital_usd - margin
        price = self._rows["open"][first]
        self._account = Account(wallet_usd=wallet, margin_usd=margin, oracle_usd=price, mark_usd=price)
        frictions = frictions_of(limits.strategy.costs, assumed.cost_factor, assumed.transfer_usd)
        self._broker = Broker(self._account, frictions, market.venues)
        self._entered: Entered | None = None
        self._breaches: dict[str, int] = {}
        self._drift_cost_usd = 0.0
        self._coming: tuple[int, Transfer] | None = None
        self._is_scenario_over = False
        self._is_token_known = False
        """Whether a redemption rate was ever known: without one a token has no price, and is not bought."""
        self._run = Run(first_ms=market.start_ms(first), capital_usd=assumed.capital_usd)

    def run(self) -> Run:
        """Walk all hours."""
        for hour in range(self._first, self._last):
            self._hour(hour)
            if hour == self._last - 1 and self._assumed.closes_at_end and self._entered is not None:
                self._act(ENDED, self._market.start_ms(self._last))
            self._note()
        self._run.premium_usd = self._account.premium_usd
        self._run.items = dict(self._account.items)
        return self._run

    # --- an hour ---------------------------------------------------------------------------------------------------

    def _hour(self, hour: int) -> None:
        account, rows = self._account, self._rows
        is_gap = rows["close"][hour] != rows["close"][hour]
        if is_gap:
            self._run.gap_hours += 1
            self._accrue(hour, 1.0)
        elif self._entered is not None:
            self._walk(hour)
        else:
            self._mark(hour, rows["close"][hour])
            self._is_deleveraged(self._market.start_ms(hour + 1))
        self._stake(rows["redemption"][hour])
        funding = rows["funding"][hour]
        if funding == funding:
            account.settle_funding(funding)
        if account.is_open and not (funding == funding and self._has_rates(hour)):
            self._run.unrated_hours += 1
        if is_gap:
            return
        high, low = rows["high"][hour], rows["low"][hour]
        self._broker.hour_range = high / low - 1
        end_ms = self._market.start_ms(hour + 1)
        self._mark_as_seen(end_ms)
        if self._entered is not None:
            self._watch(hour, end_ms)
        elif self._is_token_known:
            self._enter(hour, end_ms)
        self._keep_size(hour, end_ms)

    def _walk(self, hour: int) -> None:
        """Along the price path: venues liquidate, and rules that the price can bring to act are asked."""
        rows, since = self._rows, 0.0
        seen_high = seen_low = rows["open"][hour]
        candle = (rows[name][hour] for name in ("open", "high", "low", "close"))
        for fraction, price in self._market.inner.get(hour) or hour_path(*candle):
            self._accrue(hour, fraction - since)
            since = fraction
            self._mark(hour, price)
            seen_high, seen_low = max(seen_high, price), min(seen_low, price)
            at_ms = self._market.start_ms(hour) + int(fraction * HOUR_MS)
            if self._is_deleveraged(at_ms) or self._is_near():
                self._broker.hour_range = seen_high / seen_low - 1
                self._liquidate(at_ms)
                if fraction < 1:
                    self._watch(hour - 1, at_ms)

    def _stake(self, redemption: float) -> None:
        """Take an hour's redemption rate; one that was not recorded stays as it was."""
        if redemption == redemption:
            self._account.stake(redemption)
            self._is_token_known = True

    def _mark(self, hour: int, price: float) -> None:
        premium = self._rows["premium"][hour]
        self._account.mark(price / (1 + (premium if premium == premium else 0.0)), price)

    def _mark_as_seen(self, at_ms: int) -> None:
        """Take the premium that somebody saw at this time, where one is known: the hour's mean holds of no moment."""
        premium = self._assumed.premium_seen.get(at_ms)
        if premium is not None:
            self._account.mark(self._account.oracle_usd, self._account.oracle_usd * (1 + premium))

    def _accrue(self, hour: int, hours: float) -> None:
        seen = self._known[hour]
        lend, borrow = seen.lend_apr, seen.borrow_apr
        self._account.accrue(lend if lend == lend else 0.0, borrow if borrow == borrow else 0.0, hours)

    def _has_rates(self, hour: int) -> bool:
        seen = self._known[hour]
        return seen.lend_apr == seen.lend_apr and seen.borrow_apr == seen.borrow_apr

    def _is_near(self) -> bool:
        """Whether a rule that looks at distances or leverage could speak: spares the others, which see no price."""
        account, entered, risk = self._account, self._entered, self._limits.risk
        if entered is None:
            return False
        venues = self._market.venues
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

    def _is_deleveraged(self, at_ms: int) -> bool:
        """Close the scenario's share of the short by the first price after its time, if one is open. True where it just was."""
        due_ms = self._assumed.deleveraged_ms
        if due_ms is None or self._is_scenario_over or at_ms <= due_ms:
            return False
        self._is_scenario_over = True
        if self._account.short_qty <= 0:
            return False
        self._broker.deleverage(self._assumed.deleveraged_share)
        share = f"{self._assumed.deleveraged_share:.0%} of the short closed against a bankrupt counterparty's"
        self._trade(at_ms, DELEVERAGING, "venue", 0.0, share)
        return True

    def _liquidate(self, at_ms: int) -> None:
        account, venues = self._account, self._market.venues
        before = account.items["liquidation"]
        taken = liquidate_long(account, venues.lender)
        taken = liquidate_short(account, venues.maintenance, **self._broker.perp_costs()) or taken
        if taken:
            self._trade(
                at_ms, "liquidation", "venue", before - account.items["liquidation"], "a venue closed a leg"
            )

    # --- decisions -------------------------------------------------------------------------------------------------

    def _watch(self, known: int, at_ms: int) -> None:
        """A tick of the monitor; while a breach runs it looks again once the breach has lasted."""
        if self._tick(known, at_ms) and self._entered is not None:
            self._tick(known, at_ms + self._limits.risk.breach_duration_s * 1000)

    def _tick(self, known: int, at_ms: int) -> bool:
        """Judge and act. True where a breach runs and nothing was done."""
        account, entered, market = self._account, self._entered, self._market
        assert entered is not None
        seen = self._known[known]
        readings = watch_readings(account, market.asset, market.venues, entered, seen, at_ms, self._breaches)
        tick = judge(readings, self._limits)
        decisions = [
            one for one in tick.decisions if not (self._assumed.always_in and one.rule == CARRY_RULE)
        ]
        if account.tokens > 0 and account.short_qty > 0:
            self._add_drift(seen)
            self._use_reserve(seen, at_ms)
            book = book_of(account, market.venues, entered, seen, self._drift_cost_usd)
            decisions.append(plan_rebalance(book, self._limits))
        self._breaches = tick.breaches
        return self._act(combine(decisions).decision, at_ms) and bool(tick.breaches)

    def _add_drift(self, seen: Known) -> None:
        account = self._account
        if seen.funding_hourly == seen.funding_hourly:
            drift = exact(account.long_sol - account.short_qty)
            self._drift_cost_usd += float(
                drift_cost_usd_per_hour(drift, exact(account.oracle_usd), exact(seen.funding_hourly))
            )

    def _act(self, decision: Decision, at_ms: int) -> bool:
        """Carry it out. True where nothing was done."""
        before = self._costs()
        if isinstance(decision, Exit):
            self._broker.close()
            self._entered, self._breaches = None, {}
            self._trade(at_ms, "exit", decision.rule, self._costs() - before, decision.reason)
        elif isinstance(decision, Resize):
            if self._assumed.margin_at_once and decision.rule == MARGIN_RULE:
                self._level_at_once(at_ms)
            else:
                self._broker.resize(decision.plan)
            self._drift_cost_usd = 0.0
            self._trade(at_ms, "resize", decision.rule, self._costs() - before, decision.reason)
        else:
            if not isinstance(decision, Hold):
                self._run.alerts[decision.rule] = self._run.alerts.get(decision.rule, 0) + 1
            return True
        return False

    def _enter(self, hour: int, at_ms: int) -> None:
        """Size, score and check as an entry does; the baseline only sizes."""
        account, limits, market, seen = self._account, self._limits, self._market, self._known[hour]
        size = self._size()
        if size is None:
            return
        if not self._assumed.always_in:
            offer = candidate_of(market.asset, market.venues, seen, size.leverage, size.position_usd)
            if not rank([offer], limits.strategy)[0].passed:
                return
        checks = entry_readings(market.asset, account, market.venues, seen, size)
        if not self._assumed.always_in and not judge_entry(checks, limits).ok:
            return
        before = self._costs()
        self._entered = self._broker.open(size)
        self._drift_cost_usd = 0.0
        self._trade(at_ms, "entry", "entry", self._costs() - before, f"{size.leverage}x")

    def _size(self) -> PositionSize | None:
        """The product's sizing of what each side can hold, with the headroom that an entry's check of balances asks for.

        The product deploys a share of its wallets; a back-test's capital is that share, unless `deploys_share`.
        """
        settings, risk, account = self._limits.strategy, self._limits.risk, self._account
        if self._assumed.deploys_share:
            both = (exact(account.wallet_usd), exact(account.margin_usd))
            return size_position(self._market.asset, *both, settings.leverage, settings, risk).size
        side = min(exact(account.wallet_usd), exact(account.margin_usd))
        headroom = settings.leverage * Decimal(risk.balance_headroom_bps) / 10_000
        room = max(1 + headroom, 1 / (1 - settings.reserve_pct))
        share = min(settings.deployment_pct, risk.max_deployment_pct)
        wallet = 2 * side / room / share
        return size_position(self._market.asset, wallet, wallet, settings.leverage, settings, risk).size

    # --- size ------------------------------------------------------------------------------------------------------

    def _use_reserve(self, seen: Known, at_ms: int) -> None:
        account, entered = self._account, self._entered
        if entered is None or account.wallet_usd <= 0 or not self._assumed.keeps_size:
            return
        book = book_of(account, self._market.venues, entered, seen, 0.0)
        usd = reserve_repayment(book, exact(account.wallet_usd), self._limits)
        if usd > self._limits.risk.min_rebalance_usd:
            before = self._costs()
            self._broker.repay(usd)
            reason = f"{usd:.2f} USD of debt repaid from the wallet"
            self._trade(at_ms, "reserve", MARGIN_RULE, self._costs() - before, reason)

    def _level_at_once(self, at_ms: int) -> None:
        settings = self._limits.strategy
        before = self._costs()
        self._broker.level_at_once(settings.leverage, float(settings.reserve_pct))
        self._trade(at_ms, "transfer", MARGIN_RULE, self._costs() - before, "both sides levelled at once")

    def _keep_size(self, hour: int, at_ms: int) -> None:
        """Move the money that was asked for, ask for more where the sides are apart, and grow where that pays."""
        if not self._assumed.keeps_size or self._assumed.margin_at_once:
            return
        account, seen, wallet = self._account, self._known[hour], exact(self._account.wallet_usd)
        entered = self._entered or Entered(self._limits.strategy.leverage, None, None)
        book = book_of(account, self._market.venues, entered, seen, 0.0)
        asked = propose_transfer(book, wallet, self._limits)
        delay = self._assumed.transfer_delay_hours
        if self._coming is None and asked is not None and delay is not None:
            self._coming = (hour + delay, asked)
        if self._coming is not None and hour >= self._coming[0]:
            wanted, self._coming = self._coming[1], None
            if asked is not None and asked.from_side is wanted.from_side:
                moved = self._broker.transfer(asked.from_side, float(min(asked.usd, wanted.usd)))
                cost = self._broker.transfer_cost_usd
                self._trade(at_ms, "transfer", "transfer", cost, f"{moved:.2f} USD: {wanted.reason}")
        if self._entered is not None and account.tokens > 0 and account.short_qty > 0:
            self._grow(seen, at_ms)

    def _grow(self, seen: Known, at_ms: int) -> None:
        account, entered, limits = self._account, self._entered, self._limits
        assert entered is not None
        book = book_of(account, self._market.venues, entered, seen, 0.0)
        growth = plan_growth(book, exact(account.wallet_usd), limits)
        if growth is None or not (self._assumed.always_in or self._growth_pays(growth, book, seen)):
            return
        before = self._costs()
        self._broker.grow(growth)
        self._trade(at_ms, "grow", "growth", self._costs() - before, growth.reason)

    def _growth_pays(self, growth: Growth, book: Book, seen: Known) -> bool:
        rates = rates_of(seen)
        return rates is not None and growth_pays(growth, book, rates, self._limits).ok

    # --- what is kept ----------------------------------------------------------------------------------------------

    def _costs(self) -> float:
        items = self._account.items
        return -(items["fees"] + items["slippage"] + items["gas"] + items["transfers"])

    def _trade(self, at_ms: int, kind: str, rule: str, cost_usd: float, reason: str) -> None:
        trade = Trade(at_ms, kind, rule, self._account.long_usd, cost_usd, reason)
        self._run.trades.append(trade)

    def _note(self) -> None:
        account, run, settings = self._account, self._run, self._limits.strategy
        run.equity.append(account.equity_usd)
        run.notional.append(account.long_usd)
        run.target.append(settings.leverage * float(1 - settings.reserve_pct) * account.equity_usd / 2)
