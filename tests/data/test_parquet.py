import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from allmlp.cli import main
from allmlp.data import open_data
from allmlp.data import parquet as ours
from allmlp.data.dataset import ImageDataset
from allmlp.data.order import epoch_order
from allmlp.errors import AllMLPError, BadData, CannotDownload

GOLDEN = Path(__file__).parent.parent / "golden"

Make = Callable[..., Any]


@pytest.fixture
def table(tmp_path: Path, png_of: Make) -> Callable[..., Path]:
    """`table("a.parquet", labels, column="label")` writes an image of its own for each label, four to a row group."""

    def write(path: str, labels: list[Any], column: str = "label", images: pa.Array | None = None) -> Path:
        found = images if images is not None else pa.array([png_of(f"{path}{i}") for i in range(len(labels))])
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table({"image": found, column: labels}), tmp_path / path, row_group_size=4)
        return tmp_path

    return write


def test_a_file_of_hugging_face_datasets_is_read_with_its_class_names(noise_of: Make):
    data = open_data(str(GOLDEN / "datasets.parquet"), val_fraction=0)
    train = data.splits["train"]
    assert (data.classes, train.labels.tolist()) == (("cat", "dog", "eel"), [0, 1, 2, 2, 1, 0, 1])
    for i in (6, 0, 3, 1, 2, 4, 5):
        assert np.array_equal(train.image(i), noise_of(f"h{i}"))
    assert isinstance(train, ImageDataset)
    assert train.name(4).endswith("datasets.parquet/group 1 row 1")
    assert data.notes[0] == "columns: images from 'image', labels from 'label'; not used: text"


def test_a_sequence_of_class_labels_is_several_labels(noise_of: Make):
    data = open_data(f"hf:{GOLDEN / 'datasets_several.parquet'}", val_fraction=0)
    assert data.multi_label
    assert data.splits["train"].labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert np.array_equal(data.splits["train"].image(2), noise_of("m2"))


def test_splits_are_told_by_names_and_files_of_a_split_follow_each_other(table: Make, noise_of: Make):
    second, val = "data/train-00001-of-00002.parquet", "data/validation-00000-of-00001.parquet"
    table("data/train-00000-of-00002.parquet", ["a", "b", "a", "b", "a"])
    for path, label in ((second, "b"), (val, "b"), ("data/test-00000-of-00001.parquet", "a")):
        root = table(path, [label])
    data = open_data(str(root))
    assert {split: images.labels.tolist() for split, images in data.splits.items()} == {
        "train": [0, 1, 0, 1, 0, 1], "val": [1], "test": [0]}
    assert np.array_equal(data.splits["train"].image(5), noise_of(f"{second}0"))
    assert np.array_equal(data.splits["val"].image(0), noise_of(f"{val}0"))


def test_soft_labels_are_a_list_of_floats(table: Make):
    root = table("a.parquet", [[0.5, 0.5], [0.0, 1.0]])
    labels = open_data(str(root / "a.parquet"), val_fraction=0).splits["train"].labels
    assert (labels.dtype, labels.tolist()) == (np.float32, [[0.5, 0.5], [0, 1]])


def test_a_part_is_held_out_and_found_again(table: Make):
    root = table("a.parquet", [0, 1] * 10)
    data = open_data(str(root / "a.parquet"), val_fraction=0.3)
    assert [len(images) for images in data.splits.values()] == [14, 6]
    again = open_data(str(root / "a.parquet"), split_files=data.split_files)
    assert [again.splits["val"].name(i) for i in range(6)] == [data.splits["val"].name(i) for i in range(6)]


def test_an_epoch_reads_a_few_row_groups_at_a_time(table: Make, monkeypatch: pytest.MonkeyPatch):
    root = table("a.parquet", [0, 1] * 20)
    monkeypatch.setattr(ours, "WINDOW_BYTES", 2000)  # of groups of 4 * 170 bytes: two
    train = open_data(str(root / "a.parquet"), val_fraction=0).splits["train"]
    opened = []
    open_file = ours._open
    monkeypatch.setattr(ours, "_open", lambda file: opened.append(file) or open_file(file))
    ours._held.clear()
    order = epoch_order(train, 0, 0)
    assert sorted(order) == list(range(40))
    groups = order // 4
    for i in order.tolist():
        train.image(i)
    assert len(opened) == 10  # each group once
    for start in range(0, 40, 8):
        assert len(set(groups[start : start + 8])) == 2
    assert len(ours._held) <= 6


