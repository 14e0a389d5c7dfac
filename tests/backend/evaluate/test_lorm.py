# SPDX-License-Identifier: Apache-2.0
"""`crowdgaussian evaluate`: from a data set to tables, numbers and pictures."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from _support.lorm_small import small_lorm_settings
from _support.vgg_made_up import TAPS, VGG16, write_vgg
from crowdgaussian.body import load_body
from crowdgaussian.cli.main import main
from crowdgaussian.core import metrics as lpips
from crowdgaussian.core.metrics import load_lpips, masked_psnr
from crowdgaussian.evaluate.lorm import rectangles
from crowdgaussian.evaluate.report import Views, render_views, score
from crowdgaussian.evaluate.subjects import read_subjects
from crowdgaussian.evaluate.systems import surface_gaussians
from crowdgaussian.splat import Splats
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.splat_ply import write_splat_ply
from PIL import Image

QUICK = [
    f"avatar.{name}={value}"
    for name, value in {
        "gaussians": 2000,
        "colour_steps": 3,
        "pose_steps": 1,
        "contour_steps": 1,
        "max_crop_px": 120,
    }.items()
]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    assert main(["data", "people", str(folder), "--count", "1", "--size", "64"]) == 0
    return folder


@pytest.fixture
def subject(people):
    return read_subjects(people)[0]


def run(*arguments):
    return main(["evaluate", "lorm", *map(str, arguments)])


def rows(folder):
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_made_up_people_have_what_a_data_set_needs(subject):
    colour, mask = subject.truth
    assert colour.shape == (24, 64, 64, 3) and mask.shape == (24, 64, 64)
    assert len(subject.cameras) == 24 and subject.photo.shape == (128, 128, 3)
    share = mask.float().mean((1, 2))
    assert (share > 0.03).all() and (share < 0.4).all()
    assert (colour[~mask].min(-1).values > 0.4).all()  # white, but for soft edges
    # The first view has the input's camera at half its size.
    small = np.asarray(Image.fromarray(subject.photo).resize((64, 64), Image.Resampling.BOX))
    assert np.abs(small / 255 - colour[0].numpy()).mean() < 0.01


def test_equal_views_score_perfectly_and_worse_ones_worse(subject):
    colour, mask = subject.truth
    best = score(Views(colour, mask.float()), colour, mask, None)
    assert best["psnr"] == pytest.approx(100) and best["ssim"] == pytest.approx(1)
    assert best["holes"] == 0 and "lpips" not in best
    worse = torch.where(mask[..., None], colour + 0.1, colour)
    alpha = mask.float()
    alpha[:, :32] = 0
    values = score(Views(worse, alpha), colour, mask, None)
    assert values["masked_psnr"] == pytest.approx(20, abs=0.01)
    fraction = mask.float().mean((1, 2))
    assert values["psnr"] == pytest.approx(float((20 - 10 * fraction.log10()).mean()), abs=0.01)
    assert 20 < values["holes"] < 80


@pytest.fixture
def files(tmp_path):
    """Settings that name a small network with adapters that change it."""
    return small_lorm_settings(tmp_path)


def grey_person(subject, colour=0.5):
    """Flat splats on the body's skin, all turned to the front."""
    points = load_body("open").posed(subject.person.params).vertices.astype(np.float64)
    normals = np.tile((0.0, 0, 1), (len(points), 1))
    return surface_gaussians(points, normals, np.full((len(points), 3), colour), 0.02)


