"""Schwab from its settings: the login with its keys, the venue, and which orders the ledger has already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from evenkeel.clock import Clock
from evenkeel.errors import OperatorError
from evenkeel.sealing import Sealer, TokenStore
from evenkeel.settings.schwab import SchwabAccount
from evenkeel.settings.secrets import Keeper, key_of
from state.models import Intent
from tasks.hedging.schwab_login import SchwabLogin
from venues.broker_rules import OrderRules
from venues.ratebudget import RateBudget
from venues.reading import Oddities
from venues.schwab.client import SchwabClient
from venues.schwab.lookup import Claims
from venues.schwab.oauth import App, SchwabOauth
from venues.schwab.venue import SchwabVenue


def sealer_of(account: SchwabAccount) -> Sealer:
    """Return what seals the tokens. Raises OperatorError where its key is missing or of another form."""
    return Sealer(_secret("token", account.token_key_file, "token_key_file", "EVENKEEL_TOKEN_KEY"))


def login_of(account: SchwabAccount, store: TokenStore, clock: Clock) -> SchwabLogin:
    """Return the login of an account. Raises OperatorError where a key is missing; asks nobody anything."""
    app = App(
        key=_secret("schwab", account.key_file, "key_file", "EVENKEEL_SCHWAB_KEY"),
        secret=_secret("schwab_secret", account.secret_file, "secret_file", "EVENKEEL_SCHWAB_SECRET"),
        redirect_uri=account.redirect_uri,
    )
    return SchwabLogin(SchwabOauth(account.url, clock, app), store, sealer_of(account), clock)


def venue_of(
    account: SchwabAccount,
    login: SchwabLogin,
    clock: Clock,
    rules: OrderRules,
    claims: Claims,
    oddities: Oddities | None = None,
) -> SchwabVenue:
    """Return the venue of an account. Its client is `venue.client`, to be closed by whoever opened it."""
    client = SchwabClient(
        account.url,
        clock,
        login,
        budget=RateBudget(clock, account.requests_per_minute),
        oddities=oddities,
        total_s=account.timeout_s,
    )
    return SchwabVenue(client, rules, claims, account=account.account)


def claims_of(intents: Iterable[Intent]) -> Mapping[str, str]:
    """Return the ids of Schwab's orders that intents have in their receipts, final or not, each with the intent's id."""
    found: dict[str, str] = {}
    for intent in intents:
        receipt = intent.result or intent.so_far or {}
        named = [receipt.get("ref"), *(receipt.get("detail") or {}).get("orders", ())]
        found |= {str(one): intent.intent_id for one in named if one}
    return found


def _secret(name: Keeper, path: Path | None, setting: str, variable: str) -> str:
    found = key_of(name, path)
    if found is None:
        raise OperatorError(f"no {name} key: set {variable}, or schwab.{setting} to a file that holds it")
    return found.get_secret_value()
