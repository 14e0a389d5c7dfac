# SPDX-License-Identifier: Apache-2.0
"""Figures 8 and 13: photos of fewer pixels, hidden parts painted in 2D, by the commands."""

import sys

import numpy as np
import pytest
from crowdgaussian.body import load_body
from crowdgaussian.cli.main import main
from crowdgaussian.core.progress import silent
from crowdgaussian.evaluate.degradation import OPENCV, inpainted, low_resolutions, shrunk
from crowdgaussian.evaluate.subjects import joints_in_image, read_subjects
from crowdgaussian.lorm.training.occlusion import Occluded, hide
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.splat_ply import write_splat_ply
from PIL import Image

QUICK = "gaussians=800 colour_steps=2 pose_steps=1 contour_steps=1 max_crop_px=64".split()
PAINTER = """
import sys
import numpy as np
from PIL import Image
photo, mask, out, size = *sys.argv[1:4], int(sys.argv[4])
image, mask = np.array(Image.open(photo)), np.array(Image.open(mask))
image[mask > 0] = 255, 0, 0
image[mask == 0] = 0
Image.fromarray(image).resize((size, size)).save(out + "/done.png")
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    assert main(["data", "people", str(folder), "--count", "1", "--size", "32"]) == 0
    return folder


@pytest.fixture(scope="module")
def subject(people):
    return read_subjects(people)[0]


@pytest.fixture
def half():
    """A green person of whom the lower half is hidden."""
    mask = np.zeros((24, 24), bool)
    mask[4:20, 8:16] = True
    image = np.where(mask[..., None], np.uint8((40, 160, 60)), np.uint8(255))
    below = np.zeros_like(mask)
    below[12:] = True
    return hide(image, mask, mask & below), mask


def test_a_smaller_photo_is_of_the_same_camera(subject):
    body, small = load_body("open"), shrunk(subject, 4)
    assert small.photo.shape == (16, 16, 3) and small.mask.shape == (16, 16)
    assert np.allclose(joints_in_image(small, body), joints_in_image(subject, body) / 4, atol=1e-3)
    assert small.mask.mean() == pytest.approx(subject.mask.mean(), rel=0.25)  # thin arms
    assert small.cameras is subject.cameras and np.array_equal(
        small.person.pose, subject.person.pose
    )


def test_each_factor_is_a_case_with_nothing_hidden(subject):
    cases = low_resolutions((1, 2))(subject, load_body("open"), silent)
    assert [(case.title, case.name) for case in cases] == [("photo", "01"), ("photo / 2", "02")]
    assert all(case.given.ratio == 0 for case in cases)
    assert all(np.array_equal(case.given.visible, case.subject.mask) for case in cases)
    assert (cases[1].given.image[~cases[1].subject.mask] == 255).all()
    for factors in ((0,), (65,)):
        with pytest.raises(CrowdGaussianError, match="shrinks by 1 to 64"):
            low_resolutions(factors)


def test_opencv_paints_the_hidden_part_from_the_person_alone(half):
    given, mask = half
    painted = inpainted(given, mask, OPENCV, silent)
    assert np.array_equal(painted[~mask | given.visible], given.image[~mask | given.visible])
    assert np.abs(painted[mask].astype(int) - (40, 160, 60)).max() <= 10  # no white ran in


def test_a_program_of_one_s_own_paints_only_what_is_hidden(half, tmp_path):
    given, mask = half
    (tmp_path / "painter.py").write_text(PAINTER)
    words = f'"{sys.executable}" "{tmp_path / "painter.py"}" {{photo}} {{mask}} {{out}}'
    painted = inpainted(given, mask, f"{words} 24", silent)
    hidden = mask & ~given.visible
    assert (painted[hidden] == (255, 0, 0)).all()
    assert np.array_equal(painted[~hidden], given.image[~hidden])
    with pytest.raises(CrowdGaussianError, match="left 1 PNG"):
        inpainted(given, mask, f"{words} 12", silent)
    with pytest.raises(CrowdGaussianError, match=r"must name \{photo\}, \{mask\} and \{out\}"):
        inpainted(Occluded(given.image, given.visible, 0.5), mask, "true {photo} {out}", silent)


def test_figure_8_by_the_command(people, tmp_path, capsys):
    quick = [part for name in QUICK for part in ("--set", f"avatar.{name}")]
    words = ["evaluate", "degradation", str(people), "-o", str(tmp_path), "--systems", "photo_fit"]
    assert main([*words, "--factors", "8", *quick]) == 0
    report = (tmp_path / "report.md").read_text()
    assert "| photo_fit | photo / 8 | 1 |" in report
    assert (tmp_path / "results.csv").read_text().count("\n") == 2
    sheet = np.asarray(Image.open(tmp_path / "pictures/made_up_000.png"))
    assert sheet.shape == (2 * 214, 7 * 200, 3)  # truth and one row; the photo and six views
    assert main([*words[:-1], "none"]) == 2 and "nothing to evaluate" in capsys.readouterr().err


def test_figure_13_by_the_command(people, subject, tmp_path):
    from crowdgaussian.evaluate.systems import surface_gaussians

    points = load_body("open").posed(subject.person.params).vertices.astype(np.float64)
    grey = surface_gaussians(
        points, np.tile((0.0, 0, 1), (len(points), 1)), np.full((len(points), 3), 0.5), 0.02
    )
    write_splat_ply(tmp_path / "made_up_000_40.ply", grey)
    words = [
        "evaluate",
        "inpainting",
        str(people),
        "-o",
        str(tmp_path / "out"),
        "--occlusion",
        "40",
    ]
    assert main([*words, "--systems", "none", "--import", f"LHM={tmp_path}"]) == 0
    report = (tmp_path / "out/report.md").read_text()
    assert "| LHM | 40 % hidden | 1 |" in report
    assert "| LHM | 40 % hidden, painted by opencv | 1 |" in report
    assert (tmp_path / "out/pictures/made_up_000.png").is_file()
    (tmp_path / "painter.py").write_text(PAINTER)
    own = f"{sys.executable} {tmp_path / 'painter.py'} {{photo}} {{mask}} {{out}} 64"
    imported = ["--systems", "none", "--import", f"LHM={tmp_path}"]
    assert main([*words, *imported, "--inpaint", own]) == 0
    assert "40 % hidden, painted by python" in (tmp_path / "out/report.md").read_text()
