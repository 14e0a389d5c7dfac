# SPDX-License-Identifier: Apache-2.0
"""A made-up person in the files of HuGe100K, in their real sizes and layouts."""

import importlib
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from crowdgaussian.synthetic.people import on_white, render_rgba
from crowdgaussian.synthetic.scenes import painted_actor
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.camera import Camera
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
converter = importlib.import_module("huge100k_to_npz")

NAME = "Algeria_female_average_high fashion_50~60 years old_844"
WIDTH, HEIGHT, FRAMES, FRONTAL, SIDE = 640, 896, 24, 19, 0
ARMS = slice(7 + 15 * 3, 7 + 17 * 3)  # both shoulders, among the 189 numbers
LENS = np.array([1120.0, 1120, 320, 448])


def orbit(middle=(0.0, 0.0, 0.0)):
    """World to camera of 24 frames; the first stands 75 degrees to the side, frame 19 in front."""
    viewmats = np.tile(np.eye(4), (FRAMES, 1, 1))
    for index, viewmat in enumerate(viewmats):
        angle = np.radians(75 + 15 * index)
        towards = np.array([np.sin(angle), 0, np.cos(angle)])
        rows = np.stack([np.cross([0, -1.0, 0], -towards), [0, -1.0, 0], -towards])
        viewmat[:3, :3], viewmat[:3, 3] = rows, -rows @ (middle + 2.8 * towards)
    return viewmats


def camera_of(viewmat):
    return Camera(np.array([[1120, 0, 320], [0, 1120, 448], [0, 0, 1.0]]), viewmat, WIDTH, HEIGHT)


def write_person(folder, frames, viewmats, numbers, name=NAME):
    """The files of one person as published: a video, its cameras, and a picture in another pose."""
    batch = folder / "flux_batch1" / "images0"
    for part in ("videos", "param"):
        (batch / part).mkdir(parents=True, exist_ok=True)
    kind = cv2.VideoWriter_fourcc(*"mp4v")
    size = (frames[0].shape[1], frames[0].shape[0])
    video = cv2.VideoWriter(str(batch / "videos" / f"{name}.mp4"), kind, 8, size)
    for frame in frames:
        video.write(np.ascontiguousarray(frame[..., ::-1]))
    video.release()
    other = np.full((1072, 768, 3), 250, np.uint8)
    other[60:1000, 340:430] = 90
    Image.fromarray(other).save(batch / "videos" / f"{name}.jpg")
    poses = [
        [torch.from_numpy(viewmat).float(), torch.from_numpy(LENS).float()] for viewmat in viewmats
    ]
    about = {"smpl_params": torch.from_numpy(numbers[None]).float(), "poses": poses}
    path = batch / "param" / f"{name}.npy"
    np.save(path, about, allow_pickle=True)
    converter.convert(path)
    return path


def seen_person(body):
    """A person in an A-pose: frames 0 and 19 of a video, the others white; its cameras, numbers."""
    numbers = np.zeros(189)
    numbers[ARMS] = [0, 0, -0.8, 0, 0, 0.8]
    pose = np.zeros((55, 3), np.float32)
    pose[[16, 17], 2] = -0.8, 0.8
    params = BodyParams(np.zeros(body.num_betas, np.float32), pose, np.zeros(3, np.float32))
    actor = painted_actor(body, params, np.random.default_rng(3), unlit=False)
    viewmats = orbit((actor.vertices.min(0) + actor.vertices.max(0)) / 2)
    frames = [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * FRAMES
    for index in (SIDE, FRONTAL):
        view = camera_of(viewmats[index])
        picture = render_rgba(actor.vertices, actor.faces, actor.face_colours, view)
        frames[index] = on_white(picture)
    return frames, viewmats, numbers
