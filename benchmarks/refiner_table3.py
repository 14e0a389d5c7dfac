# SPDX-License-Identifier: Apache-2.0
"""Table 3 of the paper with the small refiner: SCL on and off, normals on and off.

    python benchmarks/refiner_table3.py OUT [--steps 700] [--scenes 40] [--views 16] [--size 160]

Makes scenes of made-up people, trains four networks from the same start on the same crops, and
measures them on scenes none of them has seen. Goes on where it was stopped.
"""

import argparse
from pathlib import Path

import torch
from crowdgaussian.body import load_body
from crowdgaussian.evaluate.refiner import evaluate_refiners
from crowdgaussian.refiner.actors import made_up_actor
from crowdgaussian.refiner.calibrated import CalibrationConfig
from crowdgaussian.refiner.losses import LossWeights, RefinerLoss
from crowdgaussian.refiner.pairs import PairDataset, ScenesConfig, write_scenes
from crowdgaussian.refiner.small import SmallConfig, SmallRefiner
from crowdgaussian.refiner.small_files import load_small, save_small
from crowdgaussian.refiner.training import RefinerTraining, Trainer

ROWS = {"none": (False, False), "normals": (False, True), "scl": (True, False),
        "scl+normals": (True, True)}


def main() -> None:
    """Everything, from scenes to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    for name, value in (("steps", 700), ("scenes", 40), ("views", 16), ("size", 160),
                        ("batch", 4), ("crop", 112)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    body, scenes = load_body("open"), arguments.out / "scenes"
    write_scenes(scenes, ScenesConfig(arguments.scenes, arguments.views, arguments.size, most=4),
                 lambda rng: made_up_actor(body, rng))
    for row in arguments.rows:
        train_row(row, arguments)
    files = {row: arguments.out / f"{row}.safetensors" for row in ROWS}
    if all(path.is_file() for path in files.values()):
        report = evaluate_refiners(PairDataset(scenes, "test"), arguments.out / "table3",
                                   {row: load_small(path) for row, path in files.items()})
        print(report)


def train_row(row: str, arguments: argparse.Namespace) -> None:
    """One network, to OUT/ROW.safetensors."""
    path, (calibrated, normals) = arguments.out / f"{row}.safetensors", ROWS[row]
    if path.is_file():
        return
    losses = LossWeights().without_vgg()
    config = RefinerTraining(
        arguments.steps, arguments.batch, arguments.crop, losses=losses,
        save_every=100, sample_every=200,
        calibration=CalibrationConfig() if calibrated else CalibrationConfig(0.0))
    torch.manual_seed(0)
    network = SmallRefiner(SmallConfig(normals=normals))
    data = PairDataset(arguments.out / "scenes", "train")
    Trainer(network, data, arguments.out / row, config, RefinerLoss(losses)).run()
    save_small(network, path, {
        "licence": "Apache-2.0", "data": "crowds of made-up people (crowdgaussian data "
        "crowd-scenes)", "steps": str(arguments.steps), "perceptual losses": "none (no VGG16)",
        "self-calibrated learning": str(calibrated), "normals": str(normals)})


if __name__ == "__main__":
    main()
