# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian train lorm and train occlusion; a training is in evaluate/test_paper_walk.py."""

import numpy as np
import pytest
from _support.lorm_training_people import write_people
from crowdgaussian.body import load_body
from crowdgaussian.cli.main import main
from crowdgaussian.lorm.training.dataset import read_names
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), load_body("open"), 1)


def test_a_bad_setting_is_one_sentence(data, tmp_path, capsys):
    listed = tmp_path / "names.txt"
    listed.write_text("\n")
    with pytest.raises(CrowdGaussianError, match="names nobody"):
        read_names(listed)
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        read_names(tmp_path / "none.txt")
    code = main(["train", "lorm", str(data), "-o", str(tmp_path), "--views-per-step", "30"])
    assert code == 2 and "24 views" in capsys.readouterr().err


def test_train_occlusion_draws_the_stages(data, tmp_path, capsys):
    person, out = data / "person_0", tmp_path / "stages.png"
    code = main(
        [
            "train",
            "occlusion",
            str(person / "image.png"),
            str(person / "mask.png"),
            "-o",
            str(out),
            "--rows",
            "2",
        ]
    )
    assert code == 0 and np.asarray(Image.open(out)).shape == (2 * (96 + 24), 8 * 96, 3)
    blank = tmp_path / "blank.png"
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(blank)
    code = main(["train", "occlusion", str(person / "image.png"), str(blank), "-o", str(out)])
    assert code == 2 and "mask is empty" in capsys.readouterr().err
