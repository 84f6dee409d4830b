from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import epipolar_errors, opened, rewrite
from PIL import Image
from tiny import tiny_scene

from gen3r_bench.datasets.base import ClipProfile
from gen3r_bench.datasets.export import export_scenes
from gen3r_bench.datasets.realestate10k import RealEstate10kDataset, read_camera_file
from gen3r_bench.errors import InputError, SceneError, UnknownNameError
from gen3r_bench.scene import Cameras, Scene

CLIP = "0f68374b76390082"
FULL = ClipProfile(16, (256, 256))


@pytest.fixture
def sample(shared_dir: Path) -> Path:
    return shared_dir / "data" / "re10k_cameractrl_a"


@pytest.fixture
def real_root(sample: Path, tmp_path: Path) -> Path:
    """One real clip in layout ``frames``, to be moved about."""
    folder = tmp_path / "root"
    shutil.copytree(sample / "frames" / "test" / CLIP, folder / "test" / CLIP)
    (folder / "RealEstate10K" / "test").mkdir(parents=True)
    shutil.copy(sample / "RealEstate10K" / "test" / f"{CLIP}.txt", folder / "RealEstate10K" / "test")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A made-up clip of 16 frames in layout ``frames``, to be spoilt; needs no data."""
    folder = tmp_path / "root"
    (folder / "test" / CLIP).mkdir(parents=True)
    (folder / "RealEstate10K" / "test").mkdir(parents=True)
    scene = tiny_scene("clip", frames=16, size=(32, 48))
    lines = ["https://www.youtube.com/watch?v=QShWPZxTDoE"]
    for i, (rgb, pose) in enumerate(zip(scene.rgb, scene.cameras.world_from_cam, strict=True)):
        timestamp = 158_692_025 + 266_933 * i
        numbers = [0.62, 0.93, 0.5, 0.5, 0, 0, *np.linalg.inv(pose)[:3].ravel()]
        lines.append(" ".join([str(timestamp), *(f"{n:.9f}" for n in numbers)]))
        Image.fromarray(rgb).save(folder / "test" / CLIP / f"{timestamp}.jpg", quality=95)
    (folder / "RealEstate10K" / "test" / f"{CLIP}.txt").write_text("\n".join(lines) + "\n")
    return folder


def camera_file(root: Path) -> Path:
    return root / "RealEstate10K" / "test" / f"{CLIP}.txt"


def pictures(root: Path) -> list[Path]:
    return sorted((root / "test" / CLIP).glob("*.jpg"), key=lambda path: int(path.stem))


def as_youtube(root: Path) -> None:
    video = read_camera_file(camera_file(root))[0]
    (root / "frames" / video).mkdir(parents=True)
    for path in pictures(root):
        path.rename(root / "frames" / video / f"{video}_{path.name}")
    (root / "test" / CLIP).rmdir()


def chunk_entry(root: Path) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    columns = np.loadtxt(camera_file(root), skiprows=1)
    return {
        "url": "https://www.youtube.com/watch?v=x",
        "timestamps": torch.tensor(columns[:, 0].astype(np.int64)),
        "cameras": torch.tensor(columns[:, 1:], dtype=torch.float32),
        "images": [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in pictures(root)],
        "key": CLIP,
    }


def write_chunk(root: Path, content: Any) -> Path:
    torch = pytest.importorskip("torch")
    folder = root / "chunks" / "test"
    folder.mkdir(parents=True)
    torch.save(content, folder / "000000.torch")
    (folder / "index.json").write_text(json.dumps({CLIP: "000000.torch"}))
    return root / "chunks"


def assert_same(one: Scene, two: Scene, *, levels: float, cameras: float = 1e-12) -> None:
    assert np.abs(one.cameras.world_from_cam - two.cameras.world_from_cam).max() <= cameras
    assert np.abs(one.cameras.intrinsics - two.cameras.intrinsics).max() <= 1e3 * cameras
    assert np.abs(one.rgb.astype(float) - two.rgb).mean() <= levels
    assert (one.scene_id, one.scale, one.depth) == (two.scene_id, two.scale, None)


def test_every_layout_gives_the_same_scene(real_root: Path, sample: Path) -> None:
    root = real_root
    frames = opened(RealEstate10kDataset, root).load(CLIP, FULL)
    assert frames.rgb.std() > 20
    assert frames.scale == "sfm"
    # CameraCtrl's videos: the JPEGs of the sample were decoded from them, at quality 95
    pytest.importorskip("av")
    video = opened(RealEstate10kDataset, sample, layout="video").load(CLIP, FULL)
    assert_same(frames, video, levels=2.5)
    distance = np.abs(frames.rgb[:, None, ::4, ::4].astype(int) - video.rgb[None, :, ::4, ::4]).mean(axis=(2, 3, 4))
    assert (distance.argmin(axis=1) == np.arange(16)).all()  # frame k is frame k, and not its neighbour
    chunks = write_chunk(root, [{"key": "other"}, chunk_entry(root)])
    assert_same(frames, opened(RealEstate10kDataset, chunks).load(CLIP, FULL), levels=0, cameras=1e-6)
    as_youtube(root)
    for layout in ("auto", "youtube"):
        assert_same(frames, opened(RealEstate10kDataset, root, layout=layout).load(CLIP, FULL), levels=0)


def test_video_below_its_youtube_id(real_root: Path, sample: Path) -> None:
    root = real_root
    pytest.importorskip("av")
    shutil.rmtree(root / "test")
    video = read_camera_file(camera_file(root))[0]
    (root / "videos" / video).mkdir(parents=True)
    shutil.copy(sample / "clips" / f"{CLIP}.mp4", root / "videos" / video)
    dataset = opened(RealEstate10kDataset, root)
    strided = ClipProfile(4, (64, 64), start=2, stride=4)
    full = dataset.load(CLIP, ClipProfile(16, (64, 64)))
    assert np.array_equal(dataset.load(CLIP, strided).rgb, full.rgb[2:15:4])


@pytest.mark.parametrize(
    ("clip", "bound"),
    [
        ("0bf152ef84195293", 1.3),
        ("0c9b371cc6225682", 1.5),  # a bathroom passed at speed: 1.26 px in SOURCE.md, by other matches
        (CLIP, 1.3),
        ("2f25826f0d0ef09a", 1.3),
        ("3f79dc32d575bcdc", 1.3),
    ],
)
def test_pictures_belong_to_their_cameras(sample: Path, clip: str, bound: float) -> None:
    """Epipolar error of real clips on whole frames, against what wrong conventions would give."""
    scene = opened(RealEstate10kDataset, sample).load(clip, ClipProfile(16, (256, 384)))
    poses, flip = scene.cameras.world_from_cam, np.diag([1.0, -1.0, -1.0, 1.0])

    def error(poses: np.ndarray) -> float:
        cameras = Cameras(poses, scene.cameras.intrinsics, scene.image_size)
        shown = Scene("x", clip, scene.rgb, cameras, None, scene.valid, "", "sfm")
        return float(np.median(np.concatenate([epipolar_errors(shown, i, i + 3) for i in (0, 6, 12)])))

    right = error(poses)
    assert right < bound
    assert error(flip @ poses @ flip) > 2 * right
    assert error(np.linalg.inv(poses)) > 2 * right


def test_intrinsics_follow_the_real_frame(sample: Path) -> None:
    """The sample's 384x256 frames are squashed 16:9: as many pixels in x and y as the picture has, no square ones."""
    scene = opened(RealEstate10kDataset, sample).load("0bf152ef84195293", ClipProfile(1, (256, 256)))
    fx, fy = 0.474812461 * 384, 0.844111024 * 256
    assert np.allclose(scene.cameras.intrinsics[0], [[fx, 0, 128], [0, fy, 128], [0, 0, 1]], atol=1e-6)


