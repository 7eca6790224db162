"""What moves cash, shares and dollars of a stablecoin between accounts, chains and the issuer of tokens. The Broker's alone.

A request is accepted at once and settles after `delay_ms` of world time. `on_chain` is called with what leaves for a chain.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twins.alpaca.engine import VENUE, Engine
from twins.alpaca.placing import Refused, amount
from twins.alpaca.records import Account, name_of, number, stamp

USDC, USDC_PAIR = "USDC", "USDCUSD"
ONE = Decimal(1)


class Moves:
    """Journals, wallet transfers, and requests for tokens. `on_chain(kind, row)`: "transfer" and "mint" have left."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.delay_ms = 2_000
        self.journal_status = "executed"
        self.on_chain: list[Callable[[str, dict[str, Any]], None]] = []
        self.journals: list[dict[str, Any]] = []
        self.transfers: dict[str, list[dict[str, Any]]] = {}
        self.whitelist: dict[str, list[dict[str, Any]]] = {}
        self.requests: dict[str, list[dict[str, Any]]] = {}

    def _flow(self, account: Account, kind: str, **what: str) -> None:
        account.flows.append({"kind": kind, "at_ms": self.engine.now_ms, **what})

    def _fault(self, kind: str, call: str) -> bool:
        return self.engine.faults.take(VENUE, kind, call) is not None

    # --- journals ------------------------------------------------------------------------------------------------

    def journal(self, body: dict[str, Any]) -> dict[str, Any]:
        """Move cash (JNLC) or shares (JNLS) from one account to another. Raises Refused."""
        giver = self.engine.accounts.get(str(body.get("from_account")))
        taker = self.engine.accounts.get(str(body.get("to_account")))
        if giver is None or taker is None or giver is taker:
            raise Refused(422, 40010001, "from_account and to_account must be two accounts")
        kind = body.get("entry_type")
        row: dict[str, Any] = {
            "id": self.engine.new_name("journal"),
            "entry_type": kind,
            "from_account": giver.id,
            "to_account": taker.id,
            "status": self.journal_status,
            "currency": "USD",
            "settle_date": (stamp(self.engine.now_ms) or "")[:10],
            "system_date": (stamp(self.engine.now_ms) or "")[:10],
            "description": str(body.get("description", "")),
        }
        if kind == "JNLC":
            row |= self._cash_journal(giver, taker, amount(body, "amount"))
        elif kind == "JNLS":
            row |= self._share_journal(giver, taker, str(body.get("symbol")), amount(body, "qty"))
        else:
            raise Refused(422, 40010001, "entry_type must be JNLC or JNLS")
        self.journals.append(row)
        return row

    def _cash_journal(self, giver: Account, taker: Account, usd: Decimal | None) -> dict[str, Any]:
        if usd is None:
            raise Refused(422, 40010001, "amount is required")
        if usd > giver.cash:
            raise Refused(403, 40310000, "insufficient balance")
        giver.cash -= usd
        taker.cash += usd
        self._flow(giver, "journal", usd=number(-usd))
        self._flow(taker, "journal", usd=number(usd))
        return {"net_amount": number(usd)}

    def _share_journal(
        self, giver: Account, taker: Account, symbol: str, qty: Decimal | None
    ) -> dict[str, Any]:
        if qty is None:
            raise Refused(422, 40010001, "qty is required")
        if qty > giver.held(symbol) - giver.reserved(symbol):
            raise Refused(403, 40310000, "insufficient assets")
        price = self.engine.prices.mid(symbol, self.engine.now_ms) or Decimal(0)
        giver.move(symbol, -qty, price)
        taker.move(symbol, qty, price)
        self._flow(giver, "journal", symbol=symbol, qty=number(-qty))
        self._flow(taker, "journal", symbol=symbol, qty=number(qty))
        return {"symbol": symbol, "qty": number(qty), "price": number(price)}

    # --- wallets -------------------------------------------------------------------------------------------------

    def wallet(self, account: Account, network: str) -> dict[str, Any]:
        """Where the account takes in USDC."""
        address = "0x" + name_of(f"wallet:{account.id}:{network}").replace("-", "").ljust(40, "0")[:40]
        return {
            "address": address,
            "asset": USDC,
            "network": network,
            "created_at": stamp(self.engine.now_ms),
        }

    def allow(self, account: Account, body: dict[str, Any]) -> dict[str, Any]:
        """Note an address that USDC may be sent to; it is approved after the delay. Raises Refused."""
        if not body.get("address"):
            raise Refused(422, 40010001, "address is required")
        row = {
            "id": self.engine.new_name("whitelist"),
            "address": str(body["address"]),
            "asset": str(body.get("asset", USDC)),
            "chain": str(body.get("network", "ethereum")),
            "status": "PENDING",
            "created_at": stamp(self.engine.now_ms),
        }
        self.whitelist.setdefault(account.id, []).append(row)
        self._later(lambda _: row.update(status="APPROVED"))
        return row

    def transfer(self, account: Account, body: dict[str, Any]) -> dict[str, Any]:
        """Send USDC to an address that is approved. Raises Refused."""
        units, address = amount(body, "amount"), str(body.get("address"))
        if units is None or body.get("asset", USDC) != USDC:
            raise Refused(422, 40010001, "amount and asset are required")
        known = self.whitelist.get(account.id, [])
        if not any(
            one["address"].lower() == address.lower() and one["status"] == "APPROVED" for one in known
        ):
            raise Refused(403, 40310000, "address is not whitelisted")
        if units > account.held(USDC_PAIR) - account.reserved(USDC_PAIR):
            raise Refused(403, 40310000, "insufficient balance")
        account.move(USDC_PAIR, -units, ONE)
        self._flow(account, "transfer", symbol=USDC_PAIR, qty=number(-units))
        row = self._transfer_row(account, "OUTGOING", units, address)
        fails = self._fault("transfer_fails", "transfer")

        def settle(at_ms: int) -> None:
            if fails:
                row["status"] = "FAILED"
                account.move(USDC_PAIR, units, ONE)
                self._flow(account, "transfer back", symbol=USDC_PAIR, qty=number(units))
                return
            row.update(status="COMPLETE", tx_hash="0x" + name_of(row["id"]).replace("-", "") * 2)
            for act in self.on_chain:
                act("transfer", row)

        self._later(settle)
        return row

    def arrived(self, account: Account, units: Decimal) -> dict[str, Any]:
        """USDC has come to the account's wallet."""
        row = self._transfer_row(account, "INCOMING", units, self.wallet(account, "ethereum")["address"])

        def settle(at_ms: int) -> None:
            row["status"] = "COMPLETE"
            account.move(USDC_PAIR, units, ONE)
            self._flow(account, "transfer", symbol=USDC_PAIR, qty=number(units))

        self._later(settle)
        return row

    def _transfer_row(self, account: Account, direction: str, units: Decimal, address: str) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": self.engine.new_name("transfer"),
            "direction": direction,
            "status": "PROCESSING",
            "asset": USDC,
            "amount": number(units),
            "usd_value": number(units),
            "network_fee": "0",
            "fees": "0",
            "from_address": address if direction == "INCOMING" else "",
            "to_address": address,
            "tx_hash": None,
            "created_at": stamp(self.engine.now_ms),
        }
        self.transfers.setdefault(account.id, []).append(row)
        return row

    # --- tokens --------------------------------------------------------------------------------------------------

    def mint(self, account: Account, body: dict[str, Any]) -> dict[str, Any]:
        """Turn shares into tokens for a wallet. Raises Refused."""
        symbol, qty = str(body.get("underlying_symbol")), amount(body, "qty")
        if qty is None or not body.get("wallet_address") or not body.get("issuer"):
            raise Refused(422, 40010001, "underlying_symbol, qty, issuer and wallet_address are required")
        if qty > account.held(symbol) - account.reserved(symbol):
            raise Refused(403, 40310000, "insufficient position")
        price = self.engine.prices.mid(symbol, self.engine.now_ms) or Decimal(0)
        account.move(symbol, -qty, price)
        self._flow(account, "mint", symbol=symbol, qty=number(-qty))
        row = self._request(account, "mint", symbol, qty, body)
        fails = self._fault("mint_rejected", "mint")

        def settle(at_ms: int) -> None:
            if fails:
                row["status"] = "rejected"
                account.move(symbol, qty, price)
                self._flow(account, "mint back", symbol=symbol, qty=number(qty))
                return
            row.update(
                status="completed", tx_hash="0x" + name_of(row["issuer_request_id"]).replace("-", "") * 2
            )
            for act in self.on_chain:
                act("mint", row)

        self._later(settle)
        return row

    def minted(self, account: Account, client_request_id: str) -> dict[str, Any] | None:
        """The newest request of this id, which may have been used more than once."""
        mine = (one for one in reversed(self.requests.get(account.id, [])))
        return next((one for one in mine if one["client_request_id"] == client_request_id), None)

    def redeem(self, account: Account, symbol: str, qty: Decimal, tx_hash: str = "") -> dict[str, Any]:
        """Tokens have come to the issuer, who gives shares for them."""
        row = self._request(account, "redeem", symbol, qty, {"issuer": "st0x", "wallet_address": "0x"})
        row["tx_hash"] = tx_hash or None

        def settle(at_ms: int) -> None:
            row["status"] = "completed"
            account.move(symbol, qty, self.engine.prices.mid(symbol, at_ms) or Decimal(0))
            self._flow(account, "redeem", symbol=symbol, qty=number(qty))

        self._later(settle)
        return row

    def _request(
        self, account: Account, kind: str, symbol: str, qty: Decimal, body: dict[str, Any]
    ) -> dict[str, Any]:
        name = self.engine.new_name("tokenization")
        row: dict[str, Any] = {
            "tokenization_request_id": name,
            "issuer_request_id": name_of(f"issuer:{name}"),
            "client_request_id": body.get("client_request_id"),
            "type": kind,
            "status": "pending",
            "underlying_symbol": symbol,
            "token_symbol": f"t{symbol}",
            "qty": number(qty),
            "issuer": str(body.get("issuer")),
            "network": str(body.get("network", "base")),
            "wallet_address": str(body.get("wallet_address")),
            "tx_hash": None,
            "fees": "0",
            "created_at": stamp(self.engine.now_ms),
        }
        self.requests.setdefault(account.id, []).append(row)
        return row

    def _later(self, act: Callable[[int], None]) -> None:
        self.engine.later.append((self.engine.now_ms + self.delay_ms, act))
