# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of shared/."""

import pytest
from _support.made_up import make_avatar
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import PersonEntry, PhotoInfo, SceneInfo


@pytest.fixture
def avatar() -> Avatar:
    return make_avatar()


@pytest.fixture
def scene(tmp_path) -> SceneFolder:
    """A fresh scene with three queued people and a 16 x 12 photo."""
    info = SceneInfo(photo=PhotoInfo("", 16, 12, "party.jpg"), people=(PersonEntry(),) * 3)
    return SceneFolder.create(tmp_path / "out", b"photo bytes", ".jpg", info)


@pytest.fixture
def fail_writing(monkeypatch):
    """A function that makes the next rename fail as on a full disk."""

    def arm(number: int) -> None:
        def full(*_args):
            raise OSError(number, "No space left on device")

        monkeypatch.setattr("crowdgaussian_shared.formats.atomic.os.fsync", full)

    return arm
