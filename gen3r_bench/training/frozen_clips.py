"""What the frozen networks say of a training clip: latents of its appearance and geometry, features of its prompt."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.mini import MINI_VERSION, MiniDataset
from gen3r_bench.datasets.mini.cache import Arrays, ClipCache, cache_folder
from gen3r_bench.models.causal3d import DiagonalGaussian
from gen3r_bench.models.geometry_adapter import pack_tokens, unpack_tokens
from gen3r_bench.models.joint.conditioning import Fill, visible_clip
from gen3r_bench.models.token_adapter import TokenAdapter
from gen3r_bench.models.vggt import Vggt, cameras_from_pose_encoding
from gen3r_bench.models.video_autoencoder import VideoAutoencoder
from gen3r_bench.models.wan.image_encoder import ImageEncoder
from gen3r_bench.models.wan.text import TextEncoder, Tokenizer
from gen3r_bench.models.wvd.normalisation import Normalisation, fit_normaliser
from gen3r_bench.scene import SETTINGS, Cameras, Scene, Setting, conditioning_indices, unproject_depth
from gen3r_bench.training.augmentation import mirrored, reordered
from gen3r_bench.training.matches import latent_matches

VARIANTS: Final = 4
"""A clip as it is, mirrored, backwards, and both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenNetworks:
    """The networks that a joint diffusion is trained between; none of them learns.

    Attributes:
        autoencoder: of frames.
        vggt: whose tokens, or whose points, are the geometry; None where there is none.
        adapter: of its tokens; None where the geometry is points, which pass the autoencoder as if they were frames.
        text: encoder of prompts.
        image: encoder of the first frame.
        tokenizer: of ``text``.
        text_len: tokens of a prompt at most.
        fill: of the frames that are not shown.
        normalisation: of points.
    """

    autoencoder: VideoAutoencoder
    vggt: Vggt | None
    adapter: TokenAdapter | None
    text: TextEncoder
    image: ImageEncoder
    tokenizer: Tokenizer
    text_len: int
    fill: Fill
    normalisation: Normalisation

    @torch.no_grad()
    def appearance(self, scene: Scene) -> Arrays:
        """Of each setting the posterior of the clip as it shows it; features of text and first frame; the cameras."""
        frames = scene.num_frames
        clips = []
        for setting in SETTINGS:
            places = conditioning_indices(setting, frames)
            clips.append(visible_clip(scene.rgb[list(places)], places, frames, self.fill))
        posterior = self._encoded(torch.cat(clips))
        return {
            "world_from_cam": scene.cameras.world_from_cam,
            "intrinsics": scene.cameras.intrinsics,
            "text": self.text_features(scene.prompt or "").numpy(),
            "image": self._image_features(scene.rgb[0]).numpy(),
            **{setting: _stacked(posterior, place) for place, setting in enumerate(SETTINGS)},
        }

    @torch.no_grad()
    def geometry(self, scene: Scene) -> Arrays:
        """The posterior of the clip's geometry."""
        assert self.vggt is not None
        return {"geometry": _stacked(self._geometry(self.vggt, scene), 0)}

    @torch.no_grad()
    def decoded_geometry(self, latent: Tensor) -> Tensor:
        """What a latent [1, c, f, h, w] of the geometry stands for, on the CPU.

        Returns:
            [F, H, W, 1] depths of VGGT's heads, or [F, H, W, 3] points in the autoencoder's range.
        """
        if self.adapter is None:
            weights = next(self.autoencoder.parameters())
            return self.autoencoder.decode(latent.to(weights), clamp=False)[0].permute(1, 2, 3, 0).float().cpu()
        assert self.vggt is not None
        token_map = self.adapter.decode(latent.to(next(self.adapter.parameters())))
        tokens = unpack_tokens(token_map, patch_start=self.vggt.config.patch_start)
        size = (tokens.grid[0] * self.vggt.config.patch_size, tokens.grid[1] * self.vggt.config.patch_size)
        return self.vggt.decode(tokens, size, points=False).depth[0].float().cpu()

    def text_features(self, prompt: str) -> Tensor:
        """[n, dim] features of a prompt's own tokens."""
        ids = torch.tensor([self.tokenizer(prompt, self.text_len)], device=_device(self.text))
        with torch.no_grad():
            features: Tensor = self.text(ids)[0].float().cpu()
        return features

    def _image_features(self, frame: NDArray[np.uint8]) -> Tensor:
        image = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].to(_device(self.image)).float() / 255
        features: Tensor = self.image(image)[0].float().cpu()
        return features

    def _encoded(self, video: Tensor) -> DiagonalGaussian:
        weights = next(self.autoencoder.parameters())
        return self.autoencoder.encode(video.to(weights))

    def _geometry(self, vggt: Vggt, scene: Scene) -> DiagonalGaussian:
        images = torch.from_numpy(np.array(scene.rgb)).to(_device(vggt)).permute(0, 3, 1, 2)[None].float() / 255
        tokens = vggt.encode(images)
        if self.adapter is not None:
            return self.adapter.encode(pack_tokens(tokens).float(), latents_per_chunk=scene.num_frames)
        output = vggt.decode(tokens, scene.image_size, points=False)
        cameras = cameras_from_pose_encoding(output.pose_encoding[0].float(), scene.image_size)
        points = unproject_depth(output.depth[0].float().cpu().numpy(), cameras)
        normalised = fit_normaliser(points, self.normalisation).to_range(points)
        return self._encoded(torch.from_numpy(normalised).permute(3, 0, 1, 2)[None])


