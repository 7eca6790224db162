"""What a Broker's key moves besides orders: journals, USDC in wallets, and shares that become tokens.

Every write leaves once. Its answer is Confirmed (accepted: the row says how far it is), Rejected, or Unknown; what became of
it is read from the lists, which are capped: that something is not in one proves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from evenkeel.errors import NotUnderstood, OperatorError, Retryable
from evenkeel.types import Answer, Confirmed, Frozen, Rejected, Unknown
from venues.alpaca.client import AlpacaClient, Said
from venues.alpaca.models import Name, Wire, ms_of
from venues.broker_rules import decimals_of, text_of
from venues.reading import Number, read

USDC_PAIR = "USDCUSD"
USDC_DECIMALS = 6
Amount = Annotated[Decimal, Field(gt=0, lt=10**12)]


class WireJournal(Wire):
    """Cash (JNLC) or shares (JNLS) from one account of the Broker to another."""

    id: Name
    status: Name
    entry_type: str | None = None
    from_account: str | None = None
    to_account: str | None = None
    net_amount: Number | None = None
    symbol: str | None = None
    qty: Number | None = None
    description: str | None = None


class WireTransfer(Wire):
    """USDC to or from the account's wallet. `status`: PENDING, PROCESSING, COMPLETE or FAILED."""

    id: Name
    status: Name
    direction: str | None = None
    amount: Number | None = None
    to_address: str | None = None
    from_address: str | None = None
    tx_hash: str | None = None
    fees: Number | None = None
    network_fee: Number | None = None
    created_at: str | None = None

    @property
    def created_ms(self) -> int | None:
        return ms_of(self.created_at)


class WireTokenization(Wire):
    """Shares that become tokens, or the reverse. `status`: pending, completed or rejected."""

    tokenization_request_id: Name
    status: Name
    type: str | None = None
    underlying_symbol: str | None = None
    qty: Number | None = None
    wallet_address: str | None = None
    issuer: str | None = None
    issuer_request_id: str | None = None
    client_request_id: str | None = None
    network: str | None = None
    tx_hash: str | None = None
    fees: Number | None = None
    created_at: str | None = None


class WireWallet(Wire):
    address: Name


class WireWhitelisted(Wire):
    id: Name
    address: Name
    status: Name


class Conversion(Frozen):
    """USDC for dollars ("sell") or dollars for USDC ("buy"), in units of USDC."""

    side: Literal["buy", "sell"]
    usdc: Amount
    client_order_id: str = Field(min_length=1, max_length=48)


