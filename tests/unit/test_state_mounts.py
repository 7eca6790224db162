"""An SQLite ledger that two hosts could open is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.errors import OperatorError
from state import engine
from state.engine import network_mount
from state.store import Store
from tests.databases import ManualClock

LOCAL = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n30 22 0:27 / /dev/shm rw - tmpfs tmpfs rw\n"
NFS = "41 22 0:44 / /srv/shared rw,relatime shared:9 - nfs4 10.0.0.5:/export rw,vers=4.2\n"
SSHFS = "42 22 0:45 / /media/my\\040files rw - fuse.sshfs op@host:/ rw\n"
LOCAL_BELOW = "43 41 8:2 / /srv/shared/disk rw - xfs /dev/sdb1 rw\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/shared/evenkeel.db", "nfs4"),
        ("/srv/shared/disk/evenkeel.db", None),
        ("/srv/shared-too/evenkeel.db", None),
        ("/media/my files/evenkeel.db", "fuse.sshfs"),
        ("/var/lib/evenkeel/evenkeel.db", None),
        ("/dev/shm/evenkeel.db", None),
    ],
)
def test_the_deepest_mount_says_what_a_path_lies_on(path: str, kind: str | None) -> None:
    assert network_mount(Path(path), LOCAL + NFS + SSHFS + LOCAL_BELOW) == kind


@pytest.mark.parametrize("text", ["", "nonsense\n", "22 1 8:1 / /\n", "a b c d / e - \n"])
def test_lines_that_are_not_understood_say_nothing(text: str) -> None:
    assert network_mount(Path("/x/evenkeel.db"), text) is None


def test_a_ledger_on_a_network_file_system_is_refused_in_one_line_and_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"{LOCAL}50 22 0:50 / {tmp_path} rw - nfs4 10.0.0.5:/export rw\n")
    ledger = tmp_path / "evenkeel.db"
    url = f"sqlite:///{ledger}"
    Store.upgrade(url)
    monkeypatch.setattr(engine, "MOUNTS", mounts)
    before = ledger.read_bytes()
    for opening in (lambda: Store.open(url, ManualClock()), lambda: Store.upgrade(url)):
        with pytest.raises(OperatorError, match=r"lies on a network file system \(nfs4\)") as refused:
            opening()
        assert "\n" not in str(refused.value) and "PostgreSQL" in str(refused.value)
    assert ledger.read_bytes() == before
