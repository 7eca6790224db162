"""The login at Schwab over weeks: refreshed in time, counted from the login, warned of once, and never to be read."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from app.hedging import auth
from evenkeel.errors import LostRace, NotUnderstood, OperatorError, Retryable, VenueRefused
from evenkeel.sealing import Sealer, StoredToken
from evenkeel.settings.settings import Settings
from evenkeel.types import Confirmed, Working
from evenkeel.units import DAY_MS
from state.hedging.store import HedgingStore
from state.store import Store
from tasks.hedging.schwab_login import ENDS_AFTER_MS, WARNINGS, SchwabLogin, warn_of_age
from tests.databases import database_fixtures
from tests.schwab_rig import TOKEN_KEY, Rows, SchwabRig, schwab_rig, state_of

databases, url, store = database_fixtures("sqlite")
OTHER_KEY = "6d" * 32
HOUR_S = 3600
KINDS = {kind for _, kind, _ in WARNINGS}


class InTheLedger(Rows):
    """The ledger's own table; all that was ever written is in `history`."""

    def __init__(self, kept: HedgingStore) -> None:
        super().__init__()
        self._kept = kept

    def token(self, name: str) -> StoredToken | None:
        return self._kept.token(name)

    def keep_token(self, kept: StoredToken) -> None:
        self._kept.keep_token(kept)
        self.history.append(kept)


