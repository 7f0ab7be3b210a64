import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from allmlp.data import loader as loading
from allmlp.data.loader import Loader, evaluation_batches, steps_per_epoch
from allmlp.data.order import epoch_order
from allmlp.errors import BadData, BadSetting
from allmlp.preprocess import Preprocess, fit
from allmlp.recipe import Augment

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # Python 3.12 on forking
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on a machine with one core
]

PREPROCESS = Preprocess(image_size=(12, 10))
RANDOM = Augment(random_resized_crop=(0.3, 1.0), horizontal_flip=0.5, rand_augment=1, random_erasing=0.3)


@dataclass
class Pictures:
    """Noise, each image of another size; those of `broken` cannot be read and at `deadly` the process dies."""

    n: int = 11
    broken: tuple[int, ...] = ()
    deadly: int | None = None
    classes: tuple[str, ...] = ("a", "b", "c")
    reads: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.labels = np.arange(self.n, dtype=np.int64) % 3

    def __len__(self) -> int:
        return self.n

    def image(self, index: int) -> np.ndarray:
        self.reads.append(index)
        if index in self.broken:
            raise BadData(f"{self.name(index)}: a bad picture")
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.random.default_rng(index).integers(0, 256, (14 + index % 5, 20 - index % 7, 3), dtype=np.uint8)

    def name(self, index: int) -> str:
        return f"pictures/{index}"


class ManyLabels(Pictures):
    def __post_init__(self):
        self.labels = np.random.default_rng(0).integers(0, 2, (self.n, 3), dtype=np.uint8)


class Digits(Pictures):
    """As many images as the training part of scikit-learn's digits has, of that size."""

    def image(self, index: int) -> np.ndarray:
        return np.full((8, 8, 3), index % 256, np.uint8)


def flat(batches) -> list[tuple[list, ...]]:
    """Batches as plain lists, which can be compared with one `==`."""
    return [(batch.images.tolist(), batch.labels.tolist(), batch.indices.tolist()) for batch in batches]


def make(dataset=None, augment=RANDOM, batch_size=4, seed=0, **options) -> Loader:
    return Loader(Pictures() if dataset is None else dataset, PREPROCESS, augment, batch_size, seed, **options)


# --- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_the_order_of_an_epoch_has_each_image_once(n):
    order = epoch_order(Pictures(n), 0, 3)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_the_order_differs_between_epochs_and_seeds_and_can_be_asked_for_in_any_sequence():
    wanted = [(seed, epoch) for seed in range(3) for epoch in range(3)]
    orders = {key: epoch_order(Pictures(50), *key).tolist() for key in wanted}
    assert len({tuple(order) for order in orders.values()}) == 9
    for key in reversed(wanted):
        assert epoch_order(Pictures(50), *key).tolist() == orders[key]


@pytest.mark.parametrize(("n", "batch_size"), [(11, 4), (12, 4), (1, 4), (11, 1), (11, 11), (3, 100)])
def test_an_epoch_has_all_images_in_batches_of_which_only_the_last_is_short(n, batch_size):
    loader = make(Pictures(n), Augment(), batch_size)
    sizes = [len(batch.indices) for batch in loader.epoch(0)]
    assert sum(sizes) == n
    assert all(size == batch_size for size in sizes[:-1])
    assert len(sizes) == loader.steps_per_epoch == steps_per_epoch(n, batch_size)


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_images_and_labels_are_those_of_their_indices(cache):
    dataset = Pictures()
    for images, labels, indices, _ in make(dataset, Augment(), cache=cache).epoch(5):
        assert images.dtype == torch.uint8
        assert labels.dtype == indices.dtype == torch.int64
        for image, label, i in zip(images, labels, indices.tolist(), strict=True):
            np.testing.assert_array_equal(image.numpy(), fit(dataset.image(i), PREPROCESS).transpose(2, 0, 1))
            assert label == dataset.labels[i]


def test_several_labels_per_image_come_as_rows():
    dataset = ManyLabels()
    for _, labels, indices, _ in make(dataset).epoch(0):
        assert labels.dtype == torch.uint8
        np.testing.assert_array_equal(labels.numpy(), dataset.labels[indices.numpy()])


