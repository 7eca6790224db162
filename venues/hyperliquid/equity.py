"""What the cross account is worth: by its margin, or, in a unified account, by the spot USDC that backs it; never by one
reading that another contradicts.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, NotUnderstood
from venues.hyperliquid import models as m
from venues.hyperliquid.client import HyperliquidClient
from venues.hyperliquid.margin import implied_equity, maintenance_rate
from venues.reading import Oddity

PLAIN_MODES = ("default", "disabled")
POOLED_MODES = ("unifiedAccount", "portfolioMargin")
READABLE_MODES = (*PLAIN_MODES, "unifiedAccount")
"""Modes in which the equity can be read whole. In `portfolioMargin` other tokens count as well, by figures that we lack."""
TOLERANCE = Decimal("0.05")
"""Share by which an account value may differ from what its own liquidation price speaks of."""
SOURCE = "hyperliquid clearinghouseState"
STANDS = Decimal("0.005")
"""Share by which a cross position's liquidation price moves while nothing but the mark does."""
LIQUIDATION_PRICE, MAINTENANCE = "liquidationPx", "crossMaintenanceMarginUsed"
RECENT_MS = 1_000
LEDGER_MS = 3_600_000
"""How far back a movement of money may lie that explains a value."""


class Equity:
    """Reads of one account's worth."""

    def __init__(self, client: HyperliquidClient, address: str, clock: Clock) -> None:
        self._client = client
        self._address = address
        self._clock = clock
        self._agreed_ms: int | None = None
        """When value and liquidation price last agreed: only what moved since explains that they do not."""
        self._agreed: tuple[Decimal, list[m.WirePosition]] | None = None
        """The value and the positions of that reading."""
        self._mode: tuple[int, str] | None = None
        self.contradiction: str | None = None
        """Why the account value of the last reading was not believed, or its liquidation price; None where both were."""
        self.doubted: str | None = None
        """The figure of the last reading that is not believed, by its name on the wire."""

    async def mode(self, max_age_ms: int = 0) -> str:
        """Return the account's mode; a reading younger than `max_age_ms` will do. Raises UNREAD."""
        now = self._clock.now_ms()
        if self._mode is None or now - self._mode[0] >= max_age_ms:
            self._mode = (now, await self._client.user_abstraction(self._address))
        return self._mode[1]

    async def of(self, state: m.WireClearinghouseState) -> Decimal:
        """Return the cross account's equity in USD. Raises UNREAD.

        In a pooled mode that is the spot USDC behind it (a lower bound where other tokens count too). A value that the
        venue's own liquidation price contradicts is believed only where the mode, or a movement of money, explains it;
        else the one that the liquidation price speaks of counts.
        """
        if state.cross_margin_summary is None:
            raise NotUnderstood("hyperliquid", "clearinghouseState: the margin summary")
        stated, self.contradiction = state.cross_margin_summary.account_value, None
        implied = _implied(state)
        contradicted = implied is not None and abs(stated - implied) > TOLERANCE * abs(implied) + 1
        self.doubted = None
        known = self._mode[1] if self._mode else ""
        if contradicted != (
            known in POOLED_MODES
        ):  # switched since it was last asked for, one way or the other
            known = await self.mode(RECENT_MS)
        if known in POOLED_MODES:
            spot = await self._client.spot_clearinghouse_state(self._address)
            return _pooled(state, spot.usdc, implied)
        if implied is None or not contradicted:
            self._agreed_ms = state.time or self._clock.now_ms()
            self._agreed = (stated, [row.position for row in state.asset_positions])
            return stated
        if self._agreed is not None and (jumped := _jumped_alone(*self._agreed, stated, state)):
            self._contradicted(
                jumped,
                f"Hyperliquid states a {jumped} that speaks of {implied:.2f} USD of equity, while its account value of "
                f"{stated:.2f} is what the positions make of the last one: that is believed",
            )
            return stated
        if await self._moved(implied - stated):
            return stated
        self._contradicted(
            "accountValue",
            f"Hyperliquid states an account value of {stated:.2f} USD, while its own liquidation price speaks of "
            f"{implied:.2f}, and no movement of money explains the difference",
        )
        return implied

    def _contradicted(self, field: str, why: str) -> None:
        """Note which figure of the last answer is not believed, and name it among what that answer has odd."""
        self.contradiction, self.doubted = why, field
        self._client.oddities.add(SOURCE, [Oddity(SOURCE, "margin", field, f"odd: {why}", lost=False)])

    async def _moved(self, gone_usd: Decimal) -> bool:
        """Whether money left the account (or came, below zero) that explains a difference. What cannot be asked does not."""
        since_ms = self._clock.now_ms() - LEDGER_MS if self._agreed_ms is None else self._agreed_ms
        try:
            rows = await self._client.non_funding_ledger(self._address, since_ms)
        except UNREAD:
            return False
        out_usd = Decimal(0)
        for row in rows:
            if row.usdc is not None:
                out_usd += -row.usdc if _comes_in(row.delta, self._address) else row.usdc
        return out_usd * (1 if gone_usd > 0 else -1) >= abs(gone_usd) * (1 - TOLERANCE)


