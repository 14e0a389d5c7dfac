# SPDX-License-Identifier: Apache-2.0
"""Networks whose files are not there say what is missing, and used files are in the provenance."""

from dataclasses import replace

import pytest
from crowdgaussian.pipeline.config import Config, with_setting
from crowdgaussian.pipeline.stages import build_stages, files_for, load_stage
from crowdgaussian.weights import WeightFile
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
    assert [f.name for f in files_for(config) if f.stage == "people"] == ["vitpose"]
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
