"""Hour by hour through a market: the rules of the product decide on what was known, and a simulated account does it.

An hour is walked along its candle's path; a rule that the path could bring to act is asked on the way. At the hour's end
funding is paid for what is held, then the watch, or the entry, decides. What is decided then earns from the next hour on.
Beside a position an hour is walked along what the position saw, and the hour before is decided at its first moment.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from analytics.research.account import Account
from analytics.research.liquidations import liquidate_long, liquidate_short
from analytics.research.market import Market
from analytics.research.path import hour_path
from analytics.research.results import DELEVERAGING, Run
from evenkeel.units import HOUR_MS
from strategy.carry.decisions import Decision, Exit, Resize
from strategy.carry.keeping_size import Transfer, propose_transfer, reserve_repayment
from strategy.carry.limits import CarryLimits
from strategy.carry.monitor import judge, plan_rebalance
from strategy.carry.preflight import judge_entry
from strategy.carry.rebalance import MARGIN_RULE, drift_cost_usd_per_hour
from strategy.carry.scoring import rank
from strategy.decisions import Hold, Urgency, combine
from tasks.research.assumptions import Assumptions
from tasks.research.changes import Changes
from tasks.research.growing import Growing
from tasks.research.moments import Moment
from tasks.research.orders import Broker, entry_size, frictions_of
from tasks.research.readings import (
    Entered,
    Known,
    as_shown,
    book_of,
    candidate_of,
    entry_readings,
    exact,
    is_near,
    knowledge,
    watch_readings,
)

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
        self._shown = as_shown(self._known) if assumed.reads_running_rates else self._known
        margin = assumed.capital_usd * assumed.margin_share
        wallet = assumed.capital_usd - margin
        price = self._rows["open"][first]
        self._account = Account(wallet_usd=wallet, margin_usd=margin, oracle_usd=price, mark_usd=price)
        frictions = frictions_of(limits.strategy.costs, assumed.cost_factor, assumed.transfer_usd)
        self._broker = Broker(self._account, frictions, market.venues)
        self._growing = Growing(self._account, market.venues, limits)
        self._entered: Entered | None = None
        self._breaches: dict[str, int] = {}
        self._drift_cost_usd = 0.0
        self._running_hourly: float | None = None
        self._shown_hourly: float | None = None
        self._coming: tuple[int, Transfer] | None = None
        self._is_scenario_over = False
        self._is_token_known = False
        """Whether a redemption rate was ever known: without one a token has no price, and is not bought."""
        self._run = Run(first_ms=market.start_ms(first), capital_usd=assumed.capital_usd)
        self._changes = Changes(self._account, self._run)

    def run(self) -> Run:
        """Walk all hours."""
        for hour in range(self._first, self._last):
            self._hour(hour)
            if hour == self._last - 1 and self._assumed.closes_at_end:
                self._end()
            self._note()
        self._run.premium_usd = self._account.premium_usd
        self._run.items = dict(self._account.items)
        return self._run

    # --- an hour ---------------------------------------------------------------------------------------------------

    def _hour(self, hour: int) -> None:
        account, rows = self._account, self._rows
        is_gap = rows["close"][hour] != rows["close"][hour]
        if not self._moments(hour):
            self._changes.begin_tick(waits=False)
        if is_gap:
            self._run.gap_hours += 1
            self._accrue(hour, 1.0)
        elif moments := self._moments(hour):
            self._walk_moments(hour, moments)
            self._accrue(hour, 1 - (moments[-1].at_ms - self._market.start_ms(hour)) / HOUR_MS)
            self._mark(hour, rows["close"][hour])
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
        if self._moments(hour + 1) is None and (hour + 1 < self._last or self._assumed.asks_at_end):
            self._decide(hour, self._market.start_ms(hour + 1))

    def _decide(self, hour: int, at_ms: int, next_ms: int | None = None) -> None:
        """What is decided once an hour is over."""
        if self._entered is not None:
            self._watch(hour, at_ms, next_ms=next_ms)
        elif self._is_token_known:
            self._enter(hour, at_ms)
        self._keep_size(hour, at_ms)

    def _end(self) -> None:
        """Go on to the last moment that was seen, and close there what is open."""
        moments, at_ms = self._moments(self._last), self._market.start_ms(self._last)
        if moments:
            self._walk_moments(self._last, moments)
            at_ms = moments[-1].at_ms
        self._changes.begin_tick(waits=False)
        if self._entered is not None:
            self._act(ENDED, at_ms)

    def _moments(self, hour: int) -> tuple[Moment, ...] | None:
        """What a position saw in an hour; None where none did, and where the hour has no price or is not run."""
        is_gap = any(close != close for close in self._rows["close"][hour : hour + 1])
        if is_gap or (hour == self._last and not self._assumed.closes_at_end):
            return None
        return self._assumed.seen.get(self._market.start_ms(hour))

    def _walk_moments(self, hour: int, moments: tuple[Moment, ...]) -> None:
        """Along what a position saw: every moment of it asks the rules, the first one what the end of the hour before asks too,
        and growth is judged again where the one before changed something.
        """
        account, before_ms = self._account, self._market.start_ms(hour)
        first, has_changed = next((one for one in moments if one.is_asked), moments[0]), False
        for place, one in enumerate(moments):
            self._accrue(hour, (one.at_ms - before_ms) / HOUR_MS)
            before_ms = one.at_ms
            account.mark(one.oracle_usd, one.mark_usd)
            self._running_hourly, self._shown_hourly = one.funding_hourly, one.shown_hourly
            next_ms = moments[place + 1].at_ms if place + 1 < len(moments) else None
            if self._is_deleveraged(one.at_ms) or self._is_near():
                self._liquidate(one.at_ms)
            if hour == self._last and next_ms is None and not self._assumed.asks_at_end:
                continue
            trades = len(self._run.trades)
            if one.carries_out:
                self._changes.carry_out(one.at_ms)
            if one.is_asked:
                self._changes.begin_tick(waits=one.waits)
            if one is first:
                self._decide(hour - 1, one.at_ms, next_ms)
            elif one.is_asked and self._entered is not None:
                walked = [each.oracle_usd for each in moments[: place + 1]]
                self._broker.hour_range = max(walked) / min(walked) - 1
                self._watch(hour - 1, one.at_ms, hourly=False, next_ms=next_ms)
                if has_changed:
                    self._keep_size(hour - 1, one.at_ms)
            if one.is_asked or one.carries_out:
                has_changed = len(self._run.trades) > trades
        self._running_hourly = self._shown_hourly = None

    def _seen(self, hour: int) -> Known:
        """What is decided by once an hour is over, with the rate of the running one where somebody read it."""
        known, running = self._shown[hour], self._running_hourly
        return known if running is None else replace(known, funding_hourly=running)

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

    def _accrue(self, hour: int, hours: float) -> None:
        seen = self._known[min(hour, len(self._known) - 1)]
        lend, borrow = seen.lend_apr, seen.borrow_apr
        self._account.accrue(lend if lend == lend else 0.0, borrow if borrow == borrow else 0.0, hours)

    def _has_rates(self, hour: int) -> bool:
        seen = self._known[hour]
        return seen.lend_apr == seen.lend_apr and seen.borrow_apr == seen.borrow_apr

    def _is_near(self) -> bool:
        return self._entered is not None and is_near(
            self._account, self._market.venues, self._entered, self._limits.risk
        )

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
        self._changes.note(at_ms, DELEVERAGING, "venue", 0.0, share, changes_long=None)
        return True

    def _liquidate(self, at_ms: int) -> None:
        account, venues = self._account, self._market.venues
        before = account.items["liquidation"]
        taken = liquidate_long(account, venues.lender)
        taken = liquidate_short(account, venues.maintenance, **self._broker.perp_costs()) or taken
        if taken:
            cost = before - account.items["liquidation"]
            self._changes.note(at_ms, "liquidation", "venue", cost, "a venue closed a leg", changes_long=None)

    # --- decisions -------------------------------------------------------------------------------------------------

    def _watch(self, known: int, at_ms: int, *, hourly: bool = True, next_ms: int | None = None) -> None:
        """A tick of the monitor; while a breach runs it looks again once that has lasted, unless `next_ms` comes first."""
        again_ms = at_ms + self._limits.risk.breach_duration_s * 1000
        runs = self._tick(known, at_ms, hourly=hourly)
        if runs and self._entered is not None and (next_ms is None or next_ms > again_ms):
            self._tick(known, again_ms, hourly=hourly)

    def _tick(self, known: int, at_ms: int, *, hourly: bool) -> bool:
        """Judge and act. True where a breach runs and nothing was done. `hourly`: an hour of drift has to be paid for."""
        account, entered, market = self._account, self._entered, self._market
        assert entered is not None
        seen = self._seen(known)
        readings = watch_readings(account, market.asset, market.venues, entered, seen, at_ms, self._breaches)
        tick = judge(readings, self._limits)
        decisions = [
            one for one in tick.decisions if not (self._assumed.always_in and one.rule == CARRY_RULE)
        ]
        self._breaches = tick.breaches
        self._growing.note(at_ms)
        if account.tokens > 0 and account.short_qty > 0:
            if hourly:
                self._add_drift(seen)
            waits = self._changes.waits
            leaves = waits and isinstance(combine(decisions).decision, Exit)
            if not leaves and self._use_reserve(seen, at_ms) and waits:
                return False
            book = book_of(account, market.venues, entered, seen, self._drift_cost_usd)
            decisions.append(plan_rebalance(book, self._limits))
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
        if isinstance(decision, Exit):
            self._changes.make(at_ms, "exit", decision.rule, decision.reason, self._leave)
        elif isinstance(decision, Resize):
            plan, rule = decision.plan, decision.rule
            if self._assumed.margin_at_once and rule == MARGIN_RULE:
                self._level_at_once(at_ms)

            def resize() -> None:
                if not (self._assumed.margin_at_once and rule == MARGIN_RULE):
                    self._broker.resize(plan)
                self._drift_cost_usd = 0.0

            is_long = plan.long_operation is not None
            self._changes.make(at_ms, "resize", rule, decision.reason, resize, changes_long=is_long)
        else:
            if not isinstance(decision, Hold):
                self._run.alerts[decision.rule] = self._run.alerts.get(decision.rule, 0) + 1
            return True
        return False

    def _leave(self) -> None:
        self._broker.close()
        self._entered, self._breaches = None, {}

    def _enter(self, hour: int, at_ms: int) -> None:
        """Size, score and check as an entry does; the baseline only sizes."""
        account, limits, market, seen = self._account, self._limits, self._market, self._seen(hour)
        size = entry_size(account, market.asset, limits, deploys_share=self._assumed.deploys_share)
        if size is None:
            return
        if not self._assumed.always_in:
            offer = candidate_of(market.asset, market.venues, seen, size.leverage, size.position_usd)
            if not rank([offer], limits.strategy)[0].passed:
                return
        checks = entry_readings(market.asset, account, market.venues, seen, size)
        if not self._assumed.always_in and not judge_entry(checks, limits).ok:
            return

        def enter() -> None:
            self._entered = self._broker.open(size)
            self._drift_cost_usd = 0.0

        self._changes.make(at_ms, "entry", "entry", f"{size.leverage}x", enter)

    # --- size ------------------------------------------------------------------------------------------------------

    def _use_reserve(self, seen: Known, at_ms: int) -> bool:
        """Pay debt of a weak long back from the wallet. Return whether any is."""
        account, entered = self._account, self._entered
        if entered is None or account.wallet_usd <= 0 or not self._assumed.keeps_size:
            return False
        book = book_of(account, self._market.venues, entered, seen, 0.0)
        usd = reserve_repayment(book, exact(account.wallet_usd), self._limits)
        if usd <= self._limits.risk.min_rebalance_usd:
            return False
        reason = f"{usd:.2f} USD of debt repaid from the wallet"
        self._changes.make(at_ms, "reserve", MARGIN_RULE, reason, partial(self._broker.repay, usd))
        return True

    def _level_at_once(self, at_ms: int) -> None:
        leverage, reserve = self._limits.strategy.leverage, float(self._limits.strategy.reserve_pct)
        level, words = partial(self._broker.level_at_once, leverage, reserve), "both sides levelled at once"
        self._changes.make(at_ms, "transfer", MARGIN_RULE, words, level)

    def _keep_size(self, hour: int, at_ms: int) -> None:
        """Move the money that was asked for, ask for more where the sides are apart, and grow where that pays."""
        if not self._assumed.keeps_size or self._assumed.margin_at_once:
            return
        account, seen, wallet = self._account, self._seen(hour), exact(self._account.wallet_usd)
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
                self._changes.note(at_ms, "transfer", "transfer", cost, f"{moved:.2f} USD: {wanted.reason}")
        if self._entered is not None and account.tokens > 0 and account.short_qty > 0:
            self._grow(seen, at_ms)

    def _grow(self, seen: Known, at_ms: int) -> None:
        entered, limits, always_in = self._entered, self._limits, self._assumed.always_in
        assert entered is not None
        shown, beside = self._shown_hourly, bool(self._assumed.seen)
        growth = self._growing.asked(
            entered, seen, shown, self._breaches, at_ms, always=always_in, asks_market=beside
        )
        if growth is None:
            return

        def grow() -> None:
            if self._assumed.seen:
                self._broker.grow_by_orders(growth, entered.leverage, limits.risk.min_rebalance_usd)
            else:
                self._broker.grow(growth)

        self._changes.make(at_ms, "grow", "growth", growth.reason, grow)

    def _note(self) -> None:
        account, run, settings = self._account, self._run, self._limits.strategy
        run.equity.append(account.equity_usd)
        run.notional.append(account.long_usd)
        run.target.append(settings.leverage * float(1 - settings.reserve_pct) * account.equity_usd / 2)
