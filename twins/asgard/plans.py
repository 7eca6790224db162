"""What a built transaction will do to a position when it lands, settled at the moment of landing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from solders.pubkey import Pubkey

from twins.asgard.book import Amounts, Holding, LendingBook
from twins.asgard.records import Execution
from twins.asgard.swap import BPS, Swap, buy, ceil, floor, sell
from twins.asgard.venue import FEE_OWNER, POOL_OWNER, USDC, USDC_MINT, Market
from twins.solana.programs import ProgramError

SLIPPAGE_EXCEEDED = 6001
"""Jupiter's SlippageToleranceExceeded."""
NO_POSITION = 6101
NOT_OWNER = 6102
TOO_MUCH_DEBT = 6103
ALREADY_OPEN = 6104
UNKNOWN_INSTRUCTIONS = 6199
"""Codes of 61xx are the twin's own; the log line says in words what is wrong."""
LTV_ROUNDING = Decimal("0.000001")
ZERO = Decimal(0)


@dataclass(frozen=True)
class Route:
    """The swap that a build asked for. `qty` is USDC with Asgard's fee (buy) or token A (sell)."""

    buys_token: bool
    qty: Decimal
    quoted_out: Decimal
    slippage_bps: int
    fee_bps: int = 0
    exact_out: bool = False
    """Delivers `quoted_out` exactly, for at most `qty` and the slippage bound."""

    @property
    def least_out(self) -> Decimal:
        return self.quoted_out if self.exact_out else self.quoted_out * (BPS - self.slippage_bps) / BPS

    @property
    def most_in(self) -> Decimal:
        return self.qty * (BPS + self.slippage_bps) / BPS


@dataclass(frozen=True)
class Plan:
    """One build. Amounts in whole tokens and USDC.

    `repay` and `withdraw` None means all of it; `repay_proceeds` repays whatever the sale delivers
    (deleverage); `sell_all` sells all that was withdrawn, interest of the last seconds included. `debt_now`
    is the debt at the time of the build. `hollow`: its transaction does nothing of it.
    """

    kind: str
    pda: str
    wallet: Pubkey
    market: Market
    route: Route | None = None
    wallet_tokens: Decimal = ZERO
    borrow: Decimal = ZERO
    repay: Decimal | None = ZERO
    repay_proceeds: bool = False
    withdraw: Decimal | None = ZERO
    sell_all: bool = False
    debt_now: Decimal = ZERO
    hollow: bool = False

    @property
    def opens(self) -> bool:
        return self.kind == "open"

    @property
    def closes(self) -> bool:
        return self.kind == "close"


