"""Where secrets come from: an environment variable, else a file that the settings name; never the TOML file itself."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from evenkeel.errors import OperatorError, shown_path

Keeper = Literal[
    "hyperliquid",
    "solana",
    "asgard",
    "ostium",
    "collector",
    "agents",
    "alpaca",
    "alpaca_secret",
    "schwab",
    "schwab_secret",
    "token",
    "vaults",
    "slack",
    "slack_app",
    "webhook",
    "mail",
]
_FORBIDDEN_IN_TOML = re.compile(
    r"^(key|private_key|secret|secret_key|api_key|token|app_token|password|passphrase|mnemonic|seed)$"
)
_SECRET_ENV: dict[Keeper, str] = {
    "hyperliquid": "EVENKEEL_HYPERLIQUID_KEY",
    "solana": "EVENKEEL_SOLANA_KEY",
    "asgard": "EVENKEEL_ASGARD_API_KEY",
    "ostium": "EVENKEEL_OSTIUM_KEY",
    "collector": "EVENKEEL_COLLECTOR_KEY",
    "agents": "EVENKEEL_AGENTS_KEY",
    "alpaca": "EVENKEEL_ALPACA_KEY",
    "alpaca_secret": "EVENKEEL_ALPACA_SECRET",
    "schwab": "EVENKEEL_SCHWAB_KEY",
    "schwab_secret": "EVENKEEL_SCHWAB_SECRET",
    "token": "EVENKEEL_TOKEN_KEY",
    "vaults": "EVENKEEL_VAULTS_KEY",
    "slack": "EVENKEEL_SLACK_TOKEN",
    "slack_app": "EVENKEEL_SLACK_APP_TOKEN",
    "webhook": "EVENKEEL_WEBHOOK_SECRET",
    "mail": "EVENKEEL_MAIL_PASSWORD",
}


def key_of(name: Keeper, path: Path | None) -> SecretStr | None:
    """The secret of a venue from its environment variable, else from the file, else None. Raises OperatorError."""
    variable = _SECRET_ENV[name]
    if value := os.environ.get(variable, "").strip():
        return SecretStr(value)
    text = _read(path, f"the key file of {name}", variable)
    return None if text is None else SecretStr(text.strip())


def passphrase_of(name: Literal["hyperliquid", "solana"], path: Path | None) -> SecretStr | None:
    """Of a keystore: from `EVENKEEL_<NAME>_PASSPHRASE`, else from the file, else None. Raises OperatorError."""
    variable = f"EVENKEEL_{name.upper()}_PASSPHRASE"
    if value := os.environ.get(variable, ""):
        return SecretStr(value)
    text = _read(path, f"the passphrase file of {name}", variable)
    return None if text is None else SecretStr(text.rstrip("\r\n"))


def _read(path: Path | None, what: str, variable: str) -> str | None:
    if path is None:
        return None
    try:
        return path.expanduser().read_text()
    except OSError as error:  # not chained: it would repeat a key that stands in the place of the path
        raise OperatorError(
            f"{what}, {shown_path(path)}, cannot be read ({error.strerror}); fix the path or set {variable}"
        ) from None


def refuse_secrets(path: Path, content: dict[str, Any], section: str = "") -> None:
    """Raise OperatorError where a name in the TOML file is that of a secret."""
    for name, value in content.items():
        if isinstance(value, dict):
            refuse_secrets(path, value, f"{section}{name}.")
        elif _FORBIDDEN_IN_TOML.match(name) and not _is_contract(name, value):
            raise OperatorError(
                f"{path}: {section}{name} looks like a secret; secrets come from the environment "
                f"({', '.join(_SECRET_ENV.values())}) or from a file named by key_file. Remove it from the TOML"
            )


def _is_contract(name: str, value: Any) -> bool:
    """Whether a token is one of a chain, named by its contract's public address."""
    return name == "token" and isinstance(value, str) and re.fullmatch("0x[0-9a-fA-F]{40}", value) is not None
