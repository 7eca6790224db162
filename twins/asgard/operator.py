"""Operator's commands of the Asgard twin, for tests and the demo; never part of the venue's interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from twins.asgard.book import LendingBook
from twins.asgard.builder import Settings
from twins.asgard.instructions import vault
from twins.asgard.limits import RateLimit
from twins.asgard.markets import Listings
from twins.asgard.routing import style_of
from twins.asgard.submission import Submissions
from twins.asgard.venue import LIVE_PROTOCOLS, PROTOCOLS, TOKENS
from twins.asgard.views import Views
from twins.solana.chain import SolanaChain
from twins.world import World


class Operator:
    """One method per command; each takes a JSON object and answers one."""

    def __init__(
        self,
        book: LendingBook,
        listings: Listings,
        limits: RateLimit,
        settings: Settings,
        submissions: Submissions,
        views: Views,
        world: World,
        chain: SolanaChain,
    ) -> None:
        self._book = book
        self._listings = listings
        self._limits = limits
        self._settings = settings
        self._submissions = submissions
        self._views = views
        self._world = world
        self._chain = chain
        self.plain_errors = False
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ledger": lambda body: self._views.ledger(self._submissions.mode.metadata_delay_ms),
            "liquidate": self._liquidate,
            "set_capacity": self._set_capacity,
            "set_active": self._set_active,
            "set_listed": self._set_listed,
            "set_liquidity": self._set_liquidity,
            "pause": self._pause,
            "builds": self._builds,
            "routes": self._routes,
            "metadata_delay": self._metadata_delay,
            "tx_count": self._tx_count,
            "cosigner": self._cosigner,
            "submit_mode": self._submit_mode,
            "rate_limit": self._rate_limit,
        }

    def run(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Run one command. ValueError for an unknown command or a bad argument."""
        if op not in self._commands:
            raise ValueError(f"asgard has no command {op!r}; it has {sorted(self._commands)}")
        return self._commands[op](body)

    def _liquidate(self, body: dict[str, Any]) -> dict[str, Any]:
        """{pda, full?}: one liquidation round, or as many as it takes to take everything."""
        holding = self._book.holdings.get(str(body.get("pda")))
        if holding is None or not holding.live or holding.debt_usd <= 0:
            raise ValueError(f"no live position with debt at {body.get('pda')}")
        now_ms = self._world.now_ms()
        event = self._book.liquidate(holding, now_ms)
        while body.get("full") and holding.live and holding.debt_usd > 0:
            event = self._book.liquidate(holding, now_ms)
        return event.public()

    def _set_capacity(self, body: dict[str, Any]) -> dict[str, Any]:
        """{protocol, symbol, amount, kind?}: `kind` is deposit or borrow, by default what a long needs."""
        self._listings.set_capacity(
            int(body["protocol"]), str(body["symbol"]), str(body["amount"]), body.get("kind")
        )
        return {}

    def _set_active(self, body: dict[str, Any]) -> dict[str, Any]:
        """{protocol, symbol, on}"""
        self._listings.set_active(int(body["protocol"]), str(body["symbol"]), bool(body["on"]))
        return {}

    def _set_listed(self, body: dict[str, Any]) -> dict[str, Any]:
        """{symbol, protocol?, on}: drop a market from the lists; without a protocol, the token and all its markets"""
        protocol = None if body.get("protocol") is None else int(body["protocol"])
        self._listings.set_listed(protocol, str(body["symbol"]), bool(body["on"]))
        return {}

    def _set_liquidity(self, body: dict[str, Any]) -> dict[str, Any]:
        """{protocol, symbol, amount}: whole tokens in the reserve's vault; what is lent on is not there to be withdrawn"""
        protocol, symbol = int(body["protocol"]), str(body["symbol"])
        token = next((one for one in TOKENS if one.symbol == symbol), None)
        if token is None or PROTOCOLS.get(protocol) not in LIVE_PROTOCOLS:
            raise ValueError(f"no reserve of {symbol} at protocol {protocol}")
        amount = int(Decimal(str(body["amount"])).scaleb(token.decimals))
        self._chain.set_token_balance(PROTOCOLS[protocol].authority, token.mint, amount)
        return {"vault": str(vault(PROTOCOLS[protocol], token))}

    def _pause(self, body: dict[str, Any]) -> dict[str, Any]:
        """{protocol, symbol?, operations?, on?}: the lender refuses them, by default deposit, withdraw, borrow and repay"""
        self._book.reserves.pause(body)
        return {"paused": self._book.reserves.describe()}

    def _builds(self, body: dict[str, Any]) -> dict[str, Any]:
        """{unchecked}: whether builds are made that the lender refuses; they fail in simulation and on chain"""
        self._settings.unchecked = bool(body["unchecked"])
        return {}

    def _routes(self, body: dict[str, Any]) -> dict[str, Any]:
        """{form?, exchanges?, shared_id?, raw?: {kind, arguments (hex)}, programs?}: how routes are written from now on"""
        style = style_of(body, self._settings.style.route)
        self._settings.style = replace(self._settings.style, route=style)
        return {"form": style.form, "exchanges": list(style.exchanges)}

    def _metadata_delay(self, body: dict[str, Any]) -> dict[str, Any]:
        """{seconds}: 0 to 60"""
        seconds = float(body["seconds"])
        if not 0 <= seconds <= 60:
            raise ValueError(f"metadata_delay must be 0 to 60 seconds, got {seconds}")
        self._submissions.mode.metadata_delay_ms = round(seconds * 1000)
        return {}

    def _tx_count(self, body: dict[str, Any]) -> dict[str, Any]:
        """{n}: transactions per build, 1 or 2"""
        if body.get("n") not in (1, 2):
            raise ValueError(f"tx_count must be 1 or 2, got {body.get('n')}")
        self._settings.style = replace(self._settings.style, transactions=int(body["n"]))
        return {}

    def _cosigner(self, body: dict[str, Any]) -> dict[str, Any]:
        """{on}: builds carry a fresh account's signature"""
        self._settings.style = replace(self._settings.style, cosigner=bool(body["on"]))
        return {}

    def _submit_mode(self, body: dict[str, Any]) -> dict[str, Any]:
        """{duplicate?: "same_row"|"error", errors?: "object"|"string"}"""
        if "duplicate" in body:
            self._submissions.mode.duplicate_is_error = body["duplicate"] == "error"
        if "errors" in body:
            self.plain_errors = body["errors"] == "string"
        return {}

    def _rate_limit(self, body: dict[str, Any]) -> dict[str, Any]:
        """{keyless_per_s?, keyed_per_s?}: requests per world second, null for no limit"""
        for name in ("keyless_per_s", "keyed_per_s"):
            if name in body:
                setattr(self._limits, name, None if body[name] is None else float(body[name]))
        return {}
