"""What a crossing runs on: the chain's twin and one broker's on one clock, processes of ours before them, and the check."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from evenkeel.errors import EvenkeelError
from evenkeel.settings.settings import Settings
from flows.hedging.backfill import backfill_chain
from flows.hedging.hedge import HedgeRequest, hedge_account
from flows.hedging.opened import open_hedging
from strategy.hedging.decision import is_over
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import hedging_desk, schwab_login
from tasks.hedging.passing import pass_once
from tasks.oddities import ODD_ANSWER
from tests.chaos.hedging.commits import Commits
from tests.chaos.hedging.near import Near, near
from tests.chaos.hedging.watched import Watched
from tests.chaos.process import Ended, ProductProcess, StepFunction
from tests.databases import with_driver
from tests.hedging_rig import HELD, PRICES, SYMBOLS, HedgingRig, hedging_rig
from tests.hedging_settings import environment, settings_file
from tests.interruptions import Killed
from tests.schwab_rig import TOKEN_KEY, state_of
from twins.alpaca.serve import START_MS
from twins.control import control_app
from twins.faults import FaultMiddleware
from twins.http import served
from twins.schwab.app import SchwabTwin

D = Decimal
BROKERS = ("alpaca", "alpaca-broker", "schwab", "dry-run")
CASH = D(1_000_000)
ALERTED_LATE_MS = 120_000
"""Beyond what the settings allow: a pass may have failed in between."""


@dataclass
class Bed(HedgingRig):
    """Everything that a story touches. `kind` is the broker of the settings. A *life* is what one process does."""

    kind: str = "alpaca"
    url: str = ""
    folder: Path = Path()
    control_url: str = ""
    schwab: SchwabTwin | None = None
    watched: Watched = field(default_factory=Watched)
    commits: Commits = field(default_factory=Commits)
    outside: Callable[[], bool] = lambda: False
    """Whether the next life is a process of its own."""
    begun: Callable[[ProductProcess], None] = lambda process: None
    prepare: Callable[[], None] | None = None
    lives: int = 0
    near: Near = field(init=False)
    silent: list[str] = field(default_factory=list)
    """What was open, and neither ordered nor alerted, after a life that came to its end."""

    # --- settings ---

    @property
    def is_whole(self) -> bool:
        """Whether the broker takes whole shares only."""
        return self.kind == "schwab"

    def shares(self, text: str) -> str:
        """So many shares, or the next whole number where the broker wants that."""
        return str(int(D(text).to_integral_value(rounding="ROUND_UP"))) if self.is_whole else text

    def section(self) -> dict[str, Any]:
        self.settings = {"broker": self.kind} | {
            name: value for name, value in self.settings.items() if name != "broker"
        }
        found = super().section()
        found["chain"] |= {"window_blocks": 9_000, "windows_per_pass": 200}
        found["chain"] |= self.settings.get("more_chain", {})
        found.pop("more_chain", None)
        if self.kind == "alpaca-broker":
            found["alpaca"] |= {"account_id": self.keys["account_id"]}
        if self.kind == "schwab":
            found["schwab"] = {
                "url": self.urls["schwab"],
                "account": "6789",
                "timeout_s": self.timeout_s,
                "requests_per_minute": 10_000,
            }
        return found

    def environment(self) -> dict[str, str]:
        """The keys, as a process finds them."""
        if self.schwab is not None:
            return {
                "EVENKEEL_SCHWAB_KEY": self.schwab.login.app_key,
                "EVENKEEL_SCHWAB_SECRET": self.schwab.login.app_secret,
                "EVENKEEL_TOKEN_KEY": TOKEN_KEY,
            }
        pair = self.keys["broker" if self.kind == "alpaca-broker" else "trading"]
        return {"EVENKEEL_ALPACA_KEY": pair["key_id"], "EVENKEEL_ALPACA_SECRET": pair["secret"]}

    def config(self) -> Path:
        """A settings file for a process of its own."""
        settings = {
            "database": {"url": with_driver(self.url)},
            "clock": {"world_url": self.control_url},
            "hedging": self.section(),
        }
        return settings_file(self.folder / "evenkeel.toml", settings)

    # --- lives ---

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[HedgingDesk]:
        with environment(self.environment()):
            async with hedging_desk(self.given(), self.clock, self.store) as found:
                yield found

    async def life(self, what: str = "hedge") -> None:
        """One process, which may end by anything; whoever comes next takes up what it left."""
        self.lives += 1
        if self.outside():
            await self.process(what)
            return
        self.commits.revive()
        self.commits.is_life = self.watched.is_life = True
        try:
            async with self.desk() as at:
                await LIVES[what](at)
                if what == "hedge":
                    self._note_silence(at)
        except (EvenkeelError, Killed):
            self.commits.revive()
            self.later(5)
        finally:
            self.commits.is_life = self.watched.is_life = False

    async def process(self, what: str = "hedge") -> Ended:
        """The same in a process of its own."""
        running = self.begin(what)
        self.begun(running)
        ended = await running.end()
        if not ended.killed and ended.code not in (0, 1):
            raise AssertionError(f"a process ended with {ended.code}: {ended.last_lines}")
        return ended

    def begin(self, what: str = "hedge") -> ProductProcess:
        """Begin a process and leave it to itself."""
        self.store.close()  # nothing of the ledger is open where it is forked
        self.lives += 1
        name = f"life-{self.lives}"
        return ProductProcess(
            self.folder, name, [(what, {})], STEPS, self.config(), self.environment(), self.prepare
        )

    async def taken_over(self) -> None:
        """Another process takes the account over from one that lives, as after a lease that ran out, and makes a pass."""
        with suppress(EvenkeelError):
            async with (
                self.desk() as at,
                at.desk.leases.exclusive(at.lease, "a take-over", from_living=True) as fence,
            ):
                await pass_once(at, fence)

    async def log_in(self) -> None:
        """As a person does; an answer that is lost is tried again."""
        assert self.schwab is not None
        with environment(self.environment()):
            for _ in range(4):
                login = schwab_login(self.given().hedging, self.clock, self.store)
                try:
                    await login.finish(self.schwab.login.allow(state_of(login.begin())))
                except (EvenkeelError, Killed):
                    self.commits.revive()
                    self.later(2)
                    continue
                finally:
                    await login.aclose()
                return
        raise AssertionError("nobody could log in")

    async def level(self) -> None:
        """Lives until every fill is read, nothing is open and no order is on its way."""
        for _ in range(60):
            await self.life()
            self.later(20)
            self.fill_held()
            hedging = self.store.hedging
            seen = {one.symbol: one.chain_bought - one.chain_sold for one in hedging.exposures()}
            has_all = all(seen.get(symbol) == shares for symbol, shares in self.shares_on_chain().items())
            is_level = all(not one.open_shares for one in hedging.exposures())
            if has_all and is_level and not hedging.open_orders():
                return
        raise AssertionError(
            f"not level after 60 lives: {self.store.hedging.exposures()} {self.store.alerts(open_only=True)}"
        )

    # --- the brokers' own ways ---

    def part(self, shares: int, *, then: str) -> None:
        """The next order is filled by so many shares of four at first; `then` the rest follows (rest), or it is cancelled."""
        if self.kind == "schwab":
            if then == "cancel":
                self.fault("schwab", "partial_cancel", fraction=str(D(shares) / 4))
            else:
                self.fault("schwab", "hold")
        elif self.kind != "dry-run":
            self.fault("alpaca", "partial", fraction=str(D(shares) / 4), then=then, after_s=25)

    def fill_held(self, shares: int | None = None) -> None:
        """Schwab fills orders that it holds, by so many shares or wholly."""
        if self.schwab is None:
            return
        for order in list(self.schwab.book.orders.values()):
            if order.steps and order.steps[-1][1] == "EXPIRED":
                left = order.quantity - order.filled
                with suppress(KeyError):
                    self.schwab.book.fill(order.order_id, min(left, D(shares)) if shares else left)

    def understand(self) -> None:
        """From now on no order has a status that nobody has heard of; while one had, a person was alerted."""
        odd = [one for one in self.account.orders if one.shown]
        orders = [] if self.schwab is None else list(self.schwab.book.orders.values())
        unknown = [one for one in orders if one.shown_as]
        if odd or unknown:
            said = {one.kind for one in self.store.alerts(open_only=True)}
            assert ODD_ANSWER in said, f"an order of an unknown status, and no alert of it: {said}"
        for one in odd:
            one.shown = ""
        for order in unknown:
            order.shown_as = ""

    def shares_at_broker(self) -> dict[str, Decimal]:
        if self.kind == "dry-run":
            rows = self.store.hedging.exposures()
            return {
                one.symbol: net for one in rows if (net := one.hedge_bought - one.hedge_sold)
            }  # it has no books
        if self.schwab is None:
            return super().shares_at_broker()
        held = self.schwab.book.shares
        return {symbol: moved for symbol in SYMBOLS if (moved := held.get(symbol, D(0)) - HELD)}

    def orders_filled(self) -> dict[str, tuple[str, Decimal]]:
        """By the broker's id of an order of which something is filled: symbol and shares, without a sign."""
        if self.kind == "dry-run":
            return {}
        if self.schwab is None:
            return {one.id: (one.symbol, one.filled_qty) for one in self.account.orders if one.filled_qty}
        orders = self.schwab.book.orders.values()
        return {str(one.order_id): (one.symbol, one.filled) for one in orders if one.filled}

    # --- the check ---

    def verify(self, *, more: Decimal = D(0)) -> None:
        """The books' exposure is the twins', every fill is counted once, every filled order is booked as it was filled, nothing
        was hedged twice (`more`: shares that the broker filled of itself), and nothing was open in silence.
        """
        hedging = self.store.hedging
        self.check()
        height = self.chain.chain.height()
        on_chain = Counter(
            (one["transaction"], one["symbol"]) for one in self.chain.market.truth(height)["fills"]
        )
        assert Counter((one.transaction, one.symbol) for one in hedging.fills()) == on_chain, "fills"
        booked: dict[str, Decimal] = {}
        for row in hedging.hedges():
            booked[row.order_ref] = booked.get(row.order_ref, D(0)) + row.qty
        filled = self.orders_filled()
        if self.kind != "dry-run":
            assert booked == {ref: shares for ref, (_, shares) in filled.items()}, "orders and the ledger"
        volume: dict[str, Decimal] = {}
        for symbol, shares in filled.values():
            volume[symbol] = volume.get(symbol, D(0)) + shares
        for symbol, shares in volume.items():
            # Each fill hedged by an order of its own is the most; the broker's own surplus is hedged back.
            most = sum(abs(one.shares) for one in hedging.fills(symbol, live_only=False)) + 2 * more
            assert shares <= most, f"{symbol}: {shares} shares traded at the broker for {most} on chain"
        assert not self.silent, self.silent

    def _note_silence(self, at: HedgingDesk) -> None:
        """Keep what is open above its threshold for too long with no order on its way and no alert of anything."""
        store, now = at.desk.store, self.clock.now_ms()
        late_ms = at.settings.alert_open_s * 1000 + ALERTED_LATE_MS
        rows = store.hedging.sessions(at.broker.name, "0000", "9999")
        is_open = any(one.open_ms and one.close_ms and one.open_ms <= now < one.close_ms for one in rows)
        about = {one.subject for one in store.alerts(open_only=True)}
        for one in store.hedging.exposures():
            over = one.open_shares and is_over(one.open_shares, one.price_usd, at.rules(one.symbol))
            oldest = store.hedging.oldest_open(one.symbol) if over else None
            if oldest is None or not is_open or now - oldest.at_ms < late_ms:
                continue
            spoken_of = {one.symbol, at.broker.name, at.chain, "hedging", "schwab"} & about
            if store.hedging.open_order(one.symbol) is None and not spoken_of:
                self.silent.append(f"{one.open_shares} shares of {one.symbol} since {oldest.at_ms}")


