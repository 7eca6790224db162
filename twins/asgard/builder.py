"""Answers the build endpoints: checks a request and plans it at the prices of the moment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from decimal import Decimal

from solders.hash import Hash
from solders.pubkey import Pubkey

from twins.asgard.assembly import Style, assemble
from twins.asgard.book import Amounts, LendingBook
from twins.asgard.describe import (
    ADD_COLLATERAL,
    DELEVERAGE,
    INCREASE_LEVERAGE,
    PARTIAL_CLOSE,
    REPAY_DEBT,
    Build,
    described,
)
from twins.asgard.emulation import Emulation
from twins.asgard.lenders import LENDERS
from twins.asgard.markets import Listings
from twins.asgard.plans import (
    Plan,
    Route,
    buy_to_reach,
    leverage,
    sell_to_reach,
    settle,
    swapped,
)
from twins.asgard.records import text
from twins.asgard.swap import BPS, ceil, floor
from twins.asgard.venue import (
    COLLATERAL_TOKEN_A,
    COLLATERAL_USDC,
    DEX_FEE_BPS,
    LONG,
    PROTOCOL_FEE_BPS,
    ROUTERS,
    USDC,
    USDC_MINT,
    Market,
    market_of_banks,
)
from twins.asgard.wire import (
    AddCollateralBody,
    BuildBody,
    CloseBody,
    LeverageBody,
    PartialCloseBody,
    RepayBody,
    RoutedBody,
    TradeBody,
    live_protocol,
    refuse,
)
from twins.solana.chain import SolanaChain
from twins.solana.programs import ProgramError
from twins.world import World

ZERO = Decimal(0)


@dataclass(frozen=True)
class Leftover:
    """A share of the collateral that a close leaves: in the lender, or in the wallet unsold."""

    fraction: Decimal
    in_wallet: bool = False


@dataclass
class Settings:
    """What an operator can change about builds.

    `unchecked`: they are made although the lender would refuse them now. `leftover` and `hollow` are of one build.
    """

    style: Style = field(default_factory=Style)
    unchecked: bool = False
    stale_blockhash: bool = False
    empty: bool = False
    leftover: Leftover | None = None
    hollow: bool = False


class Builder:
    """One plan per request. Prices and amounts are those of the moment of the request."""

    def __init__(
        self, world: World, chain: SolanaChain, book: LendingBook, emulation: Emulation, listings: Listings
    ) -> None:
        self._world = world
        self._chain = chain
        self._book = book
        self._emulation = emulation
        self._listings = listings
        self._next_index: dict[tuple[int, str], int] = {}

    # Requests to plans

    def create(self, body: TradeBody, settings: Settings) -> Build:
        protocol = live_protocol(body.protocol)
        market = market_of_banks(protocol, body.tokenABank, body.tokenBBank)
        if market is None or not self._listings.is_listed(market):
            raise refuse("MarketNotFound", f"no market with banks {body.tokenABank}, {body.tokenBBank}")
        if body.direction != LONG:
            raise refuse(
                "DirectionNotSupported", f"direction {body.direction}: only LONG (0) is offered here"
            )
        if not self._listings.is_active(market, self._world.now_ms()):
            raise refuse("MarketInactive", f"{market.token_a.symbol}/USDC at {protocol.name} is not active")
        if body.target > market.risk.max_leverage:
            raise refuse(
                "LeverageTooHigh",
                f"leverage {body.target} is above the maximum {market.risk.max_leverage:.4f}",
            )
        _check_collateral(body.collateralType, body.collateralMint, market)
        now_ms = self._world.now_ms()
        price = self._book.market_price(market, now_ms)
        index, pda = self._fresh_account(body.wallet, market)
        plan = Plan("open", pda, body.wallet, market)
        if body.collateralType == COLLATERAL_USDC:
            collateral = _usdc(body.collateralAmountNative)
            gross = floor(collateral * body.target, USDC)
            plan = replace(plan, borrow=gross - collateral)
        else:
            tokens = Decimal(body.collateralAmountNative).scaleb(-market.token_a.decimals)
            gross = floor(tokens * price * (body.target - 1), USDC)
            plan = replace(plan, borrow=gross, wallet_tokens=tokens)
        if gross:
            plan = replace(plan, route=self._buy(market, gross, body.slippageBps, price, PROTOCOL_FEE_BPS))
        self._check_capacity(plan)
        build = self._finish(plan, body, settings, index)
        build.requested_leverage = text(body.target, 4).rstrip("0").rstrip(".")
        return build

    def close(self, body: CloseBody, settings: Settings) -> Build:
        market, now, price = self._position(body, body.positionPDA)
        plan = Plan(
            "close",
            body.positionPDA,
            body.wallet,
            market,
            repay=None if now.debt_usd else ZERO,
            withdraw=None,
            debt_now=now.debt_usd,
        )
        if body.collateralType == COLLATERAL_USDC:
            plan = replace(plan, sell_all=True, route=self._sell(market, now.tokens, body.slippageBps, price))
        elif body.collateralType == COLLATERAL_TOKEN_A:
            # Just enough for the debt at the worst price the slippage bound allows; the rest comes out as
            # tokens.
            worst = price * (BPS - body.slippageBps) / BPS * (1 - (DEX_FEE_BPS + 4) / BPS)
            qty = min(now.tokens, ceil(now.debt_usd / worst, market.token_a))
            if qty:
                plan = replace(plan, route=self._sell(market, qty, body.slippageBps, price))
        else:
            raise refuse("CollateralTypeNotSupported", f"collateralType {body.collateralType}: use 0 or 1")
        if settings.leftover is not None:
            plan = self._leaving(plan, settings.leftover, now, body.slippageBps, price)
        return self._finish(plan, body, settings)

    def _leaving(self, plan: Plan, left: Leftover, now: Amounts, slippage: int, price: Decimal) -> Plan:
        """A close that pays all of the debt and leaves a part of the collateral."""
        rest = floor(now.tokens * (1 - left.fraction), plan.market.token_a)
        if plan.route is not None and plan.route.qty > rest:
            plan = replace(plan, route=self._sell(plan.market, rest, slippage, price))
        if left.in_wallet:
            return replace(plan, sell_all=False)
        return replace(plan, withdraw=rest)

    def partial_close(self, body: PartialCloseBody, settings: Settings) -> Build:
        market, now, price = self._position(body, body.positionPDA, resizing=True)
        share = Decimal(body.closePercentage) / 100
        qty, repay = floor(now.tokens * share, market.token_a), ceil(now.debt_usd * share, USDC)
        route = self._sell(market, qty, body.slippageBps, price)
        plan = Plan("partial_close", body.positionPDA, body.wallet, market, route, repay=repay, withdraw=qty)
        build = self._finish(plan, body, settings, update_type=PARTIAL_CLOSE, percentage=body.closePercentage)
        build.response |= {
            "closePercentage": body.closePercentage,
            "equityWithdrawnUI": text(build.preview.wallet_usdc, 6),
            "equityWithdrawnMint": str(USDC_MINT),
            "lendingApyAtClose": build.estimate["lendingApy"],
            "borrowingApyAtClose": build.estimate["borrowingApy"],
        }
        return build

    def deleverage(self, body: LeverageBody, settings: Settings) -> Build:
        market, now, price = self._position(body, body.positionPDA, resizing=True)
        oracle = self._book.oracle_price(market, self._world.now_ms())
        self._check_target(body, now, oracle, lower=True)
        probe = self._sell(market, now.tokens, body.slippageBps, price)
        share = ZERO
        for _ in range(3):
            # The cost depends a little on the size: a few rounds settle it.
            cost = 1 - probe.quoted_out / (probe.qty * oracle)
            share = sell_to_reach(now.tokens, now.debt_usd, oracle, cost, body.target)
            probe = self._sell(market, floor(now.tokens * share, market.token_a), body.slippageBps, price)
        plan = Plan(
            "deleverage",
            body.positionPDA,
            body.wallet,
            market,
            probe,
            repay_proceeds=True,
            withdraw=probe.qty,
        )
        return self._with_target(self._finish(plan, body, settings, update_type=DELEVERAGE), body)

    def increase_leverage(self, body: LeverageBody, settings: Settings) -> Build:
        market, now, price = self._position(body, body.positionPDA, resizing=True)
        oracle = self._book.oracle_price(market, self._world.now_ms())
        self._check_target(body, now, oracle, lower=False)
        probe = self._buy(market, floor(now.tokens * price, USDC), body.slippageBps, price, PROTOCOL_FEE_BPS)
        for _ in range(3):
            cost = 1 - probe.quoted_out * oracle / probe.qty
            gross = buy_to_reach(now.tokens, now.debt_usd, oracle, cost, body.target)
            probe = self._buy(market, gross, body.slippageBps, price, PROTOCOL_FEE_BPS)
        plan = Plan("increase_leverage", body.positionPDA, body.wallet, market, probe, borrow=probe.qty)
        self._check_capacity(plan)
        return self._with_target(self._finish(plan, body, settings, update_type=INCREASE_LEVERAGE), body)

    def add_collateral(self, body: AddCollateralBody, settings: Settings) -> Build:
        market, _, price = self._position(body, body.positionPDA, resizing=True)
        _check_collateral(body.collateralType, body.collateralMint, market)
        plan = Plan("add_collateral", body.positionPDA, body.wallet, market)
        if body.collateralType == COLLATERAL_USDC:
            added = _usdc(body.collateralAmountNative)
            plan = replace(plan, route=self._buy(market, added, body.slippageBps, price, 0))
        else:
            added = Decimal(body.collateralAmountNative).scaleb(-market.token_a.decimals)
            plan = replace(plan, wallet_tokens=added)
        self._check_capacity(plan)
        build = self._finish(plan, body, settings, update_type=ADD_COLLATERAL)
        amounts = {"collateralType": body.collateralType, "collateralMint": body.collateralMint}
        build.response["updateRecordData"] |= amounts | {
            "collateralAmountNative": body.collateralAmountNative,
            "collateralAmountUI": text(added),
        }
        build.response |= amounts | {
            "collateralAddedNative": body.collateralAmountNative,
            "collateralAddedUI": text(added),
        }
        return build

    def repay_debt(self, body: RepayBody, settings: Settings) -> Build:
        market, now, _ = self._position(body, body.positionPDA, resizing=True)
        repay = _usdc(body.repayAmountNative)
        if repay > now.debt_usd:
            raise refuse(
                "RepayExceedsDebt", f"repay {repay} USDC is more than the debt of {now.debt_usd} USDC"
            )
        plan = Plan("repay_debt", body.positionPDA, body.wallet, market, repay=repay)
        build = self._finish(plan, body, settings, update_type=REPAY_DEBT)
        build.response |= {
            "repayAmountNative": body.repayAmountNative,
            "repayAmountUI": text(repay, 6),
            "debtTokenMint": str(USDC_MINT),
        }
        return build

    # Checks and quotes

    def _position(self, body: BuildBody, pda: str, resizing: bool = False) -> tuple[Market, Amounts, Decimal]:
        protocol = live_protocol(body.protocol)
        if resizing and not protocol.resizable:
            raise refuse(
                "ProtocolNotSupported",
                f"position updates are not supported on {protocol.name}, only on KAMINO and DRIFT",
                protocol=protocol.id,
            )
        holding = self._book.holdings.get(pda)
        if holding is None or not holding.live or holding.market.protocol is not protocol:
            raise refuse("PositionNotFound", f"no open position {pda} at {protocol.name}", positionPDA=pda)
        if holding.owner != body.walletPubkey:
            raise refuse("NotOwner", f"position {pda} belongs to another wallet")
        now_ms = self._world.now_ms()
        amounts = self._book.amounts(holding, now_ms)
        return holding.market, amounts, self._book.market_price(holding.market, now_ms)

    def _check_target(self, body: LeverageBody, now: Amounts, oracle: Decimal, lower: bool) -> None:
        present = leverage(now.tokens, now.debt_usd, oracle)
        if (body.target >= present) if lower else (body.target <= present):
            side = "below" if lower else "above"
            raise refuse(
                "InvalidTargetLeverage", f"targetLeverage {body.target} must be {side} {present:.4f}"
            )

    def _check_capacity(self, plan: Plan) -> None:
        protocol, token = plan.market.protocol, plan.market.token_a
        deposit = plan.wallet_tokens + (plan.route.quoted_out if plan.route else 0)
        for symbol, kind, amount in (("USDC", "borrow", plan.borrow), (token.symbol, "deposit", deposit)):
            room = Decimal(self._listings.capacity(protocol, symbol, kind))
            if amount > room:
                raise refuse(
                    "InsufficientCapacity", f"{kind} of {amount} {symbol} is above the capacity {room}"
                )

    def _buy(self, market: Market, gross: Decimal, slippage: int, price: Decimal, fee_bps: int) -> Route:
        draft = Route(True, gross, ZERO, slippage, fee_bps)
        return replace(draft, quoted_out=swapped(draft, gross, market, price, self._thin_bps()).received)

    def _sell(self, market: Market, qty: Decimal, slippage: int, price: Decimal) -> Route:
        draft = Route(False, qty, ZERO, slippage)
        return replace(draft, quoted_out=swapped(draft, qty, market, price, self._thin_bps()).received)

    def _thin_bps(self) -> Decimal:
        return self._book.thin_bps(self._world.now_ms())

    def _exact_out(self, plan: Plan, now_ms: int) -> Route:
        """The route for an exact amount out: as much as may cost all that there is to give, at the slippage bound."""
        route, market = plan.route, plan.market
        assert route is not None
        given = USDC if route.buys_token else market.token_a
        qty = floor(route.qty * BPS / (BPS + route.slippage_bps), given)
        price = self._book.market_price(market, now_ms)
        if route.buys_token:
            return replace(self._buy(market, qty, route.slippage_bps, price, route.fee_bps), exact_out=True)
        return replace(self._sell(market, qty, route.slippage_bps, price), exact_out=True)

    def _fresh_account(self, wallet: Pubkey, market: Market) -> tuple[int, str]:
        """The next position account of this wallet that no build has been given yet."""
        key = (market.protocol.id, str(wallet))
        index = self._next_index.get(key, 0)
        self._next_index[key] = index + 1
        return index, str(LENDERS[market.protocol.id].pda(wallet, market.token_a, index))

    def _finish(
        self,
        plan: Plan,
        body: BuildBody,
        settings: Settings,
        index: int = 0,
        update_type: int | None = None,
        percentage: int | None = None,
    ) -> Build:
        now_ms = self._world.now_ms()
        if settings.style.route.exact_out and plan.route is not None:
            plan = replace(plan, route=self._exact_out(plan, now_ms), sell_all=False)
        try:
            preview = settle(self._book, plan, now_ms, unchecked=settings.unchecked)
        except ProgramError as error:
            raise refuse("TransactionWouldFail", error.log, customProgramError=error.code) from error
        plan = replace(plan, hollow=settings.hollow)
        style = settings.style
        if isinstance(body, RoutedBody):
            if body.swapPlatform not in ROUTERS:
                raise refuse("ValidationError", f"swapPlatform {body.swapPlatform!r}: use {sorted(ROUTERS)}")
            style = replace(style, router=ROUTERS[body.swapPlatform])
        blockhash, _ = self._chain.latest_blockhash("confirmed")
        if settings.stale_blockhash:
            # As good as one that has fallen out of the window: no node knows it any more.
            blockhash = Hash(hashlib.sha256(b"stale" + bytes(blockhash)).digest())
        rent = self._chain.svm.minimum_balance_for_rent_exemption(165)
        assembled = assemble(plan, index, body.jitoTipLamport, style, self._emulation, blockhash, rent)
        oracle = self._book.oracle_price(plan.market, now_ms)
        rates = self._listings.rates(plan.market.protocol, plan.market.token_a.symbol, now_ms)
        debt_rates = self._listings.rates(plan.market.protocol, "USDC", now_ms)
        build = described(
            plan,
            preview,
            assembled,
            body,
            oracle,
            rates.lending_apy,
            debt_rates.borrowing_apy,
            update_type,
            percentage,
        )
        if settings.empty:
            build.response["signedTxs"] = []
        return build

    def _with_target(self, build: Build, body: LeverageBody) -> Build:
        build.response["targetLeverage"] = body.targetLeverage
        return build


def _usdc(native: int) -> Decimal:
    return Decimal(native).scaleb(-USDC.decimals)


def _check_collateral(kind: int, mint: str, market: Market) -> None:
    """For a long, type 0 is the token that is held, 1 the token that is owed."""
    wanted = {COLLATERAL_TOKEN_A: market.token_a.mint, COLLATERAL_USDC: USDC_MINT}.get(kind)
    if wanted is None:
        raise refuse("CollateralTypeNotSupported", f"collateralType {kind}: use 0 or 1")
    if mint != str(wanted):
        raise refuse("CollateralMintMismatch", f"collateralMint {mint} does not match collateralType {kind}")
