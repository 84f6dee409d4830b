"""What the transformer is told of a clip: latents of the visible frames, masks, and rays of the cameras.

The joint latent holds appearance and geometry along one axis: side by side in the ``width``, appearance on the left,
where every tensor here covers both halves (Gen3R); or as ``channel``s of one latent of the appearance's size. Where
there is no geometry, the appearance is ``alone``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen3r_bench.errors import InputError
from gen3r_bench.models.video_autoencoder import Tiling, VideoAutoencoder
from gen3r_bench.scene import Cameras

Axis = Literal["width", "channel", "alone"]
Fill = Literal["black", "nearest"]
Answer = Literal["flow", "clean"]
TEMPORAL_RATIO: Final = 4
"""Frames that one latent frame stands for; the first latent frame stands for the first frame alone."""
SPATIAL_RATIO: Final = 8
"""Pixels of a latent's side."""
RAY_CHANNELS: Final = 6
_DIMENSIONS: Final = {"width": -1, "channel": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionStyle:
    """How a transformer is shown what is given, and what it answers; the defaults are those of the released Gen3R.

    Attributes:
        fill: of the frames that are not visible: "black", or the "nearest" visible one (the earlier of two).
        moment_gain: by which the moments of rays are multiplied.
        turn_gain: by which the change of a pixel's direction since the first frame is multiplied.
        answer: "flow", or the "clean" latents, of which the flow then follows.

    A small transformer that is trained for minutes does not find a turn of a degree in a unit vector: the gains are
    numbers near the inverse of what such a clip shows. Nor has it the width to hand on all of the noise, which the flow
    is made of.

    Raises:
        InputError: on another fill or answer, or a gain that is not positive.
    """

    fill: Fill = "black"
    moment_gain: float = 1.0
    turn_gain: float = 1.0
    answer: Answer = "flow"

    def __post_init__(self) -> None:
        if self.fill not in get_args(Fill):
            raise InputError(f"fill {self.fill!r}", expected=" or ".join(get_args(Fill)))
        if self.answer not in get_args(Answer):
            raise InputError(f"answer {self.answer!r}", expected=" or ".join(get_args(Answer)))
        if not (self.moment_gain > 0 and self.turn_gain > 0):
            raise InputError(f"gains {self.moment_gain} and {self.turn_gain}", expected="positive numbers")


RELEASED: Final = ConditionStyle()
"""As Gen3R's weights were trained."""


def joined(appearance: Tensor, geometry: Tensor, axis: Axis) -> Tensor:
    """One latent of two [B, c, f, h, w]: [B, c, f, h, 2 w] along the width, [B, 2 c, f, h, w] along the channels."""
    return torch.cat([appearance, geometry], dim=_DIMENSIONS[axis])


def parted(latents: Tensor, axis: Axis) -> tuple[Tensor, Tensor]:
    """The way back from ``joined``: appearance and geometry."""
    appearance, geometry = latents.chunk(2, dim=_DIMENSIONS[axis])
    return appearance, geometry


def fold_time(x: Tensor) -> Tensor:
    """[B, C, 1 + 4 k, H, W] as [B, 4 C, 1 + k, H, W]: the first frame four times, then each four frames as channels.

    Channel 4 c + j of latent frame i is channel c of frame 4 i + j - 3 (frame 0 where that is negative).

    Raises:
        InputError: where the number of frames is not 1 + 4 k.
    """
    frames = x.shape[2]
    if frames % TEMPORAL_RATIO != 1:
        raise InputError(f"{frames} frames", expected="1 + 4 k frames, such as 13 or 49")
    first = x[:, :, :1].expand(-1, -1, TEMPORAL_RATIO - 1, -1, -1)
    batch, channels, _, height, width = x.shape
    groups = torch.cat([first, x], dim=2).view(batch, channels, -1, TEMPORAL_RATIO, height, width)
    return groups.transpose(2, 3).flatten(1, 2)


def visible_clip(rgb: NDArray[np.uint8], frame_indices: Sequence[int], num_frames: int, fill: Fill = "black") -> Tensor:
    """[1, 3, F, H, W] float32 in [-1, 1]: the visible frames at their places, the filling everywhere else.

    Black (-1) is what Gen3R was trained with; the image-to-video Wan fills with mid-grey (0).

    Args:
        rgb: [n, H, W, 3] uint8.
        frame_indices: n places, ascending.
        num_frames: F.
        fill: see ``ConditionStyle``.
    """
    visible = torch.from_numpy(np.array(rgb)).float() / 255 * 2 - 1
    places = torch.tensor(list(frame_indices))
    if fill == "nearest":
        nearest = (torch.arange(num_frames)[:, None] - places).abs().argmin(dim=1)
        clip = visible[nearest]
    else:
        clip = torch.full((num_frames, *rgb.shape[1:]), -1.0)
        clip[places] = visible
    return clip.permute(3, 0, 1, 2)[None].contiguous()


def visibility_mask(
    frame_indices: Sequence[int], num_frames: int, latent_size: tuple[int, int], axis: Axis = "width"
) -> Tensor:
    """[1, 4, f, h, 2 w]: 1 where a frame is visible, on the left half only: no geometry is ever given.

    Args:
        frame_indices: visible frames.
        num_frames: F.
        latent_size: (h, w) of one half.
        axis: along which the geometry lies; other than along the width there is one half, and [1, 4, f, h, w].
    """
    height, width = latent_size
    mask = torch.zeros(1, 1, num_frames, height, width * (2 if axis == "width" else 1))
    mask[:, :, list(frame_indices), :, :width] = 1
    return fold_time(mask)


def encode_condition(
    vae: VideoAutoencoder,
    clip: Tensor,
    mask: Tensor,
    *,
    generator: torch.Generator | None,
    tiling: Tiling | None = None,
    axis: Axis = "width",
    latents_per_chunk: int = 1,
) -> Tensor:
    """[1, c + 4, f, h, 2 w]: latents of the visible clip and zeros beside them, then the mask.

    The latents are one draw from the VAE's posterior, as in training; the mean would be a condition that the network
    has not seen. The geometry half is zero, as in the paper's supplement (6.1) and the released inference pipeline.
    The released *training* code instead runs VGGT and the adapter on the black-filled clip, so that its networks saw
    other numbers there (and with every frame visible, the answer); the published results come from the pipeline.

    Args:
        vae: the Wan VAE, or what stands in its place.
        clip: from ``visible_clip``, at any device and dtype that ``vae`` takes.
        mask: from ``visibility_mask``.
        generator: of the draw; its noise is made on the generator's device.
        tiling: of the VAE.
        axis: along which the geometry lies; other than along the width, channels that are always zero are left out:
            [1, c + 4, f, h, w].
        latents_per_chunk: of the VAE.
    """
    appearance = vae.encode(clip, tiling=tiling, latents_per_chunk=latents_per_chunk).sample(generator)
    given = joined(appearance, torch.zeros_like(appearance), axis) if axis == "width" else appearance
    return torch.cat([given, mask.to(given)], dim=1)


def plucker_rays(cameras: Cameras, style: ConditionStyle = RELEASED) -> Tensor:
    """[F, 6, H, W] float32 rays through the pixel centres (+0.5): moment ``o x d``, then unit direction ``d``.

    In the first camera's world; origins keep the unit of the poses (Gen3R was trained on each dataset's own scale).
    The gains of ``style`` are applied to the moment, and to what is added to the pixel's direction in the first frame.
    """
    rebased = cameras.rebased()
    height, width = cameras.image_size
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([column, row, np.ones_like(row)], axis=-1)
    rays = np.empty((len(cameras), RAY_CHANNELS, height, width), dtype=np.float32)
    for frame, (pose, intrinsics) in enumerate(zip(rebased.world_from_cam, rebased.intrinsics, strict=True)):
        direction = pixels @ (pose[:3, :3] @ np.linalg.inv(intrinsics)).T
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        rays[frame, :3] = np.cross(pose[:3, 3], direction).transpose(2, 0, 1)
        rays[frame, 3:] = direction.transpose(2, 0, 1)
    if style.moment_gain != 1:
        rays[:, :3] *= style.moment_gain
    if style.turn_gain != 1:
        rays[:, 3:] = rays[:1, 3:] + style.turn_gain * (rays[:, 3:] - rays[:1, 3:])
    return torch.from_numpy(rays)


def camera_condition(
    cameras: Cameras | None,
    num_frames: int,
    image_size: tuple[int, int],
    axis: Axis = "width",
    style: ConditionStyle = RELEASED,
) -> Tensor:
    """[1, 24, f, H, 2 W] folded rays, the same for both halves; all zero for "no cameras".

    Where the geometry does not lie along the width there is one half: [1, 24, f, H, W].

    Raises:
        InputError: where the cameras are of another number of frames or another size.
    """
    if cameras is None:
        rays = torch.zeros(num_frames, RAY_CHANNELS, *image_size)
    elif (len(cameras), cameras.image_size) != (num_frames, tuple(image_size)):
        raise InputError(
            f"cameras of {len(cameras)} frames at {cameras.image_size}", expected=f"{num_frames} at {image_size}"
        )
    else:
        rays = plucker_rays(cameras, style)
    folded = fold_time(rays.transpose(0, 1)[None])
    return joined(folded, folded, axis) if axis == "width" else folded
