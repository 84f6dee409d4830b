from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.test_run import METHOD
from hypothesis import given
from hypothesis import strategies as st
from reports.synthetic import GEN3R, flat, write_run

from gen3r_bench import registry
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.errors import BenchError, InputError, StoreError, UnknownNameError
from gen3r_bench.regression.calibrate import (
    DECIBEL_FLOOR,
    FACTOR,
    FLOORS,
    RELATIVE_FLOOR,
    SMALLEST_FLOOR,
    Update,
    floor_of,
    make_goldens,
    tolerances,
    update,
)
from gen3r_bench.regression.check import check
from gen3r_bench.regression.golden import Wanted, read_goldens, readable_goldens, write_golden
from gen3r_bench.regression.subset import Guarded, default_scenes, grouped, open_dataset, scorable_protocols, to_update
from gen3r_bench.regression.variants import LAST_DIGITS, LastDigits, process_variants
from gen3r_bench.runs.rows import make_row
from gen3r_bench.scene import Scene

MINI = open_dataset("mini", {}, {})
SCENE = "test/000"
FREEZE = Guarded("freeze", "camera-1view", "mini", (), (SCENE,), (42,), "exact")


def test_the_tolerance_is_the_largest_drift_over_scenes_and_variants(tmp_path: Path) -> None:
    def records(folder: str, moved: dict[str, float]) -> tuple:
        run = write_run(tmp_path / folder, lambda p, r, s, seed: flat(5.0 + moved.get(s, 0.0)), rows=(GEN3R,))
        return run.records

    golden = records("golden", {})
    found = tolerances(
        golden,
        [("1 thread", records("a", {"s0": 0.01})), ("float64", records("b", {"s1": -0.25, "s2": 0.02}))],
    )
    assert found.keys() == flat(0.0).keys()
    one = found["chamfer@fps20k"]
    assert one.drift == pytest.approx(0.25)
    assert one.seen_in == "float64"
    assert one.floor == pytest.approx(6.0 * RELATIVE_FLOOR)
    assert one.tolerance == FACTOR * one.drift
    still = tolerances(golden, [("1 thread", golden)])["chamfer@fps20k"]
    assert (still.drift, still.seen_in, still.tolerance) == (0.0, "", still.floor)
    with pytest.raises(BenchError, match="of s0 has no score under 'empty'"):
        tolerances(golden, [("empty", ())])


@given(values=st.lists(st.floats(0, 1e3), min_size=1))
def test_floors(values: list[float]) -> None:
    metrics = registry.metrics()
    points = floor_of(metrics["chamfer@fps20k"], values)
    assert points == max(RELATIVE_FLOOR * max(values), SMALLEST_FLOOR) > 0
    assert floor_of(metrics["psnr@8bit"], values) == DECIBEL_FLOOR
    assert floor_of(metrics["ssim@skimage-gauss"], values) == FLOORS["frames"]
    # one pair of 78 may fall into the next of AUC@5's five bins
    assert 1 / 78 / 5 < floor_of(metrics["auc5@hist1deg"], values) < 2 / 78 / 5


def test_last_digits_move_every_depth_by_one_step_and_few_colours() -> None:
    true = MINI.reader.load(SCENE, DEFAULT_PROFILE)
    wrapped = LastDigits.of(MINI).reader
    moved = wrapped.load(SCENE, DEFAULT_PROFILE)
    assert true.depth is not None
    assert moved.depth is not None
    step = np.spacing(true.depth[true.valid])
    change = moved.depth[true.valid] - true.depth[true.valid]
    assert (np.abs(change) > 0).all()
    assert (np.abs(change) <= step).all()
    assert {-1, 1} <= set(np.unique(np.sign(change)))
    assert (moved.depth[~true.valid] == true.depth[~true.valid]).all()
    colours = moved.rgb.astype(int) - true.rgb
    assert set(np.unique(colours)) == {-1, 0, 1}
    assert 0.5e-4 < (colours != 0).mean() < 2e-4
    again: Scene = wrapped.load(SCENE, DEFAULT_PROFILE)
    assert (again.depth == moved.depth).all()
    assert wrapped.scene_ids() == MINI.reader.scene_ids()
    assert wrapped.fingerprint(SCENE, DEFAULT_PROFILE) == MINI.reader.fingerprint(SCENE, DEFAULT_PROFILE)


