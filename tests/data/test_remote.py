import http.server
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from allmlp.data import open_data
from allmlp.data.loader import Loader
from allmlp.data.remote import cache_folder, fetched
from allmlp.data.shard import write_shards
from allmlp.errors import BadData, BadSetting, CannotDownload
from allmlp.preprocess import Preprocess
from allmlp.recipe import Augment

SHARDS, EACH = 6, 8  # images in each shard


class Server:
    """A web server on this machine that counts what is asked for."""

    def __init__(self, folder: Path):
        self.folder, self.asked = folder, list[str]()
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.endswith(".tar"):
                    server.asked.append(self.path)
                super().do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.http.handle_error = lambda *_: None  # of a client that has seen enough
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(tmp_path: Path, tar_of: Callable, png_of: Callable) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    for number in range(SHARDS):
        samples = {f"{i:03d}.{end}": body for i in range(EACH)
                   for end, body in (("png", png_of(f"{number}-{i}", 100, 100)), ("cls", b"%d" % (i % 2)))}
        (folder / f"{number:02d}.tar").write_bytes(tar_of(samples))
    found = Server(folder)
    yield found
    found.http.shutdown()
    found.http.server_close()


def shard_bytes(server: Server) -> int:
    return max(path.stat().st_size for path in server.folder.glob("*.tar"))


def cached() -> list[Path]:
    return list((cache_folder() / "remote").glob("*.tar"))


def test_remote_shards_have_the_images_of_the_same_shards_here(server: Server):
    far = open_data(f"{server.address}/{{00..05}}.tar", val_fraction=0).splits["train"]
    near = open_data(str(server.folder), val_fraction=0).splits["train"]
    assert np.array_equal(far.labels, near.labels)
    for i in (0, 17, 47):
        assert np.array_equal(far.image(i), near.image(i))


def test_a_second_opening_asks_for_nothing_and_the_cache_stays_within_its_limit(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    limit = int(2.5 * shard_bytes(server))
    monkeypatch.setenv("ALLMLP_CACHE_GB", str(limit / 1e9))
    train = open_data(f"{server.address}/{{00..05}}.tar", val_fraction=0).splits["train"]
    assert sum(path.stat().st_size for path in cached()) <= limit
    assert server.asked == [f"/{number:02d}.tar" for number in range(SHARDS)]
    server.asked.clear()
    train = open_data(f"{server.address}/{{00..05}}.tar", val_fraction=0).splits["train"]
    assert server.asked == []
    train.image(5 * EACH)  # 04 and 05 are there, 00 is not
    assert server.asked == []
    train.image(0)
    train.image(5 * EACH)  # 04 had to go, as it was used before 05
    assert server.asked == ["/00.tar"]
    assert sum(path.stat().st_size for path in cached()) <= limit


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_fetches_each_shard_once_and_has_each_image_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, workers: int
):
    monkeypatch.setenv("ALLMLP_CACHE_GB", str(4.5 * shard_bytes(server) / 1e9))  # a window of two shards
    train = open_data(f"{server.address}/{{00..05}}.tar", val_fraction=0).splits["train"]
    shutil.rmtree(cache_folder() / "remote")
    server.asked.clear()
    loader = Loader(train, Preprocess(image_size=(8, 8)), Augment(horizontal_flip=0.5), batch_size=5, seed=1,
                    workers=workers)
    seen = np.concatenate([batch.indices.numpy() for batch in loader.epoch(0)])
    assert sorted(seen) == list(range(SHARDS * EACH))
    assert len(server.asked) == SHARDS
    shards = seen // EACH
    for start in range(0, len(seen), 2 * EACH):
        assert len(set(shards[start : start + 2 * EACH])) == 2  # and these two are mixed
        assert len(np.flatnonzero(np.diff(shards[start : start + 2 * EACH]))) > 2
    again = np.concatenate([batch.indices.numpy() for batch in loader.epoch(0, start_step=3)])
    assert np.array_equal(again, seen[15:])
    other = np.concatenate([batch.indices.numpy() for batch in loader.epoch(1)])
    assert not np.array_equal(other, seen)


def test_shards_with_their_index_beside_them_are_fetched_only_for_their_images(tmp_path: Path, server: Server):
    write_shards(open_data(str(server.folder), val_fraction=0), server.folder / "ours", 10)
    source = f"{server.address}/ours/train-0000{{0..4}}.tar"
    train = open_data(source, val_fraction=0).splits["train"]
    assert (server.asked, len(train)) == ([], SHARDS * EACH)
    near = open_data(str(server.folder / "ours"), val_fraction=0).splits["train"]
    assert np.array_equal(train.labels, near.labels)
    assert np.array_equal(train.image(25), near.image(25))
    assert server.asked == ["/ours/train-00002.tar"]


def test_an_index_that_means_harm_is_refused(server: Server):
    write_shards(open_data(str(server.folder), val_fraction=0), server.folder / "ours", 100)
    beside = server.folder / "ours" / "train-00000.tar.index"
    good = beside.read_bytes()
    with np.load(beside) as found:
        arrays = dict(found)
    bad = [b"", b"x", good[:-100], pickle.dumps(1)]
    for name, value in (("offsets", -arrays["offsets"]), ("sizes", arrays["sizes"][1:]), ("names", arrays["names"][1:]),
                        ("name_ends", arrays["name_ends"][::-1].copy()), ("labels", arrays["labels"].astype(object)),
                        ("sizes", arrays["sizes"].astype(float)), ("names", arrays["names"] * 0 + 27),
                        ("labels", arrays["labels"] * 0 + 91)):
        with open(beside, "wb") as file:
            np.savez(file, **(arrays | {name: value}))
        bad.append(beside.read_bytes())
    for content in bad:
        beside.write_bytes(content)
        with pytest.raises(BadData, match="not an index of a shard"):
            open_data(f"{server.address}/ours/train-00000.tar")


def test_what_is_not_there_is_said_in_one_line_or_left_out(server: Server):
    with pytest.raises(CannotDownload, match=r"/06.tar: cannot be downloaded \(404"):
        open_data(f"{server.address}/{{05..09}}.tar")
    data = open_data(f"{server.address}/{{05..06}}.tar", val_fraction=0, skip_bad=True)
    assert len(data.splits["train"]) == EACH
    assert "/06.tar: cannot be downloaded" in data.notes[0]
    assert not list(cache_folder().rglob("*.tmp"))


def test_a_download_that_breaks_off_leaves_nothing_behind(server: Server, monkeypatch: pytest.MonkeyPatch):
    class Broken(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 500)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server.http.RequestHandlerClass = Broken
    with pytest.raises(CannotDownload, match=r"500 of 100000 bytes came"):
        fetched(f"{server.address}/00.tar")
    assert len(server.asked) == 3
    assert not cached()


def test_a_shard_larger_than_the_cache_and_a_cache_of_no_size_are_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALLMLP_CACHE_GB", "0.00001")
    with pytest.raises(CannotDownload, match="larger than the cache"):
        fetched(f"{server.address}/00.tar")
    monkeypatch.setenv("ALLMLP_CACHE_GB", "much")
    with pytest.raises(BadSetting, match="ALLMLP_CACHE_GB='much'"):
        fetched(f"{server.address}/00.tar")
