"""What the command line refuses: one line on standard error, an exit code, nothing sent, nothing stored, no key shown."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from solders.keypair import Keypair

from evenkeel.legs import CARRY
from tests.chaos.carry.command_rig import CarryRig, carry_rig
from tests.chaos.commands import Command, Ended

ENTER = ("enter", "--asset", "SOL", "--protocol", "1")
WRITES = re.compile(r"exchange:|rpc:sendTransaction|POST /(create|close)-position$|/submit-|POST /position/")
DEAD = "http://127.0.0.1:9"
SECTION = {"url": "hyperliquid", "rpc_url": "solana"}


@dataclass
class Line:
    """The command line in front of running twins."""

    rig: CarryRig
    made: int = 0

    async def run(self, *arguments: str, config: Path | None = None, **environment: str) -> Ended:
        """A command with these settings and environment variables."""
        self.made += 1
        chosen = [] if config is None else ["--config", str(config)]
        command = Command([*chosen, *arguments], self.rig.folder, f"line-{self.made}", environment)
        ended = await command.end()
        self.no_secrets(ended)
        return ended

    async def refused(self, says: str, *arguments: str, **more: Any) -> Ended:
        """The command is refused in one line that matches `says`, and nothing has happened."""
        before = self.rows()
        self.rig.proxy.watch_for(None)
        more.setdefault("config", self.rig.config)
        ended = await self.run(*arguments, **more)
        assert ended.code in (1, 2), ended
        lines = ended.err.strip().splitlines()
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("evenkeel: "), ended.err
        assert re.search(says, lines[0]), lines[0]
        assert "Traceback" not in ended.err + ended.out
        assert [call for call in self.rig.proxy.calls if WRITES.search(call)] == []
        assert self.rows() == before
        return ended

    def rows(self) -> tuple[int, int]:
        """How many positions and intents the ledger holds."""
        store = self.rig.store()
        try:
            return len(store.carry.positions()), len(store.unfinished_intents(CARRY))
        finally:
            store.close()

    def no_secrets(self, ended: Ended) -> None:
        keys = self.rig.twins.keys
        hidden = [
            keys["hyperliquid"]["agent_private_key"],
            keys["hyperliquid"]["agent_private_key"].removeprefix("0x"),
            keys["solana"]["private_key"],
            keys["asgard"]["api_key"],
        ]
        for secret in hidden:
            assert secret not in ended.out + ended.err, "a key was shown"

    def settings(self, *changes: tuple[str, str], append: str = "") -> Path:
        """A copy of the settings with texts replaced (each must occur) and lines added."""
        text = self.rig.config.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.made += 1
        path = self.rig.folder / f"settings-{self.made}.toml"
        path.write_text(text + append)
        return path


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with carry_rig(tmp_path) as rig:
        yield Line(rig)


async def test_settings_that_cannot_be_used(line: Line, tmp_path: Path) -> None:
    world = line.rig.settings.clock.world_url
    cases = [
        (line.settings(append="\nnonsense = 1\n"), r"strategy\.nonsense.*no such setting"),
        (line.settings(append="\n[no_section]\na = 1\n"), r"no_section.*no such setting"),
        (line.settings((line.rig.twins.urls["hyperliquid"], "ftp://venue")), r"hyperliquid\.url.*http"),
        (line.settings(("leverage = 3", "leverage = 9")), r"strategy\.leverage = 9.*1 to 4"),
        (line.settings(("leverage = 3", 'leverage = "many"')), r"strategy\.leverage = 'many'.*integer"),
        (line.settings(("[asgard]", '[asgard]\napi_key = "twin-secret"')), r"asgard\.api_key.*secret"),
        (line.settings(append="\n[[["), r"not readable TOML"),
        (tmp_path / "absent.toml", r"absent\.toml does not exist"),
        (tmp_path, r"is a folder"),
        (line.settings((f'"{world}"', '"nowhere"')), r"clock\.world_url.*http"),
        (line.settings(("sqlite:///", "mysql://")), r"database\.url.*sqlite"),
    ]
    for config, says in cases:
        ended = await line.refused(says, *ENTER, config=config)
        assert "twin-secret" not in ended.err
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    await line.refused(r"not readable TOML", "status", config=binary)
    bad = {"EVENKEEL_STRATEGY__LEVERAGE": "7"}
    await line.refused(r"strategy\.leverage = '?7'?.*1 to 4", *ENTER, **bad)
    await line.refused(r"log_level", "status", EVENKEEL_LOG_LEVEL="LOUD")
    await line.refused(r"strategy", "status", EVENKEEL_STRATEGY="{not json")


async def test_keys_that_cannot_sign(line: Line) -> None:
    malformed = "0xzz" + "1" * 60
    ended = await line.refused(
        r"Hyperliquid signing key is malformed", *ENTER, EVENKEEL_HYPERLIQUID_KEY=malformed
    )
    assert malformed not in ended.err
    garbage = "notBase58-0OIl"
    ended = await line.refused(r"Solana secret key is not usable", *ENTER, EVENKEEL_SOLANA_KEY=garbage)
    assert garbage not in ended.err
    await line.refused(r"[Hh]yperliquid signing key", *ENTER, EVENKEEL_HYPERLIQUID_KEY="0x" + "0" * 64)
    keyless = line.settings((f'key_file = "{line.rig.settings.solana.key_file}"\n', ""))
    await line.refused(r"no solana key: set EVENKEEL_SOLANA_KEY", *ENTER, config=keyless)
    lost = line.settings(("solana.key", "solana.gone"))
    await line.refused(r"key file of solana.*cannot be read", *ENTER, config=lost)
    assert line.rig.settings.hyperliquid.key_file is not None
    folder = line.settings(("hyperliquid.key", ""))
    await line.refused(r"key file of hyperliquid.*cannot be read", *ENTER, config=folder)


async def test_a_key_that_may_not_act_for_the_account(line: Line) -> None:
    other = "0x" + bytes(Account.create().key).hex()
    await line.refused(r"agent", *ENTER, EVENKEEL_HYPERLIQUID_KEY=other)
    assert (await line.run(*ENTER, config=line.rig.config)).code == 0
    for command in ("exit", "rebalance", "monitor", "recover"):
        await line.refused(r"agent", command, EVENKEEL_HYPERLIQUID_KEY=other)
    other = str(Keypair())
    for command in ("exit", "rebalance", "monitor"):
        ended = await line.refused(r"wallet", command, EVENKEEL_SOLANA_KEY=other)
        assert other not in ended.err
    assert (await line.run("exit", config=line.rig.config)).code == 0


async def test_an_account_whose_margin_is_shared(line: Line) -> None:
    account = line.rig.twins.keys["hyperliquid"]["account_address"]
    line.rig.twins.hyperliquid.control("set_abstraction", {"address": account, "mode": "portfolioMargin"})
    await line.refused(r"portfolioMargin", *ENTER)


async def test_venues_that_do_not_answer(line: Line) -> None:
    urls = line.rig.twins.urls
    world = line.rig.settings.clock.world_url
    cases = [
        (line.settings((urls["hyperliquid"], DEAD)), r"hyperliquid"),
        (line.settings((urls["solana"], DEAD)), r"[Ss]olana|127\.0\.0\.1:9"),
        (line.settings((urls["asgard"], DEAD)), r"asgard"),
        (line.settings((world, DEAD)), r"world clock http://127\.0\.0\.1:9 does not answer"),
    ]
    for config, says in cases:
        await line.refused(says, *ENTER, config=config)
    for config, says in (cases[0], cases[2]):  # without a leg nothing is asked of the chain
        seen = await line.run("status", "--json", config=config)
        assert re.search(says, json.dumps(seen.json()["unreadable"])), seen
        assert seen.code == 1
    await line.refused(r"world clock", "status", config=cases[3][0])
    database = line.settings(("sqlite:///", "postgresql+psycopg://nobody:pass-word@127.0.0.1:9/x?y="))
    ended = await line.refused(r"database", *ENTER, config=database)
    assert "pass-word" not in ended.err


async def test_requests_that_could_never_be_entered(line: Line) -> None:
    cases = [
        (("--asset", "DOGE"), r"asset 'DOGE' is unknown; allowed are SOL"),
        (("--leverage", "5"), r"leverage 5.*1 to 4"),
        (("--leverage", "2.5"), r"leverage 2\.5"),
        (("--leverage", "0"), r"leverage 0"),
        (("--leverage", "-1"), r"leverage -1"),
        (("--leverage", "abc"), r"leverage 'abc' is not a number"),
        (("--leverage", "nan"), r"leverage 'nan' is not a number"),
        (("--size", "999"), r"size 999 USD is under the minimum 1000 USD"),
        (("--size", "-5000"), r"size -5000"),
        (("--size", "abc"), r"size 'abc' is not a number"),
        (("--size", "nan"), r"size 'nan' is not a number"),
        (("--size", "Infinity"), r"size 'Infinity' is not a number"),
        (("--size", "600000"), r"size 600000 USD is above limits\.max_position_usd 500000"),
        (("--protocol", "9"), r"protocol 9 is unknown; allowed are kamino, marginfi, solend, drift"),
        (("--protocol", "drift"), r"Drift|disabled"),
        (("--protocol", "3"), r"Drift|protocol 3|disabled"),
    ]
    for arguments, says in cases:
        await line.refused(says, "enter", *arguments)
    for arguments in (("--leverage", "5"), ("--size", "999"), ("--asset", "DOGE")):
        await line.refused(arguments[0][2:], "scan", *arguments)


async def test_positions_that_are_not_there(line: Line) -> None:
    for command in ("exit", "rebalance", "monitor", "report"):
        await line.refused(r"no position is named 'sol-1'", command, "sol-1")
        await line.refused(r"0 positions are (open|live)|no position", command)
    await line.refused(r"interval", "monitor", "sol-1", "--interval", "0")


async def test_a_ledger_that_is_not_ready(line: Line) -> None:
    """No command but `db upgrade` makes a database file, and an old one says what to do."""
    path = line.rig.folder / "other.db"
    config = line.settings(("evenkeel.db", "other.db"))
    for command in (
        "enter",
        "exit",
        "rebalance",
        "monitor",
        "recover",
        "status",
        "positions",
        "report",
        "scan",
    ):
        await line.refused(r"does not exist: run `evenkeel db upgrade`", command, config=config)
        assert not path.exists()
    path.touch()
    await line.refused(r"has schema none.*run `evenkeel db upgrade`", "status", config=config)
    path.write_text("this is no database, and it is long enough to be looked at as one" * 40)
    await line.refused(r"other\.db is not usable", "status", config=config)
    path.unlink()
    assert (await line.run("db", "upgrade", "--json", config=config)).json()["schema"]
    assert (await line.run("positions", config=config)).code == 0


async def test_typing_errors_end_with_two(line: Line) -> None:
    for arguments in (
        ("enter", "--nonsense"),
        ("nonsense",),
        ("enter", "--protocol", "abc"),
        ("exit", "a", "b"),
    ):
        ended = await line.run(*arguments, config=line.rig.config)
        assert ended.code == 2, ended
        assert "Traceback" not in ended.err
        assert ended.out == ""
