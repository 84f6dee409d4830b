"""Time the dataset readers, by hand: ``python benchmarks/datasets.py [--shared DIR] [--scenes 10000]``.

Loading: one clip of 49 frames at 560 x 560 through each reader, on an export of a mini scene (PNG pictures; depth as
the format has it) and on 7-Scenes' red kitchen laid out as WildRGB-D (640 x 480 JPEG, 16-bit PNG depth). Against it:

- decode: the same files, with the libraries alone (Pillow, ``numpy.load``), in as many threads as the reader uses;
- decode+resize: the same, plus the antialiased resize and crop of the pictures, which the input rule demands.

What the reader adds beyond the second is cameras, cropped depth and masks, and the checks of a Scene. Each figure is
the least CPU seconds (all threads, user and system) of ``--repeat`` interleaved goes, with the files in the page cache:
wall time says as much about the neighbours on a shared machine. Wall seconds of the fastest load stand beside it.

Indexing: a root of ``--scenes`` scenes in each format whose pictures are empty files, so that opening one would fail;
``open`` and ``scene_ids`` are timed together. The draw looks at the names of each test scene's pictures.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from gen3r_bench import registry
from gen3r_bench.datasets.base import ClipProfile, Dataset, chosen_options
from gen3r_bench.datasets.clip import READERS
from gen3r_bench.datasets.export import WRITERS, export_scenes
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.datasets.preprocess import resize_crop

PROFILE: Final = ClipProfile(frames=49, image_size=(560, 560))
PICTURES: Final = {".png", ".jpg", ".npy"}


def opened(name: str, root: Path) -> Dataset:
    reader = registry.datasets().load(name)
    return reader.open(root, chosen_options(reader, {}))


def decode(path: Path, *, resize: bool) -> None:
    """Bare decoding of one file into an array; of pictures also the resize and crop, if asked for."""
    if path.suffix == ".npy":
        np.load(path)
        return
    with Image.open(path) as image:
        array = np.asarray(image)
    if resize and array.ndim == 3:
        resize_crop((array.shape[0], array.shape[1]), PROFILE.image_size).rgb(array)


def decode_all(files: list[Path], *, resize: bool) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda path: decode(path, resize=resize), files))


@contextmanager
def recorded_files(files: set[Path]) -> Iterator[None]:
    """Collects what is decoded meanwhile: masks that are not read do not count."""
    image_open, load = Image.open, np.load

    def note(function: Callable[..., object]) -> Callable[..., object]:
        def noted(path: object, *args: object, **options: object) -> object:
            if isinstance(path, Path):
                files.add(path)
            return function(path, *args, **options)

        return noted

    Image.open, np.load = note(image_open), note(load)  # type: ignore[assignment]
    try:
        yield
    finally:
        Image.open, np.load = image_open, load


def best_of(repeat: int, actions: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Least CPU seconds and least wall seconds of each action."""
    best = dict.fromkeys(actions, (float("inf"), float("inf")))
    for _ in range(repeat):
        for name, action in actions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            action()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            best[name] = (min(best[name][0], cpu), min(best[name][1], wall))
    return best


def time_loading(label: str, name: str, root: Path, repeat: int) -> None:
    dataset = opened(name, root)
    scene_id = dataset.scene_ids()[0]
    files: set[Path] = set()
    with recorded_files(files):
        dataset.load(scene_id, PROFILE)
    ordered = sorted(files)
    seconds = best_of(
        repeat,
        {
            "load": lambda: dataset.load(scene_id, PROFILE),
            "decode": lambda: decode_all(ordered, resize=False),
            "both": lambda: decode_all(ordered, resize=True),
        },
    )
    load, bare, both = (seconds[name][0] for name in ("load", "decode", "both"))
    wall = seconds["load"][1]
    print(
        f"{label:<28} {len(ordered):>4} files  load {load:5.2f} s (wall {wall:.2f} s)  "
        f"decode {bare:5.2f} s ({load / bare:4.2f}x)  decode+resize {both:5.2f} s ({load / both:4.2f}x)",
        flush=True,
    )