def test_small_files_are_mixed_like_any_data(table: Make):
    train = open_data(str(table("a.parquet", [0, 1] * 20) / "a.parquet"), val_fraction=0).splits["train"]
    assert len(np.flatnonzero(np.diff(epoch_order(train, 0, 0) // 4))) > 20


def test_the_images_can_be_sent_to_another_process(table: Make):
    train = open_data(str(table("a.parquet", [0, 1]) / "a.parquet"), val_fraction=0).splits["train"]
    assert np.array_equal(pickle.loads(pickle.dumps(train)).image(1), train.image(1))


def test_columns_of_other_names_are_refused_with_what_there_is(table: Make):
    with pytest.raises(BadData, match=r"no column with labels among image \(binary\), kind \(int64\); expected one"):
        open_data(str(table("a.parquet", [0], column="kind")))
    with pytest.raises(BadData, match="no column with images among image"):
        open_data(str(table("a.parquet", [0], images=pa.array(["path.jpg"]))))


def test_an_image_that_is_not_in_the_file_is_named_or_left_out(table: Make, png_of: Make):
    cells = pa.array([{"bytes": png_of("x"), "path": "x.png"}, {"bytes": None, "path": "/etc/passwd"},
                      {"bytes": b"no image", "path": None}])
    root = table("a.parquet", [0, 0, 0], images=cells)
    train = open_data(str(root), val_fraction=0).splits["train"]
    train.image(0)
    with pytest.raises(BadData, match="group 0 row 1: no bytes, only the path"):
        train.image(1)
    with pytest.raises(BadData, match="group 0 row 2: not an image"):
        train.image(2)
    data = open_data(str(root), val_fraction=0, skip_bad=True)
    assert len(data.splits["train"]) == 1
    assert "left out 2 of 3" in data.notes[0]


def test_damaged_files_are_refused_in_one_line(table: Make, tmp_path: Path):
    root = table("a.parquet", [0, 1] * 8)
    content = (root / "a.parquet").read_bytes()
    draw = np.random.default_rng(0)
    for cut in (0, 3, 100, len(content) - 3):
        (root / "a.parquet").write_bytes(content[:cut])
        with pytest.raises(BadData, match="cannot be read as parquet"):
            open_data(str(root / "a.parquet"))
    said = set()
    for _ in range(60):
        damaged = bytearray(content)
        for at in draw.integers(0, len(content), 4):
            damaged[at] = draw.integers(256)
        (root / "a.parquet").write_bytes(damaged)
        ours._held.clear()
        try:
            train = open_data(str(root / "a.parquet"), val_fraction=0).splits["train"]
            for i in range(len(train)):
                train.image(i)
        except AllMLPError as error:
            said.add(str(error))
    assert said
    assert not any("\n" in line for line in said)


def test_other_columns_in_one_file_are_refused(table: Make):
    table("a.parquet", [0])
    with pytest.raises(BadData, match=r"b.parquet: other columns \(image, kind\)"):
        open_data(str(table("b.parquet", [0], column="kind")))


def test_a_data_set_of_the_hub_is_not_fetched_unasked(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch,
                                                      tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CannotDownload, match=r"hf:no/such: not in the Hub's cache; --download fetches it"):
        open_data("hf:no/such")
    with pytest.raises(BadData, match="neither a file or folder nor the id"):
        open_data("hf:no such thing")
    assert main(["data", "check", "hf:no/such"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_of_a_data_set_with_several_configurations_one_must_be_named(table: Make, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch):
    place = "hub/datasets--owner--name"
    for path in ("fine/train/0000.parquet", "coarse/train/0000.parquet", "coarse/validation/0000.parquet"):
        table(f"{place}/snapshots/{'0' * 40}/{path}", ["a", "b"])
    (tmp_path / place / "refs" / "refs" / "convert").mkdir(parents=True)  # as the Hub converts other formats
    (tmp_path / place / "refs" / "refs" / "convert" / "parquet").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(BadData, match="configurations coarse, fine; give one of them: hf:owner/name/coarse"):
        open_data("hf:owner/name")
    data = open_data("hf:owner/name/coarse")
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 2, "val": 2}


def test_a_data_set_in_the_hubs_cache_is_used(table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = "hub/datasets--owner--name"
    for split in ("train", "test"):
        table(f"{place}/snapshots/{'0' * 40}/data/{split}-00000-of-00001.parquet", [0, 1])
    (tmp_path / place / "refs").mkdir()
    (tmp_path / place / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    data = open_data("hf:owner/name")
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 2, "test": 2}
