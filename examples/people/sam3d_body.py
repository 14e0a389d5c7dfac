# SPDX-License-Identifier: Apache-2.0
"""SAM 3D Body as a people command. Run it in SAM 3D Body's own environment, from its folder:

    crowdgaussian reconstruct PHOTO -o OUT --set people.program=sam-3d-body --people-command \\
        "/path/to/sam3d/python /path/to/sam3d_body.py {photo} {out}"

Its weights are gated: https://huggingface.co/facebook/sam-3d-body-dinov3 (SAM License).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

KEEP = (
    "bbox",
    "focal_length",
    "pred_keypoints_3d",
    "pred_keypoints_2d",
    "pred_cam_t",
    "mhr_model_params",
    "shape_params",
)


def main() -> None:
    """Finds everybody in the photo and saves one .npz for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--repository", type=Path, default=Path.cwd(), help="clone of facebookresearch/sam-3d-body"
    )
    parser.add_argument("--model", default="facebook/sam-3d-body-dinov3")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.repository))
    from notebook.utils import setup_sam_3d_body
    from PIL import Image

    photo = np.asarray(Image.open(arguments.photo).convert("RGB"))
    people = setup_sam_3d_body(hf_repo_id=arguments.model).process_one_image(photo)
    if not people:
        raise SystemExit("SAM 3D Body found nobody in the photo.")
    for index, person in enumerate(people):
        arrays = {name: np.asarray(person[name]) for name in KEEP if name in person}
        np.savez(arguments.out / f"person_{index:03d}.npz", **arrays)


if __name__ == "__main__":
    main()
