# SPDX-License-Identifier: Apache-2.0
"""The sheet, the network on it, and the stage beside the rules."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from crowdgaussian.avatar.color_completion import ObservedColors
from crowdgaussian.body.load import load_body
from crowdgaussian.body.parts import FOOT, HAND, HEAD, LEG, TORSO
from crowdgaussian.completion import config as files
from crowdgaussian.completion.config import CompleteConfig
from crowdgaussian.completion.layout import LAYERS, open_sheet, points_on, vertex_coordinates
from crowdgaussian.completion.model import CompletionNet, Observed
from crowdgaussian.completion.stage import (
    _FAMILIAR,
    Known,
    OpenCompletion,
    broad_part,
    familiar,
    load_completion,
    observe,
    open_completion,
    save_completion,
)
from crowdgaussian.pipeline import stages
from crowdgaussian.pipeline.config import Config, StageNames, is_local
from crowdgaussian.pipeline.stages import files_for, load_stage
from crowdgaussian.weights import OPEN_COMPLETION
from crowdgaussian_shared.errors import CrowdGaussianError, DamagedFileError

BODY, SHEET = load_body("open"), open_sheet()
UPPER, LOWER = 3, 4
RED, BLUE = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return CompletionNet(SHEET).eval()


def dressed() -> tuple[Observed, torch.Tensor]:
    """Red above blue, the front seen; and how all of it should look."""
    height = torch.from_numpy(SHEET.position[:, 1])
    material = torch.where(height > height.mean(), UPPER, LOWER)[None]
    truth = torch.where((material == UPPER)[..., None], RED, BLUE)
    front = torch.from_numpy(SHEET.normal[:, 2] > 0.2)[None]
    offset = torch.zeros_like(front, dtype=torch.float32)
    return Observed(truth * front[..., None], front.float(), material, offset), truth


def test_sheet_mirrors_and_turns_round():
    assert len(SHEET) > 4500 and SHEET.cell.max() < LAYERS * 128 * 64
    assert np.allclose(SHEET.position[SHEET.mirror] * (-1, 1, 1), SHEET.position, atol=1e-3)
    behind = np.linalg.norm((SHEET.position[SHEET.opposite] - SHEET.position)[:, :2], axis=1)
    assert np.median(behind) < 0.01
    trunk = np.abs(SHEET.position[:, 0]) < 0.05
    turned = SHEET.normal[trunk, 2] * SHEET.normal[SHEET.opposite][trunk, 2]
    assert (turned < 0.1).mean() > 0.95


def test_what_is_written_on_the_sheet_is_read_back():
    body = vertex_coordinates(BODY)
    corners = BODY.faces.numpy()[SHEET.face]
    places = points_on(body, corners, SHEET.barycentric)
    observed = ObservedColors(SHEET.position, np.ones(len(SHEET)))
    known = Known(places, observed, np.full(len(SHEET), UPPER), np.full(len(SHEET), 0.02))
    there = observe(known, SHEET)
    shown = (SHEET.position > 0).all(1) & (SHEET.position < 1).all(1)
    gap = np.abs(there.colours[0].numpy() - SHEET.position)[shown]
    assert np.quantile(gap, 0.95) < 0.02 and (there.material == UPPER).all()
    assert there.offset.numpy() == pytest.approx(0.02, abs=1e-4)
    assert np.quantile(np.abs(SHEET.read(SHEET.position, places) - SHEET.position), 0.99) < 0.01


def test_an_untrained_network_copies_what_is_of_the_same_material(network):
    observed, truth = dressed()
    with torch.no_grad():
        done = network(observed)
    gap = (done.colours - truth).abs().mean(2)
    assert gap.max() < 0.15 and gap.mean() < 0.03
    assert done.log_error.shape == gap.shape


def test_attention_fetches_seen_colours_of_each_material(network):
    observed, truth = dressed()
    with torch.no_grad():
        grid = network._features(network._sources(observed).planes)
        features = grid.flatten(2).index_select(2, network.tiles).transpose(1, 2)
        fetched = network._fetched(grid, features, observed)
        copies = network._copies(fetched, observed.material)
    assert (copies - truth[:, :, None]).abs().max() < 0.05


def test_nothing_seen_gives_numbers(network):
    observed, _ = dressed()
    blank = observed._replace(seen=observed.seen * 0, colours=observed.colours * 0)
    with torch.no_grad():
        assert torch.isfinite(network(blank).colours).all()


def test_weights_come_back_and_bad_files_are_told(network, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_completion(network, path, {"licence": "Apache-2.0"})
    observed, _ = dressed()
    with torch.no_grad():
        gap = load_completion(path, SHEET)(observed).colours - network(observed).colours
    assert path.stat().st_size < 6e6 and gap.abs().max() < 0.02
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match="get a whole copy"):
        load_completion(path, SHEET)
    with pytest.raises(CrowdGaussianError, match="no file"):
        open_completion(CompleteConfig(str(tmp_path / "gone")), BODY)


def test_without_its_file_the_rules_do_it_and_say_so(tmp_path, monkeypatch):
    absent = replace(OPEN_COMPLETION, file="absent.safetensors")
    monkeypatch.setattr(files, "OPEN_COMPLETION", absent)
    config = Config(stages=StageNames(completion="open"))
    builder, warnings = stages._avatar_stage(config, BODY)
    assert builder.completion is None and len(warnings) == 1
    assert warnings[0].sentence.startswith("Unseen colours are filled by rules alone")
    assert not [file for file in files_for(config) if file.stage == "completion"]
    with pytest.raises(CrowdGaussianError, match="no completion stage 'best'"):
        load_stage("avatar", Config(stages=StageNames(completion="best")), BODY)


def test_own_weights_are_named_with_their_licence(network, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_completion(network, path, {"licence": "Apache-2.0"})
    config = Config(
        stages=StageNames(completion="open"), complete=CompleteConfig(weights=str(path))
    )
    (used,) = [file for file in files_for(config) if file.stage == "completion"]
    assert used.licence == "Apache-2.0" and used.commercial
    assert isinstance(load_stage("avatar", config, BODY).completion, OpenCompletion)
    assert is_local(config, "complete.weights") and not is_local(config, "complete.share")


@pytest.mark.parametrize(("log_error", "share"), [(-4, 0.5), (-1, 1.0)])
def test_heads_hands_and_what_is_seen_keep_their_colours(log_error, share):
    """So do feet of which nothing is seen, about which the network would have an answer, too."""

    class Cloud:
        points = type("P", (), {"face": SHEET.face, "barycentric": SHEET.barycentric})
        group = np.resize([HEAD, TORSO, TORSO, HAND, LEG, LEG, FOOT], 5000)
        means = np.random.default_rng(0).uniform(size=(5000, 3))

    seen = np.resize([0.0, 0.0, 0.5, 0.0, 0.0, 0.5, 0.0], 5000)
    sure = CompletionNet(SHEET).eval()
    with torch.no_grad():
        sure.out.bias.view(-1, sure.outputs)[:, -1] = log_error
        completion = OpenCompletion(sure, SHEET, BODY, 0.5)
    observed = ObservedColors(np.full((5000, 3), 0.8), seen)
    rules, material = np.full((5000, 3), 0.2), np.full(5000, UPPER)
    done = completion.complete(Cloud, observed, material, np.zeros(5000), rules)
    assert np.array_equal(done[seen > 0], rules[seen > 0])
    for kept in (HEAD, HAND, FOOT):
        assert np.array_equal(done[Cloud.group == kept], rules[Cloud.group == kept])
    moved = (done - rules)[np.isin(Cloud.group, (TORSO, LEG)) & (seen == 0)]
    assert np.median(moved) == pytest.approx(0.6 * share, abs=0.03)
    nothing = ObservedColors(observed.colours, np.zeros(5000))
    assert completion.complete(Cloud, nothing, material, np.zeros(5000), rules) is rules


def test_what_is_hardly_shown_is_hardly_known():
    part = np.repeat([0, 1, 2], 100)
    material = np.where(np.arange(300) < 150, 3, 4)
    seen = np.zeros(300)
    seen[:5], seen[200:260] = 1.0, 1.0  # 5 % of the first part, none of the second
    known = familiar(seen, part, material)
    np.testing.assert_allclose(known[part == 0], 5 / 150 / _FAMILIAR)  # of the material still less
    assert not known[part == 1].any() and (known[part == 2] == 1).all()


def test_broad_changes_come_through_and_stripes_stay():
    rng = np.random.default_rng(0)
    means = rng.uniform(0, 1, (6000, 3)) * [0.4, 0.6, 0.001]
    material = (means[:, 1] > 0.3).astype(np.int64)
    stripes = 0.2 * np.sign(np.sin(means[:, 1] * 2 * np.pi / 0.04))[:, None]
    wanted = np.where(material == 1, 0.1, -0.1)[:, None]
    unseen = means[:, 0] > 0.1
    change = np.where(unseen[:, None], np.broadcast_to(wanted - stripes, (6000, 3)), 9.0)
    broad = broad_part(change, means, material, unseen)[unseen]
    left = np.abs(broad - wanted[unseen]).mean()
    assert left < 0.3 * np.abs(stripes).mean(), "of the stripes, which the rules keep"
    assert np.abs(np.median(broad[material[unseen] == 1]) - 0.1) < 0.02
    few = [value[:9] for value in (change, means, material, unseen)]  # too few for a mean
    assert np.array_equal(broad_part(*few), change[:9])
