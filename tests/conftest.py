"""What holds for every test: no property test fails for how fast the machine is."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("evenkeel", deadline=None)
settings.load_profile("evenkeel")
