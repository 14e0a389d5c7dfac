# SPDX-License-Identifier: Apache-2.0
"""Refinement of a crowd: who is refined together, and what comes back into the Gaussians."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.splat_scenes import skin_splats
from crowdgaussian.core.metrics import masked_psnr
from crowdgaussian.core.progress import silent
from crowdgaussian.people.types import Crowd
from crowdgaussian.pipeline.reconstruct import refine_crowd
from crowdgaussian.refiner.distil import cluster_views, find_clusters, keep_tone
from crowdgaussian.refiner.networks.sd_turbo import TurboRefiner
from crowdgaussian.refiner.networks.small_unet import SmallRefiner
from crowdgaussian.refiner.networks.tiling import VIEWS
from crowdgaussian.refiner.stage import CrowdRefinement, photo_anchor
from crowdgaussian.refiner.trainable import movable
from crowdgaussian.refiner.types import DistilConfig, RefineConfig
from crowdgaussian.segment.types import CrowdView, PersonMask
from crowdgaussian.splat.cameras import Cameras
from crowdgaussian.splat.rasterize import rasterize
from crowdgaussian.splat.splats import Splats
from crowdgaussian_shared.errors import Cancelled
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, BodyParams, Gaussians
from crowdgaussian_shared.geometry.axes import scene_viewmat
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skinning import joint_transforms, pose_avatar

SH = 0.28209479
FAST = RefineConfig(photo_px=96, distil=DistilConfig(views=4, size=64, rounds=1, steps=12))
K = np.array([[160.0, 0, 64], [0, 160.0, 64], [0, 0, 1]])
CAMERA = Camera(K, scene_viewmat(1.0), 128, 128)


def line(count, step):
    return np.array([[step * k, 1.0, -5.0] for k in range(count)])


@pytest.mark.parametrize(
    "roots, reach, cap, sizes",
    [
        (line(1, 1.0), 1.5, 4, [1]),
        (np.concatenate([line(2, 1.0), line(2, 1.0) + [50.0, 0, 0]]), 1.5, 4, [2, 2]),
        (line(200, 1.0), 1.5, 4, [4] * 50),
        (line(7, 0.0), 1.5, 4, [3, 4]),
        (line(5, 10.0), 1.5, 4, [1] * 5),
        (np.zeros((0, 3)), 1.5, 4, []),
    ],
)
def test_clusters_are_neighbours_and_never_too_many(roots, reach, cap, sizes):
    clusters = find_clusters(roots, reach, cap)
    assert sorted(len(cluster) for cluster in clusters) == sizes
    assert sorted(index for cluster in clusters for index in cluster) == list(range(len(roots)))
    for cluster in clusters:  # neighbours stay together
        places = np.sort(roots[cluster, 0])
        assert len(cluster) == 1 or np.diff(places).max() <= reach


def column(place, colour, count=600, seed=0):
    """A standing column of Gaussians with a box for a body.  -> Avatar"""
    rng = np.random.default_rng(seed)
    turn, height = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.0, 1.7, count)
    means = np.column_stack([0.2 * np.cos(turn), height, 0.2 * np.sin(turn)])
    x, y, z = np.meshgrid([-0.2, 0.2], [0.0, 1.7], [-0.2, 0.2], indexing="ij")
    box = np.column_stack([x.ravel(), y.ravel(), z.ravel()])
    faces = [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
        [1, 7, 3],
    ]
    weights = np.tile(np.float32([1, 0, 0, 0]), (count, 1))
    body = BodyMesh(
        box.astype(np.float32), np.array(faces, np.int32), np.zeros((8, 4), np.uint8), weights[:8]
    )
    gaussians = Gaussians(
        means.astype(np.float32),
        np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        np.full((count, 3), 0.03, np.float32),
        np.full(count, 0.9, np.float32),
        np.tile((np.float32(colour) - 0.5) / np.float32(SH), (count, 1))[:, None],
    )
    return Avatar(
        gaussians,
        np.zeros((count, 4), np.uint8),
        weights,
        np.zeros((55, 3), np.float32),
        body,
        BodyParams(np.zeros(4, np.float32), np.zeros((55, 3), np.float32), np.float32(place)),
    )


class Somebody:
    """What the stage asks of a person."""


def scene(avatars):
    """The photo of avatars, their crowd and masks."""
    camera, masks = Cameras.from_cameras(CAMERA), []
    clouds = [Splats.from_gaussians(pose_avatar(avatar)) for avatar in avatars]
    everybody = Splats(
        **{
            name: torch.cat([getattr(cloud, name) for cloud in clouds])
            for name in ("means", "opacities", "sh", "quats", "scales")
        }
    )
    render = rasterize(everybody, camera)
    for cloud in clouds:
        seen = rasterize(cloud, camera).alpha[0].numpy() > 0.5
        masks.append(PersonMask(seen, seen, 0.0))
    photo = (render.color[0].clamp(0, 1) * 255).round().byte().numpy()
    crowd = Crowd(tuple(Somebody() for _ in avatars), CAMERA, "default", (True,) * len(avatars))
    return photo, crowd, masks


class Towards:
    """A refiner that knows the truth: it renders the clean people from the same cameras."""

    def __init__(self, clean, views):
        splats = [Splats.from_gaussians(pose_avatar(avatar)) for avatar in clean]
        everybody = Splats(
            **{
                name: torch.cat([getattr(part, name) for part in splats])
                for name in ("means", "opacities", "sh", "quats", "scales")
            }
        )
        grey = torch.full((3,), 0.5)
        self.pictures = rasterize(everybody, views.cameras, grey, config=VIEWS).color
        self.given = 0

    def refine(self, images, normals):
        assert normals.shape == (len(images), 4, *images.shape[2:])
        first, self.given = self.given, self.given + len(images)
        return self.pictures[first : first + len(images)].permute(0, 3, 1, 2)


class Same:
    def refine(self, images, normals):
        return images


def seen_from_behind(avatar, clean):
    """PSNR against the clean avatar from where the photo sees nothing, dB."""
    camera = Cameras.orbit(np.asarray(clean.transl) + [0, 0.85, 0], 4.0, 4, size=64)[2]
    found, true = (
        rasterize(Splats.from_gaussians(pose_avatar(one)), camera) for one in (avatar, clean)
    )
    return float(masked_psnr(found.color.clamp(0, 1), true.color.clamp(0, 1), true.alpha > 0.5))


def run(avatars, refiner, config=FAST, photo_of=None, report=silent):
    photo, crowd, masks = scene(photo_of or avatars)
    stage = CrowdRefinement(config, refiner)
    return list(
        refine_crowd(stage, CrowdView(photo, crowd, masks), dict(enumerate(avatars)), report)
    )


def test_what_the_refiner_knows_comes_into_the_gaussians():
    clean = [column([-0.4, 0, -4.0], [0.8, 0.3, 0.2]), column([0.4, 0, -4.0], [0.2, 0.4, 0.8])]
    rng = np.random.default_rng(1)
    coarse = [
        replace(
            avatar,
            gaussians=replace(
                avatar.gaussians,
                sh=avatar.gaussians.sh
                + rng.normal(0, 0.5, avatar.gaussians.sh.shape).astype(np.float32),
            ),
        )
        for avatar in clean
    ]
    views = cluster_views(coarse, FAST.distil.views, FAST.distil.size, "cpu")
    config = replace(FAST, distil=replace(FAST.distil, steps=60))
    (cluster,) = run(coarse, Towards(clean, views), config, photo_of=clean)
    assert cluster.people == (0, 1) and not cluster.error
    for before, after, true in zip(coarse, cluster.avatars, clean):
        assert seen_from_behind(after, true) > seen_from_behind(before, true) + 0.5
        assert np.abs(after.gaussians.means - before.gaussians.means).max() < 0.03
        assert after.skin_weights is before.skin_weights and after.body is before.body


def test_a_clean_crowd_stays_clean():
    clean = [column([-0.4, 0, -4.0], [0.8, 0.3, 0.2]), column([0.4, 0, -4.0], [0.2, 0.4, 0.8])]
    (cluster,) = run(clean, Same())
    for after, true in zip(cluster.avatars, clean):
        assert seen_from_behind(after, true) > 38.0


@pytest.mark.parametrize(("asked", "seen"), [(0, 48), (32, 32)])
def test_views_have_the_size_a_refiner_was_trained_at_unless_another_is_asked(asked, seen):
    class Notes(Same):
        trained_at, sizes = 48, []

        def refine(self, images, normals):
            self.sizes.append(tuple(images.shape[2:]))
            return images

    config = replace(FAST, distil=replace(FAST.distil, size=asked, steps=1))
    run([column([0.0, 0, -4.0], [0.8, 0.3, 0.2])], Notes(), config)
    assert set(Notes.sizes) == {(seen, seen)}


def test_each_network_says_what_it_was_trained_at():
    assert (SmallRefiner.trained_at, TurboRefiner.trained_at) == (256, 512)
    assert DistilConfig().size == 0  # each its own


def test_tone_is_kept_and_detail_is_taken():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.full((1, 3, 96, 96), 0.4)
    detail = 0.1 * (torch.rand(1, 3, 96, 96, generator=generator) - 0.5)
    kept = keep_tone(coarse, coarse + 0.2 + detail)
    assert abs(float(kept.mean()) - 0.4) < 0.01
    assert float((kept - coarse - detail)[..., 10:-10, 10:-10].abs().mean()) < 0.01


def test_what_fails_stays_as_it_was_and_the_others_go_on():
    broken = column([9.0, 0, -6.0], [0.5, 0.5, 0.5])
    broken.gaussians.means[3] = np.nan
    behind = column([0.0, 0, 4.0], [0.5, 0.5, 0.5])
    good = column([0.0, 0, -4.0], [0.8, 0.3, 0.2])
    photo, crowd, masks = scene([good])
    empty = PersonMask(np.zeros((128, 128), bool), np.zeros((128, 128), bool), 0.0)
    stage = CrowdRefinement(FAST, Same())
    done = {
        cluster.people: cluster
        for cluster in refine_crowd(
            stage,
            CrowdView(photo, replace(crowd, people=crowd.people * 3), [masks[0], empty, empty]),
            {0: good, 1: broken, 2: behind},
            silent,
        )
    }
    assert not done[0,].error and len(done[0,].avatars) == 1
    assert "not finite" in done[1,].error and "behind the photo's camera" in done[2,].error
    assert not done[1,].avatars

    class Wrong:
        def refine(self, images, normals):
            return images[..., ::2]

    (cluster,) = run([good], Wrong())
    assert "another size" in cluster.error

    class Starved:
        def refine(self, images, normals):
            raise torch.OutOfMemoryError("no")

    (cluster,) = run([good], Starved())
    assert "not enough memory" in cluster.error


def test_a_stopped_refinement_stops():
    def stop(step):
        assert step.stage == "refine" and "1 person" in step.message
        raise Cancelled

    with pytest.raises(Cancelled):
        run([column([0.0, 0, -4.0], [0.8, 0.3, 0.2])], Same(), report=stop)


def test_a_slow_refiner_is_stopped_between_views():
    seen = []

    class Slow:
        def refine(self, images, normals):
            seen.append(len(images))
            return images

    def stop(step):
        if seen:
            raise Cancelled

    config = replace(FAST, distil=replace(FAST.distil, views=12))
    with pytest.raises(Cancelled):
        run([column([0.0, 0, -4.0], [0.8, 0.3, 0.2])], Slow(), config, report=stop)
    assert sum(seen) < 12


def test_the_photo_s_crop_shows_the_cluster_where_it_is():
    avatar = column([0.0, 0, -4.0], [0.8, 0.3, 0.2])
    photo, crowd, masks = scene([avatar])
    anchor = photo_anchor(CrowdView(photo, crowd, masks), (0,), 96)
    render = rasterize(Splats.from_gaussians(pose_avatar(avatar)), anchor.camera)
    inside = anchor.weight > 0
    assert inside.any() and float((render.color - anchor.photo).abs()[inside].mean()) < 0.03


def test_the_photo_holds_what_it_shows():
    avatar = column([0.0, 0, -4.0], [0.8, 0.3, 0.2])
    photo, crowd, masks = scene([avatar])
    anchor = photo_anchor(CrowdView(photo, crowd, masks), (0,), 96)
    shown = anchor.shown(
        Splats.from_gaussians(pose_avatar(avatar)), torch.as_tensor(avatar.gaussians.scales)
    ).numpy()
    depth = avatar.gaussians.means[:, 2]  # the photo looks along -z
    front, back = depth > 0.15, depth < -0.1
    assert shown[front].mean() > 0.8 and shown[back].mean() < 0.35

    class Blue:
        def refine(self, images, normals):
            blue = images.new_tensor([0.0, 0.0, 1.0])[:, None, None]
            return torch.where(normals[:, 3:] > 0, blue, images)

    (cluster,) = run([avatar], Blue())
    change = np.abs(cluster.avatars[0].gaussians.sh - avatar.gaussians.sh).mean((1, 2))
    assert change[back].mean() > 3 * change[front].mean()


def test_what_moves_is_posed_as_the_skinning_poses_it():
    avatar = column([0.3, 0, -4.0], [0.8, 0.3, 0.2], count=40)
    rng = np.random.default_rng(2)
    quats = rng.normal(size=(40, 4))
    gaussians = replace(
        avatar.gaussians,
        scales=rng.uniform(0.01, 0.05, (40, 3)).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        sh=rng.normal(0, 0.3, (40, 4, 3)).astype(np.float32),
    )
    avatar = replace(avatar, gaussians=gaussians).with_params(
        pose=rng.normal(0, 0.4, (55, 3)).astype("f4")
    )
    moved = movable([avatar], "cpu")
    transforms = torch.as_tensor(
        joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl), dtype=torch.float32
    )
    given = torch.as_tensor(avatar.skin_joints), torch.as_tensor(avatar.skin_weights), transforms
    pull, found = torch.rand(40, 3, 3), {}
    for way, posed in (("ours", moved.posed()), ("plain", skin_splats(moved.splats(), *given))):
        loss = (posed.covars * pull).sum() + (posed.means * pull[:, 0]).sum()
        found[way] = (
            posed.means,
            posed.covars,
            posed.sh_frames,
            *torch.autograd.grad(loss, [moved.free["means"], moved.free["scales"]]),
        )
    for ours, wanted in zip(found["ours"], found["plain"]):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)