@dataclass(frozen=True)
class Settlement:
    """A plan worked out at a moment: the amounts before and after, and every token movement."""

    plan: Plan
    settled: Amounts
    tokens_after: Decimal
    debt_after: Decimal
    swap: Swap | None
    borrowed: Decimal
    repaid: Decimal
    wallet_usdc: Decimal
    wallet_token: Decimal
    market_price: Decimal

    def token_deltas(self) -> list[tuple[Pubkey, Pubkey, int]]:
        """Return every change of a token account, base units; per mint they sum to zero."""
        token, wallet, lender = (
            self.plan.market.token_a,
            self.plan.wallet,
            self.plan.market.protocol.authority,
        )
        pool_usdc = pool_token = fee = ZERO
        if self.swap is not None:
            sign = 1 if self.swap.buys_token else -1
            pool_usdc, pool_token = sign * self.swap.usdc_qty, -sign * self.swap.token_qty
            fee = self.swap.protocol_fee_usd
        vault_usdc = self.repaid - self.borrowed
        usdc = ((wallet, self.wallet_usdc), (lender, vault_usdc), (POOL_OWNER, pool_usdc), (FEE_OWNER, fee))
        vault_token = -self.wallet_token - pool_token
        tokens = ((wallet, self.wallet_token), (lender, vault_token), (POOL_OWNER, pool_token))
        moves = [(owner, USDC_MINT, int(qty.scaleb(USDC.decimals))) for owner, qty in usdc]
        moves += [(owner, token.mint, int(qty.scaleb(token.decimals))) for owner, qty in tokens]
        return [move for move in moves if move[2]]

    def execution(
        self, signature: str, slot: int, time_ms: int, gas_lamports: int, tip_lamports: int
    ) -> Execution:
        swap = self.swap
        bought = swap if swap is not None and swap.buys_token else None
        sold = swap if swap is not None and not swap.buys_token else None
        return Execution(
            kind=self.plan.kind,
            pda=self.plan.pda,
            signature=signature,
            slot=slot,
            time_ms=time_ms,
            tokens_before=self.settled.tokens,
            tokens_after=self.tokens_after,
            debt_before_usd=self.settled.debt_usd,
            debt_after_usd=self.debt_after,
            borrowed_usd=self.borrowed,
            repaid_usd=self.repaid,
            token_bought=bought.received if bought else ZERO,
            token_sold=sold.paid if sold else ZERO,
            swap_usdc_in=bought.paid if bought else ZERO,
            swap_usdc_out=sold.received if sold else ZERO,
            wallet_usdc_delta=self.wallet_usdc,
            wallet_token_delta=self.wallet_token,
            protocol_fee_usd=swap.protocol_fee_usd if swap else ZERO,
            dex_fee_usd=swap.dex_fee_usd if swap else ZERO,
            slippage_usd=swap.slippage_usd if swap else ZERO,
            token_interest=self.settled.token_interest,
            debt_interest_usd=self.settled.debt_interest_usd,
            market_price_usd=self.market_price,
            gas_lamports=gas_lamports,
            tip_lamports=tip_lamports,
        )


def swapped(route: Route, qty: Decimal, market: Market, price: Decimal, worse_bps: Decimal) -> Swap:
    if route.buys_token:
        return buy(qty, market.token_a, price, worse_bps, route.fee_bps)
    return sell(qty, market.token_a, price, worse_bps)


def _exactly(route: Route, market: Market, price: Decimal, worse_bps: Decimal) -> Swap:
    """Deliver what was quoted, for what it costs now. ProgramError 6001 where that is above the bound."""
    token_in, token_out = (USDC, market.token_a) if route.buys_token else (market.token_a, USDC)
    qty = route.qty
    for _ in range(4):
        now = swapped(route, qty, market, price, worse_bps)
        if now.received >= route.quoted_out:
            break
        qty = ceil(qty * route.quoted_out / now.received, token_in) + token_in.unit
    if qty > route.most_in or now.received < route.quoted_out:
        raise ProgramError(SLIPPAGE_EXCEEDED, "Error: SlippageToleranceExceeded")
    return replace(now, received=floor(route.quoted_out, token_out))


