"""The two scene models: patches of posed views and of a target's rays in, the target's pixels out.

Module names are those of the authors' checkpoints, so that their keys fit; nothing else follows their code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, scaled_dot_product_attention

from gen3r_bench.errors import InputError
from gen3r_bench.models.lvsm.config import IMAGE_CHANNELS, RAY_CHANNELS, LvsmConfig


class Patches(nn.Module):
    """[N, C, H, W] to [N, patches in rows, pixels of a patch in rows times C]."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, maps: Tensor) -> Tensor:
        number, channels = maps.shape[:2]
        patches = pixel_unshuffle(maps, self.patch_size).reshape(number, channels, self.patch_size**2, -1)
        return patches.permute(0, 3, 2, 1).flatten(2)  # pixels before channels


class Attention(nn.Module):
    """Self-attention over [N, T, C] with queries and keys of unit mean square; no bias anywhere."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.fc = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(head_width, eps=1e-5)
        self.k_norm = nn.RMSNorm(head_width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.to_qkv(x).unflatten(-1, (3, -1, self.head_width)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(self.q_norm(query).type_as(value), self.k_norm(key).type_as(value), value)
        projected: Tensor = self.fc(mixed.transpose(1, 2).flatten(2))
        return projected


class Mlp(nn.Module):
    """Two layers without bias, an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.mlp(x)
        return answer


class Block(nn.Module):
    """Pre-norm attention, then pre-norm MLP."""

    def __init__(self, config: LvsmConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, bias=False)
        self.attn = Attention(config.width, config.head_width)
        self.norm2 = nn.LayerNorm(config.width, bias=False)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        answer: Tensor = x + self.mlp(self.norm2(x))
        return answer


