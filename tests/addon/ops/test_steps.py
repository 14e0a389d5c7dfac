# SPDX-License-Identifier: Apache-2.0
"""Operators that step: progress, Esc, undo in the middle, errors, reasons for grey buttons."""

from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import pytest
from crowdgaussian_addon.ops import base as steps
from crowdgaussian_addon.ops import state
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_shared.errors import CrowdGaussianError


class Work(steps.SteppedOperator):
    """A stepped operator without Blender around it."""

    bl_label = "Work"

    def __init__(self, fail_at=None):
        self.said, self.log, self.fail_at = [], [], fail_at

    def report(self, kind, text):
        self.said.append((kind.copy().pop(), text))

    def steps(self, context):
        finished = False
        try:
            for k in range(5):
                if k == self.fail_at:
                    raise CrowdGaussianError("It cannot be done; try another.")
                self.log.append(k)
                yield k / 5, f"part {k}"
            finished = True
        finally:
            if not finished:
                self.log.append("put back")
        return "done"


class Manager:
    """Stands in for the window manager."""

    def __init__(self):
        self.progress = []

    def event_timer_add(self, *_, **__):
        return "timer"

    def event_timer_remove(self, timer):
        assert timer == "timer"

    def progress_begin(self, *_):
        self.progress.append("begin")

    def progress_update(self, value):
        self.progress.append(value)

    def progress_end(self):
        self.progress.append("end")

    def modal_handler_add(self, _operator):
        pass


@pytest.fixture
def window(monkeypatch):
    """A context with a window; every look at the clock lets one step pass."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 2))
    monkeypatch.setattr(steps, "_GRACE", 0.75)
    monkeypatch.setattr(steps, "_SLICE", 0.75)
    monkeypatch.setattr(steps, "bpy", SimpleNamespace(app=SimpleNamespace(background=False)))
    lines = []
    workspace = SimpleNamespace(status_text_set=lines.append)
    return SimpleNamespace(
        window=object(), window_manager=Manager(), workspace=workspace, lines=lines
    )


def event(kind, value="NOTHING"):
    return SimpleNamespace(type=kind, value=value)


def test_from_scripts_all_steps_run_at_once():
    work = Work()
    assert work.execute(None) == {"FINISHED"}
    assert work.log == [0, 1, 2, 3, 4] and work.said == [("INFO", "done")]
    failing = Work(fail_at=2)
    assert failing.execute(None) == {"CANCELLED"}
    assert failing.said == [("ERROR", "It cannot be done; try another.")]
    assert failing.log[-1] == "put back"


def test_a_button_steps_with_progress_until_it_is_done(window):
    work = Work()
    assert work.invoke(window, None) == {"RUNNING_MODAL"}
    assert work.modal(window, event("MOUSEMOVE")) == {"PASS_THROUGH"}
    assert work.modal(window, event("Z")) == {"RUNNING_MODAL"}, "keys must not reach the scene"
    result = {"RUNNING_MODAL"}
    while result == {"RUNNING_MODAL"}:
        result = work.modal(window, event("TIMER"))
    assert result == {"FINISHED"} and work.said == [("INFO", "done")]
    assert window.window_manager.progress[-1] == "end"
    assert any(line and "part 1" in line and "Esc" in line for line in window.lines)
    assert window.lines[-1] is None


def test_what_is_quick_leaves_the_status_bar_free(window, monkeypatch):
    monkeypatch.setattr(steps, "_GRACE", 1e6)
    work = Work()
    assert work.invoke(window, None) == {"FINISHED"}
    assert window.lines[-1] is None


def test_esc_stops_and_puts_back(window):
    work = Work()
    work.invoke(window, None)
    assert work.modal(window, event("ESC", "PRESS")) == {"CANCELLED"}
    assert work.log[-1] == "put back" and work.said == [("WARNING", steps.STOPPED)]


def test_undo_in_the_middle_ends_it_with_one_message(window):
    work = Work()
    work.invoke(window, None)
    steps._count_replacement()
    assert work.modal(window, event("TIMER")) == {"CANCELLED"}
    assert work.said == [("ERROR", steps.OVERTAKEN)]


def test_undo_redo_and_loading_are_noticed(tmp_path):
    steps.watch_undo()
    before = steps._replaced
    bpy.ops.wm.read_factory_settings(use_empty=True)
    assert steps._replaced > before
    steps.unwatch_undo()


def test_buttons_are_grey_for_a_reason(empty_blender, scene_folder):
    state.close_session()
    crowdgaussian_addon.register()
    ops = bpy.ops.crowdgaussian
    try:
        names = (
            "rest_pose",
            "photo_pose",
            "add_ik",
            "remove_ik",
            "snap_to_ground",
            "spread",
            "face",
            "resolve_overlaps",
            "scatter",
            "match_photo",
            "body_shadow",
        )
        for name in names:
            operator = getattr(ops, name)
            assert not operator.poll(), name
            with pytest.raises(RuntimeError, match="There are no people in this scene"):
                operator()
        import_scene(scene_folder)
        with pytest.raises(RuntimeError, match="Nobody has IK controls; add them first"):
            ops.remove_ik()
        with pytest.raises(RuntimeError, match="Select a scattered copy first"):
            ops.make_real()
        for name in set(names) - {"remove_ik"}:
            assert getattr(ops, name).poll(), name
            kind = getattr(ops, name).get_rna_type()
            assert kind.description and all(
                p.description for p in kind.properties if p.identifier != "rna_type"
            ), name
    finally:
        crowdgaussian_addon.unregister()
