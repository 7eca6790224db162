"""`evenkeel doctor`: fresh twins are healthy; each thing provoked on them is found and comes with what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from solders.account import Account
from solders.pubkey import Pubkey
from solders.token.state import TokenAccount

from app.doctor import hosts, prefect
from app.doctor.doctor import Examination, Line, examine
from app.doctor.frame import CHECKS, Check, Health, Installation, Verdict
from evenkeel.clock import Clock
from evenkeel.settings.settings import Settings, load_settings
from tasks.leases import own_name
from tests.carry.rig import Rig, story_rig
from tests.databases import another_process, by_hand

USDC = Pubkey.from_string("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")
EXPECTED_WARNINGS = {"second solana provider", "server"}
"""The rig has one node and no Prefect server."""


@dataclass
class Skewed:
    """A clock that is wrong by a fixed time."""

    true: Clock
    by_ms: int

    def now_ms(self) -> int:
        return self.true.now_ms() + self.by_ms

    async def sleep(self, seconds: float) -> None:
        await self.true.sleep(seconds)

    async def refresh(self) -> None:
        await self.true.refresh()


def line(found: Examination, group: str, name: str) -> Line:
    return next(one for one in found.lines if (one.group, one.name) == (group, name))


def failed(found: Examination) -> set[str]:
    return {f"{one.group}: {one.name}" for one in found.lines if one.verdict.health is Health.FAIL}


def settings_of(rig: Rig, **changes: dict[str, object]) -> Settings:
    settings = load_settings(rig.config)
    updates = {name: getattr(settings, name).model_copy(update=change) for name, change in changes.items()}
    return settings.model_copy(update=updates)


async def test_fresh_twins_are_healthy_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect, "assumed", set())  # what a command in this process set for itself
    monkeypatch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(hosts, "SLOW_MS", 60_000)  # how fast this machine answers is not the question here
    async with story_rig(tmp_path) as rig:
        before = rig.fingerprint()
        found = await examine(load_settings(rig.config))
        assert rig.fingerprint() == before
        bad = [one for one in found.lines if one.verdict.health is not Health.OK]
        assert {one.name for one in bad} == EXPECTED_WARNINGS, bad
        assert found.healthy and len(found.lines) == len(CHECKS) + 1
        body = found.as_dict()
        assert body["ok"] and body["counts"] == {
            "ok": len(found.lines) - len(EXPECTED_WARNINGS),
            "warn": len(EXPECTED_WARNINGS),
            "fail": 0,
        }


def wrong_mode(rig: Rig) -> None:
    rig.control("hyperliquid", "set_abstraction", address=rig.address, mode="portfolioMargin")


def expired_agent(rig: Rig) -> None:
    agent = rig.twins.keys["hyperliquid"]["agent_address"]
    at_ms = rig.world.now_ms() - 1000
    rig.control(
        "hyperliquid", "approve_agent", master=rig.address, agent=agent, name="trader", valid_until_ms=at_ms
    )


def expiring_agent(rig: Rig) -> None:
    agent = rig.twins.keys["hyperliquid"]["agent_address"]
    at_ms = rig.world.now_ms() + 3 * 86_400_000
    rig.control(
        "hyperliquid", "approve_agent", master=rig.address, agent=agent, name="trader", valid_until_ms=at_ms
    )


def wallet_of(rig: Rig) -> Pubkey:
    return Pubkey.from_string(rig.twins.keys["solana"]["address"])


def put_account(rig: Rig, key: Pubkey, account: Account) -> None:
    rig.on_twins(lambda: rig.twins.chain.set_account(key, account))
    rig.later(20)


def no_gas(rig: Rig) -> None:
    put_account(rig, wallet_of(rig), Account(1_000_000, b"", Pubkey.default()))


def no_usdc(rig: Rig) -> None:
    rig.set_usdc("solana", 10)


def drained(rig: Rig) -> None:
    rig.set_usdc("hyperliquid", 20)


def token_account(rig: Rig, delegate: Pubkey | None, close_authority: Pubkey | None) -> None:
    from twins.solana.tokens import ata, read_token

    address = ata(wallet_of(rig), USDC)
    present = rig.on_twins(lambda: rig.twins.chain.account(address))
    assert present is not None
    old = read_token(present)
    lent = 10**12 if delegate else 0
    state = TokenAccount(old.mint, old.owner, old.amount, delegate, old.state, None, lent, close_authority)
    put_account(rig, address, Account(present.lamports, bytes(state), present.owner))


def delegate(rig: Rig) -> None:
    token_account(rig, Pubkey.new_unique(), None)


def foreign_closer(rig: Rig) -> None:
    token_account(rig, None, Pubkey.new_unique())


def wrong_mint(rig: Rig) -> None:
    present = rig.on_twins(lambda: rig.twins.chain.account(USDC))
    assert present is not None
    data = bytearray(present.data)
    data[44] = 9
    put_account(rig, USDC, Account(present.lamports, bytes(data), present.owner))


def halted(rig: Rig) -> None:
    rig.control("solana", "halt")
    rig.later(120)


def crowded(rig: Rig) -> None:
    rig.control("solana", "congestion", micro_lamports=100_000_000)
    rig.later(120)


def paused(rig: Rig) -> None:
    rig.desk.store.pause("entries", "a look at the books")


def alarmed(rig: Rig) -> None:
    from state.watch_models import Severity

    rig.desk.store.alert("leg vanished", Severity.CRITICAL, "gone", subject="P")


def dead_lease(rig: Rig) -> None:
    with another_process() as (_, owner):
        assert rig.desk.store.acquire("position:P", owner, 60_000_000)


def hanging_lease(rig: Rig) -> None:
    assert rig.desk.store.acquire("position:P", own_name(), -1)


def half_way(rig: Rig) -> None:
    from decimal import Decimal

    rig.desk.store.carry.create_position("P", asset="SOL", leverage=Decimal(3), protocol=1)


def unowned(rig: Rig) -> None:
    from decimal import Decimal

    from evenkeel.legs import LegSide
    from evenkeel.types import VenueName
    from state.carry.models import Leg

    rig.desk.store.carry.create_position("P", asset="SOL", leverage=Decimal(3), protocol=1)
    rig.desk.store.carry.put_leg(
        Leg(
            position_id="P",
            side=LegSide.SHORT,
            venue=VenueName.HYPERLIQUID,
            ref="SOL",
            asset="SOL",
            qty=Decimal(3),
            opened_ms=1,
        )
    )


@pytest.mark.parametrize(
    ("provoke", "where", "health", "said", "advice"),
    [
        (wrong_mode, ("exit needs", "account_mode"), "fail", "portfolioMargin", "own key"),
        (expired_agent, ("accounts", "agent"), "fail", "nor a living named agent", "approve an agent"),
        (expired_agent, ("exit needs", "agent_key"), "fail", "not approved", "own key"),
        (expiring_agent, ("exit needs", "agent_key"), "warn", "3 days", "approve the agent anew"),
        (no_gas, ("exit needs", "fee_money"), "fail", "0.0010 SOL", "send SOL"),
        (no_usdc, ("accounts", "USDC in the wallet"), "fail", "10.00 USD", "send USDC"),
        (drained, ("accounts", "USDC on Hyperliquid"), "fail", "20.00 USD", "deposit USDC"),
        (delegate, ("accounts", "token approvals"), "fail", "has a delegate", "spl-token revoke"),
        (foreign_closer, ("accounts", "token approvals"), "fail", "can be closed by", "close --disable"),
        (wrong_mint, ("solana", "mints"), "fail", "9 decimals, expected 6", "do not trade"),
        (halted, ("solana", "slots advance"), "fail", "no slot", "do not enter"),
        (halted, ("clock", "against Solana"), "fail", "old", "stands still"),
        (crowded, ("solana", "fee market"), "warn", "lamports", "wait"),
        (paused, ("ledger", "pauses"), "warn", "a look at the books", "resume"),
        (alarmed, ("ledger", "alerts"), "warn", "leg vanished", "status"),
        (dead_lease, ("ledger", "leases"), "warn", "position:P", "recover"),
        (
            hanging_lease,
            ("ledger", "leases"),
            "warn",
            "does not renew: position:P (process",
            "stop that process",
        ),
        (half_way, ("ledger", "unfinished work"), "warn", "P is OPENING", "recover"),
        (unowned, ("ledger", "legs are owned"), "fail", "does not know it", "reconcile"),
    ],
)
async def test_what_is_wrong_is_found_and_says_what_to_do(
    tmp_path: Path,
    provoke: Callable[[Rig], None],
    where: tuple[str, str],
    health: str,
    said: str,
    advice: str,
) -> None:
    async with story_rig(tmp_path) as rig:
        provoke(rig)
        found = line(await examine(load_settings(rig.config)), *where)
        assert found.verdict.health == health, found
        assert said in found.verdict.detail, found
        assert advice in found.verdict.advice, found


async def test_that_our_own_wallet_may_close_its_account_is_no_danger(tmp_path: Path) -> None:
    """The validator accepts it too."""
    async with story_rig(tmp_path) as rig:
        token_account(rig, None, wallet_of(rig))
        found = line(await examine(load_settings(rig.config)), "accounts", "token approvals")
        assert found.verdict.health is Health.OK, found


async def test_a_foreign_position_is_found(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(asset="SOL", protocol=1)
        with by_hand(tmp_path / "evenkeel.db") as ledger:
            ledger.execute("DELETE FROM legs")
        found = line(await examine(load_settings(rig.config)), "accounts", "foreign positions")
        assert found.verdict.health is Health.FAIL and "short" in found.verdict.detail
        assert "by hand" in found.verdict.advice


@pytest.mark.parametrize(("by_ms", "word"), [(60_000, "ahead of"), (-60_000, "behind")])
async def test_a_clock_that_is_wrong(tmp_path: Path, by_ms: int, word: str) -> None:
    async with story_rig(tmp_path) as rig:
        skewed = Skewed(rig.desk.clock, by_ms)
        found = await examine(load_settings(rig.config), clock=skewed)
        one = line(found, "clock", "against Hyperliquid")
        assert one.verdict.health is Health.FAIL and word in one.verdict.detail
        assert "synchronisation" in one.verdict.advice


@pytest.mark.parametrize(
    ("section", "field", "check"),
    [
        ("hyperliquid", "url", "hyperliquid answers"),
        ("solana", "rpc_url", "solana answers"),
        ("asgard", "url", "asgard answers"),
    ],
)
async def test_a_host_out_of_reach_fails_its_checks_and_no_others(
    tmp_path: Path, section: str, field: str, check: str
) -> None:
    async with story_rig(tmp_path) as rig:
        settings = settings_of(rig, **{section: {field: "http://127.0.0.1:9"}})
        found = await examine(settings)
        one = line(found, "hosts", check)
        assert one.verdict.health is Health.FAIL and f"{section}.{field}" in one.verdict.advice
        assert line(found, "ledger", "writable").verdict.health is Health.OK
        for other in {"hyperliquid answers", "solana answers", "asgard answers"} - {check}:
            verdict = line(found, "hosts", other).verdict
            assert (
                verdict.health is not Health.FAIL and " answers in " in verdict.detail
            )  # slowly, on a busy machine


async def test_a_locked_ledger(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        holder = sqlite3.connect(tmp_path / "evenkeel.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            one = line(await examine(load_settings(rig.config)), "ledger", "writable")
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        assert one.verdict.health is Health.FAIL and "locked" in one.verdict.detail
        assert "another process" in one.verdict.advice


@pytest.mark.parametrize(("sql", "said"), [("UPDATE alembic_version SET version_num = '0001'", "db upgrade")])
async def test_an_old_schema(tmp_path: Path, sql: str, said: str) -> None:
    async with story_rig(tmp_path) as rig:
        with sqlite3.connect(tmp_path / "evenkeel.db") as ledger:
            ledger.execute(sql)
        found = await examine(load_settings(rig.config))
        one = line(found, "ledger", "schema")
        assert one.verdict.health is Health.FAIL and said in one.verdict.advice
        assert "not checked" in line(found, "ledger", "pauses").verdict.detail


async def test_a_missing_key_leaves_the_hosts_checked(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        settings = settings_of(rig, solana={"key_file": None})
        found = await examine(settings)
        one = line(found, "accounts", "keys")
        assert one.verdict.health is Health.FAIL and "EVENKEEL_SOLANA_KEY" in one.verdict.detail
        assert line(found, "hosts", "solana answers").verdict.health is Health.OK


async def test_the_accounts_own_key_is_weighed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with story_rig(tmp_path) as rig:
        monkeypatch.setenv("EVENKEEL_HYPERLIQUID_KEY", rig.twins.keys["hyperliquid"]["master_private_key"])
        refused = line(await examine(settings_of(rig)), "accounts", "keys")
        assert refused.verdict.health is Health.FAIL and "could withdraw" in refused.verdict.detail
        allowed = line(
            await examine(settings_of(rig, signers={"allow_master_key": True})), "accounts", "keys"
        )
        assert allowed.verdict.health is Health.WARN


async def test_a_check_that_breaks_or_hangs_is_a_failed_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(installation: Installation) -> Verdict:
        raise ZeroDivisionError("of the check")

    async def hanging(installation: Installation) -> Verdict:
        import asyncio

        await asyncio.Event().wait()
        raise AssertionError

    async with story_rig(tmp_path) as rig:
        added = [Check("test", "broken", broken), Check("test", "hanging", hanging)]
        monkeypatch.setattr("app.doctor.doctor.CHECKS", [*CHECKS[:3], *added])
        found = await examine(load_settings(rig.config), timeout_s=2)
        assert failed(found) == {"test: broken", "test: hanging"}
        assert "ZeroDivisionError" in line(found, "test", "broken").verdict.detail
        assert "no answer within 2 s" in line(found, "test", "hanging").verdict.detail