def settle(
    book: LendingBook, plan: Plan, now_ms: int, worse_bps: Decimal = ZERO, unchecked: bool = False
) -> Settlement:
    """Work the plan out at `now_ms` without changing anything.

    Raises `ProgramError`: the position is not there, belongs to another wallet, exists already, would be left
    with too much debt, the swap delivers less than the slippage bound allows (6001), or the lender's reserve is
    paused or has not enough. `unchecked` asks neither for the reserve nor for the debt.
    """
    holding = book.holdings.get(plan.pda)
    live = holding is not None and holding.live
    if plan.opens and live:
        raise ProgramError(ALREADY_OPEN, f"Error: position {plan.pda} is open already")
    if not plan.opens and not live:
        raise ProgramError(NO_POSITION, f"Error: obligation {plan.pda} is empty")
    if live and holding is not None and holding.owner != str(plan.wallet):
        raise ProgramError(NOT_OWNER, f"Error: obligation owner is {holding.owner}")
    settled = book.amounts(holding, now_ms) if live and holding else Amounts(ZERO, ZERO, ZERO, ZERO)
    price = book.market_price(plan.market, now_ms)
    worse_bps += book.thin_bps(now_ms)
    withdrawn = settled.tokens if plan.withdraw is None else plan.withdraw
    swap = None
    if plan.route is not None:
        if plan.route.exact_out:
            swap = _exactly(plan.route, plan.market, price, worse_bps)
        else:
            qty = withdrawn if plan.sell_all else plan.route.qty
            swap = swapped(plan.route, qty, plan.market, price, worse_bps)
        if swap.received < plan.route.least_out:
            raise ProgramError(SLIPPAGE_EXCEEDED, "Error: SlippageToleranceExceeded")
    sold = swap.paid if swap and not swap.buys_token else ZERO
    usdc_out = swap.received if swap and not swap.buys_token else ZERO
    usdc_in = swap.paid + swap.protocol_fee_usd if swap and swap.buys_token else ZERO
    bought = swap.received if swap and swap.buys_token else ZERO
    requested = usdc_out if plan.repay_proceeds else plan.repay
    repaid = settled.debt_usd if requested is None else min(requested, settled.debt_usd)
    tokens_after = settled.tokens + plan.wallet_tokens + bought - withdrawn
    debt_after = settled.debt_usd + plan.borrow - repaid
    if tokens_after < 0:
        raise ProgramError(NO_POSITION, "Error: withdraw exceeds the deposited collateral")
    result = Settlement(
        plan=plan,
        settled=settled,
        tokens_after=tokens_after,
        debt_after=debt_after,
        swap=swap,
        borrowed=plan.borrow,
        repaid=repaid,
        wallet_usdc=plan.borrow - repaid - usdc_in + usdc_out,
        wallet_token=withdrawn - sold - plan.wallet_tokens,
        market_price=price,
    )
    if not unchecked:
        deposited = plan.wallet_tokens + bought
        amounts = {"withdraw": withdrawn, "deposit": deposited, "borrow": plan.borrow, "repay": repaid}
        book.reserves.check(plan.market, amounts)
        _check_debt(book, result, now_ms)
    return result


def _check_debt(book: LendingBook, result: Settlement, now_ms: int) -> None:
    """Borrowing and withdrawing must leave the LTV within the opening limit, or at least not make it worse."""
    if result.debt_after <= 0 or not (result.borrowed or result.tokens_after < result.settled.tokens):
        return
    price = book.oracle_price(result.plan.market, now_ms)
    if result.tokens_after > 0:
        ltv = result.debt_after / (result.tokens_after * price)
        before = result.settled.tokens * price
        allowed = max(
            result.plan.market.risk.max_ltv,
            result.settled.debt_usd / before if before and not result.borrowed else ZERO,
        )
        if ltv <= allowed + LTV_ROUNDING:
            return
    raise ProgramError(TOO_MUCH_DEBT, "Error: borrow too large for the collateral: LTV above the limit")


def commit(book: LendingBook, result: Settlement, execution: Execution, now_ms: int) -> None:
    """Put a landed settlement into the book."""
    plan = result.plan
    holding = book.holdings.setdefault(plan.pda, Holding(plan.pda, str(plan.wallet), plan.market))
    book.write(holding, now_ms, result.tokens_after, result.debt_after, result.settled)
    holding.live = result.tokens_after > 0
    holding.executions.append(execution)


def leverage(tokens: Decimal, debt_usd: Decimal, price: Decimal) -> Decimal:
    """Return gross assets / equity; 0 where no equity is left."""
    equity = tokens * price - debt_usd
    return tokens * price / equity if equity > 0 else ZERO


def buy_to_reach(tokens: Decimal, debt: Decimal, price: Decimal, cost: Decimal, target: Decimal) -> Decimal:
    """Return USDC to borrow and spend so that assets / equity = target, `cost` being the share lost on the way.

    A + x(1 - c) = T (A + x(1 - c) - D - x), solved for x.
    """
    assets = tokens * price
    wanted = (target * (assets - debt) - assets) / (1 - cost + target * cost)
    return floor(max(ZERO, wanted), USDC)


def sell_to_reach(tokens: Decimal, debt: Decimal, price: Decimal, cost: Decimal, target: Decimal) -> Decimal:
    """Return the share of the tokens to sell so that assets / equity = target: A - y = T (A - D - y c), solved for y /
    A.
    """
    assets = tokens * price
    share = (assets - target * (assets - debt)) / (1 - target * cost) / assets
    return min(Decimal(1), max(ZERO, share))
