"""An exit whose first close does nothing ends all the same: one is refused before it is signed, the other proved dead."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from solders.instruction import Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from evenkeel.legs import IntentKind, LegSide
from flows.carry.flatten import flatten_everything
from tests.carry.rig import Rig, story_rig
from venues.asgard.client import BuildBlob
from venues.solana.rules.common import MEMO

CLOSE_SUBMIT = "POST /submit-close-position-tx"
SOL_ON_KAMINO: dict[str, Any] = {"asset": "SOL", "protocol": 1}


def answer_the_first_close_with_a_memo(rig: Rig) -> None:
    client = rig.desk.long.client
    real, seen = client.build, []

    async def build(path: str, body: dict[str, Any]) -> BuildBlob:
        blob = await real(path, body)
        if path != "/close-position" or seen:
            return blob
        seen.append(path)
        blockhash = VersionedTransaction.from_bytes(
            base64.b64decode(blob.encoded[0])
        ).message.recent_blockhash
        payer = Pubkey.from_string(body["walletPubkey"])
        message = MessageV0.try_compile(payer, [Instruction(MEMO, b"closed", [])], [], blockhash)
        raw = bytes(VersionedTransaction.populate(message, [Signature.default()]))
        return BuildBlob(blob.with_signed([base64.b64encode(raw).decode()]))

    client.build = build  # type: ignore[method-assign]


async def test_a_close_that_is_only_a_memo_is_not_signed_and_the_next_one_closes(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        answer_the_first_close_with_a_memo(rig)
        done = await flatten_everything(rig.desk, "a test")
        assert rig.flat, done
        assert rig.intents(LegSide.LONG, IntentKind.CLOSE) == 1, (
            "the proof of the way out refused it unsigned"
        )
        rig.assert_clean(await rig.recovered())


async def test_a_close_through_a_step_that_nobody_published_closes_and_says_so(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("asgard", "routes", raw={"kind": 220, "arguments": "01"})
        done = await flatten_everything(rig.desk, "a test")
        assert rig.flat, done
        [alert] = [one for one in rig.desk.store.alerts() if one.kind == "route not understood"]
        assert "exchange kind 220" in alert.text and alert.subject == position_id


async def test_a_close_that_lands_and_does_nothing_is_followed_by_one_that_closes(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        rig.fault("asgard", "no_effect", CLOSE_SUBMIT)
        done = await flatten_everything(rig.desk, "a test")
        assert rig.flat, done
        closes = [one for one in rig.executions() if one["kind"] == "close"]
        assert len(closes) == 1
        rig.assert_clean(await rig.recovered())