def test_poses_are_those_of_the_file(sample: Path) -> None:
    rows = np.loadtxt(sample / "RealEstate10K" / "test" / f"{CLIP}.txt", skiprows=1)
    cam_from_world = np.tile(np.eye(4), (16, 1, 1))
    cam_from_world[:, :3] = rows[:, 7:].reshape(-1, 3, 4)
    expected = cam_from_world[0] @ np.linalg.inv(cam_from_world)
    scene = opened(RealEstate10kDataset, sample).load(CLIP, FULL)
    assert np.abs(scene.cameras.world_from_cam - expected).max() < 1e-6


def test_ids_are_the_official_part_ranked(sample: Path, tmp_path: Path) -> None:
    dataset = opened(RealEstate10kDataset, sample)
    assert dataset.all_scene_ids() == tuple(sorted(path.stem for path in sample.glob("RealEstate10K/test/*.txt")))
    assert set(dataset.scene_ids()) == set(dataset.all_scene_ids())
    assert dataset.scene_ids() != dataset.all_scene_ids()
    with pytest.raises(InputError, match=r"no RealEstate10K of layout auto .* train/<clip>.txt"):
        opened(RealEstate10kDataset, sample, split="train")
    with pytest.raises(UnknownNameError, match="did you mean"):
        dataset.load(CLIP[:-1] + "3", FULL)
    with pytest.raises(InputError, match="split=dev; expected test or train"):
        opened(RealEstate10kDataset, sample, split="dev")
    with pytest.raises(InputError, match="layout=zip"):
        opened(RealEstate10kDataset, sample, layout="zip")
    for layout, text in (("chunks", "test/index.json"), ("gen3r", "transforms.json")):
        with pytest.raises(InputError, match=text):
            opened(RealEstate10kDataset, tmp_path, layout=layout)


