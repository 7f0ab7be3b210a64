import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from allmlp.data import canonical, open_data, short_name
from allmlp.data.dataset import ImageDataset
from allmlp.data.webdataset import expand, split_of
from allmlp.errors import AllMLPError, BadData

GOLDEN = Path(__file__).parent.parent / "golden"

Make = Callable[..., bytes]


@pytest.fixture
def shard(tmp_path: Path, tar_of: Make, png_of: Make) -> Callable[..., Path]:
    """`shard("000.tar", [{"cls": b"1"}, …])` writes samples as img2dataset does, each with an image of its own."""

    def write(path: str, samples: list[dict[str, bytes]]) -> Path:
        members = {}
        for i, sample in enumerate(samples):
            key = f"{Path(path).stem}{i:05d}"
            members |= {f"{key}.{ending}": body for ending, body in ({"png": png_of(key)} | sample).items()}
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(tar_of(members))
        return tmp_path

    return write


def test_a_shard_of_the_webdataset_library_is_read(noise_of: Make):
    data = open_data(str(GOLDEN / "webdataset.tar"), val_fraction=0)
    train = data.splits["train"]
    assert (data.classes, train.labels.tolist()) == (("0", "1", "2"), [0, 1, 2, 0, 1])
    for i in range(5):
        assert np.array_equal(train.image(i), noise_of(f"w{i}"))
    assert train.name(3).endswith("webdataset.tar/set/0003.png")
    assert isinstance(train, ImageDataset)


def test_shards_as_img2dataset_leaves_them_are_read_and_its_own_files_left_alone(shard: Callable, noise_of: Make):
    samples = [{"json": json.dumps({"caption": f"photo {i}", "key": f"{i:09d}", "status": "success", "label": label})
                .encode(), "txt": f"photo {i}".encode()} for i, label in enumerate(["cat", "dog"] * 10)]
    root = shard("00000.tar", samples)
    (root / "00000_stats.json").write_text('{"count": 20}')
    (root / "00000.parquet").write_bytes(b"PAR1 metadata of the same images PAR1")
    data = open_data(str(root))
    assert data.classes == ("cat", "dog")
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 16, "val": 4}
    assert "held out for validation: 4 of 20" in data.notes[0]
    for images in data.splits.values():
        for i in range(len(images)):
            key = Path(images.name(i)).stem
            assert np.array_equal(images.image(i), noise_of(key))
            assert images.labels[i] == int(key) % 2


def test_a_drawn_split_does_not_depend_on_where_shards_lie_and_can_be_restored(shard: Callable, tmp_path: Path):
    root = shard("a/0.tar", [{"cls": b"0"}, {"cls": b"1"}] * 5)
    first = open_data(str(root / "a"), val_fraction=0.4, seed=3)
    (root / "a").rename(root / "b")
    moved = open_data(str(root / "b"), val_fraction=0.4, seed=3)
    assert moved.split_files == first.split_files
    again = open_data(str(root / "b"), split_files=first.split_files)
    for split, images in again.splits.items():
        assert [images.name(i) for i in range(len(images))] == [
            moved.splits[split].name(i) for i in range(len(images))]


def test_shards_of_the_same_name_in_two_folders_are_told_apart(shard: Callable):
    shard("a/0.tar", [{"cls": b"0"}, {"cls": b"1"}] * 3)
    root = shard("b/0.tar", [{"cls": b"0"}, {"cls": b"1"}] * 3)
    data = open_data(str(root), val_fraction=0.5)
    again = open_data(str(root), split_files=data.split_files)
    for split, images in data.splits.items():
        assert [again.splits[split].name(i) for i in range(len(images))] == [images.name(i) for i in range(len(images))]


def test_splits_are_told_by_names(shard: Callable):
    shard("train-0.tar", [{"cls": b"0"}, {"cls": b"1"}])
    shard("train-1.tar", [{"cls": b"1"}])
    root = shard("val-0.tar", [{"cls": b"0"}])
    (root / "classes.txt").write_text("cat\ndog\n")
    data = open_data(f"shards:{root}")
    assert {split: images.labels.tolist() for split, images in data.splits.items()} == {"train": [0, 1, 1], "val": [0]}
    assert (data.classes, data.split_files) == (("cat", "dog"), None)


