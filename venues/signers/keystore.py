"""Keys at rest, encrypted with a passphrase: the Ethereum keystore (version 3) for secp256k1, its like for Ed25519.

The Ed25519 file holds the 32-byte seed under scrypt (RFC 7914) and AES-256-GCM, bound to its public key: a file whose
address was edited does not open.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from solders.keypair import Keypair

from evenkeel.errors import OperatorError
from venues.signers.local import LocalEvmKey, LocalSolanaKey

SCRYPT_N = 2**17
"""Work per try of a passphrase: 128 MiB and some tenths of a second."""
_LEAST_N, _MOST_N = 2**14, 2**20
LEAST_PASSPHRASE = 12
_KIND = "ed25519-keystore"
_SEED_BYTES = 32
_WRONG = "it does not open with this passphrase, or it was changed"


def encrypt_evm(secret_hex: str, passphrase: str, *, work: int = SCRYPT_N) -> str:
    """Return the Ethereum keystore of a secret key (64 hex digits), as every Ethereum client reads it."""
    from eth_account import Account

    key = LocalEvmKey.from_hex(secret_hex)
    content = Account.encrypt(secret_hex.strip(), _strong(passphrase), kdf="scrypt", iterations=work)
    return json.dumps(content | {"address": key.address.removeprefix("0x")}, indent=2)


def open_evm(text: str, passphrase: str) -> LocalEvmKey:
    """Return the key in an Ethereum keystore. OperatorError, without passphrase or key, when it does not open."""
    from eth_account import Account

    problem, secret = "", b""
    try:
        content = json.loads(text)
        named = str(content.get("address", "")).lower().removeprefix("0x")
        secret = bytes(Account.decrypt(content, passphrase))
    except ValueError:  # not JSON, or the code over the ciphertext does not fit
        problem = _WRONG
    except (TypeError, KeyError, AttributeError, NotImplementedError):
        problem = "it is no Ethereum keystore of version 3"
    if problem:
        raise OperatorError(f"The Hyperliquid keystore is not usable: {problem}. Check file and passphrase.")
    key = LocalEvmKey.from_hex(secret.hex())
    if named and f"0x{named}" != key.address:
        raise OperatorError(f"The Hyperliquid keystore says 0x{named}, but holds the key of {key.address}.")
    return key


def encrypt_solana(secret_text: str, passphrase: str, *, work: int = SCRYPT_N) -> str:
    """Return the encrypted file of a Solana secret key, given in either usual form."""
    address = str(LocalSolanaKey.from_text(secret_text).pubkey)
    cleaned = secret_text.strip()
    if cleaned.startswith("["):
        seed = Keypair.from_bytes(bytes(json.loads(cleaned))).secret()
    else:
        seed = Keypair.from_base58_string(cleaned).secret()
    salt, nonce = secrets.token_bytes(32), os.urandom(12)
    kdf = {"name": "scrypt", "n": work, "r": 8, "p": 1, "salt": _b64(salt)}
    sealed = AESGCM(_derive(passphrase=_strong(passphrase), kdf=kdf)).encrypt(
        nonce, bytes(seed), _bound_to(address)
    )
    content = {
        "kind": _KIND,
        "version": 1,
        "address": address,
        "kdf": kdf,
        "cipher": {"name": "aes-256-gcm", "nonce": _b64(nonce)},
        "ciphertext": _b64(sealed),
    }
    return json.dumps(content, indent=2)


def open_solana(text: str, passphrase: str) -> LocalSolanaKey:
    """Return the key in an encrypted Solana file. OperatorError, without passphrase or key, when it does not open."""
    problem, seed, address = "", b"", ""
    try:
        content = json.loads(text)
        if (content["kind"], content["version"], content["cipher"]["name"]) != (_KIND, 1, "aes-256-gcm"):
            problem = f"it is not of kind {_KIND} version 1"
        else:
            address = str(content["address"])
            cipher = AESGCM(_derive(passphrase=passphrase, kdf=content["kdf"]))
            nonce = base64.b64decode(content["cipher"]["nonce"])
            seed = cipher.decrypt(nonce, base64.b64decode(content["ciphertext"]), _bound_to(address))
    except InvalidTag:
        problem = _WRONG
    except (ValueError, TypeError, KeyError, AttributeError):
        problem = f"it is no file of kind {_KIND}"
    if not problem and len(seed) != _SEED_BYTES:
        problem = "it holds no seed of 32 bytes"
    if problem:
        raise OperatorError(f"The Solana keystore is not usable: {problem}. Check file and passphrase.")
    key = LocalSolanaKey(Keypair.from_seed(seed))
    if str(key.pubkey) != address:
        raise OperatorError(f"The Solana keystore says {address}, but holds the key of {key.pubkey}.")
    return key


def _derive(*, passphrase: str, kdf: dict[str, Any]) -> bytes:
    """Bounds first: a file must neither be too cheap to guess nor able to eat the memory of the host."""
    n, r, p = (int(kdf[name]) for name in ("n", "r", "p"))
    if kdf["name"] != "scrypt" or not _LEAST_N <= n <= _MOST_N or n & (n - 1) or (r, p) != (8, 1):
        raise ValueError("scrypt parameters out of bounds")
    scrypt = Scrypt(salt=base64.b64decode(kdf["salt"]), length=32, n=n, r=r, p=p)
    return scrypt.derive(passphrase.encode())


def _bound_to(address: str) -> bytes:
    return f"{_KIND}:1:{address}".encode()


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _strong(passphrase: str) -> str:
    if len(passphrase) < LEAST_PASSPHRASE:
        raise OperatorError(
            f"the passphrase has {len(passphrase)} characters; a key file needs at least {LEAST_PASSPHRASE}"
        )
    return passphrase
