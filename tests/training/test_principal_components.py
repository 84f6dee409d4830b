from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from gen3r_bench.models.linear_code import LinearCode
from gen3r_bench.training.principal_components import principal_components, rotation_toward


def deviation_of(code: LinearCode) -> Tensor:
    """Standard deviations by which components were divided."""
    return code.out.norm(dim=0)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 16))
def test_principal_components_are_those_of_a_singular_value_decomposition(seed: int, count: int) -> None:
    """Oracle: numpy's decomposition of the centred patches, by reconstruction error and by deviation."""
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(60, 20)) @ draw.normal(size=(20, 24)) + draw.normal(size=24)
    patches = torch.from_numpy(vectors).reshape(2, 3, 2, 5, 24).permute(0, 4, 1, 2, 3)
    code = principal_components(patches, count)
    centred = vectors - vectors.mean(0)
    singular, directions = np.linalg.svd(centred, full_matrices=False)[1:]
    best = centred - centred @ directions[:count].T @ directions[:count]
    ours = (code.into * deviation_of(code)[:, None]).double().numpy()
    left = centred - centred @ ours.T @ ours
    np.testing.assert_allclose((left**2).sum(), (best**2).sum(), rtol=1e-4, atol=1e-6 * (centred**2).sum())
    np.testing.assert_allclose(deviation_of(code), singular[:count] / np.sqrt(60), rtol=1e-4)
    np.testing.assert_allclose(code.into @ code.out, np.eye(count), atol=1e-4)
    np.testing.assert_allclose(code.mean, vectors.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours @ ours.T, np.eye(count), atol=1e-5)
    assert (np.take_along_axis(ours, np.abs(ours).argmax(1)[:, None], 1) > 0).all()


def test_unused_directions_divide_by_nothing_small() -> None:
    flat = torch.zeros(1, 192, 1, 2, 2)
    flat[0, 0, 0] = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    deviation = deviation_of(principal_components(flat, 4))
    np.testing.assert_allclose(deviation[1:], float(deviation[0]) * 1e-3, rtol=1e-5)
    assert deviation_of(principal_components(torch.zeros(1, 192, 1, 2, 2), 4)).min() == pytest.approx(1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 16), noise=st.floats(0, 3))
def test_the_rotation_is_that_of_procrustes(seed: int, channels: int, noise: float) -> None:
    """Oracle: SciPy's, of what is left beside the means."""
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(2, channels, 3, 4, 5, generator=draw) + 2
    orthogonal = torch.linalg.qr(torch.randn(channels, channels, generator=draw))[0]
    turned = torch.einsum("cd,bdfhw->bcfhw", orthogonal, numbers)
    others = turned + noise * torch.randn(turned.shape, generator=draw) - 5
    rotation = rotation_toward(numbers, others)
    flat, flat_others = (part.transpose(0, 1).flatten(1).T.double().numpy() for part in (numbers, others))
    expected = orthogonal_procrustes(flat - flat.mean(0), flat_others - flat_others.mean(0))[0].T
    np.testing.assert_allclose(rotation, expected, atol=1e-4)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(channels), atol=1e-5)


def test_numbers_that_say_nothing_are_still_turned() -> None:
    rotation = rotation_toward(torch.zeros(1, 3, 1, 2, 2), torch.randn(1, 3, 1, 2, 2))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
