"""The sets that torchvision does not know, as tiny files in their own formats; labels are worked out here once more."""

import gzip
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from allmlp.cli import main
from allmlp.data import canonical, open_data, short_name
from allmlp.data.dataset import Data
from allmlp.data.vtab.retinopathy import _scaled, shown
from allmlp.errors import BadData, CannotDownload, UnknownName

Make = Callable[..., bytes]
SAME = 1e-3  # of 255: float32 sums
LEVEL = 1  # grey levels by which sums in another order may differ


def in_order(split: str, keys: list[str]) -> list[str]:
    return sorted(keys, key=lambda key: hashlib.md5((split + key).encode()).hexdigest())


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def labelled(data: Data, split: str) -> list[tuple[str, str]]:
    """Short names and classes, in order."""
    images = data.splits[split]
    return [(images.name(i).rpartition("/")[2], data.classes[label]) for i, label in enumerate(images.labels)]


# --- CLEVR -----------------------------------------------------------------------------------------------------------

DEPTHS = {  # of the objects of each picture
    "train": [[8.0, 9, 12], [8.2, 11, 9, 10], [8.5, 8.6, 9], [8.7, 9, 9.5, 10, 11], [9.5, 9.6, 9.9], [9.7] * 10,
              [10.0, 11, 12], [11.5, 12, 13], [7, 7, 30], [8.500001, 9, 9]],
    "val": [[10.2] * 8, [9.1] * 3],
}


def clevr(root: Path, png_of: Make) -> None:
    for part, pictures in DEPTHS.items():
        scenes = []
        for number, depths in enumerate(pictures):
            name = f"CLEVR_{part}_{number:06d}.png"
            put(root / f"CLEVR_v1.0/images/{part}/{name}", png_of(name))
            scenes.append({"image_filename": name, "objects": [{"pixel_coords": [1, 2, z]} for z in depths]})
        put(root / f"CLEVR_v1.0/scenes/CLEVR_{part}_scenes.json", json.dumps({"info": {}, "scenes": scenes}))


def depth_class(depths: list[float]) -> str:
    closest = min(depths)
    for edge, name in ((8.0, "at most 8"), (8.5, "8 to 8.5"), (9.0, "8.5 to 9"), (9.5, "9 to 9.5"),
                       (10.0, "9.5 to 10")):
        if closest <= edge:
            return name
    return "more than 10"


@pytest.mark.parametrize("task, said", [
    ("clevr-count", lambda depths: f"{len(depths)} objects"), ("clevr-distance", depth_class)])
def test_clevr_counts_objects_and_sorts_the_closest_by_its_depth(tmp_path: Path, png_of: Make, task: str, said):
    clevr(tmp_path, png_of)
    data = open_data(f"vtab:{task}", data_dir=tmp_path)
    names = {part: [f"CLEVR_{part}_{i:06d}.png" for i in range(len(own))] for part, own in DEPTHS.items()}
    order = in_order("train", names["train"])
    told = {name: said(depths) for part in DEPTHS for name, depths in zip(names[part], DEPTHS[part], strict=True)}
    assert labelled(data, "train") == [(name, told[name]) for name in order[:9]]
    assert labelled(data, "val") == [(name, told[name]) for name in order[9:]]
    assert labelled(data, "test") == [(name, told[name]) for name in in_order("validation", names["val"])]
    assert "10 images in train, the benchmark has 70,000" in data.notes[0]


# --- KITTI -----------------------------------------------------------------------------------------------------------

KITTI_LINES = {
    "at most 8 m": ["Car 0 0 0 1 2 3 4 1.5 1.6 3.7 1.0 1.5 7.99 0", "Van 0 0 0 1 2 3 4 1 1 1 1.0 1.5 30.0 0"],
    "8 to 20 m": ["Truck 0 0 0 1 2 3 4 1 1 1 -5 1.5 8.01 0", "Pedestrian 0 0 0 1 2 3 4 1 1 1 0 0 2.0 0"],
    "more than 20 m": ["Van 0 0 0 1 2 3 4 1 1 1 0 0 20.5 0",
                       "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"],
    "no vehicle": ["Tram 0 0 0 1 2 3 4 1 1 1 0 0 3.0 0", "Misc 0 0 0 1 2 3 4 1 1 1 0 0 4.0 0"],
}


