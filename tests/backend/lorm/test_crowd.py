# SPDX-License-Identifier: Apache-2.0
"""The stage "lorm" on a made-up crowd with a tiny network of random weights."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _support.avatar_scene import PaintedScene, crowd_of, masks_of, paint
from _support.lorm_small import write_small_lorm
from crowdgaussian.body import load_body
from crowdgaussian.core.device import choose_device
from crowdgaussian.core.progress import silent
from crowdgaussian.lorm import stage as lorm_stage
from crowdgaussian.lorm.checkpoint import load_configured
from crowdgaussian.lorm.model.config import LormConfig
from crowdgaussian.lorm.model.encoders import PatchEncoder
from crowdgaussian.lorm.model.lorm import LormModel
from crowdgaussian.lorm.model.query_points import TemplateMesh, sample_points
from crowdgaussian.lorm.stage import LormReconstructor, people_at_once
from crowdgaussian.lorm.weights import LormStageConfig, used_files
from crowdgaussian.people.types import Crowd
from crowdgaussian.pipeline.config import Config, configured
from crowdgaussian.pipeline.reconstruct import Job, reconstruct
from crowdgaussian.pipeline.stages import Stages, load_refiner, load_stage
from crowdgaussian.refiner.networks.small_unet import SmallConfig, SmallRefiner, save_small
from crowdgaussian.segment.types import CrowdView, PersonMask
from crowdgaussian.splat import Cameras, Splats, rasterize
from crowdgaussian.synthetic.photo import rebuilt
from crowdgaussian.synthetic.scenes import compose, made_up_actor
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.skinning import joint_transforms, pose_avatar, skin
from crowdgaussian_shared.scene.folder import SceneFolder
from PIL import Image


@pytest.fixture(scope="module")
def body():
    return load_body("open")


@pytest.fixture(scope="module")
def model(body):
    torch.manual_seed(0)
    config = LormConfig.tiny(num_points=800, width=32, num_betas=body.num_betas, cond_dim=64)
    points = sample_points(TemplateMesh.from_body(body), 800)
    return LormModel(config, points, PatchEncoder((80, 48), 8, 64, depth=1))


@pytest.fixture(scope="module")
def files(body, tmp_path_factory) -> LormStageConfig:
    """A checkpoint, its points and its body encoder on disk."""
    return write_small_lorm(tmp_path_factory.mktemp("lhm"), body)


@pytest.fixture(scope="module")
def scene(body) -> PaintedScene:
    return paint(body, 120, 160)


@pytest.fixture
def three(scene):
    """The same person three times, the second one half hidden by the third, as a crowd."""
    crowd, (mask,) = crowd_of(scene), masks_of(scene)
    hidden = mask.visible.copy()
    hidden[80:] = False
    masks = [mask, PersonMask(hidden, mask.visible, 0.5), mask]
    return Crowd(crowd.people * 3, crowd.camera, "default", (True, False, True)), masks


class Counting(torch.nn.Module):
    """A model that remembers how many people came at once."""

    def __init__(self, model):
        super().__init__()
        self.model, self.sizes, self.limit = model, [], 99

    def __getattr__(self, name):
        inner = super().__getattr__("model")
        return inner if name == "model" else getattr(inner, name)

    def forward(self, bodies, heads):
        if len(bodies) > self.limit:
            raise torch.OutOfMemoryError("too many")
        self.sizes.append(len(bodies))
        return self.model(bodies, heads)


def test_everybody_goes_through_together_and_comes_out_alone(model, body, scene, three):
    crowd, masks = three
    counting = Counting(model)
    stage = LormReconstructor(LormStageConfig(batch=3, device="cpu"), body, counting)
    assert stage.body_name == "open"
    view = CrowdView(scene.photo, crowd, masks)
    together = [outcome.result() for outcome in stage.reconstruct(view, [0, 1, 2], silent)]
    assert counting.sizes == [3]
    alone = LormReconstructor(LormStageConfig(batch=1, device="cpu"), body, model)
    for index, avatar in enumerate(together):
        single = next(alone.reconstruct(view, [index], silent)).result()
        assert np.allclose(single.gaussians.sh, avatar.gaussians.sh, atol=1e-5)
        assert np.allclose(single.gaussians.means, avatar.gaussians.means, atol=1e-5)
    assert np.array_equal(together[0].gaussians.sh, together[2].gaussians.sh)
    assert not np.allclose(together[0].gaussians.sh, together[1].gaussians.sh, atol=1e-4)


def test_people_of_a_training_scene_are_rebuilt_together(model, body):
    scene = compose(lambda rng: made_up_actor(body, rng), (2, 2), np.random.default_rng(0))
    counting = Counting(model)
    stage = LormReconstructor(LormStageConfig(batch=3, device="cpu"), body, counting)
    kept, coarse = rebuilt(scene, stage, np.random.default_rng(0), 200)
    assert counting.sizes == [2] and kept.people == scene.people
    for placed, vertices, gaussians in zip(kept.people, coarse.bodies, coarse.gaussians):
        own = placed.points(placed.actor.body_vertices)
        assert np.abs(vertices.mean(0) - own.mean(0)).max() < 0.1
        assert len(gaussians) == 800 and np.isfinite(gaussians.means).all()


def test_too_little_memory_halves_the_batch(model, body, scene, three):
    crowd, masks = three
    counting = Counting(model)
    counting.limit = 1
    stage = LormReconstructor(LormStageConfig(batch=3, device="cpu"), body, counting)
    view = CrowdView(scene.photo, crowd, masks)
    few = [outcome.result() for outcome in stage.reconstruct(view, [1, 2], silent)]
    assert counting.sizes == [1, 1] and [len(avatar.gaussians) for avatar in few] == [800, 800]
    counting.limit = 0
    outcomes = list(stage.reconstruct(view, [0, 1, 2], silent))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    for outcome in outcomes:
        with pytest.raises(
            CrowdGaussianError, match="not enough memory for one person; .*lorm.device=cpu"
        ):
            outcome.result()


def test_one_bad_person_does_not_stop_the_batch(model, body, scene, three):
    crowd, masks = three
    broken = crowd.people[1].with_params(pose=np.full((55, 3), np.nan, np.float32))
    crowd = replace(crowd, people=(crowd.people[0], broken, crowd.people[2]))
    stage = LormReconstructor(LormStageConfig(batch=3, device="cpu"), body, model)
    outcomes = stage.reconstruct(CrowdView(scene.photo, crowd, masks), [0, 1, 2], silent)
    assert len(next(outcomes).result().gaussians) == 800
    with pytest.raises(CrowdGaussianError, match="pose of person 1"):
        next(outcomes).result()
    assert len(next(outcomes).result().gaussians) == 800
    crowd, masks = three
    empty = [masks[0], PersonMask(masks[1].visible & False, masks[1].amodal, 1.0), masks[2]]
    with pytest.raises(CrowdGaussianError, match="mask is empty"):
        next(stage.reconstruct(CrowdView(scene.photo, crowd, empty), [1], silent)).result()


def test_an_error_nobody_thought_of_is_one_persons_alone(model, body, scene, three, monkeypatch):
    crowd, masks = three
    stage = LormReconstructor(LormStageConfig(batch=3, device="cpu"), body, model)
    images = stage.images

    def breaks_at_one(view, index):
        if index == 1:
            raise ZeroDivisionError
        return images(view, index)

    monkeypatch.setattr(stage, "images", breaks_at_one)
    outcomes = stage.reconstruct(CrowdView(scene.photo, crowd, masks), [0, 1, 2], silent)
    assert len(next(outcomes).result().gaussians) == 800
    with pytest.raises(ZeroDivisionError):
        next(outcomes).result()
    assert len(next(outcomes).result().gaussians) == 800


def test_the_batch_grows_with_the_memory_of_the_gpu(monkeypatch):
    gpu, config = torch.device("cuda"), LormConfig()
    found = []
    for gib in (4, 24, 80, 4000):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, g=gib: (g << 30, g << 30))
        found.append(people_at_once(config, gpu))
    assert found[0] == 1 and 1 < found[1] < found[2] <= found[3] <= 16
    assert people_at_once(config, torch.device("cpu")) == 1


def test_the_avatar_stands_where_the_person_stood(model, body, scene, three):
    """Gaussians of an untrained network lie on the template; posed, they lie on the person."""
    crowd, masks = three
    stage = LormReconstructor(LormStageConfig(device="cpu"), body, model)
    view = CrowdView(scene.photo, crowd, masks)
    avatar = next(stage.reconstruct(view, [0], silent)).result()
    assert avatar.skin_weights.shape == (800, 4)
    assert np.allclose(avatar.skin_weights.sum(1), 1, atol=1e-5)
    assert np.allclose(avatar.pose, crowd.people[0].pose)
    solid = pose_avatar(
        replace(
            avatar,
            gaussians=replace(
                avatar.gaussians,
                opacities=np.full(800, 0.99, np.float32),
                scales=np.full((800, 3), 0.02, np.float32),
            ),
        )
    )
    alpha = rasterize(Splats.from_gaussians(solid), Cameras.from_cameras(scene.camera)).alpha[0]
    drawn = alpha.numpy() > 0.5
    assert (drawn & scene.mask).sum() / (drawn | scene.mask).sum() > 0.75


def another_mesh(body, scale=1.07, shift=0.3):
    """The open body as another model would have it: larger, elsewhere, other betas."""
    mesh = TemplateMesh.from_body(body)
    return replace(
        mesh,
        vertices=mesh.vertices * scale + shift,
        joints=mesh.joints * scale + shift,
        joint_dirs=-mesh.joint_dirs[..., :4] * scale,
        shape_dirs=-mesh.shape_dirs[..., :4] * scale,
    )


def test_betas_of_another_body_are_fitted_to_the_joints(body):
    mesh = another_mesh(body)
    betas = torch.zeros(body.num_betas)
    betas[:3] = torch.tensor([0.9, -0.6, 0.4])
    wanted = body.rest(betas[None])[1][0]
    own, scale = lorm_stage.fit_rest_joints(mesh, wanted)
    joints = (mesh.joints + mesh.joint_dirs @ own) * scale
    apart = (joints - joints.mean(0)) - (wanted - wanted.mean(0))
    assert apart[:22].norm(dim=-1).max() < 0.01
    assert torch.allclose(own[:3], -betas[:3], atol=0.35)  # size may go to the scale
    assert 0.85 < scale < 1.02


def test_the_pelvis_stays_with_another_body(body, scene):
    (person,) = crowd_of(scene).people
    mesh = another_mesh(body)
    assert lorm_stage.same_body(TemplateMesh.from_body(body), body)
    assert not lorm_stage.same_body(mesh, body)
    shape = lorm_stage.shape_of(mesh, body, person)
    rest = ((mesh.joints + mesh.joint_dirs @ torch.from_numpy(shape.betas)) * shape.scale).numpy()
    own = body.rest(torch.as_tensor(person.betas)[None])[1][0].numpy()
    posed, before = (
        joint_transforms(r, person.pose, t) @ np.append(r[0], 1)
        for r, t in ((rest, shape.transl), (own, person.transl))
    )
    assert np.allclose(posed[0], before[0], atol=1e-4)
    assert shape.error < 0.01


def test_an_avatar_in_another_body_stands_on_the_same_floor(body, scene, three):
    crowd, masks = three
    mesh = another_mesh(body, scale=1.07, shift=0.1)
    config = LormConfig.tiny(num_points=800, width=32, num_betas=4, cond_dim=64)
    network = LormModel(config, sample_points(mesh, 800), PatchEncoder((80, 48), 8, 64, depth=1))
    stage = LormReconstructor(LormStageConfig(device="cpu"), body, network)
    assert stage.body_name == "smplx"
    view = CrowdView(scene.photo, crowd, masks)
    avatar = next(stage.reconstruct(view, [0], silent)).result()
    assert avatar.betas.shape == (4,) and avatar.scale != 1
    transforms = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
    posed = skin(
        avatar.body.vertices, avatar.body.skin_joints, avatar.body.skin_weights, transforms
    )
    before = body.posed(crowd.people[0].params).vertices
    assert abs(posed[:, 1].min() - before[:, 1].min()) < 1e-3
    assert np.abs(posed.mean(0) - before.mean(0)).max() < 0.05
    assert np.abs(np.ptp(posed, axis=0) - np.ptp(before, axis=0)).max() < 0.05


def test_plug_ins_are_off_unless_given(model, body, scene, three):
    class Corner:
        def head(self, photo, expected):
            assert expected.shape[1] == 2
            return np.array([[0.0, 0], [30, 30]])

    class Larger:
        def enlarge(self, heads):
            self.given = heads.shape
            return np.repeat(np.repeat(heads, 4, 1), 4, 2)

    crowd, masks = three
    said, larger = [], Larger()
    settings = LormStageConfig(device="cpu", batch=1)
    plain = LormReconstructor(settings, body, model)
    plugged = LormReconstructor(settings, body, model, Corner(), larger)
    view = CrowdView(scene.photo, crowd, masks)
    heads = [stage.images(view, 0)[1] for stage in (plain, plugged)]
    assert heads[0].shape == heads[1].shape == (112, 112, 3)
    assert not np.array_equal(*heads)
    for stage in (plain, plugged):
        list(stage.reconstruct(view, [0], lambda step: said.append(step.message)))
    assert larger.given == (1, 112, 112, 3)
    assert "LHM on 1, without face super-resolution" in said
    assert "LHM on 1, with face super-resolution" in said


def test_background_of_the_head_but_never_other_people(model, body, scene, three):
    """As published the photo stays around the head; whoever is there beside the person does not."""
    crowd, (mask, *_) = three
    other = np.zeros_like(mask.visible)
    other[:, :60] = ~mask.visible[:, :60]
    photo = scene.photo.copy()
    photo[other] = (255, 0, 0)
    nobody = PersonMask(mask.visible & False, mask.visible, 1.0)
    masks = [mask, PersonMask(other, other, 0.0), nobody]
    heads = [
        LormReconstructor(
            LormStageConfig(device="cpu", photo_behind_head=kept), body, model
        ).images(CrowdView(photo, crowd, masks), 0)[1]
        for kept in (True, False)
    ]
    for head in heads:
        assert not ((head[..., 0] > 0.9) & (head[..., 1] < 0.2)).any()
    white = [(head > 0.99).all(-1).mean() for head in heads]
    assert white[0] < white[1] - 0.1


def test_missing_files_and_devices_are_one_sentence(tmp_path, files, monkeypatch):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path / "none"))
    small = Path(files.weights)
    cases = [
        (
            lambda: used_files(LormStageConfig(weights=str(tmp_path))),
            "model.safetensors .*CC-BY-NC-4.0.* preset 'open'",
        ),
        (lambda: used_files(LormStageConfig(weights="nobody/nothing")), "nobody/nothing"),
        (lambda: used_files(LormStageConfig(weights=str(small))), "weights 'sapiens-1b'"),
        (
            lambda: used_files(replace(files, adapters=str(tmp_path / "no"))),
            "LORM adapters is missing",
        ),
        (lambda: LormReconstructor(LormStageConfig(frame="tight"), None), "lorm.frame"),
        (lambda: choose_device("cuda:77"), "no device 'cuda:77'"),
    ]
    for call, words in cases:
        with pytest.raises(CrowdGaussianError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_same_files_are_loaded_once_and_changed_ones_again(files, tmp_path):
    device = torch.device("cpu")
    first = load_configured(files, device)
    assert load_configured(replace(files, batch=3), device) is first
    os.utime(Path(files.weights) / "model.safetensors")
    assert load_configured(files, device) is not first


class Given:
    """People and masks that are known already."""

    def __init__(self, crowd, masks):
        self.crowd, self.masks = crowd, masks

    def estimate(self, photo, focal_px, report):
        return self.crowd

    def segment(self, photo, crowd, report):
        return self.masks


QUICKLY_REFINED = {
    "stages.avatar": "lorm", "lorm.device": "cpu", "lorm.batch": "2", "stages.refiner": "small",
    "refine.distil.views": "2", "refine.distil.size": "32", "refine.photo_px": "64",
    "refine.distil.rounds": "1", "refine.distil.steps": "2",
}  # fmt: skip


def test_a_photo_becomes_a_scene_folder_with_lorm(tmp_path, body, scene, three, files):
    """The whole pipeline but for finding people; the scene says what it may be used for."""
    save_small(SmallRefiner(SmallConfig(widths=(4, 8))), tmp_path / "tiny.safetensors")
    changes = QUICKLY_REFINED | {"refine.weights": str(tmp_path / "tiny.safetensors")}
    changes |= {f"lorm.{name}": getattr(files, name) for name in ("weights", "sapiens", "points")}
    config = configured("open", changes)
    crowd, masks = three
    given = Given(Crowd(crowd.people[:2], crowd.camera, "default", (True, True)), masks[:2])

    def stages(config: Config) -> Stages:
        return Stages(
            body,
            given,
            given,
            load_stage("avatar", config, body),
            lambda *_: {"iou": 0.5},
            refiner=load_refiner(config),
        )

    Image.fromarray(scene.photo).save(tmp_path / "photo.png")
    reconstruct(Job(tmp_path / "photo.png", tmp_path / "out", config), silent, stages)

    read = SceneFolder.open(tmp_path / "out")
    assert [(person.state, person.error) for person in read.info.people] == [("done", "")] * 2
    avatar = read.read_avatar(1)
    assert [person.refinement for person in read.info.people] == ["refined"] * 2
    assert len(avatar.gaussians) == 400 and avatar.skin_joints.shape == (400, 4)
    assert (tmp_path / "out/people/001/splats.ply").is_file()
    assert not read.info.commercial_use
    used = {model.name: model for model in read.info.models}
    assert {"LHM", "Sapiens-1B", "LHM query points"} <= set(used)
    assert "SMPL-X" in used["LHM"].licence and not used["LHM"].commercial
    assert used["LHM"].file == "model.safetensors" and used["LHM"].blake2b
    assert read.info.body_model == "open"  # the made-up checkpoint's body is the open one
