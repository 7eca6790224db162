"""The tables of the service of managed accounts: who may ask for what, and what was answered to whom."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from state.models import Row, json_object, ms, word


class ApiToken(Row):
    """Who may call the service. What is kept of the token is its hash. `account`: whose trades it is for, "" for everybody's.

    `scopes` are names that the service gives a meaning.
    """

    token_id: str = word(primary_key=True)
    name: str = word()
    token_hash: str = word(unique=True)
    account: str = word()
    scopes: list[str] = json_object(default_factory=list)
    created_ms: int = ms()
    expires_ms: int = ms()
    revoked_ms: int | None = ms(default=None)


class ApiTokenTable(ApiToken, table=True):
    __tablename__ = "api_tokens"


class KeptAnswer(Row):
    """What was asked under an idempotency key. `digest` is of the body; `work` says what is done for it, written before it is
    done; `status` and `answer` are None until it is done.
    """

    token_id: str = word(primary_key=True, foreign_key="api_tokens.token_id")
    key: str = word(primary_key=True)
    path: str = word()
    digest: str = word()
    work: dict[str, Any] = json_object(default_factory=dict)
    status: int | None = Field(default=None)
    answer: dict[str, Any] | None = json_object(default=None)
    created_ms: int = ms(index=True)
    answered_ms: int | None = ms(default=None)


class KeptAnswerTable(KeptAnswer, table=True):
    __tablename__ = "idempotency_keys"
