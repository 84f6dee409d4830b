from __future__ import annotations

import pytest
from tiny import TinyDataset, tiny_card

from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.datasets.splits import ManifestScene, SplitManifest
from gen3r_bench.errors import BenchError, InputError, SceneError, StoreError, UnknownNameError
from gen3r_bench.runs.plan import Plan, make_plan, merged_header, record_key
from gen3r_bench.runs.rows import make_row


def plan_of(dataset: TinyDataset | None = None, **options) -> Plan:
    cards = options.pop("cards", (tiny_card(),))
    rows = options.pop("rows", [make_row("oracle", device="cpu")])
    return make_plan(cards, {"tiny": OpenedDataset(dataset or TinyDataset(), {"cap": "80"})}, rows, **options)


def test_scenes_come_in_the_datasets_order_up_to_the_cards_count() -> None:
    plan = plan_of(TinyDataset("edcba"))
    assert plan.scenes["tiny-geom", "tiny"] == ("e", "d", "c")
    assert plan.scenes_in_full["tiny-geom", "tiny"] == 3
    assert not plan.header("x").partial


def test_limit_and_named_scenes_make_a_run_partial() -> None:
    assert plan_of(limit=1).header("x").partial
    named = plan_of(TinyDataset("abcde"), scenes=("e", "b"))
    assert named.scenes["tiny-geom", "tiny"] == ("b", "e")
    assert named.header("x").partial


def test_a_dataset_with_too_few_scenes_is_partial() -> None:
    header = plan_of(TinyDataset("ab")).header("x")
    assert header.plan[0].scenes_in_full == 3
    assert header.partial


def test_a_dataset_that_no_card_names_is_taken_whole() -> None:
    plan = plan_of(TinyDataset("abcde"), cards=(tiny_card(datasets={}),))
    entry = plan.header("x").plan[0]
    assert (entry.frames, entry.image_size, len(entry.scenes)) == (49, (560, 560), 5)
    assert not entry.partial


def test_cards_of_one_clip_share_a_task() -> None:
    plan = plan_of(cards=(tiny_card("one"), tiny_card("two"), tiny_card("three", datasets={})))
    tasks = plan.tasks()
    assert [(task.scene_id, [card.name for card in task.cards]) for task in tasks][:2] == [
        ("a", ["one", "two"]),
        ("b", ["one", "two"]),
    ]
    assert len(tasks) == 6
    assert plan.num_records() == 9


def test_header_says_everything() -> None:
    header = plan_of(seeds=(1, 2)).header("gen3r-bench run")
    assert header.command == "gen3r-bench run"
    assert header.seeds == (1, 2)
    assert header.card("tiny-geom").content["geometry"]["voxel_size"] == 0.005
    assert header.row("oracle").kind == "diagnostic"
    assert header.plan[0].dataset_options == {"cap": "80"}
    assert {"python", "numpy", "numba", "gen3r-bench", "processor"} <= set(header.environment)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limit": 0}, InputError, "limit 0"),
        ({"seeds": ()}, InputError, "seeds"),
        ({"seeds": (1, 1)}, InputError, "distinct"),
        ({"rows": []}, InputError, "no rows"),
        ({"scenes": ("aa",)}, UnknownNameError, "unknown scene of tiny 'aa'; did you mean 'a'"),
        ({"rows": [make_row("oracle", device="cpu")] * 2}, BenchError, "two rows are called 'oracle'"),
    ],
)
def test_plans_that_make_no_sense(options: dict, error: type[BenchError], message: str) -> None:
    with pytest.raises(error, match=message):
        plan_of(**options)


def test_geometry_needs_a_dataset_with_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    monkeypatch.setattr(TinyDataset, "info", dataclasses.replace(TinyDataset.info, has_depth=False))
    with pytest.raises(InputError, match="it scores geometry"):
        plan_of()
    plan_of(cards=(tiny_card(geometry=None, metrics=("psnr@8bit",)),))


def test_a_key_depends_on_everything_that_decides_the_numbers() -> None:
    base = (tiny_card(), "tiny", "a", "clip", "row", 42, "exact")
    changed = [
        (tiny_card("other"), *base[1:]),
        (tiny_card(version=2), *base[1:]),
        (tiny_card(psnr_cap_db=50), *base[1:]),
        *[(*base[:i], "x" if i < 5 else (43 if i == 5 else "released"), *base[i + 1 :]) for i in range(1, 7)],
    ]
    keys = {record_key(*arguments) for arguments in [base, *changed]}
    assert len(keys) == len(changed) + 1
    assert record_key(*base) == record_key(tiny_card(title="another title"), *base[1:])


