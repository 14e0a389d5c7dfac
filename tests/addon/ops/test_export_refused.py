# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be exported or imported is one sentence; no file and no object is left behind."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from _support.blender.exporting import refused, start
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.jobs import local_server as backend_command
from crowdgaussian_addon.ui import layout as export
from crowdgaussian_shared.formats.splat_ply import write_splat_ply


@pytest.fixture(scope="module", autouse=True)
def crowd(tmp_path_factory):
    """Two people; nothing here may change them."""
    avatars = [make_avatar(100, seed=seed) for seed in (0, 1)]
    crowdgaussian_addon.register()
    start(write_scene(tmp_path_factory.mktemp("crowd") / "out", avatars, make_camera()))
    yield
    crowdgaussian_addon.unregister()


def draw_panel() -> list[str]:
    """The operators that the panel offers now."""
    fake = SimpleNamespace(layout=FakeLayout())
    fake.draw_people = lambda context: export.CROWDGAUSSIAN_PT_export.draw_people(fake, context)
    export.CROWDGAUSSIAN_PT_export.draw(fake, bpy.context)
    return fake.layout.buttons()


def test_the_panel_offers_what_can_be_done():
    exports = [f"crowdgaussian.export_{what}" for what in ("splats", "rigs", "motion", "scene")]
    imports = ["crowdgaussian.import_splats", "crowdgaussian.import_scene"]
    assert draw_panel() == [*exports, *imports]
    for name in exports:
        kind = getattr(bpy.ops.crowdgaussian, name.split(".")[1]).get_rna_type()
        assert len(kind.description) > 30 and kind.name.startswith("Export")
    empty = bpy.data.scenes.new("Empty")
    with bpy.context.temp_override(scene=empty):
        assert draw_panel() == imports
        assert not any(
            getattr(bpy.ops.crowdgaussian, name.split(".")[1]).poll() for name in exports
        )
        assert all(getattr(bpy.ops.crowdgaussian, name.split(".")[1]).poll() for name in imports)
    bpy.data.scenes.remove(empty)


TOO_MANY = "more than the 2000000"


