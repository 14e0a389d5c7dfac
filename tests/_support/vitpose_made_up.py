# SPDX-License-Identifier: Apache-2.0
"""ViTPose with random weights as published, and what a perfect one would see in the sample."""

import re

import numpy as np
import torch
from crowdgaussian.people.fit.init import Lengths
from crowdgaussian.people.vitpose import detection_of
from transformers import (
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessorPil,
)


def save_vitpose(folder, keypoints=17, experts=1):
    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=[256, 192],
        patch_size=[16, 16],
        num_experts=experts,
        part_features=8 if experts > 1 else 0,
        out_features=["stage2"],
    )
    model = VitPoseForPoseEstimation(
        VitPoseConfig(backbone_config=backbone, use_simple_decoder=True, num_labels=keypoints)
    )
    model.save_pretrained(folder)
    VitPoseImageProcessorPil().save_pretrained(folder)
    return folder


def publish(model, path, leftovers=True):
    """The network's tensors under the names of ViTPose's own code, as published files hold them."""
    theirs, state = {}, model.state_dict()
    for name, tensor in state.items():
        if ".attention.attention." in name:
            head, part, kind = re.fullmatch(
                r"(.*)\.attention\.attention\.(\w+)\.(\w+)", name
            ).groups()
            if part == "query":
                rest = [state[f"{head}.attention.attention.{p}.{kind}"] for p in ("key", "value")]
                theirs[f"{head}.attn.qkv.{kind}"] = torch.cat([tensor, *rest])
            continue
        theirs[name] = tensor
    for ours, name in (
        ("backbone.embeddings.position_embeddings", "backbone.pos_embed"),
        ("backbone.embeddings.patch_embeddings.projection", "backbone.patch_embed.proj"),
        ("backbone.layernorm", "backbone.last_norm"),
        ("attention.output.dense", "attn.proj"),
        ("encoder.layer", "blocks"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("head.conv", "keypoint_head.final_layer"),
        ("head.deconv1", "keypoint_head.deconv_layers.0"),
        ("head.batchnorm1", "keypoint_head.deconv_layers.1"),
        ("head.deconv2", "keypoint_head.deconv_layers.3"),
        ("head.batchnorm2", "keypoint_head.deconv_layers.4"),
    ):
        theirs = {key.replace(ours, name): value for key, value in theirs.items()}
    if leftovers:
        theirs["associate_keypoint_heads.0.final_layer.weight"] = torch.zeros(3, 2, 1, 1)
        theirs["backbone.blocks.0.mlp.experts.0.weight"] = torch.zeros(2, 2)
    torch.save({"state_dict": theirs}, path)
    return path


def true_people(truth, body):
    """Detections with the sample's true landmarks, those of COCO's 17."""
    viewmat, lengths = truth.camera.viewmat, Lengths.of(body.joint_template.numpy())
    rng, found = np.random.default_rng(3), []
    for person, visible in zip(truth.people, truth.visible):
        with torch.no_grad():
            out = body(
                *(
                    torch.as_tensor(np.asarray(v, np.float32))[None]
                    for v in (person.betas, person.pose, person.transl, person.scale)
                )
            )
            points = body.landmarks(out)[0].numpy()
        flat = (points @ viewmat[:3, :3].T + viewmat[:3, 3]) @ truth.camera.K.T
        xy = flat[:, :2] / flat[:, 2:]
        xy = xy + rng.normal(0, 0.004 * np.ptp(xy[:, 1]), xy.shape)
        confidence = np.full(33, 0.9)
        confidence[[1, 3, 4, 6, 9, 10, *range(17, 23), *range(29, 33)]] = 0
        rows, columns = np.nonzero(visible)
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
        found.append(
            detection_of(xy.astype(np.float32), confidence, box, 0.9, visible.shape, lengths)
        )
    return found
