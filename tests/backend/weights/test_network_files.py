# SPDX-License-Identifier: Apache-2.0
"""Networks whose files are not there say what is missing, and used files are in the provenance."""

import subprocess
import sys
from dataclasses import replace

import pytest
from crowdgaussian.body import load_body
from crowdgaussian.pipeline.config import Config, preset, with_setting
from crowdgaussian.pipeline.stages import build_stages, files_for, load_stage, networks_of
from crowdgaussian.weights import WeightFile, find
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene import schema

ASKED = {
    ("people", "multihmr"): (
        "multiHMR_896_L.pt",
        "naverlabs.com",
        "NAVER non-commercial",
        "not for commercial use",
        "stages.people=keypoint_fit",
    ),
    ("people", "vitpose"): (
        "model.safetensors",
        "huggingface.co/PekingU/rtdetr",
        "Apache-2.0",
        "crowdgaussian weights fetch vitpose rt-detr",
        "stages.people=keypoint_fit",
    ),
    ("segment", "sam"): (
        "model.safetensors",
        "huggingface.co/facebook/sam2.1-hiera-large",
        "Apache-2.0",
        "segment.sam",
        "stages.segment=silhouettes",
    ),
}


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def settings(kind, name, **changes):
    config = with_setting(Config(), f"stages.{kind}", name)
    for setting, text in changes.items():
        config = with_setting(config, setting.replace("__", "."), str(text))
    return config


@pytest.mark.parametrize("kind, name", ASKED)
def test_one_sentence_says_what_is_missing_and_what_to_use_instead(kind, name):
    with pytest.raises(CrowdGaussianError) as caught:
        load_stage(kind, settings(kind, name), None)
    sentence = str(caught.value)
    for part in ASKED[kind, name]:
        assert part in sentence
    assert sentence.endswith(".") and sentence.count(". ") == 0


def test_smplx_as_the_body_says_the_same():
    with pytest.raises(CrowdGaussianError, match="SMPLX_NEUTRAL.npz .* stages.body=open"):
        build_stages(settings("body", "smplx"))


def test_a_setting_that_names_nothing(tmp_path):
    wrong = settings("segment", "sam", segment__sam=tmp_path / "none.pth")
    with pytest.raises(CrowdGaussianError, match="segment.sam names .*none.pth, which does not"):
        load_stage("segment", wrong, None)


def test_used_files_and_their_licences_are_told(tmp_path, weights):
    checkpoint = tmp_path / "multiHMR_672_S.pt"
    checkpoint.write_bytes(b"1")
    config = settings("people", "multihmr", people__multihmr=checkpoint)
    (entry,) = [f.provenance() for f in files_for(config) if f.path() == checkpoint]
    assert entry.name == "multihmr-672-s" and not entry.commercial and entry.blake2b
    body = weights / "smplx" / "SMPLX_NEUTRAL.npz"
    body.parent.mkdir(parents=True)
    body.write_bytes(b"2")
    assert {f.path().name for f in files_for(config)} >= {checkpoint.name, body.name}
    folder = tmp_path / "sam2.1-hiera-tiny"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"3")
    own = settings("segment", "sam", segment__sam=folder)
    (entry,) = [f.provenance() for f in files_for(own) if f.stage == "segment"]
    assert entry.commercial and entry.licence == "Apache-2.0" and entry.name == "sam2.1-tiny"
    unknown = tmp_path / "mine"
    folder.rename(unknown)
    (entry,) = [
        f.provenance()
        for f in files_for(settings("segment", "sam", segment__sam=unknown))
        if f.stage == "segment"
    ]
    assert entry.name == "sam" and not entry.commercial and "not known" in entry.licence
    original = tmp_path / "sam_vit_l_0b3195.pth"
    original.write_bytes(b"4")
    (used,) = [
        f
        for f in files_for(settings("segment", "sam", segment__sam=original))
        if f.stage == "segment"
    ]
    assert used.name == "sam-vit-l" and used.commercial
    (unknown / "model.safetensors").unlink()
    with pytest.raises(CrowdGaussianError, match="holds no model.safetensors"):
        files_for(settings("segment", "sam", segment__sam=unknown))


def test_boxes_of_the_user_need_no_detector(tmp_path):
    folder = tmp_path / "vitpose-base-simple"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"1")
    config = settings("people", "vitpose", people__vitpose=folder, people__boxes="0,0,50,90")
    own = [f.name for f in files_for(config) if f.stage == "people"]
    assert own[0] == "vitpose" and all("MediaPipe" in name for name in own[1:]) and own[1:]
    alone = replace(config, people=replace(config.people, second_look=False))
    assert [f.name for f in files_for(alone) if f.stage == "people"] == ["vitpose"]
    with pytest.raises(CrowdGaussianError, match="rt-detr"):
        files_for(replace(config, people=replace(config.people, boxes="")))


