from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import FRAMES, SIZE, TinyDataset

from gen3r_bench.datasets.base import ClipProfile, OpenedDataset
from gen3r_bench.datasets.splits import (
    RULE,
    ExcludedScene,
    ManifestCounts,
    ManifestScene,
    SplitManifest,
    make_manifest,
    protocol_split,
    published_names,
    published_split,
    verify_manifest,
)
from gen3r_bench.errors import BenchError, InputError, UnknownNameError
from gen3r_bench.scene import Scene

PROFILE = ClipProfile(FRAMES, SIZE)
ids = st.sets(st.text(min_size=1, max_size=12), min_size=1, max_size=60)


def rank(dataset: str, scene: str) -> str:
    return hashlib.sha256(f"gen3r-bench split 1/{dataset}/{scene}".encode()).hexdigest()


@given(ids, st.randoms())
def test_split_ignores_order_and_repeats(scenes: set[str], random: object) -> None:
    order = sorted(scenes)
    random.shuffle(order)  # type: ignore[attr-defined]
    assert protocol_split("dl3dv", order + order[:3]) == protocol_split("dl3dv", sorted(scenes))


@given(ids, ids, st.sampled_from([0.1, 0.5, 1.0]))
def test_a_subset_keeps_its_members_and_their_order(some: set[str], more: set[str], fraction: float) -> None:
    small = protocol_split("co3dv2", some, test_fraction=fraction)
    whole = protocol_split("co3dv2", some | more, test_fraction=fraction)
    bound = fraction * 2.0**256
    if int(rank("co3dv2", small[0]), 16) < bound:  # otherwise the small root had no test scene, and is taken whole
        assert small == tuple(scene for scene in whole if scene in some)
    else:
        assert set(small) == some