def test_clips_without_frames_come_last_with_their_reason(root: Path) -> None:
    for i in range(20):
        shutil.copy(camera_file(root), camera_file(root).with_name(f"{i:016x}.txt"))
    dataset = opened(RealEstate10kDataset, root)
    assert dataset.scene_ids()[0] == CLIP
    assert len(dataset.scene_ids()) == 21
    reason = dataset.excluded()[f"{7:016x}"]
    assert reason.startswith("no frames: neither 0000000000000007/")
    for method in (dataset.load, dataset.fingerprint):
        with pytest.raises(SceneError, match="no frames: neither 0000000000000007"):
            method(f"{7:016x}", FULL)
    shutil.rmtree(root / "test")
    assert len(opened(RealEstate10kDataset, root).excluded()) == 21


def test_fingerprint_sees_what_is_read_and_nothing_else(root: Path) -> None:
    dataset = opened(RealEstate10kDataset, root)
    two = ClipProfile(2, (64, 64))
    before = dataset.fingerprint(CLIP, two)
    pictures(root)[5].write_bytes(b"another")
    assert dataset.fingerprint(CLIP, two) == before
    assert dataset.fingerprint(CLIP, ClipProfile(2, (64, 32))) != before
    shutil.copy(pictures(root)[2], pictures(root)[1])
    assert dataset.fingerprint(CLIP, two) != before
    (root / "test" / CLIP / "prompt.txt").write_text("a kitchen\n")
    assert dataset.load(CLIP, two).prompt == "a kitchen"


def chunk_fingerprint(root: Path, entries: list[Any]) -> str:
    shutil.rmtree(root / "chunks", ignore_errors=True)
    return str(opened(RealEstate10kDataset, write_chunk(root, entries)).fingerprint(CLIP, FULL))


def test_fingerprint_of_a_chunk_is_of_the_clip(root: Path) -> None:
    entry = chunk_entry(root)
    alone = chunk_fingerprint(root, [entry])
    assert chunk_fingerprint(root, [{"key": "other"}, entry]) == alone
    entry["cameras"][3, 9] += 1e-3
    assert chunk_fingerprint(root, [entry]) != alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.rsplit(" ", 5)[0], "line 17 has 14 columns of 19; the file is cut off"),
        (lambda text: text.replace("0.500000000", "0,5", 1), "line 2 is not 19 numbers"),
        (lambda text: text.splitlines()[0], "no cameras after the line of the URL"),
        (lambda text: "", "no cameras after the line of the URL"),
        (lambda text: "\n".join(text.splitlines()[:16]), r"lists 15 frames; 16 frames .* never padded"),
        (lambda text: text.replace(" 0.000000000 0.000000000 ", " 0.1 0.000000000 ", 1), "columns 6 and 7 are not 0"),
        (lambda text: "\n".join(reversed(text.splitlines())), "line 17 has 1 columns"),
        (lambda text: text.replace("\n" + text.split("\n")[2], "\n" + text.split("\n")[1]), "do not increase"),
    ],
)
def test_damaged_cameras(root: Path, change: Callable[[str], str], message: str) -> None:
    rewrite(camera_file(root), change)
    with pytest.raises(SceneError, match=message):
        opened(RealEstate10kDataset, root).load(CLIP, FULL)


@pytest.mark.parametrize(("value", "message"), [("nan", "not a finite 4x4"), ("3.5", "is not rigid")])
def test_unusable_poses(root: Path, value: str, message: str) -> None:
    def spoil(text: str) -> str:
        lines = text.splitlines()
        fields = lines[3].split()
        fields[7] = value
        lines[3] = " ".join(fields)
        return "\n".join(lines)

    rewrite(camera_file(root), spoil)
    dataset = opened(RealEstate10kDataset, root)
    with pytest.raises(SceneError, match=message):
        dataset.load(CLIP, FULL)
    assert dataset.load(CLIP, ClipProfile(2, (64, 64))).num_frames == 2  # before the spoilt line