@pytest.mark.parametrize(
    "damage", ["missing", "truncated", "no number", "no splats", "no file", TOO_MANY]
)
def test_a_bad_ply_is_one_sentence(tmp_path, damage):
    path = tmp_path / "bad.ply"
    write_splat_ply(path, make_avatar(20).gaussians)
    whole = path.read_bytes()
    if damage == "missing":
        path.write_bytes(whole.replace(b"float rot_2", b"float rotx2"))
    elif damage == "truncated":
        path.write_bytes(whole[:-100])
    elif damage == "no number":
        start = whole.index(b"end_header\n") + 11
        path.write_bytes(whole[:start] + b"\0\0\xc0\x7f" * ((len(whole) - start) // 4))
    elif damage == TOO_MANY:
        count, width = 2_000_001, 4 * whole.count(b"property")
        with path.open("wb") as stream:
            stream.write(whole.partition(b"end_header")[0].replace(b"vertex 20", b"vertex 2000001"))
            stream.write(b"end_header\n")
            stream.truncate(stream.tell() + count * width)  # a hole, which takes no room
    elif damage == "no splats":
        path.write_bytes(
            whole.partition(b"end_header")[0].replace(b"vertex 20", b"vertex 0") + b"end_header\n"
        )
    else:
        path.unlink()
    said = refused(bpy.ops.crowdgaussian.import_splats, filepath=str(path))
    assert str(path) in said
    expected = {"missing": "rot_2 is missing", "no splats": "0 splats", "no file": "not exist"}
    assert expected.get(damage, damage) in said


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    said = refused(bpy.ops.crowdgaussian.import_scene, directory=str(tmp_path))
    assert "no scene.json" in said


@pytest.mark.parametrize("trouble", ["no folder", "full disk", "no name", "no frames"])
def test_what_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, trouble):
    target, options = tmp_path / "a.ply", {}
    target.write_bytes(b"older")
    if trouble == "no folder":
        target = Path("/proc/none/a.ply")
    elif trouble == "full disk":

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("crowdgaussian_shared.formats.atomic.os.fsync", full)
    elif trouble == "no name":
        target = ""
    else:
        options = {"animation": True, "frame_start": 5, "frame_end": 4}
    said = refused(bpy.ops.crowdgaussian.export_splats, filepath=str(target), **options)
    words = {
        "no folder": "cannot be written",
        "full disk": "disk is full",
        "no name": "No file name",
        "no frames": "holds 0 frames",
    }
    assert words[trouble] in said
    assert os.listdir(tmp_path) == ["a.ply"] and (tmp_path / "a.ply").read_bytes() == b"older"


def test_spz_and_gltf_need_a_backend(tmp_path, monkeypatch):
    monkeypatch.delenv("CROWDGAUSSIAN_BACKEND", raising=False)
    for kind in ("SPZ", "SOG", "GLB"):
        said = refused(
            bpy.ops.crowdgaussian.export_splats, format=kind, filepath=str(tmp_path / "a")
        )
        assert f"{kind} is written by the backend" in said and "preferences" in said
        said = refused(
            bpy.ops.crowdgaussian.export_splats,
            format=kind,
            animation=True,
            filepath=str(tmp_path / "a"),
        )
        assert "choose PLY" in said
    assert not os.listdir(tmp_path)


def test_the_backend_s_own_sentence_is_shown(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    said = "echo 'noise' >&2\necho 'crowdgaussian: The disk is full.' >&2\n"
    fake.write_text(f"#!/bin/sh\n{said}exit 2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CROWDGAUSSIAN_BACKEND", str(fake))
    said = refused(
        bpy.ops.crowdgaussian.export_splats, format="SPZ", filepath=str(tmp_path / "a.spz")
    )
    assert said == "The disk is full." and os.listdir(tmp_path) == ["python"]


def test_other_formats_are_read_by_the_backend(tmp_path, monkeypatch):
    """A stand-in for the backend puts a PLY where the real one would."""
    write_splat_ply(tmp_path / "made.ply", make_avatar(20).gaussians)
    (tmp_path / "a.spz").write_bytes(b"as it is")
    monkeypatch.delenv("CROWDGAUSSIAN_BACKEND", raising=False)
    said = refused(bpy.ops.crowdgaussian.import_splats, filepath=str(tmp_path / "a.spz"))
    assert "a.spz is read by the backend" in said and "preferences" in said
    for ending in ("splat", "ksplat", "sog", "glb", "gltf"):
        path = str(tmp_path / f"b.{ending}")
        said = refused(bpy.ops.crowdgaussian.import_splats, filepath=path)
        assert f"b.{ending} does not exist; choose another file" in said
    fake = tmp_path / "python"
    wanted = f"-m crowdgaussian export {tmp_path}/a.spz --source-axes opencv --axes scene -o"
    fake.write_text(
        f'#!/bin/sh\nall="$*"\n[ "${{all%% -o *}} -o" = "{wanted}" ] || exit 3\n'
        f'for last; do :; done\ncp {tmp_path}/made.ply "$last"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("CROWDGAUSSIAN_BACKEND", str(fake))
    before = set(bpy.data.objects)
    assert bpy.ops.crowdgaussian.import_splats(filepath=str(tmp_path / "a.spz")) == {"FINISHED"}
    (made,) = set(bpy.data.objects) - before
    assert made.name.startswith("a")
    bpy.data.objects.remove(made)


def test_the_doctor_s_sentence_is_shown(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    monkeypatch.setenv("CROWDGAUSSIAN_BACKEND", str(fake))
    worst = "numpy is 1.26.4, not >=2.2. Run `make setup`. (2 more)"
    told = f"[ \"$3\" = doctor ] || exit 3\necho '{worst}' | sed 's/^/crowdgaussian: /' >&2\n"
    fake.write_text(f"#!/bin/sh\n{told}exit 2\n")
    fake.chmod(0o755)
    assert refused(bpy.ops.crowdgaussian.doctor) == worst
    fake.write_text("#!/bin/sh\nexit 0\n")
    assert bpy.ops.crowdgaussian.doctor() == {"FINISHED"}


def test_a_stopped_backend_is_ended(tmp_path):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    fake.chmod(0o755)
    run = backend_command.run_backend(str(fake), ["export"])
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        next(run)
    run.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
