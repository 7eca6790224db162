"""A setting that is refused shows where it points, and never the secret inside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import load_settings


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("EVENKEEL_DATABASE__URL", "mysql://bob:hunter2@db.example/x", "db.example"),
        ("EVENKEEL_DATABASE__URL", "postgresql://bob:hun@ter2@db.example/x", "db.example"),
        ("EVENKEEL_SOLANA__RPC_URL", "wss://node.example/hunter2", "node.example"),
        ("EVENKEEL_SOLANA__RPC_URL", "wss://node.example?api-key=hunter2", "node.example"),
    ],
)
def test_no_secret_in_the_refusal_of_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENKEEL_CONFIG", raising=False)
    monkeypatch.setenv(variable, value)

    with pytest.raises(OperatorError) as refused:
        load_settings()

    assert place in str(refused.value)
    assert "hunter2" not in str(refused.value) and "ter2" not in str(refused.value)
    assert "\n" not in str(refused.value)
