# SPDX-License-Identifier: GPL-3.0-or-later
"""What all operators of the crowd share: one-sentence errors, reasons for grey buttons, progress.

SimpleOperator does its work at once. SteppedOperator does it in steps: at once from scripts and
from the redo panel; from a button it lets the interface live, shows how far it is, and stops at
Esc. Operators compute first and change the scene last, or put back what they changed in a
`finally`; an undo replaces all objects, so steps that outlive one are dropped, not continued.
"""

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import bpy
from bpy.app.handlers import persistent
from crowdgaussian_shared.errors import CrowdGaussianError

from ..scene.people import NOBODY, has_people

if TYPE_CHECKING:  # the mixins below become part of Blender's operators, and use what these have
    from bpy.stub_internal.rna_enums import OperatorReturnItems

    OperatorPart = bpy.types.Operator
    Result = set[OperatorReturnItems]
else:
    OperatorPart, Result = object, set[str]

Steps = Generator[tuple[float, str], None, str | None]

STOPPED = "Stopped; nothing was changed."
OVERTAKEN = "The scene was replaced by an undo or another file in the middle; start this again."
_SLICE = 0.05  # seconds of work between two looks at the keyboard
_GRACE = 0.3  # seconds; what is done by then never shows progress
_TICK = 0.01  # seconds
_LOOKING_AROUND = {"MIDDLEMOUSE", "WHEELUPMOUSE", "WHEELDOWNMOUSE", "MOUSEMOVE", "TRACKPADPAN",
                   "TRACKPADZOOM", "WINDOW_DEACTIVATE"}  # fmt: skip

_replaced = 0  # how often the scene's objects were replaced since the start


@persistent
def _count_replacement(*_: object) -> None:
    global _replaced
    _replaced += 1


def _handlers() -> tuple[list, ...]:
    handlers = bpy.app.handlers
    return handlers.undo_post, handlers.redo_post, handlers.load_post


def watch_undo() -> None:
    """Starts to notice undo, redo and file loading."""
    for handlers in _handlers():
        handlers.append(_count_replacement)


def unwatch_undo() -> None:
    """Undoes watch_undo()."""
    for handlers in _handlers():
        if _count_replacement in handlers:
            handlers.remove(_count_replacement)


def select_only(context: bpy.types.Context, objects: list[bpy.types.Object]) -> None:
    """Selects these and nothing else; the first is active."""
    for obj in context.selected_objects:
        obj.select_set(False)
    for obj in objects:
        obj.select_set(True)
    context.view_layer.objects.active = objects[0]


def count_people(number: int) -> str:
    """How many, in words."""
    return "1 person" if number == 1 else f"{number} people"


class CrowdOperator(OperatorPart):
    """The part that all operators share; mixed into bpy.types.Operator."""

    bl_options = {"REGISTER", "UNDO"}
    modes = {"OBJECT", "POSE"}  # where it works

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Grey with a reason."""
        reason = cls.unavailable(context)
        if not reason and context.mode not in cls.modes:
            wanted = "Object Mode" if "OBJECT" in cls.modes else "Pose Mode"
            reason = f"Change to {wanted} first."
        if reason:
            cls.poll_message_set(reason)
        return not reason

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Why the button is grey, in a sentence; empty when it is not. Must be quick."""
        return "" if has_people(context.scene) else NOBODY

    def _fail(self, sentence: str) -> Result:
        self.report({"ERROR"}, sentence)
        return {"CANCELLED"}

    def _succeed(self, sentence: str | None) -> Result:
        if sentence:
            self.report({"INFO"}, sentence)
        return {"FINISHED"}


class SimpleOperator(CrowdOperator):
    """An operator that is done at once: implement run()."""

    def run(self, context: bpy.types.Context) -> str | None:
        """Does the work -> what to tell the user, if anything; raises CrowdGaussianError."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> Result:
        """Runs; errors are reported."""
        try:
            return self._succeed(self.run(context))
        except CrowdGaussianError as error:
            return self._fail(str(error))


class SteppedOperator(CrowdOperator):
    """An operator that may take more than a second: implement steps()."""

    def steps(self, context: bpy.types.Context) -> Steps:
        """Yields (fraction done, what comes next), returns what to tell the user, if anything.

        Raises CrowdGaussianError. Closed early (GeneratorExit at a yield) it must leave the scene
        as it was.
        """
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> Result:
        """Runs all steps at once."""
        steps = self.steps(context)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            return self._succeed(end.value)
        except CrowdGaussianError as error:
            return self._fail(str(error))
        finally:
            steps.close()

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """Runs what is quick at once and goes on in the background otherwise."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        self._steps, self._replaced = self.steps(context), _replaced
        done = self._advance(context, _GRACE)
        if done is not None:
            self._clean_up(context)
            return done
        manager = context.window_manager
        self._timer = manager.event_timer_add(_TICK, window=context.window)
        manager.progress_begin(0, 100)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> Result:
        """Goes on at every tick; Esc stops."""
        if event.type == "ESC" and event.value == "PRESS":
            self._close()
            self._clean_up(context)
            self.report({"WARNING"}, STOPPED)
            return {"CANCELLED"}
        if event.type in _LOOKING_AROUND:
            return {"PASS_THROUGH"}
        if event.type != "TIMER":
            return {"RUNNING_MODAL"}  # keys and clicks would change what the steps work on
        done = self._advance(context, _SLICE)
        if done is None:
            return {"RUNNING_MODAL"}
        self._clean_up(context)
        return done

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender closes the window or loads a file."""
        self._close()
        self._clean_up(context)

    def _advance(self, context: bpy.types.Context, seconds: float) -> Result | None:
        """Steps until the time is over -> the operator's result, or None to go on."""
        if self._replaced != _replaced:
            self._close()
            return self._fail(OVERTAKEN)
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                fraction, text = next(self._steps)
                self._show(context, fraction, text)
        except StopIteration as end:
            return self._succeed(end.value)
        except CrowdGaussianError as error:
            return self._fail(str(error))
        except ReferenceError:  # an object was removed by other means than undo
            return self._fail(OVERTAKEN)
        return None

    def _show(self, context: bpy.types.Context, fraction: float, text: str) -> None:
        context.window_manager.progress_update(100 * fraction)
        if context.workspace is not None:
            line = f"{self.bl_label}: {text}  {100 * fraction:.0f} %   (Esc stops)"
            context.workspace.status_text_set(line)

    def _close(self) -> None:
        """Lets the steps put back what they changed; after an undo there is nothing to put back."""
        try:
            self._steps.close()
        except ReferenceError:
            pass

    def _clean_up(self, context: bpy.types.Context) -> None:
        manager = context.window_manager
        if getattr(self, "_timer", None) is not None:
            manager.event_timer_remove(self._timer)
            self._timer = None
            manager.progress_end()
        if context.workspace is not None:
            context.workspace.status_text_set(None)
