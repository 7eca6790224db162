"""Margin arithmetic of the venue (docs: trading/margining, trading/liquidations) and the
`clearinghouseState` answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from twins.hyperliquid.account import Account, Order, Position
from twins.hyperliquid.meta import BY_NAME, maintenance, maintenance_rate
from twins.hyperliquid.numbers import MAX_PRICE_DECIMALS, ZERO, num, usd

Marks = dict[str, Decimal]
LIQUIDATION_STEP = Decimal("0.0000000001")
TRANSFER_FRACTION = Decimal("0.1")
POOLED_MODES = ("unifiedAccount", "portfolioMargin")


@dataclass(frozen=True)
class Summary:
    """USD sums over the cross account (or with isolated positions added)."""

    account_value: Decimal
    notional: Decimal
    raw_usd: Decimal
    margin_used: Decimal

    def wire(self) -> dict[str, str]:
        return {
            "accountValue": num(self.account_value),
            "totalNtlPos": num(self.notional),
            "totalRawUsd": num(self.raw_usd),
            "totalMarginUsed": num(self.margin_used),
        }


def notional(position: Position, marks: Marks) -> Decimal:
    return abs(position.szi) * marks[position.coin]


def margin_used(position: Position, marks: Marks) -> Decimal:
    """Return the initial margin of a cross position; own margin including the unrealised gain of an isolated one."""
    if position.raw_usd is None:
        return usd(notional(position, marks) / position.leverage.value)
    return position.raw_usd + position.szi * marks[position.coin]


def cross_summary(raw_usd: Decimal, positions: dict[str, Position], marks: Marks) -> Summary:
    cross = [held for held in positions.values() if held.is_cross]
    value = raw_usd + sum((held.szi * marks[held.coin] for held in cross), ZERO)
    total = sum((notional(held, marks) for held in cross), ZERO)
    return Summary(value, total, raw_usd, sum((margin_used(held, marks) for held in cross), ZERO))


def whole_summary(cross: Summary, positions: dict[str, Position], marks: Marks) -> Summary:
    isolated = [held for held in positions.values() if not held.is_cross]
    own = sum((margin_used(held, marks) for held in isolated), ZERO)
    return Summary(
        cross.account_value + own,
        cross.notional + sum((notional(held, marks) for held in isolated), ZERO),
        cross.raw_usd + sum((held.raw_usd or ZERO for held in isolated), ZERO),
        cross.margin_used + own,
    )


def cross_maintenance(positions: dict[str, Position], marks: Marks) -> Decimal:
    cross = [held for held in positions.values() if held.is_cross]
    return sum((maintenance(BY_NAME[held.coin], notional(held, marks)) for held in cross), ZERO)


def order_margin(account: Account, positions: dict[str, Position], orders: list[Order]) -> Decimal:
    """Return the initial margin of the resting orders that would increase exposure."""
    total = ZERO
    for order in orders:
        if order.reduce_only or order.trigger_px is not None:
            continue
        held = positions[order.coin].szi if order.coin in positions else ZERO
        closing = min(abs(held), order.sz) if held and (held > 0) != order.is_buy else ZERO
        total += (order.sz - closing) * order.limit_px / account.leverage_of(order.coin).value
    return usd(total)


def withdrawable(account: Account, cross: Summary, reserved: Decimal) -> Decimal:
    """Return max(0, AV - max(initial margin with orders, 10 % of notional))."""
    return max(
        ZERO, cross.account_value - max(cross.margin_used + reserved, TRANSFER_FRACTION * cross.notional)
    )


def liquidation_px(
    position: Position, marks: Marks, cross_value: Decimal, cross_requirement: Decimal
) -> Decimal | None:
    """Return the liquidation price of one position in its account: cross margin is that of the whole account."""
    asset, mark = BY_NAME[position.coin], marks[position.coin]
    if position.is_cross:
        available = cross_value - cross_requirement
    else:
        available = margin_used(position, marks) - maintenance(asset, notional(position, marks))
    return liquidation_price(
        mark, position.szi, available, maintenance_rate(asset, notional(position, marks))
    )


def liquidation_price(mark: Decimal, szi: Decimal, available: Decimal, rate: Decimal) -> Decimal | None:
    """Return mark - side x margin available / |szi| / (1 - l x side), in USD; None where it is not positive."""
    side = 1 if szi > 0 else -1
    px = mark - side * available / abs(szi) / (1 - rate * side)
    return px.quantize(LIQUIDATION_STEP) if px > 0 else None


def position_wire(
    account: Account, position: Position, marks: Marks, cross_value: Decimal, requirement: Decimal
) -> dict[str, Any]:
    """Return one element of `assetPositions`. entryPx is cut (not rounded) to the coin's price decimals, as recorded
    ones are.
    """
    asset, value = BY_NAME[position.coin], notional(position, marks)
    side = 1 if position.szi > 0 else -1
    gain = position.szi * marks[position.coin] - side * position.entry_ntl
    step = Decimal(1).scaleb(asset.sz_decimals - MAX_PRICE_DECIMALS)
    entry_px = (position.entry_ntl / abs(position.szi)).quantize(step, ROUND_DOWN)
    liquidation = liquidation_px(position, marks, cross_value, requirement)
    leverage: dict[str, Any] = {"type": "cross" if position.is_cross else "isolated"}
    leverage["value"] = position.leverage.value
    if position.raw_usd is not None:
        leverage["rawUsd"] = num(position.raw_usd)
    all_time = account.funding_all_time.get(position.coin, ZERO)
    body = {
        "coin": position.coin,
        "szi": num(position.szi),
        "leverage": leverage,
        "entryPx": num(entry_px),
        "positionValue": num(value),
        "unrealizedPnl": num(gain),
        "returnOnEquity": num(
            (gain * position.leverage.value / position.entry_ntl).quantize(LIQUIDATION_STEP)
        ),
        "liquidationPx": num(liquidation) if liquidation is not None else None,
        "marginUsed": num(margin_used(position, marks)),
        "maxLeverage": asset.max_leverage,
        "cumFunding": {
            "allTime": num(all_time),
            "sinceOpen": num(position.funding_since_open),
            "sinceChange": num(position.funding_since_change),
        },
    }
    return {"type": "oneWay", "position": body}


@dataclass(frozen=True)
class State:
    """Everything that the margin answers need, at one time."""

    cross: Summary
    whole: Summary
    requirement: Decimal
    withdrawable: Decimal
    pooled: Decimal
    """Free cash that a unified or portfolio account shows as spot balance instead of perp equity."""


def state_of(
    account: Account, raw_usd: Decimal, positions: dict[str, Position], orders: list[Order], marks: Marks
) -> State:
    cross = cross_summary(raw_usd, positions, marks)
    free = withdrawable(account, cross, order_margin(account, positions, orders))
    pooled = free if account.abstraction in POOLED_MODES else ZERO
    return State(
        cross,
        whole_summary(cross, positions, marks),
        cross_maintenance(positions, marks),
        free,
        pooled,
    )


def less(summary: Summary, pooled: Decimal) -> Summary:
    return Summary(
        summary.account_value - pooled, summary.notional, summary.raw_usd - pooled, summary.margin_used
    )


def clearinghouse_state(
    account: Account,
    raw_usd: Decimal,
    positions: dict[str, Position],
    orders: list[Order],
    marks: Marks,
    t_ms: int,
) -> dict[str, Any]:
    """Return the body of `clearinghouseState`. In the pooled modes the free cash is missing here, as the venue's own
    answer is.
    """
    state = state_of(account, raw_usd, positions, orders, marks)
    value, requirement = state.cross.account_value, state.requirement
    held = sorted(positions.values(), key=lambda position: BY_NAME[position.coin].index)
    return {
        "marginSummary": less(state.whole, state.pooled).wire(),
        "crossMarginSummary": less(state.cross, state.pooled).wire(),
        "crossMaintenanceMarginUsed": num(usd(requirement)),
        "withdrawable": num(state.withdrawable - state.pooled),
        "assetPositions": [position_wire(account, one, marks, value, requirement) for one in held],
        "time": t_ms,
    }