def test_split_is_the_documented_hash() -> None:
    scenes = [f"scene-{i}" for i in range(3000)]
    test = protocol_split("wildrgbd", scenes)
    ranks = [rank("wildrgbd", scene) for scene in test]
    assert ranks == sorted(ranks)
    assert set(test) == {scene for scene in scenes if int(rank("wildrgbd", scene), 16) < 2**256 // 10}
    assert 240 < len(test) < 360
    assert protocol_split("wildrgbd", scenes, test_fraction=1)[: len(test)] == test
    # pinned: a change of these is another rule, and needs another version
    assert test[:3] == ("scene-922", "scene-2488", "scene-2151")
    assert set(protocol_split("tartanair", scenes)) != set(test)


def test_small_roots_are_taken_whole() -> None:
    outside = [scene for scene in map(str, range(40)) if int(rank("dl3dv", scene), 16) >= 2**256 // 10]
    assert protocol_split("dl3dv", outside) == tuple(sorted(outside, key=lambda scene: rank("dl3dv", scene)))
    assert protocol_split("dl3dv", []) == ()


@pytest.mark.parametrize("fraction", [0, -1, 1.01, float("nan")])
def test_fractions_outside_are_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="a number above 0 and up to 1"):
        protocol_split("dl3dv", ["a"], test_fraction=fraction)


class Excluding(TinyDataset):
    """A reader that knows from its index that scene b has no frames, and that talks about the others."""

    def excluded(self) -> dict[str, str]:
        return {"b": "no frames", "elsewhere": "not in this split"}

    def load(self, scene_id: str, profile: ClipProfile) -> Scene:
        if scene_id not in self.scene_ids():
            raise UnknownNameError("scene", scene_id, self.scene_ids())
        return super().load(scene_id, profile)

    def remarks(self, scene_id: str, profile: ClipProfile) -> tuple[str, ...]:
        return (f"{scene_id} jumps",)


def drawn(count: int | None = None, reader: type[TinyDataset] = TinyDataset, **more: object) -> SplitManifest:
    opened = OpenedDataset(reader(ids=("a", "b", "c", "d"), broken=("c",)), {"cap": "80"})
    return make_manifest("tiny", opened, PROFILE, count, **more)  # type: ignore[arg-type]


def test_manifest_draws_usable_scenes_and_keeps_reasons() -> None:
    seen: list[str] = []
    manifest = drawn(progress=seen.append)
    assert manifest.scene_ids() == ("a", "b", "d")
    assert [scene.scene_id for scene in manifest.excluded] == ["c"]
    assert manifest.excluded[0].reason
    assert manifest.counts == ManifestCounts(listed=4, wanted=None, usable=3, excluded=1)
    assert manifest.rule == RULE
    assert manifest.options == {"cap": "80"}
    assert seen == ["a", "b", "c", "d"]
    assert all(manifest.profile(scene) == PROFILE for scene in manifest.scenes)
    assert drawn(2).scene_ids() == ("a", "b")
    assert drawn(2).excluded == ()
    with pytest.raises(InputError, match="1 or more"):
        drawn(0)


def test_manifest_takes_what_the_index_knows_and_says() -> None:
    manifest = drawn(1, Excluding)
    assert manifest.scene_ids() == ("a",)
    assert manifest.excluded == (ExcludedScene(scene_id="b", reason="no frames"),)
    assert manifest.scenes[0].remarks == ("a jumps",)


def test_manifest_of_a_published_list() -> None:
    published = published_split("depthsplat-dl3dv-50").model_copy(
        update={"dataset": "tiny", "name": "mine", "scene_ids": ("d", "z", "b")}
    )
    manifest = drawn(published=published, reader=Excluding)
    assert manifest.rule == "published mine"
    assert manifest.scene_ids() == ("d", "b")  # taken at its word: what can be read is read
    assert manifest.excluded == (ExcludedScene(scene_id="z", reason="not found below the data root"),)
    with pytest.raises(InputError, match="depthsplat-dl3dv-50 with tiny; expected dl3dv"):
        drawn(published=published_split("depthsplat-dl3dv-50"))


def test_manifest_answers_for_its_scenes() -> None:
    manifest = drawn()
    assert manifest.fingerprint("b") == TinyDataset().fingerprint("b", PROFILE)
    with pytest.raises(UnknownNameError, match="scene of the manifest 'e'"):
        manifest.fingerprint("e")
    manifest.check_clip(PROFILE)
    with pytest.raises(InputError, match="data split") as refused:
        manifest.check_clip(ClipProfile(FRAMES, SIZE, stride=2))
    assert f"a clip of {FRAMES} frames of {SIZE[0]}x{SIZE[1]}, from frame 0 in steps of 2, with" in str(refused.value)


def test_hash_is_of_what_is_run() -> None:
    manifest = drawn()
    later = manifest.model_copy(update={"created": "2030-01-01T00:00:00+00:00", "excluded": ()})
    assert later.sha256 == manifest.sha256
    assert drawn(2).sha256 != manifest.sha256


texts = st.text(max_size=20)


@given(
    st.lists(st.tuples(texts, st.integers(0, 9), st.integers(1, 9), st.integers(1, 99)), unique_by=lambda row: row[0]),
    st.dictionaries(texts, texts, max_size=3),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, int, int]], options: dict[str, str]
) -> None:
    scenes = tuple(
        ManifestScene(scene_id=name, start=start, stride=stride, frames=frames, sha256="0" * 64)
        for name, start, stride, frames in rows
    )
    manifest = SplitManifest(
        dataset="tiny",
        rule=RULE,
        options=options,
        image_size=(5, 7),
        scenes=scenes,
        excluded=(),
        counts=ManifestCounts(listed=len(rows), wanted=None, usable=len(rows), excluded=0),
        created="2026-01-01T00:00:00+00:00",
    )
    path = tmp_path_factory.mktemp("manifest") / "split.json"
    manifest.write(path)
    assert SplitManifest.read(path) == manifest
    assert [entry.name for entry in path.parent.iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: len(content) // 2], "not a manifest of version 1"),
        (lambda content: content.replace('"schema_version": 1', '"schema_version": 2'), "schema_version"),
        (lambda content: content.replace('"rule"', '"rules"'), "rule"),
        (lambda content: content.replace('"usable": 3', '"usable": 4'), "counts say 4 usable"),
        (lambda content: content.replace('"scene_id": "b"', '"scene_id": "a"'), "'a' stands in it twice"),
        (lambda content: content.replace('"stride": 1', '"stride": 0', 1), "stride"),
    ],
)
def test_damaged_manifests_are_refused(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "split.json"
    drawn().write(path)
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(BenchError, match=message):
        SplitManifest.read(path)


def test_manifest_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot read the manifest"):
        SplitManifest.read(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="choose another --out"):
        drawn().write(tmp_path / "file" / "split.json")


def test_verify_finds_changes() -> None:
    manifest = drawn()
    opened = OpenedDataset(TinyDataset(ids=("a", "b", "d")), {"cap": "80"})
    assert verify_manifest(manifest, opened) == []
    changed = manifest.model_copy(
        update={"scenes": (manifest.scenes[0].model_copy(update={"sha256": "f" * 64}), *manifest.scenes[1:])}
    )
    (problem,) = verify_manifest(changed, opened)
    assert problem.startswith("a: its files or the reader changed")
    problems = verify_manifest(manifest, OpenedDataset(TinyDataset(ids=("a", "b", "d")), {"cap": "60"}))
    assert problems == ["option cap: the manifest has 80, the dataset was opened with 60"]


def test_published_lists_are_whole(shared_dir: Path) -> None:
    assert published_names() == ("depthsplat-dl3dv-50", "droidslam-tartanair", "pixelsplat-re10k")
    source = shared_dir / "data" / "eval_indices"
    pixelsplat = json.loads((source / "pixelsplat_evaluation_index_re10k.json").read_text())
    assert published_split("pixelsplat-re10k").scene_ids == tuple(clip for clip, views in pixelsplat.items() if views)
    dl3dv = json.loads((source / "depthsplat_dl3dv_start_0_distance_50_ctx_2v_video_0_50.json").read_text())
    assert published_split("depthsplat-dl3dv-50").scene_ids == tuple(dl3dv)
    tartan = (source / "droidslam_tartan_test.txt").read_text().split()
    assert [f"{name.split('/')[0]}/{name}" for name in published_split("droidslam-tartanair").scene_ids] == tartan


def test_published_lists_name_their_source() -> None:
    for name in published_names():
        entry = published_split(name)
        assert entry.name == name
        assert entry.source.startswith("https://github.com/")
        assert entry.licence
        assert len(set(entry.scene_ids)) == len(entry.scene_ids) > 30
    with pytest.raises(UnknownNameError, match="did you mean 'pixelsplat-re10k'"):
        published_split("pixelsplat-re10")
