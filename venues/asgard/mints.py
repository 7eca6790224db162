"""The tokens we trade through Asgard, their mints and decimals, and where an LST's redemption value is kept
on chain.

Mints have been published wrongly, once as another valid key (docs/deviations.md, row 8): the table is therefore
compared with the chain and with `/token-metadata` before it is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

SPL_STAKE_POOL_PROGRAM = "SPoo1Ku8WFXoNDMHPsrGSTSG1Y47rzgn41SLUNakuHy"
SANCTUM_MULTI_PROGRAM = "SPMBzsVUuoHA4Jm6KunbsotaahvVikZs1JyTW6iJvbn"
INFINITY_PROGRAM = "5ocnV1qiCgaQR8Jb8xWnVbApfaygJ8tNoZfgPwsgx9kx"


@dataclass(frozen=True, slots=True)
class Token:
    """`pool` and `pool_program` are set for LSTs: the account that states their redemption value, and its
    owner.
    """

    symbol: str
    mint: str
    decimals: int
    pool: str | None = None
    pool_program: str | None = None

    @property
    def is_lst(self) -> bool:
        return self.pool is not None


SOL = Token("SOL", "So11111111111111111111111111111111111111112", 9)
USDC = Token("USDC", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", 6)
JITOSOL = Token(
    "jitoSOL",
    "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn",
    9,
    "Jito4APyf642JPZPx3hGc6WWJ8zPKtRbRs4P815Awbb",
    SPL_STAKE_POOL_PROGRAM,
)
JUPSOL = Token(
    "jupSOL",
    "jupSoLaHXQiZZTSfEWMTRRgpnyFm8f6sZdosWBjx93v",
    9,
    "8VpRhuxa7sUUepdY3kQiTmX9rS5vx4WgaXiAnXq4KCtr",
    SANCTUM_MULTI_PROGRAM,
)
INF = Token(
    "INF",
    "5oVNBeEEQvYi1cX3ir8Dx5n1P7pdxydbGF2X4TxVusJm",
    9,
    "AYhux5gJzCoeoc1PoJ1VxwPDe22RwcvpHviLDD1oCGvW",
    INFINITY_PROGRAM,
)

TOKENS = {token.symbol: token for token in (SOL, JITOSOL, JUPSOL, INF, USDC)}
LONG_ASSETS = ("SOL", "jitoSOL", "jupSOL", "INF")
BY_MINT = {token.mint: token for token in TOKENS.values()}


def token(symbol: str) -> Token:
    """Return the token of this symbol. Raises `KeyError` for one we do not know."""
    return TOKENS[symbol]
