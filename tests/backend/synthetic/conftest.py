# SPDX-License-Identifier: Apache-2.0
"""A made-up base mesh: the open body with a tube as its skirt and one as its hair; a garment."""

import numpy as np
import pytest
from crowdgaussian.body import load_body


@pytest.fixture(scope="session")
def body():
    return load_body()


def tube(top, bottom, radius):
    """A tube about the vertical: vertices and faces."""
    angle = np.linspace(0, 2 * np.pi, 25)[:-1]
    ring = np.stack([radius * np.cos(angle), 0 * angle, 0.7 * radius * np.sin(angle)], 1)
    heights = np.linspace(top, bottom, 12)
    vertices = np.concatenate([ring + (0, height, 0.02) for height in heights])
    a = (np.arange(11)[:, None] * 24 + np.arange(24)).ravel()
    b = (np.arange(11)[:, None] * 24 + (np.arange(24) + 1) % 24).ravel()
    return vertices, np.concatenate([np.stack([a, b, a + 24], 1), np.stack([b, b + 24, a + 24], 1)])


@pytest.fixture(scope="session")
def folder(body, tmp_path_factory):
    rest, faces = np.asarray(body.template), np.asarray(body.faces)
    skirt, hair = tube(0.08, -0.85, 0.25), tube(0.7, 0.1, 0.12)
    places = 10 * np.concatenate([rest, skirt[0], hair[0]])
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in places]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in np.asarray(body.uv)]
    with_uv = zip(faces + 1, np.asarray(body.uv_faces) + 1)
    own = ["f " + " ".join(f"{a}/{b}" for a, b in zip(*pair)) for pair in with_uv]
    for name in ("helper-l-eye", "helper-r-eye", "helper-tights", "body"):
        lines += [f"g {name}", *(own if name in ("body", "helper-tights") else own[:1])]
    for name, part, start in (("skirt", skirt, len(rest)), ("hair", hair, len(rest) + 288)):
        lines.append(f"g helper-{name}")
        lines += ["f " + " ".join(f"{k + start + 1}/1" for k in face) for face in part[1]]
    place = tmp_path_factory.mktemp("makehuman")
    (place / "base.obj").write_text("\n".join(lines))
    _write_garment(place / "base/clothes/square")
    return place


def _write_garment(folder):
    """A square: corners at base vertices 10 to 12, and one between them and 2 units above."""
    folder.mkdir(parents=True)
    (folder / "square.obj").write_text("v 0 0 0\n" * 4 + "f 1/1 2/1 3/1 4/1\n")
    rows = ["10", "11", "12", "10 11 12 0.5 0.25 0.25 0 2 0"]
    scales = [f"{axis}_scale 0 100 1" for axis in "xyz"]
    lines = ["# CC0", "name square", *scales, "verts 0", *rows, "delete_verts", "3 5 - 7"]
    (folder / "square.mhclo").write_text("\n".join(lines))
