# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel People: who is there, one-click poses, IK controls, shadows and obstacles."""

from typing import TYPE_CHECKING, ClassVar

import bpy
from bpy.props import PointerProperty, StringProperty
from crowdgaussian_shared.scene.edit import Box

from ..ops.corrections import chosen_crowd, photo_of
from ..ops.poses import have_controls
from ..ops.recolour import NO_MATERIALS, painted, with_materials
from ..ops.state import choices
from ..ops.viewport import is_looking
from ..scene.corrections import boxes_of_missed, left_out, people_in, warnings_in
from ..scene.people import (
    Person,
    all_people,
    chosen_people,
    has_people,
    people_without_rig,
    selected_people,
)
from ..scene.rig.body import casts_shadow, obstacle_kind
from ..scene.roster import is_shown, strays
from ..scene.shot import Need, needs_of
from .base import CrowdPanel, draw_choice_of_people, draw_text, titled_row

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

_MOST = 12  # people that the list shows


class CROWDGAUSSIAN_PT_people(CrowdPanel, bpy.types.Panel):
    """The people of the scene and their rigs."""

    bl_idname = "CROWDGAUSSIAN_PT_people"
    bl_label = "People"
    bl_order = 1

    def draw(self, context: bpy.types.Context) -> None:
        """Also where everybody has lost their rigs."""
        CrowdPanel.draw(self, context)
        if not has_people(context.scene):
            draw_broken(self.layout, context)

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout = self.layout
        draw_view(layout, context)
        draw_list(layout, context)
        draw_broken(layout, context)
        chosen = draw_choice_of_people(layout, context)
        row = layout.row(align=True)
        row.operator("crowdgaussian.photo_pose", icon="IMAGE_DATA")
        row.operator("crowdgaussian.rest_pose", icon="ARMATURE_DATA")
        draw_controls(layout, context)
        draw_bodies(layout, chosen)


