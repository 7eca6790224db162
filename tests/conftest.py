"""What holds for every test: no property test fails for how fast the machine is, and what tests share is given back."""

from __future__ import annotations

from hypothesis import settings

from tests.at_end import run_now

settings.register_profile("evenkeel", deadline=None)
settings.load_profile("evenkeel")


def pytest_sessionfinish() -> None:
    run_now()
