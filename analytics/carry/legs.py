"""Splits what happened on each leg of a position into named items in USD, exactly, from the books alone.

Long leg (tokens on margin against USDC debt). Equity is `E = Q·p − D` with tokens `Q`, debt `D` and token
price `p = s·r + b`: SOL price `s`, SOL per token `r` (1 for SOL itself), peg basis `b` in USD per token.
Between two observations 0 and 1, with a bar for the mean of both ends, the split below sums to `E1 − E0`
without remainder:

    lending     = (Q1 − Q0)·p̄          tokens that grew by interest
    borrow      = −(D1 − D0)            debt that grew by interest
    price_long  = Q̄·r̄·(s1 − s0)         the SOL exposure times the move of SOL
    staking     = Q̄·s̄·(r1 − r0)         growth of the redemption rate
    lst_basis   = Q̄·(b1 − b0)           change of the premium or discount to the redemption value

At a transaction with swap of `q` tokens against `u` USDC at reference price `p` (σ = +1 bought, −1 sold)
and fee `f`:

    slippage_long = σ·(q·p − u) + dex_fee,  fees_dex = −dex_fee,  fees_asgard = −f

A lender that liquidates sells for us: `q` tokens seized against `u` of debt repaid or forgiven, at the lender's price `p`
and without a fee, which gives `liquidation = −(q·p − u)` in place of slippage.

Cash is conserved when the wallet moves by `w = ΔD − σ·u − f` and `ΔQ = σ·q`. Then, from an open at zero on,

    sum of the items = Σ w + E_now          (E_now = 0 once the leg is closed)

Short leg: with signed fills σ·q at price `x`, reference (mid when the order was sent) `m`, mark `k` and net
size `N = Σ σ·q`:

    price_short = −Σ σ·q·i + N·k,   basis = −Σ σ·q·(m − i),   slippage_short = −Σ σ·q·(x − m)

with `i` the index (oracle) price of SOL at the fill; the three sum to −Σ σ·q·x + N·k,
which is the venue's `closedPnl` summed, once the leg is flat. Gas and tips are lamports at the SOL price of
their own moment; SOL kept for gas is not part of the position, so what its price does afterwards is left
out. USDC counts as 1 USD.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Literal

from pydantic import Field

from evenkeel.legs import FundingPayment, LendingChange
from evenkeel.types import Fill, Frozen
from evenkeel.units import LAMPORTS_PER_SOL

ZERO = Decimal(0)
TWO = Decimal(2)
WORKING_DIGITS = 60
"""Digits kept while computing, so that products of three prices and amounts are not rounded."""

SLACK = Decimal("0.999999999")
"""Room for the venue's own rounding where amounts can only grow."""

DUST_USD = Decimal("0.000001")
"""Below the smallest unit of USDC a mismatch is rounding by the venue and not worth a line."""


LONG_ITEMS = (
    "lending",
    "borrow",
    "staking",
    "price_long",
    "lst_basis",
    "slippage_long",
    "fees_asgard",
    "fees_dex",
    "liquidation",
)
SHORT_ITEMS = ("funding", "price_short", "basis", "slippage_short", "fees_hyperliquid", "liquidation")
GAS_ITEMS = ("gas", "tips")


class LongEvent(Frozen):
    """One landed transaction of the long leg, or what its lender seized, and the market at that moment.

    `token_price_usd` is the reference that the swap is held against. `redemption_rate` is SOL per token, 1 for SOL.
    `decided_sol_usd` and `sent_sol_usd` are SOL's price when its order was decided, and built to be sent, where known.
    `dex_fee_usd` is the part of the swap's shortfall known to be the pool's fee (0 when not known separately).
    """

    ref: str
    kind: Literal["open", "resize", "close", "liquidated"]
    at_ms: int
    change: LendingChange
    sol_price_usd: Decimal = Field(gt=0)
    token_price_usd: Decimal = Field(gt=0)
    redemption_rate: Decimal = Field(default=Decimal(1), gt=0)
    dex_fee_usd: Decimal = Field(default=ZERO, ge=0)
    decided_sol_usd: Decimal | None = Field(default=None, gt=0)
    sent_sol_usd: Decimal | None = Field(default=None, gt=0)


class LongMark(Frozen):
    """The long leg as its venue showed it, with the market then: refines the split, and values an open leg
    at the end."""

    at_ms: int
    tokens: Decimal
    debt_usd: Decimal
    sol_price_usd: Decimal = Field(gt=0)
    token_price_usd: Decimal = Field(gt=0)
    redemption_rate: Decimal = Field(default=Decimal(1), gt=0)


class ShortFill(Frozen):
    """One fill of the short leg with the mid price when its order was sent, and the index price of SOL then.

    Without an index price the mid stands in, and no basis is distinguished from the price. `decided_sol_usd` is SOL's index
    price when the order was decided, where known.
    """

    fill: Fill
    reference_price_usd: Decimal = Field(gt=0)
    index_price_usd: Decimal | None = Field(default=None, gt=0)
    decided_sol_usd: Decimal | None = Field(default=None, gt=0)


