"""What the account is, holds and was paid: mode, agent, margin, legs, fills, funding, ledger."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood, OperatorError, shown
from evenkeel.legs import FundingPayment, LegSide, LegView
from evenkeel.types import Fill, VenueName
from evenkeel.units import hour_of
from venues.hyperliquid import models as m
from venues.hyperliquid.client import HyperliquidClient
from venues.hyperliquid.equity import LIQUIDATION_PRICE, MAINTENANCE, READABLE_MODES, Equity
from venues.hyperliquid.margin import liquidation_distance, maintenance_rate, own_distance
from venues.hyperliquid.market import MarketData
from venues.hyperliquid.orders import to_fill
from venues.hyperliquid.signing import normal_address
from venues.perp import AccountSummary, AgentKey, Execution, LedgerUpdate
from venues.ratebudget import RateBudget
from venues.timing import VenueTime

MODE_TTL_MS = 60_000
_LEAST_EQUITY_USD = Decimal("0.01")


class HyperliquidAccount:
    """Reads of one account. `address` is the account that holds the positions, never an agent."""

    def __init__(self, client: HyperliquidClient, address: str, clock: Clock) -> None:
        self.client = client
        self.address = normal_address(address)
        self.clock = clock
        self.market = MarketData(client, clock)
        self._equity = Equity(client, self.address, clock)
        self.not_understood: dict[str, str] = {}
        """Positions that the last reading of all of them found and could not make sense of: coin and why."""

    @property
    def time(self) -> VenueTime:
        """The venue's clock, by the stamps of its answers."""
        return self.client.time

    @property
    def budget(self) -> RateBudget:
        """What requests to this venue are weighed by."""
        return self.client.budget

    @property
    def contradiction(self) -> str | None:
        """Why the account value of the last reading was not believed; None where it was."""
        return self._equity.contradiction

    async def mode(self, max_age_ms: int = 0) -> str:
        """Return the account's mode, whatever it is; a reading younger than `max_age_ms` will do."""
        return await self._equity.mode(max_age_ms)

    async def account_mode(self) -> str:
        """Return the abstraction mode. OperatorError unless it is one in which the equity can be read whole."""
        mode = await self.mode()
        if mode not in READABLE_MODES:
            raise OperatorError(
                f"Hyperliquid account {self.address} is in mode {mode!r}; its equity cannot be read whole. Sign "
                "userSetAbstraction('disabled') or ('unifiedAccount') with the master key, no agent can; with "
                "'disabled', then move USDC from spot to perpetuals with usdClassTransfer."
            )
        return mode

    async def agent_key(self, signer_address: str) -> AgentKey:
        """Return whether the signer is the account itself or an agent of it, and until when it is approved. Raises UNREAD, also
        for an agent whose end cannot be read: none lives for ever.
        """
        signer = normal_address(signer_address)
        if signer == self.address:
            return AgentKey(address=signer, approved=True)
        agents = await self.client.extra_agents(self.address)
        ends = [one.valid_until for one in agents if one.address.lower() == signer]
        if not ends:
            return AgentKey(address=signer, approved=False)
        known = [one for one in ends if one is not None]
        if len(known) < len(ends):
            raise _odd(f"extraAgents: validUntil of {signer}")
        return AgentKey(address=signer, approved=True, until_ms=min(known))

    async def check_agent(self, signer_address: str) -> None:
        """Raise OperatorError unless the signer is the account itself or an agent that it approved and that has not
        expired.
        """
        signer = normal_address(signer_address)
        if signer == self.address:
            return
        for agent in await self.client.extra_agents(self.address):
            if agent.address.lower() == signer:
                if agent.valid_until is not None and agent.valid_until <= self.clock.now_ms():
                    raise OperatorError(
                        f"Hyperliquid agent {signer} of {self.address} expired at {agent.valid_until} ms. "
                        "Approve a new agent with the master key."
                    )
                return
        raise OperatorError(
            f"Hyperliquid key {signer} is neither the account {self.address} nor a living named agent of it. "
            "Check the account address in the settings, or approve the key as an agent under a name."
        )

    async def account(self) -> AccountSummary:
        """Return the account's margin now. Raises NotUnderstood where a figure of it cannot be read."""
        await self.mode(MODE_TTL_MS)
        state = await self.client.clearinghouse_state(self.address)
        whole, cross = state.margin_summary, state.cross_margin_summary
        if whole is None or cross is None or cross.total_margin_used is None:
            raise _odd("clearinghouseState: the margin summary")
        value = await self._equity.of(state)
        return AccountSummary(
            account=self.address,
            account_value_usd=value + whole.account_value - cross.account_value,
            free_margin_usd=max(Decimal(0), value - cross.total_margin_used),
            total_notional_usd=whole.total_ntl_pos,
            maintenance_usd=state.cross_maintenance_margin_used,
            observed_ms=state.time or self.clock.now_ms(),
        )

    async def legs(self) -> list[LegView]:
        """Return every perpetual position of the account that can be read, ours or not; one that cannot be is named in
        `not_understood`. Equity of a cross position is the whole cross account: keep a carry short alone in its account.
        """
        state = await self.client.clearinghouse_state(self.address)
        found, odd = [], {coin or "a row without a coin": "cannot be read" for coin in state.lost}
        for coin in dict.fromkeys(row.position.coin for row in state.asset_positions):
            try:
                if (held := state.position(coin)) is not None:
                    found.append(await self._leg(held, state))
            except NotUnderstood as why:
                odd[coin] = why.reason
        self.not_understood = odd
        return found

    async def leg(self, coin: str) -> LegView | None:
        """Return the position in one coin as the venue shows it now, None where there is none. Raises NotUnderstood where
        it cannot be read; what another coin's row says does not matter.
        """
        state = await self.client.clearinghouse_state(self.address)
        held = state.position(coin)
        return None if held is None else await self._leg(held, state)

    async def _leg(self, held: m.WirePosition, state: m.WireClearinghouseState) -> LegView:
        """Leverage is notional over equity; an account without equity counts as one cent, so that it reads as enormous."""
        is_short, mark_px, notional = held.szi < 0, held.mark_px, held.position_value
        if mark_px is None or notional is None or mark_px <= 0:
            raise _odd(f"clearinghouseState: positionValue of {held.coin}")
        equity = await self._equity_behind(held, state)
        distance = liquidation_px = None
        doubted = self._equity.doubted if held.mode == "cross" else None
        if held.liquidation_px is not None and held.liquidation_px > 0 and doubted != LIQUIDATION_PRICE:
            liquidation_px = held.liquidation_px
            distance = liquidation_distance(is_short=is_short, mark_px=mark_px, liquidation_px=liquidation_px)
        return LegView(
            venue=VenueName.HYPERLIQUID,
            side=LegSide.SHORT if is_short else LegSide.LONG,
            ref=held.coin,
            asset=held.coin,
            qty=abs(held.szi),
            exposure_sol=held.szi if held.coin == "SOL" else Decimal(0),
            price_usd=mark_px,
            notional_usd=notional,
            equity_usd=equity,
            leverage=notional / max(equity, _LEAST_EQUITY_USD),
            liquidation_price_usd=liquidation_px,
            liquidation_distance=distance,
            own_liquidation_distance=_own_distance(
                held,
                equity,
                notional,
                None if doubted == MAINTENANCE else state.cross_maintenance_margin_used,
            ),
            entry_price_usd=held.entry_px,
            observed_ms=state.time or self.clock.now_ms(),
        )

    async def _equity_behind(self, held: m.WirePosition, state: m.WireClearinghouseState) -> Decimal:
        """The equity behind a position by its margin mode. Raises NotUnderstood for a mode that we do not know."""
        mode = held.leverage.type if held.leverage else None
        if mode == "isolated" and held.margin_used is not None:
            return held.margin_used
        if mode == "cross":
            return await self._equity.of(state)
        raise _odd(f"clearinghouseState: the margin of {held.coin}, in mode {shown(mode)}")

    async def fills(self, since_ms: int, until_ms: int | None = None) -> list[Fill]:
        """Return fills on perpetuals in [since, until], oldest first, whoever placed the order (also
        liquidations).
        """
        return [one.fill for one in await self.executions(since_ms, until_ms)]

    async def executions(self, since_ms: int, until_ms: int | None = None) -> list[Execution]:
        """Return the same fills with what distinguishes those of orders from those that the venue made by itself."""
        rows = await self.client.user_fills_by_time(self.address, since_ms, until_ms)
        return [
            Execution(
                fill=to_fill(row), start_position=row.start_position, forced=row.forced_on(self.address)
            )
            for row in rows
            if is_perpetual(row.coin)
        ]

    async def funding_payments(self, since_ms: int, until_ms: int | None = None) -> list[FundingPayment]:
        """Return the hourly settlements on every coin in [since, until], oldest first; `usdc` > 0 was received."""
        rows = await self.client.user_funding(self.address, since_ms, until_ms)
        return [to_payment(self.address, row) for row in rows if row.delta.type == "funding"]

    async def non_funding_ledger(self, since_ms: int, until_ms: int | None = None) -> list[LedgerUpdate]:
        """Return deposits, withdrawals and transfers in [since, until], oldest first."""
        rows = await self.client.non_funding_ledger(self.address, since_ms, until_ms)
        return [
            LedgerUpdate(
                time_ms=row.time,
                tx_hash=row.hash,
                kind=str(row.delta.get("type", "")),
                usdc=row.usdc,
                delta=row.delta,
            )
            for row in rows
        ]


