"""From images to tokens: a DINOv2 encoder for each frame, then blocks that look at one frame and at all in turn."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gen3r_bench.models.vggt.blocks import Block, Rotation
from gen3r_bench.models.vggt.config import VggtConfig

IMAGE_MEAN: Final = (0.485, 0.456, 0.406)
IMAGE_STD: Final = (0.229, 0.224, 0.225)


class PatchProjection(nn.Module):
    """A linear map of every patch: [N, 3, H, W] to [N, H / patch, W / patch, C]."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.proj(images)
        return patches.permute(0, 2, 3, 1)


class Dinov2Encoder(nn.Module):
    """DINOv2 ViT with registers (Oquab et al. 2023, Darcet et al. 2024); only its patch tokens are used here."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        width, self.grid = config.width, config.encoder_grid
        self.patch_embed = PatchProjection(config.patch_size, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + self.grid**2, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, width))
        # belongs to the pre-training; part of the official weights, never read
        self.mask_token = nn.Parameter(torch.zeros(1, width), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(width, config.encoder_heads, config.mlp_ratio, branch_scale=1.0, eps=1e-6)
            for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding [1, rows, columns, C] of the patches: as trained, or resampled for another grid."""
        trained = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1)
        if grid == (self.grid, self.grid):
            return trained
        resampled = interpolate(
            trained.permute(0, 3, 1, 2).float(), size=grid, mode="bicubic", align_corners=False, antialias=True
        )
        return resampled.permute(0, 2, 3, 1).to(trained.dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Patch tokens [N, rows * columns, C] of normalised images [N, 3, H, W]."""
        patches = self.patch_embed(images)
        patches = patches + self.positions((patches.shape[1], patches.shape[2]))
        first = self.cls_token + self.pos_embed[:, :1]
        leading = torch.cat([first, self.register_tokens], dim=1).expand(len(images), -1, -1)
        x = torch.cat([leading.type_as(patches), patches.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x[:, leading.shape[1] :])
        return normed


class Aggregator(nn.Module):
    """Tokens of the layers that the heads read (VGGT paper, section 3.2)."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embed = Dinov2Encoder(config)
        # entry 0 is the first frame's, entry 1 every other frame's: the first frame is the world
        self.camera_token = nn.Parameter(1e-6 * torch.randn(1, 2, 1, width))
        self.register_token = nn.Parameter(1e-6 * torch.randn(1, 2, config.registers, width))

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                Block(width, config.heads, config.mlp_ratio, branch_scale=0.01, qk_norm=True)
                for _ in range(config.depth)
            )

        self.frame_blocks = blocks()
        self.global_blocks = blocks()

    def _special(self, batch: int, frames: int) -> Tensor:
        """Camera and register tokens [B, F, 1 + registers, C]."""
        both = torch.cat([self.camera_token, self.register_token], dim=2)
        which = torch.ones(frames, dtype=torch.long, device=both.device)
        which[0] = 0
        return both[:, which].expand(batch, -1, -1, -1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Tokens [B, F, P, 2C] of each used layer, for images [B, F, 3, H, W] in [0, 1].

        P counts the camera token, the registers and the patches in rows; channels are those of the frame's block,
        then those of the global one.
        """
        config = self.config
        batch, frames, _, height, width = images.shape
        grid = (height // config.patch_size, width // config.patch_size)
        mean = images.new_tensor(IMAGE_MEAN)[:, None, None]
        std = images.new_tensor(IMAGE_STD)[:, None, None]
        patches = self.patch_embed(((images - mean) / std).flatten(0, 1)).unflatten(0, (batch, frames))
        x = torch.cat([self._special(batch, frames).type_as(patches), patches], dim=2)
        in_frame = Rotation.of_frame(
            grid, config.patch_start, config.width // config.heads, config.rope_base, images.device
        )
        everywhere = in_frame.repeated(frames)
        layers = []
        for index, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            local = frame_block(x.flatten(0, 1), in_frame).unflatten(0, (batch, frames))
            x = global_block(local.flatten(1, 2), everywhere).unflatten(1, (frames, -1))
            if index in config.used_layers:
                layers.append(torch.cat([local, x], dim=-1))
        return tuple(layers)
