# SPDX-License-Identifier: Apache-2.0
"""PromptHMR as a people command. Run it in PromptHMR's own environment, from its folder:

    crowdgaussian reconstruct PHOTO -o OUT --set people.program=prompthmr --people-command \\
        "/path/to/phmr/python /path/to/prompthmr.py {photo} {out}"

PromptHMR and SMPL-X are for non-commercial research only. It needs a CUDA device.
"""

import argparse
import os
import sys
from pathlib import Path

KEEP = ("betas", "transl", "rotmat", "body_joints", "cam_int")


def main() -> None:
    """Finds everybody in the photo and saves output.pt as its own demo does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path.cwd(),
        help="clone of yufu-wang/PromptHMR with its data folder",
    )
    parser.add_argument("--confidence", type=float, default=0.3, help="of detected boxes")
    arguments = parser.parse_args()
    photo, out = arguments.photo.resolve(), arguments.out.resolve()
    os.chdir(arguments.repository)
    sys.path.insert(0, str(arguments.repository))
    import cv2
    import torch
    from prompt_hmr import load_model_from_folder
    from prompt_hmr.models.inference import prepare_batch
    from ultralytics import YOLO

    found = YOLO("data/pretrain/yolov8x.pt")(str(photo), conf=arguments.confidence, classes=0)
    boxes = found[0].boxes.data.cpu()
    if not len(boxes):
        raise SystemExit("PromptHMR's detector found nobody in the photo.")
    picture = cv2.imread(str(photo))[:, :, ::-1]
    with torch.no_grad(), torch.amp.autocast("cuda"):
        batch = prepare_batch(
            [{"image_cv": picture, "boxes": boxes, "text": None, "masks": None}],
            img_size=896,
            interaction=False,
        )
        output = load_model_from_folder("data/pretrain/phmr")(batch, use_mean_hands=True)[0]
    torch.save({name: output[name].detach().float().cpu() for name in KEEP}, out / "output.pt")


if __name__ == "__main__":
    main()
