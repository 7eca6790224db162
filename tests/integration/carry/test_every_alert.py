"""Every alert of the runbook once: in the ledger, at the Slack twin, in a real Prometheus; and its end in all three.

Sender, exporter, Prometheus with the rules as shipped, and Slack twin run. The alerts of `OF_INCIDENTS` come of what the twins,
the host or a person do, and the watch, the watchdog or the comparison raises and ends them. Every other is raised by the
function that raises all of them (`Store.alert`), because its incident takes a test of its own, which says that it is raised.
Three are notices: they are sent because the ledger cannot be written, so that neither it nor Prometheus has them; for a ledger
that cannot be read Prometheus has a rule of its own.
"""

from __future__ import annotations

import asyncio
import shutil
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr
from solders.account import Account
from solders.pubkey import Pubkey

from app.messages.sending import meanings
from app.metrics.serving import metrics
from app.watchdog import Watchdog
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import load_settings
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.reconcile import reconcile_and_act
from state.migrations.versions.v0004_messages import NEWS
from state.watch_models import Alert, Severity
from tasks.admin import check_key, make_hash
from tasks.carry.books.collect import collect_everything
from tasks.carry.watching.meanings import MEANINGS
from tasks.channels import Notifier
from tasks.messages.compose import load_meanings
from tasks.messages.sender import LEASE, Sender
from tasks.messages.slack import SlackChannel
from tests.carry.rig import NO_RESERVE, Rig, story_rig, watched
from tests.integration.carry.test_prometheus import asked, free_port, judged_again, prometheus, until
from tests.message_rig import CHANNEL
from tests.unit.carry.test_prometheus_rules import rule_of
from twins.http import served
from twins.slack import SlackTwin

OF_INCIDENTS = frozenset(
    {
        "account_mode", "agent_key", "breaker tripped", "carry", "disk_space", "drift_limit", "fee_money", "fee_spike",
        "funding_turned", "half_distance:long", "leg reduced", "lst_peg", "near_exit:long", "not watched", "not_understood",
        "odd answer", "outage", "price_gap", "resize refused", "stale:short", "venue_clock", "wallets_apart", "wrong admin key",
    }
)  # fmt: skip
"""What at least comes of incidents; some raise more."""
NOTICES = frozenset({"ledger unavailable", "closed without the ledger", "still held"})
STATE = "info:clearinghouseState"
Step = Callable[[], Awaitable[object]]


def title(row: Alert, word: str) -> str:
    of = f" ({row.subject})" if row.subject else ""
    return f"{word}: {row.kind.replace('_', ' ')}{of}"


