"""What a decision does to a simulated account: the orders of an entry, an exit and a resize, with what they cost."""

from __future__ import annotations

from decimal import Decimal

from analytics.research.account import Account
from analytics.research.frictions import Frictions
from analytics.research.liquidations import lender_distance, short_distance
from analytics.research.market import Venues
from evenkeel.legs import LegSide
from strategy.carry.decisions import Deleverage, PartialClose, ResizePlan
from strategy.carry.entry import MIN_ORDER_USD
from strategy.carry.keeping_size import Growth
from strategy.carry.limits import CarryLimits, CostModel
from strategy.carry.sizing import PositionSize, short_qty_for, size_position
from tasks.research.readings import Entered, exact

LEAST_ORDER_USD = float(MIN_ORDER_USD)


def frictions_of(costs: CostModel, factor: float, transfer_usd: float) -> Frictions:
    """The product's cost model, as a back-test spends it."""
    return Frictions(
        long_open_fee_bps=float(costs.long_open_fee_bps),
        long_close_fee_bps=float(costs.long_close_fee_bps),
        short_fee_bps=float(costs.short_taker_fee_bps),
        long_slippage_bps=float(costs.long_slippage_bps),
        short_slippage_bps=float(costs.short_slippage_bps),
        gas_usd=float(costs.gas_usd) / 2,
        transfer_usd=transfer_usd,
        factor=factor,
    )


def entry_size(
    account: Account, asset: str, limits: CarryLimits, *, deploys_share: bool
) -> PositionSize | None:
    """Return the product's sizing of what each side can hold, with the headroom that an entry's check of balances asks for.

    The product deploys a share of its wallets; a back-test's capital is that share, unless `deploys_share`.
    """
    settings, risk = limits.strategy, limits.risk
    if deploys_share:
        both = (exact(account.wallet_usd), exact(account.margin_usd))
        return size_position(asset, *both, settings.leverage, settings, risk).size
    side = min(exact(account.wallet_usd), exact(account.margin_usd))
    headroom = settings.leverage * Decimal(risk.balance_headroom_bps) / 10_000
    room = max(1 + headroom, 1 / (1 - settings.reserve_pct))
    share = min(settings.deployment_pct, risk.max_deployment_pct)
    wallet = 2 * side / room / share
    return size_position(asset, wallet, wallet, settings.leverage, settings, risk).size


