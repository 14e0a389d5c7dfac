# SPDX-License-Identifier: Apache-2.0
"""The scene that is exported."""

import pytest
from _support.export_scene import make_scene


@pytest.fixture
def scene(tmp_path):
    """A scene folder of two people; of the second one it is known what they wear."""
    return make_scene(tmp_path / "scene")
