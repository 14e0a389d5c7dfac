# SPDX-License-Identifier: Apache-2.0
"""The people of the bundled sample as annotators of several data sets would have marked them."""

import json

import numpy as np
from crowdgaussian.evaluate.matching import figures
from crowdgaussian.evaluate.people import PeopleJob, evaluate_people
from crowdgaussian.evaluate.report import LIMB_JOINTS
from crowdgaussian.synthetic.sample import sample_photo
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from pycocotools import mask as rle

FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
COCO_NAMES = (*FACE, *LIMB_JOINTS)
AIC_NAMES = (
    *(f"Right {part}" for part in ("Shoulder", "Elbow", "Wrist")),
    *(f"Left {part}" for part in ("Shoulder", "Elbow", "Wrist")),
    *(f"Right {part}" for part in ("Hip", "Knee", "Ankle")),
    *(f"Left {part}" for part in ("Hip", "Knee", "Ankle")),
    "Head top",
    "Neck",
)
LAYOUTS = {
    "coco": COCO_NAMES,
    "crowdpose": (*LIMB_JOINTS, "head", "neck"),
    "aic": AIC_NAMES,
    "posetrack": ("nose", "head_bottom", "head_top", "left_ear", "right_ear", *LIMB_JOINTS),
}
ROWS = [JOINT_INDEX[name] for name in LIMB_JOINTS]


def outline(mask):
    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def annotation(number, joints, names, mask=None, marks=2, image=7):
    """joints [12, 2] pixels; marks: COCO's v of each."""
    plain = [name.lower().replace(" ", "_") for name in names]
    keypoints = np.zeros((len(names), 3))
    for name, point, mark in zip(LIMB_JOINTS, joints, np.broadcast_to(marks, 12)):
        keypoints[plain.index(name)] = (*point, mark)
    low, high = joints.min(0), joints.max(0)
    entry = {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "bbox": [*low, *(high - low)],
        "iscrowd": 0,
    }
    return entry if mask is None else entry | {"segmentation": outline(mask)}


def document(truth, names=COCO_NAMES, file="sample.jpg"):
    return {
        "images": [
            {
                "id": 7,
                "file_name": file,
                "width": truth.camera.width,
                "height": truth.camera.height,
            }
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(names)}],
        "annotations": [
            annotation(40 + k, person.joints_px[ROWS], names, visible)
            for k, (person, visible) in enumerate(zip(truth.people, truth.visible))
        ],
    }


def written(folder, content, images=("sample.jpg",)):
    """A data set's file and its folder of photos."""
    (folder / "photos").mkdir(exist_ok=True)
    for name in images:
        (folder / "photos" / name).write_bytes(sample_photo().read_bytes())
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "data.json").write_text(text)
    return folder / "data.json", folder / "photos"


def evaluated(folder, content, found, **more):
    """The figures of a finder that always finds the same."""
    job = PeopleJob(*written(folder, content), folder / "out", **more)
    return evaluate_people(job, find=lambda photo, report: found)


def everybody(report):
    return figures(report.photos)["all"]
