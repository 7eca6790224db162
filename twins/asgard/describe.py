"""What a build answers: the transactions and everything said about them, by analogy with the vendor's
ModResponse.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from twins.asgard.assembly import (
    SETUP_UNIT_LIMIT,
    UNIT_LIMIT,
    UNIT_PRICE_MICRO_LAMPORTS,
    Assembled,
    base,
)
from twins.asgard.plans import Plan, Settlement, leverage
from twins.asgard.records import text
from twins.asgard.venue import DEX_FEE_BPS, USDC, USDC_MINT
from twins.asgard.wire import BuildBody

INCREASE_LEVERAGE, DELEVERAGE, ADD_COLLATERAL, PARTIAL_CLOSE, REPAY_DEBT = 0, 1, 2, 4, 5
BASE_FEE_LAMPORTS = 5_000


@dataclass
class Build:
    """One answered build: what it does, what was said about it, and the exact messages to be signed.

    `estimate` holds what a record shows until the executed metadata is there.
    """

    plan: Plan
    preview: Settlement
    assembled: Assembled
    response: dict[str, Any]
    estimate: dict[str, Any]
    requested_leverage: str
    update_type: int | None


def network_fee_lamports(assembled: Assembled) -> int:
    """Return the base fee of every signature and the priority fee of every limit."""
    signatures = sum(
        transaction.message.header.num_required_signatures for transaction in assembled.transactions
    )
    units = UNIT_LIMIT + SETUP_UNIT_LIMIT * (len(assembled.transactions) - 1)
    return BASE_FEE_LAMPORTS * signatures + -(-units * UNIT_PRICE_MICRO_LAMPORTS // 1_000_000)


def described(
    plan: Plan,
    preview: Settlement,
    assembled: Assembled,
    body: BuildBody,
    oracle: Decimal,
    lending_apy: float,
    borrowing_apy: float,
    update_type: int | None,
    percentage: int | None,
) -> Build:
    """Return the answer for a build that is not a submit: amounts before and after, fees, rates and transactions."""
    swap = preview.swap
    before, after = preview.settled, (preview.tokens_after, preview.debt_after)
    margins = text(before.tokens * oracle - before.debt_usd, 6), text(after[0] * oracle - after[1], 6)
    leverages = leverage(before.tokens, before.debt_usd, oracle), leverage(*after, oracle)
    fees = {
        "jitoTipLamport": body.jitoTipLamport,
        "protocolFeeUSD": text(swap.protocol_fee_usd if swap else Decimal(0), 6),
        "protocolFeeBps": plan.route.fee_bps if plan.route else 0,
        "dexFeeUSD": text(swap.dex_fee_usd if swap else Decimal(0), 6),
        "dexFeeBps": float(DEX_FEE_BPS) if swap else 0.0,
        "networkFeeLamports": network_fee_lamports(assembled),
    }
    price = swap.usdc_qty / swap.token_qty if swap and swap.token_qty else preview.market_price
    response = body.model_dump(exclude={"swapPlatform"}) | {
        "positionPDA": plan.pda,
        "depositAmountUIBefore": text(before.tokens),
        "depositAmountUIAfter": text(after[0]),
        "borrowAmountUIBefore": text(before.debt_usd, 6),
        "borrowAmountUIAfter": text(after[1], 6),
        "marginAmountUIBefore": margins[0],
        "marginAmountUIAfter": margins[1],
        "leverageBefore": float(round(leverages[0], 6)),
        "leverageAfter": float(round(leverages[1], 6)),
        "longTokenPriceUSD": float(oracle),
        "shortTokenPriceUSD": 1.0,
        "feesMetadata": fees,
        "swapRouteMetadata": _route_metadata(plan, preview),
        "lendingApyAtUpdate": lending_apy,
        "borrowingApyAtUpdate": borrowing_apy,
        "signedTxs": [base64.b64encode(bytes(tx)).decode() for tx in assembled.transactions],
    }
    if update_type is not None:
        response["updateRecordData"] = _update_record(
            plan, preview, update_type, percentage, margins, leverages, oracle
        )
    estimate = {
        "tokenAPriceUSD": text(price),
        "lendingApy": lending_apy,
        "borrowingApy": borrowing_apy,
        "feesMetadata": fees,
    }
    shown = text(leverages[1], 4)
    return Build(plan, preview, assembled, response, estimate, shown, update_type)


def _route_metadata(plan: Plan, preview: Settlement) -> dict[str, Any] | None:
    if plan.route is None or preview.swap is None:
        return None
    inside, outside = _swap_sides(plan, preview)
    return {
        **inside,
        **outside,
        "slippageBps": plan.route.slippage_bps,
        "slippageUSD": text(preview.swap.slippage_usd, 6),
    }


def _swap_sides(plan: Plan, preview: Settlement) -> tuple[dict[str, Any], dict[str, Any]]:
    swap, token = preview.swap, plan.market.token_a
    if swap is None:
        none = {"swapInAmount": None, "swapInMint": None}
        return none, {"swapOutAmount": None, "swapOutMint": None}
    sides = [(base(swap.usdc_qty, USDC), str(USDC_MINT)), (base(swap.token_qty, token), str(token.mint))]
    (in_amount, in_mint), (out_amount, out_mint) = sides if swap.buys_token else reversed(sides)
    return (
        {"swapInAmount": str(in_amount), "swapInMint": in_mint},
        {"swapOutAmount": str(out_amount), "swapOutMint": out_mint},
    )


def _update_record(
    plan: Plan,
    preview: Settlement,
    update_type: int,
    percentage: int | None,
    margins: tuple[str, str],
    leverages: tuple[Decimal, Decimal],
    oracle: Decimal,
) -> dict[str, Any]:
    inside, outside = _swap_sides(plan, preview)
    return {
        "updateType": update_type,
        "updatePercentage": percentage,
        "preTokenAAmountUI": text(preview.settled.tokens),
        "preTokenBAmountUI": text(preview.settled.debt_usd, 6),
        "preLeverage": text(leverages[0], 6),
        "preMarginAmountUI": margins[0],
        "collateralType": None,
        "collateralMint": None,
        "collateralAmountNative": None,
        "collateralAmountUI": None,
        **inside,
        **outside,
        "postTokenAAmountUI": text(preview.tokens_after),
        "postTokenBAmountUI": text(preview.debt_after, 6),
        "postLeverage": text(leverages[1], 6),
        "postMarginAmountUI": margins[1],
        "tokenAPriceUSD": text(oracle),
        "tokenBPriceUSD": "1",
    }
