"""The two signers of a desk, from wherever the settings say their keys are; and what is to be said against those keys."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeVar

from evenkeel.errors import OperatorError, Retryable, shown_path
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from tasks.no_key import NoEvmKey, NoSolanaKey
from tasks.solana_rules import signing_rules
from venues.hyperliquid.signing import HyperliquidSigner, is_mainnet_url, normal_address
from venues.hyperliquid.validator import HyperliquidValidator, Rules
from venues.signers.local import LocalEvmKey, LocalSolanaKey, same_secret
from venues.signers.protocol import EvmSigner, SolanaSigning
from venues.solana.keys import SolanaSigner

T = TypeVar("T")
Chain = Literal["hyperliquid", "solana"]
NOBODY = "0x" + "0" * 40
_CAP_ROOM = Decimal("1.1")


@dataclass(frozen=True, slots=True)
class Keys:
    """Both signers, and the Hyperliquid account that they trade. `warnings` are for the operator to read.

    Of `open_keys_to_close` alone: `without_key` says why a venue's orders cannot be signed; `unidentified` are those of them of
    whom not even the account is known, so that nothing may be read there either.
    """

    hyperliquid: HyperliquidSigner
    solana: SolanaSigner
    account: str
    warnings: tuple[str, ...]
    without_key: Mapping[str, str] = field(default_factory=dict)
    unidentified: Mapping[str, str] = field(default_factory=dict)


async def open_keys(settings: Settings) -> Keys:
    """Open both keys, off the event loop: a keystore takes some tenths of a second, KMS a round trip.

    Raises OperatorError in one line (missing, ambiguous, unreadable, the same secret twice, the account's own key) or
    Retryable (KMS does not answer).
    """
    evm, ed25519 = await asyncio.to_thread(lambda: (evm_key(settings), solana_key(settings)))
    _require_two_secrets(evm, ed25519)
    account, warnings = _account(settings, evm)
    return Keys(HyperliquidSigner(evm), SolanaSigner(ed25519), account, (*_warnings(settings), *warnings))


async def open_keys_to_close(settings: Settings, known: Mapping[str, str]) -> Keys:
    """For the kill switch: each key by itself, so that one that cannot be opened keeps only its own venue from
    being closed out.

    `known`: our accounts by venue as the ledger has them, to look by where a key has none.
    Raises OperatorError only for one secret on both chains.
    """
    (evm, no_short), (ed25519, no_long) = await asyncio.gather(
        asyncio.to_thread(_tried, lambda: evm_key(settings)),
        asyncio.to_thread(_tried, lambda: solana_key(settings)),
    )
    _require_two_secrets(evm, ed25519)
    account = settings.hyperliquid.account_address or (
        evm.address if evm else known.get(VenueName.HYPERLIQUID, "")
    )
    wallet = str(ed25519.pubkey) if ed25519 else known.get(VenueName.ASGARD, "")
    if evm is not None:
        no_short = _tried(lambda: _account(settings, evm))[1]
    if ed25519 is not None:
        no_long = _tried(lambda: signing_rules(settings))[1]
    faults: dict[str, str | None] = {VenueName.HYPERLIQUID: no_short, VenueName.ASGARD: no_long}
    without_key = {venue: why for venue, why in faults.items() if why is not None}
    addresses: dict[str, str] = {VenueName.HYPERLIQUID: account, VenueName.ASGARD: wallet}
    return Keys(
        HyperliquidSigner(evm if evm is not None and no_short is None else NoEvmKey(no_short or "")),
        SolanaSigner(
            ed25519 if ed25519 is not None and no_long is None else NoSolanaKey(no_long or "", wallet)
        ),
        normal_address(account) if account else NOBODY,
        tuple(_warnings(settings)),
        without_key,
        {venue: why for venue, why in without_key.items() if not addresses[venue]},
    )


def _tried(opening: Callable[[], T]) -> tuple[T | None, str | None]:
    """What was opened, or why it was not."""
    try:
        return opening(), None
    except (OperatorError, Retryable) as fault:
        return None, str(fault)


def _require_two_secrets(evm: object, ed25519: object) -> None:
    if same_secret(evm, ed25519):
        raise OperatorError(
            "the Hyperliquid and the Solana key are made of the same secret: whoever learns one has both. "
            "Make a key of its own for one of them"
        )


def _account(settings: Settings, evm: EvmSigner) -> tuple[str, list[str]]:
    """The account that the key trades, with what is to be said about it. Raises OperatorError for the account's own key."""
    account = normal_address(settings.hyperliquid.account_address or evm.address)
    if evm.address != account:
        return account, []
    if not settings.signers.allow_master_key:
        raise OperatorError(
            f"the Hyperliquid key is that of the account {account} itself and could withdraw everything: approve an "
            "agent and use its key here (hyperliquid.account_address names the account), or accept it with "
            "signers.allow_master_key = true"
        )
    return account, [
        f"the Hyperliquid key is that of the account {account} itself and could withdraw: an agent's key is enough"
    ]


def evm_key(settings: Settings) -> EvmSigner:
    """The Hyperliquid key of the settings."""
    source = settings.signers.hyperliquid
    _unambiguous(settings, "hyperliquid")
    if source.kms_key_id:
        from venues.signers.kms import KmsEvmKey

        return KmsEvmKey(_kms(settings), source.kms_key_id)
    if source.keystore_file:
        from venues.signers.keystore import open_evm

        return open_evm(_content("hyperliquid", source.keystore_file), _passphrase(settings, "hyperliquid"))
    return LocalEvmKey.from_hex(_plain(settings, "hyperliquid"))


def solana_key(settings: Settings) -> SolanaSigning:
    """The Solana key of the settings."""
    source = settings.signers.solana
    _unambiguous(settings, "solana")
    if source.kms_key_id:
        from venues.signers.kms import KmsSolanaKey

        return KmsSolanaKey(_kms(settings), source.kms_key_id)
    if source.keystore_file:
        from venues.signers.keystore import open_solana

        return open_solana(_content("solana", source.keystore_file), _passphrase(settings, "solana"))
    return LocalSolanaKey.from_text(_plain(settings, "solana"))


def hyperliquid_validator(settings: Settings, account: str) -> HyperliquidValidator:
    """The bounds of the settings for this account; the network is that of the URL."""
    limits, safety = settings.limits, settings.safety
    return HyperliquidValidator(
        Rules(
            is_mainnet=is_mainnet_url(settings.hyperliquid.url),
            account=account,
            max_order_usd=safety.max_order_usd or limits.max_position_usd * _CAP_ROOM,
            max_short_usd=safety.max_short_usd or limits.max_total_exposure_usd * _CAP_ROOM,
            entry_slippage_bps=Decimal(limits.max_slippage_entry_bps),
            exit_slippage_bps=Decimal(limits.max_slippage_last_bps),
            entry_gap=safety.entry_gap,
            exit_gap=safety.exit_gap,
            max_leverage=limits.max_leverage,
            withdrawal_addresses=frozenset(safety.withdrawal_hyperliquid),
            max_withdrawal_usd=safety.max_withdrawal_usd,
        )
    )


def _unambiguous(settings: Settings, chain: Chain) -> None:
    source = getattr(settings.signers, chain)
    named = [name for name in ("keystore_file", "kms_key_id") if getattr(source, name)]
    if named and settings.secret(chain) is not None:
        raise OperatorError(
            f"the {chain} key is given twice: by signers.{chain}.{named[0]}, and in clear by its environment variable or "
            f"{chain}.key_file. Remove the one in clear"
        )


def _plain(settings: Settings, chain: Chain) -> str:
    secret = settings.secret(chain)
    if secret is None:
        raise OperatorError(
            f"no {chain} key: set EVENKEEL_{chain.upper()}_KEY, or {chain}.key_file to a file that holds it, or "
            f"signers.{chain}.keystore_file or .kms_key_id"
        )
    return secret.get_secret_value()


def _passphrase(settings: Settings, chain: Chain) -> str:
    found = settings.passphrase(chain)
    if found is None:
        raise OperatorError(
            f"the {chain} keystore needs its passphrase: set EVENKEEL_{chain.upper()}_PASSPHRASE, or "
            f"signers.{chain}.passphrase_file"
        )
    return found.get_secret_value()


def _content(chain: Chain, path: Path) -> str:
    try:
        return path.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(
            f"the {chain} keystore {shown_path(path)} cannot be read ({type(error).__name__})"
        ) from None


def _kms(settings: Settings) -> object:
    from venues.signers.kms import kms_client

    signers = settings.signers
    return kms_client(signers.kms_region, signers.kms_endpoint_url, signers.kms_timeout_s)


def refuse_readable_keys(settings: Settings) -> None:
    """Raise OperatorError where a file with a secret can be read by others on this host: nothing new is entered with it.
    What closes a position never asks this.
    """
    if found := _warnings(settings):
        raise OperatorError(f"{'; '.join(found)}; until then nothing is entered, and exits go on")


def _warnings(settings: Settings) -> list[str]:
    """Files with a key or passphrase in clear that others on this host may read."""
    files = [
        settings.hyperliquid.key_file,
        settings.solana.key_file,
        settings.asgard.api_key_file,
        settings.ostium.key_file,
        settings.collector.key_file,
        settings.agents.key_file,
        settings.signers.hyperliquid.passphrase_file,
        settings.signers.solana.passphrase_file,
    ]
    found = []
    given = os.environ.get("CREDENTIALS_DIRECTORY", "")
    for path in files:
        if path is None or not path.expanduser().is_file():
            continue
        mode = stat.S_IMODE(path.expanduser().stat().st_mode)
        # What systemd gives to a unit is root's, and an access list, shown as the group's bits, lets the unit's user read it.
        is_credential = bool(given) and path.expanduser().resolve().is_relative_to(Path(given).resolve())
        if mode & (stat.S_IRWXO if is_credential else stat.S_IRWXG | stat.S_IRWXO):
            found.append(f"{path} can be read by others on this host (mode {mode:04o}): chmod 600 it")
    return found