def test_missing_and_damaged_frames(root: Path) -> None:
    dataset = opened(RealEstate10kDataset, root)
    fourth, fifth = pictures(root)[3:5]
    fifth.write_bytes(fifth.read_bytes()[:700])
    with pytest.raises(SceneError, match=rf"{fifth.name}: damaged image"):
        dataset.load(CLIP, FULL)
    fourth.unlink()
    for method in (dataset.load, dataset.fingerprint):
        with pytest.raises(SceneError, match=rf"1 of 16 frames are missing, first {fourth.stem}.png or .jpg \(15 "):
            method(CLIP, FULL)
    assert dataset.load(CLIP, ClipProfile(3, (64, 64))).num_frames == 3


def test_png_is_taken_before_jpeg(root: Path) -> None:
    black = pictures(root)[0].with_suffix(".png")
    Image.new("RGB", (48, 32)).save(black)
    assert opened(RealEstate10kDataset, root).load(CLIP, ClipProfile(1, (64, 64))).rgb.max() == 0


def test_videos_that_do_not_fit(real_root: Path, sample: Path) -> None:
    root = real_root
    pytest.importorskip("av")
    video = root / "clips" / f"{CLIP}.mp4"
    video.parent.mkdir()
    shutil.copy(sample / "clips" / video.name, video)
    rewrite(camera_file(root), lambda text: "\n".join(text.splitlines()[:-1]))
    dataset = opened(RealEstate10kDataset, root, layout="video")
    with pytest.raises(SceneError, match=r"16 frames, and .* has 15 cameras; frame k must belong to line k"):
        dataset.load(CLIP, ClipProfile(2, (64, 64)))
    video.write_bytes(b"no video at all" * 100)
    with pytest.raises(SceneError, match="damaged video"):
        dataset.load(CLIP, ClipProfile(2, (64, 64)))


