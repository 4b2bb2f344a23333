"""The doctor: what it says of a disk."""

import collections

import pytest

from experiments.commands import doctor
from experiments.commands.doctor import room

Usage = collections.namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "fit"), [(2_000_000, True), (1_999_999, False), (0, False)])
def test_a_disk_must_hold_two_checkpoints(tmp_path, monkeypatch, free, fit):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(10**9, 0, free))
    found = room(tmp_path / "not" / "there" / "yet", 1_000_000)
    assert found.fit is fit
    assert found.says.endswith(f" free in {tmp_path}, and two checkpoints take 2.0 MB")
    assert not (tmp_path / "not").exists()
