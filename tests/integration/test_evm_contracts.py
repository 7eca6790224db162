"""The twins' contracts: what is committed is what the compiler makes of the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from twins.evm.compile import TWINS, compiled, sources

pytest.importorskip("vyper", reason="no vyper: the contracts are not compiled again")


@pytest.mark.parametrize("source", sources(), ids=lambda one: one.relative_to(TWINS).as_posix())
def test_the_artefact_is_what_the_compiler_makes(source: Path) -> None:
    assert source.with_suffix(".json").read_text() == compiled(source)
