"""Names that other programs gave to settings of managed accounts: taken, below our own names, above the file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import load_settings

FILE = """
[service]
port = 5003
[collector]
share = 0.2
most_usdc = 7
"""
WALLET = "0x" + "Ab" * 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "evenkeel.toml"
    path.write_text(FILE)
    return path


def test_they_win_over_the_file_and_lose_to_our_own(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OSTIUM_SERVICE_URL": "http://localhost:5010",
        "PORT": "5010",
        "OSTIUM_PLATFORM_WALLET": WALLET,
        "OSTIUM_PROFIT_SHARE": "10",
        "OSTIUM_FEE_MODEL": "HIGH_WATER",
    }.items():
        monkeypatch.setenv(name, value)
    found = load_settings(file)
    assert (found.service.port, found.service.address) == (5010, "http://localhost:5010")
    assert (found.service.name, found.collector.platform_wallet) == ("localhost", WALLET.lower())
    assert (found.collector.share, found.collector.fee_model) == (Decimal("0.1"), "HIGH_WATER")
    assert found.collector.most_usdc == 7, "what has no such name stays the file's"
    monkeypatch.setenv("EVENKEEL_COLLECTOR__SHARE", "0.05")
    monkeypatch.setenv("PORT", "")
    again = load_settings(file)
    assert (again.collector.share, again.service.port) == (Decimal("0.05"), 5003)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("OSTIUM_PROFIT_SHARE", "0.1", "in per cent"),
        ("OSTIUM_PROFIT_SHARE", "NaN", "in per cent"),
        ("OSTIUM_PROFIT_SHARE", "80", "in per cent"),
        ("OSTIUM_FEE_MODEL", "SUBSCRIPTION", "fee_model"),
        ("OSTIUM_PLATFORM_WALLET", "0x12", "platform_wallet"),
        ("PORT", "99999", "port"),
        ("OSTIUM_SERVICE_URL", "ftp://x", "url"),
        ("EVENKEEL_SERVICE__HOST", "0.0.0.0", "only loopback"),
    ],
)
def test_what_cannot_be_is_refused(
    name: str, value: str, says: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(OperatorError, match=says):
        load_settings(file)
