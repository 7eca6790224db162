"""Asgard as a venue for the long leg: build, check, sign, send by two ways, and prove what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evenkeel.clock import Clock
from evenkeel.errors import NOT_NOW, UNREAD, Bug, NotUnderstood, Retryable, VenueRefused
from evenkeel.legs import Capabilities, LegView, WayOut
from evenkeel.types import Built, Confirmed, IntentSpec, Outcome, Receipt, Signed, Unknown, VenueName
from evenkeel.units import LAMPORTS_PER_SOL
from venues.asgard.approving import Approver, PriceSource, StoredPrice
from venues.asgard.building import AsgardBuild, SignedBuild, expected_amounts, signed_build
from venues.asgard.client import AsgardClient
from venues.asgard.expecting import outlay_usdc
from venues.asgard.legs import asset_of, leg_view, max_ltv
from venues.asgard.mints import BY_MINT, SOL, TOKENS, USDC, Token
from venues.asgard.models import RESIZABLE, LivePosition, PositionRecord, Protocol, Strategy
from venues.asgard.on_chain import confirm_absence
from venues.asgard.orders import AsgardOrder, OpenLong, parse_order
from venues.asgard.prices import known_prices
from venues.asgard.proving import way_out
from venues.asgard.receipts import Receipts
from venues.asgard.redemption import OnChainRedemption, RedemptionSource
from venues.shared import once_for_all
from venues.solana.confirm import Confirmer, Payload
from venues.solana.failover import FailoverRpc
from venues.solana.keys import SolanaSigner
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.common import EXITS, Rules
from venues.solana.tokens import check_mints, to_tokens, token_balance

MARKETS_TTL_MS = 300_000


@dataclass(frozen=True, slots=True)
class WalletBalances:
    sol_lamports: int
    usdc: Decimal

    @property
    def sol(self) -> Decimal:
        return Decimal(self.sol_lamports) / LAMPORTS_PER_SOL


class AsgardVenue:
    """Implements `LegVenue`. `capabilities` is Kamino's; ask `capabilities_for` about another protocol."""

    name = VenueName.ASGARD
    capabilities = Capabilities(can_resize=True, can_add_margin=True)

    def __init__(
        self,
        client: AsgardClient,
        rpc: SolanaRpc,
        signer: SolanaSigner,
        clock: Clock,
        *,
        sol_price: PriceSource,
        second_rpc: SolanaRpc | None = None,
        rules: Rules | Callable[[], Rules] | None = None,
        wait_s: float = 20.0,
    ) -> None:
        """`sol_price`: USD per SOL from a source that is not Asgard; every swap is held against it before we sign.
        `second_rpc`: another provider's node, which answers where `rpc` cannot be reached. `rules` may change while we run.
        """
        self.client = client
        self.rpc = rpc if second_rpc is None else FailoverRpc(rpc, second_rpc, clock)
        self.redemption: RedemptionSource = OnChainRedemption(self.rpc)
        self.wallet = str(signer.pubkey)
        self._signer = signer
        self._clock = clock
        self._approver = Approver(
            self.rpc, signer.pubkey, clock, rules or Rules(), sol_price, self.redemption_rate
        )
        self._wait_s = wait_s
        self._confirmer = Confirmer(self.rpc, clock, self.wallet)
        self._receipts = Receipts(client, self.rpc, clock, self.wallet)
        self._markets: tuple[int, list[Strategy]] | None = None
        self._last_rates: dict[str, Decimal] = {}
        self.stored_markets: Callable[[], list[Strategy]] = list
        """Where the markets are to be had as an earlier reading had them."""
        self.not_understood: dict[str, str] = {}
        """Positions of this wallet that the last reading found and could not make sense of: PDA and why."""

    @staticmethod
    def capabilities_for(protocol: int) -> Capabilities:
        """Return what a protocol can do: Kamino positions can be resized, all others only opened and closed."""
        can = protocol in RESIZABLE
        return Capabilities(can_resize=can, can_add_margin=can)

    @classmethod
    def can_resize(cls, protocol: int) -> bool:
        return cls.capabilities_for(protocol).can_resize

    # --- doing a thing exactly once ---

    async def build(self, intent: IntentSpec) -> Built:
        """Return unsigned transactions, all judged. Raises `Retryable`, `VenueRefused` (`UnsafeBuild` among them)."""
        return await self._built(self._checked_order(intent.order))

    async def can_close(self, order: dict[str, Any]) -> WayOut:
        """Ask the builder for the order, judge what comes, and drop it: nothing is signed (`venues.asgard.proving`)."""
        return await way_out(
            lambda: self._built(self._checked_order(order)), self.rpc, self.wallet, self._clock
        )

    async def _built(self, order: AsgardOrder) -> Built:
        before = record = None
        if not isinstance(order, OpenLong):
            before = await self.live(order.protocol, order.position_pda)
            if before is None or before.collateral() is None:
                raise VenueRefused("asgard", f"position {order.position_pda} is not on chain or is empty")
            if before.authority not in (self.wallet, None):
                raise VenueRefused("asgard", f"position {order.position_pda} belongs to {before.authority}")
            record = await self.client.position(order.position_pda) if order.is_resize else None
        strategies = await self.known_markets()
        async with self._approver.pricing(order) as price:
            built_at_ms = self._clock.now_ms()
            blob = await self.client.build(order.build_path, order.body(self.wallet))
            lvbh_max = await self._confirmer.height_limit()
            fair = await price
            verdict, checks = await self._approver.approve(order, blob, strategies, before, fair)
        found = str(verdict.position) if verdict.position else blob.hint("positionPDA", "positionPda")
        pda = (str(found) if found else None) if isinstance(order, OpenLong) else order.position_pda
        stood = checks.pop("position_digest", None)
        seen = fair.seen if fair is not None else None
        build = AsgardBuild(order, blob, verdict, lvbh_max, built_at_ms, pda, before, record, stood, seen)
        note = {
            "position_pda": pda,
            "lvbh_max": lvbh_max,
            "n_transactions": len(verdict.approved),
            "fee_lamports": verdict.fee_lamports,
            "tip_lamports": verdict.tip_lamports,
            "checks": checks,
            "built_at_ms": built_at_ms,
            "expected": expected_amounts(order),
        }
        return Built(build, note)

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        """Return the signed bytes; their signatures are the key. Raises `Retryable` for a build that has grown too old,
        which then is discarded.
        """
        if not isinstance(built.payload, AsgardBuild):
            raise Bug(f"intent {intent.intent_id}: {type(built.payload).__name__} is not an Asgard build")
        await self._clock.refresh()
        wanted = (built.payload, self._signer, self._clock.now_ms(), self.wallet)
        if self._signer.is_remote:  # a key that lives elsewhere: leases go on being renewed while it is asked
            return await asyncio.to_thread(signed_build, *wanted)
        return signed_build(*wanted)

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Submit to Asgard (so that its row exists), send the same bytes ourselves unless that clearly
        worked, wait.

        Both ways carry the same signature, so at most one of them takes effect.
        """
        wire = signed.wire
        if not isinstance(wire, SignedBuild):
            return Unknown("the signed bytes are no longer known; only a look-up can find out")
        accepted = False
        if wire.body is not None:
            try:
                accepted = isinstance(await self.client.submit(wire.path, wire.body), Confirmed)
            except Retryable:
                accepted = False
        return await self._follow(signed, wire, already_sent=accepted, preflight=True)

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Send the same bytes to our node again; Unknown where only the key is left."""
        wire = signed.wire
        if not isinstance(wire, SignedBuild):
            return Unknown("the signed bytes are no longer known; only a look-up can find out")
        return await self._follow(signed, wire, already_sent=False, preflight=False)

    async def _follow(
        self, signed: Signed, wire: SignedBuild, *, already_sent: bool, preflight: bool
    ) -> Outcome[Receipt]:
        payloads = [
            Payload(signature, raw)
            for signature, raw in zip(signed.key["signatures"], wire.raws, strict=True)
        ]
        try:
            results = await self._confirmer.settle(
                payloads,
                int(signed.key["lvbh_max"]),
                built_at_ms=signed.key.get("built_at_ms"),
                wait_s=self._wait_s,
                already_sent=already_sent,
                preflight=preflight,
                is_exit=signed.key["op"] in EXITS,
            )
        except NOT_NOW as error:  # the clock itself may be out of reach
            return Unknown(str(error))
        return await self._receipts.conclude(signed.key, results)

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Return what became of an attempt, from its signatures alone. Rejected carries the proof that it is dead."""
        limit = int(signed.key["lvbh_max"])
        is_exit, built_at_ms = signed.key["op"] in EXITS, signed.key.get("built_at_ms")
        results = [
            await self._confirmer.result_of(signature, limit, built_at_ms=built_at_ms, is_exit=is_exit)
            for signature in signed.key["signatures"]
        ]
        return await self._receipts.conclude(signed.key, results)

    def _checked_order(self, asked: dict[str, Any]) -> AsgardOrder:
        order = parse_order(asked)
        if order.protocol == Protocol.DRIFT:
            raise VenueRefused("asgard", "Drift (protocol 3) is frozen since April 2026 and disabled")
        if order.is_resize and not self.can_resize(order.protocol):
            raise VenueRefused(
                "asgard",
                f"{order.op} on {Protocol(order.protocol).name}: only Kamino positions can be resized; "
                "close and reopen instead",
            )
        return order

    # --- looking ---

    async def legs(
        self,
        known_pdas: Iterable[tuple[int, str]] = (),
        *,
        only_known: bool = False,
        on_chain: bool = False,
        prices: dict[str, Decimal] | None = None,
    ) -> list[LegView]:
        """Return every position of our wallet that holds something: those with a row, and `known_pdas`.

        `known_pdas` are (protocol, PDA) pairs from our own books: a position can exist on chain without a
        row. With `only_known` nobody else's are asked for, and with `prices` (USD per token) none are read:
        a fast tick must fit into the venue's one request a second. With `on_chain` a leg may be
        read from its lender's accounts, which state no distance (`venues.asgard.on_chain`). Where prices or markets are not to
        be had, the last known ones are used. Raises UNREAD: a leg that cannot be read is never left out in silence, nor one of
        ours that its own account shows. One of another kind that is not ours is named in `not_understood` instead.
        """
        rows = {} if only_known else {row.pda: row for row in await self.client.positions(self.wallet)}
        ours = {pda: protocol for protocol, pda in known_pdas}
        wanted = {pda: row.protocol for pda, row in rows.items()} | ours
        pairs = [(protocol, pda) for pda, protocol in wanted.items()]
        live = await self.client.refresh(pairs, on_chain=on_chain)
        await confirm_absence(self.rpc, self._clock, live, [(one, pda) for pda, one in ours.items()])
        held = self._legible(live, ours)
        if not held:
            return []
        prices = await self.token_prices() if prices is None else prices
        strategies = await self._markets_if_any()
        views = []
        for pda, (one, asset) in held.items():
            price = prices.get(asset.symbol) or self._approver.last_price(asset.symbol)
            if price is None:
                raise NotUnderstood("asgard", f"no price of {asset.symbol}, needed for position {pda}")
            view = leg_view(
                one,
                wanted[pda],
                self.wallet,
                price,
                await self._sol_per_token(asset.symbol, prices),
                max_ltv(strategies, asset.mint, wanted[pda]),
                rows.get(pda),
                self._clock.now_ms(),
            )
            if view is not None:
                views.append(view)
        return views

    def _legible(
        self, live: dict[str, LivePosition | NotUnderstood], ours: Iterable[str]
    ) -> dict[str, tuple[LivePosition, Token]]:
        """Positions that hold something we trade, with its token; somebody else's of another kind must not blind us."""
        self.not_understood = {}
        held = {}
        for pda, one in live.items():
            try:
                if isinstance(one, NotUnderstood):
                    raise one
                if (asset := asset_of(one)) is not None:
                    held[pda] = (one, asset)
            except NotUnderstood as odd:
                if pda in ours:
                    raise
                self.not_understood[pda] = odd.reason
        return held

    async def live(self, protocol: int, pda: str) -> LivePosition | None:
        """Return balances and liquidation events of one position as the chain has them; None where it is not there. Raises
        NotUnderstood where a balance cannot be read that may be ours, or its own account contradicts that it is not there."""
        shown = await self.client.refresh([(protocol, pda)])
        await confirm_absence(self.rpc, self._clock, shown, [(protocol, pda)])
        if isinstance(found := shown.get(pda), NotUnderstood):
            raise found
        return None if found is None else found.understood(BY_MINT)

    async def _sol_per_token(self, asset: str, prices: dict[str, Decimal]) -> Decimal:
        """Redemption rate; where the pool cannot be read, the last one known, and where none ever was the market's own ratio.
        Judging the peg needs the true one.
        """
        try:
            rate = await self.redemption_rate(asset)
        except UNREAD:
            rate = None
        rate = self._last_rates.get(asset) if rate is None else rate
        if rate is not None:
            return rate
        if SOL.symbol not in prices or asset not in prices:
            raise NotUnderstood(
                "asgard", f"neither a redemption rate of {asset} nor a price of SOL is to be had"
            )
        return prices[asset] / prices[SOL.symbol]

    async def position(self, pda: str) -> PositionRecord | None:
        return await self.client.position(pda)

    async def markets(self, max_age_ms: int = 0) -> list[Strategy]:
        """Return strategies with their liquidity sources; a reading younger than `max_age_ms` is used again."""
        now = self._clock.now_ms()
        if self._markets is None or now - self._markets[0] >= max_age_ms:
            self._markets = (now, await self.client.markets())
        return self._markets[1]

    async def _markets_if_any(self) -> list[Strategy]:
        """The markets as last read, read again where that was long ago; none where they never could be."""
        try:
            return await self.markets(max_age_ms=MARKETS_TTL_MS)
        except UNREAD:
            return self._markets[1] if self._markets is not None else self.stored_markets()

    async def known_markets(self) -> list[Strategy]:
        """The markets as last read, however old, or as kept: which banks one has does not change. Else they are asked for."""
        if self._markets is not None:
            return self._markets[1]
        return self.stored_markets() or await self.markets()

    async def token_prices(self) -> dict[str, Decimal]:
        """Return USD per token by our symbols, selected by mint; a token without a price is left out."""
        return await known_prices(self.client)

    def note_price(self, asset: str, price_usd: Decimal, at_ms: int) -> None:
        """Note the asset's fair price as just read elsewhere, which bounds an exit should its source fall silent."""
        self._approver.note_price(asset, price_usd, at_ms)

    def use_stored_prices(self, stored_price: StoredPrice) -> None:
        """Set where the last price can be had that an earlier process has seen."""
        self._approver.stored_price = stored_price

    async def redemption_rate(self, asset: str) -> Decimal | None:
        """Return SOL per token (1 for SOL). None = unknown, which counts as a breach, never as calm."""
        rate = await once_for_all(
            self.client.shared, ("redemption rate", asset), lambda: self.redemption.redemption_rate(asset)
        )
        if rate is not None:
            self._last_rates[asset] = rate
        return rate

    async def wallet_balances(self) -> WalletBalances:
        lamports = await self.rpc.get_balance(self.wallet)
        return WalletBalances(
            lamports, to_tokens(await token_balance(self.rpc, self.wallet, USDC.mint), USDC.decimals)
        )

    async def wallet_tokens(self, asset: str) -> dict[str, Decimal]:
        """Return what the wallet itself holds of the asset and of wrapped SOL, in whole tokens by symbol."""
        held = {symbol: TOKENS[symbol] for symbol in (asset, SOL.symbol)}
        return {
            symbol: to_tokens(await token_balance(self.rpc, self.wallet, one.mint), one.decimals)
            for symbol, one in held.items()
        }

    async def can_build(self, order: AsgardOrder) -> str | None:
        """Make a dry run for the preflight: return None when Asgard could build it now, else the reason. Raises
        `Retryable`.

        Open and close have simulate endpoints; a resize has none, so there an unsigned build is asked for and
        dropped, which has no effect on chain.
        """
        short = outlay_usdc(order) - (await self.wallet_balances()).usdc
        if short > 0:
            return f"the wallet lacks {short} USDC for {order.op}"
        try:
            if order.is_resize:
                await self.client.build(order.build_path, order.body(self.wallet))
            else:
                await self.client.simulate(order.build_path + "-simulate", order.body(self.wallet))
        except VenueRefused as error:
            return error.reason
        return None

    async def check_mints(self) -> None:
        """Compare our mint table with the chain, once at start. Raises `OperatorError`."""
        await check_mints(self.rpc, {one.symbol: (one.mint, one.decimals) for one in TOKENS.values()})

    async def close(self) -> None:
        await self.client.close()
        await self.rpc.close()
