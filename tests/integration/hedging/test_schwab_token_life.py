"""How long an access token of Schwab's lives where its answer says nothing that can be: as long as Schwab documents it."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.hedging.schwab_login import SchwabLogin
from tests.schwab_rig import SchwabRig, schwab_rig
from venues.reading import Oddities

ODD = [0, -1, -(10**9), None, "soon", "1800", True, [], {"s": 1800}, 0.5, 10**30, 3601]
SOURCE = "schwab tokens"


def with_oddities(rig: SchwabRig) -> tuple[SchwabLogin, Oddities]:
    login = rig.login_for()
    login._oauth.oddities = found = Oddities()
    return login, found


def says(rig: SchwabRig, life: Any) -> None:
    """From now on the token endpoint says this of a token's life."""
    rig.running.faults.clear()
    rig.fault("field", "token:.*", times=-1, path="expires_in", value=life)


@pytest.mark.parametrize("life", ODD, ids=repr)
async def test_a_life_that_cannot_be_is_30_minutes_and_is_said(life: Any) -> None:
    async with schwab_rig() as rig:
        says(rig, life)
        login, odd = with_oddities(rig)
        await rig.log_in(login)
        first = await login.access()
        assert "expires_in" in odd.words()[SOURCE] and first not in odd.words()[SOURCE]
        for _ in range(20):
            rig.later(60)
            assert await login.access() == first, "it is not asked for again at each call"
        rig.later(6 * 60)
        second = await login.access()
        assert second != first and rig.calls("token:refresh_token") == 1, "and before its end it is"
        rig.running.faults.clear()
        rig.later(26 * 60)
        assert await login.access() not in (first, second)
        assert odd.words() == {SOURCE: ""}, "what is whole again is over"


@pytest.mark.parametrize("life", ODD, ids=repr)
async def test_a_token_that_ends_earlier_than_was_thought_is_replaced(life: Any) -> None:
    async with schwab_rig() as rig:
        says(rig, life)
        await rig.log_in(rig.login)
        await rig.venue.cash()
        rig.twin.login.access.clear()
        await rig.venue.cash()
        assert rig.twin.login.refused == 1


@pytest.mark.parametrize("life", [1, 60, 299, 301, 600])
async def test_a_short_life_is_taken_at_its_word_and_used_for_half_of_it(life: int) -> None:
    async with schwab_rig() as rig:
        says(rig, life)
        login, odd = with_oddities(rig)
        await rig.log_in(login)
        tokens = {await login.access() for _ in range(10)}
        assert len(tokens) == 1 and not rig.calls("token:refresh_token")
        rig.later(life / 2 + 1)
        assert await login.access() not in tokens
        assert odd.words() == {SOURCE: ""}


async def test_an_answer_without_any_life_is_one_too() -> None:
    async with schwab_rig() as rig:
        rig.running.faults.clear()
        rig.fault("field", "token:.*", times=-1, path="expires_in", missing=True)
        login, odd = with_oddities(rig)
        await rig.log_in(login)
        assert await login.access() == await login.access()
        assert "expires_in" in odd.words()[SOURCE]
