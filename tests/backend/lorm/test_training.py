# SPDX-License-Identifier: Apache-2.0
"""Training: the loss falls, only adapters change, a stopped training goes on exactly."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from _support.lorm_training_people import quick, very_small, write_people
from crowdgaussian.body import load_body
from crowdgaussian.core.progress import silent
from crowdgaussian.core.training import CHECKPOINT
from crowdgaussian.lorm.model.adapters import adapters_off, load_adapters
from crowdgaussian.lorm.training.dataset import (
    InputSizes,
    PeopleDataset,
    complete_inputs,
    occluded_inputs,
)
from crowdgaussian.lorm.training.distill import (
    DistillationWeights,
    LormTraining,
    TeacherCache,
    distillation_loss,
    fingerprint,
)
from crowdgaussian.lorm.training.occlusion import hide
from crowdgaussian.lorm.training.trainer import (
    RESULT,
    LormTrainer,
    TrainJob,
    choose_people,
    train,
)
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def body():
    return load_body("open")


@pytest.fixture(scope="module")
def base(body):
    return very_small(body)


@pytest.fixture(scope="module")
def data(body, tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), body)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def job(base, data, out, cache=None, **changes):
    model = copy.deepcopy(base)
    return model, TrainJob(PeopleDataset(data, model.mesh), out, quick(**changes), cache)


def run(base, data, out, cache=None, report=silent, **changes):
    model, task = job(base, data, out, cache, **changes)
    train(model, task, report)
    return model


@pytest.fixture(scope="module")
def whole(base, data, cache, tmp_path_factory):
    """An uninterrupted training and its messages."""
    out, told = tmp_path_factory.mktemp("whole"), []
    model = run(base, data, out, cache, told.append)
    return out, model, told


def test_equation_four():
    torch.manual_seed(0)
    teacher, student = torch.rand(3, 16, 16, 3), torch.rand(3, 16, 16, 3)
    from crowdgaussian.core.metrics import ssim

    expected = 2 * ((student - teacher) ** 2).mean() + 0.5 * (1 - ssim(student, teacher)).mean()
    loss = distillation_loss(student, teacher, DistillationWeights(2.0, 0.5))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert distillation_loss(teacher, teacher, DistillationWeights()).item() == pytest.approx(
        0, abs=1e-6
    )


def test_the_loss_falls(base, data, cache, tmp_path):
    model, task = job(base, data, tmp_path, cache, steps=14, save_every=99, sample_every=99)
    trainer = LormTrainer(model, task)
    trainer.run(silent)
    assert np.mean(trainer.losses[-4:]) < 0.8 * np.mean(trainer.losses[:4])


def test_only_adapters_change_and_the_teacher_stays(base, whole):
    _, model, _ = whole
    before, after = dict(base.named_parameters()), dict(model.named_parameters())
    adapters = [name for name in after if ".lora_" in name]
    assert adapters and any(after[name].abs().max() > 0 for name in adapters if "lora_B" in name)
    for name, value in after.items():
        if name not in adapters:
            assert torch.equal(value, before[name.replace(".base_layer.", ".")]), name
    images = torch.rand(1, 3, 40, 24), torch.rand(1, 3, 32, 32)
    with torch.no_grad(), adapters_off(model):
        teacher, untouched = model(*images), base(*images)
    assert torch.equal(teacher.rgb, untouched.rgb)
    with torch.no_grad():
        assert not torch.equal(model(*images).rgb, untouched.rgb)


def test_the_result_reloads(base, whole):
    out, model, told = whole
    again = copy.deepcopy(base)
    load_adapters(again, out / RESULT)
    images = torch.rand(1, 3, 40, 24), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(*images).offsets, model(*images).offsets)
    assert [p.stage for p in told].count("train") == 6 and told[-1].fraction == 1.0
    assert list(out.glob("tensorboard/events*")) and list(out.glob("samples/step_000006.png"))


def test_a_stopped_training_goes_on_exactly(base, data, cache, whole, tmp_path):
    def stop(progress):
        if progress.message.startswith("step 4"):
            raise Cancelled

    with pytest.raises(Cancelled):
        run(base, data, tmp_path, cache, stop)
    with safe_open(tmp_path / CHECKPOINT, "pt") as stream:
        assert stream.metadata()["step"] == "4"
    run(base, data, tmp_path, cache)
    assert not list(tmp_path.glob(".*")) + list(tmp_path.glob("*.part"))
    expected = load_file(whole[0] / RESULT)
    assert load_file(tmp_path / RESULT).keys() == expected.keys()
    for name, value in load_file(tmp_path / RESULT).items():
        assert torch.equal(value, expected[name]), name
    last = load_file(whole[0] / CHECKPOINT)
    assert load_file(tmp_path / CHECKPOINT).keys() == last.keys()
    for name, value in load_file(tmp_path / CHECKPOINT).items():
        assert torch.equal(value, last[name]), name


def test_another_training_in_the_folder_is_not_overwritten(base, data, cache, whole, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "out")
    with pytest.raises(CrowdGaussianError, match="other settings"):
        run(base, data, out, cache, lr=0.5)
    (out / CHECKPOINT).write_bytes(b"cut off")
    with pytest.raises(CrowdGaussianError, match="damaged"):
        run(base, data, out, cache)


def test_checkpointed_layers_give_the_same_gradient(base, data, cache, whole, tmp_path):
    model = run(base, data, tmp_path, cache, gradient_checkpointing=False)
    for name, value in model.named_parameters():
        if ".lora_" in name:
            other = dict(whole[1].named_parameters())[name]
            assert torch.allclose(value, other, atol=1e-5), name


def test_the_cache_is_used_and_survives_damage(base, cache, whole, tmp_path):
    files = sorted(cache.glob("renders/*/*.safetensors"))
    assert len(files) == 3
    store = TeacherCache(tmp_path, fingerprint(base))
    assert store.fingerprint == fingerprint(whole[1])  # adapters do not count
    path = store.path("tokens", np.arange(3), "a")
    assert path != store.path("tokens", np.arange(4), "a")
    made = []

    def make():
        made.append(1)
        return {"x": torch.ones(2)}

    store.get(path, make)
    assert torch.equal(store.get(path, make)["x"], torch.ones(2)) and len(made) == 1
    path.write_bytes(path.read_bytes()[:-3])
    store.get(path, make)
    assert len(made) == 2 and torch.equal(store.get(path, make)["x"], torch.ones(2))


def test_renders_are_of_the_teacher(base, cache, whole):
    colors = [load_file(path)["color"] for path in cache.glob("renders/*/*.safetensors")]
    assert all(color.shape == (24, 32, 32, 3) for color in colors)
    assert all((color < 250).any(-1).sum() > 200 for color in colors)
    picture = np.asarray(Image.open(whole[0] / "samples/step_000006.png"))
    assert picture.shape == (22 + 3 * (32 + 4), 10 * 32, 3)


def test_the_same_pixels_are_hidden_in_body_and_head(base, data):
    person = PeopleDataset(data, base.mesh)[0]
    middle = int(person.head[:, 0].mean())
    left = np.arange(person.mask.shape[1]) < middle
    hidden = hide(person.photo, person.mask, person.mask & left)
    sizes = InputSizes((160, 96), 64, photo_behind_head=False)
    for whole_image, image in zip(
        complete_inputs(person, sizes), occluded_inputs(person, hidden, sizes), strict=True
    ):
        half = image.shape[2] // 2
        shown = (whole_image < 0.9).any(0)
        assert shown[:, : half - 4].any() and shown[:, half + 4 :].any()
        assert (image[:, :, : half - 4][:, shown[:, : half - 4]] > 0.9).all()
        assert torch.equal(image[:, :, half + 4 :], whole_image[:, :, half + 4 :])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("mask.png", "empty", "mask is empty"),
        ("mask.png", "small", "same picture and size"),
        ("person.json", "nan", "no numbers"),
        ("person.json", "{}", "entry 'betas' is missing"),
        ("image.png", "cut", "missing or damaged"),
    ],
)
def test_bad_people_are_told_by_name(base, data, tmp_path, name, change, words):
    folder = shutil.copytree(data, tmp_path / "data")
    path = folder / "person_1" / name
    if change in ("empty", "small"):
        size = (96, 96) if change == "empty" else (90, 96)
        Image.fromarray(np.zeros(size, np.uint8)).save(path)
    elif change == "nan":
        about = json.loads(path.read_text())
        about["pose"][3][0] = float("nan")
        path.write_text(json.dumps(about))
    else:
        path.write_bytes(change.encode() if change == "{}" else path.read_bytes()[:90])
    with pytest.raises(CrowdGaussianError, match=words) as caught:
        PeopleDataset(folder, base.mesh)[1]
    assert str(caught.value).startswith("person_1")


def test_a_body_beside_its_picture_is_told_by_name_and_some_may_be_chosen(base, data, tmp_path):
    job = TrainJob(PeopleDataset(data, base.mesh), tmp_path / "two", quick(people=2))
    chosen = choose_people(job.people, job)
    assert len(chosen) == 2 and chosen[0].landmarks is None
    assert choose_people(job.people, job).names == chosen.names
    folder = shutil.copytree(data, tmp_path / "data")
    path = folder / "person_1/person.json"
    about = json.loads(path.read_text())
    about["transl"] = [0, 1.5, 0]
    path.write_text(json.dumps(about))
    job = TrainJob(PeopleDataset(folder, base.mesh), tmp_path / "out", quick())
    with pytest.raises(CrowdGaussianError, match="person_1: .* head image would be blank"):
        choose_people(job.people, job)
    assert not (tmp_path / "out/people.json").exists()


def test_nobody_to_train_on(base, tmp_path):
    with pytest.raises(CrowdGaussianError, match="nobody to train on"):
        PeopleDataset(tmp_path, base.mesh)
    with pytest.raises(CrowdGaussianError, match="at least 1"):
        LormTraining(steps=0)
