"""Runs in an interpreter of its own: schwab-py, unmodified, logs in, refreshes, places, reads, lists; one JSON line at the end.

Arguments: the app's key, its secret and the callback address.
"""

from __future__ import annotations

import datetime
import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

import httpx  # noqa: E402
from schwab import auth  # type: ignore[import-not-found]  # noqa: E402
from schwab.orders.equities import equity_buy_market, equity_sell_market  # type: ignore[import-not-found]  # noqa: E402
from schwab.utils import Utils  # type: ignore[import-not-found]  # noqa: E402

HOST = "https://api.schwabapi.com"


def allowed(link: str) -> str:
    """Do as a browser does: open the page, follow its link, and return the address that it is sent to."""
    page = httpx.get(link)
    found = httpx.get(HOST + page.text.split('href="')[1].split('"')[0])
    return str(found.headers["location"])


def logged_in(key: str, secret: str, callback: str) -> dict[str, Any]:
    """Return the tokens that the client has stored after its own login."""
    kept: list[dict[str, Any]] = []
    context = auth.get_auth_context(key, callback)
    received = allowed(context.authorization_url)
    auth.client_from_received_url(key, secret, context, received, lambda token, *_, **__: kept.append(token))
    return kept[-1]


def main() -> None:
    key, secret, callback = sys.argv[1:]
    stored = logged_in(key, secret, callback)
    first = stored["token"]["access_token"]
    stored["token"]["expires_at"] = 0  # so that the next call refreshes it
    written: list[dict[str, Any]] = []
    client = auth.client_from_access_functions(
        key, secret, lambda: stored, lambda token, *_, **__: written.append(token)
    )
    numbers = client.get_account_numbers()
    account = numbers.json()[0]["hashValue"]
    placed = client.place_order(account, equity_buy_market("AMD", 10))
    utils = Utils(client, account)
    order_id = utils.extract_order_id(placed)
    read = client.get_order(order_id, account)
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    listed = client.get_orders_for_account(
        account, from_entered_datetime=now - hour, to_entered_datetime=now + hour
    )
    sold = client.place_order(account, equity_sell_market("AMD", 4))
    fraction = client.place_order(account, equity_buy_market("AMD", 1.5))
    held = client.get_account(account, fields=[client.Account.Fields.POSITIONS])
    hours = client.get_market_hours([client.MarketHours.Market.EQUITY], date=now.date())
    result = {
        "refreshed": [one["token"]["access_token"] != first for one in written],
        "kept_age": [one["creation_timestamp"] == stored["creation_timestamp"] for one in written],
        "placed": placed.status_code,
        "order_id": order_id,
        "order": read.json(),
        "listed": listed.json(),
        "sold": utils.extract_order_id(sold),
        "fraction": [fraction.status_code, fraction.json()],
        "account": held.json(),
        "hours": hours.json(),
        "quote": client.get_quote("AMD").json(),
    }
    print("ANSWER " + json.dumps(result))


if __name__ == "__main__":
    main()
