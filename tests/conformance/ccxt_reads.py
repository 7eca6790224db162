"""What ccxt reads of an account, as one JSON object; run by an interpreter that has ccxt: URL ADDRESS SINCE_MS."""

from __future__ import annotations

import json
import sys
from typing import Any

import ccxt  # type: ignore[import-not-found]

SYMBOL = "SOL/USDC:USDC"


def everything(made: Any, since: int) -> dict[str, Any]:
    made.load_markets()
    return {
        "version": ccxt.__version__,
        "markets": sorted(made.markets),
        "rates": made.fetch_funding_rate_history(SYMBOL, since),
        "funding": made.fetch_funding_history(SYMBOL, since),
        "fills": made.fetch_my_trades(SYMBOL, since),
        "later_fills": made.fetch_my_trades(SYMBOL, since + 3_600_000),
        "positions": made.fetch_positions(),
        "balance": made.fetch_balance()["total"],
        "deposits": made.fetch_deposits(None, since),
        "orders": made.fetch_orders(SYMBOL, since),
        "open_orders": made.fetch_open_orders(SYMBOL),
        "candles": made.fetch_ohlcv(SYMBOL, "1h", since),
        "rate": made.fetch_funding_rate(SYMBOL),
        "book": made.fetch_order_book(SYMBOL),
    }


def main() -> None:
    url, address, since = sys.argv[1:4]
    made = ccxt.hyperliquid({"walletAddress": address, "enableRateLimit": False})
    made.urls["api"] = {"public": url, "private": url}
    json.dump(everything(made, int(since)), sys.stdout)


if __name__ == "__main__":
    main()
