from __future__ import annotations

import pytest
from pydantic import ValidationError
from tiny import tiny_card

from gen3r_bench import registry
from gen3r_bench.protocols.card import Card, ClipPlan

# The protocols of docs/protocols.md: setting, cameras, datasets with their scene counts, tables of the paper.
ALL_FIVE = "realestate10k 200 dl3dv 200 co3dv2 300 wildrgbd 300 tartanair 80"
PAPER = {
    "appearance-1view": ("1view", "given", ALL_FIVE, (1, 4, 6)),
    "appearance-2view": ("2view", "given", ALL_FIVE, (1, 4, 6)),
    "geom-1view": ("1view", "given", "co3dv2 300 wildrgbd 300 tartanair 80", (2, 4)),
    "geom-2view": ("2view", "given", "co3dv2 300 wildrgbd 300 tartanair 80", (2, 4)),
    "geom-recon": ("allview", "none", "co3dv2 300 wildrgbd 300 tartanair 80", (3,)),
    "camera-1view": ("1view", "given", "realestate10k 200 wildrgbd 300", (5,)),
    "camera-2view": ("2view", "given", "realestate10k 200 wildrgbd 300", (5,)),
    "free-1view": ("1view", "none", "realestate10k 200 dl3dv 200", (7,)),
    "free-2view": ("2view", "none", "realestate10k 200 dl3dv 200", (7,)),
    "pose-recon": ("allview", "none", "realestate10k 200 wildrgbd 300", (8,)),
    "rgb-recon": ("allview", "none", "realestate10k 200 dl3dv 200", (9,)),
}  # fmt: skip


def every_card() -> dict[str, Card]:
    found = registry.protocols()
    return {name: found.load(name) for name in found.names()}


def test_the_papers_protocols() -> None:
    cards = every_card()
    assert set(cards) == set(PAPER)
    for name, (setting, cameras, datasets, tables) in PAPER.items():
        card = cards[name]
        words = datasets.split()
        counts = {dataset: int(count) for dataset, count in zip(words[::2], words[1::2], strict=True)}
        assert (card.setting, card.cameras, card.paper_tables) == (setting, cameras, tables)
        assert {dataset: clip.scenes for dataset, clip in card.datasets.items() if dataset != "mini"} == counts
        for dataset, clip in card.datasets.items():
            expected = ClipPlan(scenes=40, frames=13, image_size=(112, 112)) if dataset == "mini" else clip
            assert clip == expected
            if dataset != "mini":
                assert (clip.frames, clip.stride, clip.start, clip.image_size) == (49, 1, 0, (560, 560))


def test_every_table_of_the_paper_is_fed() -> None:
    assert {table for card in every_card().values() for table in card.paper_tables} == set(range(1, 10))


def test_hashes_differ_and_are_stable() -> None:
    cards = every_card()
    assert len({card.hash for card in cards.values()}) == len(cards)
    assert tiny_card().hash == tiny_card().hash
    assert len(tiny_card().hash) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"name": "x"},
        {"setting": "2view"},
        {"cameras": "none"},
        {"datasets": {}},
        {"metrics": ("psnr@8bit",)},
        {"frames_scored": ("all",)},
        {"geometry": {"alignment_scale": "umeyama"}},
        {"geometry": {"voxel_size": None}},
        {"psnr_cap_db": 99.0},
    ],
)
def test_whatever_changes_a_number_changes_the_hash(change: dict) -> None:
    assert tiny_card(**change).hash != tiny_card().hash


@pytest.mark.parametrize("change", [{"title": "x"}, {"summary": "x"}, {"paper_tables": (9,)}])
def test_words_do_not_change_the_hash(change: dict) -> None:
    assert tiny_card(**change).hash == tiny_card().hash


def test_a_card_is_checked() -> None:
    with pytest.raises(ValidationError, match="no metrics"):
        tiny_card(metrics=())
    with pytest.raises(ValidationError, match="novel"):
        tiny_card(setting="allview", cameras="none")
    with pytest.raises(ValidationError, match="extra"):
        tiny_card(colour="red")
    with pytest.raises(ValidationError, match="frozen"):
        tiny_card().version = 3


def test_a_card_survives_json() -> None:
    for card in every_card().values():
        again = Card.model_validate_json(card.model_dump_json())
        assert again == card
        assert again.hash == card.hash
