"""Managed accounts: Ostium's chain and contracts, Hyperliquid's agents, keys, and what is charged. Off until switched on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from evenkeel.settings.pages import is_loopback
from evenkeel.settings.section import Section

ADDRESS = r"^(0x[0-9a-fA-F]{40})?$"


class Network(NamedTuple):
    """A chain and the venue's addresses on it (its SDK 3.3.1)."""

    chain_id: int
    trading: str
    storage: str
    usdc: str


NETWORKS = {
    "arbitrum": Network(
        42_161,
        "0x6d0ba1f9996dbd8885827e1b2e8f6593e7702411",
        "0xccd5891083a8acd2074690f65d3024e7d13d66e7",
        "0xaf88d065e77c8cc2239327c5edb3a432268e5831",
    ),
    "sepolia": Network(
        421_614,
        "0x2a9b9c988393f46a2537b0ff11e98c2c15a95afe",
        "0x0b9f5243b29938668c9cfbd7557a389ec7ef88b8",
        "0xe73b11fb1e3eeee8af2a23079a4410fe1b370548",
    ),
}


class Ostium(Section):
    """The venue of managed accounts. Addresses are the network's where they are empty."""

    enabled: bool = False
    network: Literal["arbitrum", "sepolia"] = "sepolia"
    rpc_url: str = "https://sepolia-rollup.arbitrum.io/rpc"
    second_rpc_url: str = ""
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    requests_per_minute: float = Field(default=600.0, gt=0, le=1_000_000)
    prices_url: str = "https://metadata-backend.prod.bedrock.ostium.io"
    subgraph_url: str = ""
    """Compared with the books by the watch, which never books from it; empty: nothing is compared."""
    trading: str = Field(default="", pattern=ADDRESS)
    storage: str = Field(default="", pattern=ADDRESS)
    usdc: str = Field(default="", pattern=ADDRESS)
    confirmations: int = Field(default=12, ge=1, le=1_000)
    """Blocks on top of the one that says it, from which on the chain's word is final."""
    cutoff: str = "latest-12"
    """Up to where logs are read: latest-N, safe or finalized."""
    start_block: int = Field(default=0, ge=0, le=10**12)
    """From where on logs are read when the ledger has none yet."""
    most_gas_gwei: Decimal = Field(default=Decimal("0.5"), gt=0, le=100)
    most_price_deviation: Decimal = Field(default=Decimal("0.01"), gt=0, le=Decimal("0.2"))
    """Of an opening's price from the second source's."""
    markets: dict[int, str] = Field(default={0: "BTC/USD", 1: "ETH/USD", 9: "SOL/USD"})
    """By the venue's number. An opening needs a second price: Hyperliquid's of the same coin."""
    key_file: Path | None = None

    @field_validator("trading", "storage", "usdc")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()

    @property
    def at(self) -> Network:
        """The chain and the addresses that are meant."""
        known = NETWORKS[self.network]
        return Network(
            known.chain_id,
            self.trading or known.trading,
            self.storage or known.storage,
            self.usdc or known.usdc,
        )


class Agents(Section):
    """Users' accounts on Hyperliquid, guarded by an agent of each. The venue's address and its limits are [hyperliquid]'s."""

    enabled: bool = False
    key_file: Path | None = None
    """Out of it the key of each user's agent is made: the venue binds an agent to one account."""
    agent_name: str = Field(default="evenkeel", pattern=r"^[a-z][a-z0-9-]{1,15}$")
    """Under which name users approve it: the venue lists named agents alone."""
    weight_per_tick: float = Field(default=300.0, ge=50, le=500)
    """Of the venue's 1,200 a minute: what the watch reads of accounts in 30 s, in turns."""
    stop_slippage: Decimal = Field(default=Decimal("0.10"), ge=Decimal("0.005"), le=Decimal("0.5"))
    """Of a stop's price: how far beyond it the order that it becomes may fill."""
    close_slippage_bps: int = Field(default=100, ge=1, le=1_000)
    """Of an order that closes in the place of a stop which the market has passed already."""


class Collector(Section):
    """What is charged, and by which key it is pulled. Without a platform wallet nothing is activated."""

    platform_wallet: str = Field(default="", pattern=ADDRESS)
    share: Decimal = Field(default=Decimal("0.10"), ge=0, le=Decimal("0.5"))
    fee_model: Literal["PROFIT_SHARE", "HIGH_WATER"] = "PROFIT_SHARE"
    most_usdc: Decimal = Field(default=Decimal(1_000), gt=0, le=1_000_000)
    """Of one pull."""
    key_file: Path | None = None

    @field_validator("platform_wallet")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()

    @model_validator(mode="after")
    def _not_nobody(self) -> Self:
        if self.platform_wallet == "0x" + "0" * 40:
            raise ValueError("platform_wallet is nobody's address")
        return self


class Service(Section):
    """Where `evenkeel accounts serve` listens, and the address by which others ask it."""

    host: str = "127.0.0.1"
    """Loopback, unless a proxy with TLS stands in front of it: then `url` says by which address it is asked."""
    port: int = Field(default=5002, ge=1, le=65_535)
    url: str = Field(default="", pattern=r"^(https?://[^/?#@\s]+)?/?$")
    """By which clients and browsers ask it; empty: host and port. A request that names any other host is refused."""
    wait_s: float = Field(default=20.0, ge=1, le=120)
    """How long an order's answer waits for the keeper."""
    session_minutes: int = Field(default=60, ge=5, le=1_440)
    """How long a wallet that signed in on the page may act."""

    @model_validator(mode="after")
    def _is_behind_tls(self) -> Self:
        if not is_loopback(self.host) and not self.url.startswith("https://"):
            raise ValueError(
                f"service.host is {self.host}: only loopback (127.0.0.1) is served without TLS; put a proxy with TLS in "
                "front and name its address in service.url"
            )
        return self

    @property
    def address(self) -> str:
        """Where it is asked, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def name(self) -> str:
        """The host that `address` names."""
        return urlsplit(self.address).hostname or self.host
