from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_backbones import random_state, write_backbone

from gen3r_bench.errors import InputError
from gen3r_bench.metrics import lpips as exported
from gen3r_bench.metrics import perceptual, weight_files
from gen3r_bench.metrics.perceptual import BACKBONES, NETS, lpips, provenance, unavailable
from gen3r_bench.torchvision_import import import_torchvision


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random backbones of all three kinds, in torchvision's file format."""
    root = tmp_path_factory.mktemp("weights")
    for net in NETS:
        write_backbone(root, net)
    return root


@pytest.fixture(autouse=True)
def weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(root))
    return root


def clips(frames: int = 3, height: int = 40, width: int = 36, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    gt = np.kron(random.random((frames, height // 4, width // 4, 3)), np.ones((1, 4, 4, 1))) * 255
    pred = gt * 0.9 + random.normal(0, 15, gt.shape)
    return np.clip(pred, 0, 255).astype(np.uint8), gt.astype(np.uint8)


@contextmanager
def without_draws() -> Iterator[None]:
    """Layers are made without drawing numbers that are replaced at once: VGG's classifier alone has 100 million."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("normal_", "kaiming_uniform_", "kaiming_normal_", "uniform_"):
            patch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
        yield


@functools.cache
def package(net: str) -> Any:
    """The package's module as its README makes it, with the same backbone loaded into torchvision's own network."""
    import_torchvision()
    import lpips as authors

    with warnings.catch_warnings(), without_draws():
        warnings.simplefilter("ignore", UserWarning)
        model = authors.LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False)
    state = random_state(net)
    for number in range(1, model.net.N_slices + 1):
        for name, layer in getattr(model.net, f"slice{number}").named_parameters():
            layer.data.copy_(state[f"features.{name}"])
    return model


def packages_call(net: str, pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Frame by frame, with the package's own conversion of images."""
    import_torchvision()
    import lpips as authors

    model = package(net)
    with torch.no_grad():
        return np.array(
            [model(authors.im2tensor(a), authors.im2tensor(b)).item() for a, b in zip(pred, gt, strict=True)]
        )


@pytest.mark.parametrize("net", NETS)
def test_it_equals_the_packages_own_call(net: str) -> None:
    pred, gt = clips()
    expected = packages_call(net, pred, gt)
    assert len(set(expected)) == len(expected)
    assert expected.min() > 1e-3
    np.testing.assert_allclose(lpips(pred, gt, net=net), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("net", NETS)
def test_it_equals_torchmetrics(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    from torchmetrics.functional.image import lpips as theirs

    features = getattr(theirs, "_get_tv_model_features")  # noqa: B009 - a private name, without a stub

    def with_random_weights(name: str, pretrained: bool = False) -> Any:
        network = features(name, pretrained=False)
        state = random_state(net)
        network.load_state_dict({key: state[f"features.{key}"] for key in network.state_dict()})
        return network

    monkeypatch.setattr(theirs, "_get_tv_model_features", with_random_weights)
    pred, gt = clips()
    images = [torch.from_numpy(clip / 255.0).float().permute(0, 3, 1, 2) for clip in (pred, gt)]
    with without_draws():
        model = theirs._NoTrainLpips(net=net)
    with torch.no_grad():
        expected = model(*images, normalize=True).flatten().numpy()
    np.testing.assert_allclose(lpips(pred, gt, net=net), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("net", NETS)
def test_identical_frames_have_distance_zero_and_order_does_not_matter(net: str) -> None:
    pred, gt = clips(seed=1)
    assert (lpips(pred, pred, net=net) == 0).all()
    np.testing.assert_allclose(lpips(pred, gt, net=net), lpips(gt, pred, net=net), rtol=0, atol=1e-7)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(0, 3), st.integers(17, 60), st.integers(17, 60))
def test_a_frames_value_depends_on_that_frame_alone(root: Path, count: int, seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    pred, gt = random.integers(0, 256, (2, count, height, width, 3), dtype=np.uint8)
    whole = lpips(pred, gt, net="squeeze")
    assert whole.shape == (count,)
    assert (whole >= 0).all()
    one = [lpips(pred[[index]], gt[[index]], net="squeeze")[0] for index in range(count)]
    np.testing.assert_allclose(whole, one, rtol=0, atol=1e-6)
    order = random.permutation(count)
    np.testing.assert_allclose(lpips(pred[order], gt[order], net="squeeze"), whole[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pixels", [1, 40 * 36 * 2, 40 * 36 * 4, 10**9])
def test_the_size_of_batches_does_not_show(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    pred, gt = clips(frames=7)
    expected = packages_call("squeeze", pred, gt)
    sizes = []
    original = perceptual._scaled

    def seen(clip: Any, name: str, part: slice, device: str) -> torch.Tensor:
        tensor = original(clip, name, part, device)
        sizes.append(len(tensor))
        return tensor

    monkeypatch.setattr(perceptual, "_scaled", seen)
    monkeypatch.setattr(perceptual, "PIXELS_PER_BATCH", pixels)
    np.testing.assert_allclose(lpips(pred, gt, net="squeeze"), expected, rtol=0, atol=1e-6)
    assert max(sizes) == min(7, max(1, pixels // (40 * 36)))
    assert sum(sizes) == 2 * 7


def test_the_same_call_gives_the_same_bits_and_leaves_the_random_state_alone() -> None:
    pred, gt = clips()
    perceptual._loaded.cache_clear()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = lpips(pred, gt, net="squeeze")
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(lpips(pred, gt, net="squeeze"), first)


def test_floats_from_0_to_1_are_the_same_as_bytes() -> None:
    pred, gt = clips()
    np.testing.assert_allclose(
        lpips(pred / 255.0, gt, net="squeeze"), lpips(pred, gt, net="squeeze"), rtol=0, atol=1e-6
    )


def test_a_device_without_float64_gives_scores_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As mps, which cannot be had here."""

    class OnlyFloat32:
        def __init__(self, tensor: torch.Tensor) -> None:
            self._tensor = tensor

        def flatten(self) -> OnlyFloat32:
            return OnlyFloat32(self._tensor.flatten())

        def double(self) -> None:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

        def cpu(self) -> torch.Tensor:
            return self._tensor

    pred, gt = clips()
    expected = lpips(pred, gt, net="squeeze")
    original = perceptual._model("squeeze", "cpu")
    monkeypatch.setattr(perceptual, "_model", lambda net, device: lambda *frames: OnlyFloat32(original(*frames)))
    found = lpips(pred, gt, net="squeeze")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_frames_may_be_views_and_read_only() -> None:
    pred, gt = clips(frames=4)
    view = np.ascontiguousarray(pred[:, :, ::-1])[:, :, ::-1][::2]
    gt.setflags(write=False)
    np.testing.assert_allclose(
        lpips(view, gt[:2], net="squeeze"), lpips(pred[::2].copy(), gt[:2].copy(), net="squeeze"), atol=1e-7
    )


@pytest.mark.parametrize(
    ("pred", "gt", "message"),
    [
        (np.zeros((2, 32, 32, 3)), np.zeros((2, 32, 31, 3)), "expected equal shapes"),
        (np.zeros((2, 32, 32)), np.zeros((2, 32, 32)), r"expected shape \[frames, height, width, 3\]"),
        (np.zeros((2, 32, 32, 4)), np.zeros((2, 32, 32, 4)), r"expected shape \[frames, height, width, 3\]"),
        (np.zeros((0, 32, 32, 3)), np.zeros((0, 32, 32, 3)), "is empty"),
        (np.zeros((2, 32, 32, 3), np.int32), np.zeros((2, 32, 32, 3)), "has type int32"),
        (np.full((2, 32, 32, 3), np.nan), np.zeros((2, 32, 32, 3)), "pred: frame 0 holds values from nan"),
        (np.zeros((2, 32, 32, 3)), np.full((2, 32, 32, 3), 2.0), "gt: frame 0 holds values from 2 to 2"),
        (
            np.zeros((2, 15, 32, 3)),
            np.zeros((2, 15, 32, 3)),
            "frames of 15x32 pixels for lpips; expected at least 16x16",
        ),
    ],
)
def test_wrong_input_is_explained(pred: np.ndarray, gt: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lpips(pred, gt)


def test_the_frame_with_a_bad_value_is_named_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "PIXELS_PER_BATCH", 1)
    pred = np.zeros((3, 32, 32, 3))
    pred[2, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="pred: frame 2"):
        lpips(pred, np.zeros_like(pred), net="squeeze")


@pytest.mark.parametrize("net", NETS)
def test_the_smallest_frames_that_each_network_takes(net: str) -> None:
    smallest = BACKBONES[net].smallest
    pred, gt = np.random.default_rng(0).integers(0, 256, (2, 1, smallest, smallest, 3), dtype=np.uint8)
    assert np.isfinite(lpips(pred, gt, net=net)).all()
    with torch.no_grad(), pytest.raises(RuntimeError):
        package(net)(torch.zeros(1, 3, smallest - 1, smallest - 1), torch.zeros(1, 3, smallest - 1, smallest - 1))


def test_an_unknown_network() -> None:
    with pytest.raises(InputError, match="'vgg16'; expected vgg or alex or squeeze"):
        lpips(*clips(), net="vgg16")  # type: ignore[arg-type]


def test_missing_weights_say_which_and_how_to_get_them_and_no_place_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    reason = "weights missing, run gen3r-bench weights fetch lpips-vgg (vgg16-397923af.pth is not there)"
    assert unavailable("vgg") == reason
    with pytest.raises(InputError, match="run gen3r-bench weights fetch lpips-vgg"):
        lpips(*clips())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_the_published_one_gives_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    path = write_backbone(tmp_path, "squeeze", marked=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    reason = unavailable("squeeze")
    assert reason is not None
    assert reason.endswith(f"its sha256 begins with {digest[:8]}, not with b8a52dc0")
    with pytest.raises(InputError, match="is not the published file"):
        lpips(*clips(), net="squeeze")
    # the published file has the hash that its name promises
    named = dataclasses.replace(BACKBONES["squeeze"], file=f"squeezenet1_1-{digest[:8]}.pth")
    monkeypatch.setattr(perceptual, "BACKBONES", {**BACKBONES, "squeeze": named})
    path.rename(named.path)
    assert unavailable("squeeze") is None
    assert "weights" not in provenance("squeeze")
    assert provenance("squeeze")["backbone sha256"] == digest


def test_a_file_that_cannot_be_read_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(weight_files, "marked_random", forbidden)
    reason = unavailable("vgg")
    assert reason is not None
    assert reason == "weights cannot be read: Permission denied (vgg16-397923af.pth)"


def test_what_a_score_is_made_with(root: Path) -> None:
    for net in NETS:
        facts = provenance(net)
        for name in ("lpips", "torch", "torchvision"):
            assert facts[name] == importlib.metadata.version(name)
        path = root / "lpips" / facts["backbone"]
        assert facts["backbone sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert facts["weights"] == "random-weights"
        assert facts["backbone"].removesuffix(".pth").endswith(BACKBONES[net].sha256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.0.weight"), r"lacks features\.0\.weight"),
        (lambda state: state.update({"features.99.weight": torch.zeros(1)}), r"holds an unknown features\.99\.weight"),
    ],
)
def test_every_tensor_of_the_backbone_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    path = write_backbone(tmp_path, "squeeze")
    state = random_state("squeeze")
    change(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=message):
        lpips(*clips(), net="squeeze")


@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    path = write_backbone(tmp_path, "squeeze")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"squeezenet1_1-b8a52dc0\.pth cannot be read"):
        lpips(*clips(), net="squeeze")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    path = write_backbone(tmp_path, "squeeze")
    torch.save({"features.0.weight": Path("x")}, path)
    with pytest.raises(InputError, match="cannot be read"):
        lpips(*clips(), net="squeeze")


def test_a_replaced_file_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path))
    pred, gt = clips()
    write_backbone(tmp_path, "squeeze", seed=1)
    first = lpips(pred, gt, net="squeeze")
    write_backbone(tmp_path, "squeeze", seed=2)
    assert not np.allclose(lpips(pred, gt, net="squeeze"), first, atol=1e-4)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = perceptual.find_spec
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None if name == "lpips" else found(name))
    assert unavailable("vgg") == "lpips is not installed: run pip install 'gen3r-bench[perceptual]'"


def test_a_package_that_does_not_import_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("operator torchvision::else does not exist")

    monkeypatch.setattr(perceptual, "import_torchvision", broken)
    perceptual._import_problem.cache_clear()
    try:
        assert "lpips does not import (RuntimeError: operator torchvision::else" in (unavailable("vgg") or "")
    finally:
        perceptual._import_problem.cache_clear()


def test_the_public_name() -> None:
    assert exported is lpips
