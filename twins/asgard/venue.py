"""What exists on the twin's Asgard: tokens, programs, lending protocols, their risk parameters, and the four
markets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache

from solders.pubkey import Pubkey
from solders.token.associated import get_associated_token_address

LONG = 0
COLLATERAL_TOKEN_A = 0
COLLATERAL_USDC = 1

USDC_MINT = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
WSOL_MINT = Pubkey.from_string("So11111111111111111111111111111111111111112")
TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
ATA_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
SYSTEM_PROGRAM = Pubkey.from_string("11111111111111111111111111111111")
MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
JUPITER = Pubkey.from_string("JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4")
DFLOW = Pubkey.from_string("DF1ow4tspfHX9JwWJsAb9epbkA8hmpSEAtxXy1V27QBH")
ROUTERS = {"jupiter": JUPITER, "dflow": DFLOW}
INSTRUCTIONS_SYSVAR = Pubkey.from_string("Sysvar1nstructions1111111111111111111111111")
RENT_SYSVAR = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
TIP_ACCOUNTS = tuple(
    Pubkey.from_string(key)
    for key in (
        "96gYZGLnJYVFmbjzopPSU6QiEV5fGqZNyN9nmNhvrZU5",
        "HFqU5x63VTqvQss8hp11i4wVV8bD44PvwucfZ2bU7gRe",
        "Cw8CFyM9FkoMi7K7Crf6HNQqf4uEMzpKw6QNghXLvLkY",
        "ADaUMid9yfUytqMBgopwjb2DTLSokTSzL1zt6iGPaS49",
        "DfXygSm4jCyNCybVYYK6DwvWqjKee8pbDmJGcLWNDXjh",
        "ADuUkR4vqLUMWXxW9gh6D6L8pMSawimctcNZ5pGwDcEt",
        "DttWaMuVvTiduZRnguLF7jNxTgiMBZ1hyAumKUiL2KRL",
        "3AVi9Tg9Uo68tJfuvoKvqKNWKkC5wPdSSdeBnizKZ6jT",
    )
)
USDC_DECIMALS = 6
TOKEN_DECIMALS = 9

PROTOCOL_FEE_BPS = 15
"""Asgard's own fee on the USDC that buys token A; nothing on sells. Taken as the router's platform fee."""
DEX_FEE_BPS = Decimal(2)


@cache
def derive(program: Pubkey, *seeds: str | bytes | Pubkey) -> Pubkey:
    """Return a program derived address; the twin's own stand-ins for markets, reserves and vaults come from it."""
    parts = [seed.encode() if isinstance(seed, str) else bytes(seed) for seed in seeds]
    return Pubkey.find_program_address(parts, program)[0]


FEE_OWNER = derive(JUPITER, "asgard-fees")
POOL_OWNER = derive(JUPITER, "pool-authority")
FEE_ACCOUNT = get_associated_token_address(FEE_OWNER, USDC_MINT)
"""Asgard's own, which its platform fee is paid into."""


@dataclass(frozen=True)
class Token:
    symbol: str
    name: str
    mint: Pubkey
    decimals: int

    @property
    def unit(self) -> Decimal:
        """One base unit in whole tokens."""
        return Decimal(1).scaleb(-self.decimals)


USDC = Token("USDC", "USD Coin", USDC_MINT, USDC_DECIMALS)
SOL = Token("SOL", "Wrapped SOL", WSOL_MINT, TOKEN_DECIMALS)
JITOSOL = Token(
    "jitoSOL",
    "Jito Staked SOL",
    Pubkey.from_string("J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn"),
    TOKEN_DECIMALS,
)
JUPSOL = Token(
    "jupSOL",
    "Jupiter Staked SOL",
    Pubkey.from_string("jupSoLaHXQiZZTSfEWMTRRgpnyFm8f6sZdosWBjx93v"),
    TOKEN_DECIMALS,
)
INF = Token(
    "INF", "Infinity", Pubkey.from_string("5oVNBeEEQvYi1cX3ir8Dx5n1P7pdxydbGF2X4TxVusJm"), TOKEN_DECIMALS
)
TOKENS_A = (SOL, JITOSOL, JUPSOL, INF)
TOKENS = (*TOKENS_A, USDC)


@dataclass(frozen=True)
class Risk:
    """Max LTV at opening, liquidation threshold, and the liquidator's bonus; fractions."""

    max_ltv: Decimal
    threshold: Decimal
    penalty: Decimal

    @property
    def max_leverage(self) -> Decimal:
        return 1 / (1 - self.max_ltv)


