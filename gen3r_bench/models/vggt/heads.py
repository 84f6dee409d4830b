"""From tokens to cameras, depth and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu, silu

from gen3r_bench.models.vggt.blocks import Block, Mlp
from gen3r_bench.models.vggt.config import VggtConfig

POSE_WIDTH: Final = 9
UNTRAINED_FIELD_OF_VIEW: Final = 1.0
"""Radians that an untrained camera head answers; a bias of 0 would be a field of view of 0, which is no camera."""
POSITION_SHARE: Final = 0.1
POSITION_BASE: Final = 100.0


class Modulation(nn.Sequential):
    """Shift, scale and gate from the embedding of the present answer."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shift, scale, gate = self[1](silu(embedding)).chunk(3, dim=-1)
        return shift, scale, gate


class CameraHead(nn.Module):
    """Refines the 9 numbers of each frame's camera from the camera tokens (VGGT paper, section 3.3)."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        width = config.token_width
        self.iterations = config.camera_iterations
        self.trunk = nn.ModuleList(
            Block(width, config.camera_heads, config.mlp_ratio, branch_scale=0.01) for _ in range(config.camera_depth)
        )
        self.token_norm = nn.LayerNorm(width)
        self.trunk_norm = nn.LayerNorm(width)
        self.unlearned_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_WIDTH))
        self.embed_pose = nn.Linear(POSE_WIDTH, width)
        self.poseLN_modulation = Modulation(width)
        self.pose_branch = Mlp(width, width // 2, POSE_WIDTH)
        with torch.no_grad():
            self.pose_branch.fc2.bias[7:] = UNTRAINED_FIELD_OF_VIEW / self.iterations

    def forward(self, camera_tokens: Tensor) -> Tensor:
        """Pose encoding [B, F, 9] after every refinement, [iterations, B, F, 9], from tokens [B, F, 2C]."""
        tokens = self.token_norm(camera_tokens)
        plain = self.unlearned_norm(tokens)
        answer: Tensor | None = None
        answers = []
        for _ in range(self.iterations):
            # each refinement starts from the last answer as it is, without its gradient
            present = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if answer is None else answer.detach()
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(present))
            x = tokens + gate * (plain * (1 + scale) + shift)
            for block in self.trunk:
                x = block(x)
            change = self.pose_branch(self.trunk_norm(x))
            answer = change if answer is None else answer.detach() + change
            answers.append(torch.cat([answer[..., :7], relu(answer[..., 7:])], dim=-1))
        return torch.stack(answers)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions around a rectified skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # the released network rectifies its input in place, so what skips the convolutions is rectified too
        kept = relu(x)
        answer: Tensor = kept + self.conv2(relu(self.conv1(kept)))
        return answer


class Merge(nn.Module):
    """Adds a finer level to what came from the coarser ones, and upsamples the sum to ``size``."""

    def __init__(self, width: int, *, first: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        if not first:
            self.resConfUnit1 = ResidualUnit(width)
        self.resConfUnit2 = ResidualUnit(width)

    def forward(self, coarser: Tensor | None, level: Tensor, size: tuple[int, int]) -> Tensor:
        x = level if coarser is None else coarser + self.resConfUnit1(level)
        merged: Tensor = self.out_conv(upsampled(self.resConfUnit2(x), size))
        return merged


class Pyramid(nn.Module):
    """Merges four levels, coarsest first; holds the last layers of its head too, as the official keys have it."""

    def __init__(self, config: VggtConfig, out_channels: int) -> None:
        super().__init__()
        width = config.dense_width
        for number, level_width in enumerate(config.dense_layer_widths, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(level_width, width, 3, padding=1, bias=False))
            self.add_module(f"refinenet{number}", Merge(width, first=number == 4))
        self.output_conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(width // 2, config.dense_hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.dense_hidden, out_channels, 1),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """[N, dense_width / 2, 2h, 2w] from levels [N, c_i, h_i, w_i], finest first."""
        merged: Tensor | None = None
        for number in (4, 3, 2, 1):
            level = self.get_submodule(f"layer{number}_rn")(levels[number - 1])
            finer = levels[number - 2].shape if number > 1 else [2 * n for n in level.shape]
            merged = self.get_submodule(f"refinenet{number}")(merged, level, (finer[-2], finer[-1]))
        answer: Tensor = self.output_conv1(merged)
        return answer


class DenseMap(nn.Module):
    """DPT (Ranftl et al. 2021): numbers for each pixel of a frame, from the tokens of its patches.

    Args:
        config: sizes.
        outputs: numbers a pixel.
    """

    def __init__(self, config: VggtConfig, outputs: int) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = config.dense_layer_widths
        self.norm = nn.LayerNorm(config.token_width)
        self.projects = nn.ModuleList(nn.Conv2d(config.token_width, width, 1) for width in widths)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(widths[0], widths[0], 4, stride=4),
                nn.ConvTranspose2d(widths[1], widths[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(widths[3], widths[3], 3, stride=2, padding=1),
            )
        )
        self.scratch = Pyramid(config, outputs)

    def numbers(self, patches: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """[N, H, W, outputs] of the last layer, from patch tokens [N, rows * columns, 2C] of four layers."""
        aspect = grid[1] / grid[0]
        levels = []
        for tokens, project, resize in zip(patches, self.projects, self.resize_layers, strict=True):
            level = project(self.norm(tokens).transpose(1, 2).unflatten(2, grid))
            levels.append(resize(level + position_map(level, aspect)))
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        x = upsampled(self.scratch(levels), size)
        last: Tensor = self.scratch.output_conv2(x + position_map(x, aspect))
        return last.permute(0, 2, 3, 1)


class DenseHead(DenseMap):
    """One image-sized map for each frame, and its confidence.

    Args:
        config: sizes.
        channels: of the map: 1 for depth, which is the exponential of the last layer; 3 for points, which are
            ``sign(x) * expm1(|x|)`` of it. Confidence is ``1 + exp``.
    """

    def __init__(self, config: VggtConfig, channels: int) -> None:
        super().__init__(config, channels + 1)
        self.signed = channels > 1

    def forward(self, patches: Sequence[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Map [N, H, W, channels] and confidence [N, H, W] from patch tokens [N, rows * columns, 2C] of four layers."""
        x = self.numbers(patches, grid)
        raw, confidence = x[..., :-1], 1 + x[..., -1].exp()
        return (raw.sign() * raw.abs().expm1() if self.signed else raw.exp()), confidence


