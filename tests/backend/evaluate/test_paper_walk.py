# SPDX-License-Identifier: Apache-2.0
"""A researcher's walk: the commands of the docs, as typed, on made-up folders in the real layouts.

Placeholders of the docs become small files, and every command gets options that make it quick. A
command that comes into these parts of the docs fails here until it is run or said to be elsewhere.
"""

import csv
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from _support.huge100k_made_up import NAME, converter, seen_person, write_person
from _support.lorm_small import write_small_lorm
from _support.refiner_made_up import write_stable_diffusion
from _support.scans_made_up import BODY, add_person
from crowdgaussian.cli.main import main
from crowdgaussian.synthetic.people import surface_gaussians
from crowdgaussian_shared.formats.splat_ply import write_splat_ply
from safetensors.torch import load_file

DOCS = Path(__file__).resolve().parents[3] / "docs"
# What is installed, fetched, needs several GPUs or ten minutes.
ELSEWHERE = ("pip install", "crowdgaussian weights fetch", "accelerate launch") + (
    "OMP_NUM_THREADS=1 python",
)


def first_part(page):
    """LORM's, up to the next title."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return text[: text.index("\n# ", 1)]


def commands(page):
    """Every command of the sh blocks of a page's first part, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", first_part(page), re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    elsewhere = {tuple(words.split()) for words in ELSEWHERE}
    return [w for w in found if w and not elsewhere & {tuple(w[:2]), tuple(w[:3])}]


TRAINING, EVALUATION = commands("training.md"), commands("evaluation.md")
QUICK = {
    "train lorm": "--iterations 1 --views-per-step 1 --render-size 32 --rank 2 --occlusions 1 "
    "--targets attention+ff --device cpu",
    "data people": "--size 48",
    "data thuman-eval": "--size 48",
    "evaluate inputs": "",
    "evaluate lorm": "--set avatar.gaussians=500 --set avatar.colour_steps=2 --set "
    "avatar.pose_steps=1 --set avatar.contour_steps=1 --set avatar.max_crop_px=100 --set "
    "refine.distil.views=2 --set refine.distil.size=64 --set refine.distil.rounds=1 --set "
    "refine.distil.steps=2 --set lorm.device=cpu",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """HuGe100K and THuman2.1 as published, the files of LHM and SD-Turbo, made up and small."""
    folder = tmp_path_factory.mktemp("walk")
    write_person(folder / "DATA", *seen_person(BODY))
    (folder / "SCANS").mkdir()
    add_person(folder / "SCANS", "0001")
    write_stable_diffusion(folder / "sd")
    (folder / "sd/model_index.json").write_text("{}")
    return folder, write_small_lorm(folder / "lhm", BODY)


def run(place, words):
    """One command of the docs on the small folders; the options that make it quick come last."""
    folder, lhm = place
    made = {
        "1002": "1",
        "4": "1",
        "lorm.adapters=lorm.safetensors": "lorm.adapters="
        f"{folder / 'OUT/lorm_adapters.safetensors'}",
    }
    places = ("DATA", "OUT", "SCANS", "DATASET", "inputs", "table1", "table2", "made-up", "out")
    made |= {name: str(folder / name) for name in places}
    values = [re.sub("=results/", f"={folder}/results/", made.get(w, w)) for w in words[3:]]
    words = [*words[:3], *values]
    kind = " ".join(words[1:3])
    files = {name: getattr(lhm, name) for name in ("weights", "sapiens", "points")}
    more = shlex.split(QUICK[kind])
    if kind == "train lorm":
        more += [part for name, path in files.items() for part in (f"--{name}", path)]
    if kind == "evaluate lorm":
        more += [part for n, path in files.items() for part in ("--set", f"lorm.{n}={path}")]
        turbo = ["--set", f"refine.weights={folder / 'sd'}"]
        more += turbo if "paper" in words else []
        more += [] if "random" in words else ["--occlusion", "60"]
    assert words[0] == "crowdgaussian"
    assert main([*words[1:], *more]) == 0, words


def results_of_others(folder):
    """What IDOL, PSHuman and SyncHuman would leave for the hidden images."""
    scan = trimesh.load(folder / "SCANS/scans/0001/0001.obj", process=False)
    plain = trimesh.Trimesh(scan.vertices, scan.faces, process=False)
    plain.visual = trimesh.visual.ColorVisuals(
        plain, vertex_colors=np.full((len(plain.vertices), 4), 99)
    )
    for name in ("idol", "pshuman", "synchuman"):
        (folder / "results" / name).mkdir(parents=True)
    plain.export(folder / "results/pshuman/0001_random.obj")
    plain.export(folder / "results/synchuman/0001_random.glb")
    points = plain.vertices * (1, -1, -1)  # OpenCV's axes
    splats = surface_gaussians(
        points, np.tile((0.0, 0, -1), (len(points), 1)), np.full((len(points), 3), 0.4), 0.02
    )
    write_splat_ply(folder / "results/idol/0001_random.ply", splats)


def rows(folder):
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_from_huge100k_to_table_1_and_2(place, monkeypatch, capsys):
    folder, _ = place
    monkeypatch.setattr(sys, "argv", ["huge100k_to_npz.py", str(folder / "DATA")])
    assert converter.main() == 0  # `python scripts/huge100k_to_npz.py FOLDER`
    assert [words[1:3] for words in TRAINING] == [["train", "lorm"]]
    (folder / "names.txt").write_text(f"flux_batch1/images0/{NAME}\n")
    for words in TRAINING:
        run(place, [*words, "--list", str(folder / "names.txt")])
    said, trained = capsys.readouterr().out, load_file(folder / "OUT/lorm_adapters.safetensors")
    count = sum(value.numel() for value in trained.values())
    assert f"rank 2 (attention+ff): {count:,} parameters" in said and "research only" in said
    results_of_others(folder)
    assert len(EVALUATION) == 6
    for words in EVALUATION:
        run(place, words)
    table = rows(folder / "table1")
    own = ["LHM", "LORM", "LORM+refiner"]
    assert [row["system"] for row in table] == [*own, "IDOL", "PSHuman", "SyncHuman"]
    assert {row["occlusion"] for row in table} == {"random"}
    (share,) = {row["hidden_percent"] for row in table}  # the same image for every system
    assert 2 < float(share) <= 70
    said = (folder / "table1/report.md").read_text()
    assert "| LORM+refiner | 1 |" in said and "- Refiner: turbo, sd." in said
    assert f"## Occlusion: random, {float(share):.0f} % hidden in the mean" in said
    table += rows(folder / "table2") + rows(folder / "out")
    assert [row["error"] for row in table] == [""] * (6 + 2 + 3)
    assert len({row["masked_psnr"] for row in rows(folder / "out")}) == 3  # each does its part
    assert table[1]["masked_psnr"] != table[2]["masked_psnr"]  # LORM, LORM+refiner
    lhm = [row["masked_psnr"] for row in table if row["system"] == "LHM"]
    assert lhm[0] != lhm[1]  # it looks at the picture, of which another part is hidden
    numbers = [float(row[name]) for row in table for name in ("psnr", "ssim", "masked_psnr")]
    assert np.isfinite(numbers).all()
    assert len(list((folder / "inputs").iterdir())) == 2 * 4
    assert "LPIPS is not available" in capsys.readouterr().out


def test_what_the_walk_would_not_notice_is_noticed():
    """The docs' other commands are known by their first words, and nothing else is passed over."""
    assert all(words in first_part("training.md") for words in ELSEWHERE)
