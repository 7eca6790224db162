"""Entries and exits of many accounts asked for at once, done by several workers; what books and venues say at the end."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from evenkeel.legs import CARRY, LegSide
from evenkeel.types import IntentState
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.reconcile import reconcile_accounts
from flows.carry.recover import recover_accounts
from tasks.carry.mark import LIVE
from tests.carry.fleet import FleetRig, fleet_rig
from tests.databases import empty_postgres, with_driver
from tests.workers.stack import Stack, deploy, stack, workers

ENTER, EXIT = "enter/open-position", "exit/close-position"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
OF_ONE_ACCOUNT = (EXIT, ENTER, EXIT, ENTER, ENTER)
"""What is asked for each account, again and again: more than can be done, for one position is held at a time."""
SPEED = 2.0
"""World seconds a second: a chain's confirmations take long enough."""
TURNS = 8
"""How often books and venues are compared until every account could be read."""
LIMITS = {"max_total_exposure_usd": "1000000000"}


Wanted = tuple[str, dict[str, Any]]
"""What is asked for: a deployment, and its request."""


@dataclass
class Outcome:
    """What became of everything that was asked for. `faults`: what disagrees at the end, in words."""

    asked: int
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    positions: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """In words, for people."""
        return [
            f"{self.asked} asked for, done in {self.seconds:.0f} s; {self.orders} orders executed",
            *(f"{count} runs {state}" for state, count in sorted(self.states.items())),
            *(f"{count} positions {status}" for status, count in sorted(self.positions.items())),
            *(f"{count} x {text}" for text, count in self.said.most_common()),
            *(f"DISAGREES: {one}" for one in self.faults),
        ]


async def asked_at_once(
    folder: Path,
    asked: int,
    accounts: int,
    *,
    count: int = 3,
    each: int = 2,
    seed: int = 1,
    with_prefect: bool = True,
    within_s: float = 3600,
) -> Outcome:
    """Give every other account a position, ask for so many entries and exits at once, wait for the last, and compare. The
    workers are Prefect's, each with so many runs at a time, or processes that do their share at once.
    """
    outcome = Outcome(asked)
    with ExitStack() as running:
        ledger = with_driver(running.enter_context(empty_postgres()))
        async with fleet_rig(folder, accounts, limits=LIMITS, database_url=ledger, speed=SPEED) as rig:
            held = {}
            for desk in rig.desks[::2]:
                done = await enter_position(desk, EnterRequest())
                assert done.position_id is not None, done
                held[desk.store.member] = done.position_id
            wanted = _wanted(rig, held, asked, random.Random(seed))
            if with_prefect:
                home = folder / "prefect"
                servers = running.enter_context(stack(home))
                await asyncio.to_thread(deploy, servers, rig.config, "open-position", "close-position")
                running.enter_context(workers(servers, rig.config, home, count, each))
                began = time.monotonic()
                await _ask(servers, wanted)
                outcome.states, outcome.said = await _ended(servers, len(wanted), within_s)
            else:
                began = time.monotonic()
                outcome.states, outcome.said = await _by_processes(rig.config, wanted, count)
            outcome.seconds = time.monotonic() - began
            await _compare(rig, outcome)
    return outcome


async def _by_processes(config: Path, wanted: list[Wanted], count: int) -> tuple[Counter[str], Counter[str]]:
    """Each process has its share, and begins when all are ready."""
    command = (sys.executable, "-m", "tests.workers.worker", str(config))
    processes = [
        await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**20)
        for _ in range(count)
    ]
    try:
        for one in processes:
            assert one.stdout is not None and await one.stdout.readline() == b"ready\n"
        answers = await asyncio.gather(
            *(
                one.communicate(json.dumps(wanted[number::count]).encode() + b"\n")
                for number, one in enumerate(processes)
            )
        )
    finally:
        for one in processes:
            if one.returncode is None:
                one.kill()
                await one.wait()
    done = [row for said, _ in answers for row in json.loads(said)]
    texts = Counter(text for state, text in done if state != "Completed")
    return Counter(state for state, _ in done), texts


