"""The admin key: hashed with a salt, compared in constant time, and never a key that could be guessed."""

from __future__ import annotations

import hmac

import pytest

from evenkeel.errors import OperatorError
from evenkeel.settings.host import Admin
from tasks.admin import is_key, make_hash

KEY = "correct horse battery"


def test_a_hash_knows_its_key_and_no_other() -> None:
    made = make_hash(KEY)
    assert Admin(key_hash=made).key_hash == made and KEY not in made
    assert is_key(KEY, made)
    assert not is_key(KEY + " ", made) and not is_key("", made)
    assert make_hash(KEY) != made, "each hash has a salt of its own"


def test_the_comparison_is_the_one_that_takes_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = hmac.compare_digest

    def counted(left: bytes, right: bytes) -> bool:
        asked.append(len(left))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    made = make_hash(KEY)
    assert is_key(KEY, made) and not is_key("another key of ours", made)
    assert asked == [32, 32]


def test_a_short_key_and_a_hash_of_another_kind_are_refused() -> None:
    with pytest.raises(OperatorError, match="at least 12"):
        make_hash("elevenchars")
    made = make_hash(KEY)
    for wrong in (
        made.replace("$8$1$", "$8$2$"),
        made.replace("$16384$", "$999999999$"),
        made.rpartition("$")[0] + "$abc",
    ):
        with pytest.raises(OperatorError, match="admin hash"):
            is_key(KEY, wrong)
    with pytest.raises(ValueError, match="admin hash"):
        Admin(key_hash="plain")
