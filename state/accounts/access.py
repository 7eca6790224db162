"""`store.access`: tokens of the service of managed accounts, and what was answered under which idempotency key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update

from evenkeel.errors import Bug, OperatorError
from state.accounts.access_models import ApiToken, ApiTokenTable, KeptAnswer, KeptAnswerTable
from state.columns import plain_json
from state.database import Database, fetch_one, insert_new, log_move, table_of, values_of

TOKENS, ANSWERS = table_of(ApiTokenTable), table_of(KeptAnswerTable)


class AccessStore(Database):
    """What the service keeps beside the trades. No token is stored, only what it hashes to."""

    def add_token(self, row: ApiToken) -> ApiToken:
        """Store a token. Raises OperatorError where one of that id is stored."""
        with self._write() as db:
            if not insert_new(db, TOKENS, values_of(row)):
                raise OperatorError(f"token {row.token_id} is stored already: make another one")
            log_move(
                db, "token", row.token_id, "", "made", note=row.name, at_ms=self.clock.now_ms(), fence=None
            )
        return row

    def token_of(self, token_hash: str) -> ApiToken | None:
        """The token with this hash, whether or not it is still good."""
        with self._read() as db:
            return fetch_one(db, ApiToken, select(TOKENS).where(TOKENS.c.token_hash == token_hash))

    def tokens(self) -> list[ApiToken]:
        """All tokens, oldest first."""
        return self._rows(ApiToken, select(TOKENS).order_by(TOKENS.c.created_ms, TOKENS.c.token_id))

    def revoke_token(self, token_id: str) -> ApiToken:
        """End a token; one that has ended stays so. Raises OperatorError where there is none."""
        now = self.clock.now_ms()
        with self._write() as db:
            here = select(TOKENS).where(TOKENS.c.token_id == token_id).with_for_update()
            found = fetch_one(db, ApiToken, here)
            if found is None:
                raise OperatorError(f"there is no token {token_id!r}: `evenkeel accounts token list`")
            if found.revoked_ms is not None:
                return found
            db.execute(update(TOKENS).where(TOKENS.c.token_id == token_id).values(revoked_ms=now))
            log_move(db, "token", token_id, "made", "revoked", note="", at_ms=now, fence=None)
        return found.model_copy(update={"revoked_ms": now})

    # --- idempotency keys ---

    def answer_of(self, token_id: str, key: str) -> KeptAnswer | None:
        """What was asked under a key, None for a new one."""
        mine = (ANSWERS.c.token_id == token_id) & (ANSWERS.c.key == key)
        with self._read() as db:
            return fetch_one(db, KeptAnswer, select(ANSWERS).where(mine))

    def begin_request(
        self, token_id: str, key: str, path: str, digest: str, work: dict[str, Any]
    ) -> KeptAnswer:
        """Store what will be done, or return what stands under the key."""
        row = KeptAnswer(
            token_id=token_id,
            key=key,
            path=path,
            digest=digest,
            work=plain_json(work),
            created_ms=self.clock.now_ms(),
        )
        with self._write() as db:
            insert_new(db, ANSWERS, values_of(row))
            mine = (ANSWERS.c.token_id == token_id) & (ANSWERS.c.key == key)
            found = fetch_one(db, KeptAnswer, select(ANSWERS).where(mine))
        if found is None:
            raise Bug(f"idempotency key {key!r} was stored and is not there")
        return found

    def finish_request(self, token_id: str, key: str, status: int, answer: dict[str, Any]) -> None:
        """Store the answer, once: one that is there stays."""
        mine = (ANSWERS.c.token_id == token_id) & (ANSWERS.c.key == key) & ANSWERS.c.status.is_(None)
        values = {"status": status, "answer": plain_json(answer), "answered_ms": self.clock.now_ms()}
        with self._write() as db:
            db.execute(update(ANSWERS).where(mine).values(**values))

    def forget_answers(self, before_ms: int) -> int:
        """Drop keys that were answered before then; return how many. What has no answer yet stays."""
        old = ANSWERS.c.status.is_not(None) & (ANSWERS.c.answered_ms < before_ms)
        with self._write() as db:
            return db.execute(delete(ANSWERS).where(old)).rowcount