class AlpacaTransfers:
    """The Broker's calls for one account. Readings raise UNREAD; amounts that the broker does not take raise OperatorError."""

    def __init__(self, client: AlpacaClient) -> None:
        if client.access.account_id is None:
            raise OperatorError("a Trading key moves nothing: rebalancing needs the Broker's interface")
        self.client = client
        self._account = client.access.account_id
        self._base = f"/v1/accounts/{quote(self._account, safe='')}"

    # --- dollars and USDC ----------------------------------------------------------------------------------------

    async def convert(self, order: Conversion) -> Answer[str]:
        """Order a conversion; Confirmed has the broker's order id. The order is found again by its client order id."""
        if decimals_of(order.usdc) > USDC_DECIMALS:
            raise OperatorError(f"{order.usdc} USDC has more than {USDC_DECIMALS} decimals")
        body = {
            "symbol": USDC_PAIR,
            "qty": text_of(order.usdc),
            "side": order.side,
            "type": "market",
            "time_in_force": "gtc",
            "client_order_id": order.client_order_id,
        }
        try:
            said = await self.client.place(json.dumps(body))
        except Retryable as error:
            return Unknown(str(error))
        found = self._answer(said, WireOrderId)
        return Confirmed(found.value.id) if isinstance(found, Confirmed) else found

    async def wallet(self, network: str) -> str:
        """Return the address at which the account takes in USDC."""
        params = {"asset": "USDC", "network": network}
        found = await self._read("/wallets", WireWallet, "wallet", params=params)
        return str(found.address)

    async def send_usdc(
        self, usdc: Amount, address: str, before_ms: int | None = None
    ) -> Answer[WireTransfer]:
        """Send USDC from the wallet to an address that is on the whitelist; not later than `before_ms`."""
        if decimals_of(usdc) > USDC_DECIMALS:
            raise OperatorError(f"{usdc} USDC has more than {USDC_DECIMALS} decimals")
        body = {"amount": text_of(usdc), "asset": "USDC", "address": address}
        return await self._write(f"{self._base}/wallets/transfers", body, WireTransfer, before_ms)

    async def transfers(self) -> list[WireTransfer]:
        """Return the wallet's transfers that the broker lists, both ways."""
        found = await self._read("/wallets/transfers", list[WireTransfer], "transfers", part="transfer")
        return list(found)

    async def whitelist(self) -> list[WireWhitelisted]:
        """Return the addresses that USDC may be sent to, with how far each is."""
        found = await self._read("/wallets/whitelists", list[WireWhitelisted], "whitelist", part="address")
        return list(found)

    async def allow(self, address: str) -> Answer[WireWhitelisted]:
        """Ask for an address to be put on the whitelist."""
        body = {"address": address, "asset": "USDC"}
        return await self._write(f"{self._base}/wallets/whitelists", body, WireWhitelisted)

    # --- shares and tokens ---------------------------------------------------------------------------------------

    async def mint(
        self,
        symbol: str,
        qty: Amount,
        wallet: str,
        network: str,
        issuer: str,
        request_id: str,
        before_ms: int | None = None,
    ) -> Answer[WireTokenization]:
        """Ask for tokens in a wallet for shares of the account. `request_id` is ours, by which it is known again. Alpaca takes
        one more than once: each makes tokens.
        """
        body = {
            "underlying_symbol": symbol,
            "qty": text_of(qty),
            "issuer": issuer,
            "network": network,
            "wallet_address": wallet,
            "client_request_id": request_id,
        }
        return await self._write(f"{self._base}/tokenization/mint", body, WireTokenization, before_ms)

    async def tokenization(self, request_id: str) -> WireTokenization | None:
        """Return the request for tokens to which we gave this id; None where the broker says that it has none."""
        path = f"{self._base}/tokenization/requests:by_client_request_id"
        params = {"client_request_id": request_id}
        found: WireTokenization | None = await self.client.read(
            path, WireTokenization, "token request", params=params
        )
        if found is not None and request_id not in (found.client_request_id, found.issuer_request_id):
            raise NotUnderstood(self.client.venue, "asked for one token request, it answers with another")
        return found

    async def tokenizations(self) -> list[WireTokenization]:
        """Return the requests for tokens and for shares that the broker lists. A redemption appears once its tokens have come
        to the issuer.
        """
        path = "/tokenization/requests"
        return list(await self._read(path, list[WireTokenization], "token requests", part="request"))

    # --- between accounts ----------------------------------------------------------------------------------------

    async def journal_cash(
        self, to_account: str, usd: Amount, note: str, before_ms: int | None = None
    ) -> Answer[WireJournal]:
        """Move dollars to another account of the Broker. `note` is by what it is known again in the list."""
        if decimals_of(usd) > 2:
            raise OperatorError(f"{usd} USD has more than 2 decimals")
        what = {"entry_type": "JNLC", "amount": text_of(usd)}
        return await self._journal(to_account, what, note, before_ms)

    async def journal_shares(
        self, to_account: str, symbol: str, qty: Amount, note: str, before_ms: int | None = None
    ) -> Answer[WireJournal]:
        """Move shares to another account of the Broker."""
        what = {"entry_type": "JNLS", "symbol": symbol, "qty": text_of(qty)}
        return await self._journal(to_account, what, note, before_ms)

    async def _journal(
        self, to_account: str, what: dict[str, str], note: str, before_ms: int | None
    ) -> Answer[WireJournal]:
        body = {"from_account": self._account, "to_account": to_account, "description": note} | what
        return await self._write("/v1/journals", body, WireJournal, before_ms)

    async def journals(self) -> list[WireJournal]:
        """Return the journals that the broker lists, of all its accounts."""
        found = await self.client.read("/v1/journals", list[WireJournal], "journals", part="journal")
        return list(found or [])

    # --- how it is done ------------------------------------------------------------------------------------------

    async def _read(
        self, path: str, shape: Any, source: str, *, part: str = "", params: Mapping[str, str] | None = None
    ) -> Any:
        found = await self.client.read(self._base + path, shape, source, part=part, params=params)
        if found is None:
            raise NotUnderstood(self.client.venue, f"{source}: it says that there is no such thing")
        return found

    async def _write(
        self, path: str, body: Mapping[str, str], shape: Any, before_ms: int | None = None
    ) -> Answer[Any]:
        try:
            said = await self.client.ask("POST", path, content=json.dumps(body), before_ms=before_ms)
        except Retryable as error:
            return Unknown(str(error))
        return self._answer(said, shape)

    def _answer(self, said: Said, shape: Any) -> Answer[Any]:
        """Return what was accepted. Only words of the broker's own refuse; a 422 may stand for something that was done."""
        if said.is_well:
            try:
                return Confirmed(read(self.client.venue, "an accepted request", shape, said.body).value)
            except NotUnderstood as odd:
                return Unknown(odd.reason, answered=True)
        if said.status in (400, 401, 403) and said.message:
            return Rejected(said.words)
        return Unknown(said.words, answered=True)


class WireOrderId(Wire):
    id: Name
