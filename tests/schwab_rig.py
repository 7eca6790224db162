"""Schwab's twin on loopback, a login at it, and our venue on top; time stands until somebody waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

from evenkeel.errors import LostRace
from evenkeel.sealing import Sealer, StoredToken, TokenStore
from evenkeel.types import IntentSpec, Signed
from tasks.hedging.schwab_login import SchwabLogin
from twins.faults import App, Fault
from twins.schwab.app import SchwabTwin
from twins.schwab.serve import RunningSchwab, SchwabOptions, running_schwab
from venues.broker import HedgeOrder
from venues.broker_rules import OrderRules
from venues.schwab.client import SchwabClient
from venues.schwab.oauth import App as SchwabApp
from venues.schwab.oauth import SchwabOauth
from venues.schwab.venue import CAPABILITIES, SchwabVenue

TOKEN_KEY = "5c" * 32
SYMBOLS = {"AMD": Decimal(500), "NVDA": Decimal(500)}


class StandingClock:
    """The world's time; whoever waits moves it on."""

    def __init__(self, running: RunningSchwab) -> None:
        self._world = running.world

    def now_ms(self) -> int:
        return self._world.now_ms()

    async def sleep(self, seconds: float) -> None:
        self._world.clock.advance_to(self._world.now_ms() + seconds * 1000)

    async def refresh(self) -> None:
        """Nothing to agree with."""


@dataclass
class Rows:
    """A table of sealed tokens that outlives every process; all that was ever written is in `history`."""

    rows: dict[str, StoredToken] = field(default_factory=dict)
    history: list[StoredToken] = field(default_factory=list)

    def token(self, name: str) -> StoredToken | None:
        return self.rows.get(name)

    def keep_token(self, kept: StoredToken) -> None:
        before = self.rows.get(kept.name)
        if (before.version if before else 0) != kept.version - 1:
            raise LostRace(f"the row {kept.name} is at another version")
        self.rows[kept.name] = kept
        self.history.append(kept)


@dataclass
class SchwabRig:
    """Everything a test touches. `claims` are the ids of orders that the ledger has, each with its intent."""

    running: RunningSchwab
    clock: StandingClock
    store: Rows
    made: AsyncExitStack
    claims: dict[str, str] = field(default_factory=dict)
    steps: int = 0
    login: SchwabLogin = field(init=False)
    client: SchwabClient = field(init=False)
    venue: SchwabVenue = field(init=False)

    @property
    def twin(self) -> SchwabTwin:
        return self.running.twin

    @property
    def url(self) -> str:
        return self.running.urls["schwab"]

    def login_for(self, key: str = TOKEN_KEY, store: TokenStore | None = None) -> SchwabLogin:
        """The login of another process with the same rows."""
        app = SchwabApp(self.twin.login.app_key, self.twin.login.app_secret, self.twin.login.redirect_uri)
        oauth = SchwabOauth(self.url, self.clock, app)
        self.made.push_async_callback(oauth.aclose)
        return SchwabLogin(oauth, store or self.store, Sealer(key), self.clock)

    def client_for(self, login: SchwabLogin) -> SchwabClient:
        client = SchwabClient(self.url, self.clock, login)
        self.made.push_async_callback(client.aclose)
        return client

    def venue_for(self, client: SchwabClient | None = None, **renamed: str) -> SchwabVenue:
        """The venue of another process for the same account."""
        rules = OrderRules(SYMBOLS, CAPABILITIES, renamed)
        return SchwabVenue(client or self.client_for(self.login_for()), rules, lambda: self.claims)

    async def log_in(self, login: SchwabLogin) -> None:
        """Do as a person does who opens the link, allows access, and pastes the address that the browser shows."""
        await login.finish(self.twin.login.allow(state_of(login.begin())))

    def intent(self, symbol: str = "AMD", side: str = "buy", qty: str = "10") -> IntentSpec:
        self.steps += 1
        order = HedgeOrder.model_validate(
            {"symbol": symbol, "side": side, "qty": qty, "marked_ms": self.clock.now_ms()}
        )
        return self._intent(order.model_dump(mode="json"), symbol)

    def _intent(self, order: dict[str, Any], symbol: str) -> IntentSpec:
        return IntentSpec(
            intent_id=f"hedge-{self.steps}",
            business="hedging",
            subject=symbol,
            venue="schwab",
            kind="hedge",
            step=self.steps,
            order=order,
        )

    def bad_intent(self, **changes: str) -> IntentSpec:
        """An order that no settings or broker allow, by what is changed of a good one."""
        good = self.intent()
        return good.model_copy(update={"order": {**good.order, **changes}})

    async def signed(self, intent: IntentSpec) -> Signed:
        return await self.venue.sign(intent, await self.venue.build(intent))

    def fault(self, kind: str, call: str = ".*", times: int = 1, **args: Any) -> None:
        self.running.faults.add(Fault("schwab", kind, call, times=times, args=args))

    def calls(self, call: str) -> int:
        return sum(1 for row in self.running.faults.calls if row["call"] == call)

    def later(self, seconds: float) -> None:
        self.running.world.clock.advance_to(self.clock.now_ms() + seconds * 1000)


@asynccontextmanager
async def schwab_rig(
    around: Callable[[App], App] = lambda app: app, **options: Any
) -> AsyncIterator[SchwabRig]:
    """A twin whose market is open, with a person logged in. Orders are filled as they are placed unless `walk_ms` is set."""
    async with (
        running_schwab(SchwabOptions(stepped=True, **options), around, control=False) as running,
        AsyncExitStack() as made,
    ):
        rig = SchwabRig(running, StandingClock(running), Rows(), made)
        rig.twin.book.walk_ms = 0
        rig.login = rig.login_for()
        await rig.log_in(rig.login)
        rig.client = rig.client_for(rig.login)
        rig.venue = rig.venue_for(rig.client)
        yield rig


def state_of(address: str) -> str:
    """The `state` of an authorize link."""
    return parse_qs(urlsplit(address).query)["state"][0]