@pytest.mark.parametrize("name, split", [
    ("train-000.tar", "train"), ("a/validation/000.tar", "val"), ("TEST_1.tar", "test"), ("trainer.tar", None),
    ("test_things/0.tar", None),
    ("https://host/x/val/{0}.tar?key=train", "val"), ("000.tar", None), ("imagenet1k-train-0000.tar", None),
])  # fmt: skip
def test_a_split_is_the_beginning_of_a_name(name: str, split: str | None):
    assert split_of(name) == split


def test_patterns_are_written_out_as_a_shell_does(tmp_path: Path):
    for name in ("a-08.tar", "a-09.tar", "a-10.tar", "b.tar"):
        (tmp_path / name).touch()
    names = [[Path(path).name for path in expand(f"{tmp_path}/{pattern}")] for pattern in (
        "a-{08..10}.tar", "a-*.tar", "{b,a-08}.tar", "")]
    assert names == [["a-08.tar", "a-09.tar", "a-10.tar"]] * 2 + [["b.tar", "a-08.tar"]] + [
        ["a-08.tar", "a-09.tar", "a-10.tar", "b.tar"]]
    assert expand("https://h/{a,b}{0..1}.tar") == [f"https://h/{name}.tar" for name in ("a0", "a1", "b0", "b1")]


@pytest.mark.parametrize("where, said", [
    ("pipe:curl x | tar", "nothing is run"), ("shards:nowhere/*.tar", "no shards there"),
    ("shards:x{1..999999999}.tar", "at most"), ("shards:ftp://host/1.tar", "http"), ("shards:", "after the colon"),
    ("https:///1.tar", "accepted are"),
])  # fmt: skip
def test_what_names_no_shards_is_refused(where: str, said: str):
    with pytest.raises(BadData, match=said):
        open_data(where)


@pytest.mark.parametrize("bodies, classes, labels", [
    ([b"2", b" 0\n"], ("0", "1", "2"), [2, 0]),
    ([b"dog", b"cat"], ("cat", "dog"), [1, 0]),
    ([b'{"label": 1}', b'{"cls": 0}'], ("0", "1"), [1, 0]),
    ([b'{"labels": ["wet", "cat"]}', b'{"labels": []}'], ("cat", "wet"), [[1, 1], [0, 0]]),
    ([b'{"labels": [0, 2]}', b'{"labels": [1]}'], ("0", "1", "2"), [[1, 0, 1], [0, 1, 0]]),
    ([b'{"label": [0.25, 0.75]}', b'{"label": [1.0, 0]}'], ("0", "1"), [[0.25, 0.75], [1, 0]]),
    ([b'{"label": {"dog": 1}}', b'{"label": {"cat": 0.5, "dog": 0.5}}'], ("cat", "dog"), [[0, 1], [0.5, 0.5]]),
])  # fmt: skip
def test_labels_are_one_class_several_or_shares(
    shard: Callable, bodies: list[bytes], classes: tuple[str, ...], labels: list
):
    root = shard("0.tar", [{"json" if body.startswith(b"{") else "cls": body} for body in bodies])
    data = open_data(f"{root}/0.tar", val_fraction=0)
    found = data.splits["train"].labels
    assert (data.classes, found.tolist()) == (classes, labels)
    kind = np.int64 if found.ndim == 1 else np.float32 if b"." in b"".join(bodies) else np.uint8
    assert found.dtype == kind
    assert data.multi_label == (kind is np.uint8)


