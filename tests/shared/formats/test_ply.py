# SPDX-License-Identifier: Apache-2.0
"""The vertex table of a PLY: our own layout, all others through plyfile, and hostile headers."""

import io
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import plyfile
import pytest
from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError
from crowdgaussian_shared.formats import ply
from crowdgaussian_shared.formats.ply import read_vertices, write_vertices
from hypothesis import given
from hypothesis import strategies as st
from plyfile import PlyData, PlyElement

KINDS = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
LAYOUTS = {
    "own": {"order": "<"},
    "own, faces behind": {"order": "<", "faces": "behind"},
    "little-endian, faces in front": {"order": "<", "faces": "front"},
    "big-endian": {"order": ">"},
    "big-endian, faces in front": {"order": ">", "faces": "front"},
    "text": {"order": "=", "text": True},
    "text, faces in front": {"order": "=", "text": True, "faces": "front"},
}
FOREIGN = [name for name in LAYOUTS if not name.startswith("own")]


def numbers(count=9, seed=0):
    """[count] rows of a property of every kind, its limits among them."""
    rng, rows = np.random.default_rng(seed), np.empty(count, [(f"p_{k}", k) for k in KINDS])
    for kind in KINDS:
        whole = np.iinfo(kind) if kind[0] != "f" else None
        rows[f"p_{kind}"] = (
            rng.integers(whole.min, whole.max, count, kind, endpoint=True)
            if whole
            else rng.normal(0, 1e6, count)
        )
        if whole and count > 1:
            rows[f"p_{kind}"][:2] = whole.min, whole.max
    return rows


def polygons():
    """Faces as lists of different lengths, one of them empty, and a number beside them."""
    faces = np.empty(4, [("vertex_indices", object), ("flags", "u1")])
    for row, length in enumerate((3, 4, 0, 5)):
        faces[row] = (np.arange(length, dtype="i4"), row)
    return PlyElement.describe(faces, "face", len_types={"vertex_indices": "u1"})


def written(path, rows, order="<", text=False, faces=""):
    vertex = PlyElement.describe(rows, "vertex", comments=["of a test"])
    elements = {"": [vertex], "front": [polygons(), vertex], "behind": [vertex, polygons()]}[faces]
    PlyData(elements, text=text, byte_order=order).write(str(path))
    return path


def header(*lines, form="binary_little_endian", end="\n"):
    return end.join(["ply", f"format {form} 1.0", *lines, "end_header", ""]).encode()


@pytest.fixture
def no_plyfile(monkeypatch):
    monkeypatch.setitem(sys.modules, "plyfile", None)  # an import of it fails


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 9])
def test_every_layout_reads_the_same(tmp_path, layout, count):
    rows = numbers(count)
    read = read_vertices(written(tmp_path / "a.ply", rows, **LAYOUTS[layout]))
    assert read.dtype.names == rows.dtype.names and len(read) == count
    for name in rows.dtype.names:
        assert read.dtype[name].newbyteorder("=") == rows.dtype[name]
        np.testing.assert_array_equal(read[name], rows[name])


def test_what_is_written_is_what_plyfile_writes(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 5)).astype("<f4")
    rows = np.ascontiguousarray(rows).view([(name, "<f4") for name in "abcde"])[:, 0]
    stream = io.BytesIO()
    write_vertices(stream, rows[::2], ("one", "two"))
    oracle = PlyElement.describe(np.ascontiguousarray(rows[::2]), "vertex")
    expected = io.BytesIO()
    PlyData([oracle], byte_order="<", comments=["one", "two"]).write(expected)
    assert stream.getvalue() == expected.getvalue()


def test_our_own_layout_needs_no_library(tmp_path, no_plyfile):
    rows = numbers()
    for layout in ("own", "own, faces behind"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "plyfile", plyfile)
            path = written(tmp_path / "a.ply", rows, **LAYOUTS[layout])
        np.testing.assert_array_equal(read_vertices(path), rows)


@pytest.mark.parametrize("layout", FOREIGN)
def test_without_plyfile_other_layouts_are_refused_in_one_sentence(tmp_path, monkeypatch, layout):
    path = written(tmp_path / "a.ply", numbers(), **LAYOUTS[layout])
    monkeypatch.setitem(sys.modules, "plyfile", None)
    with pytest.raises(MissingFileError) as caught:
        read_vertices(path)
    sentence = str(caught.value)
    assert str(path) in sentence and "\n" not in sentence
    assert "pip install 'crowdgaussian[ply]'" in sentence and "or convert it" in sentence


