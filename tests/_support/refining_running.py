# SPDX-License-Identifier: Apache-2.0
"""Jobs with refinement by a tiny network of random weights, and what is in their folders."""

from dataclasses import replace

import torch
from crowdgaussian.pipeline import stages
from crowdgaussian.pipeline.config import Config, with_setting
from crowdgaussian.pipeline.reconstruct import Job, reconstruct
from crowdgaussian.refiner.networks.small_unet import SmallConfig, SmallRefiner, save_small
from crowdgaussian_shared.errors import Cancelled
from crowdgaussian_shared.scene.folder import SceneFolder

from _support.stand_ins import Script, write_photo

SETTINGS = {
    "stages.refiner": "small",
    "refine.reach": 0.5,
    "refine.photo_px": 32,
    "refine.distil.views": 2,
    "refine.distil.size": 32,
    "refine.distil.rounds": 1,
    "refine.distil.steps": 3,
}


def write_weights(path):
    """A tiny refiner that changes pictures at random."""
    torch.manual_seed(0)
    refiner = SmallRefiner(SmallConfig(widths=(4, 8)))
    torch.nn.init.normal_(refiner.out.weight, std=0.05)
    save_small(refiner, path, {"licence": "Apache-2.0"})
    return path


def refining_job(folder, weights):
    """Three people, each a cluster of their own."""
    config = Config()
    for name, value in {**SETTINGS, "refine.weights": weights}.items():
        config = with_setting(config, name, str(value))
    return Job(write_photo(folder / "a.png"), folder / "out", config)


def run(job, script=None, report=lambda step: None, **changes):
    """As reconstruct, with stand-ins for all stages but the refinement."""
    script = script or Script()

    def make(config):
        made = replace(script.stages(config), refiner=stages.load_refiner(config))
        return replace(made, **changes)

    return reconstruct(job, report, make)


def plain(job, **changes):
    """The same job without refinement."""
    return replace(job, config=with_setting(job.config, "stages.refiner", "none"), **changes)


def files_of(folder, person):
    place = folder.path / f"people/{person:03d}"
    return {path.name: path.read_bytes() for path in place.iterdir()}


def refinements(folder):
    return [person.refinement for person in SceneFolder.open(folder.path).info.people]


def cancel_in_cluster(number):
    def report(step):
        if step.stage == "refine" and step.message.startswith(f"group {number} "):
            raise Cancelled

    return report