class Lvsm(nn.Module):
    """What both kinds share: tokens of the views, tokens of a target's rays, pixels from tokens."""

    def __init__(self, config: LvsmConfig) -> None:
        super().__init__()
        self.config = config
        patch, width = config.patch_size, config.width
        self.image_tokenizer = nn.Sequential(Patches(patch), nn.Linear(IMAGE_CHANNELS * patch**2, width, bias=False))
        self.target_pose_tokenizer = nn.Sequential(
            Patches(patch), nn.Linear(RAY_CHANNELS * patch**2, width, bias=False)
        )
        self.image_token_decoder = nn.Sequential(
            nn.LayerNorm(width, bias=False), nn.Linear(width, 3 * patch**2, bias=False), nn.Sigmoid()
        )

    def scene_tokens(self, views: Tensor) -> Tensor:
        """[B, T, C] of the views' own tokens [B, V * patches, C]: what every target is rendered from."""
        raise NotImplementedError

    def target_tokens(self, scene: Tensor, target: Tensor) -> Tensor:
        """[N, patches, C] answers for the tokens of targets' rays [N, patches, C], beside their scenes [N, T, C]."""
        raise NotImplementedError

    def encode(self, images: Tensor, rays: Tensor) -> Tensor:
        """Tokens [B, T, C] of scenes, for views [B, V, 3, H, W] in [0, 1] and their Plücker rays [B, V, 6, H, W].

        Raises:
            InputError: where the shapes are others, or sides are not divisible by the patch size.
        """
        batch, views, _, height, width = images.shape
        self._check("images", images, (batch, views, 3, height, width))
        self._check("rays", rays, (batch, views, RAY_CHANNELS, height, width))
        tokens = self.image_tokenizer(torch.cat([images * 2 - 1, rays], dim=2).flatten(0, 1))
        return self.scene_tokens(tokens.reshape(batch, -1, self.config.width))

    def render(self, scene: Tensor, target_rays: Tensor) -> Tensor:
        """Targets [B, T, 3, H, W] in [0, 1] of encoded scenes, for rays [B, T, 6, H, W]; each depends on no other.

        Raises:
            InputError: where the shapes are others, or sides are not divisible by the patch size.
        """
        batch, count, _, height, width = target_rays.shape
        self._check("target rays", target_rays, (len(scene), count, RAY_CHANNELS, height, width))
        tokens = self.target_pose_tokenizer(target_rays.flatten(0, 1))
        pixels = self.image_token_decoder(self.target_tokens(scene.repeat_interleave(count, dim=0), tokens))
        return self._image(pixels, height, width).reshape(batch, count, 3, height, width)

    def forward(
        self, images: Tensor, rays: Tensor, target_rays: Tensor, *, targets_at_once: int | None = None
    ) -> Tensor:
        """``render(encode(images, rays), target_rays)``, some targets after the other where memory is short.

        Args:
            images: [B, V, 3, H, W] in [0, 1].
            rays: [B, V, 6, H, W].
            target_rays: [B, T, 6, H, W].
            targets_at_once: how many targets are in work together; the answer does not depend on it. None: all.

        Raises:
            InputError: as ``encode`` and ``render``, and on fewer than 1 target at once.
        """
        at_once = target_rays.shape[1] if targets_at_once is None else targets_at_once
        if at_once < 1:
            raise InputError(f"{at_once} targets at once", expected="at least 1")
        scene = self.encode(images, rays)
        return torch.cat([self.render(scene, some) for some in torch.split(target_rays, at_once, dim=1)], dim=1)

    def _image(self, pixels: Tensor, height: int, width: int) -> Tensor:
        """[N, 3, H, W] of [N, patches, p * p * 3]."""
        patch = self.config.patch_size
        grid = pixels.reshape(len(pixels), height // patch, width // patch, patch, patch, 3)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(pixels), 3, height, width)

    def _check(self, name: str, given: Tensor, wanted: tuple[int, ...]) -> None:
        if tuple(given.shape) != wanted:
            raise InputError(f"{name} of shape {list(given.shape)}", expected=f"{list(wanted)}")
        height, width = wanted[-2:]
        if height % self.config.patch_size or width % self.config.patch_size:
            raise InputError(
                f"{name} of {height} x {width} pixels", expected=f"sides divisible by {self.config.patch_size}"
            )


class DecoderOnlyLvsm(Lvsm):
    """Views and one target together through all blocks."""

    def __init__(self, config: LvsmConfig) -> None:
        super().__init__(config)
        self.transformer_blocks = _blocks(config, config.depth)
        self.transformer_input_layernorm = nn.LayerNorm(config.width, bias=False)
        _draw_weights(self)

    def scene_tokens(self, views: Tensor) -> Tensor:
        return views

    def target_tokens(self, scene: Tensor, target: Tensor) -> Tensor:
        x = self.transformer_input_layernorm(torch.cat([scene, target], dim=1))
        return _through(self.transformer_blocks, x)[:, scene.shape[1] :]


class EncoderDecoderLvsm(Lvsm):
    """Views become a fixed number of latent tokens once; targets are rendered from those."""

    def __init__(self, config: LvsmConfig) -> None:
        super().__init__(config)
        self.n_light_field_latent = nn.Parameter(torch.empty(config.latents, config.width))
        self.transformer_encoder = _blocks(config, config.encoder_depth)
        self.transformer_decoder = _blocks(config, config.depth)
        self.transformer_input_layernorm_decoder = nn.LayerNorm(config.width, bias=False)
        nn.init.trunc_normal_(self.n_light_field_latent, std=0.02)
        _draw_weights(self)

    def scene_tokens(self, views: Tensor) -> Tensor:
        x = torch.cat([self.n_light_field_latent.expand(len(views), -1, -1), views], dim=1)
        return _through(self.transformer_encoder, x)[:, : self.config.latents]

    def target_tokens(self, scene: Tensor, target: Tensor) -> Tensor:
        x = self.transformer_input_layernorm_decoder(torch.cat([target, scene], dim=1))
        return _through(self.transformer_decoder, x)[:, : target.shape[1]]


def build(config: LvsmConfig) -> Lvsm:
    """The network of a configuration, with freshly drawn weights."""
    return (EncoderDecoderLvsm if config.kind == "encoder-decoder" else DecoderOnlyLvsm)(config)


def _blocks(config: LvsmConfig, depth: int) -> nn.ModuleList:
    return nn.ModuleList(Block(config) for _ in range(depth))


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def _draw_weights(network: nn.Module) -> None:
    """Normal weights of deviation 0.02, smaller by the square root of twice the depth inside block after block."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            stack, _, rest = name.partition(".")
            depth = 2 * (int(rest.split(".")[0]) + 1) if stack.startswith("transformer_") else 1
            nn.init.normal_(module.weight, std=0.02 * depth**-0.5)
