"""What the settings promise about venues is what the desk does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from evenkeel.errors import Retryable
from evenkeel.settings.settings import load_settings
from evenkeel.types import Unknown
from flows.carry.enter import EnterRequest, enter_position
from flows.carry.exit import ExitRequest, exit_position
from tasks.carry.desk import open_desk
from tests.carry.rig import Rig, story_rig
from venues.solana.confirm import Dead


def with_setting(rig: Rig, section: str, line: str) -> Path:
    """The rig's settings with one more line."""
    text = rig.config.read_text().replace(f"[{section}]\n", f"[{section}]\n{line}\n")
    path = rig.config.with_name("changed.toml")
    path.write_text(text)
    return path


async def test_an_attempt_is_dead_only_when_the_second_provider_agrees(tmp_path: Path) -> None:
    """Our node forgets what landed; with a provider beside it that cannot be asked, nothing is proved and nothing replaced."""
    async with story_rig(tmp_path) as rig:
        path = with_setting(rig, "solana", 'second_rpc_url = "http://127.0.0.1:9"')
        async with open_desk(load_settings(path)) as desk:
            result = await desk.long._confirmer.result_of("1" * 64, lvbh_max=0)
        alone = await rig.desk.long._confirmer.result_of("1" * 64, lvbh_max=0)

        assert isinstance(alone, Dead) and isinstance(result, Unknown)


async def test_the_fee_cap_bounds_an_opening_and_the_emergency_cap_a_way_out(tmp_path: Path) -> None:
    """In a fee spike nothing is opened, and what is held is closed all the same."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        low = tmp_path / "low.toml"
        low.write_text(
            f'{rig.config.read_text()}\n[limits]\nmax_fee_lamports = "1000"\nresume_fee_lamports = "900"\n'
        )
        async with open_desk(load_settings(low)) as desk:
            assert (await exit_position(desk, ExitRequest(position_id=position_id))).status == "CLOSED"
            refused = await enter_position(desk, EnterRequest(asset="SOL", protocol=1))

        assert rig.flat and rig.opened_longs() == 1
        assert any("fee" in reason and "1000" in reason for reason in refused.reasons), refused


async def test_the_weight_saved_up_and_refilled_in_a_minute_stays_under_the_venues_limit(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig:
        budget = rig.desk.short.client.budget
        assert budget._burst + budget._per_ms * 60_000 <= 1200


async def test_a_busy_database_does_not_end_the_renewal_of_a_lease(tmp_path: Path) -> None:
    """One renewal that fails is followed by others: the lease outlives it."""
    async with story_rig(tmp_path) as rig:
        real, asked = rig.desk.store.renew, asyncio.Event()
        calls: list[int] = []

        def busy(*args: object) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise Retryable("database cannot be written now: database is locked")
            asked.set()
            real(*args)  # type: ignore[arg-type]

        rig.desk.store.renew = busy  # type: ignore[method-assign, assignment]
        async with rig.desk.exclusive("test", "a test"):
            await asyncio.wait_for(asked.wait(), timeout=10)
        assert len(calls) >= 2