def test_plyfile_is_not_imported_before_it_is_needed(tmp_path):
    path = written(tmp_path / "a.ply", numbers())
    code = (
        "import sys, pathlib; from crowdgaussian_shared.formats import ply, splat_ply; "
        "ply.read_vertices(pathlib.Path(sys.argv[1])); print('plyfile' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "False", done.stderr


def test_a_packed_file_is_not_held_open(tmp_path):
    """What plyfile mapped is copied: the file may change or vanish afterwards."""
    rows = numbers()
    path = written(tmp_path / "a.ply", rows, order=">")
    read = read_vertices(path)
    path.write_bytes(b"")
    np.testing.assert_array_equal(read["p_f8"], rows["p_f8"])
    assert not isinstance(read, np.memmap)


def test_windows_line_ends_and_words_for_numbers(tmp_path):
    """As some tools write them; a text may say nan and inf."""
    lines = ("obj_info made on Windows", "element vertex 2", "property float x")
    (tmp_path / "text.ply").write_bytes(header(*lines, form="ascii", end="\r\n") + b"nan\r\n-inf")
    np.testing.assert_array_equal(
        read_vertices(tmp_path / "text.ply")["x"], np.array([np.nan, -np.inf], "f4")
    )
    for form, order in (("binary_little_endian", "<"), ("binary_big_endian", ">")):
        body = struct.pack(f"{order}2f", 1.5, -2)
        (tmp_path / "a.ply").write_bytes(header(*lines, form=form, end="\r\n") + body)
        assert read_vertices(tmp_path / "a.ply")["x"].tolist() == [1.5, -2]


VERTEX = ("element vertex 2", "property float x")
FACES = ("element face 2", "property list uchar int i", *VERTEX)
BODY = struct.pack("<2f", 1, 2)
HOSTILE = {
    "nothing": (b"", "is not a PLY file"),
    "only its first word": (b"ply\n", "is not a PLY file"),
    "a header without end": (b"ply\ncomment " + b"x" * 3_000_000, "is not a PLY file"),
    "a header of lines without end": (b"ply\n" + b"comment x\n" * 300_000, "is not a PLY file"),
    "a count that no disk holds": (
        header("element vertex 1000000000000", "property float x") + BODY,
        "truncated: its header announces 1000000000000 vertex rows",
    ),
    "a count of 5000 digits": (
        header(f"element vertex {'9' * 5000}", "property float x") + BODY,
        "header line 'element vertex 9+...' is damaged",
    ),
    "a negative count": (
        header("element vertex -2", "property float x") + BODY,
        "header line 'element vertex -2' is damaged",
    ),
    "a count with a fraction": (header("element vertex 2.5") + BODY, "2.5' is damaged"),
    "a count twice": (header("element vertex 2 2") + BODY, "2 2' is damaged"),
    "rows of nothing": (
        header("element vertex 1000000000000") + BODY,
        "the element vertex has no properties",
    ),
    "vertices of nothing": (header("element vertex 0"), "the element vertex has no properties"),
    "rows of nothing in front": (
        header("element a 1000000000000", *VERTEX) + BODY,
        "the element a has no properties",
    ),
    "huge counts in front": (
        header("element a 1000000000000", "property uchar b", *VERTEX) + BODY,
        "truncated: its header announces 1000000000000 a rows",
    ),
    "huge counts of lists in a text": (
        header("element a 1000000000000", "property list uchar int b", *VERTEX, form="ascii"),
        "truncated: its header announces 1000000000000 a rows",
    ),
    "an unknown type": (
        header("element vertex 2", "property quad x") + BODY,
        "header line 'property quad x' is damaged",
    ),
    "an unknown type in a list": (
        header("element face 1", "property list uchar quad i", *VERTEX) + BODY,
        "header line 'property list uchar quad i' is damaged",
    ),
    "a list counted in fractions": (
        header("element face 1", "property list float int i", *VERTEX) + BODY,
        "header line 'property list float int i' is damaged",
    ),
    "a property without a name": (header("element vertex 2", "property float") + BODY, "damaged"),
    "a property with two names": (header("element vertex 2", "property float x y z"), "damaged"),
    "a property twice": (
        header(*VERTEX, "property float x") + BODY * 2,
        "the property x is there twice",
    ),
    "a list and a number of one name": (
        header("element face 1", "property uchar i", "property list uchar int i", *VERTEX) + BODY,
        "the property i is there twice",
    ),
    "the vertices twice": (header(*VERTEX, *VERTEX) + BODY * 2, "the element vertex is there"),
    "a property of no element": (header("property float x", *VERTEX) + BODY, "before the first"),
    "no format": (b"ply\nelement vertex 0\nproperty float x\nend_header\n", "its format is none"),
    "an unknown format": (header(*VERTEX, form="utf8") + BODY, "its format is none"),
    "no vertices": (header("element face 1", "property uchar a") + b"1", "vertex is missing"),
    "lists in the vertices": (
        header("element vertex 2", "property list uchar int x") + b"\0\0",
        "the vertex field x is a list",
    ),
    "a name that speaks to the terminal": (
        header("element \033[2Ja 9", "property double b", *VERTEX) + BODY,
        r"announces 9 \?\[2Ja rows",
    ),
    "a name of 60,000 letters": (header(f"element {'a' * 60_000} 9", "property char b"), "trunc"),
    "a list longer than the file": (
        header("element face 1", "property list uint double i", *VERTEX)
        + struct.pack("<I", 40_000_000)
        + BODY,
        "'face': row 0: property 'i': early end-of-file",
    ),
    "a list of a negative length": (
        header("element face 1", "property list char char i", "element vertex 0", VERTEX[1])
        + b"\xff"
        + BODY,
        "'face': row 0: property 'i': early end-of-file",
    ),
    "a list that ends in the vertices": (
        header(*FACES) + b"\2" + bytes(8) + b"\2" + BODY,
        "'vertex': row 0: early end-of-file",
    ),
    "a text without its last row": (
        header("element vertex 3", "property float x", form="ascii") + b"1.5\n2.25\n",
        "'vertex': row 2: early end-of-file",
    ),
    "a text with a short row": (
        header(*VERTEX, "property float y", form="ascii") + b"1 2\n3.25",
        "'vertex': row 1: property 'y': early end-of-line",
    ),
    "a text with a long row": (
        header(*VERTEX, form="ascii") + b"1 2\n3\n",
        "'vertex': row 0: expected end-of-line",
    ),
    "a text with a word": (header(*VERTEX, form="ascii") + b"1\none\n", "row 1.*malformed"),
    "a text with another alphabet": (
        header(*VERTEX, form="ascii") + "1\n\u0661\n".encode(),
        "row 1.*malformed",
    ),
    "a text of one row without end": (
        header(*VERTEX, form="ascii") + b"1 " * 2_000_000,
        "one of its lines has no end",
    ),
    "a text whose list has a negative length": (
        header(*FACES, form="ascii") + b"-1 0\n0\n1\n2\n",
        "damaged PLY file",
    ),
    "a text whose list is longer than its row": (
        header("element face 1", "property list uint int i", *VERTEX, form="ascii")
        + b"4000000000 1\n1\n2\n",
        "'face': row 0: property 'i': early end-of-line",
    ),
    "a header of two kinds of line ends": (
        b"ply\r\n" + header(*FACES)[4:] + b"\0\0" + BODY + b"a" * 3_000_000,
        "header's lines do not end alike",
    ),
    "a header whose last line goes on": (
        header(*FACES)[:-1] + b" \n\0\0" + BODY + b"a" * 3_000_000,
        "header's lines do not end alike",
    ),
    "a header inside a header": (
        b"ply\r \rformat binary_big_endian 1.0\relement vertex 99999999999\r" + header(*FACES)[4:],
        "is not a PLY file",
    ),
    "a version of the future": (header(*FACES).replace(b"1.0", b"2.0") + b"\0\0" + BODY, "'1.0'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_sentence_and_take_no_memory(tmp_path, name):
    content, words = HOSTILE[name]
    path = tmp_path / "bad.ply"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match=words) as caught:
            read_vertices(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sentence = str(caught.value)
    assert str(path) in sentence and sentence.isprintable() and len(sentence) < 400
    assert sentence.endswith(".") and peak < 20_000_000


def test_more_lists_than_memory_is_safe_for_are_refused(tmp_path, monkeypatch):
    path = written(tmp_path / "a.ply", numbers(), faces="front")
    monkeypatch.setattr(ply, "_LIST_LIMIT", 3)
    with pytest.raises(InputError, match=r"a\.ply holds 4 lists .* leave out its faces"):
        read_vertices(path)
    behind = written(tmp_path / "a.ply", numbers(), faces="behind")
    assert len(read_vertices(behind)) == 9


@given(
    layout=st.sampled_from(list(LAYOUTS)),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.floats(0, 1),
)
def test_any_damage_is_told_or_harmless(tmp_path_factory, layout, places, kept):
    """Bytes changed and the end cut off: rows, or a sentence, and nothing else."""
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    content = bytearray(written(path, numbers(4), **LAYOUTS[layout]).read_bytes())
    for place, value in places:
        content[int(place * len(content))] = value
    path.write_bytes(content[: round(kept * len(content))])
    try:
        read = read_vertices(path)
    except DamagedFileError as error:
        assert str(path) in str(error) and str(error).isprintable()
    else:
        assert read.ndim == 1 and read.dtype.names
