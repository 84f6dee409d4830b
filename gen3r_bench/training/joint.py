"""The recipe that Gen3R, WVD and their ablations share: flow matching over a clip's appearance and geometry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from gen3r_bench.models.adapter_checkpoint import load_adapter
from gen3r_bench.models.autoencoder_checkpoint import load_autoencoder
from gen3r_bench.models.causal3d import DiagonalGaussian
from gen3r_bench.models.checkpoint import weights_sha256
from gen3r_bench.models.folder import CONFIG_KEY
from gen3r_bench.models.gen3r.folder import Gen3rFolder
from gen3r_bench.models.joint.conditioning import (
    RELEASED,
    SPATIAL_RATIO,
    Axis,
    ConditionStyle,
    camera_condition,
    joined,
    parted,
    visibility_mask,
)
from gen3r_bench.models.joint.file import FileFacts, FileNetworks, FrozenPart, file_metadata
from gen3r_bench.models.joint.pipeline import Sampling
from gen3r_bench.models.joint.words import WordTokenizer, vocabulary_of
from gen3r_bench.models.vggt_checkpoint import load_vggt
from gen3r_bench.models.wan.image_encoder import ImageConfig, ImageEncoder
from gen3r_bench.models.wan.text import TextConfig, TextEncoder, Tokenizer
from gen3r_bench.models.wan.transformer import DitConfig, JointDit, rotary_phases, rotate
from gen3r_bench.models.wvd.normalisation import DEFAULT, Normalisation
from gen3r_bench.scene import SETTINGS, conditioning_indices
from gen3r_bench.training.attention import matching_loss, watched_attention
from gen3r_bench.training.flow_matching import LEVELS, clean_error, draw_sigmas, flow_error, noised
from gen3r_bench.training.frozen_clips import VARIANTS, FrozenClip, FrozenClips, FrozenNetworks
from gen3r_bench.training.mini_recipe import MiniRecipe
from gen3r_bench.training.movement import in_metric, movement_metric, square_root
from gen3r_bench.training.sources import (
    GEN3R,
    OFFICIAL,
    WAN_FUN,
    frozen_sha256,
    gen3r_folder,
    require_sources,
    source_path,
)
from gen3r_bench.training.starting_weights import begin_from, initialise

_METHODS: Final = {"autoencoder": "wan-vae", "adapter": "geometry-adapter", "vggt": "vggt"}
"""Under which name the weights of each frozen network are known."""
_NORMS: Final = ("norm_q", "norm_k")
"""Of the transformer's attention."""
ENCODER_SEED: Final = 1
"""Of the encoders that are drawn and never trained."""
METRIC_CLIPS: Final = 16
"""Over how many training clips, the first ones, the metric of geometry is measured."""


class JointBatch(NamedTuple):
    """B clips.

    Attributes:
        latents: [B, c, f, h, w] joint latents: what is to be generated.
        noise: of the same shape, standard normal.
        sigmas: [B] how much of it is mixed in.
        condition: [B, c + 4, f, h, w] latents of the visible frames, then masks.
        text: [B, n, dim], zero behind a prompt's own tokens.
        image: [B, m, dim].
        rays: [B, 24, f, 8 h, 8 w].
        weights: of squared errors, broadcast over the latents: [B, c, 1, 1, w].
        matches: [B, n, m] where the n tokens are seen among the first m, those of the first latent frame; rows of zeros
            where that is not told.
    """

    latents: Tensor
    noise: Tensor
    sigmas: Tensor
    condition: Tensor
    text: Tensor
    image: Tensor
    rays: Tensor
    weights: Tensor
    matches: Tensor