def kitti(root: Path, png_of: Make, count: int = 60, num_drives: int = 23) -> dict[str, str]:
    """The drive of each image. Lines of the mapping are in another order than the images."""
    told = list(KITTI_LINES)
    lines = [f"2011_09_26 2011_09_26_drive_{line % num_drives:04d}_sync {line:010d}" for line in range(count)]
    chosen = [(7 * number) % count + 1 for number in range(count)]
    for number in range(count):
        put(root / f"kitti/training/image_2/{number:06d}.png", png_of(f"{number}"))
        put(root / f"kitti/training/label_2/{number:06d}.txt", "\n".join(KITTI_LINES[told[number % 4]]) + "\n")
    put(root / "kitti/mapping/train_mapping.txt", "\n".join(lines) + "\n")
    put(root / "kitti/mapping/train_rand.txt", ",".join(map(str, chosen)) + "\n")
    return {f"{number:06d}.png": lines[line - 1].split()[1] for number, line in enumerate(chosen)}


def test_kitti_sorts_the_closest_vehicle_by_its_distance_and_parts_the_images_by_drive(tmp_path: Path, png_of: Make):
    drive_of = kitti(tmp_path, png_of)
    data = open_data("vtab:kitti-distance", data_dir=tmp_path)
    drives = sorted(set(drive_of.values()))
    shuffled = np.random.RandomState(123)  # whose choice without replacement is the start of a permutation
    test = {drives[i] for i in shuffled.permutation(23)[:2]}
    rest = [drive for drive in drives if drive not in test]
    val = {rest[i] for i in shuffled.permutation(21)[:2]}
    for split, salt, drives in (("val", "validation", val), ("test", "test", test),
                                ("train", "train", set(drive_of.values()) - val - test)):
        names = in_order(salt, [name for name, drive in drive_of.items() if drive in drives])
        assert labelled(data, split) == [(name, list(KITTI_LINES)[int(name[:6]) % 4]) for name in names]


def test_a_line_of_kitti_that_is_none_is_said(tmp_path: Path, png_of: Make):
    kitti(tmp_path, png_of)
    (tmp_path / "kitti/training/label_2/000003.txt").write_text("Car 0 0\n")
    with pytest.raises(BadData, match=r"000003.txt: line 1: 3 columns, expected 15"):
        open_data("vtab:kitti-distance", data_dir=tmp_path)


# --- dSprites --------------------------------------------------------------------------------------------------------


def sprites(root: Path, count: int = 50) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    images = draws.integers(0, 2, (count, 64, 64), dtype=np.uint8)
    latents = draws.integers(0, (1, 3, 6, 40, 32, 32), (count, 6))
    latents[:2, 3], latents[:2, 4] = (39, 0), (31, 0)
    np.savez_compressed(root / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", imgs=images, latents_classes=latents,
                        metadata=np.array({"title": "pickled"}, object))
    return images, latents