def _jumped_alone(
    value_then: Decimal, then: list[m.WirePosition], stated: Decimal, state: m.WireClearinghouseState
) -> str | None:
    """Which figure jumped where sizes and entry prices stand as they stood, and the value has moved as the marks have: the
    liquidation price, or the maintenance where that stands too. None where it may be the value.
    """
    before = {one.coin: one for one in then}
    now = {row.position.coin: row.position for row in state.asset_positions}
    gained, price_stands = Decimal(0), True
    for coin in before | now:
        old, new = before.get(coin), now.get(coin)
        if old is None or new is None or (old.szi, old.entry_px) != (new.szi, new.entry_px):
            return None
        if old.mark_px is None or new.mark_px is None:
            return None
        gained += new.szi * (new.mark_px - old.mark_px)
        price_stands = price_stands and _stands(old.liquidation_px, new.liquidation_px)
    if abs(stated - value_then - gained) > TOLERANCE * abs(value_then) + 1:
        return None
    return MAINTENANCE if price_stands else LIQUIDATION_PRICE


def _stands(then: Decimal | None, now: Decimal | None) -> bool:
    return then == now if not then or now is None else abs(now / then - 1) <= STANDS


def _comes_in(delta: dict[str, Any], address: str) -> bool:
    return (
        delta.get("type") == "deposit"
        or bool(delta.get("toPerp"))
        or str(delta.get("destination", "")).lower() == address
    )


def _pooled(state: m.WireClearinghouseState, total_usd: Decimal, implied: Decimal | None) -> Decimal:
    """The cross equity behind a spot total. The venue does not say whether the total holds what is unrealised: of both
    readings the one counts that the liquidation price speaks of, and without one the smaller.
    """
    held = [row.position for row in state.asset_positions]
    isolated = [one.margin_used or Decimal(0) for one in held if one.mode == "isolated"]
    whole = total_usd - sum(isolated, Decimal(0))
    both = (whole, whole + sum((one.unrealized_pnl or Decimal(0) for one in held), Decimal(0)))
    return min(both) if implied is None else min(both, key=lambda one: abs(one - implied))


def _implied(state: m.WireClearinghouseState) -> Decimal | None:
    """The equity that the first liquidation price of a cross position speaks of; None where there is none."""
    required = state.cross_maintenance_margin_used
    for row in state.asset_positions:
        held = row.position
        mark_px, value = held.mark_px, held.position_value
        if (
            held.liquidation_px is None
            or held.liquidation_px <= 0
            or required is None
            or held.mode != "cross"
            or mark_px is None
            or value is None
        ):
            continue
        rate, _ = maintenance_rate(held.max_leverage, value)
        return implied_equity(
            is_short=held.szi < 0,
            mark_px=mark_px,
            liquidation_px=held.liquidation_px,
            qty=abs(held.szi),
            rate=rate,
            required_usd=required,
        )
    return None