@dataclass
class Scene:
    """The rig, where its alerts go, and what has been seen of them there."""

    rig: Rig
    slack: SlackTwin
    channel: SlackChannel
    address: str
    position: str
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_incident: set[str] = field(default_factory=set)

    @property
    def rows(self) -> list[Alert]:
        return self.rig.desk.store.alerts()

    def said(self, since: int) -> Counter[str]:
        """First lines of what Slack shows, of what came after the first so many messages."""
        return Counter(one["text"].split("\n")[0] for one in self.slack.shown()[since:])

    def firing(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Names and severities of what fires in Prometheus for an alert of the ledger, by kind and subject."""
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for one in (asked(self.address, "alerts") or {}).get("alerts", []):
            labels = one["labels"]
            if one["state"] == "firing" and "kind" in labels:
                name = (labels["kind"], labels.get("subject", ""))
                found.setdefault(name, []).append((labels["alertname"], labels["severity"]))
        return found

    async def play(self, begin: Step, end: Step, by_incident: bool = True) -> None:
        """Let it begin, find everything that is open then in all three places, let it end, and find that too."""
        store, since, known = self.rig.desk.store, len(self.slack.shown()), len(self.rows)
        await begin()
        standing = [row for row in self.rows[known:] if row.acked_ms is None]
        raised = {(row.kind, row.subject) for row in standing}
        assert standing and len(raised) == len(standing)
        await self.agrees()
        wanted = {title(row, row.severity.upper()) for row in standing}
        await until(
            lambda: self.said(since).keys() >= wanted, f"Slack lacks {wanted - self.said(since).keys()}"
        )

        await end()
        for row in standing:
            if row.news:
                store.acknowledge(row.kind, row.subject, "test: seen")
        left = [row for row in store.alerts(open_only=True) if (row.kind, row.subject) in raised]
        assert not left, f"still open: {left}"
        await self.agrees()
        ends = {title(row, "acknowledged" if row.news else "over") for row in standing}
        await until(lambda: self.said(since).keys() >= ends, f"Slack lacks {ends - self.said(since).keys()}")
        said = self.said(since)
        assert {one: said[one] for one in wanted | ends} == dict.fromkeys(wanted | ends, 1), "each once"
        self.seen.update(raised)
        if by_incident:
            self.by_incident |= {row.kind for row in standing}

    async def agrees(self) -> None:
        """Wait until exactly what is open in the ledger fires in Prometheus, by its rule and with its severity."""
        rules = {
            (row.kind, row.subject): [(rule_of(row.kind, row.severity, row.subject), row.severity.value)]
            for row in self.rig.desk.store.alerts(open_only=True)
            if row.severity is not Severity.INFO
        }
        await until(lambda: self.firing() == rules, f"{rules} is open, and does not fire as it should")

    async def watch(self, seconds: float) -> None:
        await watched(self.rig, self.position, seconds)

    def began(self) -> Counter[tuple[str, str]]:
        """How often each alert began in Prometheus, by kind and subject."""
        query = urllib.parse.quote('1 + changes(ALERTS_FOR_STATE{kind!=""}[15m])')
        found: Counter[tuple[str, str]] = Counter()
        for one in asked(self.address, f"query?query={query}")["result"]:
            found[one["metric"]["kind"], one["metric"].get("subject", "")] += int(float(one["value"][1]))
        return found


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A position that is held and watched; sender, exporter and Prometheus at work."""
    async with story_rig(folder, strategy=NO_RESERVE) as rig:
        position = await rig.entered(asset="jitoSOL", protocol=1, leverage=2)
        await watched(rig, position, 40)
        settings, port, twin = load_settings(rig.config), free_port(), SlackTwin()
        chosen = settings.messages.model_copy(update={"escalate_after_s": 86_400})
        settings = settings.model_copy(update={"messages": chosen})
        async with served(twin.app) as base:
            channel = SlackChannel(SecretStr(twin.token), CHANNEL, Severity.INFO, f"{base}/api")
            fence = rig.desk.store.acquire(LEASE, "test", 10**9)
            assert fence is not None
            sender = Sender(settings, rig.desk.store, [channel], meanings(), fence)
            ended = asyncio.Event()
            sending = asyncio.create_task(sender.run(ended))
            try:
                with metrics(settings, port), prometheus(folder, f"127.0.0.1:{port}") as address:
                    found = Scene(rig, twin, channel, address, position)
                    await until(
                        lambda: bool((asked(address, "query?query=evenkeel_ledger_up") or {}).get("result")),
                        "nothing was scraped",
                    )
                    await judged_again(address)
                    yield found
            finally:
                ended.set()
                with suppress(asyncio.CancelledError):
                    await sending


# --- incidents: what begins them, and what ends them ------------------------------------------------------------


def bad_times(scene: Scene) -> tuple[Step, Step]:
    """Market, chain, host and account turn against a position, none of them so far that it is closed."""
    rig = scene.rig
    wallet, chain, limits = (
        Pubkey.from_string(rig.desk.long.wallet),
        rig.twins.chain,
        rig.desk.settings.limits,
    )
    full = chain.account(wallet)
    assert full is not None

    def holds(lamports: int) -> None:
        left = Account(lamports, full.data, full.owner, full.executable, full.rent_epoch)
        rig.on_twins(lambda: chain.set_account(wallet, left))

    def agent_ends(hours: float) -> None:
        until_ms = rig.world.now_ms() + int(hours * 3_600_000)
        who = {"master": rig.address, "agent": rig.desk.short.signer_address, "name": "trader"}
        rig.control("hyperliquid", "approve_agent", **who, valid_until_ms=until_ms)

    def needs_free(amount: int) -> None:
        changed = limits.model_copy(update={"min_free_bytes": amount})
        rig.desk.settings = rig.desk.settings.model_copy(update={"limits": changed})

    async def begin() -> None:
        rig.funding_was(-0.00055)
        rig.market(lst_peg={"jitoSOL": 0.985}, premium=0.012)
        rig.control("solana", "congestion", micro_lamports=40_000_000)
        rig.on_twins(lambda: setattr(rig.world.clock, "host_ahead_ms", -12_000.0))
        holds(1_100_000)
        rig.control("hyperliquid", "set_abstraction", address=rig.address, mode="unifiedAccount")
        agent_ends(36)
        needs_free(10**18)
        rig.later(300)
        await scene.watch(200)

    async def end() -> None:
        rig.funding_was(0.0001)
        rig.market(lst_peg={}, premium=0.0001)
        rig.control("solana", "congestion", micro_lamports=1_000)
        rig.on_twins(lambda: setattr(rig.world.clock, "host_ahead_ms", 0.0))
        holds(full.lamports)
        rig.control("hyperliquid", "set_abstraction", address=rig.address, mode="disabled")
        agent_ends(24 * 90)
        needs_free(limits.min_free_bytes)
        rig.later(300)
        await scene.watch(400)

    return begin, end


def not_watched(scene: Scene) -> tuple[Step, Step]:
    async def begin() -> None:
        scene.rig.later(300)
        await Watchdog(scene.rig.desk.settings, scene.rig.desk.store).round()

    return begin, lambda: scene.watch(40)


def odd_answers(scene: Scene) -> tuple[Step, Step]:
    """A row of a venue's answer makes no sense, and our own is a number that is none."""

    async def begin() -> None:
        scene.rig.fault("hyperliquid", "odd_row", STATE, times=-1)
        own = "assetPositions.0.position.szi"
        scene.rig.fault("hyperliquid", "field", STATE, times=-1, path=own, value="NaN")
        await scene.watch(70)

    async def end() -> None:
        scene.rig.heal()
        await scene.watch(90)

    return begin, end


def venue_out(scene: Scene) -> tuple[Step, Step]:
    async def begin() -> None:
        scene.rig.control("hyperliquid", "halt", mode="502")
        await scene.watch(150)

    async def end() -> None:
        scene.rig.control("hyperliquid", "resume")
        await scene.watch(150)
        scene.rig.later(900)
        await scene.watch(90)

    return begin, end


def somebody_acts(scene: Scene) -> tuple[Step, Step]:
    """Somebody trades on our account by hand, and tries a key that is wrong."""
    rig = scene.rig

    async def begin() -> None:
        part = (rig.short_qty() * 2 / 100).quantize(rig.short_qty())
        rig.trade_by_hand("SOL", f"{part:.2f}")
        await reconcile_and_act(rig.desk)
        await scene.watch(20)  # the next tick finds both legs level again
        admin = rig.desk.settings.admin.model_copy(update={"key_hash": make_hash("the right key")})
        settings = rig.desk.settings.model_copy(update={"admin": admin})
        with pytest.raises(OperatorError, match="not the admin key"):
            check_key(settings, rig.desk.store, "not the key at all", "pause")

    return begin, lambda: scene.watch(40)


def near_liquidation(scene: Scene) -> tuple[Step, Step]:
    """The price falls, and the lender takes no change of the long."""
    rig = scene.rig
    entry = float(rig.desk.store.carry.position(scene.position).facts["entry_distance"]["long"])

    async def begin() -> None:
        rig.fault("asgard", "reject", "POST /position/.*", times=-1)
        rig.market(sol_price=200.0 * (1 - entry) / (1 - 0.14))
        await scene.watch(35)

    async def end() -> None:
        rig.heal()
        rig.market(sol_price=200.0)
        await scene.watch(200)

    return begin, end


def money_apart(scene: Scene) -> tuple[Step, Step]:
    """After a close one venue has most of the money."""
    rig = scene.rig

    async def begin() -> None:
        rig.fund("60000")
        done = await exit_position(rig.desk, ExitRequest(position_id=scene.position))
        assert done.status == "CLOSED", done

    async def end() -> None:
        half = int((await rig.desk.long.wallet_balances()).usdc)
        rig.set_usdc("hyperliquid", half)
        await collect_everything(rig.desk)

    return begin, end


INCIDENTS = (bad_times, not_watched, odd_answers, venue_out, somebody_acts, near_liquidation, money_apart)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here")
@pytest.mark.timeout(900)
async def test_every_alert_fires_once_and_ends_in_ledger_slack_and_prometheus(tmp_path: Path) -> None:
    kinds = load_meanings(MEANINGS).keys()
    async with scene(tmp_path) as found:
        store = found.rig.desk.store
        for incident in INCIDENTS:
            await found.play(*incident(found))
        assert found.by_incident >= OF_INCIDENTS, sorted(OF_INCIDENTS - found.by_incident)

        rest = sorted(kinds - found.by_incident - NOTICES)

        async def begin() -> None:
            for number, kind in enumerate(rest):
                severity = (Severity.CRITICAL, Severity.WARNING)[number % 2]
                if kind == "rebalance":  # what is only information pages nobody
                    severity = Severity.INFO
                store.alert(kind, severity, f"played: {kind}", f"P{number}", news=kind in NEWS)

        async def end() -> None:
            for number, kind in enumerate(rest):
                if kind not in NEWS:
                    store.ack_alert(kind, f"P{number}")

        await found.play(begin, end, by_incident=False)
        assert {kind for kind, _ in found.seen} == kinds - NOTICES
        rows = Counter((row.kind, row.subject) for row in found.rows)
        began = await asyncio.to_thread(found.began)
        paged = {name for name in found.seen if name[0] != "rebalance"}
        assert all(found.seen[name] <= began[name] <= rows[name] for name in paged), (found.seen, began, rows)

        since, notifier = len(found.slack.shown()), Notifier(found.rig.desk.clock, found.channel)
        for kind in sorted(NOTICES) * 2:
            notifier.notify(kind, Severity.CRITICAL, f"played: {kind}", "P")
        await notifier.flushed()
        assert found.said(since) == dict.fromkeys((f"critical: {kind} (P)" for kind in NOTICES), 1)