async def _hedge(at: HedgingDesk) -> dict[str, Any]:
    return (await hedge_account(at, HedgeRequest(), once=True)).model_dump(mode="json")


async def _backfill(at: HedgingDesk) -> dict[str, Any]:
    return (await backfill_chain(at)).model_dump(mode="json")


LIVES: dict[str, Callable[[HedgingDesk], Awaitable[dict[str, Any]]]] = {
    "hedge": _hedge,
    "backfill": _backfill,
}


def _step(what: str) -> StepFunction:
    async def step(settings: Settings) -> dict[str, Any]:
        async with open_hedging(settings) as at:
            return await LIVES[what](at)

    return step


STEPS = {what: _step(what) for what in LIVES}


@asynccontextmanager
async def hedging_bed(url: str, kind: str, folder: Path, *, start_ms: int = START_MS) -> AsyncIterator[Bed]:
    """The twins, and a login where the broker wants one; the ledger of `url` is at the present schema and empty."""
    watched = Watched()
    make = partial(Bed, kind=kind, url=url, folder=folder, watched=watched)
    async with AsyncExitStack() as stack:
        bed = await stack.enter_async_context(
            hedging_rig(url, start_ms=start_ms, around=watched.around, make=make)
        )
        assert isinstance(bed, Bed)
        bed.near = stack.enter_context(near(bed.plan))
        if kind == "schwab":
            bed.schwab = twin = SchwabTwin(bed.world, bed.plan)
            twin.market.prices = {symbol: D(price) for symbol, price in PRICES.items()}
            twin.book.shares = {symbol: D(HELD) for symbol in SYMBOLS}
            twin.book.cash = CASH
            app = FaultMiddleware(twin.app, bed.plan, "schwab", twin.call_name, bed.world.now_ms)
            around = watched.around("schwab", app, twin.call_name)
            bed.urls["schwab"] = await stack.enter_async_context(served(around))
            await bed.log_in()

        def catch_up() -> None:
            bed.broker.catch_up()
            if bed.schwab is not None:
                bed.schwab.catch_up()

        control = control_app(bed.world, bed.plan, {}, catch_up, lambda: None)
        bed.control_url = await stack.enter_async_context(served(control))
        with bed.commits.counted():
            yield bed
