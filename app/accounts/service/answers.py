"""Answers of the service: JSON, a refusal in one line with its status, and a body that is read without a float."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from evenkeel.errors import (
    Bug,
    EvenkeelError,
    LedgerUnavailable,
    LostRace,
    NotUnderstood,
    Retryable,
    VenueRefused,
)

M = TypeVar("M", bound="Body")
SECRET_NAMES = frozenset(
    {"privatekey", "fromprivatekey", "secretkey", "mnemonic", "seed", "seedphrase", "passphrase"}
)
MOST_NAME = 40
"""Characters of a field's name that are repeated to who sent it."""


@dataclass(frozen=True)
class Answer:
    """A status and what is answered with it. 202: it is under way, and the same request again says what became of it."""

    status: int
    body: dict[str, Any]


class Refused(Exception):
    """Why nothing was done, in one line, and the HTTP status for it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = " ".join(text.split())


class Body(BaseModel):
    """What a request may say. Names are written as in JSON; one that is not known is refused."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth(cls, value: object) -> object:
        """`true` would be read as the number 1, and no field is one of truth."""
        if isinstance(value, bool):
            raise PydanticCustomError("no_truth", "true and false are not taken here")
        return value


def refusal_of(fault: EvenkeelError) -> Refused:
    """The status and the words for an error of ours."""
    if isinstance(fault, VenueRefused):
        return Refused(422, fault.reason)
    if isinstance(fault, LedgerUnavailable):
        return Refused(503, "the ledger cannot be used now: ask again with the same idempotency key")
    if isinstance(fault, Retryable | NotUnderstood):
        return Refused(503, f"{fault}: ask again with the same idempotency key")
    if isinstance(fault, Bug):
        return Refused(500, "a bug of ours: the log of `evenkeel accounts serve` says where")
    return Refused(409, str(fault) if isinstance(fault, LostRace) else str(fault).split("\n")[0])


def number(value: Decimal | None) -> float | None:
    """A figure as JSON's number: programs that ask expect one. USDC of less than a billion come through to the last digit."""
    return None if value is None else float(value)


async def body_of(request: Request, model: type[M]) -> tuple[M, str]:
    """Return the body and what it hashes to. Raises Refused: no JSON, a secret key, a field that is missing or wrong. What was
    sent is repeated nowhere.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the body must be JSON: send `Content-Type: application/json`")
    raw = await request.body()
    refuse_secret_names(request.query_params.keys())
    try:
        content = json.loads(raw, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    refuse_secret_names(_names_in(content))
    if not isinstance(content, dict):
        raise Refused(400, "the body is not a JSON object")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return _read(model, content), digest


def _read(model: type[M], content: Any) -> M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(one) for one in first["loc"]) or "the body"
    where = where if len(where) <= MOST_NAME and where.isidentifier() else "a field"
    raise Refused(422, f"{where}: {first['msg']}")


def refuse_secret_names(names: Iterable[str]) -> None:
    """Raise Refused where one is that of a secret key."""
    for name in names:
        if name.lower().replace("_", "").replace("-", "") in SECRET_NAMES:
            raise Refused(
                400,
                "a secret key was sent: this service takes none and has kept nothing of it, but make a new key "
                "and move what the old one holds",
            )


def _names_in(content: Any) -> list[str]:
    """The names of all fields, however deep."""
    found, waiting = [], [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            found += list(one)
            waiting += list(one.values())
        elif isinstance(one, list):
            waiting += one
    return found


def _no_number(text: str) -> None:
    raise ValueError(text)