async def test_200_days_use_no_dead_token_warn_once_a_login_and_show_no_secret(
    store: Store, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    drawn = random.Random(5)
    async with schwab_rig() as rig:
        store.clock = rig.clock
        rig.store = InTheLedger(store.hedging)
        rig.login = rig.login_for()
        await rig.log_in(rig.login)
        rig.venue = rig.venue_for(rig.client_for(rig.login))
        began_ms = rig.clock.now_ms()
        faults: list[str] = []
        refusals = logins = 0
        logs_in_at_ms = began_ms + int(4.5 * DAY_MS)
        oldest_ms = 0
        while rig.clock.now_ms() < began_ms + 200 * DAY_MS:
            rig.later(drawn.choice([40, 1790, 12 * HOUR_S, 20 * HOUR_S, 26 * HOUR_S, 30 * HOUR_S]))
            if rig.clock.now_ms() >= logs_in_at_ms:
                logins += 1
                state = rig.login.state()
                assert state is not None
                oldest_ms = max(oldest_ms, rig.clock.now_ms() - state.login_ms)
                await rig.log_in(rig.login_for())  # at the command line: another process
                logs_in_at_ms = rig.clock.now_ms() + int(drawn.choice([4.5, 5.5, 6.2, 6.8, 7.5]) * DAY_MS)
            if drawn.random() < 0.05:
                rig.fault(drawn.choice(["http_500", "drop_answer", "garbage"]), "token:refresh_token")
            if drawn.random() < 0.05:
                rig.login = rig.login_for()  # a restart
                rig.venue = rig.venue_for(rig.client_for(rig.login))
            warn_of_age(store, rig.login)
            state = rig.login.state()
            assert state is not None
            try:
                await rig.venue.cash()
                assert rig.clock.now_ms() - state.login_ms < ENDS_AFTER_MS
                if drawn.random() < 0.1:
                    intent = rig.intent(qty="1")
                    outcome = await rig.venue.send(intent, await rig.signed(intent))
                    assert isinstance(outcome, Confirmed | Working), outcome
            except VenueRefused:
                refusals += 1
                assert state.is_over
                faults.append(traceback.format_exc())
            except (Retryable, NotUnderstood):
                faults.append(traceback.format_exc())
        assert rig.twin.login.refused == 0, "a call with a token that did not live"
        assert logins > 25 and refusals > 3 and oldest_ms > 7 * DAY_MS
        assert all(row.login_ms <= row.access_ms for row in rig.store.history)
        raised = [one for one in store.alerts() if one.kind in KINDS]
        by_login = {
            (one.kind, max(row.login_ms for row in rig.store.history if row.login_ms <= one.at_ms))
            for one in raised
        }
        assert len(by_login) == len(raised) > 30, "each warning once for each login"
        assert {one.kind for one in raised} == KINDS

        ledger = Path(url.removeprefix("sqlite:///"))
        with sqlite3.connect(ledger) as connection:
            dumped = "\n".join(connection.iterdump())
        rows = repr(rig.store.history) + repr(rig.login) + repr(rig.client) + repr(rig.login._held)
        shown = "\n".join([caplog.text, dumped, rows, *faults])
        assert len(caplog.records) > 1000
        secrets = [*rig.twin.login.issued, rig.twin.login.app_secret]
        assert len(secrets) > 200 and dumped.count('INSERT INTO "oauth_tokens"') == 1
        assert rig.store.history[-1].sealed in dumped
        found = [one for one in secrets if one in shown or one.removesuffix("@") in shown]
        assert found == []


async def test_a_refresh_moves_neither_the_login_nor_its_end() -> None:
    async with schwab_rig() as rig:
        first = rig.login.state()
        tokens = set()
        for _ in range(12):
            rig.later(29 * 60)
            tokens.add(await rig.login.access())
        state = rig.login.state()
        assert first is not None and state is not None and len(tokens) == 12
        assert (state.login_ms, state.ends_ms) == (first.login_ms, first.login_ms + ENDS_AFTER_MS)
        assert state.access_ms > first.access_ms


async def test_a_token_is_refreshed_before_its_end_and_serves_where_that_fails() -> None:
    async with schwab_rig() as rig:
        before = await rig.login.access()
        rig.later(24 * 60)
        assert await rig.login.access() == before
        rig.later(2 * 60)
        rig.fault("http_500", "token:refresh_token")
        assert await rig.login.access() == before
        after = await rig.login.access()
        assert after != before
        rig.later(29 * 60 + 10)
        rig.fault("http_500", "token:refresh_token")
        with pytest.raises(Retryable):
            await rig.login.access()


async def test_a_login_is_refused_after_six_and_a_half_days_until_somebody_logs_in() -> None:
    async with schwab_rig() as rig:
        rig.later(6.4 * 24 * HOUR_S)
        await rig.venue.cash()
        rig.later(0.2 * 24 * HOUR_S)
        asked = len(rig.running.faults.calls)
        with pytest.raises(OperatorError, match=r"6\.5 days"):
            await rig.venue.build(rig.intent())
        assert len(rig.running.faults.calls) == asked, "nothing is sent with it"
        await rig.log_in(rig.login_for())
        await rig.venue.cash()


async def test_what_the_venue_ends_early_asks_for_a_person_and_a_new_login_is_taken_up() -> None:
    async with schwab_rig() as rig:
        rig.later(1800)
        rig.fault("invalid_grant", "")
        with pytest.raises(VenueRefused, match="log in again"):
            await rig.venue.cash()
        rig.twin.control("log_out", {})
        await rig.log_in(rig.login_for())
        await rig.venue.cash()
        rig.twin.login.access.clear()  # the venue forgets the token before its time
        await rig.venue.cash()
        assert rig.twin.login.refused == 1


async def test_two_processes_refresh_at_once_and_both_have_a_token_that_lives() -> None:
    async with schwab_rig() as rig:
        other = rig.login_for()
        await other.access()
        rig.later(1700)
        tokens = await asyncio.gather(rig.login.access(), other.access())
        assert all(rig.twin.login.lives(one) for one in tokens)
        row = rig.store.token("schwab")
        assert row is not None and row.version == len(rig.store.history)


@pytest.mark.parametrize(
    "pasted", ["nonsense", "https://example.com/?code=abc", "https://127.0.0.1/?session=1"]
)
async def test_what_is_pasted_wrongly_is_refused_without_a_word_of_it(pasted: str) -> None:
    async with schwab_rig() as rig:
        with pytest.raises(OperatorError) as refused:
            await rig.login.finish(pasted)
        assert pasted not in str(refused.value)


async def test_a_code_serves_once_within_30_seconds_and_for_the_login_that_asked() -> None:
    async with schwab_rig() as rig:
        login = rig.login_for()
        address = rig.twin.login.allow(state_of(login.begin()))
        with pytest.raises(OperatorError, match="another login"):
            await rig.login_for().finish(address)
        await login.finish(address)
        with pytest.raises(OperatorError, match="log in again"):
            await login.finish(address)
        late = rig.twin.login.allow(state_of(login.begin()))
        rig.later(31)
        with pytest.raises(OperatorError, match="log in again"):
            await login.finish(late)


async def test_the_twins_page_sends_the_browser_back_with_code_and_state() -> None:
    async with schwab_rig() as rig:
        login = rig.login_for()
        async with httpx.AsyncClient(trust_env=False) as browser:
            page = await browser.get(login.begin())
            allowed = await browser.get(rig.url + page.text.split('href="')[1].split('"')[0])
            denied = await browser.get(login.begin().replace("client_id=twin", "client_id=other"))
        assert (page.status_code, allowed.status_code, denied.status_code) == (200, 302, 400)
        await login.finish(allowed.headers["location"])


# --- at rest ------------------------------------------------------------------------------------------------------


def changed(row: StoredToken, **changes: object) -> StoredToken:
    return StoredToken(**{**row.__dict__, **changes})  # type: ignore[arg-type]


async def test_a_row_that_was_changed_is_refused_by_name(subtests: pytest.Subtests) -> None:
    async with schwab_rig() as rig:
        row = rig.store.rows["schwab"]
        await asyncio.sleep(0)
        turned = row.sealed[:-6] + ("A" if row.sealed[-6] != "A" else "B") + row.sealed[-5:]
        for what, other in {
            "a byte": changed(row, sealed=turned),
            "a version": changed(row, version=row.version + 1),
            "the age of the login": changed(row, login_ms=row.login_ms + DAY_MS),
            "cut": changed(row, sealed=row.sealed[:20]),
            "no seal": changed(row, sealed=json.dumps({"access": "clear"})),
        }.items():
            with subtests.test(what):
                rig.store.rows["schwab"] = other
                with pytest.raises(OperatorError) as refused:
                    await rig.login_for().access()
                assert "\n" not in str(refused.value) and row.sealed[:12] not in str(refused.value)
        rig.store.rows = {"schwab": row, "else": changed(row, name="else")}
        elsewhere = SchwabLogin(rig.login._oauth, rig.store, Sealer(TOKEN_KEY), rig.clock, name="else")
        with pytest.raises(OperatorError, match="cannot be opened"):
            await elsewhere.access()
        assert await rig.login_for().access()


async def test_the_key_is_changed_and_the_old_one_opens_nothing() -> None:
    async with schwab_rig() as rig:
        assert rig.login_for().rotate(Sealer(OTHER_KEY)) == 2
        with pytest.raises(OperatorError, match="EVENKEEL_TOKEN_KEY"):
            await rig.login_for().access()
        again = rig.login_for(OTHER_KEY)
        assert await again.access()
        rig.later(1700)
        assert await again.access()
        with pytest.raises(OperatorError):
            rig.login_for().rotate(Sealer(OTHER_KEY))
        # A service that has its token in memory still works with it, and then asks for the key.
        rig.later(60)
        with pytest.raises(OperatorError, match="EVENKEEL_TOKEN_KEY"):
            rig.later(1800)
            await rig.login.access()


async def test_a_change_of_key_loses_against_a_refresh_and_nothing_is_done() -> None:
    async with schwab_rig() as rig:
        row = rig.store.rows["schwab"]

        class Late(Rows):
            def token(self, name: str) -> StoredToken | None:
                return row

        rig.later(1700)
        await rig.login.access()
        with pytest.raises(LostRace):
            rig.login_for(store=Late(rig.store.rows)).rotate(Sealer(OTHER_KEY))
        assert await rig.login_for().access()


@pytest.mark.parametrize("key", ["", "5c" * 31, "5c" * 33, "zz" * 32])
def test_a_key_of_another_form_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(OperatorError) as refused:
        Sealer(key)
    assert "openssl rand -hex 32" in str(refused.value) and (not key or key not in str(refused.value))


def test_two_seals_of_one_text_differ() -> None:
    sealer = Sealer(TOKEN_KEY)
    assert sealer.seal("a", 1, "text") != sealer.seal("a", 1, "text")
    assert sealer.opened("a", 1, sealer.seal("a", 1, "text")) == "text"


# --- the commands -------------------------------------------------------------------------------------------------


def commands(rig: SchwabRig) -> typer.Typer:
    """The commands, for the ledger of the rig in the place of the settings'."""

    @contextmanager
    def opened(_: Settings) -> Iterator[SchwabLogin]:
        yield rig.login_for()

    app = typer.Typer()
    auth.add_to(
        app, Settings, lambda as_json, body, human: print(json.dumps(body)) if as_json else human(), opened
    )
    return app


async def run(app: typer.Typer, *words: str, pasted: str = "") -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["auth", *words], input=pasted)
    said = result.output + (str(result.exception) if result.exception else "")
    return result.exit_code, said