class GasCost(Frozen):
    """Lamports paid beside the `LongEvent`s (failed transactions, account set-up; below zero: rent that came
    back), at that moment's SOL price."""

    ref: str
    at_ms: int
    gas_lamports: int = 0
    tip_lamports: int = Field(default=0, ge=0)
    sol_price_usd: Decimal = Field(gt=0)


class LongSplit(Frozen):
    """Items of the long leg, what it is worth now, the wallet flow it implies, and where the books
    contradict themselves."""

    items: dict[str, Decimal]
    equity_usd: Decimal
    wallet_flow_usd: Decimal
    checks: list[str]


class ShortSplit(Frozen):
    """Items of the short leg, its net size left open (negative = short), and where the books contradict
    themselves."""

    items: dict[str, Decimal]
    open_qty: Decimal
    checks: list[str]


class GasSplit(Frozen):
    """Gas and tips in USD (negative) and the lamports behind them."""

    items: dict[str, Decimal]
    lamports: int


class _Point:
    """State and market at one instant. Plain, because one is made per observation."""

    def __init__(self, seen: LongEvent | LongMark, tokens: Decimal, debt_usd: Decimal) -> None:
        self.tokens = tokens
        self.debt_usd = debt_usd
        self.sol_price = seen.sol_price_usd
        self.price = seen.token_price_usd
        self.rate = seen.redemption_rate
        self.basis = self.price - self.sol_price * self.rate

    @property
    def equity_usd(self) -> Decimal:
        return self.tokens * self.price - self.debt_usd


def _between(items: dict[str, Decimal], a: _Point, b: _Point) -> None:
    """Adds the split of `b.equity − a.equity`; see the formulas of the module."""
    mean_tokens = (a.tokens + b.tokens) / TWO
    items["lending"] += (b.tokens - a.tokens) * (a.price + b.price) / TWO
    items["borrow"] -= b.debt_usd - a.debt_usd
    items["price_long"] += mean_tokens * (a.rate + b.rate) / TWO * (b.sol_price - a.sol_price)
    items["staking"] += mean_tokens * (a.sol_price + b.sol_price) / TWO * (b.rate - a.rate)
    items["lst_basis"] += mean_tokens * (b.basis - a.basis)


def _swap(items: dict[str, Decimal], event: LongEvent, checks: list[str]) -> None:
    """Adds the costs of one transaction, and says where its own figures do not add up."""
    change = event.change
    moved = change.tokens_after - change.tokens_before
    sign = Decimal(-1) if moved < 0 else Decimal(1)
    price = event.token_price_usd
    name = "liquidation" if event.kind == "liquidated" else "slippage_long"
    items[name] += sign * (change.swap_token_qty * price - change.swap_usdc_qty) + event.dex_fee_usd
    items["fees_dex"] -= event.dex_fee_usd
    items["fees_asgard"] -= change.protocol_fee_usd
    borrowed = change.debt_after_usd - change.debt_before_usd
    implied = borrowed - sign * change.swap_usdc_qty - change.protocol_fee_usd
    cash_gap = change.wallet_usdc_delta - implied
    token_gap = moved - sign * change.swap_token_qty
    if abs(cash_gap) > DUST_USD:
        checks.append(
            f"{event.kind} {event.ref}: the wallet moved {change.wallet_usdc_delta:f} USDC, "
            f"debt, swap and fee explain {implied:f}"
        )
    if abs(token_gap * price) > DUST_USD:
        checks.append(
            f"{event.kind} {event.ref}: the tokens moved {moved:f}, "
            f"the swap explains {sign * change.swap_token_qty:f}"
        )


def _lies_between(mark: LongMark, start: _Point, end: LongEvent) -> bool:
    """Interest only grows, so a mark outside the two ends was taken on the other side of a transaction."""
    change = end.change
    return (
        start.tokens * SLACK <= mark.tokens <= change.tokens_before / SLACK
        and start.debt_usd * SLACK <= mark.debt_usd <= change.debt_before_usd / SLACK
    )


def _gap(start: _Point, end: _Point, where: str) -> list[str]:
    """Holdings that fell between two transactions moved by something the books do not have."""
    found = []
    if end.tokens < start.tokens * SLACK:
        found.append(f"before {where}: tokens fell from {start.tokens:f} to {end.tokens:f} unexplained")
    if end.debt_usd < start.debt_usd * SLACK:
        found.append(f"before {where}: debt fell from {start.debt_usd:f} to {end.debt_usd:f} unexplained")
    if start.tokens == 0 and end.tokens > 0:
        found.append(f"before {where}: {end.tokens:f} tokens came from nowhere")
    return found