def draw_view(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """How this viewport shows people: bones or none, and from the photo's camera."""
    row = layout.row(align=True)
    space = getattr(context, "space_data", None)
    if isinstance(space, bpy.types.SpaceView3D):
        row.prop(space.overlay, "show_bones", text="Rigs", icon="OUTLINER_OB_ARMATURE", toggle=True)
    looking = is_looking()
    button = row.operator("crowdgaussian.first_look", icon="VIEW_CAMERA", depress=looking)
    button.action = "BACK" if looking else "SHOW"


def draw_list(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """A button for each person, and who has lost their rig."""
    people = all_people(context.scene)
    selected = {person.rig for person in selected_people(context)}
    doubtful = {rig for rig, _ in doubts(context)[1]}
    column = layout.column(align=True)
    for number, person in enumerate(people[:_MOST]):
        row = column.row(align=True)
        button = row.operator(
            "crowdgaussian.select_person",
            text=person.name,
            icon="ERROR" if person.rig in doubtful else "OUTLINER_OB_ARMATURE",
            depress=person.rig in selected,
        )
        button.person = number
        shown = is_shown(person)
        eye: IconItems = "HIDE_OFF" if shown else "HIDE_ON"
        button = row.operator("crowdgaussian.hide_person", text="", icon=eye)
        button.person, button.hide = number, shown
    if len(people) > _MOST:
        column.label(text=f"and {len(people) - _MOST} more")
    row = layout.row(align=True)
    row.operator("crowdgaussian.duplicate_person", icon="DUPLICATE")
    row.operator("crowdgaussian.rename_person", text="", icon="SORTALPHA")
    row.operator("crowdgaussian.isolate_person", text="", icon="SOLO_ON")
    row.operator("crowdgaussian.delete_person", text="", icon="TRASH")


def draw_broken(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Who was deleted or duplicated by hand, in part, and the button that mends it."""
    said = [f"{lost.name}'s rig was deleted." for lost in people_without_rig(context.scene)]
    said += [f"{rig.name} is a rig without splats of its own." for rig in strays(context.scene)]
    for sentence in said[:_MOST]:
        draw_text(layout, sentence, context, "ERROR")
    if said:
        layout.operator("crowdgaussian.mend_people", icon="MODIFIER")


def draw_controls(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """IK: add, and once there are controls, switch and remove."""
    column = layout.column(align=True)
    row = column.row(align=True)
    row.operator("crowdgaussian.add_ik", text="Add Controls", icon="CON_KINEMATIC")
    row.operator("crowdgaussian.remove_ik", text="Remove", icon="X")
    if have_controls(context):
        row = column.row(align=True)
        row.operator("crowdgaussian.switch_ik", text="To IK").to = "IK"
        row.operator("crowdgaussian.switch_ik", text="To FK").to = "FK"


def draw_bodies(layout: bpy.types.UILayout, people: list[Person]) -> None:
    """Shadows of the body meshes, and what bumps into them."""
    bodies = [person.body for person in people if person.body is not None]
    shadows = bool(bodies) and all(casts_shadow(body) for body in bodies)
    column = layout.column(align=True)
    column.operator(
        "crowdgaussian.body_shadow", text="Body Shadows", icon="LIGHT_SUN", depress=shadows
    ).enabled = not shadows
    row = titled_row(layout, "Obstacle")
    obstacles = {obstacle_kind(body) for body in bodies}
    for kind, text in (("NONE", "Off"), ("SOFT", "Cloth"), ("RIGID", "Rigid")):
        row.operator(
            "crowdgaussian.body_collision", text=text, depress=obstacles == {kind}
        ).kind = kind


# The sub-panel Check These of People: what the backend doubts


class CROWDGAUSSIAN_PT_checks(CrowdPanel, bpy.types.Panel):
    """What is worth a look in a crowd, and in the people who are selected."""

    bl_idname = "CROWDGAUSSIAN_PT_checks"
    bl_parent_id = "CROWDGAUSSIAN_PT_people"
    bl_label = "Check These"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only while there is something."""
        return any(doubts(context))

    def draw_people(self, context: bpy.types.Context) -> None:
        """A sentence each."""
        scene, people = doubts(context)
        selected = {person.rig for person in selected_people(context)}
        mine = [sentence for rig, sentence in people if rig in selected or not selected]
        said = [*scene, *mine]
        boxes = boxes_of_missed(chosen_crowd(context))
        for sentence in said[:_MOST]:
            draw_text(self.layout, sentence, context, "ERROR")
            if sentence in boxes:
                draw_add(self.layout, boxes[sentence])
        if len(said) > _MOST:
            self.layout.label(text=f"and {len(said) - _MOST} more")


def draw_add(layout: bpy.types.UILayout, box: Box) -> None:
    """The button that adds whoever is in a box, without drawing it."""
    button = layout.operator("crowdgaussian.add_person", text="Add This Person", icon="ADD")
    button.x0, button.y0, button.x1, button.y1 = box


def doubts(
    context: bpy.types.Context,
) -> tuple[list[str], list[tuple[bpy.types.Object, str]]]:
    """Warnings about the chosen crowd, and about its people who are there, each with their rig."""
    crowd = chosen_crowd(context)
    if crowd is None:
        return [], []
    scene, people = warnings_in(crowd)
    here = people_in(crowd, context.scene) if people else {}
    found = [(here[i].rig, sentence) for i in here for sentence in people.get(i, ())]
    return scene, found


# The sub-panel Check Splats: what this scene needs to show them right


class CROWDGAUSSIAN_PT_shot(CrowdPanel, bpy.types.Panel):
    """What keeps the scene from showing splats right, while anything does."""

    bl_idname = "CROWDGAUSSIAN_PT_shot"
    bl_parent_id = "CROWDGAUSSIAN_PT_people"
    bl_label = "Check Splats"
    needs: ClassVar[list[Need]] = []

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only while there is something; draw, which comes right after, shows what was found."""
        cls.needs = needs_of(context.scene)
        return bool(cls.needs)

    def draw(self, context: bpy.types.Context) -> None:
        """A sentence and a button each; also for splats without people."""
        for need in CROWDGAUSSIAN_PT_shot.needs:
            draw_text(self.layout, need.sentence, context, "ERROR")
            if need.button:
                button = self.layout.operator("crowdgaussian.check_splats", text=need.button)
                button.need = need.kind
        if len(CROWDGAUSSIAN_PT_shot.needs) > 1:
            self.layout.operator("crowdgaussian.check_splats", text="Mend All").need = "ALL"


class _ClosedPart(CrowdPanel):
    """A sub-panel of People that is closed at first."""

    bl_parent_id = "CROWDGAUSSIAN_PT_people"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """People, above, says already that there is nobody."""
        return has_people(context.scene)


# The sub-panel Materials of People: skin, hair, clothes, shoes


class CROWDGAUSSIAN_PT_materials(_ClosedPart, bpy.types.Panel):
    """What people wear."""

    bl_idname = "CROWDGAUSSIAN_PT_materials"
    bl_label = "Materials"

    def draw_people(self, context: bpy.types.Context) -> None:
        """Two buttons, or why there are none."""
        layout = self.layout
        if not with_materials(chosen_people(context)):
            draw_text(layout, NO_MATERIALS, context, "INFO")
            return
        layout.operator_menu_enum(
            operator="crowdgaussian.select_material",
            property="material",
            icon="RESTRICT_SELECT_OFF",
        )
        layout.operator("crowdgaussian.recolour", icon="COLOR")


# The sub-panel Editing of People: splats selected, deleted, cropped, recoloured, painted


class CROWDGAUSSIAN_PT_editing(_ClosedPart, bpy.types.Panel):
    """Splats that are not wanted, or not in their colours."""

    bl_idname = "CROWDGAUSSIAN_PT_editing"
    bl_label = "Editing"

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        column = self.layout.column(align=True)
        row = column.row(align=True)
        row.operator("crowdgaussian.add_crop", text="Box", icon="CUBE").shape = "CUBE"
        row.operator("crowdgaussian.add_crop", text="Sphere", icon="SPHERE").shape = "SPHERE"
        row = column.row(align=True)
        draw_edit(row, "INSIDE", "KEEP", "Crop")
        draw_edit(row, "INSIDE", "DELETE", "Cut Out")
        column = self.layout.column(align=True)
        for by, text in (("SIZE", "Large"), ("OPACITY", "Faint"), ("FLOATERS", "Floaters")):
            row = column.row(align=True)
            draw_edit(row, by, "SELECT", f"Select {text}")
            draw_edit(row, by, "DELETE", "", "TRASH")
        draw_edit(column, "SELECTED", "DELETE", "Delete Selected")
        draw_colors(self.layout, context)
        self.layout.operator("crowdgaussian.decimate_splats", icon="MOD_DECIM")
        self.layout.operator("crowdgaussian.paint_weights", icon="WPAINT_HLT")


def draw_edit(
    layout: bpy.types.UILayout, by: str, action: str, text: str, icon: "IconItems" = "NONE"
) -> None:
    """A button that selects or deletes splats."""
    button = layout.operator("crowdgaussian.edit_splats", text=text, icon=icon)
    button.by, button.action = by, action


def draw_colors(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Parts selected, colours changed, and brushes."""
    column = layout.column(align=True)
    select = "crowdgaussian.select_material"
    column.operator_menu_enum(operator=select, property="material", text="Select Part")
    button = column.operator("crowdgaussian.recolour", text="Adjust Colour", icon="COLOR")
    button.material = "selected" if context.mode == "EDIT_MESH" else "all"
    button.method = "SHIFT"
    painting = context.mode == "PAINT_VERTEX"
    column.operator(
        "crowdgaussian.paint_splats",
        text="Done" if painting else "Paint",
        icon="BRUSH_DATA",
        depress=painting,
    )
    if not painting and painted(context.scene):
        draw_text(layout, "Press Paint, then Done, to show the paint in renders.", context, "INFO")


# The sub-panel Corrections of People: refit, leave out, bring back, add


class CROWDGAUSSIAN_PT_corrections(_ClosedPart, bpy.types.Panel):
    """What the photo's reconstruction got wrong."""

    bl_idname = "CROWDGAUSSIAN_PT_corrections"
    bl_label = "Corrections"

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout, crowd = self.layout, chosen_crowd(context)
        if crowd is not None and not photo_of(crowd).is_file():
            draw_text(layout, "Corrections need the original photo.", context, "INFO")
            layout.operator("crowdgaussian.find_photo", icon="FILE_FOLDER")
        draw_text(layout, "Move or pose people until they match the photo, then:", context)
        layout.operator("crowdgaussian.refit", icon="FILE_REFRESH")
        row = layout.row(align=True)
        row.operator("crowdgaussian.leave_out", icon="REMOVE")
        row.operator("crowdgaussian.add_person", icon="ADD")
        for index in left_out(crowd) if crowd is not None else ():
            button = layout.operator(
                "crowdgaussian.bring_back", icon="LOOP_BACK", text=f"Bring Back Person {index:03d}"
            )
            button.person = index


# The sub-panel Motion: motions, poses, assets


class CrowdGaussianMotion(bpy.types.PropertyGroup):
    """What the panel's buttons use, kept in the scene."""

    path: StringProperty(
        name="Motion",
        description="AMASS or SMPL-X .npz, .bvh, .fbx, .glb, or a folder of LHM's JSON files",
    )
    rig: PointerProperty(
        name="Rig",
        type=bpy.types.Object,
        poll=lambda _, obj: obj.type == "ARMATURE",
        description="An armature whose action people shall follow",
    )
    table: PointerProperty(
        name="Bone Table",
        type=bpy.types.Text,
        description="Says which bone is which joint, for skeletons with names of their own",
    )


class CROWDGAUSSIAN_PT_motion(CrowdPanel, bpy.types.Panel):
    """What people do."""

    bl_idname = "CROWDGAUSSIAN_PT_motion"
    bl_label = "Motion"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 3

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout = self.layout
        draw_choice_of_people(layout, context)
        motion = choices(context, "crowdgaussian_motion")
        column = layout.column(align=True)
        row = column.row(align=True)
        row.prop(motion, "path", text="", placeholder="Motion file")
        row.operator("crowdgaussian.choose_motion", text="", icon="FILE_FOLDER")
        column.operator("crowdgaussian.apply_motion", icon="ANIM")
        column = layout.column(align=True)
        column.prop(motion, "rig", text="", placeholder="Another rig")
        column.operator("crowdgaussian.apply_rig_motion", icon="ARMATURE_DATA")
        row = layout.row(align=True)
        row.prop(motion, "table", text="", placeholder="Bone table")
        row.operator("crowdgaussian.bone_table", text="", icon="ADD")
        column = layout.column(align=True)
        column.operator_menu_enum(
            operator="crowdgaussian.apply_pose", property="pose", icon="POSE_HLT"
        )
        column.operator("crowdgaussian.save_pose", icon="ADD")
        column.operator("crowdgaussian.add_pose_library", icon="ASSET_MANAGER")
        layout.operator("crowdgaussian.mark_people", icon="ASSET_MANAGER")


CLASSES = (
    CROWDGAUSSIAN_PT_people,
    CROWDGAUSSIAN_PT_shot,
    CROWDGAUSSIAN_PT_checks,
    CROWDGAUSSIAN_PT_materials,
    CROWDGAUSSIAN_PT_editing,
    CROWDGAUSSIAN_PT_corrections,
    CrowdGaussianMotion,
    CROWDGAUSSIAN_PT_motion,
)
