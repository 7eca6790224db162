"""The program of a later version, whose newest migration a test writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from state import engine, upgrade
from state.engine import head_revision

NEXT = "9999"


@contextmanager
def next_program(folder: Path, body: str) -> Iterator[None]:
    """Inside, this process is a later version of the program, whose newest migration does `body`."""
    migrations = folder / "migrations"
    shutil.rmtree(migrations, ignore_errors=True)
    shutil.copytree(upgrade.MIGRATIONS, migrations)
    (migrations / "versions" / "v9999_next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f"revision, down_revision = {NEXT!r}, {head_revision()!r}\n\n\n"
        f"def upgrade() -> None:\n    postgres = op.get_bind().dialect.name == 'postgresql'\n{body}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrade, "MIGRATIONS", migrations)
        patch.setattr(engine, "SCHEMA", NEXT)
        yield
