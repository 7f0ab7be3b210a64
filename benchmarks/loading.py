"""Loading: images per second into batches, from the same JPEG files in three forms, beside timm's loader.

    python benchmarks/loading.py [--rounds 7] [--images 600] [--workers 2]

600 photographs of 500 x 375 pixels (crops of the two that scikit-learn ships, at random scales; JPEG of quality 90) lie
in a folder, in a parquet file (row groups of 100, as Hugging Face writes them) and in tar shards. Every loader gives
training batches of 64: random resized crop (8 to 100 % of the area) to 224 x 224, bicubic, flip; normalised float32, as
a network takes them. timm: `create_dataset` on the folder and `create_loader` with its defaults otherwise (prefetcher,
persistent workers), colour jitter and erasing off.

In each round every loader gives one epoch, one after another, in an order that moves on by one each round. Processes
were started, and the files read, in an epoch before that is not counted. A ratio is of the same round; the CPU time of
all processes per image stands beside it, as it hardly depends on what else the machine does. Rows go to
results/loading.csv, in place of all earlier ones.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm.data
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from allmlp.data import open_data
from allmlp.data.loader import Loader
from allmlp.data.shard import write_shards
from allmlp.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, normalise
from allmlp.recipe import Augment
from allmlp.train.run_folder import machine
from rows import write

RESULTS = Path(__file__).parent.parent / "results" / "loading.csv"
COLUMNS = ("loader", "source", "round", "images_per_second", "ratio_to_timm", "cpu_ms_per_image", "images", "workers",
           "batch_size", "image_size", "processor", "cores", "load", "torch", "timm", "pillow", "commit", "date",
           "command")
SIZE, CLASSES = (500, 375), 10
BATCH, SIDE, AREA = 64, 224, (0.08, 1.0)

Epoch = Callable[[int], Iterator[torch.Tensor]]


def make_photographs(folder: Path, count: int) -> None:
    """`count` JPEG files below `folder/train/`, of `CLASSES` classes."""
    draw = np.random.default_rng(0)
    scenes = [Image.fromarray(image) for image in load_sample_images().images]  # 640 x 427
    for number in range(count):
        scene = scenes[number % len(scenes)]
        scale = draw.uniform(0.9, 1.6)  # of 500 x 375: the scene is at least as large
        scene = scene.resize((round(scene.width * scale), round(scene.height * scale)), Image.Resampling.BICUBIC)
        left, top = draw.integers(scene.width - SIZE[0] + 1), draw.integers(scene.height - SIZE[1] + 1)
        path = folder / "train" / f"class{number % CLASSES}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene.crop((left, top, left + SIZE[0], top + SIZE[1])).save(path, quality=90)


def write_parquet(folder: Path, out: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    train = open_data(str(folder), val_fraction=0).splits["train"]
    cells = [{"bytes": Path(train.name(i)).read_bytes(), "path": None} for i in range(len(train))]
    parquet.write_table(pa.table({"image": cells, "label": train.labels}), out, row_group_size=100)


def ours(source: str, workers: int) -> Epoch:
    preprocess = Preprocess(image_size=(SIDE, SIDE), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    augment = Augment(random_resized_crop=AREA, horizontal_flip=0.5)
    data = open_data(source, val_fraction=0).splits["train"]
    loader = Loader(data, preprocess, augment, BATCH, seed=0, workers=workers)

    def epoch(number: int) -> Iterator[torch.Tensor]:
        for batch in loader.epoch(number):
            yield normalise(batch.images, preprocess)

    return epoch


def theirs(folder: Path, workers: int) -> Epoch:
    dataset = timm.data.create_dataset("", str(folder), split="train", is_training=True)
    loader = timm.data.create_loader(
        dataset, (3, SIDE, SIDE), BATCH, is_training=True, scale=AREA, hflip=0.5, color_jitter=None, re_prob=0.0,
        interpolation="bicubic", num_workers=workers, device=torch.device("cpu"))

    def epoch(number: int) -> Iterator[torch.Tensor]:
        for images, _ in loader:
            yield images

    return epoch


def speed_of(epoch: Epoch, number: int, images: int) -> tuple[float, float]:
    """Images per second of the clock, and milliseconds of CPU time per image."""
    used, start, seen = cpu_seconds(), time.perf_counter(), 0
    for batch in epoch(number):
        assert batch.shape[1:] == (3, SIDE, SIDE)
        assert batch.dtype == torch.float32
        seen += len(batch)
    assert images - BATCH < seen <= images, f"{seen} of {images} images"  # timm drops the short last batch
    return seen / (time.perf_counter() - start), 1000 * (cpu_seconds() - used) / seen


def cpu_seconds() -> float:
    """What this process and those it started have used; NaN where there is no /proc."""
    used, parent = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()  # behind the name, which may hold anything
            number = int(path.parent.name)
            parent[number], used[number] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    family = {os.getpid()}
    while more := {child for child, of in parent.items() if of in family} - family:
        family |= more
    return sum(used[number] for number in family) if used else float("nan")


def measure(folder: Path, options: argparse.Namespace) -> Iterator[dict]:
    make_photographs(folder / "photographs", options.images)
    write_parquet(folder / "photographs", folder / "photographs.parquet")
    write_shards(open_data(str(folder / "photographs"), val_fraction=0), folder / "shards", 200)
    loaders = {("timm", "folder"): theirs(folder / "photographs", options.workers)} | {
        ("allmlp", name): ours(str(folder / path), options.workers)
        for name, path in (("folder", "photographs"), ("parquet", "photographs.parquet"), ("shards", "shards"))}
    for epoch in loaders.values():
        speed_of(epoch, 0, options.images)
    names = list(loaders)
    for number in range(1, options.rounds + 1):
        order = names[number % len(names) :] + names[: number % len(names)]
        found = {name: speed_of(loaders[name], number, options.images) for name in order}
        for name in names:
            speed, cpu_ms = found[name]
            yield {"loader": name[0], "source": name[1], "round": number, "images_per_second": f"{speed:.1f}",
                   "ratio_to_timm": f"{speed / found['timm', 'folder'][0]:.3f}", "cpu_ms_per_image": f"{cpu_ms:.3f}",
                   "load": f"{os.getloadavg()[0]:.1f}"}


def show(rows: list[dict]) -> None:
    print("\n| loader | source | images/s | ratio to timm, median (lowest to highest) | CPU ms per image |\n"
          "|---|---|---|---|---|")
    for name in dict.fromkeys((row["loader"], row["source"]) for row in rows):
        own = [row for row in rows if (row["loader"], row["source"]) == name]
        speeds, ratios, costs = ([float(row[key]) for row in own]
                                 for key in ("images_per_second", "ratio_to_timm", "cpu_ms_per_image"))
        print(f"| {name[0]} | {name[1]} | {statistics.median(speeds):.0f} | {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(costs):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="leave results/loading.csv as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = machine()
    where = {"images": options.images, "workers": options.workers, "batch_size": BATCH, "image_size": SIDE,
             "processor": about["processor"], "cores": about["cores"], "commit": about["commit"],
             **{name: about["versions"].get(name, "") for name in ("torch", "timm", "pillow")},
             "date": time.strftime("%Y-%m-%d"), "command": f"python benchmarks/loading.py --rounds {options.rounds} "
             f"--images {options.images} --workers {options.workers}"}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ALLMLP_CACHE"] = str(Path(temporary) / "cache")
        for row in measure(Path(temporary), options):
            rows.append(row | where)
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
    show(rows)
    if not options.dry:
        write(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
