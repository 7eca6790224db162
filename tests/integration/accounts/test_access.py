"""Tokens and idempotency keys in the ledger, on both databases: of a token its hash alone, of a key one answer."""

from __future__ import annotations

import pytest

from app.accounts.service.tokens import DAY_MS, NotKnown, caller_of, hash_of, new_token
from evenkeel.errors import OperatorError
from state.store import Store
from tests.databases import database_fixtures

databases, url, store = database_fixtures()


def test_a_token_is_known_by_its_hash_until_it_is_revoked(store: Store) -> None:
    row, token = new_token(store.access, "desk", "0x" + "1" * 40, ("trade", "read", "read"), DAY_MS)
    assert row.scopes == ["read", "trade"] and token not in str(store.access.tokens())
    who = caller_of(store.access, f"bearer {token}")
    assert (who.token_id, who.account, who.scopes) == (row.token_id, row.account, {"read", "trade"})
    assert store.access.token_of(hash_of(token)) == row
    for header in (None, "", token, f"Basic {token}", "Bearer ", f"Bearer {token}x"):
        with pytest.raises(NotKnown):
            caller_of(store.access, header)
    with pytest.raises(OperatorError, match="stored already"):
        store.access.add_token(row)
    ended = store.access.revoke_token(row.token_id)
    assert ended.revoked_ms is not None and store.access.revoke_token(row.token_id) == ended
    with pytest.raises(NotKnown, match="revoked"):
        caller_of(store.access, f"Bearer {token}")
    with pytest.raises(OperatorError, match="no token"):
        store.access.revoke_token("nobody")
    for scopes, says in ((("all",), "no scope"), ((), "good for nothing")):
        with pytest.raises(OperatorError, match=says):
            new_token(store.access, "odd", "", scopes, DAY_MS)


def test_a_key_has_one_work_and_one_answer_and_is_dropped_once_it_is_old(store: Store) -> None:
    access = store.access
    first, _ = new_token(access, "one", "", ("trade",), DAY_MS)
    second, _ = new_token(access, "two", "", ("trade",), DAY_MS)
    assert access.answer_of(first.token_id, "k") is None
    begun = access.begin_request(first.token_id, "k", "/open-position", "d1", {"trade": "t1"})
    assert begun.status is None and begun.answer is None
    assert access.begin_request(first.token_id, "k", "/x", "d2", {"trade": "t2"}) == begun
    assert access.answer_of(second.token_id, "k") is None, "a key is the token's own"
    access.begin_request(first.token_id, "other", "/open-position", "d1", {})
    access.finish_request(first.token_id, "k", 200, {"success": True})
    access.finish_request(first.token_id, "k", 422, {"success": False})
    kept = access.answer_of(first.token_id, "k")
    assert kept is not None and (kept.status, kept.answer) == (200, {"success": True})
    assert access.forget_answers(kept.answered_ms or 0) == 0
    assert access.forget_answers((kept.answered_ms or 0) + 1) == 1
    assert access.answer_of(first.token_id, "k") is None
    assert access.answer_of(first.token_id, "other") is not None, "what has no answer stays"
