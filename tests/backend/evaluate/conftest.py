# SPDX-License-Identifier: Apache-2.0
"""The bundled sample's truth, and the bodies that stages would hand on if they were perfect."""

import numpy as np
import pytest
from crowdgaussian.body import load_body
from crowdgaussian.evaluate.people import found_people
from crowdgaussian.people.types import Crowd, person_from_parameters
from crowdgaussian.segment.types import CrowdView, PersonMask
from crowdgaussian.synthetic.sample import load_ground_truth, sample_photo
from PIL import Image


@pytest.fixture(scope="module")
def truth():
    return load_ground_truth()


@pytest.fixture(scope="module")
def perfect(truth):
    """The true bodies with the true masks, as the stages would hand them on."""
    masks = [
        PersonMask(visible, amodal, 0.0)
        for visible, amodal in zip(truth.visible, truth.amodal, strict=True)
    ]
    people = tuple(
        person_from_parameters(person.params, visible)
        for person, visible in zip(truth.people, truth.visible, strict=True)
    )
    crowd = Crowd(people, truth.camera, "option", (True,) * len(people))
    photo = np.asarray(Image.open(sample_photo()))
    return found_people(load_body("open"), CrowdView(photo, crowd, masks))