class JointRecipe(MiniRecipe):
    """How the transformer of Gen3R, of WVD or of one of Gen3R's ablations is trained on ``mini``.

    A clip's posteriors come from frozen networks. Each sample shows the first frame, the first and the last, or all of
    them, one third each; half of the samples have no cameras, a fifth has no prompt. The geometry's part of the
    condition is always zero. Text and image encoder are drawn once and never trained: their features tell prompts
    and frames apart, and mean nothing else.

    Beside the error of the latents stands a term that the authors' training lacks and that a short one needs to find
    out what cameras mean: where a sample has cameras and frames are missing, a few attention heads are told where in
    the first frame a token's patch is seen, which ``mini`` knows exactly (cross-entropy against ``latent_matches``).

    Attributes:
        method: whose transformer this is.
        model: its sizes.
        text: sizes of the text encoder; ``vocab`` must be at least three more than there are words.
        image: sizes of the image encoder.
        shift: of the noise levels, see ``noise_levels``.
        least_sigma: see ``clean_error``; of no effect on flows.
        weigh_channels: by how much a squared error of the appearance counts: "evenly", or as "posterior" says, in
            proportion to 1 / the channel's variance in the clip's own posterior, with a mean of 1: how sure the
            autoencoder is of a channel tells how much of the picture hangs on it.
        depth_share: how much of the geometry's squared error counts by how far it moves depth (or points), relative to
            the distance, in the metric of ``movement_metric``; the rest counts every channel alike.
        matching_blocks: blocks, counted from 0, whose attention is told.
        matching_heads: how many heads of each, from the first on.
        matching_weight: of that term; 0 leaves it out.
        style: how the transformer is shown what is given.
        autoencoder: of frames: "reference" (this project's own), "official", or a path.
        geometry: "tokens" of VGGT through an adapter, its "points" through ``autoencoder``, or "none".
        vggt: whose tokens or points: as ``autoencoder``.
        adapter: of the tokens: the same.
        axis: along which the geometry lies.
        normalisation: of points.
        drop_cameras: share of samples without cameras.
        drop_prompt: share of samples without a prompt.
        frames: of a clip, 1 + 4 k.
        clips: how many of ``mini``'s training scenes take part, each in four variants.
        batch: clips a step.
        encoders: of text and first frame: "drawn", or those of Gen3R's official folder, whose sizes are then given.
        start: transformer to begin from: "official" (Wan2.1-Fun with camera control), "reference" (the shipped
            ``gen3r-two-stage``), or a path; input channels that it lacks begin as zeros. None: drawn.
        sampling: how the released file says that clips are drawn; no part of the training.
    """

    method: Literal["gen3r", "wvd", "gen3r-two-stage", "gen3r-without-kl"]
    model: DitConfig
    text: TextConfig
    image: ImageConfig
    shift: float = Field(default=2.0, gt=0)
    least_sigma: float = Field(default=0.2, gt=0, le=1)
    weigh_channels: Literal["evenly", "posterior"] = "evenly"
    depth_share: float = Field(default=0.0, ge=0, le=1)
    matching_blocks: tuple[int, ...] = ()
    matching_heads: int = Field(default=1, ge=1)
    matching_weight: float = Field(default=0.0, ge=0)
    style: ConditionStyle = RELEASED
    autoencoder: str
    geometry: Literal["tokens", "points", "none"]
    vggt: str | None = None
    adapter: str | None = None
    axis: Axis = "width"
    normalisation: Normalisation = DEFAULT
    drop_cameras: float = Field(default=0.5, ge=0, le=1)
    drop_prompt: float = Field(default=0.2, ge=0, le=1)
    batch: int = Field(ge=1)
    encoders: Literal["drawn", "official"] = "drawn"
    start: str | None = None
    sampling: Sampling = Sampling()

    def facts(self) -> dict[str, Any]:
        """With the hashes of the weights of the frozen networks and of the one it begins from, where they are there."""
        named = self._frozen_paths()
        if self.start is not None:
            named["start"] = source_path(*self._start_source(self.start))
        unused = [] if self.depth_share else ["depth_share"]
        return self._facts("joint", exclude=["sampling", *unused], frozen_sha256=frozen_sha256(named))

    def network(self) -> JointDit:
        self._require_sources()
        network = JointDit(self.model)
        initialise(network)
        if self.start is not None:
            begin_from(network, source_path(*self._start_source(self.start)))
        return network

    def shipped(self, network: nn.Module) -> nn.Module:
        """With the drawn encoders; beside the official ones the transformer alone, for the folder that holds those."""
        assert isinstance(network, JointDit)
        if self.encoders == "official":
            return network
        text, image = self._encoders
        return FileNetworks(network, text, image)

    def metadata(self, shipped: nn.Module) -> dict[str, str]:
        if not isinstance(shipped, FileNetworks):
            return {CONFIG_KEY: json.dumps(self.model.to_json())}
        needed = ("autoencoder", "adapter", "vggt") if self.geometry == "tokens" else ("autoencoder",)
        paths = self._frozen_paths()
        facts = FileFacts(
            class_name={"tokens": "Gen3r", "points": "Wvd", "none": "Video"}[self.geometry],
            words=self._words,
            scheduler={"num_train_timesteps": LEVELS, "shift": self.shift},
            style=self.style,
            sampling=self.sampling,
            options={"axis": self.axis, "normalisation": self.normalisation} if self.geometry == "points" else {},
            parts={
                _METHODS[name]: FrozenPart(checkpoint=str(self._sources[name]), sha256=weights_sha256(paths[name]))
                for name in needed
            },
        )
        return file_metadata(shipped, facts, side=self.side, frames=self.frames)

    def draw_batch(self, draw: np.random.Generator) -> JointBatch:
        samples = [self._sample(draw) for _ in range(self.batch)]
        latents, conditions, texts, images, rays, weights, matches = (
            torch.stack(parts) for parts in zip(*samples, strict=True)
        )
        return JointBatch(
            latents=latents,
            noise=_normal(draw, latents.shape),
            sigmas=draw_sigmas(draw, self.batch, self.shift),
            condition=conditions,
            text=texts,
            image=images,
            rays=rays,
            weights=weights,
            matches=matches,
        )

    def losses(self, network: nn.Module, batch: JointBatch) -> dict[str, Tensor]:
        noisy = noised(batch.latents, batch.noise, batch.sigmas)
        told = self.matching_blocks if self.matching_weight else ()
        with watched_attention(network, [f"blocks.{block}.self_attn" for block in told], _NORMS) as watched:
            answer = network(
                noisy,
                batch.sigmas * LEVELS,
                condition=batch.condition,
                text=batch.text,
                image=batch.image,
                rays=batch.rays,
            )

        def error(found: Tensor, clean: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
            if self.style.answer == "clean":
                return clean_error(found, clean, batch.sigmas, least_sigma=self.least_sigma, weights=weights)
            return flow_error(found, clean, noise, weights)

        counted = (self._in_metric(part) for part in (answer, batch.latents, batch.noise))
        parts = (*counted, batch.weights.expand_as(answer))
        losses = {"total": error(*parts)}
        if self.geometry != "none":
            halves = zip(*(parted(part, self.axis) for part in parts), strict=True)
            for name, half in zip(("appearance", "geometry"), halves, strict=True):
                losses[name] = error(*half)
        if watched:
            losses["matching"] = self._matching(watched, batch)
            losses["total"] = losses["total"] + self.matching_weight * losses["matching"]
        return losses

    def _in_metric(self, latents: Tensor) -> Tensor:
        """Joint latents whose geometry's squares count as the recipe says."""
        if not self.depth_share:
            return latents
        appearance, geometry = parted(latents, self.axis)
        return joined(appearance, in_metric(geometry, self._root), self.axis)

    @cached_property
    def _root(self) -> Tensor:
        networks = self._clips.networks
        posteriors = (self._clips.clip(index, 0).geometry for index in range(min(METRIC_CLIPS, self.clips)))
        means = [posterior.mean[None] for posterior in posteriors if posterior is not None]
        return square_root(movement_metric(networks.decoded_geometry, means), self.depth_share)

    def _matching(self, watched: Sequence[tuple[Tensor, Tensor]], batch: JointBatch) -> Tensor:
        grid = self._token_grid(batch.latents)
        heads, width = self.model.num_heads, self.model.dim // self.model.num_heads
        phases = rotary_phases(grid, width, self.model.halves, batch.latents.device)

        def told(x: Tensor) -> Tensor:
            """[B, told heads, tokens, channels], turned by their places as the attention turns them."""
            return rotate(x.view(*x.shape[:-1], heads, width), phases).transpose(1, 2)[:, : self.matching_heads]

        places = slice(batch.matches.shape[-1])
        terms = [matching_loss(told(query), told(key), batch.matches, places) for query, key in watched]
        return torch.stack(terms).mean()

    def _sample(self, draw: np.random.Generator) -> tuple[Tensor, ...]:
        """Latents, condition, text, image, rays, weights and matches of one clip; the draws have a fixed order."""
        clip = self._clips.clip(int(draw.integers(self.clips)), int(draw.integers(VARIANTS)))
        setting = SETTINGS[int(draw.integers(len(SETTINGS)))]
        without_cameras, without_prompt = draw.random() < self.drop_cameras, draw.random() < self.drop_prompt
        latents = _drawn(draw, clip.seen["allview"])
        given = _drawn(draw, clip.seen[setting])
        weights = self._weights(clip.seen["allview"])
        if clip.geometry is not None:
            latents = joined(latents[None], _drawn(draw, clip.geometry)[None], self.axis)[0]
            weights = joined(weights[None], torch.ones_like(weights)[None], self.axis)[0]
        mask = visibility_mask(
            conditioning_indices(setting, self.frames), self.frames, (given.shape[-2], given.shape[-1]), self.axis
        )
        if self.axis == "width":
            given = joined(given[None], torch.zeros_like(given)[None], self.axis)[0]
        return (
            latents,
            torch.cat([given, mask[0]]),
            self._padded(self._no_prompt if without_prompt else clip.text),
            clip.image,
            self._rays(None if without_cameras else clip),
            weights,
            self._matches(None if without_cameras or setting == "allview" else clip, latents),
        )

    def _weights(self, appearance: DiagonalGaussian) -> Tensor:
        """[c, 1, 1, w] of the appearance's squared errors."""
        variance = appearance.std.square().mean(dim=(1, 2, 3), keepdim=True)
        precision = 1 / variance if self.weigh_channels == "posterior" else torch.ones_like(variance)
        return (precision / precision.mean()).expand(-1, -1, -1, appearance.mean.shape[-1])

    def _matches(self, clip: FrozenClip | None, latents: Tensor) -> Tensor:
        """[tokens, tokens of the first latent frame]: the geometry's tokens look for the appearance's, never back."""
        if not self.matching_weight:
            return torch.zeros(0, 0)
        frames, rows, columns = self._token_grid(latents)
        matches = torch.zeros(frames, rows, columns, rows, columns)
        if clip is not None:
            assert clip.matches is not None
            half = columns // self.model.halves
            known = clip.matches.view(frames, rows, half, rows, half)
            matches[..., :half] = known.repeat(1, 1, self.model.halves, 1, 1)
        return matches.view(frames * rows * columns, rows * columns)

    def _token_grid(self, latents: Tensor) -> tuple[int, int, int]:
        frames, rows, columns = (
            size // patch for size, patch in zip(latents.shape[-3:], self.model.patch_size, strict=True)
        )
        return frames, rows, columns

    def _rays(self, clip: FrozenClip | None) -> Tensor:
        cameras = None if clip is None else clip.cameras
        return camera_condition(cameras, self.frames, (self.side, self.side), self.axis, self.style)[0]

    def _padded(self, features: Tensor) -> Tensor:
        return nn.functional.pad(features, (0, 0, 0, self.model.text_len - len(features)))

    @cached_property
    def _no_prompt(self) -> Tensor:
        return self._clips.networks.text_features("")

    @cached_property
    def _clips(self) -> FrozenClips:
        hashes = {name: weights_sha256(path) for name, path in self._frozen_paths().items()}
        appearance = {
            "autoencoder": hashes["autoencoder"],
            "fill": self.style.fill,
            "text": self.text.to_json(),
            "image": self.image.to_json(),
            "text_len": self.model.text_len,
            "words": self._words,
            "encoder_seed": ENCODER_SEED,
        }
        geometry = {"frozen": hashes, "geometry": self.geometry, "normalisation": self.normalisation}
        return FrozenClips(
            self._networks,
            appearance=appearance,
            geometry=None if self.geometry == "none" else geometry,
            profile=self._profile,
            matched_patches=SPATIAL_RATIO * self.model.patch_size[1] if self.matching_weight else None,
        )

    def _networks(self) -> FrozenNetworks:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        paths = self._frozen_paths()
        text, image = self._encoders
        vggt, adapter = paths.get("vggt"), paths.get("adapter")
        read: Any = {"device": device, "dtype": torch.float32}
        return FrozenNetworks(
            autoencoder=load_autoencoder(paths["autoencoder"], **read),
            vggt=None if vggt is None else load_vggt(vggt, **read),
            adapter=None if adapter is None else load_adapter(adapter, **read),
            text=text.to(device),
            image=image.to(device),
            tokenizer=self._tokenizer,
            text_len=self.model.text_len,
            fill=self.style.fill,
            normalisation=self.normalisation,
        )

    @cached_property
    def _encoders(self) -> tuple[TextEncoder, ImageEncoder]:
        if self.encoders == "official":
            text, image = (self._folder.load(name, dtype=torch.bfloat16) for name in ("text", "image"))
            assert isinstance(text, TextEncoder)
            assert isinstance(image, ImageEncoder)
            return text, image
        with torch.random.fork_rng():
            torch.manual_seed(ENCODER_SEED)
            text, image = TextEncoder(self.text), ImageEncoder(self.image)
        # as they are shipped, so that training and sampling see the same features
        for module in (text, image):
            module.half().float().eval().requires_grad_(False)
        return text, image

    @property
    def _tokenizer(self) -> Tokenizer:
        return self._folder.tokenizer() if self.encoders == "official" else WordTokenizer(self._words)

    @cached_property
    def _folder(self) -> Gen3rFolder:
        return gen3r_folder()

    @cached_property
    def _words(self) -> tuple[str, ...]:
        """The drawn text encoder's vocabulary; the official one has a tokenizer of its own."""
        if self.encoders == "official":
            return ()
        return vocabulary_of(
            self._dataset.train_scene(index, self._profile).prompt or "" for index in range(self.clips)
        )

    @property
    def _sources(self) -> dict[str, str | None]:
        """Whose networks the frozen ones are, by their fields."""
        return {"autoencoder": self.autoencoder, "adapter": self.adapter, "vggt": self.vggt}

    def _require_sources(self) -> None:
        needed = [(_METHODS[name], str(self._sources[name])) for name in self._frozen_paths()]
        if self.encoders == OFFICIAL:  # they come with the other official ones
            needed = [(GEN3R, OFFICIAL), *(each for each in needed if each[1] != OFFICIAL)]
        if self.start is not None:
            needed.append(self._start_source(self.start))
        require_sources(needed)
        if self.encoders == OFFICIAL:
            _ = self._folder  # raises where parts are missing

    def _frozen_paths(self) -> dict[str, Path]:
        """Of the frozen networks that this recipe needs, but for the encoders."""
        needed = {"tokens": ("autoencoder", "adapter", "vggt"), "points": ("autoencoder", "vggt")}
        return {
            name: source_path(_METHODS[name], str(self._sources[name]))
            for name in needed.get(self.geometry, ("autoencoder",))
        }

    @staticmethod
    def _start_source(start: str) -> tuple[str, str]:
        return WAN_FUN if start == OFFICIAL else "gen3r-two-stage", start

    @model_validator(mode="after")
    def _fits(self) -> Self:
        missing = [name for name, path in (("vggt", self.vggt), ("adapter", self.adapter)) if path is None]
        needed = {"tokens": {"vggt", "adapter"}, "points": {"vggt"}, "none": set()}[self.geometry]
        if needed & set(missing):
            raise ValueError(f"{self.geometry} need {', '.join(sorted(needed & set(missing)))}")
        if (self.geometry == "none") != (self.axis == "alone"):
            raise ValueError(f"geometry {self.geometry!r} along the axis {self.axis!r}")
        if self.geometry == "none" and self.depth_share:
            raise ValueError(f"depth_share {self.depth_share} without geometry")
        return self


def _drawn(draw: np.random.Generator, posterior: DiagonalGaussian) -> Tensor:
    """One draw of a posterior."""
    return posterior.mean + posterior.std * _normal(draw, posterior.mean.shape)


def _normal(draw: np.random.Generator, shape: torch.Size) -> Tensor:
    return torch.from_numpy(draw.standard_normal(tuple(shape), dtype=np.float32))
