"""Hedged market making: the chain that is read, the broker that hedges, and each symbol. Off until it is switched on."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from evenkeel.settings.rebalancing import Rebalancing
from evenkeel.settings.section import Section

ADDRESS = r"^(0x[0-9a-fA-F]{40})?$"
CUTOFF = re.compile(r"safe|finalized|latest-[1-9][0-9]{0,5}")
SYMBOL = re.compile(r"[A-Z][A-Z0-9.\-]{0,11}")
BrokerName = Literal["alpaca", "alpaca-broker", "schwab", "dry-run"]
NOBODY = "0x" + "0" * 40
USDC = "USDC"


class HedgedChain(Section):
    """The chain and the order book. `cutoff` has no default: how far back a block must be is the operator's choice."""

    name: str = Field(default="base", min_length=1, max_length=32)
    chain_id: int = Field(default=8453, gt=0)
    rpc_url: str = "https://mainnet.base.org"
    second_rpc_url: str = ""
    ws_url: str = ""
    """Of a node that pushes new blocks, which wake a pass early; empty: none does."""
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    requests_per_minute: float = Field(default=600.0, gt=0, le=1_000_000)
    cutoff: str = ""
    """Up to where logs are read: latest-N, safe or finalized."""
    orderbook: str = Field(default="", pattern=ADDRESS)
    owner: str = Field(default="", pattern=ADDRESS)
    """Whose orders are hedged."""
    usdc: str = Field(default="0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", pattern=ADDRESS)
    start_block: int = Field(default=0, ge=0, le=10**12)
    """From where on the chain is read when the ledger has nothing of it yet."""
    window_blocks: int = Field(default=1_000, ge=1, le=100_000)
    windows_per_pass: int = Field(default=20, ge=1, le=10_000)

    @field_validator("orderbook", "owner", "usdc")
    @classmethod
    def _lower(cls, value: str) -> str:
        if value.lower() == NOBODY:
            raise ValueError("the zero address is nobody's")
        return value.lower()

    @field_validator("cutoff")
    @classmethod
    def _is_cutoff(cls, value: str) -> str:
        if value and not CUTOFF.fullmatch(value):
            raise ValueError("write latest-N (N at least 1), safe or finalized")
        return value


class AlpacaAccount(Section):
    """An account at Alpaca, by its own key or, with `account_id`, by a Broker's. The key and its secret come from
    EVENKEEL_ALPACA_KEY and EVENKEEL_ALPACA_SECRET, or from files.
    """

    url: str = "https://paper-api.alpaca.markets"
    data_url: str = "https://data.alpaca.markets"
    account_id: str = Field(default="", max_length=64)
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    requests_per_minute: float = Field(default=180.0, gt=0, le=100_000)
    token_url: str = ""
    """Of a Broker that signs in by client credentials: where id and secret are exchanged for a token; empty: they sign each
    call.
    """
    updates: bool = True
    """Whether updates of orders that it pushes wake a pass early."""
    key_file: Path | None = None
    secret_file: Path | None = None


class SchwabAccount(Section):
    """An account at Schwab. Key and secret of the app come from EVENKEEL_SCHWAB_KEY and EVENKEEL_SCHWAB_SECRET or from files,
    the key that seals the login from EVENKEEL_TOKEN_KEY or a file.
    """

    url: str = "https://api.schwabapi.com"
    redirect_uri: str = "https://127.0.0.1"
    account: str = Field(default="", pattern=r"^[0-9]{0,12}$")
    """The account's number, or the end of it."""
    timeout_s: float = Field(default=30.0, gt=0, le=50)
    requests_per_minute: float = Field(default=100.0, gt=0, le=10_000)
    key_file: Path | None = None
    secret_file: Path | None = None
    token_key_file: Path | None = None


class DryRun(Section):
    """What an account would have that takes every order and does nothing."""

    cash_usd: Decimal = Field(default=Decimal(1_000_000), ge=0, le=10**12)
    shares: Decimal = Field(default=Decimal(1_000_000), ge=0, le=10**12)
    """Of each symbol, before its first hedge."""


class HedgedSymbol(Section):
    """One stock: its token's address, when it is hedged, and the most of one order. Without a threshold: one share where the
    broker takes whole shares, 2 USD else.
    """

    token: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    wrapped: bool = False
    """The token is a share of an ERC-4626 wrapper: its ratio is read at each fill's block."""
    decimals: int = Field(default=18, ge=0, le=36)
    """Of a wrapper's token."""
    broker_symbol: str = ""
    """What the broker calls it, where that differs."""
    threshold_shares: Decimal | None = Field(default=None, gt=0)
    threshold_usd: Decimal | None = Field(default=None, gt=0)
    most_shares: Decimal = Field(gt=0, le=1_000_000)
    """Of one order."""

    @field_validator("token")
    @classmethod
    def _lower(cls, value: str) -> str:
        if value.lower() == NOBODY:
            raise ValueError("the zero address is nobody's")
        return value.lower()

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.threshold_shares is not None and self.threshold_usd is not None:
            raise ValueError("threshold_shares and threshold_usd contradict each other: set one")
        return self


