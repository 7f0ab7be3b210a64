"""Images with masks: the folders as they are distributed, one geometry for both, and what is said of bad ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allmlp.data import open_data
from allmlp.data.batch import augment_batch
from allmlp.data.dataset import IGNORED
from allmlp.data.digit_masks import parts
from allmlp.data.paired import paired_augmentation
from allmlp.data.palette import palette
from allmlp.errors import BadData, BadImage, BadSetting
from allmlp.preprocess import Preprocess
from allmlp.recipe import Affine, Augment

SIZE = (6, 9)


def image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def mask(path: Path, values: list[int], size: tuple[int, int] = SIZE, coloured: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.resize(np.array(values, np.uint8), size))
    if coloured:
        picture.putpalette(palette().tobytes())
    picture.save(path)


def lines(path: Path, *text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")


@pytest.mark.parametrize("coloured", [True, False], ids=["palette", "grey"])
def test_a_folder_of_images_and_masks_has_its_splits_and_class_names(tmp_path: Path, coloured: bool):
    for split in ("train", "val", "test"):
        image(tmp_path / f"images/{split}/a.jpg")
        mask(tmp_path / f"masks/{split}/a.png", [0, 1, 2, 255], coloured=coloured)
    lines(tmp_path / "classes.txt", "ground", "cat", "dog")
    data = open_data(str(tmp_path))
    assert (data.task, data.classes, set(data.splits)) == ("segmentation", ("ground", "cat", "dog"),
                                                           {"train", "val", "test"})
    train: object = data.splits["train"]
    np.testing.assert_array_equal(train.label_map(0), np.resize([0, 1, 2, 255], SIZE))  # type: ignore[attr-defined]


def test_without_split_folders_a_part_is_held_out_and_found_again(tmp_path: Path):
    for number in range(10):
        image(tmp_path / f"images/{number}.jpg")
        mask(tmp_path / f"masks/{number}.png", [0, 3])
    data = open_data(str(tmp_path))
    assert data.classes == ("0", "1", "2", "3")
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 8, "val": 2}
    again = open_data(str(tmp_path), split_files=data.split_files, val_fraction=0.5)
    assert again.splits["val"].name(0) == data.splits["val"].name(0)


def test_voc_is_read_by_its_lists(tmp_path: Path):
    for name in ("2007_000032", "2007_000039"):
        image(tmp_path / f"JPEGImages/{name}.jpg")
        mask(tmp_path / f"SegmentationClass/{name}.png", [0, 15, 20, 255])
    lines(tmp_path / "ImageSets/Segmentation/train.txt", "2007_000032")
    lines(tmp_path / "ImageSets/Segmentation/val.txt", "2007_000039")
    data = open_data(str(tmp_path))
    assert (len(data.classes), data.classes[15], data.classes[20]) == (21, "person", "tvmonitor")
    assert set(np.unique(data.splits["val"].label_map(0))) == {0, 15, 20, 255}  # type: ignore[attr-defined]


def test_the_trimaps_of_pets_count_from_one(tmp_path: Path):
    for name in ("Abyssinian_1", "beagle_2", "beagle_3"):
        image(tmp_path / f"images/{name}.jpg")
        mask(tmp_path / f"annotations/trimaps/{name}.png", [1, 2, 3], coloured=False)
    lines(tmp_path / "annotations/trainval.txt", "#Image CLASS-ID SPECIES BREED", "Abyssinian_1 1 1 1",
          "beagle_2 5 2 1")
    lines(tmp_path / "annotations/test.txt", "beagle_3 5 2 1")
    data = open_data(str(tmp_path))
    assert data.classes == ("pet", "background", "rim")
    assert set(data.splits) == {"train", "val", "test"}
    np.testing.assert_array_equal(data.splits["test"].label_map(0),  # type: ignore[attr-defined]
                                  np.resize([0, 1, 2], SIZE))


def test_what_is_zero_in_ade20k_is_ignored(tmp_path: Path):
    for split in ("training", "validation"):
        image(tmp_path / f"images/{split}/ADE_{split}_1.jpg")
        mask(tmp_path / f"annotations/{split}/ADE_{split}_1.png", [0, 1, 150], coloured=False)
    lines(tmp_path / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName",
          *(f"{k}\t0.1\t1\t1\t{'wall' if k == 1 else f'thing{k}'}, more words" for k in range(1, 151)))
    data = open_data(str(tmp_path))
    assert (len(data.classes), data.classes[0], data.classes[149]) == (150, "wall", "thing150")
    np.testing.assert_array_equal(data.splits["val"].label_map(0),  # type: ignore[attr-defined]
                                  np.resize([255, 0, 149], SIZE))


def test_what_is_wrong_is_said_with_the_file(tmp_path: Path):
    image(tmp_path / "images/train/a.jpg")
    image(tmp_path / "images/train/b.jpg")
    mask(tmp_path / "masks/train/a.png", [0, 9])
    with pytest.raises(BadData, match="1 image without a mask, such as images/train/b.jpg; missing: masks/train/b.png"):
        open_data(str(tmp_path))
    mask(tmp_path / "masks/train/b.png", [0], size=(5, 5))
    lines(tmp_path / "classes.txt", "x", "y")
    train: object = open_data(str(tmp_path), val_fraction=0).splits["train"]
    with pytest.raises(BadImage, match=r"a.png: has the value 9, and there are 2 classes"):
        train.label_map(0)  # type: ignore[attr-defined]
    from allmlp.data.dataset import with_map

    with pytest.raises(BadImage, match="its mask has 5 x 5 pixels and the image 6 x 9"):
        with_map(train, 1)
    (tmp_path / "masks/train/a.png").write_bytes(b"no image")
    with pytest.raises(BadImage, match="no PNG"):
        train.label_map(0)  # type: ignore[attr-defined]


def paired(augment: Augment, size: tuple[int, int], pixels: np.ndarray, seed: int) -> torch.Tensor:
    return paired_augmentation(augment, Preprocess(image_size=size, interpolation="nearest"))(pixels, seed)


@pytest.mark.parametrize("augment", [
    Augment(random_resized_crop=(0.2, 0.8), horizontal_flip=0.5), Augment(random_crop=True, horizontal_flip=0.5),
    Augment(), Augment(random_erasing=1.0),
], ids=["resized crop", "crop", "whole", "erased"])  # fmt: skip
def test_image_and_mask_go_the_same_way(augment: Augment):
    values = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) % 251
    pixels = np.repeat(values[:, :, None], 4, 2).astype(np.uint8)  # where it goes can be read off each channel
    for seed in range(5):
        made = paired(augment, (12, 14), pixels, seed)
        assert made.shape == (4, 12, 14)
        counted = made[3] != IGNORED
        assert counted.float().mean() > 0.3
        assert (made[0] == made[3])[counted].float().mean() > 0.99
        assert torch.equal(made, paired(augment, (12, 14), pixels, seed))


def test_a_crop_larger_than_the_image_is_filled_up_and_ignored():
    made = paired(Augment(random_crop=True), (8, 8), np.full((5, 6, 4), 7, np.uint8), 0)
    assert (made[3] == IGNORED).sum() == 64 - 30
    assert (made[0][made[3] == IGNORED] == 128).all()


def test_what_has_no_counterpart_for_masks_is_refused():
    with pytest.raises(BadSetting, match=r"augment.mixup has no counterpart"):
        paired_augmentation(Augment(mixup=0.2), Preprocess(image_size=(8, 8)))


def test_affine_maps_move_masks_with_their_images_and_ignore_what_comes_in():
    maps = torch.zeros(4, 32, 32, dtype=torch.uint8)
    maps[:, 8:24, 10:22] = 3
    images = maps[:, None].repeat(1, 3, 1, 1) * 60
    augment = Augment(affine=Affine(degrees=40, translate=0.3, scale=0.2, outside="black"))
    moved, labels = augment_batch(images, maps, augment, seed=1, step=5)
    assert set(labels.unique().tolist()) == {0, 3, IGNORED}
    assert ((moved[:, 0] > 90) == (labels == 3)).float().mean() > 0.98


def test_the_splits_of_digit_masks_hold_no_digit_twice():
    names = {split: {digits.name(int(i)) for i in chosen} for split, (digits, chosen) in parts().items()}
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 1797


def test_the_palette_is_that_of_voc():
    colours = palette()
    assert colours[1].tolist() == [128, 0, 0]
    assert colours[15].tolist() == [192, 128, 128]
    assert colours[255].tolist() == [224, 224, 192]