class RgbHead(DenseMap):
    """Frames read back from VGGT's tokens by a head of the same kind, as the paper's Table 9 has it for VGGT.

    The paper says no more than that VGGT has an RGB head of its own there; that its last layer is a sigmoid is ours.
    """

    def __init__(self, config: VggtConfig) -> None:
        super().__init__(config, 3)
        self.config = config

    def forward(self, patches: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """[N, H, W, 3] in [0, 1] from patch tokens [N, rows * columns, 2C] of four layers."""
        return self.numbers(patches, grid).sigmoid()


def upsampled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, c, h, w] resampled bilinearly with aligned corners."""
    return interpolate(x, size=size, mode="bilinear", align_corners=True)


def position_map(like: Tensor, aspect: float) -> Tensor:
    """What the dense heads add to [N, c, h, w]: [c, h, w] sines and cosines of each cell's place, times 0.1.

    Places are cell centres of a rectangle of the given aspect (width / height) whose half diagonal is 1. The first
    half of the channels codes the column, the second the row; in each, sines come before cosines.
    """
    channels, rows, columns = like.shape[1:]
    diagonal = (1 + aspect**2) ** 0.5
    frequency = POSITION_BASE ** -(torch.arange(channels // 4, dtype=torch.float64) / (channels // 4))

    def coded(cells: int, half_extent: float) -> Tensor:
        outermost = half_extent * (cells - 1) / cells
        place = torch.linspace(-outermost, outermost, cells, dtype=torch.float64)
        angle = frequency[:, None] * place
        return torch.cat([angle.sin(), angle.cos()])

    column = coded(columns, aspect / diagonal)[:, None, :].expand(-1, rows, -1)
    row = coded(rows, 1 / diagonal)[:, :, None].expand(-1, -1, columns)
    return POSITION_SHARE * torch.cat([column, row]).to(device=like.device, dtype=like.dtype)
