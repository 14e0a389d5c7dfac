# SPDX-License-Identifier: Apache-2.0
"""Operators under an override: the add-on's threads rest while they run."""

from contextlib import contextmanager, nullcontext

import bpy
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from crowdgaussian_addon.jobs.session import Session
from crowdgaussian_addon.scene.context import aside, override, rest_with
from crowdgaussian_addon.scene.importer import import_scene


@pytest.fixture
def rests():
    """How often rest was asked for, and how often it is over."""
    told = []

    @contextmanager
    def rest():
        told.append("begins")
        yield
        told.append("ends")

    rest_with(rest)
    yield told
    rest_with(nullcontext)


def test_an_import_asks_for_rest_and_gives_it_back(empty_blender, tmp_path, rests):
    import_scene(write_scene(tmp_path, [make_avatar(300)], make_camera()))
    assert rests and rests == ["begins", "ends"] * (len(rests) // 2)


def test_overrides_in_one_another_ask_once(empty_blender, rests):
    with override(scene=empty_blender), aside() as scene:
        assert bpy.context.scene == scene and rests == ["begins"]
    assert rests == ["begins", "ends"]


def test_a_failure_ends_the_rest(empty_blender, rests):
    with pytest.raises(ZeroDivisionError), override(scene=empty_blender):
        print(1 / 0)
    with override(scene=empty_blender):
        assert len(rests) == 2 and rests[-1] == "begins"


def test_a_session_holds_its_client(tmp_path):
    held = []

    class Client:
        @contextmanager
        def held(self):
            held.append(True)
            yield
            held.append(False)

    session = Session(tmp_path, "test")
    with session.threads_at_rest():
        assert held == []
    session._client = Client()
    with session.threads_at_rest():
        assert held == [True]
    assert held == [True, False]
