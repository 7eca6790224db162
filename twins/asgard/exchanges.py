"""Every kind of exchange that Jupiter's program routes through, with the arguments of a step as its data carry them.

The order is the program's own (`Swap` of the interface published with carbon's decoder of April 2026, 114 kinds; those
behind it from later programs that talk to it): the number of a kind is its place here. Arguments are written as letters:
b one byte (a direction, a side, a flag or an index), I four bytes, Q eight, O sixteen; `R` a list of remaining accounts
(here one entry), `?R` the same, optional (here absent), `C` a list of candidate swaps (here one of each kind), `V` a list
of bytes (here four).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_TABLE = """
Saber SaberAddDecimalsDeposit SaberAddDecimalsWithdraw TokenSwap Sencha Step Cropper Raydium Crema:b Lifinity Mercurial
Cykura Serum:b MarinadeDeposit MarinadeUnstake Aldrin:b AldrinV2:b Whirlpool:b Invariant:b Meteora GooseFX DeltaFi:b
Balansol MarcoPolo:b Dradex:b LifinityV2 RaydiumClmm Openbook:b Phoenix:b Symmetry:QQ TokenSwapV2
HeliumTreasuryManagementRedeemV0 StakeDexStakeWrappedSol StakeDexSwapViaStake:I GooseFXV2 Perps PerpsAddLiquidity
PerpsRemoveLiquidity MeteoraDlmm OpenBookV2:b RaydiumClmmV2 StakeDexPrefundWithdrawStakeAndDepositStake:I Clone:bbb
SanctumS:bbII SanctumSAddLiquidity:bI SanctumSRemoveLiquidity:bI RaydiumCP WhirlpoolSwapV2:b?R OneIntro PumpWrappedBuy
PumpWrappedSell PerpsV2 PerpsV2AddLiquidity PerpsV2RemoveLiquidity MoonshotWrappedBuy MoonshotWrappedSell
StabbleStableSwap StabbleWeightedSwap Obric:b FoxBuyFromEstimatedCost FoxClaimPartial:b SolFi:b SolayerDelegateNoInit
SolayerUndelegateNoInit TokenMill:b DaosFunBuy DaosFunSell ZeroFi StakeDexWithdrawWrappedSol VirtualsBuy VirtualsSell
Perena:bb PumpSwapBuy PumpSwapSell Gamma MeteoraDlmmSwapV2:R Woofi MeteoraDammV2 MeteoraDynamicBondingCurveSwap
StabbleStableSwapV2 StabbleWeightedSwapV2 RaydiumLaunchlabBuy:Q RaydiumLaunchlabSell:Q BoopdotfunWrappedBuy
BoopdotfunWrappedSell Plasma:b GoonFi:bb HumidiFi:Qb MeteoraDynamicBondingCurveSwapWithRemainingAccounts TesseraV:b
PumpWrappedBuyV2 PumpWrappedSellV2 PumpSwapBuyV2 PumpSwapSellV2 Heaven:b SolFiV2:b Aquifer PumpWrappedBuyV3
PumpWrappedSellV3 PumpSwapBuyV3 PumpSwapSellV3 JupiterLendDeposit JupiterLendRedeem DefiTuna:b?R AlphaQ:b RaydiumV2
SarosDlmm:b Futarchy:b MeteoraDammV2WithRemainingAccounts Obsidian WhaleStreet:b DynamicV1:C PumpWrappedBuyV4
PumpWrappedSellV4
CarrotIssue CarrotRedeem Manifest:b BisonFi:b HumidiFiV2:Qb PerenaStar:b JupiterRfqV2:bV GoonFiV2:b Scorch:O
VaultLiquidUnstake:QQQQQQ XOrca Quantum:b WhaleStreetV2:bQQ
"""
_SIZES = {"b": 1, "I": 4, "Q": 8, "O": 16}
_REMAINING = struct.pack("<IBB", 1, 0, 2)
_CANDIDATES = struct.pack("<IBQBBB", 2, 0, 77, 1, 1, 0)


@dataclass(frozen=True)
class Exchange:
    """One kind: its number, its name, and the arguments that a step through it carries."""

    number: int
    name: str
    arguments: str

    def payload(self, a_to_b: bool) -> bytes:
        """Return the step's arguments; each direction, side and flag is `a_to_b`, each number one that fits anywhere."""
        text, data = self.arguments, b""
        while text:
            if text.startswith("?R"):
                data, text = data + b"\0", text[2:]
                continue
            letter, text = text[0], text[1:]
            if letter == "R":
                data += _REMAINING
            elif letter == "C":
                data += _CANDIDATES
            elif letter == "V":
                data += struct.pack("<I", 4) + b"fill"
            else:
                data += int(a_to_b).to_bytes(_SIZES[letter], "little")
        return data


EXCHANGES = {
    name: Exchange(number, name, arguments)
    for number, (name, _, arguments) in enumerate(entry.partition(":") for entry in _TABLE.split())
}
PUBLISHED = 114
"""So many kinds are in the published interface; those behind them are newer than it."""
