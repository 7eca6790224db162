"""What a closing left behind: closed is what the chain shows as empty. The rest stays a leg, or is booked and alerted."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import UNREAD
from evenkeel.legs import LegSide
from state.carry.models import LegStatus, Position
from state.models import Fence
from state.watch_models import Severity
from tasks.carry.books.external_long import BEHIND_MS, holding_of
from tasks.carry.books.recovery import DUST_USD
from tasks.carry.desk import CarryDesk
from venues.asgard.on_chain import StillOnChain
from venues.asgard.venue import WalletBalances

WALLET_USD = Decimal(1)
"""What is worth less in the wallet is rounding, rent or a rebate."""
AGAIN_S = 2.0
LEFT_OVER = "left over"
"""The alert of a close that landed and left something on the lender, or in the wallet."""


async def reopen_what_is_left(desk: CarryDesk, position: Position, price_usd: Decimal, fence: Fence) -> str:
    """Read the lender. What still stands there is a leg again, with an alert; the answer says what, or nothing.

    Asgard reads the chain through servers of its own: what it shows counts once it has shown it for a minute, and that it
    shows nothing once the position's own account holds nothing either. `price_usd` is that of one token. Raises UNREAD.
    """
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None or leg.is_open:
        return ""
    until_ms = desk.clock.now_ms() + BEHIND_MS
    while True:
        try:
            held = holding_of(await desk.long.live(int(leg.protocol or 0), leg.ref))
        except StillOnChain:
            if desk.clock.now_ms() >= until_ms:
                raise
        else:
            if held.tokens * price_usd < DUST_USD:
                return ""
            if desk.clock.now_ms() >= until_ms:
                break
        await desk.clock.sleep(AGAIN_S)
    text = (
        f"the close of {position.position_id} left {held.tokens:f} {leg.asset} and {held.debt_usd:f} USD of debt in "
        f"lending position {leg.ref}: it is a leg again, and is closed again"
    )
    again = leg.model_copy(update={"qty": held.tokens, "status": LegStatus.OPEN, "closed_ms": None})
    desk.store.carry.put_leg(again, fence=fence)
    desk.store.alert(LEFT_OVER, Severity.CRITICAL, text, subject=position.position_id, news=True)
    return text


async def wallet_tokens(desk: CarryDesk, asset: str) -> dict[str, Decimal] | None:
    """What the wallet holds of the asset and of wrapped SOL; None where that cannot be read now."""
    try:
        return await desk.long.wallet_tokens(asset)
    except UNREAD:
        return None


def alert_wallet(
    desk: CarryDesk,
    position: Position,
    wallet: WalletBalances,
    tokens: dict[str, Decimal] | None,
    price_usd: Decimal,
) -> None:
    """Alert what came into the wallet beside what our transactions explain: tokens that a close did not sell, USDC that
    no booked change paid out.
    """
    before = position.facts.get("before", {})
    found = []
    known = before.get("wallet_tokens")
    for symbol, now in (tokens or {}).items():
        more = now - Decimal(known[symbol]) if known and symbol in known else Decimal(0)
        if more * price_usd >= WALLET_USD:
            found.append(f"{more:f} {symbol if symbol == position.asset else 'wrapped SOL'}")
    if "wallet_usdc" in before:
        more = wallet.usdc - Decimal(before["wallet_usdc"]) - _paid_out(desk, int(before["at_ms"]))
        if more >= WALLET_USD:
            found.append(f"{more:f} USDC more than our transactions explain")
    if found:
        text = f"after {position.position_id} the wallet {desk.long.wallet} holds {', '.join(found)}"
        desk.store.alert(LEFT_OVER, Severity.WARNING, text, subject=position.position_id, news=True)


def _paid_out(desk: CarryDesk, since_ms: int) -> Decimal:
    """USDC that all transactions of ours brought into the wallet since then."""
    total = Decimal(0)
    for position in desk.store.carry.positions():
        if position.closed_ms is None or position.closed_ms >= since_ms:
            rows = desk.store.carry.lending_changes(position.position_id)
            total += sum((row.wallet_usdc_delta for row in rows if row.at_ms >= since_ms), Decimal(0))
    return total
