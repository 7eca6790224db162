"""What hedging trades with: the desk, one broker, the chain's reader, and the rules of each symbol."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from evenkeel.errors import UNREAD, OperatorError
from evenkeel.settings.hedging import HedgedSymbol, Hedging
from state.hedging.store import HEDGING
from strategy.hedging.decision import HedgeRules
from strategy.hedging.sessions import new_york_day
from tasks.desk import Desk
from tasks.hedging.schwab_login import SchwabLogin
from venues.alpaca.updates import TradeUpdates
from venues.broker import Broker, BrokerAsset, BrokerCapabilities
from venues.evm.heads import NewBlocks
from venues.raindex.reader import RaindexReader
from venues.raindex.types import Market

NO_ANSWER = (*UNREAD, OperatorError)
"""What a reading of the broker may raise: an outage, a refusal, or a login that is over. None of it ends a pass."""
LEAST_THRESHOLD_USD = Decimal(2)
WHOLE_SHARE = Decimal(1)


@dataclass
class HedgingDesk:
    """`account` is the broker's account in the words of the settings; the lease carries its name."""

    desk: Desk
    broker: Broker
    reader: RaindexReader
    settings: Hedging
    account: str
    assets: dict[str, tuple[date, BrokerAsset]] = field(default_factory=dict)
    """By symbol, what the broker says of it, and on which day it did."""
    login: SchwabLogin | None = None
    """Where the broker wants one that ends."""
    blocks: NewBlocks | None = None
    """Of the node, where the settings name its stream. Nothing is open before somebody listens (`running/waking.py`)."""
    updates: TradeUpdates | None = None
    """Of the broker's orders, where it pushes them."""
    heard: set[str] = field(default_factory=set)
    """Client order ids of which the broker has pushed something since they were asked about; "" for all of them."""

    seen_ms: int = 0
    """When the broker's list was last seen to have no order of another ledger's (`running/sole.py`); 0: never."""
    seen_keys: set[str] = field(default_factory=set)
    """Client order ids of ours in it then."""

    @property
    def streams(self) -> dict[str, NewBlocks | TradeUpdates]:
        """What wakes a pass early, by name."""
        found = {"node": self.blocks, "broker": self.updates}
        return {name: one for name, one in found.items() if one is not None}

    @property
    def lease(self) -> str:
        """The name of the right to hedge in this account."""
        return f"{HEDGING}:{self.broker.name}:{self.account}"

    @property
    def chain(self) -> str:
        """The chain's name, as the ledger has it."""
        return self.reader.book.chain

    @property
    def contract(self) -> str:
        """The order book's address."""
        return self.reader.book.orderbook

    def rules(self, symbol: str, *, fractionable: bool | None = None) -> HedgeRules:
        """Return when and how a symbol of the settings is hedged at this broker: in whole shares where the broker has said so
        of it today, unless it is given here.
        """
        if fractionable is None:
            day, asset = self.assets.get(symbol, (None, None))
            is_of_today = day == new_york_day(self.desk.clock.now_ms())
            fractionable = asset is None or not is_of_today or asset.fractionable
        return rules_of(self.settings.symbols[symbol], self.broker.capabilities, fractionable=fractionable)


def rules_of(one: HedgedSymbol, can: BrokerCapabilities, *, fractionable: bool = True) -> HedgeRules:
    """Return the rules of a symbol: its own threshold, else a whole share or 2 USD, by what the broker takes."""
    decimals = can.decimals if can.fractional and fractionable else 0
    shares, usd = one.threshold_shares, one.threshold_usd
    if shares is None and usd is None:
        shares, usd = (None, LEAST_THRESHOLD_USD) if decimals else (WHOLE_SHARE, None)
    return HedgeRules(
        threshold_shares=shares,
        threshold_usd=usd,
        most_shares=one.most_shares,
        decimals=decimals,
        least_usd=can.least_usd,
    )


def markets_of(settings: Hedging) -> dict[str, Market]:
    """Return the tokens that are read, by address."""
    return {
        one.token: Market(symbol, "erc4626" if one.wrapped else None, one.decimals)
        for symbol, one in settings.symbols.items()
    }