class FrozenClip(NamedTuple):
    """What the frozen networks say of one variant of a clip.

    Attributes:
        seen: posterior of the clip as each setting shows it; ``allview`` is the clip itself. [c, f, h, w].
        geometry: posterior of its geometry, of that shape; None where there is none.
        text: [n, dim] features of the prompt.
        image: [m, dim] features of the first frame.
        cameras: of the frames.
        matches: see ``latent_matches``; None where none are asked for.
    """

    seen: Mapping[Setting, DiagonalGaussian]
    geometry: DiagonalGaussian | None
    text: Tensor
    image: Tensor
    cameras: Cameras
    matches: Tensor | None


class FrozenClips:
    """Training clips of ``mini`` as the frozen networks see them, computed once and cached on disk.

    Appearance and geometry have caches of their own: recipes that differ in the geometry share the rest.

    Args:
        networks: makes the networks, when one is needed for the first time.
        appearance: what decides the answers about frames and prompts, as JSON: another value is another cache.
        geometry: the same of the answers about the geometry; None where there is none.
        profile: of the clips.
        matched_patches: side in pixels of the patches whose places in the first frame are asked for, if any.
    """

    def __init__(
        self,
        networks: Callable[[], FrozenNetworks],
        *,
        appearance: Mapping[str, Any],
        geometry: Mapping[str, Any] | None,
        profile: ClipProfile,
        matched_patches: int | None = None,
    ) -> None:
        self._make = networks
        self._matched_patches = matched_patches
        self._profile = profile
        self._dataset = MiniDataset()
        self._appearance = _Answers(appearance, profile)
        self._geometry = None if geometry is None else _Answers(geometry, profile)
        self._matches = _Answers({"matched_patches": matched_patches}, profile)

    @cached_property
    def networks(self) -> FrozenNetworks:
        """The networks."""
        return self._make()

    def clip(self, index: int, variant: int) -> FrozenClip:
        """Training scene ``index`` in one of its ``VARIANTS``."""
        name = f"{index}-{variant}"

        def scene() -> Scene:
            return _variant(self._dataset.train_scene(index, self._profile), variant)

        seen = self._appearance.get(name, lambda: self.networks.appearance(scene()))
        geometry = None
        if self._geometry is not None:
            answers = self._geometry.get(f"geometry-{name}", lambda: self.networks.geometry(scene()))
            geometry = _posterior(answers["geometry"])
        matches = None
        if (patch := self._matched_patches) is not None:
            # float16: shares of whole pixels lose nothing that a softmax could tell
            answers = self._matches.get(
                f"matches-{name}", lambda: {"matches": latent_matches(scene(), patch).astype(np.float16)}
            )
            matches = torch.from_numpy(answers["matches"]).float()
        return FrozenClip(
            {setting: _posterior(seen[setting]) for setting in SETTINGS},
            geometry,
            torch.from_numpy(seen["text"]),
            torch.from_numpy(seen["image"]),
            Cameras(seen["world_from_cam"], seen["intrinsics"], self._profile.image_size),
            matches,
        )


class _Answers:
    """Arrays by name on disk, valid for one set of facts."""

    def __init__(self, facts: Mapping[str, Any], profile: ClipProfile) -> None:
        text = json.dumps({**facts, "data": MINI_VERSION, "profile": dataclasses.asdict(profile)}, sort_keys=True)
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._cache = ClipCache(cache_folder() / "frozen-clips" / self._fingerprint[:16])

    def get(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        arrays = self._cache.read(name, self._fingerprint)
        if arrays is None:
            arrays = make()
            self._cache.write(name, self._fingerprint, arrays)
        return arrays


def _variant(scene: Scene, variant: int) -> Scene:
    if variant & 1:
        scene = mirrored(scene)
    if variant & 2:
        scene = reordered(scene, np.arange(scene.num_frames)[::-1])
    return scene


def _stacked(posterior: DiagonalGaussian, index: int) -> NDArray[np.float32]:
    """[2, c, f, h, w] mean above log variance of one of a batch."""
    both: NDArray[np.float32] = torch.stack([posterior.mean[index], posterior.logvar[index]]).float().cpu().numpy()
    return both


def _posterior(stacked: NDArray[np.float32]) -> DiagonalGaussian:
    mean, logvar = torch.from_numpy(stacked)
    return DiagonalGaussian(mean, logvar)


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