def _risk(max_ltv: str, threshold: str, penalty: str) -> Risk:
    return Risk(Decimal(max_ltv), Decimal(threshold), Decimal(penalty))


@dataclass(frozen=True)
class Protocol:
    """A lending protocol. `stake_rate_oracle`: LSTs count at redemption value, not at market (fact sheet
    6.1).
    """

    id: int
    name: str
    program: Pubkey
    resizable: bool
    stake_rate_oracle: bool
    risk: dict[str, Risk] = field(default_factory=dict)

    @property
    def market(self) -> Pubkey:
        return derive(self.program, "market")

    @property
    def authority(self) -> Pubkey:
        """Owner of the vaults."""
        return derive(self.program, "lma", self.market)

    def bank(self, token: Token) -> Pubkey:
        return derive(self.program, "bank", self.market, token.mint)

    def collateral_mint(self, token: Token) -> Pubkey:
        return derive(self.program, "ctoken", self.market, token.mint)

    def oracle(self, token: Token) -> Pubkey:
        return derive(self.program, "oracle", token.mint)


MARGINFI = Protocol(
    0,
    "MARGINFI",
    Pubkey.from_string("MFv2hWf31Z9kbCa1snEPYctwafyhdvnV7FZnsebVacA"),
    resizable=False,
    stake_rate_oracle=False,
    risk={
        "SOL": _risk("0.76", "0.82", "0.05"),
        "jitoSOL": _risk("0.72", "0.79", "0.05"),
        "jupSOL": _risk("0.70", "0.77", "0.05"),
        "INF": _risk("0.68", "0.76", "0.05"),
    },
)
KAMINO = Protocol(
    1,
    "KAMINO",
    Pubkey.from_string("KLend2g3cP87fffoy8q1mQqGKjrxjC8boSyAYavgmjD"),
    resizable=True,
    stake_rate_oracle=True,
    risk={
        "SOL": _risk("0.74", "0.80", "0.02"),
        "jitoSOL": _risk("0.72", "0.78", "0.02"),
        "jupSOL": _risk("0.70", "0.77", "0.02"),
        "INF": _risk("0.69", "0.76", "0.02"),
    },
)
SOLEND = Protocol(
    2,
    "SOLEND",
    Pubkey.from_string("So1endDq2YkqhipRh3WViPa8hdiSpxWy6z3Z6tMCpAo"),
    resizable=False,
    stake_rate_oracle=False,
    risk={
        "SOL": _risk("0.752", "0.85", "0.05"),
        "jitoSOL": _risk("0.72", "0.80", "0.05"),
        "jupSOL": _risk("0.70", "0.78", "0.05"),
        "INF": _risk("0.68", "0.76", "0.05"),
    },
)
DRIFT = Protocol(
    3,
    "DRIFT",
    Pubkey.from_string("dRiftyHA39MWEi3m9aunc5MzRF1JYuBsbn6VPcn33UH"),
    resizable=True,
    stake_rate_oracle=False,
    risk={token.symbol: _risk("0.70", "0.78", "0.05") for token in TOKENS_A},
)
PROTOCOLS = {protocol.id: protocol for protocol in (MARGINFI, KAMINO, SOLEND, DRIFT)}
LIVE_PROTOCOLS = (MARGINFI, KAMINO, SOLEND)


@dataclass(frozen=True)
class Market:
    """One token A against USDC at one protocol."""

    protocol: Protocol
    token_a: Token

    @property
    def risk(self) -> Risk:
        return self.protocol.risk[self.token_a.symbol]


def market_of_banks(protocol: Protocol, bank_a: str, bank_b: str) -> Market | None:
    """Return the market whose token A and USDC banks these are."""
    for token in TOKENS_A:
        if bank_a == str(protocol.bank(token)) and bank_b == str(protocol.bank(USDC)):
            return Market(protocol, token)
    return None


CAPACITIES: dict[str, tuple[str, str]] = {
    # token: (deposit, borrow) in whole tokens; with and without decimals, as the real service mixes them.
    "SOL": ("250000", "48000.5"),
    "jitoSOL": ("120000.75", "0"),
    "jupSOL": ("60000", "0"),
    "INF": ("40000", "0"),
    "USDC": ("9500000", "3656191.18"),
}
