"""`evenkeel keys`: make a key, put one under a passphrase, and show which addresses sign. Never shows a secret."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from evenkeel.errors import OperatorError

keys_app = typer.Typer(help="Signing keys: make, encrypt, show their addresses.", no_args_is_help=True)

ChainArgument = Annotated[Literal["hyperliquid", "solana"], typer.Argument(help="Whose key.")]
OutOption = Annotated[Path, typer.Option("--out", help="The encrypted file to write; it must not exist yet.")]


@keys_app.command("new")
def new(chain: ChainArgument, out: OutOption) -> None:
    """Make a fresh key that exists in this encrypted file alone, and show its address."""
    if chain == "hyperliquid":
        from eth_account import Account

        _write(chain, "0x" + bytes(Account.create().key).hex(), out)
    else:
        from solders.keypair import Keypair

        _write(chain, str(Keypair()), out)


@keys_app.command("encrypt")
def encrypt(chain: ChainArgument, out: OutOption) -> None:
    """Put the key that is now in the environment or in `key_file` into an encrypted file, and show its address."""
    from evenkeel.settings.settings import load_settings

    secret = load_settings().secret(chain)
    if secret is None:
        raise OperatorError(
            f"no {chain} key to encrypt: set EVENKEEL_{chain.upper()}_KEY, or {chain}.key_file to a file that holds it"
        )
    _write(chain, secret.get_secret_value(), out)


@keys_app.command("show")
def show(as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False) -> None:
    """Open both keys, wherever the settings say they are, and show their addresses and what is to be said against them."""
    from evenkeel.settings.settings import load_settings
    from tasks.keys import open_keys

    keys = asyncio.run(open_keys(load_settings()))
    body = {
        "hyperliquid": keys.hyperliquid.address,
        "hyperliquid_account": keys.account,
        "solana": str(keys.solana.pubkey),
        "warnings": list(keys.warnings),
    }
    if as_json:
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    for name, value in body.items():
        if name != "warnings":
            sys.stdout.write(f"{name}: {value}\n")
    for warning in keys.warnings:
        sys.stdout.write(f"warning: {warning}\n")


def _write(chain: Literal["hyperliquid", "solana"], secret: str, path: Path) -> None:
    from venues.signers import keystore

    if path.exists():
        raise OperatorError(f"{path} exists already; a key file is never overwritten")
    passphrase = _passphrase(chain)
    if chain == "hyperliquid":
        text = keystore.encrypt_evm(secret, passphrase)
        address = keystore.open_evm(text, passphrase).address
    else:
        text = keystore.encrypt_solana(secret, passphrase)
        address = str(keystore.open_solana(text, passphrase).pubkey)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
    except OSError as error:
        raise OperatorError(f"{path} cannot be written ({error.strerror})") from None
    sys.stdout.write(f"{address}\n")
    sys.stderr.write(f"evenkeel: written to {path}; name it in signers.{chain}.keystore_file\n")


def _passphrase(chain: str) -> str:
    """From the environment, else asked for twice at the terminal."""
    given = os.environ.get(f"EVENKEEL_{chain.upper()}_PASSPHRASE", "")
    if given:
        return given
    if not sys.stdin.isatty():
        raise OperatorError(f"no passphrase: set EVENKEEL_{chain.upper()}_PASSPHRASE, or run at a terminal")
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True))
