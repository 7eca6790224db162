"""Signatures agree with published vectors; keys stay hidden; nonces never repeat."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.utils import signing as sdk

from evenkeel.errors import OperatorError
from evenkeel.legs import IntentKind
from venues.hyperliquid.approval import Approved
from venues.hyperliquid.digests import l1_digest
from venues.hyperliquid.signing import (
    HyperliquidSigner,
    NonceSource,
    is_mainnet_url,
    normal_address,
)
from venues.hyperliquid.validator import HyperliquidValidator, Reading, Request, Rules
from venues.signers.local import LocalEvmKey

KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
ADDRESS = "0x14791697260e4c9a71f18484c9f997b308e59325"
ZERO_CLOID = "0x00000000000000000000000000000001"
DUMMY = {"type": "dummy", "num": 100000000000}
GTC = {"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": {"limit": {"tif": "Gtc"}}}
ORDER = {"type": "order", "orders": [GTC], "grouping": "na"}
WITH_CLOID = {"type": "order", "orders": [{**GTC, "c": ZERO_CLOID}], "grouping": "na"}
SCHEDULE = {"type": "scheduleCancel", "time": 123456789}
IOC = {
    "type": "order",
    "orders": [
        {
            "a": 5,
            "b": False,
            "p": "150.12",
            "s": "1.5",
            "r": False,
            "t": {"limit": {"tif": "Ioc"}},
            "c": "0x00000000000000000000000000000007",
        }
    ],
    "grouping": "na",
}
LEVERAGE = {"type": "updateLeverage", "asset": 5, "isCross": True, "leverage": 3}
NONCE = 1700000000000

# (action, nonce, expiresAfter, mainnet, r, s, v): from the SDK's own tests, and generated with SDK 0.24.0.
VECTORS: list[tuple[dict[str, Any], int, int | None, bool, str, str, int]] = [
    (
        DUMMY,
        0,
        None,
        True,
        "0x53749d5b30552aeb2fca34b530185976545bb22d0b3ce6f62e31be961a59298",
        "0x755c40ba9bf05223521753995abb2f73ab3229be8ec921f350cb447e384d8ed8",
        27,
    ),
    (
        DUMMY,
        0,
        None,
        False,
        "0x542af61ef1f429707e3c76c5293c80d01f74ef853e34b76efffcb57e574f9510",
        "0x17b8b32f086e8cdede991f1e2c529f5dd5297cbe8128500e00cbaf766204a613",
        28,
    ),
    (
        ORDER,
        0,
        None,
        True,
        "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
        "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e",
        28,
    ),
    (
        ORDER,
        0,
        None,
        False,
        "0x82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
        "0x6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5",
        27,
    ),
    (
        WITH_CLOID,
        0,
        None,
        True,
        "0x41ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3",
        "0x3c61f667e747404fe7eea8f90ab0e76cc12ce60270438b2058324681a00116da",
        27,
    ),
    (
        WITH_CLOID,
        0,
        None,
        False,
        "0xeba0664bed2676fc4e5a743bf89e5c7501aa6d870bdb9446e122c9466c5cd16d",
        "0x7f3e74825c9114bc59086f1eebea2928c190fdfbfde144827cb02b85bbe90988",
        28,
    ),
    (
        SCHEDULE,
        0,
        None,
        True,
        "0x609cb20c737945d070716dcc696ba030e9976fcf5edad87afa7d877493109d55",
        "0x16c685d63b5c7a04512d73f183b3d7a00da5406ff1f8aad33f8ae2163bab758b",
        28,
    ),
    (
        SCHEDULE,
        0,
        None,
        False,
        "0x4e4f2dbd4107c69783e251b7e1057d9f2b9d11cee213441ccfa2be63516dc5bc",
        "0x706c656b23428c8ba356d68db207e11139ede1670481a9e01ae2dfcdb0e1a678",
        27,
    ),
    (
        IOC,
        NONCE,
        None,
        False,
        "0x53467247ebac9c1f377e6513df96358e5c0c21ae539f8fbd76927fff65de06b8",
        "0x2d763f915aded45c68a94d3d85cb4d1a0d91b69257915e6facb4140f24abc8b0",
        27,
    ),
    (
        IOC,
        NONCE,
        NONCE + 5000,
        False,
        "0xebd2ab891cd244206926771dc70b00ee11bd516e096269b3c197c8659104004b",
        "0x1133a628fc2e5b2a308b9bc47a231b62c3941056101b5d714f9814a64efb269a",
        28,
    ),
    (
        LEVERAGE,
        NONCE,
        None,
        False,
        "0x74e91db81fe69e533b1306a2388112dc88fd6a9e665ee56f33378efee334c2ec",
        "0x54dad9bf47ba9bd0fb2d453ba43dec995b206e6afdca40e6346eef2a0ed41c1b",
        27,
    ),
    (
        IOC,
        NONCE,
        None,
        True,
        "0x7d27d7934243e6e6b91a4b598e3d544854152cfe5f167839f68b1af740a05fb",
        "0x64aa43c477f7e28a4b7d0c17b18e1f38b8a7d6599f985bf0704f115ea6c3e09d",
        28,
    ),
]


class StandingClock:
    """A clock that a test sets."""

    def __init__(self, now_ms: int) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)

    async def refresh(self) -> None:
        """Nothing to agree with."""


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_published_vectors(vector: tuple[dict[str, Any], int, int | None, bool, str, str, int]) -> None:
    action, nonce, expires_after, mainnet, r, s, v = vector
    digest = l1_digest(action, nonce=nonce, expires_after=expires_after, is_mainnet=mainnet)
    signed = LocalEvmKey.from_hex(KEY).sign_digest(digest)
    assert (hex(signed.r), hex(signed.s), signed.v) == (r, s, v)


def test_the_body_is_recovered_to_the_signer_and_names_the_expiry() -> None:
    signer = HyperliquidSigner(LocalEvmKey.from_hex(KEY))
    approved = HyperliquidValidator(Rules(False, ADDRESS)).judge_order(
        IOC,
        nonce=NONCE,
        expires_after=NONCE + 1,
        now_ms=NONCE,
        request=Request(IntentKind.OPEN, False, Decimal("1.5"), False),
        reading=Reading("SOL", 5, 2, Decimal(150), Decimal(150), Decimal(0), NONCE),
    )
    assert isinstance(approved, Approved)
    body = json.loads(signer.signed_body(approved))
    assert body["vaultAddress"] is None and body["expiresAfter"] == NONCE + 1 and body["nonce"] == NONCE
    recovered = sdk.recover_agent_or_user_from_l1_action(
        body["action"], body["signature"], None, NONCE, NONCE + 1, False
    )
    assert recovered.lower() == signer.address == ADDRESS


@pytest.mark.parametrize(
    "secret",
    ["", "0x12", "zz" * 32, KEY + "00", "0" * 64, "f" * 64, KEY[2:] + "\nmore"],
)
def test_a_bad_key_is_one_clear_line_without_the_key(secret: str) -> None:
    with pytest.raises(OperatorError) as caught:
        HyperliquidSigner(LocalEvmKey.from_hex(secret))
    text = str(caught.value)
    assert "\n" not in text and "Check" in text
    assert all(secret[at : at + 8] not in text for at in range(len(secret) - 7))
    assert caught.value.__cause__ is None


def test_a_signer_shows_and_gives_away_nothing() -> None:
    signer = HyperliquidSigner(LocalEvmKey.from_hex(KEY[2:]))
    secret = KEY[2:]
    for shown in (repr(signer), str(signer), f"{signer}", f"{[signer]}"):
        assert secret not in shown and ADDRESS in shown
    with pytest.raises(TypeError):
        pickle.dumps(signer)
    with pytest.raises(TypeError):
        copy.copy(signer)
    with pytest.raises(TypeError):
        copy.deepcopy(signer)
    assert not hasattr(signer, "__dict__")


def test_only_the_real_url_is_mainnet() -> None:
    assert is_mainnet_url("https://api.hyperliquid.xyz")
    assert is_mainnet_url("https://api.hyperliquid.xyz/")
    for other in (
        "https://api.hyperliquid-testnet.xyz",
        "http://127.0.0.1:8000",
        "http://api.hyperliquid.xyz",
        "https://api.hyperliquid.xyz.example",
    ):
        assert not is_mainnet_url(other)


def test_an_address_is_lowered_or_refused() -> None:
    assert normal_address(str(Account.from_key(KEY).address)) == ADDRESS
    with pytest.raises(OperatorError, match="40 hex digits"):
        normal_address("0x1234")


def test_nonces_rise_while_the_clock_stands_and_follow_it_when_it_moves() -> None:
    clock = StandingClock(1_000_000)
    source = NonceSource(clock)
    assert [source.next() for _ in range(3)] == [1_000_000, 1_000_001, 1_000_002]
    clock.ms = 2_000_000
    assert source.next() == 2_000_000
    clock.ms = 1_500_000
    assert source.next() == 2_000_001


def test_threads_that_share_a_signer_never_get_the_same_nonce() -> None:
    clock = StandingClock(1_000_000)

    def draw(_: int) -> int:
        return NonceSource.shared("http://here/", ADDRESS.upper().replace("0X", "0x"), clock).next()

    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(draw, range(2000)))
    assert len(set(drawn)) == 2000
    assert NonceSource.shared("http://here", ADDRESS, clock) is NonceSource.shared(
        "http://here", ADDRESS, clock
    )
    assert NonceSource.shared("http://there", ADDRESS, clock) is not NonceSource.shared(
        "http://here", ADDRESS, clock
    )
