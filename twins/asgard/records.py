"""The rows of Asgard's database and the JSON shapes that clients see, all written down in one place.

Conventions: `...UI` fields are whole tokens as decimal strings (9 decimals for token A, 6 for USDC); `...USD`
are decimal strings; `inputAmount` and `outputAmount` are **base units** as JSON integers (their unit is
undocumented by the vendor); `...Apy` are JSON numbers, fractions, compounded yearly rates; times (`openedAt`,
`closedAt`, `timestamp`) are ISO 8601 UTC.

**Executed metadata** (`onChainExecutedMetadata`, one per landed transaction):

    {"inputMint", "outputMint", "inputAmount", "outputAmount",  # the swap without Asgard's fee, or null
     "preTokenAAmountUI", "postTokenAAmountUI",  # collateral on the lending protocol before and after
     "preTokenBAmountUI", "postTokenBAmountUI",  # USDC debt before and after
     "borrowedUI", "repaidUI",  # USDC
     "walletTokenBDeltaUI", "walletTokenADeltaUI",  # signed change of the wallet's own token accounts
     "protocolFeeUSD",  # Asgard's fee, on top of the swap's USDC
     "dexFeeUSD", "slippageUSD",  # contained in the swap price, for information
     "executedPriceUSD",  # swap USDC / swap token A; null without swap
     "gasLamports", "jitoTipLamports",  # base + priority fees of all transactions; tips
     "txHash", "slot", "blockTime"}

Interest up to the landing is inside the `pre` amounts. Exact identities, per transaction:

    postTokenA = preTokenA + bought - sold - walletTokenADelta
    postTokenB = preTokenB + borrowed - repaid
    walletTokenBDelta = borrowed - repaid - swap USDC in + swap USDC out - protocolFee

where `bought`/`swap USDC in` are output/input of a USDC -> A swap, and `sold`/`swap USDC out` input/output of
A -> USDC.

**Position record** (`/submit-create-position-tx`, `/submit-close-position-tx`, `/positions*`): the columns of
the vendor's `margin_positions`. `entryMarketMetadata` is null for the metadata delay (default 8 s of world
time after landing), then `{"onChainExecutedMetadata": {...}, "lendingApyAtOpen", "borrowingApyAtOpen",
"tokenAOraclePriceUSD"}`; `exitMarketMetadata` likewise after a close (`lendingApyAtClose`,
`borrowingApyAtClose`). `tokenAEntryPriceUSD` is the build's estimate until then and the executed price
afterwards. `openFeesMetadata` and `closeFeesMetadata` are `{"jitoTipLamport", "protocolFeeUSD",
"protocolFeeBps", "dexFeeUSD", "dexFeeBps", "networkFeeLamports"}` (estimates from the build until the metadata
is there). `/submit-close-position-tx` adds `txHash` and `txMetadata` (as `exitMarketMetadata`). `/positions`
adds `liquidationEvents`.

**Position update** (`/submit-position-update-tx`): `txMetadata` is `{"onChainExecutedMetadata": {...} |
null}`: null during the metadata delay (repeat the same submit to read it: the answer is the same row).
`position` carries the "current" amounts after the update, which do not wait for the delay. The record's
`tokenAAmountUICurrent`, `tokenBAmountUICurrent` and `leverageCurrent` are those of the last update (null when
there was none); live amounts come from `/refresh-positions`.

**Liquidation event**: `{"id", "positionPda", "protocol", "ownerAddress", "timestamp", "collateralMint",
"collateralSeizedUI", "debtMint", "debtRepaidUI", "penaltyUSD", "priceUSD"}`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from twins.asgard.venue import LONG, USDC_MINT, Market

POSITION_ACTIVE = 0
POSITION_CLOSED = 1
UPDATE_CONFIRMED = 1


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text(value: Decimal, places: int = 9) -> str:
    """Return a plain decimal string, never in exponent form."""
    return format(value.quantize(Decimal(1).scaleb(-places)), "f")


@dataclass(frozen=True)
class Execution:
    """What one landed transaction did to a position; amounts in whole tokens, exact to the token's decimals.

    `gas_lamports` and `tip_lamports` are of this transaction alone.
    """

    kind: str
    pda: str
    signature: str
    slot: int
    time_ms: int
    tokens_before: Decimal
    tokens_after: Decimal
    debt_before_usd: Decimal
    debt_after_usd: Decimal
    borrowed_usd: Decimal
    repaid_usd: Decimal
    token_bought: Decimal
    token_sold: Decimal
    swap_usdc_in: Decimal
    swap_usdc_out: Decimal
    wallet_usdc_delta: Decimal
    wallet_token_delta: Decimal
    protocol_fee_usd: Decimal
    dex_fee_usd: Decimal
    slippage_usd: Decimal
    token_interest: Decimal
    debt_interest_usd: Decimal
    market_price_usd: Decimal
    gas_lamports: int
    tip_lamports: int

    @property
    def price_usd(self) -> Decimal | None:
        """Executed swap price, USDC per token A."""
        qty = self.token_bought + self.token_sold
        return (self.swap_usdc_in + self.swap_usdc_out) / qty if qty else None

    def metadata(
        self, market: Market, extra_gas_lamports: int = 0, extra_tip_lamports: int = 0
    ) -> dict[str, Any]:
        """Return the `onChainExecutedMetadata` of the module docstring."""
        bought = self.token_bought > 0
        token_base = int((self.token_bought + self.token_sold).scaleb(market.token_a.decimals))
        usdc_base = int((self.swap_usdc_in + self.swap_usdc_out).scaleb(6))
        mint_a, mint_b = str(market.token_a.mint), str(USDC_MINT)
        price = self.price_usd
        return {
            "inputMint": None if price is None else (mint_b if bought else mint_a),
            "outputMint": None if price is None else (mint_a if bought else mint_b),
            "inputAmount": None if price is None else (usdc_base if bought else token_base),
            "outputAmount": None if price is None else (token_base if bought else usdc_base),
            "preTokenAAmountUI": text(self.tokens_before),
            "postTokenAAmountUI": text(self.tokens_after),
            "preTokenBAmountUI": text(self.debt_before_usd, 6),
            "postTokenBAmountUI": text(self.debt_after_usd, 6),
            "borrowedUI": text(self.borrowed_usd, 6),
            "repaidUI": text(self.repaid_usd, 6),
            "walletTokenBDeltaUI": text(self.wallet_usdc_delta, 6),
            "walletTokenADeltaUI": text(self.wallet_token_delta),
            "protocolFeeUSD": text(self.protocol_fee_usd, 6),
            "dexFeeUSD": text(self.dex_fee_usd, 6),
            "slippageUSD": text(self.slippage_usd, 6),
            "executedPriceUSD": None if price is None else text(price),
            "gasLamports": self.gas_lamports + extra_gas_lamports,
            "jitoTipLamports": self.tip_lamports + extra_tip_lamports,
            "txHash": self.signature,
            "slot": self.slot,
            "blockTime": self.time_ms // 1000,
        }


@dataclass
class Side:
    """Opening or closing of a row: the landed execution and what the build had estimated."""

    execution: Execution
    estimate: dict[str, Any]
    extra_gas_lamports: int
    extra_tip_lamports: int

    def executed(self, market: Market) -> dict[str, Any]:
        return self.execution.metadata(market, self.extra_gas_lamports, self.extra_tip_lamports)


@dataclass
class PositionRow:
    """A row of `margin_positions`."""

    id: int
    owner: str
    pda: str
    market: Market
    leverage: str
    opened: Side
    closed: Side | None = None
    update_count: int = 0
    last_update_id: int | None = None
    current: dict[str, str] | None = None

    def record(self, now_ms: int, delay_ms: int) -> dict[str, Any]:
        """Return the public record at a world time; executed blobs show `delay_ms` after landing."""
        entry_known = now_ms >= self.opened.execution.time_ms + delay_ms
        exit_known = self.closed is not None and now_ms >= self.closed.execution.time_ms + delay_ms
        current = self.current or {}
        return {
            "id": self.id,
            "ownerAddress": self.owner,
            "positionPda": self.pda,
            "protocol": self.market.protocol.id,
            "state": POSITION_CLOSED if self.closed else POSITION_ACTIVE,
            "positionSide": LONG,
            "tokenATokenMint": str(self.market.token_a.mint),
            "tokenBTokenMint": str(USDC_MINT),
            "leverage": self.leverage,
            "tokenAEntryPriceUSD": _price(self.opened, entry_known),
            "tokenBEntryPriceUSD": "1",
            "tokenAExitPriceUSD": _price(self.closed, exit_known) if self.closed else None,
            "tokenBExitPriceUSD": "1" if self.closed else None,
            "entryMarketMetadata": _market_metadata(self.opened, self.market, "Open")
            if entry_known
            else None,
            "exitMarketMetadata": (
                _market_metadata(self.closed, self.market, "Close") if self.closed and exit_known else None
            ),
            "openFeesMetadata": _fees(self.opened, entry_known),
            "closeFeesMetadata": _fees(self.closed, exit_known) if self.closed else None,
            "openTxHash": self.opened.execution.signature,
            "closeTxHash": self.closed.execution.signature if self.closed else None,
            "openedAt": iso(self.opened.execution.time_ms),
            "closedAt": iso(self.closed.execution.time_ms) if self.closed else None,
            "tokenAAmountUIEntry": text(self.opened.execution.tokens_after),
            "tokenBAmountUIEntry": text(self.opened.execution.debt_after_usd, 6),
            "tokenAAmountUICurrent": current.get("tokenAAmountUICurrent"),
            "tokenBAmountUICurrent": current.get("tokenBAmountUICurrent"),
            "leverageCurrent": current.get("leverageCurrent"),
            "lastUpdateId": self.last_update_id,
            "updateCount": self.update_count,
        }


@dataclass
class UpdateRow:
    """A row of `position_updates`. `answer` is kept, so that a repeated submit reads the same."""

    id: int
    position_id: int
    update_type: int
    side: Side
    position_view: dict[str, Any]
    status: int = UPDATE_CONFIRMED

    def answer(self, market: Market, now_ms: int, delay_ms: int) -> dict[str, Any]:
        known = now_ms >= self.side.execution.time_ms + delay_ms
        return {
            "success": True,
            "txHash": self.side.execution.signature,
            "txMetadata": {"onChainExecutedMetadata": self.side.executed(market) if known else None},
            "positionUpdate": {"id": self.id, "updateType": self.update_type, "status": self.status},
            "position": self.position_view,
        }


@dataclass
class LiquidationEvent:
    id: int
    pda: str
    owner: str
    market: Market
    time_ms: int
    seized_tokens: Decimal
    repaid_usd: Decimal
    penalty_usd: Decimal
    price_usd: Decimal

    def public(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "positionPda": self.pda,
            "protocol": self.market.protocol.id,
            "ownerAddress": self.owner,
            "timestamp": iso(self.time_ms),
            "collateralMint": str(self.market.token_a.mint),
            "collateralSeizedUI": text(self.seized_tokens),
            "debtMint": str(USDC_MINT),
            "debtRepaidUI": text(self.repaid_usd, 6),
            "penaltyUSD": text(self.penalty_usd, 6),
            "priceUSD": text(self.price_usd),
        }


@dataclass
class Database:
    """Asgard's own tables; the chain's truth lives in the lending book."""

    positions: list[PositionRow] = field(default_factory=list)
    updates: dict[str, UpdateRow] = field(default_factory=dict)
    """By signature of the last transaction."""

    def by_pda(self, pda: str) -> PositionRow | None:
        return next((row for row in reversed(self.positions) if row.pda == pda), None)


def _price(side: Side, known: bool) -> str:
    executed = side.execution.price_usd
    return text(executed) if known and executed is not None else str(side.estimate["tokenAPriceUSD"])


def _market_metadata(side: Side, market: Market, when: str) -> dict[str, Any]:
    return {
        "onChainExecutedMetadata": side.executed(market),
        f"lendingApyAt{when}": side.estimate["lendingApy"],
        f"borrowingApyAt{when}": side.estimate["borrowingApy"],
        "tokenAOraclePriceUSD": text(side.execution.market_price_usd),
    }


def _fees(side: Side, known: bool) -> dict[str, Any]:
    fees = dict(side.estimate["feesMetadata"])
    if known:
        fees["protocolFeeUSD"] = text(side.execution.protocol_fee_usd, 6)
        fees["dexFeeUSD"] = text(side.execution.dex_fee_usd, 6)
        fees["networkFeeLamports"] = side.execution.gas_lamports + side.extra_gas_lamports
    return fees