def test_fetched_weights_are_found_by_themselves(weights):
    folder = weights / "sam-vit-b"
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_bytes(b"1")
    (used,) = [f for f in files_for(settings("segment", "sam")) if f.stage == "segment"]
    assert used.path() == folder / "model.safetensors" and used.name == "sam-vit-b"
    before = used
    (folder / "model.safetensors").write_bytes(b"another")
    (after,) = [f for f in files_for(settings("segment", "sam")) if f.stage == "segment"]
    assert after != before


def test_a_file_is_hashed_again_only_when_it_has_changed(tmp_path, monkeypatch):
    """The service asks with every job, and the largest file takes 30 ms."""
    hashed, whole = [], schema.hash_file
    monkeypatch.setattr(schema, "hash_file", lambda path: hashed.append(path) or whole(path))
    path = tmp_path / "net.bin"
    monkeypatch.setattr(WeightFile, "path", lambda self: path)
    file = WeightFile("net", "people", "", "", "1", "crowdgaussian", "net.bin", "", "", True)
    path.write_bytes(b"one")
    first = file.checked_path()
    assert file.checked_path() == first == (path, whole(path)) and len(hashed) == 1
    path.write_bytes(b"another")
    assert file.checked_path()[1] == whole(path) != first[1] and len(hashed) == 2


def test_a_preset_names_all_that_it_lacks_at_once(weights):
    config = preset("open-large")
    for check in (files_for, build_stages):
        with pytest.raises(CrowdGaussianError) as caught:
            check(config)
        sentence = str(caught.value)
        assert sentence.startswith("3 networks are not on this machine: run `crowdgaussian weights")
        assert "`crowdgaussian weights fetch --preset open-large`" in sentence
        assert "vitpose (344 MB, Apache-2.0), rt-detr (172 MB," in sentence
        assert "sam2.1-large (898 MB" in sentence
        assert sentence.count(". ") == 0
    mixed = with_setting(config, "stages.refiner", "turbo")
    with pytest.raises(CrowdGaussianError, match="fetch vitpose rt-detr sam2.1-large sd-turbo`"):
        files_for(mixed)
    for name in ("vitpose", "rt-detr"):
        for file in find(name).files:
            path = weights / name / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"1")
    with pytest.raises(CrowdGaussianError, match="The segment stage 'sam' needs"):
        files_for(config)  # of a single one its stage says more


def test_the_presets_say_what_they_want_and_only_free_things_come_by_themselves(weights):
    assert networks_of(preset("open")) == []
    large = networks_of(preset("open-large"))
    assert [entry.name for entry in large] == ["vitpose", "rt-detr", "sam2.1-large"]
    assert all(entry.commercial for entry in large)
    paper = [entry.name for entry in networks_of(preset("paper"))]
    assert paper[0] == "multihmr-896-l" and {"smplx", "lhm-500m-hf", "sapiens-1b"} < set(paper)
    path = weights / "vitpose-wholebody-l" / "torch/wholebody/vitpose-l-wholebody.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    assert networks_of(preset("open-large"))[0].name == "vitpose"  # the other is not free
    asked = settings("people", "vitpose", people__vitpose="vitpose-wholebody-l")
    assert networks_of(asked)[0].name == "vitpose-wholebody-l"
    own = replace(asked, people=replace(asked.people, boxes="0,0,9,9"))
    (used,) = [f for f in files_for(own) if "vitpose" in f.name]
    assert used.path() == path and not used.commercial


def test_a_package_that_is_missing_is_told(tmp_path, monkeypatch):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(b"1")
    monkeypatch.setitem(sys.modules, "transformers", None)
    given = settings("people", "vitpose", people__vitpose=tmp_path, people__detector=tmp_path)
    with pytest.raises(CrowdGaussianError, match="'vitpose' needs the package transformers, .*net"):
        load_stage("people", given, load_body())


def test_asking_what_presets_lack_loads_no_torch():
    """The service's broker asks at its start and must stay small."""
    heavy = "{'torch', 'transformers', 'mediapipe', 'cv2'}"
    code = (
        "import sys\nfrom crowdgaussian.service.control import offered_presets\n"
        f"print([p.name for p in offered_presets()], {heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['open', 'open-large', 'paper'] set()\n", done.stderr