# --- nothing but (seed, epoch, step) counts --------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [RANDOM, Augment()], ids=["random", "plain"])
@pytest.mark.parametrize("cache", ["auto", "off"])
def test_any_number_of_workers_gives_the_same_batches_bit_for_bit(augment, cache):
    epochs = (0, 1, 7)
    expected = [flat(make(augment=augment, cache="off").epoch(epoch)) for epoch in epochs]
    for workers in (0, 1, 2):
        loader = make(augment=augment, workers=workers, cache=cache)
        assert [flat(loader.epoch(epoch)) for epoch in epochs] == expected


@pytest.mark.parametrize("augment", [RANDOM, Augment()], ids=["random", "cached"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_entered_at_a_step_goes_on_exactly(augment, workers):
    whole = flat(make(augment=augment).epoch(2))
    loader = make(augment=augment, workers=workers)
    for start_step in range(4):
        assert flat(loader.epoch(2, start_step)) == whole[start_step:]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_was_left_halfway_leaves_nothing_behind(workers):
    expected = flat(make().epoch(1))
    loader = make(workers=workers)
    for _ in range(3):
        next(loader.epoch(0))
        assert flat(loader.epoch(1)) == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_two_epochs_can_be_gone_through_at_once(workers):
    loader = make(workers=workers)
    both = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    assert [flat(batches) for batches in zip(*both, strict=True)] == [flat(make().epoch(epoch)) for epoch in (0, 1)]


def test_an_image_is_augmented_anew_in_each_epoch_and_for_each_seed():
    def first_image(seed: int, epoch: int) -> list:
        batches = list(make(batch_size=11, seed=seed).epoch(epoch))
        return batches[0].images[batches[0].indices == 0].flatten().tolist()

    assert len({tuple(first_image(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_does_not_touch_the_random_state_of_the_process(workers):
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    loader = make(workers=workers)
    for epoch in range(2):
        list(loader.epoch(epoch))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.slow  # each process imports torch anew
def test_workers_that_are_spawned_do_the_same_as_forked_ones():
    expected, method = flat(make().epoch(1)), multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert flat(make(workers=1).epoch(1)) == expected
    finally:
        multiprocessing.set_start_method(method, force=True)


# --- cache -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("augment", "cache", "limit", "reads"), [
    (Augment(), "auto", 11 * 12 * 10 * 3, 1),
    (Augment(mixup=0.5), "auto", 11 * 12 * 10 * 3, 1),
    (Augment(), "auto", 11 * 12 * 10 * 3 - 1, 3),  # one byte too large
    (Augment(), "off", 11 * 12 * 10 * 3, 3),
    (Augment(horizontal_flip=0.5), "auto", 11 * 12 * 10 * 3, 3),
])
def test_images_are_read_once_where_they_fit_and_never_change(monkeypatch, augment, cache, limit, reads):
    monkeypatch.setattr(loading, "CACHE_BYTES", limit)
    monkeypatch.setattr(loading, "CACHE_BATCH", 4)  # so that the cache is filled in several parts
    dataset = Pictures()
    loader = make(dataset, augment, cache=cache)
    assert dataset.reads == []
    for epoch in range(3):
        list(loader.epoch(epoch))
    assert sorted(dataset.reads) == sorted(list(range(11)) * reads)


def test_an_epoch_of_small_cached_images_takes_no_time():
    loader = Loader(Digits(1437), Preprocess(image_size=(8, 8)), Augment(), 128, 0)
    list(loader.epoch(0))

    def seconds(epoch: int) -> float:
        start = time.perf_counter()
        assert sum(len(batch.images) for batch in loader.epoch(epoch)) == 1437
        return time.perf_counter() - start

    assert min(seconds(epoch) for epoch in range(50)) < 2e-3  # 0.5 ms where it was measured; reading takes over 10


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", [RANDOM, Augment()], ids=["random", "cached"])
def test_a_bad_image_arrives_as_the_one_line_that_the_data_set_said(workers, augment):
    loader = make(Pictures(broken=(6,)), augment, workers=workers)
    for _ in range(2):  # the workers outlive it
        with pytest.raises(BadData) as caught:
            list(loader.epoch(0))
        assert str(caught.value) == "pictures/6: a bad picture"


def test_a_bad_image_does_not_keep_earlier_batches_back():
    order = epoch_order(Pictures(), 0, 0).tolist()
    loader = make(Pictures(broken=(order[8],)), workers=2)
    batches = loader.epoch(0)
    assert [next(batches).indices.tolist() for _ in range(2)] == [order[:4], order[4:8]]
    with pytest.raises(BadData):
        next(batches)


def test_a_worker_that_is_killed_is_reported_in_one_line():
    loader = make(Pictures(deadly=6), workers=1)
    for _ in range(2):
        with pytest.raises(BadSetting, match=r"^a process that reads images was killed, .*use fewer") as caught:
            list(loader.epoch(0))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("broken", [(), (6,)])
def test_workers_end_with_their_loader_even_after_an_error_that_somebody_keeps(broken):
    def run() -> None:
        loader = make(Pictures(broken=broken), workers=2)
        try:
            list(loader.epoch(0))
        except BadData as error:
            kept = error  # noqa: F841  error -> traceback -> this frame -> error: a knot that holds the loader
        workers.extend(process for process in multiprocessing.active_children() if process.pid not in earlier)

    earlier, workers = {process.pid for process in multiprocessing.active_children()}, []
    run()
    gc.collect()
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(process.exitcode is None for process in workers) and time.monotonic() < deadline:
        time.sleep(0.02)  # no join: the pool's own thread joins them, and two at once get in each other's way
    assert [process.exitcode for process in workers] == [0, 0]


# A shell that starts something in the background has it ignore SIGINT, and so would all below it, this program too.
ENDLESS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {folder!r})
from test_loader import Augment, Pictures, make, multiprocessing
batches = make(Pictures(1000), workers=2).epoch(0)
next(batches)
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


@pytest.mark.slow  # starts Python and torch anew
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux which processes exist")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_the_main_process(how):
    program = ENDLESS.format(folder=os.path.dirname(__file__))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as main:
        assert main.stdout is not None
        assert main.stderr is not None
        pids = main.stdout.readline().split()
        assert len(pids) == 2
        assert all(os.path.isdir(f"/proc/{pid}") for pid in pids)
        if how == signal.SIGINT:
            os.killpg(main.pid, how)  # as a terminal does: to the workers too
        else:
            main.kill()
        printed = main.stderr.read()  # until it is closed by all: they have ended
        if how == signal.SIGINT:  # a worker that hands over a batch while the main process is killed may well complain
            assert printed.count("Traceback") == 1
    deadline = time.monotonic() + 10
    while any(os.path.isdir(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(os.path.isdir(f"/proc/{pid}") for pid in pids)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"workers": -1}, BadSetting, "workers -1: expected 0"),
    ({"batch_size": 0}, BadSetting, "batch_size 0: expected at least 1"),
    ({"dataset": Pictures(0)}, BadData, "no images to train on"),
    ({"augment": Augment(random_resized_crop=(0.9, 0.1))}, BadSetting, "augment.random_resized_crop"),
])
def test_what_cannot_work_is_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


@pytest.mark.parametrize("start_step", [-1, 4])
def test_a_step_outside_of_the_epoch_is_refused(start_step):
    with pytest.raises(BadSetting, match=f"start_step {start_step}: an epoch has 3 steps"):
        next(make().epoch(0, start_step))


# --- evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dataset", [Pictures(), ManyLabels()], ids=["one label", "several"])
def test_evaluation_goes_through_all_images_in_order_with_the_evaluation_geometry(dataset, workers):
    batches = list(evaluation_batches(dataset, PREPROCESS, 4, workers))
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    images = np.concatenate([images for images, _ in batches])
    assert images.dtype == np.uint8
    for i in range(11):
        np.testing.assert_array_equal(images[i], fit(dataset.image(i), PREPROCESS))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), dataset.labels)


def test_evaluation_of_no_images_gives_no_batches():
    assert list(evaluation_batches(Pictures(0), PREPROCESS, 4, 2)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_names_the_image_that_cannot_be_read(workers):
    with pytest.raises(BadData, match=r"^pictures/10: a bad picture$"):
        list(evaluation_batches(Pictures(broken=(10,)), PREPROCESS, 4, workers))