@pytest.mark.parametrize("samples, said", [
    ([{"json": b'{"label": [0.5, 0.4]}'}], "sum to 0.9"),
    ([{"json": b'{"label": [0.5, 0.5]}'}, {"json": b'{"label": [1.0]}'}], "1 shares for 2 classes"),
    ([{"cls": b"0"}, {"cls": b"cat"}], "some are names"),
    ([{"cls": b"0"}, {"json": b'{"label": [1]}'}], "two kinds"), ([{"txt": b"a\x1b[2Jb"}], "cannot be the name"),
    ([{"json": b'{"label": null}'}], "its label is None"),
    ([{"json": b'{"label": {"cat": "much"}}'}], "its label is"),
    ([{"json": b'{"label": []}'}], "no image has a label"),
    ([{"cls": b"0"}, {"cls": b"-3"}], "none of the"),
    ([{"txt": f"a photo of {i}".encode()} for i in range(20)], "captions"),
    ([{"txt": b"cat"}, {}], "no label"),
    ([{"json": b"{"}], "no JSON"), ([{"json": b"[" * 100_000}], "no JSON"), ([{"cls": b"\xff"}], "UTF-8"),
    ([{"cls": b"1" * (2 << 20)}], "bytes long"), ([{"png": b"", "cls": b"0"}], "an image of 0 bytes"),
])  # fmt: skip
def test_labels_that_make_no_sense_are_refused_by_name(shard: Callable, samples: list[dict[str, bytes]], said: str):
    root = shard("0.tar", samples)
    with pytest.raises(AllMLPError, match=said) as caught:
        open_data(f"{root}/0.tar")
    assert "0.tar" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_samples_and_images_are_left_out_by_name_with_skip_bad(shard: Callable):
    root = shard("0.tar", [{"cls": b"0"}, {"cls": b"1"}, {"json": b"{"}, {"cls": b"0", "png": b"no image"}])
    with pytest.raises(BadData, match="0.tar/000002: its .json is no JSON.*--skip-bad"):
        open_data(f"{root}/0.tar", val_fraction=0)
    data = open_data(f"{root}/0.tar", val_fraction=0, skip_bad=True)
    assert data.splits["train"].labels.tolist() == [0, 1]
    assert "left out 1 member: " in data.notes[0]
    assert "0.tar/000003.png: not an image" in data.notes[1]


def test_a_cut_shard_is_used_up_to_the_cut_with_skip_bad(shard: Callable):
    root = shard("0.tar", [{"cls": b"0"}] * 4)
    content = (root / "0.tar").read_bytes()
    (root / "0.tar").write_bytes(content[: 2 * 2048 + 600])  # in the third image
    with pytest.raises(BadData, match="truncated after 4 members"):
        open_data(f"{root}/0.tar")
    data = open_data(f"{root}/0.tar", val_fraction=0, skip_bad=True)
    assert len(data.splits["train"]) == 2
    assert "truncated after 4 members" in data.notes[0]


def test_an_image_that_a_shard_lost_after_it_was_indexed_is_named(shard: Callable):
    root = shard("0.tar", [{"cls": b"0"}] * 2)
    train = open_data(f"{root}/0.tar", val_fraction=0).splits["train"]
    (root / "0.tar").write_bytes((root / "0.tar").read_bytes()[:2100])
    train.image(0)
    with pytest.raises(BadData, match="000001.png: truncated"):
        train.image(1)


def test_an_index_is_kept_until_the_shard_changes(shard: Callable, monkeypatch: pytest.MonkeyPatch):
    from allmlp.data import webdataset

    root = shard("0.tar", [{"cls": b"0"}] * 2)
    scans = []
    scan = webdataset.scan_shard
    monkeypatch.setattr(webdataset, "scan_shard", lambda path, name: scans.append(name) or scan(path, name))
    names = []
    for _ in range(2):
        train = open_data(f"{root}/0.tar", val_fraction=0).splits["train"]
        names.append([train.name(i) for i in range(len(train))])
    assert (len(scans), names[0]) == (1, names[1])
    shard("0.tar", [{"cls": b"0"}] * 3)
    assert len(open_data(f"{root}/0.tar", val_fraction=0).splits["train"]) == 3
    assert len(scans) == 2


def test_the_images_can_be_sent_to_another_process(shard: Callable):
    root = shard("0.tar", [{"cls": b"0"}] * 2)
    train = open_data(f"{root}/0.tar", val_fraction=0).splits["train"]
    assert np.array_equal(pickle.loads(pickle.dumps(train)).image(1), train.image(1))


def test_a_source_means_the_same_in_another_folder(shard: Callable, monkeypatch: pytest.MonkeyPatch):
    root = shard("train/0.tar", [{"cls": b"0"}])
    monkeypatch.chdir(root)
    assert canonical("train") == f"shards:{root}/train"
    assert canonical("shards:train/*.tar") == f"shards:{root}/train/*.tar"
    assert canonical("https://host/{0..3}.tar") == "shards:https://host/{0..3}.tar"
    assert (canonical("hf:owner/name"), canonical("digits")) == ("hf:owner/name", "digits")
    assert [short_name(name) for name in ("train", "digits", "https://host/{0..3}.tar", "hf:owner/name")] == [
        "train", "digits", "0..3", "name"]