def test_lorm_lhm_photo_fit_and_imported_results_in_one_table(
    tmp_path, people, subject, files, capsys, monkeypatch
):
    """The whole command with a small checkpoint; LHM and LORM differ by the adapters alone."""
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path / "none"))
    (tmp_path / "other").mkdir()
    write_splat_ply(tmp_path / "other/made_up_000_40.ply", grey_person(subject))
    changes = [part for change in files + QUICK for part in ("--set", change)]

    other = ("--import", f"OTHER={tmp_path / 'other'}:y,z")
    options = ("-o", tmp_path / "out", "--occlusion", 40)
    assert run(people, *options, *other, *changes) == 0

    found = {row["system"]: row for row in rows(tmp_path / "out")}
    assert list(found) == ["LHM", "LORM", "photo_fit", "OTHER"]
    assert not any(row["error"] for row in found.values())
    numbers = {name: float(row["masked_psnr"]) for name, row in found.items()}
    assert numbers["LHM"] != numbers["LORM"]
    assert numbers["photo_fit"] > max(numbers["LHM"], numbers["LORM"]) + 1
    assert all(row["lpips"] == "" for row in found.values())
    report = (tmp_path / "out/report.md").read_text()
    assert report in capsys.readouterr().out
    assert "| LORM | 1 |" in report and "LPIPS is not available" in report
    assert "OTHER: imported; after alignment" in report
    with Image.open(tmp_path / "out/pictures/made_up_000_40.png") as sheet:
        assert sheet.height == 5 * 214 and sheet.width > 1000


def test_the_same_pixels_are_hidden_every_time(tmp_path, people, subject):
    for name in ("a", "b"):
        assert (
            main(
                [
                    "evaluate",
                    "inputs",
                    str(people),
                    "-o",
                    str(tmp_path / name),
                    "--occlusion",
                    "0",
                    "20",
                    "60",
                ]
            )
            == 0
        )
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    person = subject.mask.sum()
    for percent in (0, 20, 60):
        mask = np.asarray(Image.open(tmp_path / f"a/made_up_000_{percent:02d}_mask.png")) > 0
        image = np.asarray(Image.open(tmp_path / f"a/made_up_000_{percent:02d}.png"))
        assert mask.sum() / person == pytest.approx(1 - percent / 100, abs=0.01)
        assert (image[~mask] == 255).all()  # not even a soft edge tells what is hidden


def test_random_masks_and_rectangles_are_the_same_for_everybody(tmp_path, people, subject):
    ways = ["--occlusion", "random", "rectangles"]
    for name in ("a", "b"):
        assert main(["evaluate", "inputs", str(people), "-o", str(tmp_path / name), *ways]) == 0
    hidden = {}
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
        if file.stem.endswith("_mask"):
            hidden[file.stem.split("_")[-2]] = subject.mask & (np.asarray(Image.open(file)) == 0)
    assert set(hidden) == {"random", "rectangles"}
    for each in hidden.values():
        assert 0.02 < each.sum() / subject.mask.sum() <= 0.7
    assert (hidden["random"] != hidden["rectangles"]).any()


def test_rectangles_are_boxes_and_leave_three_tenths():
    mask = np.zeros((90, 70), bool)
    mask[5:85, 10:60] = True
    shares = []
    for seed in range(30):
        hidden = rectangles(mask, np.random.default_rng(seed))
        assert len(np.unique(hidden, axis=0)) <= 7 and len(np.unique(hidden, axis=1).T) <= 7
        shares.append((hidden & mask).sum() / mask.sum())
    assert max(shares) <= 0.7 and min(shares) > 0 and np.ptp(shares) > 0.3


def test_rendering_is_what_the_numbers_are_of(subject):
    """Splats at the person's place are closer to the truth than nothing."""
    colour, mask = subject.truth
    views = render_views(Splats.from_gaussians(grey_person(subject)), subject.cameras)
    empty = torch.ones_like(colour)
    better = masked_psnr(views.colour, colour, mask) > masked_psnr(empty, colour, mask)
    assert better.all() and score(views, colour, mask, None)["holes"] < 5


def test_lpips_only_from_the_published_files(tmp_path):
    (tmp_path / "vgg.pth").write_bytes(b"another network")
    model, reason = load_lpips(None, None)
    assert model is None and "crowdgaussian weights fetch vgg16" in reason
    model, reason = load_lpips(tmp_path / "vgg.pth", tmp_path / "vgg.pth")
    assert model is None and "is not the published file" in reason


