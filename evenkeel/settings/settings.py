"""All settings: one TOML file, overridden by `EVENKEEL_…` environment variables, validated before anything starts.

Lookup: the given path, else `EVENKEEL_CONFIG`, else `./evenkeel.toml`, else the settings a demo left in `out/demo`.
A nested setting is written with two underscores, e.g. `EVENKEEL_HYPERLIQUID__URL`; five of managed accounts have plain
names too (`evenkeel/settings/plain_names.py`). Secrets never stand in the TOML: they
come from the environment (`EVENKEEL_HYPERLIQUID_KEY`, `EVENKEEL_SOLANA_KEY`, `EVENKEEL_ASGARD_API_KEY`) or from a file
that the TOML names (`key_file`, `api_key_file`).
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from evenkeel.errors import OperatorError
from evenkeel.settings.accounts import Agents, Collector, Ostium, Service
from evenkeel.settings.carry import RiskLimits, Staking, StrategySettings, check_caps, check_strategy
from evenkeel.settings.fleet import FleetAccount, account_named, check_fleet
from evenkeel.settings.hedging import Hedging
from evenkeel.settings.host import (
    Admin,
    ClockSettings,
    Database,
    Metrics,
    PrefectSettings,
    Reports,
    Watchdog,
)
from evenkeel.settings.messages import Mail, Messages, Slack, Webhook
from evenkeel.settings.pages import Pages
from evenkeel.settings.plain_names import PlainNames
from evenkeel.settings.refused import explained
from evenkeel.settings.safety import Safety
from evenkeel.settings.secrets import Keeper, key_of, passphrase_of, refuse_secrets
from evenkeel.settings.signers import Signers
from evenkeel.settings.venues import Asgard, Hyperliquid, Solana

DEMO_SETTINGS = Path("out/demo/evenkeel.toml")


_KEY_FILES: dict[Keeper, str] = {
    "asgard": "api_key_file",
    "slack": "token_file",
    "slack_app": "app_token_file",
    "webhook": "secret_file",
    "mail": "login_file",
}
"""Which setting names the file of a secret, where it is not `key_file`."""


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
    ostium: Ostium = Ostium()
    agents: Agents = Agents()
    collector: Collector = Collector()
    hedging: Hedging = Hedging()
    service: Service = Service()
    prefect: PrefectSettings = PrefectSettings()
    watchdog: Watchdog = Watchdog()
    reports: Reports = Reports()
    metrics: Metrics = Metrics()
    pages: Pages = Pages()
    messages: Messages = Messages()
    slack: Slack = Slack()
    webhook: Webhook = Webhook()
    mail: Mail = Mail()
    staking: Staking = Staking()
    signers: Signers = Signers()
    safety: Safety = Safety()
    admin: Admin = Admin()
    strategy: StrategySettings = StrategySettings()
    limits: RiskLimits = RiskLimits()
    fleet: tuple[FleetAccount, ...] = ()
    account: str = ""
    """Which account of the fleet is meant, where a command does not say."""
    _of_account: str = PrivateAttr("")
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
        """The environment wins over the file (whose content is passed at construction), our own names over plain ones."""
        return env_settings, PlainNames(settings_cls), init_settings

    @model_validator(mode="after")
    def _caps_leave_room(self) -> Self:
        check_strategy(self.strategy, self.limits)
        check_caps(self.limits, self.safety, self.asgard)
        keys = {f"signers.{chain}": self._keys_of(chain) for chain in ("hyperliquid", "solana")}
        files = {f"{chain}.key_file": getattr(self, chain).key_file for chain in ("hyperliquid", "solana")}
        check_fleet(
            self.fleet, {"hyperliquid.account_address": self.hyperliquid.account_address, **files, **keys}
        )
        return self

    def _keys_of(self, chain: str) -> bool:
        source = getattr(self.signers, chain)
        return bool(source.keystore_file or source.kms_key_id)

    def for_account(self, name: str = "") -> Settings:
        """The settings as one account's: those of a fleet's member in the places of a single account's. `name`: of the account;
        empty: `account`, or the only one. Raises OperatorError, naming all, where none or more than one is meant.
        """
        meant = name or self.account
        if self.of_account:
            if name not in ("", self.of_account):
                raise OperatorError(f"these are the settings of {self.of_account}, not of {name}")
            return self
        if not self.fleet and not meant:
            return self
        if not meant and len(self.fleet) > 1:
            names = ", ".join(one.name for one in self.fleet)
            raise OperatorError(
                f"{len(self.fleet)} accounts are in the fleet ({names}): name one with --account"
            )
        one = account_named(self.fleet, meant or self.fleet[0].name)
        settings = self.model_copy(
            update={
                "hyperliquid": self.hyperliquid.model_copy(
                    update={"account_address": one.hyperliquid_account}
                ),
                "signers": self.signers.model_copy(
                    update={"hyperliquid": one.hyperliquid, "solana": one.solana}
                ),
            }
        )
        settings._of_account = one.name
        return settings

    @property
    def has_accounts(self) -> bool:
        """Whether managed accounts are switched on, at any venue."""
        return self.ostium.enabled or self.agents.enabled

    @property
    def of_account(self) -> str:
        """Whose settings these are, of what `for_account` gave; "" else."""
        return self._of_account

    def each_account(self) -> list[Settings]:
        """The settings of every account that is meant: of the one that is named or the only one, else of the whole fleet."""
        if self.of_account or self.account or not self.fleet:
            return [self.for_account()]
        return [self.for_account(one.name) for one in self.fleet]

    def account_of(self, hyperliquid_account: str) -> str:
        """The name of the fleet's account with this address; "" where it is none of the fleet's."""
        address = hyperliquid_account.lower()
        return next((one.name for one in self.fleet if one.hyperliquid_account == address), "")

    def exit_tip_lamports(self, tries: int, *, emergency: bool) -> int:
        """Tip of a closing after `tries` that failed: twice the ordinary one or more in an emergency or a further try."""
        usual, again = self.asgard.jito_tip_lamports, tries if emergency else tries - 1
        if again < 0:
            return usual
        wanted = max(usual * 2, self.asgard.emergency_tip_lamports) * 2 ** min(again, 10)
        return max(usual, min(wanted, self.safety.tip_cap_lamports))

    def passphrase(self, name: Literal["hyperliquid", "solana"]) -> SecretStr | None:
        """Of a keystore: from `EVENKEEL_<NAME>_PASSPHRASE`, else from the file the settings name, else None."""
        return passphrase_of(name, getattr(self.signers, name).passphrase_file)

    def secret(self, name: Keeper) -> SecretStr | None:
        """The secret of a venue from its environment variable, else from the file the settings name, else None."""
        section = getattr(self, name.removesuffix("_app"))
        return key_of(name, getattr(section, _KEY_FILES.get(name, "key_file")))


def settings_path(given: Path | None = None) -> Path | None:
    """The TOML file to use, or None where there is none. A file that was asked for by name must exist."""
    asked = given or (Path(os.environ["EVENKEEL_CONFIG"]) if os.environ.get("EVENKEEL_CONFIG") else None)
    if asked is not None:
        if not asked.is_file():
            wrong = (
                "does not exist" if not asked.exists() else "is a folder" if asked.is_dir() else "is no file"
            )
            raise OperatorError(f"settings file {asked} {wrong}; give --config PATH or set EVENKEEL_CONFIG")
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
        refuse_secrets(path, content)
    try:
        return Settings(**content)
    except ValidationError as error:
        wrong = explained(error, path)
    except SettingsError as error:
        wrong = f"an EVENKEEL_ variable cannot be read: {error}"
    raise OperatorError(wrong)  # outside of the handlers: a chained error would hold the values