class Hedging(Section):
    """Who hedges what, and how often."""

    enabled: bool = False
    broker: BrokerName = "dry-run"
    pass_interval_s: float = Field(default=5.0, ge=0.1, le=600)
    wake_pause_s: float = Field(default=1.0, ge=0.05, le=600)
    """Between two passes at least, however much node and broker push."""
    order_wait_s: float = Field(default=5.0, ge=0, le=60)
    """How long one pass asks about an order whose outcome is unknown."""
    most_slippage: Decimal = Field(default=Decimal("0.01"), ge=0, le=Decimal("0.2"))
    """What a buy may cost more than the last price, when it is held against the cash."""
    close_margin_s: int = Field(default=60, ge=0, le=3_600)
    """So long before the close no order leaves any more: it would wait overnight."""
    flatten_before_close_s: int = Field(default=0, ge=0, le=14_400)
    """So long before that, what is below the threshold is hedged too; 0: never."""
    alert_open_s: int = Field(default=300, ge=10, le=86_400)
    """An exposure above its threshold that is older than this in an open market is reported."""
    alert_silence_s: int = Field(default=60, ge=5, le=86_400)
    """No pass succeeded for so long in an open market."""
    chain: HedgedChain = HedgedChain()
    alpaca: AlpacaAccount = AlpacaAccount()
    schwab: SchwabAccount = SchwabAccount()
    dry_run: DryRun = DryRun()
    rebalance: Rebalancing = Rebalancing()
    symbols: dict[str, HedgedSymbol] = Field(default={})

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        chain, taken = self.chain, {self.chain.usdc: "chain.usdc"}
        if chain.orderbook:
            taken.setdefault(chain.orderbook, "chain.orderbook")
        for symbol, one in self.symbols.items():
            if not SYMBOL.fullmatch(symbol):
                raise ValueError(f"symbols.{symbol} is no symbol of a stock")
            if other := taken.get(one.token):
                raise ValueError(f"symbols.{symbol} and {other} have one address, {one.token}")
            taken[one.token] = f"symbols.{symbol}"
        names = [one.broker_symbol or symbol for symbol, one in self.symbols.items()]
        if twice := sorted({one for one in names if names.count(one) > 1}):
            raise ValueError(f"two symbols are {twice[0]} at the broker")
        if not self.enabled:
            return self
        for name in ("cutoff", "orderbook", "owner", "usdc"):
            if not getattr(chain, name):
                raise ValueError(f"chain.{name} is empty: hedging does not begin without it")
        if not self.symbols:
            raise ValueError("symbols is empty: name each stock with its token's address")
        if self.broker == "alpaca-broker" and not self.alpaca.account_id:
            raise ValueError("alpaca.account_id is empty: name the account that alpaca-broker trades for")
        if self.broker == "schwab" and not self.schwab.account:
            raise ValueError("schwab.account is empty: name the account by its number, or the end of it")
        if self.broker == "alpaca" and self.alpaca.account_id:
            raise ValueError("alpaca.account_id is of alpaca-broker, and broker is alpaca: remove one")
        if self.broker == "alpaca" and self.alpaca.token_url:
            raise ValueError("alpaca.token_url is of alpaca-broker, and broker is alpaca: remove one")
        return self._rebalances()

    def _rebalances(self) -> Self:
        """Refuse rebalancing that could not be carried out, before anything is proposed."""
        one = self.rebalance
        for name in ("vaults", "assets", "most_shares"):
            if unknown := sorted(set(getattr(one, name)) - set(self.symbols) - {USDC}):
                raise ValueError(f"rebalance.{name}.{unknown[0]} is no symbol of these settings")
        if not one.enabled:
            return self
        if self.broker != "alpaca-broker":
            raise ValueError(
                f"rebalance.enabled needs broker = alpaca-broker, and it is {self.broker}: no other moves shares and USDC"
            )
        if not one.vaults:
            raise ValueError(
                "rebalance.vaults is empty: name the vault of each symbol that is moved, and of USDC"
            )
        equities = sorted(set(one.vaults) - {USDC})
        if equities and not one.redemption_wallet:
            raise ValueError(
                "rebalance.redemption_wallet is empty: shares come back only where the issuer takes tokens"
            )
        for symbol in equities:
            if symbol not in one.most_shares:
                raise ValueError(f"rebalance.most_shares.{symbol} is missing: name the most of one move")
            if self.symbols[symbol].wrapped and symbol not in one.assets:
                raise ValueError(
                    f"rebalance.assets.{symbol} is missing: its token is wrapped, name the token inside"
                )
            if not self.symbols[symbol].wrapped and symbol in one.assets:
                raise ValueError(
                    f"rebalance.assets.{symbol} is of a wrapped token, and symbols.{symbol} is not wrapped: correct one"
                )
        if one.wallet_account == self.alpaca.account_id:
            raise ValueError("rebalance.wallet_account is the account that hedges: leave it empty")
        return self
