# SPDX-License-Identifier: Apache-2.0
"""scripts/motion_to_npz.py: SMPL motions out of pickles, and nothing else out of them."""

import importlib
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.motion.read import read_motion

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))
converter = importlib.import_module("motion_to_npz")
RNG = np.random.default_rng(0)
POSES = RNG.normal(0, 0.1, (9, 72)).astype(np.float32)
PLACES = RNG.normal(0, 0.1, (9, 3)).astype(np.float32)


def saved(path, content):
    if path.suffix == ".pt":
        torch.save(content, path)
    elif path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    return path


PARTS = {"global_orient": POSES[:, :3], "body_pose": POSES[:, 3:66], "transl": PLACES}
LAYOUTS = {
    "aist.pkl": {
        "smpl_poses": POSES,
        "smpl_trans": PLACES * 92.0,
        "smpl_scaling": np.array([92.0]),
        "smpl_loss": 0.5,
    },
    "gvhmr.pt": {
        "smpl_params_global": {k: torch.from_numpy(v) for k, v in PARTS.items()},
        "K_fullimg": torch.eye(3),
    },
    "romp.npz": {"results": np.array({"poses": POSES, "trans": PLACES}, object)},
    "saved.npy": {"poses": POSES, "trans": PLACES, "gender": np.array("female")},
    "../3dpw.pkl": {"poses": [POSES[::-1], POSES], "trans": [PLACES[::-1], PLACES]},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_motions_come_out_as_they_are(name, tmp_path):
    path = saved(tmp_path / Path(name).name, LAYOUTS[name])
    with pytest.raises(InputError):
        read_motion(path)
    out = converter.convert(path, fps=60)[-1]
    motion = read_motion(out)
    assert motion.fps == 60 and motion.frames == 9
    with np.load(out, allow_pickle=False) as arrays:
        places = next(arrays[key] for key in arrays if "trans" in key)
    np.testing.assert_allclose(places, PLACES, atol=1e-6)
    np.testing.assert_allclose(motion.poses[:, 1:22].reshape(9, -1), POSES[:, 3:66], atol=1e-6)


def test_two_people_are_two_files_and_names_stay_in_the_folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = saved(inside / "two.pkl", LAYOUTS["../3dpw.pkl"])
    assert [out.name for out in converter.convert(path)] == ["two_person0.npz", "two_person1.npz"]
    path = saved(inside / "bad.pkl", {"../../x": {"poses": POSES}, "y": {"poses": POSES}})
    assert {out.parent for out in converter.convert(path)} == {inside}
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("kind", [".pkl", ".npy", ".npz", ".pt"])
def test_a_pickle_never_runs_code(kind, tmp_path):
    made = tmp_path / "made"
    content = {"poses": POSES, "more": Touch(str(made))}
    if kind == ".npz":
        content["more"] = np.array(content["more"], object)
    path = saved(tmp_path / f"bad{kind}", content)
    with pytest.raises(ValueError, match="mkdir|more than tensors"):
        converter.convert(path)
    assert not made.exists()


def test_the_command_names_what_it_wrote_and_what_it_left_out(tmp_path, capsys, monkeypatch):
    good = saved(tmp_path / "good.pkl", LAYOUTS["aist.pkl"])
    bad = saved(tmp_path / "bad.pkl", {"poses": [1, 2]})
    monkeypatch.setattr(sys, "argv", ["motion_to_npz.py", str(good), str(bad), "--fps", "60"])
    assert converter.main() == 1
    said = capsys.readouterr()
    assert said.out == f"{good.with_suffix('.npz')}\n"
    assert said.err == f"{bad} is left out: it holds no arrays\n"
    with pytest.raises(InputError, match=r"motion_to_npz\.py good\.pkl"):
        read_motion(good)
