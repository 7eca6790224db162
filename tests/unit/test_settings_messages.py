"""What may be set of messages and channels, and what the refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings, load_settings
from tasks.messages.connect import named_channels, open_channels
from tasks.messages.requests.connection import app_token

REFUSED = {
    "half of the quiet hours": ('[messages]\nquiet_from = "22:00"\n', "set both, or neither"),
    "quiet hours of no length": (
        '[messages]\nquiet_from = "22:00"\nquiet_until = "22:00"\n',
        "must end later",
    ),
    "no time of day": ('[messages]\nquiet_from = "25:00"\nquiet_until = "07:00"\n', "time of day"),
    "escalation at once": ("[messages]\nescalate_after_s = 5\n", "escalate_after_s"),
    "a channel's name": ('[slack]\nchannel = "#alerts"\n', "id of a channel"),
    "a token in the file": ('[slack]\ntoken = "xoxb-1234567890-abcdefghijk"\n', "looks like a secret"),
    "an app token in the file": ('[slack]\napp_token = "xapp-1-1234567890"\n', "looks like a secret"),
    "an operator's name": ('[slack]\noperators = ["@ann"]\n', "ids of users"),
    "an operator twice": ('[slack]\noperators = ["U0123456789", "U0123456789"]\n', "names a user twice"),
    "no URL": ('[webhook]\nurl = "ftp://x"\n', "URL"),
    "a mail server alone": ('[mail]\nhost = "mail.example.com"\n', "mail.sender"),
    "mail in clear": (
        '[mail]\nhost = "mail.example.com"\nencryption = "none"\nsender = "a@example.com"\nrecipients = ["b@example.com"]\n',
        "only a server on this host",
    ),
    "no address": ('[mail]\nsender = "nobody"\n', "mail addresses"),
    "an unknown severity": ('[mail]\nleast = "bad"\n', "least"),
    "a port": ("[metrics]\nwatchdog_port = 70000\n", "watchdog_port"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, says = REFUSED[kind]
    path = tmp_path / "evenkeel.toml"
    path.write_text(text)
    with pytest.raises(OperatorError) as refused:
        load_settings(path)
    assert says in str(refused.value) and "1234567890" not in str(refused.value).replace(
        "C0123456789", ""
    ).replace("U0123456789", "")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"slack": {"channel": "C0123456789"}}, "EVENKEEL_SLACK_TOKEN"),
        ({"webhook": {"url": "https://example.com/hook"}}, "EVENKEEL_WEBHOOK_SECRET"),
        (
            {
                "mail": {
                    "host": "mail.example.com",
                    "sender": "a@example.com",
                    "recipients": ["b@example.com"],
                    "user": "a",
                }
            },
            "EVENKEEL_MAIL_PASSWORD",
        ),
    ],
)
def test_a_channel_without_its_secret_says_where_it_belongs(section: dict[str, object], says: str) -> None:
    settings = Settings(**section)  # type: ignore[arg-type]
    assert named_channels(settings) == list(section)
    with pytest.raises(OperatorError, match=says):
        open_channels(settings)


def test_nothing_is_sent_where_nothing_is_set() -> None:
    assert named_channels(Settings()) == [] and open_channels(Settings()) == []


@pytest.mark.parametrize(
    ("slack", "token", "says"),
    [
        ({"channel": "C0123456789", "operators": ["U0123456789"]}, "xoxb-of-the-bot", "it begins with xapp-"),
        ({"operators": ["U0123456789"]}, "xapp-1-x", "set slack.channel"),
        ({"channel": "C0123456789"}, "xapp-1-x", "slack.operators is empty"),
    ],
)
def test_an_app_token_whose_settings_are_missing_is_refused_in_one_line(
    slack: dict[str, object], token: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENKEEL_SLACK_TOKEN", "xoxb-of-the-bot")
    monkeypatch.setenv("EVENKEEL_SLACK_APP_TOKEN", token)
    with pytest.raises(OperatorError) as refused:
        app_token(Settings(slack=slack))  # type: ignore[arg-type]
    assert says in str(refused.value) and token not in str(refused.value)


def test_settings_without_operators_hold_for_every_other_command(tmp_path: Path) -> None:
    path = tmp_path / "evenkeel.toml"
    path.write_text('[slack]\nchannel = "C0123456789"\napp_token_file = "x"\noperators = []\n')
    assert load_settings(path).slack.operators == ()


def test_without_an_app_token_no_requests_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert app_token(Settings()) is None
    (tmp_path / "token").write_text("xapp-1-x\n")
    monkeypatch.setenv("EVENKEEL_SLACK_TOKEN", "xoxb-of-the-bot")
    given = {
        "channel": "C0123456789",
        "operators": ("U0123456789",),
        "app_token_file": tmp_path / "token",
    }
    found = app_token(Settings(slack=given))  # type: ignore[arg-type]
    assert found is not None and found.get_secret_value() == "xapp-1-x" and "xapp-1-x" not in repr(found)