def _wanted(rig: FleetRig, held: dict[str, str], asked: int, chance: random.Random) -> list[Wanted]:
    """What is asked for, in an order of chance: the deployment and its request."""
    names = [desk.store.member for desk in rig.desks]
    found: list[Wanted] = []
    for number in range(asked):
        name, what = names[number % len(names)], OF_ONE_ACCOUNT[number // len(names) % len(OF_ONE_ACCOUNT)]
        if what == EXIT and name in held:
            found.append((EXIT, {"position_id": held[name], "emergency": chance.random() < 0.2}))
        else:
            found.append((ENTER, {"account": name, "dry_run": False}))
    chance.shuffle(found)
    return found


async def _ask(servers: Stack, wanted: list[Wanted]) -> None:
    """Every run at once, by all servers in turn."""
    async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
        ids = {}
        for name in (ENTER, EXIT):
            found = await http.get(f"{servers.urls[0]}/deployments/name/{name}")
            ids[name] = found.raise_for_status().json()["id"]

        async def ask(number: int, name: str, request: dict[str, Any]) -> None:
            url = servers.urls[number % len(servers.urls)]
            body = {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}}
            answer = await http.post(f"{url}/deployments/{ids[name]}/create_flow_run", json=body)
            answer.raise_for_status()

        await asyncio.gather(*(ask(number, *one) for number, one in enumerate(wanted)))


async def _ended(servers: Stack, count: int, within_s: float) -> tuple[Counter[str], Counter[str]]:
    """The states of all runs once the last has ended, and what those that did not complete say."""
    async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
        ends = time.monotonic() + within_s
        while True:
            answer = await http.post(f"{servers.urls[-1]}/flow_runs/filter", json={"limit": 200})
            rows = answer.raise_for_status().json()
            left = [row for row in rows if row["state_type"] not in ENDED]
            if len(rows) == count and not left:
                break
            assert time.monotonic() < ends, Counter(row["state_name"] for row in rows)
            await asyncio.sleep(1)
    states = Counter(str(row["state_name"]) for row in rows)
    said = Counter(
        _plain(row["state"]["message"] or "", row) for row in rows if row["state_type"] != "COMPLETED"
    )
    return states, said


def _plain(text: str, row: dict[str, Any]) -> str:
    """A text without what differs from run to run."""
    position = str(row["parameters"].get("request", {}).get("position_id") or "-")
    return " ".join(text.replace(position, "POSITION").split())[:160]


async def _compare(rig: FleetRig, outcome: Outcome) -> None:
    """Books against venues, both ways: by the product's own comparison, and by the twins' ledgers beside our rows."""
    for _ in range(TURNS):  # several processes have spent the venue's weight: it grants more each second
        recovered = await recover_accounts(rig.desks)
        compared = await reconcile_accounts(rig.desks)
        if not recovered.comparison.unreadable and not compared.found.unreadable:
            break
        await rig.desk.clock.sleep(30)
    store, faults = rig.whole, outcome.faults
    outcome.positions = Counter(str(one.status) for one in store.carry.positions())
    if left := store.unfinished_intents(CARRY):
        faults.append(f"{len(left)} orders are not final")
    faults += [f"interrupted: {one}" for one in recovered.still_interrupted]
    faults += [f"unowned: {one}" for one in recovered.comparison.unowned]
    faults += [f"unreadable: {one}" for one in recovered.comparison.unreadable.items()]
    if not compared.agrees:
        faults += [str(one) for one in (*compared.found.findings, *compared.found.unreadable.items())]
    shorts, accounts = rig.shorts(), rig.control("hyperliquid", "ledger")["accounts"]
    longs = rig.control("asgard", "ledger")["positions"]
    for desk in rig.desks:
        name, books = desk.store.member, desk.store.carry
        live = books.positions(LIVE)
        if len(live) > 1:
            faults.append(f"{name} holds {len(live)} positions")
        legs = [leg for one in live for leg in books.legs(one.position_id) if leg.is_open]
        short = sum((leg.qty for leg in legs if leg.side is LegSide.SHORT), Decimal(0))
        if short != shorts[name]:
            faults.append(f"{name}: {short} SOL short in the books, {shorts[name]} at the venue")
        held = [one for one in longs if one["live"] and one["owner"] == desk.long.wallet]
        if len(held) != sum(leg.side is LegSide.LONG for leg in legs):
            faults.append(f"{name}: {len(held)} lending positions, {len(legs)} legs in the books")
        executed = {fill["oid"] for fill in accounts[desk.short.address]["fills"]}
        confirmed = [
            one
            for position in books.positions()
            for one in store.intents_of(CARRY, position.position_id)
            if one.venue == "hyperliquid" and one.state is IntentState.CONFIRMED
        ]
        outcome.orders += len(executed)
        if len(executed) != len(confirmed):
            faults.append(f"{name}: {len(executed)} orders executed, {len(confirmed)} confirmed in the books")
