"""The questions of `evenkeel init`, at a terminal or from a pipe. No secret is shown, and none is written but encrypted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import typer

from app.keys import new
from app.up.init import Place, values_of
from evenkeel.errors import OperatorError


def ask(key_folder: Path) -> dict[Place, Any]:
    """Ask everything; an empty answer leaves the example's line. Raises OperatorError where a key cannot be written."""
    account = _asked("Hyperliquid account that holds the money (0x…)", _is_address)
    rpc_url = _asked("Solana node, https://…", _is_url)
    second = _asked("a second provider's node (empty: none)", _is_url, empty=True)
    keys: dict[str, Path] = {chain: path for chain in CHAINS if (path := _key(chain, key_folder)) is not None}
    asgard = _asked(
        "file that holds Asgard's API key (empty: none, one request a second)", _is_file, empty=True
    )
    admin = _admin()
    channel = _asked("Slack channel id, C… (empty: no Slack)", _is_channel, empty=True)
    token = _asked("file that holds the Slack bot token", _is_file, empty=True) if channel else ""
    app_token = (
        _asked("file that holds the Slack app token (empty: no requests from Slack)", _is_file, empty=True)
        if channel
        else ""
    )
    operators = (
        _asked("Slack user ids of those who may ask, U…, with blanks between", _are_users)
        if app_token
        else ""
    )
    webhook = _asked("webhook, https://… (empty: none)", _is_url, empty=True)
    secret = _asked("file that holds the webhook's secret", _is_file, empty=True) if webhook else ""
    return values_of(
        account=account,
        rpc_url=rpc_url,
        second_rpc_url=second,
        keys=keys,
        asgard_key_file=asgard,
        admin_key_hash=admin,
        slack_channel=channel,
        slack_token_file=token,
        slack_app_token_file=app_token,
        slack_operators=operators.split(),
        webhook_url=webhook,
        webhook_secret_file=secret,
    )


CHAINS: tuple[Literal["hyperliquid", "solana"], ...] = ("hyperliquid", "solana")
_WHAT = {
    "hyperliquid": "agent key for Hyperliquid (approve its address in Hyperliquid's UI afterwards)",
    "solana": "wallet key for Solana (send SOL and USDC to its address afterwards)",
}


def _key(chain: Literal["hyperliquid", "solana"], folder: Path) -> Path | None:
    """Make a key in an encrypted file, or leave it to the operator."""
    path = folder / f"{chain}.json"
    if path.exists():
        typer.echo(f"{path} is there: it is used as the {_WHAT[chain].partition(' (')[0]}")
        return path
    if not typer.confirm(f"make a fresh {_WHAT[chain]}?", default=True):
        typer.echo(f"then set {chain}.key_file, or make it later: evenkeel keys encrypt {chain} --out {path}")
        return None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new(chain, path)
    return path


def _admin() -> str:
    from tasks.admin import make_hash

    given = os.environ.get("EVENKEEL_ADMIN_KEY", "")
    key = given or typer.prompt(
        "admin key, for pause and resume (empty: none)", hide_input=True, default="", show_default=False
    )
    return make_hash(key) if key else ""


def _asked(question: str, check: Callable[[str], str], empty: bool = False) -> str:
    """Ask until the answer is one; ValueError of the check says what is wrong with it."""
    while True:
        text = str(typer.prompt(question, default="" if empty else None, show_default=False)).strip()
        if not text and empty:
            return ""
        try:
            return check(text)
        except ValueError as fault:
            if not sys.stdin.isatty():  # nobody is there to answer again
                raise OperatorError(f"{question}: {fault}") from None
            typer.echo(f"{fault}; try again")


def _is_file(text: str) -> str:
    """The answer is not shown: it may be the secret itself."""
    try:
        there = Path(text).expanduser().is_file()
    except (OSError, RuntimeError):
        there = False
    if not there:
        raise ValueError(
            "must be a file that is there: put the secret into one that only you can read, and name it"
        )
    return text


def _is_address(text: str) -> str:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise ValueError("must be 0x and 40 hexadecimal digits")
    return text


def _is_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise ValueError("must be an http:// or https:// URL")
    return text


def _are_users(text: str) -> str:
    if not re.fullmatch(r"[UW][A-Z0-9]{8,20}(\s+[UW][A-Z0-9]{8,20})*", text):
        raise ValueError("must be ids of users, e.g. U0123456789 (a profile in Slack shows it)")
    return text


def _is_channel(text: str) -> str:
    if not re.fullmatch(r"[CGD][A-Z0-9]{8,20}", text):
        raise ValueError("must be a channel's id, e.g. C0123456789")
    return text
