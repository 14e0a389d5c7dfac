# SPDX-License-Identifier: Apache-2.0
"""The CPU rasteriser against its float64 twin, and where its input is odd."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from _support.splat_scenes import OUTPUTS, backward, both_renders, off_centre_cameras, random_splats
from crowdgaussian.splat import Cameras, RasterConfig, Splats, rasterize
from crowdgaussian.splat.reference import rasterize_reference
from crowdgaussian_shared.errors import CrowdGaussianError

TOLERANCE = 1e-4


@pytest.mark.parametrize("by_covars", [False, True])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_values_and_gradients_match_the_twin(degree: int, by_covars: bool) -> None:
    values = random_splats(150, degree, by_covars)
    background = torch.tensor([[0.2, 0.5, 0.9], [0.0, 1.0, 0.3], [0.7, 0.7, 0.1]])
    (ours, ours_in), (twin, twin_in) = both_renders(values, off_centre_cameras(), background)
    for name in OUTPUTS:
        torch.testing.assert_close(
            getattr(ours, name).double(), getattr(twin, name), rtol=0, atol=TOLERANCE
        )
    backward(ours)
    backward(twin)
    for name, leaf in twin_in.items():
        expected = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        scale = max(float(expected.abs().max()), 1e-12)
        worst = float((ours_in[name].grad - expected).abs().max()) / scale
        assert worst < TOLERANCE, f"gradient of {name} is off by {worst:.1e} of its largest entry"


def _opaque_wall(n: int) -> Splats:
    """Large Gaussians one behind the other: pixels end at the transmittance cut-off."""
    means = torch.zeros(n, 3)
    means[:, 2] = torch.linspace(0.0, -0.5, n)
    return Splats(
        means,
        torch.full((n,), 0.9),
        torch.linspace(-1, 1, n)[:, None, None].expand(n, 1, 3).contiguous(),
        torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        torch.full((n, 3), 0.2),
    )


def test_the_transmittance_cut_off_drops_what_lies_behind() -> None:
    wall, camera = _opaque_wall(40), Cameras.orbit((0, 0, 0), 2.0, 1, size=24)
    leaf = wall.sh.clone().requires_grad_()
    ours = rasterize(replace(wall, sh=leaf), camera)
    twin = rasterize_reference(wall.to(torch.float64), camera)
    torch.testing.assert_close(ours.color.double(), twin.color, rtol=0, atol=TOLERANCE)
    ours.color[0, 12, 12].sum().backward()
    reached = leaf.grad[:, 0, 0] != 0
    assert reached[0] and not reached[8:].any()  # 0.1^4 is the limit; the margin is for falloff


def test_alpha_is_clamped_without_gradient_at_its_limit() -> None:
    camera = Cameras.orbit((0, 0, 0), 2.0, 1, size=9)
    opacity = torch.ones(1, requires_grad=True)
    splat = Splats(
        torch.zeros(1, 3), opacity, torch.ones(1, 1, 3), covars=torch.eye(3)[None] * 0.25
    )
    alpha = rasterize(splat, camera).alpha[0]
    assert float(alpha.max().detach()) == pytest.approx(0.999, abs=1e-6)
    alpha[4, 4].backward()
    assert float(opacity.grad) == 0.0


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_in_view_gives_the_background_and_zero_gradients(count: int) -> None:
    values = {
        k: v.detach().float().requires_grad_() for k, v in random_splats(count, 1, False).items()
    }
    camera = Cameras.orbit((0, 0, -9.0), 1.0, 1, size=(20, 11))  # stands before, looks away
    render = rasterize(Splats(**values), camera, torch.tensor([0.1, 0.2, 0.3]))
    assert render.color.shape == (1, 11, 20, 3)
    torch.testing.assert_close(render.color[0, 0, 0], torch.tensor([0.1, 0.2, 0.3]))
    assert not render.alpha.any() and not render.depth.any()
    (render.color.sum() + render.depth.sum()).backward()
    assert all(not leaf.grad.any() for leaf in values.values())


@pytest.mark.parametrize("scale", [1e-6, 50.0])
def test_tiny_and_huge_gaussians_match_the_twin(scale: float) -> None:
    values = random_splats(30, 0, False)
    values["scales"] = torch.full((30, 3), scale, dtype=torch.float64).requires_grad_()
    (ours, ours_in), (twin, twin_in) = both_renders(values, off_centre_cameras(1), torch.zeros(3))
    torch.testing.assert_close(ours.color.double(), twin.color, rtol=0, atol=TOLERANCE)
    backward(ours)
    backward(twin)
    for name, leaf in twin_in.items():
        error = (ours_in[name].grad - leaf.grad).abs().max()
        assert error <= TOLERANCE * leaf.grad.abs().max() + 1e-9, name


def test_not_a_number_is_not_drawn() -> None:
    values = {k: v.detach().float() for k, v in random_splats(8, 0, False).items()}
    good = rasterize(Splats(**{k: v[1:] for k, v in values.items()}), off_centre_cameras(1))
    values["means"][0] = torch.nan
    spoiled = rasterize(Splats(**values), off_centre_cameras(1))
    assert torch.equal(good.color, spoiled.color)


def test_the_near_plane_is_respected() -> None:
    values = {k: v.detach().float() for k, v in random_splats(40, 0, False).items()}
    camera = Cameras.orbit((0, 0, 0), 0.5, 1, size=30)
    render = rasterize(Splats(**values), camera, config=RasterConfig(near=0.5))
    behind = values["means"][:, 2] <= 0.0
    kept = rasterize(Splats(**{k: v[behind] for k, v in values.items()}), camera)
    assert torch.equal(render.color, kept.color)


def _gradients(threads: int) -> dict[str, torch.Tensor]:
    torch.set_num_threads(threads)
    leaves = {
        k: v.detach().float().requires_grad_() for k, v in random_splats(6000, 1, False).items()
    }
    render = rasterize(Splats(**leaves), Cameras.orbit((0, 0, 0), 2.0, 2, size=(130, 90)))
    render.color.square().sum().backward()
    return {k: v.grad for k, v in leaves.items()} | {"color": render.color.detach()}


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        one, two = _gradients(1), _gradients(2)
    finally:
        torch.set_num_threads(before)
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_several_python_threads_may_render_at_once() -> None:
    splats = Splats(**{k: v.detach().float() for k, v in random_splats(3000, 0, False).items()})
    cameras = Cameras.orbit((0, 0, 0), 2.0, 1, size=100)
    expected = rasterize(splats, cameras).color
    with ThreadPoolExecutor(4) as pool:
        for color in pool.map(lambda _: rasterize(splats, cameras).color, range(12)):
            assert torch.equal(color, expected)


def test_wrong_shapes_are_told_in_one_sentence() -> None:
    good = Splats(
        torch.zeros(2, 3), torch.ones(2), torch.zeros(2, 1, 3), covars=torch.eye(3).repeat(2, 1, 1)
    )
    with pytest.raises(CrowdGaussianError, match="splats.opacities"):
        rasterize(replace(good, opacities=torch.ones(3)), off_centre_cameras(1))
    with pytest.raises(CrowdGaussianError, match="splats.sh"):
        rasterize(replace(good, sh=torch.zeros(2, 2, 3)), off_centre_cameras(1))
    with pytest.raises(CrowdGaussianError, match="covars or both"):
        rasterize(replace(good, covars=None), off_centre_cameras(1))
