"""A row for each listing that no client expects: another coin, token or protocol, with empty, unreadable and new values.

Each change is one of `twins.answers`: a path, then a row of its own or a copy of a row that is there with fields changed.
"""

from __future__ import annotations

from typing import Any

_ADDRESS = "0x" + "0d" * 20
_PUBKEY = "Odd" * 11
_COIN: dict[str, Any] = {
    "name": "ODD",
    "szDecimals": None,
    "maxLeverage": "many",
    "marginTableId": None,
    "newFlag": {},
}
_CONTEXT: dict[str, Any] = {
    "funding": None,
    "openInterest": "NaN",
    "prevDayPx": None,
    "dayNtlVlm": "NaN",
    "premium": "NaN",
    "oraclePx": None,
    "markPx": None,
    "midPx": "NaN",
    "impactPxs": [None],
}
_POSITION: dict[str, Any] = {
    "type": "someNewMode",
    "position": {
        "coin": "DOGE",
        "szi": "-1000.0",
        "leverage": {"type": "portfolio", "value": None},
        "entryPx": None,
        "positionValue": "NaN",
        "unrealizedPnl": None,
        "returnOnEquity": "NaN",
        "liquidationPx": "NaN",
        "marginUsed": None,
        "maxLeverage": "many",
        "cumFunding": None,
    },
}
_ORDER: dict[str, Any] = {
    "coin": "@107",
    "side": "?",
    "limitPx": "NaN",
    "sz": None,
    "oid": None,
    "timestamp": None,
    "origSz": "NaN",
    "orderType": "Some New Type",
}
_SOURCE: dict[str, Any] = {
    "lendingProtocol": 9,
    "isActive": None,
    "marketKey": None,
    "tokenABank": _PUBKEY,
    "tokenBBank": _PUBKEY,
    "longMaxLeverage": "NaN",
    "tokenAMaxDepositCapacity": None,
    "tokenBMaxBorrowCapacity": "unlimited",
    "tokenALendingApyRate": "NaN",
    "tokenBBorrowingApyRate": None,
}
_RECORD: dict[str, Any] = {
    "id": None,
    "ownerAddress": _PUBKEY,
    "positionPda": _PUBKEY,
    "protocol": 9,
    "state": 7,
    "positionSide": None,
    "leverage": "NaN",
    "openedAt": "yesterday",
    "closedAt": None,
}

ODD_ROWS: dict[str, list[dict[str, Any]]] = {
    "info:clearinghouseState": [{"path": "assetPositions", "row": _POSITION}],
    "info:spotClearinghouseState": [
        {
            "path": "balances",
            "row": {"coin": "ODD", "token": None, "hold": None, "total": "NaN", "entryNtl": None},
        }
    ],
    "info:meta": [{"path": "universe", "row": _COIN}],
    "info:metaAndAssetCtxs": [{"path": "0.universe", "row": _COIN}, {"path": "1", "row": _CONTEXT}],
    "info:allMids": [{"path": [], "key": "@999", "row": None}],
    "info:l2Book": [{"path": "levels.*", "row": {"px": "NaN", "sz": None, "n": None}}],
    "info:predictedFundings": [
        {"path": [], "row": ["ODD", [["NewPerp", {"fundingRate": "NaN", "nextFundingTime": None}], None]]}
    ],
    "info:fundingHistory": [{"path": [], "like": -1, "change": {"premium": "NaN", "fundingRate": None}}],
    "info:userFunding": [{"path": [], "like": -1, "change": {"delta.coin": "DOGE", "delta.usdc": "NaN"}}],
    "info:userFills": [
        {"path": [], "change": {"coin": "DOGE", "px": "NaN", "dir": "Settlement", "fee": None}}
    ],
    "info:userFillsByTime": [
        {"path": [], "like": -1, "change": {"coin": "DOGE", "px": "NaN", "dir": "Settlement", "fee": None}}
    ],
    "info:userNonFundingLedgerUpdates": [
        {"path": [], "like": -1, "change": {"delta": {"type": "prizeDraw", "token": "ODD", "amount": "NaN"}}}
    ],
    "info:openOrders": [{"path": [], "row": _ORDER}],
    "info:frontendOpenOrders": [{"path": [], "row": _ORDER}],
    "info:historicalOrders": [
        {"path": [], "row": {"order": _ORDER, "status": "someNewStatus", "statusTimestamp": None}}
    ],
    "info:extraAgents": [{"path": [], "row": {"name": None, "address": _ADDRESS, "validUntil": None}}],
    "GET /markets": [
        {"path": "strategies", "key": "ODD/USDC", "row": {"name": None, "liquiditySources": [_SOURCE, None]}},
        {"path": "strategies.*.liquiditySources", "row": _SOURCE},
    ],
    "GET /token-metadata": [
        {
            "path": "tokens",
            "row": {"symbol": "ODD", "name": None, "mint": _PUBKEY, "decimals": None, "price": "NaN"},
        }
    ],
    "POST /positions": [{"path": [], "row": _RECORD}],
    "POST /positions/open": [{"path": [], "row": _RECORD}],
    "POST /positions/closed": [{"path": [], "row": _RECORD}],
    "POST /refresh-positions": [
        {
            "path": "positions.*.summary.booksAndBalances.balances",
            "row": {_PUBKEY: {"mint": _PUBKEY, "assetsQt": None, "liabsQt": "NaN", "assetsUsd": None}},
        }
    ],
    "POST /all-liquidation-events": [
        {
            "path": [],
            "row": {"id": None, "positionPda": _PUBKEY, "timestamp": "yesterday", "debtRepaidUI": "NaN"},
        }
    ],
    "rpc:getTokenAccountsByOwner": [
        {
            "path": "result.value",
            "row": {"pubkey": _PUBKEY, "account": {"data": None, "lamports": None, "owner": _PUBKEY}},
        }
    ],
    "rpc:getMultipleAccounts": [{"path": "result.value", "row": {"data": ["", "zstd"], "lamports": None}}],
    "rpc:getSignaturesForAddress": [
        {
            "path": "result",
            "row": {"signature": _PUBKEY, "slot": None, "err": "SomeNewError", "blockTime": None},
        }
    ],
    "rpc:getRecentPrioritizationFees": [
        {"path": "result", "row": {"slot": None, "prioritizationFee": "NaN"}}
    ],
    "rpc:getRecentPerformanceSamples": [
        {
            "path": "result",
            "row": {"slot": None, "numSlots": 0, "numTransactions": None, "samplePeriodSecs": 0},
        }
    ],
    "rpc:getTransaction": [
        {
            "path": "result.meta.postTokenBalances",
            "row": {"accountIndex": 999, "mint": _PUBKEY, "owner": None, "uiTokenAmount": None},
        }
    ],
}
"""By the name of the call, as in plans of faults."""