class Malicious:
    """Unpickled by plain pickle, it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("wrapped", [True, False])
def test_no_code_of_a_chunk_runs(root: Path, tmp_path: Path, wrapped: bool) -> None:
    trace = tmp_path / "it ran"
    chunks = write_chunk(root, [{**chunk_entry(root), "url": Malicious(trace)}])
    if not wrapped:  # a bare pickle, which torch.load took before zip files
        (chunks / "test" / "000000.torch").write_bytes(pickle.dumps([Malicious(trace)]))
    dataset = opened(RealEstate10kDataset, chunks)
    for method in (dataset.load, dataset.fingerprint):
        with pytest.raises(SceneError, match="refused: it holds more than tensors" if wrapped else "cut off; restore"):
            method(CLIP, FULL)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))  # the bait works
    assert trace.exists()


def spoilt(entry: dict[str, Any], **change: Any) -> list[Any]:
    return [{**entry, **change}]


def test_damaged_chunks(root: Path) -> None:
    entry = chunk_entry(root)
    for content, message in (
        ([{"key": "other"}], "the clip is not in it"),
        ("text", "the clip is not in it"),
        ([{"key": CLIP}], "not pixelSplat's timestamps, cameras and images"),
        (spoilt(entry, cameras=entry["cameras"][:-1]), r"16 timestamps, cameras \[15, 18\] and 16 images"),
        (spoilt(entry, images=entry["images"][1:]), "15 images"),
        (spoilt(entry, images=[image[:400] for image in entry["images"]]), "damaged image"),
        (spoilt(entry, timestamps=entry["timestamps"].flip(0)), "do not increase"),
    ):
        shutil.rmtree(root / "chunks", ignore_errors=True)
        with pytest.raises(SceneError, match=message):
            opened(RealEstate10kDataset, write_chunk(root, content)).load(CLIP, FULL)
    file = root / "chunks" / "test" / "000000.torch"
    file.write_bytes(file.read_bytes()[:10_000])
    with pytest.raises(SceneError, match="cut off"):
        opened(RealEstate10kDataset, root / "chunks").load(CLIP, FULL)
    file.unlink()
    with pytest.raises(SceneError, match=r"000000\.torch: missing, though"):
        opened(RealEstate10kDataset, root / "chunks").load(CLIP, FULL)
    for text in ("{", "[]", '{"a": 1}'):
        (file.parent / "index.json").write_text(text)
        with pytest.raises(InputError, match="maps clip ids to chunk"):
            opened(RealEstate10kDataset, root / "chunks")


def test_an_index_cannot_lead_out_of_its_folder(root: Path) -> None:
    chunks = write_chunk(root, [chunk_entry(root)])
    shutil.copy(chunks / "test" / "000000.torch", root / "outside.torch")
    (chunks / "test" / "index.json").write_text(json.dumps({CLIP: "../../outside.torch"}))
    with pytest.raises(SceneError, match=r"test/outside\.torch: missing"):
        opened(RealEstate10kDataset, chunks).load(CLIP, FULL)


def test_gen3r_layout_of_the_authors_cameras(shared_dir: Path, tmp_path: Path) -> None:
    """The authors' own two views and cameras, written in the layout that their README describes."""
    source = shared_dir / "data" / "gen3r_bedroom"
    cameras = json.loads((source / "cameras.json").read_text())
    folder = tmp_path / "bedroom"
    (folder / "images").mkdir(parents=True)
    shutil.copy(source / "first.png", folder / "images" / "frame00000.png")
    shutil.copy(source / "last.png", folder / "images" / "frame00001.png")
    shutil.copy(source / "prompts.txt", folder / "captions.txt")
    frames = []
    for name, i in (("frame00001.png", -1), ("frame00000.png", 0)):
        k = cameras["intrinsics"][i]
        frames.append(
            {
                "file_path": f"images/{name}",
                "transform_matrix": np.linalg.inv(cameras["extrinsics"][i]).tolist(),
                **dict(
                    zip(
                        ("w", "h", "fl_x", "fl_y", "cx", "cy"),
                        (560, 560, k[0][0], k[1][1], k[0][2], k[1][2]),
                        strict=True,
                    )
                ),
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    for place in (tmp_path, tmp_path / "RealEstate10K"):
        dataset = opened(RealEstate10kDataset, place)
        scene = dataset.load("bedroom", ClipProfile(2, (560, 560)))
        assert np.median(epipolar_errors(scene, 0, 1)) < 1.0  # SOURCE.md: 0.49 px, and 68 px inverted
        assert scene.prompt.startswith("The bedroom is inviting")
        assert np.allclose(np.linalg.inv(scene.cameras.world_from_cam[1])[:3, 3], [-0.3884, 0.0954, -0.7983], atol=1e-3)
        assert np.array_equal(scene.rgb[0], np.asarray(Image.open(source / "first.png").convert("RGB")))
        before = dataset.fingerprint("bedroom", ClipProfile(2, (560, 560)))
        (place / "bedroom" / "captions.txt").write_text("another\n")
        assert dataset.fingerprint("bedroom", ClipProfile(2, (560, 560))) != before
        shutil.copy(source / "prompts.txt", place / "bedroom" / "captions.txt")
        if place == tmp_path:
            (tmp_path / "RealEstate10K").mkdir()
            folder.rename(tmp_path / "RealEstate10K" / "bedroom")


def test_exports_come_back_the_same(tmp_path: Path) -> None:
    scenes = [tiny_scene(name, depth=False) for name in ("a", "b/c")]
    folders = export_scenes(scenes, "realestate10k", tmp_path)
    assert [folder.name for folder in folders] == ["tiny_a", "tiny_b_c"]
    dataset = opened(RealEstate10kDataset, tmp_path)
    assert dataset.excluded() == {}
    assert dataset.all_scene_ids() == ("tiny_a", "tiny_b_c")
    for scene, name in zip(scenes, dataset.all_scene_ids(), strict=True):
        back = dataset.load(name, ClipProfile(scene.num_frames, scene.image_size))
        assert np.array_equal(back.rgb, scene.rgb)
        assert np.abs(back.cameras.world_from_cam - scene.cameras.world_from_cam).max() < 1e-9
        assert np.abs(back.cameras.intrinsics - scene.cameras.intrinsics).max() < 1e-9
        assert back.prompt == scene.prompt
    skewed = scenes[0].cameras.intrinsics.copy()
    skewed[:, 0, 1] = 1
    cameras = Cameras(scenes[0].cameras.world_from_cam, skewed, scenes[0].image_size)
    slanted = Scene("tiny", "d", scenes[0].rgb, cameras, None, scenes[0].valid, "", "sfm")
    with pytest.raises(InputError, match="skew"):
        export_scenes([slanted], "realestate10k", tmp_path)


def test_a_format_of_picture_that_is_not_listed_is_no_frame(root: Path) -> None:
    for path in pictures(root):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.save(path.with_suffix(".bmp"))
        path.unlink()
    with pytest.raises(SceneError, match=r"16 of 16 frames are missing .* \(0 pictures for 16 cameras\)|16 of 16"):
        opened(RealEstate10kDataset, root).load(CLIP, FULL)