@pytest.mark.parametrize("task, column, label", [
    ("dsprites-location", 4, lambda place: place // 2), ("dsprites-orientation", 3, lambda angle: int(angle / 2.5))])
def test_dsprites_has_sixteen_bins_and_its_images_in_black_and_white(tmp_path: Path, task: str, column: int, label):
    images, latents = sprites(tmp_path)
    data = open_data(f"vtab:{task}", data_dir=tmp_path)
    order = [int(key) for key in in_order("train", [str(i) for i in range(50)])]
    for split, numbers in {"train": order[:40], "val": order[40:45], "test": order[45:]}.items():
        own = data.splits[split]
        assert own.labels.tolist() == [label(int(latents[number, column])) for number in numbers]
        for i, number in enumerate(numbers):
            assert np.array_equal(own.image(i), np.repeat(images[number][:, :, None] * 255, 3, 2))
    assert len(data.classes) == 16


def test_the_thousand_of_a_task_are_its_training_and_validation_images(tmp_path: Path):
    sprites(tmp_path)
    parts = open_data("vtab:dsprites-location", data_dir=tmp_path).splits
    both = open_data("vtab:dsprites-location+val", data_dir=tmp_path).splits
    assert both.keys() == {"train", "test"}
    assert both["train"].labels.tolist() == [*parts["train"].labels, *parts["val"].labels]
    assert np.array_equal(both["train"].image(40), parts["val"].image(0))
    assert both["test"].labels.tolist() == parts["test"].labels.tolist()


# --- SmallNORB -------------------------------------------------------------------------------------------------------


def matrix(values: np.ndarray) -> bytes:
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[str(values.dtype)]
    lengths = [*values.shape, 1, 1][: max(values.ndim, 3)]
    return struct.pack(f"<II{len(lengths)}I", magic, values.ndim, *lengths) + values.astype(
        values.dtype.newbyteorder("<")).tobytes()


def norb(root: Path, count: int = 6) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    made = {}
    for split, start, end in (("train", "smallnorb-5x46789x9x18x6x2x96x96-training", ""),
                              ("test", "smallnorb-5x01235x9x18x6x2x96x96-testing", ".gz")):
        draws = np.random.default_rng(len(split))
        dat = draws.integers(0, 256, (count, 2, 96, 96), dtype=np.uint8)
        info = np.stack([draws.integers(0, 10, count), draws.integers(0, 9, count),
                         2 * draws.integers(0, 18, count), draws.integers(0, 6, count)], 1).astype(np.int32)
        for kind, values in (("dat", dat), ("info", info)):
            content = matrix(values)
            put(root / f"smallnorb/{start}-{kind}.mat{end}", gzip.compress(content, 1) if end else content)
        made[split] = (dat, info)
    return made


@pytest.mark.parametrize("task, label", [
    ("smallnorb-azimuth", lambda row: f"{10 * row[2]} degrees"),
    ("smallnorb-elevation", lambda row: f"{30 + 5 * row[1]} degrees")])
def test_smallnorb_shows_the_first_camera_from_a_side_or_a_height(tmp_path: Path, task: str, label):
    made = norb(tmp_path)
    data = open_data(f"vtab:{task}", data_dir=tmp_path)
    test_order = [int(key) for key in in_order("test", list("012345"))]
    train_order = [int(key) for key in in_order("train", list("012345"))]
    for split, pool, numbers in (("train", "train", train_order), ("val", "test", test_order[:3]),
                                 ("test", "test", test_order[3:])):
        dat, info = made[pool]
        images = data.splits[split]
        assert [data.classes[k] for k in images.labels] == [label(info[number].tolist()) for number in numbers]
        for i, number in enumerate(numbers):
            assert np.array_equal(images.image(i)[:, :, 2], dat[number, 0])


# --- retinopathy -----------------------------------------------------------------------------------------------------


def test_eyes_are_sorted_by_degree_and_the_public_ones_validate(tmp_path: Path, png_of: Make):
    root = tmp_path / "diabetic_retinopathy"
    rows = {"1_left": (0, ""), "1_right": (4, ""), "2_left": (2, "Public"), "3_left": (1, "Private"),
            "3_right": (3, "Private")}
    for name, (_, usage) in rows.items():
        put(root / ("test" if usage else "train") / f"{name}.jpeg", png_of(name, 30, 20))
    put(root / "trainLabels.csv", "image,level\n1_left,0\n1_right,4\n")
    put(root / "retinopathy_solution.csv", "image,level,Usage\n2_left,2,Public\n3_left,1,Private\n3_right,3,Private\n")
    data = open_data("vtab:retinopathy", data_dir=tmp_path)
    names = ("no retinopathy", "mild", "moderate", "severe", "proliferative")
    for split, salt, own in (("train", "train", ["1_left", "1_right"]), ("val", "validation", ["2_left"]),
                             ("test", "test", ["3_left", "3_right"])):
        assert labelled(data, split) == [(f"{name}.jpeg", names[rows[name][0]]) for name in in_order(salt, own)]
    image = data.splits["train"].image(0)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    put(root / "trainLabels.csv", "image,level\n../../secret,0\n")
    with pytest.raises(BadData, match=r"'../../secret' is no name of an image"):
        open_data("vtab:retinopathy", data_dir=tmp_path)


def test_an_eye_of_300_pixels_shows_four_times_its_difference_to_its_surroundings(noise_of: Callable):
    eye = 64 + noise_of("eye", 600, 620) // 4  # nowhere dark: its radius is half of its width
    found = shown(eye)
    assert found.shape == (540, 540, 3)
    weights = np.exp(-np.arange(-30, 31) ** 2 / (2 * 10.0**2))
    weights /= weights.sum()
    for y, x in ((310, 300), (150, 210), (450, 420)):
        around = eye[y - 30 : y + 31, x - 30 : x + 31, 1].astype(float)
        expected = np.clip(4 * eye[y, x, 1].astype(float) - 4 * (weights @ around @ weights) + 128, 0, 255)
        assert abs(float(found[y - 40, x - 30, 1]) - expected) <= 4 * LEVEL
    assert (found[0, 0] == 128).all()  # outside the circle


def test_an_eye_is_scaled_as_pytorch_scales_bilinearly(noise_of: Callable):
    eye = 64 + noise_of("small", 150, 40) // 4  # to be four times as large
    pixels = torch.from_numpy(eye.astype(np.float32)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(pixels, (160, 600), mode="bilinear")[0].permute(1, 2, 0).numpy()
    assert np.abs(_scaled(eye) - expected).max() < SAME


# --- what all of them do ---------------------------------------------------------------------------------------------


def test_the_lists_that_are_passed_on_are_taken_as_they_are(tmp_path: Path, png_of: Make, noise_of: Callable):
    lists = {"train800": 5, "val200": 3, "test": 4}
    for name, count in lists.items():
        files = [f"images/{name}/{i:06d}.jpg" for i in range(count)]
        for file in files:
            put(tmp_path / "vtab-1k/dsprites_loc" / file, png_of(file))
        lines = [f"{file} {15 - i}\n" for i, file in enumerate(files)]
        put(tmp_path / f"vtab-1k/dsprites_loc/{name}.txt", "".join(lines))
    sprites(tmp_path)  # is not looked at
    data = open_data("vtab:dsprites-location", data_dir=tmp_path)
    for split, name in (("train", "train800"), ("val", "val200"), ("test", "test")):
        assert data.splits[split].labels.tolist() == [15 - i for i in range(lists[name])]
        assert np.array_equal(data.splits[split].image(1), noise_of(f"images/{name}/000001.jpg"))
    assert "4 images for test, the benchmark has 73,728" in data.notes[-1]
    assert open_data("vtab:dsprites-location+val", data_dir=tmp_path).splits["train"].labels.tolist() == [
        15, 14, 13, 12, 11, 15, 14, 13]
    for line, said in (("a.jpg 16", "expected a file and a class from 0 to 15"), ("../a.jpg 1", "leads out")):
        put(tmp_path / "vtab-1k/dsprites_loc/val200.txt", f"{line}\n")
        with pytest.raises(BadData, match=f"val200.txt: line 1.*{said}"):
            open_data("vtab:dsprites-location", data_dir=tmp_path)


@pytest.mark.parametrize("task, said", [
    ("cifar", r"did you mean cifar100\?; each with \+val or not"), ("clever+val", "did you mean clevr-count or "),
    ("zzz", "accepted: caltech101, .*dtd, .*smallnorb-elevation.*, svhn; each with"),
])
def test_an_unknown_task_is_answered_with_the_nearest_or_all_of_them(task: str, said: str):
    with pytest.raises(UnknownName, match=f"unknown VTAB task '{task.removesuffix('+val')}'; {said}"):
        open_data(f"vtab:{task}")


@pytest.mark.parametrize("task", ["clevr-count", "kitti-distance", "dsprites-location", "smallnorb-azimuth", "dmlab",
                                  "retinopathy", "resisc45", "caltech101"])
def test_what_is_not_there_is_one_line_with_where_it_comes_from(tmp_path: Path, task: str):
    with pytest.raises(CannotDownload, match=f"vtab:{task}: .*is.* in {tmp_path}.* from ") as caught:
        open_data(f"vtab:{task}", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task, make, path, keep", [
    ("dsprites-location", sprites, "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", 3000),
    ("smallnorb-azimuth", norb, "smallnorb/smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat", 30_000),
    ("smallnorb-azimuth", norb, "smallnorb/smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat.gz", 30_000),
    ("smallnorb-azimuth", norb, "smallnorb/smallnorb-5x46789x9x18x6x2x96x96-training-info.mat", 12),
])
def test_a_truncated_file_is_said_in_one_line(tmp_path: Path, task: str, make, path: str, keep: int):
    make(tmp_path)
    whole = (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes(whole[:keep])
    with pytest.raises(BadData, match=Path(path).name) as caught:
        open_data(f"vtab:{task}", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("array, said", [
    ("imgs", "images \\(1000000000000, 64, 64\\)"), ("latents_classes", "labels \\(1000000000000, 6\\)")])
def test_a_file_that_claims_terabytes_is_refused_before_memory_is_taken(tmp_path: Path, array: str, said: str):
    sprites(tmp_path)
    path = tmp_path / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    claimed = io.BytesIO()
    np.lib.format.write_array_header_1_0(claimed, {
        "descr": "|u1" if array == "imgs" else "<i8", "fortran_order": False,
        "shape": (10**12, 64, 64) if array == "imgs" else (10**12, 6)})
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {f"{array}.npy": claimed.getvalue()}).items():
            archive.writestr(name, content)
    with pytest.raises(BadData, match=said):
        open_data("vtab:dsprites-location", data_dir=tmp_path)


def test_the_commands_take_a_task_by_name(tmp_path: Path, png_of: Make, capsys: pytest.CaptureFixture):
    kitti(tmp_path, png_of)
    assert canonical("vtab:kitti-distance+val") == "vtab:kitti-distance+val"
    assert short_name("vtab:kitti-distance+val") == "kitti-distance-val"
    assert main(["data", "check", "vtab:kitti-distance", "--data-dir", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["counts"]) == {"train", "val", "test"}
    assert sum(report["images"].values()) == 60
