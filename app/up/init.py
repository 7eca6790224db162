"""`evenkeel init`: from a few answers to settings in which every line is explained, with keys in encrypted files."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evenkeel.errors import OperatorError

EXAMPLE = Path(__file__).resolve().parents[2] / "evenkeel.example.toml"
Place = tuple[str, str]
"""Section and name of a setting."""


def filled(example: str, values: Mapping[Place, Any]) -> str:
    """The example with these values in their lines, whether the line was commented out or not; what has no line gets a table at
    the end. Everything else stays, comments too.
    """
    left = dict(values)
    section, lines = "", []
    for line in example.splitlines():
        if found := re.match(r"\[([\w.]+)\]\s*$", line):
            section = found[1]
        named = re.match(r"(?:# )?(\w+) = ", line)
        place = (section, named[1] if named else "")
        if place in left:
            line = f"{place[1]} = {_toml(left.pop(place))}"
        lines.append(line)
    for name in dict.fromkeys(section for section, _ in left):
        rows = [f"{key} = {_toml(value)}" for (section, key), value in left.items() if section == name]
        lines += ["", f"[{name}]", *rows]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def write(path: Path, values: Mapping[Place, Any], check: Callable[[Path], object]) -> None:
    """Write the settings, once `check` has taken them. Raises OperatorError, and writes nothing, where it does not, where a
    file is there already, or where there is no example to start from.
    """
    if path.exists():
        raise OperatorError(f"{path} exists already: edit it, or give another --out")
    if not EXAMPLE.is_file():
        raise OperatorError(f"{EXAMPLE} is not there: run `evenkeel init` from a checkout")
    text = filled(EXAMPLE.read_text(), values)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        trial.write_text(text)
        try:
            check(trial)
        except OperatorError as fault:
            raise OperatorError(str(fault).replace(str(trial), str(path))) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def values_of(
    *,
    account: str,
    rpc_url: str,
    second_rpc_url: str,
    keys: Mapping[str, Path],
    asgard_key_file: str,
    admin_key_hash: str,
    slack_channel: str,
    slack_token_file: str,
    slack_app_token_file: str,
    slack_operators: Sequence[str],
    webhook_url: str,
    webhook_secret_file: str,
) -> dict[Place, Any]:
    """The settings that the answers are; an empty answer leaves the example's line."""
    answers: dict[Place, Any] = {
        ("hyperliquid", "account_address"): account,
        ("solana", "rpc_url"): rpc_url,
        ("solana", "second_rpc_url"): second_rpc_url,
        ("asgard", "api_key_file"): asgard_key_file,
        ("admin", "key_hash"): admin_key_hash,
        ("slack", "channel"): slack_channel,
        ("slack", "token_file"): slack_token_file,
        ("slack", "app_token_file"): slack_app_token_file,
        ("slack", "operators"): list(slack_operators),
        ("webhook", "url"): webhook_url,
        ("webhook", "secret_file"): webhook_secret_file,
    }
    found = {place: value for place, value in answers.items() if value}
    return found | {(f"signers.{chain}", "keystore_file"): str(path) for chain, path in keys.items()}