def is_perpetual(coin: str) -> bool:
    """Whether a fill in this coin is of the venue's own perpetuals: pairs of spot tokens are called `@107` or `PURR/USDC`,
    perpetuals of other builders `dex:COIN`.
    """
    return not coin.startswith("@") and "/" not in coin and ":" not in coin


def to_payment(account: str, row: m.WireUserFunding) -> FundingPayment:
    """Return the payment of a wire row. `usdc = -szi * oracle * rate`: a short (szi < 0) receives while the rate is
    positive. Keyed by the full hour, because settlements are stamped some milliseconds, rarely minutes, beside it.
    """
    return FundingPayment(
        venue=VenueName.HYPERLIQUID,
        account=account,
        coin=row.delta.coin,
        hour_ms=hour_of(row.time),
        time_ms=row.time,
        usdc=row.delta.usdc,
        position_size=row.delta.szi,
        funding_rate_hourly=row.delta.funding_rate,
    )


def _odd(what: str) -> NotUnderstood:
    return NotUnderstood(VenueName.HYPERLIQUID, what)


def _own_distance(
    held: m.WirePosition, equity_usd: Decimal, notional_usd: Decimal, required_usd: Decimal | None
) -> Decimal:
    """Our own liquidation distance, from equity and the tier's maintenance rate. `required_usd` is the whole account's."""
    rate, deduction = maintenance_rate(held.max_leverage, notional_usd)
    own_usd = rate * notional_usd - deduction
    is_cross = held.leverage is not None and held.leverage.type == "cross"
    others_usd = required_usd - own_usd if is_cross and required_usd is not None else Decimal(0)
    return own_distance(
        is_short=held.szi < 0,
        equity_usd=equity_usd,
        others_usd=max(Decimal(0), others_usd),
        notional_usd=notional_usd,
        max_leverage=held.max_leverage,
    )
