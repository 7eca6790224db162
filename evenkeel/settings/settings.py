"""All settings: one TOML file, overridden by `EVENKEEL_…` environment variables, validated before anything starts.

Lookup: the given path, else `EVENKEEL_CONFIG`, else `./evenkeel.toml`, else the settings a demo left in `out/demo`.
A nested setting is written with two underscores, e.g. `EVENKEEL_HYPERLIQUID__URL`. Secrets never stand in the TOML: they
come from the environment (`EVENKEEL_HYPERLIQUID_KEY`, `EVENKEEL_SOLANA_KEY`, `EVENKEEL_ASGARD_API_KEY`) or from a file
that the TOML names (`key_file`, `api_key_file`).
"""

from __future__ import annotations

import os
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlparse

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from evenkeel.errors import OperatorError, shown, shown_path
from evenkeel.settings.refused import explained
from strategy.carry.limits import RiskLimits, StrategySettings

DEMO_SETTINGS = Path("out/demo/evenkeel.toml")
HYPERLIQUID_MAINNET = "https://api.hyperliquid.xyz"
_FORBIDDEN_IN_TOML = re.compile(
    r"^(key|private_key|secret|secret_key|api_key|password|passphrase|mnemonic|seed)$"
)
_CAP_ROOM = Decimal("1.05")
_SECRET_ENV = {
    "hyperliquid": "EVENKEEL_HYPERLIQUID_KEY",
    "solana": "EVENKEEL_SOLANA_KEY",
    "asgard": "EVENKEEL_ASGARD_API_KEY",
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator(
        "url", "rpc_url", "second_rpc_url", "world_url", "api_url", "kms_endpoint_url", check_fields=False
    )
    @classmethod
    def _is_url(cls, value: str) -> str:
        parsed = urlparse(value)
        if value and (parsed.scheme not in ("http", "https") or not parsed.netloc):
            raise ValueError("must be an http:// or https:// URL")
        return value.rstrip("/")


class Database(_Section):
    """Where the ledger is: SQLite (`sqlite:///path`) or PostgreSQL (`postgresql+psycopg://…`)."""

    url: str = "sqlite:///evenkeel.db"

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        return value


class ClockSettings(_Section):
    """Empty for real time; the control URL of running twins for their world's time."""

    world_url: str = ""


class Hyperliquid(_Section):
    """The perpetual venue. `account_address` is the account that trades; the key may be an agent's of that account."""

    url: str = HYPERLIQUID_MAINNET
    account_address: str = ""
    key_file: Path | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    weight_per_minute: float = Field(default=1000.0, gt=0, le=1200)
    order_life_s: float = Field(default=10.0, ge=2, le=60)
    """`expiresAfter` of an order: after this it can no longer execute."""

    @field_validator("account_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
            raise ValueError("must be 0x followed by 40 hex digits")
        return value


class Solana(_Section):
    """The chain of the long leg. A second provider serves where the first is away, and must agree that an opening is dead."""

    rpc_url: str = "https://api.mainnet-beta.solana.com"
    second_rpc_url: str = ""
    key_file: Path | None = None
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    requests_per_minute: float = Field(default=600.0, gt=0)


class Asgard(_Section):
    """The margin aggregator. Without an API key the venue allows one request a second per address."""

    url: str = "https://v2-ultra-edge.asgard.finance/margin-trading"
    api_key_file: Path | None = None
    timeout_s: float = Field(default=15.0, gt=0, le=120)
    requests_per_minute: float = Field(default=60.0, gt=0)
    jito_tip_lamports: int = Field(default=0, ge=0, le=10_000_000)
    """Of an ordinary transaction. Asgard chooses the priority fee: a tip is all that we can offer for haste."""
    emergency_tip_lamports: int = Field(default=400_000, ge=0, le=10_000_000)
    """Least tip of an emergency or of a close tried again; doubled with every try, up to `safety.tip_cap_lamports`."""


class Staking(_Section):
    """Yearly staking yield (simple) assumed for an LST until enough of its redemption rate has been collected."""

    jitoSOL: Decimal = Field(default=Decimal("0.06"), ge=0, le=Decimal("0.2"))
    jupSOL: Decimal = Field(default=Decimal("0.06"), ge=0, le=Decimal("0.2"))
    INF: Decimal = Field(default=Decimal("0.06"), ge=0, le=Decimal("0.2"))

    def assumed_apr(self, asset: str) -> Decimal:
        """0 for SOL, which earns no staking yield as collateral."""
        return Decimal(getattr(self, asset, 0))


class KeySource(_Section):
    """Where a signing key is, if not in its environment variable or `key_file`: an encrypted keystore, or AWS KMS."""

    keystore_file: Path | None = None
    passphrase_file: Path | None = None
    """Of the keystore, where the passphrase is not in `EVENKEEL_HYPERLIQUID_PASSPHRASE` or `EVENKEEL_SOLANA_PASSPHRASE`."""
    kms_key_id: str = ""
    """Id, ARN or alias. Needs the extra `kms`."""

    @field_validator("kms_key_id")
    @classmethod
    def _is_no_key(cls, value: str) -> str:
        if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}|[1-9A-HJ-NP-Za-km-z]{43,88}", value):
            raise ValueError("looks like a key itself; give its id, ARN or alias in KMS")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.keystore_file and self.kms_key_id:
            raise ValueError("names a keystore_file and a kms_key_id: keep one")
        return self


class Signers(_Section):
    """Who signs. The trading host needs an agent's key of the Hyperliquid account, never the account's own."""

    hyperliquid: KeySource = KeySource()
    solana: KeySource = KeySource()
    allow_master_key: bool = False
    """Trade with the account's own key, which could also withdraw, instead of an agent's."""
    kms_region: str = ""
    kms_endpoint_url: str = ""
    kms_timeout_s: float = Field(default=5.0, gt=0, le=30)


class Safety(_Section):
    """What may be signed at all: the last bounds, after everything that the strategy has decided."""

    withdrawal_hyperliquid: tuple[str, ...] = ()
    """Addresses that may receive USDC from the Hyperliquid account; empty: nothing is ever withdrawn."""
    max_withdrawal_usd: Decimal = Field(default=Decimal(0), ge=0)
    max_order_usd: Decimal | None = Field(default=None, gt=0)
    """Most notional of one opening order on Hyperliquid; unset: 1.1 times `limits.max_position_usd`."""
    max_short_usd: Decimal | None = Field(default=None, gt=0)
    """Most notional short there altogether; unset: 1.1 times `limits.max_total_exposure_usd`."""
    entry_gap: Decimal = Field(default=Decimal("0.02"), gt=0, lt=1)
    """How far a limit price may be from the oracle's, for the worse."""
    exit_gap: Decimal = Field(default=Decimal("0.10"), gt=0, lt=1)
    """The same from the mark price when getting out: wider, because an exit must not fail in the market it is for."""

    withdrawal_solana: str = ""
    """The one Solana address that may ever be sent money to; empty: none."""
    allowed_programs: tuple[str, ...] = (
        "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc",  # Orca Whirlpool
        "LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo",  # Meteora DLMM
        "675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8",  # Raydium AMM v4
        "CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK",  # Raydium CLMM
    )
    """Solana programs that an approved program may call, besides those built in: the pools of swap routes."""
    banks: tuple[str, ...] = ()
    """Reserves and banks that may be deposited to and borrowed from; empty: those that Asgard's list names."""
    fee_accounts: tuple[str, ...] = ()
    """Token accounts that may receive the router's platform fee; empty: any, within `router_fee_cap_bps`."""
    router_fee_cap_bps: int = Field(default=50, ge=0, le=255)
    tip_cap_lamports: int = Field(default=1_000_000, ge=0)
    rent_cap_lamports: int = Field(default=60_000_000, ge=0)
    """Most that a build may lock in new accounts."""
    entry_price_tolerance: Decimal = Field(default=Decimal("0.03"), gt=0, lt=1)
    """How much worse than the independent price a swap may end on top of its slippage, when getting in."""
    exit_price_tolerance: Decimal = Field(default=Decimal("0.10"), gt=0, lt=1)
    exit_lst_tolerance: Decimal = Field(default=Decimal("0.25"), gt=0, lt=1)
    """The same when getting out, for an LST from its redemption value. 0.12 more per hour of the price's age, up to 0.50."""

    @field_validator("withdrawal_solana", "allowed_programs", "banks", "fee_accounts")
    @classmethod
    def _are_pubkeys(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in (value,) if isinstance(value, str) else value:
            if one and not re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{32,44}", one):
                raise ValueError(f"{shown(one)} is not a base58 public key of 32 to 44 characters")
        return value

    @field_validator("withdrawal_hyperliquid")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not re.fullmatch(r"0x[0-9a-fA-F]{40}", one):
                raise ValueError(f"{shown(one)} is not 0x followed by 40 hex digits")
        return tuple(one.lower() for one in value)


class Admin(_Section):
    """Who may pause and resume. The hash is made by `evenkeel admin hash`; it is no secret, the key is."""

    key_hash: str = ""

    @field_validator("key_hash")
    @classmethod
    def _is_hash(cls, value: str) -> str:
        if value and not re.fullmatch(r"scrypt\$\d+\$\d+\$\d+\$[A-Za-z0-9_=-]+\$[A-Za-z0-9_=-]+", value):
            raise ValueError("is not what `evenkeel admin hash` prints")
        return value


class PrefectSettings(_Section):
    """The Prefect API; empty means `PREFECT_API_URL`, and without either the flows run bare."""

    api_url: str = ""


class Settings(BaseSettings):
    """Everything that can be set. Unknown names are refused, so that a typo cannot pass for a default."""

    model_config = SettingsConfigDict(
        env_prefix="EVENKEEL_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    database: Database = Database()
    clock: ClockSettings = ClockSettings()
    hyperliquid: Hyperliquid = Hyperliquid()
    solana: Solana = Solana()
    asgard: Asgard = Asgard()
    prefect: PrefectSettings = PrefectSettings()
    staking: Staking = Staking()
    signers: Signers = Signers()
    safety: Safety = Safety()
    admin: Admin = Admin()
    strategy: StrategySettings = StrategySettings()
    limits: RiskLimits = RiskLimits()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file (whose content is passed at construction)."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _caps_leave_room(self) -> Self:
        """A cap below the strategy's own limit would stop the short after the long has been opened."""
        for cap, limit in (
            ("max_order_usd", "max_position_usd"),
            ("max_short_usd", "max_total_exposure_usd"),
        ):
            given, needed = getattr(self.safety, cap), getattr(self.limits, limit) * _CAP_ROOM
            if given is not None and given < needed:
                raise ValueError(
                    f"safety.{cap} {given} must be at least {needed:f}, {_CAP_ROOM} times limits.{limit}"
                )
        widest, tip = self.limits.max_slippage_last_bps, self.asgard.emergency_tip_lamports
        if widest >= self.safety.exit_gap * 10_000:
            raise ValueError(
                f"limits.max_slippage_last_bps {widest} must be below safety.exit_gap {self.safety.exit_gap} (10000 "
                "times that in bps), or the last tries of an exit would not be signed"
            )
        if tip > self.safety.tip_cap_lamports:
            raise ValueError(
                f"asgard.emergency_tip_lamports {tip} is above safety.tip_cap_lamports {self.safety.tip_cap_lamports}"
            )
        return self

    def exit_tip_lamports(self, tries: int, *, emergency: bool) -> int:
        """Tip of a closing after `tries` that failed: twice the ordinary one or more in an emergency or a further try."""
        usual, again = self.asgard.jito_tip_lamports, tries if emergency else tries - 1
        if again < 0:
            return usual
        wanted = max(usual * 2, self.asgard.emergency_tip_lamports) * 2 ** min(again, 10)
        return max(usual, min(wanted, self.safety.tip_cap_lamports))

    def passphrase(self, name: Literal["hyperliquid", "solana"]) -> SecretStr | None:
        """Of a keystore: from `EVENKEEL_<NAME>_PASSPHRASE`, else from the file the settings name, else None."""
        variable = f"EVENKEEL_{name.upper()}_PASSPHRASE"
        if value := os.environ.get(variable, ""):
            return SecretStr(value)
        path = getattr(self.signers, name).passphrase_file
        if path is None:
            return None
        try:
            return SecretStr(path.expanduser().read_text().rstrip("\r\n"))
        except OSError as error:  # not chained: it would repeat a key that stands in the place of the path
            raise OperatorError(
                f"the passphrase file of {name}, {shown_path(path)}, cannot be read ({error.strerror}); "
                f"fix the path or set {variable}"
            ) from None

    def secret(self, name: Literal["hyperliquid", "solana", "asgard"]) -> SecretStr | None:
        """The secret of a venue from its environment variable, else from the file the settings name, else None."""
        variable = _SECRET_ENV[name]
        if value := os.environ.get(variable, "").strip():
            return SecretStr(value)
        path = {
            "hyperliquid": self.hyperliquid.key_file,
            "solana": self.solana.key_file,
            "asgard": self.asgard.api_key_file,
        }[name]
        if path is None:
            return None
        try:
            return SecretStr(path.expanduser().read_text().strip())
        except OSError as error:  # not chained: it would repeat a key that stands in the place of the path
            raise OperatorError(
                f"the key file of {name}, {shown_path(path)}, cannot be read ({error.strerror}); "
                f"fix the path or set {variable}"
            ) from None


def settings_path(given: Path | None = None) -> Path | None:
    """The TOML file to use, or None where there is none. A file that was asked for by name must exist."""
    asked = given or (Path(os.environ["EVENKEEL_CONFIG"]) if os.environ.get("EVENKEEL_CONFIG") else None)
    if asked is not None:
        if not asked.is_file():
            raise OperatorError(
                f"settings file {asked} does not exist; give --config PATH or set EVENKEEL_CONFIG"
            )
        return asked
    return next((path for path in (Path("evenkeel.toml"), DEMO_SETTINGS) if path.is_file()), None)


def load_settings(given: Path | None = None) -> Settings:
    """Read and validate. OperatorError in one line per wrong setting: which, its value, what is allowed."""
    path = settings_path(given)
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise OperatorError(f"settings file {path} is not readable TOML: {error}") from error
        _refuse_secrets(path, content)
    try:
        return Settings(**content)
    except ValidationError as error:
        wrong = explained(error, path)
    except SettingsError as error:
        wrong = f"an EVENKEEL_ variable cannot be read: {error}"
    raise OperatorError(wrong)  # outside of the handlers: a chained error would hold the values


def _refuse_secrets(path: Path, content: dict[str, Any], section: str = "") -> None:
    for name, value in content.items():
        if isinstance(value, dict):
            _refuse_secrets(path, value, f"{section}{name}.")
        elif _FORBIDDEN_IN_TOML.match(name):
            raise OperatorError(
                f"{path}: {section}{name} looks like a secret; secrets come from the environment "
                f"({', '.join(_SECRET_ENV.values())}) or from a file named by key_file. Remove it from the TOML"
            )