def test_processes_differ_in_threads_and_in_kind_of_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    one, two, avx2, sse4 = process_variants()
    assert [variant.variables["OMP_NUM_THREADS"] for variant in (one, two)] == ["1", "2"]
    assert [variant.jobs for variant in (one, two)] == [1, 2]
    assert (avx2.variables["ONEDNN_MAX_CPU_ISA"], avx2.variables["ATEN_CPU_CAPABILITY"]) == ("AVX2", "avx2")
    assert (sse4.variables["ONEDNN_MAX_CPU_ISA"], sse4.variables["ATEN_CPU_CAPABILITY"]) == ("SSE41", "default")
    # a clip in the cache was rendered by this kind of CPU
    assert avx2.fresh_clips
    assert sse4.fresh_clips
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert [variant.name for variant in process_variants()] == ["1 thread", "2 threads"]


def test_every_golden_of_an_update_names_the_commit_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goldens lie in the checkout: the first one written makes it a changed one."""
    monkeypatch.setattr(
        "gen3r_bench.regression.calibrate.code_commit", lambda: "c" + "+changes" * bool(list(tmp_path.glob("*.json")))
    )
    rows = [FREEZE, replace(FREEZE, spec="oracle")]
    made = list(update(rows, tmp_path, reason="first", device="cpu", roots={}, over=[LAST_DIGITS]))
    assert [one.golden.commit for one in made] == ["c", "c"]


def test_a_golden_is_made_holds_and_is_made_again(tmp_path: Path) -> None:
    (first,) = update(
        [FREEZE], tmp_path, reason="first", device="cpu", roots={}, over=[LAST_DIGITS], progress=lambda what: None
    )
    golden = first.golden
    assert (golden.spec, golden.protocol, golden.header.plan[0].scenes) == ("freeze", "camera-1view", (SCENE,))
    assert [observed.name for observed in golden.calibration.observed] == [LAST_DIGITS]
    assert "1 thread: not asked for" in golden.calibration.not_observed
    assert any("no rounding variants" in note for note in golden.calibration.not_observed)
    assert first.moved("auc30@hist1deg") is None
    (judgement,) = check(read_goldens(tmp_path))
    assert judgement.ok
    (second,) = update([FREEZE], tmp_path, reason="second", device="cpu", roots={}, over=[LAST_DIGITS])
    assert second.moved("auc30@hist1deg") == 0.0
    assert second.path == first.path
    assert [one.reason for one in read_goldens(tmp_path).values()] == ["second"]


def test_what_cannot_be_a_golden(tmp_path: Path) -> None:
    row = make_row("freeze", device="cpu")
    with pytest.raises(UnknownNameError, match="unknown variant '3 threads'"):
        make_goldens(
            [FREEZE], row, MINI, tmp_path / "a", reason="r", device="cpu", roots={}, over=["3 threads"]
        )  # fmt: skip
    assert not (tmp_path / "a").exists()  # nothing has run
    oracle = Guarded("crossfade", "camera-1view", "mini", (), (SCENE,), (42,), "exact")
    with pytest.raises(BenchError, match="is unsupported: crossfade does not support 1view"):
        make_goldens(
            [oracle], make_row("crossfade", device="cpu"), MINI, tmp_path / "b", reason="r", device="cpu", roots={}
        )


def test_what_has_gone_is_judged_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made,) = update([FREEZE], tmp_path, reason="first", device="cpu", roots={}, over=[LAST_DIGITS])
    golden = made.golden
    gone = golden.model_copy(update={"spec": "freeze@lost"})
    plan = golden.header.plan[0].model_copy(update={"scenes": ("test/999",)})
    elsewhere = golden.model_copy(
        update={
            "header": golden.header.model_copy(update={"plan": (plan,)}),
            "records": (golden.records[0].model_copy(update={"scene_id": "test/999"}),),
        }
    )
    card = golden.header.protocols[0].model_copy(update={"name": "camera-9view"})
    unknown = golden.model_copy(update={"header": golden.header.model_copy(update={"protocols": (card,)})})
    paths = [Path(name) for name in ("gone", "elsewhere", "unknown", "there")]
    found = check(dict(zip(paths, (gone, elsewhere, unknown, golden), strict=True)))
    assert [one.ok for one in found] == [False, False, False, True]
    assert [one.problems[0].kind for one in found[:3]] == ["cannot run"] * 3
    for one, text in zip(found, ("has no weights", "has none of the golden's scenes", "not registered"), strict=False):
        assert text in one.problems[0].text


def test_one_missing_scene_is_a_breach_of_its_scores(tmp_path: Path) -> None:
    (made,) = update([FREEZE], tmp_path, reason="first", device="cpu", roots={}, over=[LAST_DIGITS])
    golden = made.golden
    plan = golden.header.plan[0].model_copy(update={"scenes": (SCENE, "test/999")})
    lost = golden.records[0].model_copy(update={"scene_id": "test/999"})
    more = golden.model_copy(
        update={
            "header": golden.header.model_copy(update={"plan": (plan,)}),
            "records": (*golden.records, lost),
        }
    )
    (found,) = check({write_golden(more, tmp_path): more})
    assert {(line.scene_id, line.outcome) for line in found.lines} == {(SCENE, "same"), ("test/999", "missing")}


def test_what_an_update_means(tmp_path: Path) -> None:
    def guarded(*methods: str, protocols: tuple[str, ...] = (), scenes: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        wanted = Wanted(methods, protocols)
        there = list(readable_goldens(tmp_path)[0].values())
        found = to_update(there, wanted, scenes, {}, "cpu")
        assert len(set(found)) == len(found)
        return {(one.spec, one.protocol, *one.scenes) for one in found}

    with pytest.raises(InputError, match="nothing to update"):
        guarded()
    assert guarded("freeze", protocols=("geom-1view",), scenes=(SCENE,)) == {("freeze", "geom-1view", SCENE)}
    lvsm = guarded("lvsm@reference")
    assert {protocol for _, protocol, *_ in lvsm} == {"appearance-1view", "appearance-2view"}
    assert {tuple(scenes) for _, _, *scenes in lvsm} == {default_scenes("mini", MINI)}
    with pytest.raises(InputError, match="without a protocol"):
        guarded("wobble")
    list(update([FREEZE], tmp_path, reason="first", device="cpu", roots={}, over=[LAST_DIGITS]))
    assert guarded() == guarded("freeze") == guarded("freeze", "freeze") == {("freeze", "camera-1view", SCENE)}
    both = guarded("freeze", protocols=("camera-1view", "geom-1view"))
    assert {protocol for _, protocol, *_ in both} == {"camera-1view", "geom-1view"}


MINE = METHOD.replace('licence="MIT",', 'licence="MIT", checkpoints=("w",),').replace(
    "    def predict",
    "    @classmethod\n    def load(cls, checkpoint, *, device):\n        return cls()\n\n    def predict",
)


def made(folder: Path, spec: str) -> list[Update]:
    one = replace(FREEZE, spec=spec)
    return list(update([one], folder, reason="r", device="cpu", roots={}, over=[LAST_DIGITS]))


def test_weights_of_one_file_name_do_not_take_each_others_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "g"
    (first,) = made(folder, "mine.py:Still@a/w")
    assert first.golden.row.label == "still@w"
    (again,) = made(folder, f"./mine.py:Still@{tmp_path}/b/../a/w")  # other words for the same file
    assert (again.path, again.removed, again.moved("auc30@hist1deg")) == (first.path, [], 0.0)
    monkeypatch.setattr("gen3r_bench.regression.calibrate.make_goldens", None)  # refused before anything runs
    before = first.path.read_bytes()
    for spec in ("mine.py:Still@b/w", "mine.py:Still", "other.py:Still@a/w"):
        (tmp_path / "other.py").write_text(MINE)
        with pytest.raises(StoreError, match=r"is the golden of \./mine.py:Still@.*/w, and .* is called still@w, too"):
            made(folder, spec)
    assert first.path.read_bytes() == before


@pytest.mark.parametrize("change", [('"still"', '"moving"'), ('checkpoints=("w",)', 'checkpoints=("v",)')])
def test_a_renamed_row_takes_the_place_of_its_old_golden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    (old,) = made(tmp_path / "g", "mine.py:Still")
    (tmp_path / "mine.py").write_text(MINE.replace(*change))
    (new,) = made(tmp_path / "g", "mine.py:Still")
    assert new.removed == [old.path]
    assert new.moved("auc30@hist1deg") == 0.0
    assert list(read_goldens(tmp_path / "g")) == [new.path] != [old.path]


def test_protocols_of_one_row_and_the_same_scenes_are_one_run() -> None:
    geometry, elsewhere = (
        Guarded("freeze", "geom-1view", "mini", (), scenes, (42,), "exact") for scenes in ((SCENE,), ("test/001",))
    )
    assert grouped([FREEZE, elsewhere, geometry]) == [(FREEZE, geometry), (elsewhere,)]


def test_default_scenes_have_every_family_and_path() -> None:
    numbers = [int(scene[-3:]) for scene in default_scenes("mini", MINI)]
    assert {number % 3 for number in numbers} == {0, 1, 2}
    assert {number // 3 % 4 for number in numbers} == {0, 1, 2, 3}
    assert set(default_scenes("mini", MINI)) <= set(MiniDataset().scene_ids())
    assert "rgb-recon" in scorable_protocols(make_row("freeze", device="cpu"), "mini")
    assert "free-1view" not in scorable_protocols(make_row("freeze", device="cpu"), "mini")
