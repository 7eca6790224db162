"""Reads JSON-RPC parameters and refuses them in the node's words."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from twins.solana import b58, wire
from twins.solana.blocks import COMMITMENTS
from twins.solana.errors import INVALID_PARAMS, RpcError


def invalid(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


class Params:
    """Positional parameters of one call."""

    def __init__(self, values: Any) -> None:
        if values is None:
            values = []
        if not isinstance(values, list):
            raise invalid("Invalid params: expected an array of parameters")
        self._values = values

    def at_most(self, count: int) -> None:
        if len(self._values) > count:
            raise invalid(f"Invalid parameters: `params` should have at most {count} argument(s)")

    def required(self, index: int) -> Any:
        if index >= len(self._values):
            raise invalid("`params` should have at least 1 argument(s)")
        return self._values[index]

    def text(self, index: int) -> str:
        value = self.required(index)
        if not isinstance(value, str):
            raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected a string.")
        return value

    def integer(self, index: int) -> int:
        value = self.required(index)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected u64.")
        return value

    def optional(self, index: int) -> Any:
        return self._values[index] if index < len(self._values) else None

    def config(self, index: int) -> dict[str, Any]:
        value = self.optional(index)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected a configuration object.")
        return value

    def pubkey(self, index: int) -> Pubkey:
        return pubkey(self.text(index))


def pubkey(text: Any) -> Pubkey:
    try:
        return Pubkey.from_string(text)
    except (ValueError, TypeError) as error:
        raise invalid("Invalid param: Invalid" if isinstance(text, str) else "Invalid params") from error


def pubkeys(values: Any, limit: int) -> list[Pubkey]:
    if not isinstance(values, list):
        raise invalid(f"Invalid params: invalid type: {_kind(values)}, expected a sequence.")
    if len(values) > limit:
        raise invalid(f"Too many inputs provided; max {limit}")
    return [pubkey(value) for value in values]


def signature(text: Any) -> Signature:
    try:
        return Signature.from_string(text)
    except (ValueError, TypeError) as error:
        raise invalid("Invalid param: WrongSize" if isinstance(text, str) else "Invalid params") from error


def blockhash(text: str) -> Hash:
    try:
        return Hash.from_string(text)
    except ValueError as error:
        raise invalid("Invalid param: WrongSize") from error


def commitment(config: dict[str, Any], key: str = "commitment", default: str = "finalized") -> str:
    value = config.get(key)
    if value is None:
        return default
    if value not in COMMITMENTS:
        names = ", ".join(f"`{name}`" for name in COMMITMENTS)
        raise invalid(f"Invalid params: unknown variant `{value}`, expected one of {names}.")
    return str(value)


def at_least_confirmed(config: dict[str, Any]) -> str:
    value = commitment(config)
    if value == "processed":
        raise invalid("Method does not support commitment below `confirmed`")
    return value


def transaction_bytes(encoded: str, encoding: str) -> bytes:
    """Return the raw transaction; refuses other encodings, too many characters and broken text."""
    if encoding == "base64":
        if len(encoded) > wire.MAX_BASE64_CHARS:
            raise wire.too_large(len(encoded), "base64", wire.MAX_BASE64_CHARS)
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise invalid(f"invalid base64 encoding: {error}") from error
    if encoding == "base58":
        if len(encoded) > wire.MAX_BASE58_CHARS:
            raise wire.too_large(len(encoded), "base58", wire.MAX_BASE58_CHARS)
        try:
            return b58.decode(encoded)
        except ValueError as error:
            raise invalid(f"invalid base58 encoding: {error}") from error
    raise invalid(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, str):
        return f'string "{value}"'
    return {dict: "map", list: "sequence", float: "floating point"}.get(type(value), "null")
