"""What a protocol lets a method see of a scene."""

from __future__ import annotations

import hashlib

import numpy as np

from gen3r_bench.protocols.card import Card
from gen3r_bench.scene import Conditioning, Scene, conditioning_indices


def scene_seed(seed: int, dataset: str, scene_id: str) -> int:
    """Sampling seed of one scene: 63 bits from the run's seed and the scene's name, never from the order of a run."""
    digest = hashlib.sha256(f"{seed}/{dataset}/{scene_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def conditioning_name(card: Card) -> str:
    """Protocols of one name here are served by one prediction, such as ``1view-cameras-given``."""
    return f"{card.setting}-cameras-{card.cameras}"


def condition(scene: Scene, card: Card, seed: int) -> Conditioning:
    """The part of a scene that a card's setting shows: frames, cameras where given, prompt, the scene's own seed."""
    indices = conditioning_indices(card.setting, scene.num_frames)
    return Conditioning(
        setting=card.setting,
        frame_indices=indices,
        # a copy: a view would still reach the withheld frames through its base
        rgb=np.array(scene.rgb[list(indices)]),
        cameras=scene.cameras if card.cameras == "given" else None,
        num_frames=scene.num_frames,
        image_size=scene.image_size,
        prompt=scene.prompt,
        seed=scene_seed(seed, scene.dataset, scene.scene_id),
    )