async def test_the_commands_log_in_show_the_age_and_change_the_key(tmp_path: Path) -> None:
    async with schwab_rig() as rig:
        rig.store.rows.clear()
        app = commands(rig)
        assert (await run(app, "status"))[0] == 1
        file = tmp_path / "new-key"
        file.write_text(OTHER_KEY + "\n")
        assert "nothing to seal" in (await run(app, "rotate", "--new-key-file", str(file)))[1]
        # The page gives the state of the link that is shown; here a person has it before.
        address = rig.twin.login.allow()
        code, said = await run(app, "schwab", "--json", pasted=address + "\n")
        assert code == 0 and "/v1/oauth/authorize?" in said, said
        assert not [one for one in rig.twin.login.issued if one.removesuffix("@") in said]
        code, said = await run(app, "status", "--json")
        assert (code, json.loads(said)["is_over"]) == (0, False)
        code, said = await run(app, "rotate", "--new-key-file", str(file))
        assert code == 0 and "EVENKEEL_TOKEN_KEY" in said and OTHER_KEY not in said
        assert await rig.login_for(OTHER_KEY).access()
        code, said = await run(app, "rotate", "--new-key-file", str(tmp_path / "missing"))
        assert code == 1 and "cannot be read" in said
        rig.later(7 * 24 * HOUR_S)
        assert (await run(app, "status"))[0] == 1