def split_long(events: Sequence[LongEvent], marks: Sequence[LongMark] = ()) -> LongSplit:
    """Return items of the long leg (USD, income positive) and its value now; identity in the docstring of the module.

    `marks` may be any observations during the life; they make the split finer and never change its sum over
    a closed leg. The last one values a leg that is still open; without one it stays at the value after its
    last transaction, and `checks` says so.
    """
    items = dict.fromkeys(LONG_ITEMS, ZERO)
    checks: list[str] = []
    wallet = ZERO
    point: _Point | None = None
    waiting = sorted(marks, key=lambda mark: mark.at_ms)
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        for event in sorted(events, key=lambda event: event.at_ms):
            name = f"{event.kind} {event.ref}"
            before = _Point(event, event.change.tokens_before, event.change.debt_before_usd)
            if point is None:
                if before.tokens != 0 or before.debt_usd != 0:
                    checks.append(f"{name}: the books begin with {before.tokens:f} tokens and no open")
            else:
                checks += _gap(point, before, name)
                for mark in waiting:
                    if mark.at_ms < event.at_ms and _lies_between(mark, point, event):
                        point = _step(items, point, mark)
                _between(items, point, before)
            waiting = [mark for mark in waiting if mark.at_ms > event.at_ms]
            _swap(items, event, checks)
            wallet += event.change.wallet_usdc_delta
            point = _Point(event, event.change.tokens_after, event.change.debt_after_usd)
        if point is not None and point.tokens > 0:
            if waiting:
                checks += _gap(
                    point, _Point(waiting[-1], waiting[-1].tokens, waiting[-1].debt_usd), "the end"
                )
            else:
                checks.append("the long leg is open and valued as after its last transaction")
            for mark in waiting:
                point = _step(items, point, mark)
        equity = point.equity_usd if point is not None else ZERO
    return LongSplit(items=items, equity_usd=equity, wallet_flow_usd=wallet, checks=checks)


def _step(items: dict[str, Decimal], point: _Point, mark: LongMark) -> _Point:
    following = _Point(mark, mark.tokens, mark.debt_usd)
    _between(items, point, following)
    return following


def split_short(
    fills: Sequence[ShortFill],
    funding: Sequence[FundingPayment] = (),
    mark_price_usd: Decimal | None = None,
    margin_seized_usd: Decimal = ZERO,
) -> ShortSplit:
    """Return items of the short leg (USD, income positive): funding, price, slippage, venue fees, and what a backstop
    liquidation took of the margin beyond its fills (`margin_seized_usd`).

    `mark_price_usd` values what is still open. A closed leg needs none; whatever the fills then leave open
    has no value, so that a fill missing from the books shows in the residual with its whole cash flow.
    """
    items = dict.fromkeys(SHORT_ITEMS, ZERO)
    checks: list[str] = []
    size = closed_pnl = traded = ZERO
    all_realised = bool(fills)
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        for row in fills:
            fill = row.fill
            signed = fill.qty if fill.side == "buy" else -fill.qty
            size += signed
            traded -= signed * fill.price_usd
            index = row.index_price_usd or row.reference_price_usd
            items["price_short"] -= signed * index
            items["basis"] -= signed * (row.reference_price_usd - index)
            items["slippage_short"] -= signed * (fill.price_usd - row.reference_price_usd)
            items["fees_hyperliquid"] -= fill.fee_usd
            all_realised = all_realised and fill.closed_pnl_usd is not None
            closed_pnl += fill.closed_pnl_usd or ZERO
        if size != 0 and mark_price_usd is not None:
            items["price_short"] += size * mark_price_usd
        items["funding"] = sum((payment.usdc for payment in funding), ZERO)
        items["liquidation"] = -margin_seized_usd
    if size != 0 and mark_price_usd is None:
        checks.append(f"the fills in the books leave {size:f} open on a leg that should be flat")
    if size == 0 and all_realised and abs(closed_pnl - traded) > Decimal("0.01"):
        checks.append(f"the venue realised {closed_pnl:f} USD on the fills, the books make it {traded:f}")
    fill_ids = Counter(row.fill.fill_id for row in fills)
    checks += [f"fill {fill_id} is in the books twice" for fill_id, count in fill_ids.items() if count > 1]
    hours = Counter((payment.account.lower(), payment.coin, payment.hour_ms) for payment in funding)
    checks += [
        f"funding of {key[1]} hour {key[2]} is in the books twice" for key, n in hours.items() if n > 1
    ]
    return ShortSplit(items=items, open_qty=size, checks=checks)


def split_gas(events: Sequence[LongEvent], others: Sequence[GasCost] = ()) -> GasSplit:
    """Return gas and tips of every transaction, each at the SOL price of its own moment (USD, negative)."""
    items = dict.fromkeys(GAS_ITEMS, ZERO)
    lamports = 0
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        spent = [(e.change.gas_lamports, e.change.tip_lamports, e.sol_price_usd) for e in events]
        spent += [(c.gas_lamports, c.tip_lamports, c.sol_price_usd) for c in others]
        for gas, tip, price in spent:
            items["gas"] -= Decimal(gas) / LAMPORTS_PER_SOL * price
            items["tips"] -= Decimal(tip) / LAMPORTS_PER_SOL * price
            lamports += gas + tip
    return GasSplit(items=items, lamports=lamports)