def test_merging_adds_rows_scenes_and_seeds() -> None:
    old = plan_of(limit=1).header("first")
    new = plan_of(rows=[make_row("wobble", device="cpu")], seeds=(7,)).header("second")
    merged = merged_header(old, new, "RUN")
    assert [row.label for row in merged.rows] == ["oracle", "wobble"]
    assert merged.plan[0].scenes == ("a", "b", "c")
    assert merged.seeds == (42, 7)
    assert merged.created == old.created
    assert merged_header(merged, new, "RUN") == merged


def test_merging_refuses_other_dataset_options() -> None:
    old = plan_of().header("x")
    other = make_plan(
        (tiny_card(),), {"tiny": OpenedDataset(TinyDataset(), {"cap": "40"})}, [make_row("oracle", device="cpu")]
    )
    with pytest.raises(StoreError, match="tiny read with other options"):
        merged_header(old, other.header("x"), "RUN")


def manifest_of(dataset: TinyDataset, ids: tuple[str, ...], **changes) -> SplitManifest:
    profile = tiny_card().clip_plan("tiny").profile()
    scenes = [
        ManifestScene(
            scene_id=scene, start=0, stride=1, frames=profile.frames, sha256=dataset.fingerprint(scene, profile)
        )
        for scene in ids
    ]
    fields = {
        "dataset": "tiny", "rule": "mine", "options": {"cap": "80"}, "image_size": profile.image_size, "scenes": scenes,
        "excluded": [{"scene_id": "z", "reason": "too short"}], "created": "now",
        "counts": {"listed": 9, "wanted": None, "usable": len(scenes), "excluded": 1},
    }  # fmt: skip
    return SplitManifest.model_validate({**fields, **changes})


def test_a_manifest_decides_the_scenes_and_stands_in_the_header() -> None:
    dataset = TinyDataset("abcdef")
    plan = plan_of(dataset, manifests={"tiny": manifest_of(dataset, ("f", "a"))})
    assert plan.scenes["tiny-geom", "tiny"] == ("f", "a")
    entry = plan.header("x").plan[0]
    assert entry.manifest_sha256 == manifest_of(dataset, ("f", "a")).sha256
    assert entry.left_out == {"too short": 1}
    assert entry.partial
    with pytest.raises(UnknownNameError, match="unknown scene of tiny 'b'"):
        plan_of(dataset, manifests={"tiny": manifest_of(dataset, ("f", "a"))}, scenes=("b",))


def test_scenes_that_a_readers_rules_exclude_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"x": "a hand", "y": "bad", "z": "a hand"}
    monkeypatch.setattr(TinyDataset, "excluded", lambda self: reasons, raising=False)
    assert plan_of().header("x").plan[0].left_out == {"a hand": 2, "bad": 1}


def test_a_manifest_of_other_clips_is_refused() -> None:
    dataset = TinyDataset()
    with pytest.raises(InputError, match="the clips that the manifest pins"):
        plan_of(dataset, manifests={"tiny": manifest_of(dataset, ("a",), image_size=(8, 8))})


def test_a_file_that_changed_since_the_manifest_is_a_scenes_error() -> None:
    dataset = TinyDataset()
    manifest = manifest_of(dataset, ("a", "b"))
    changed = manifest.scenes[1].model_copy(update={"sha256": "other"})
    pinned = manifest.model_copy(update={"scenes": (manifest.scenes[0], changed)})
    plan = plan_of(dataset, manifests={"tiny": pinned})
    first, second = plan.tasks()
    assert plan.fingerprint(first) == manifest.scenes[0].sha256
    with pytest.raises(SceneError, match="changed since the manifest was written"):
        plan.fingerprint(second)


def test_merging_refuses_another_manifest() -> None:
    dataset = TinyDataset()
    old = plan_of(dataset, manifests={"tiny": manifest_of(dataset, ("a",))}).header("x")
    with pytest.raises(StoreError, match="another manifest"):
        merged_header(old, plan_of(dataset).header("x"), "RUN")