def redkitchen(shared: Path, root: Path) -> Path:
    """The sample as WildRGB-D, by links."""
    source, scene = shared / "data" / "rgbd_redkitchen", root / "kitchen" / "scenes" / "scene_000"
    matrix = np.loadtxt(source / "camera-intrinsics.txt")
    lines = []
    for kind in ("rgb", "depth"):
        (scene / kind).mkdir(parents=True)
    for i, color in enumerate(sorted(source.glob("frame-*.color.jpg"))):
        stem = color.name.removesuffix(".color.jpg")
        (scene / "rgb" / f"{i:05d}.png").symlink_to(color)
        (scene / "depth" / f"{i:05d}.png").symlink_to(source / f"{stem}.depth.png")
        lines.append(f"{i} " + " ".join(f"{n:.9g}" for n in np.loadtxt(source / f"{stem}.pose.txt").ravel()))
    (scene / "cam_poses.txt").write_text("\n".join(lines) + "\n")
    (scene / "metadata").write_text(json.dumps({"w": 640, "h": 480, "K": matrix.T.ravel().tolist()}))
    return root


def touched(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def synthetic_root(name: str, root: Path, scenes: int, pictures: int) -> None:
    """The layout of ``scenes`` scenes with empty pictures; annotations only as far as an index needs them."""
    numbers = range(pictures)
    if name == "co3dv2":
        per = 200
        for start in range(0, scenes, per):
            category = root / f"category{start // per:03d}"
            entries = [
                {"sequence_name": f"{i}_1_1", "category": category.name, "viewpoint_quality_score": 0.9}
                for i in range(start, min(start + per, scenes))
            ]
            for entry in entries:
                touched(category / str(entry["sequence_name"]) / "images", *(f"frame{n:06d}.jpg" for n in numbers))
            (category / "sequence_annotations.jgz").write_bytes(gzip.compress(json.dumps(entries).encode()))
            touched(category, "frame_annotations.jgz")
    for i in range(0 if name != "co3dv2" else scenes, scenes):
        if name == "tartanair":
            folder = root / f"env{i // 500:02d}" / ("Easy" if i % 2 else "Hard") / f"P{i % 500:03d}"
            touched(folder / "image_left", *(f"{n:06d}_left.png" for n in numbers))
            touched(folder, "pose_left.txt")
        elif name == "wildrgbd":
            folder = root / f"category{i // 500:02d}" / "scenes" / f"scene_{i:05d}"
            touched(folder / "rgb", *(f"{n:05d}.png" for n in numbers))
            touched(folder, "metadata", "cam_poses.txt")
        elif name == "dl3dv":
            folder = root / f"{i // 1000 + 1}K" / f"{i:064x}"
            touched(folder / "images_4", *(f"frame_{n:05d}.png" for n in numbers))
            (folder / "transforms.json").write_text('{"frames": []}')
        elif name == "realestate10k":
            touched(root / "test" / f"{i:016x}", *(f"{n}.png" for n in numbers))
            line = "0 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n"
            (root / "RealEstate10K" / "test").mkdir(parents=True, exist_ok=True)
            lines = line * pictures
            (root / "RealEstate10K" / "test" / f"{i:016x}.txt").write_text(
                "https://www.youtube.com/watch?v=x\n" + lines
            )


def time_indexing(name: str, scenes: int, pictures: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        synthetic_root(name, root, scenes, pictures)
        decoded: set[Path] = set()
        with recorded_files(decoded):
            began = time.perf_counter()
            dataset = opened(name, root)
            drawn = len(dataset.scene_ids())
            seconds = time.perf_counter() - began
        print(
            f"{name:<16} {scenes} scenes  index {seconds:5.2f} s  {drawn} drawn, {len(decoded)} pictures opened",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--scenes", type=int, default=10_000, help="of the synthetic roots")
    parser.add_argument("--pictures", type=int, default=5, help="in each of their scenes")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    for name in sorted(WRITERS):
        time_indexing(name, options.scenes, options.pictures)
    scene = MiniDataset.open(None, {}).load("test/000", PROFILE)
    for name in sorted(WRITERS):
        with tempfile.TemporaryDirectory() as temporary:
            export_scenes([scene], name, Path(temporary) / name)
            time_loading(f"{name} (mini export)", name, Path(temporary) / name, options.repeat)
    if (options.shared / "data" / "rgbd_redkitchen").is_dir():
        with tempfile.TemporaryDirectory() as temporary:
            root = redkitchen(options.shared, Path(temporary))
            time_loading("wildrgbd (red kitchen)", "wildrgbd", root, options.repeat)


if __name__ == "__main__":
    main()