class Broker:
    """Trades an account at the prices of the moment. `hour_range` is the range of the hour so far, high over low."""

    def __init__(self, account: Account, frictions: Frictions, venues: Venues) -> None:
        self.account = account
        self.hour_range = 0.0
        self._f = frictions
        self._venues = venues

    def open(self, size: PositionSize) -> Entered:
        """Buy the long with its part of the wallet, then sell what it got."""
        account = self.account
        self._trade_long(float(size.position_usd), from_wallet_usd=float(size.per_leg_usd))
        self._level_short()
        self._pay_gas()
        return Entered(
            leverage=size.leverage,
            long_distance=lender_distance(account, self._venues.lender),
            short_distance=short_distance(account, self._venues.maintenance),
            position_usd=float(size.position_usd),
        )

    def close(self) -> None:
        """Buy back the short, sell the long, repay the debt."""
        account = self.account
        self._trade_short(-account.short_qty)
        fee_bps = self._f.long_fee_bps(grows=False)
        slippage = self._f.slippage_bps(self._f.long_slippage_bps, account.long_usd, self.hour_range)
        account.empty_long(fee_bps=fee_bps, slippage_bps=slippage)
        self._pay_gas()

    def resize(self, plan: ResizePlan) -> None:
        """The long as planned, then the short to what the long really holds."""
        account, operation = self.account, plan.long_operation
        if isinstance(operation, PartialClose):
            share = operation.close_percent / 100
            repaid = account.debt_usd * share
            before = account.debt_usd
            self._trade_long(-account.long_usd * share)
            freed = repaid - (before - account.debt_usd)
            account.debt_usd -= freed
            account.wallet_usd -= freed  # what was sold and not owed: below zero it is money gained
        elif isinstance(operation, Deleverage):
            # Selling x of collateral to repay leaves the equity as it is, less what the sale costs.
            sold = account.long_usd - operation.target_leverage * account.long_equity_usd
            self._trade_long(-max(0.0, sold))
        self._level_short()
        self._pay_gas()

    def repay(self, usd: Decimal) -> None:
        """Mend the long from the wallet, without a swap."""
        self.account.repay(float(usd))
        self._pay_gas()

    def grow(self, growth: Growth) -> None:
        """The wallet's part into the long, the rest of it bought with borrowed money, then the short to match."""
        self.account.repay(float(growth.repay_usd))
        self._trade_long(max(0.0, float(growth.long_usd) - self.account.long_usd))
        self._level_short()
        self._pay_gas()

    def grow_by_orders(self, growth: Growth, leverage: int, least_usd: Decimal) -> None:
        """As the live product orders it: money of the wallet first, and that alone. Where no more than `least_usd` of it is
        needed, the long grows by what it can borrow at its leverage.
        """
        if growth.repay_usd > least_usd:
            self.repay(growth.repay_usd)
        else:
            most_usd = exact(leverage * self.account.long_equity_usd)
            self.grow(
                growth.model_copy(
                    update={"repay_usd": Decimal(0), "long_usd": min(growth.long_usd, most_usd)}
                )
            )

    def deleverage(self, share: float) -> None:
        """The venue closes a share of the short at the mark, without a fee."""
        self.account.trade_short(-share * self.account.short_qty, fee_bps=0.0, slippage_bps=0.0)

    def transfer(self, from_side: LegSide, usd: float) -> float:
        """Move idle money to the other side, as far as it is there. Return what was moved."""
        account = self.account
        sign = 1.0 if from_side is LegSide.LONG else -1.0
        moved = min(usd, account.wallet_usd if sign > 0 else account.margin_usd)
        account.wallet_usd -= sign * moved
        account.margin_usd += sign * moved
        account.spend("transfers", self.transfer_cost_usd)
        return moved

    def level_at_once(self, leverage: int, reserve: float) -> None:
        """Give each side half of all the money, whatever it is tied up in, and both legs the target: nobody can do that. It
        is the bound to hold results against.
        """
        account = self.account
        side = account.equity_usd / 2
        account.debt_usd += account.long_equity_usd - side * (1 - reserve)
        account.margin_usd, account.wallet_usd = side, side * reserve
        account.spend("transfers", self.transfer_cost_usd)
        self._trade_long(leverage * side * (1 - reserve) - account.long_usd)
        self._level_short()
        self._pay_gas()

    def _level_short(self) -> None:
        account = self.account
        target = short_qty_for(exact(account.tokens), exact(account.redemption))
        change = float(target) - account.short_qty
        if abs(change) * account.mark_usd >= LEAST_ORDER_USD:
            self._trade_short(change)
            account.short_qty = float(max(target, Decimal(0)))

    def _trade_long(self, usd: float, from_wallet_usd: float = 0.0) -> None:
        self.account.swap_long(
            usd,
            fee_bps=self._f.long_fee_bps(grows=usd > 0),
            slippage_bps=self._f.slippage_bps(self._f.long_slippage_bps, abs(usd), self.hour_range),
            from_wallet_usd=from_wallet_usd,
        )

    def _trade_short(self, change_qty: float) -> None:
        usd = abs(change_qty) * self.account.mark_usd
        self.account.trade_short(
            change_qty,
            fee_bps=self._f.perp_fee_bps(),
            slippage_bps=self._f.slippage_bps(self._f.short_slippage_bps, usd, self.hour_range),
        )

    @property
    def transfer_cost_usd(self) -> float:
        return self._f.transfer_usd * self._f.factor

    def _pay_gas(self) -> None:
        self.account.spend("gas", self._f.gas_usd * self._f.factor)

    def perp_costs(self) -> dict[str, float]:
        """Fee and slippage of an order that a venue sends for us, in bps."""
        account, f = self.account, self._f
        slippage = f.slippage_bps(f.short_slippage_bps, account.short_usd, self.hour_range)
        return {"fee_bps": f.perp_fee_bps(), "slippage_bps": slippage}