def plain_lpips(a, b, network, heads):
    """The published steps one after the other, for one pair [H, W, 3]."""

    def features(image):
        shift, scale = (
            torch.tensor(v)[:, None, None]
            for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
        )
        x, taken = ((2 * image.movedim(-1, 0) - 1 - shift) / scale)[None], []
        for place in VGG16:
            x = torch.nn.functional.max_pool2d(x, 2) if place in (5, 10, 17, 24) else x
            weight, bias = (network[f"features.{place}.{part}"] for part in ("weight", "bias"))
            x = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu()
            if place in TAPS:
                taken.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return taken

    return sum(
        torch.nn.functional.conv2d((x - y) ** 2, heads[f"lin{k}.model.1.weight"]).mean()
        for k, (x, y) in enumerate(zip(features(a), features(b), strict=True))
    )


def test_lpips_is_what_was_published(tmp_path, monkeypatch):
    """With random weights under torchvision's names, and the check of the files switched off."""
    network, heads = write_vgg(tmp_path)
    for digest in ("BACKBONE_SHA256", "HEADS_SHA256"):
        monkeypatch.setattr(lpips, digest, "")
    model, reason = load_lpips(tmp_path / "vgg16.pth", tmp_path / "vgg.pth")
    assert reason == ""
    a, b = torch.rand(2, 2, 32, 32, 3)
    wanted = [plain_lpips(x, y, network, heads) for x, y in zip(a, b, strict=True)]
    assert torch.allclose(model(a, b), torch.stack(wanted), rtol=1e-4)
    assert torch.equal(model(a, a), torch.zeros(2)) and (model(a, b) > 0).all()


def test_bad_input_is_one_sentence(tmp_path, people, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(people, broken)
    about = json.loads((broken / "made_up_000/person.json").read_text())
    about["pose"][3][0] = float("nan")
    (broken / "made_up_000/person.json").write_text(json.dumps(about))
    missing = tmp_path / "missing"
    shutil.copytree(people, missing)
    (missing / "made_up_000/views/007.png").unlink()
    (tmp_path / "empty").mkdir()
    out = ("-o", tmp_path / "out", "--systems", "photo_fit")
    cases = [
        ((tmp_path / "empty", *out), "is no data set"),
        ((broken, *out), "pose must be (55, 3) finite numbers"),
        ((missing, *out, *(p for q in QUICK for p in ("--set", q))), "views/007.png"),
        ((people, *out, "--people", "ann"), "no person named ann"),
        ((people, *out, "--occlusion", "80"), "80 % cannot be hidden"),
        ((people, *out, "--import", "X"), "NAME=FOLDER"),
        ((people, *out, "--import", f"X={tmp_path}"), "has no result made_up_000_20"),
        ((people, "-o", tmp_path / "out", "--systems", "lgm"), "no system 'lgm'"),
        ((people, "-o", tmp_path / "out", "--systems", "lgm+refiner"), "no system 'lgm+refiner'"),
        (
            (people, *out, "--systems", "photo_fit+refiner", "--set", "stages.refiner=none"),
            "refiner",
        ),
        ((people, *out, "--occlusion", "some"), "some % cannot be hidden"),
        ((people, "-o", tmp_path / "out", "--systems", "none"), "nothing to evaluate"),
        ((people, "-o", tmp_path / "out", "--systems", "lorm"), "set lorm.adapters"),
    ]
    for arguments, words in cases:
        assert run(*arguments) == 2, words
        sentence = capsys.readouterr().err.strip()
        assert words in sentence and "\n" not in sentence
    assert not (tmp_path / "out/report.md").exists()


def test_views_of_another_size_are_refused(tmp_path, people):
    folder = tmp_path / "other"
    shutil.copytree(people, folder)
    Image.new("RGBA", (65, 64)).save(folder / "made_up_000/views/003.png")
    with pytest.raises(CrowdGaussianError, match="003.png is 65 x 64 pixels where 64 x 64"):
        _ = read_subjects(folder)[0].truth
