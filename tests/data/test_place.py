"""However many processes share a batch, together they see and do what one alone would."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmlp.data.batch import augment_batch
from allmlp.data.loader import Loader
from allmlp.data.place import Share, partner_rows, place
from allmlp.preprocess import Preprocess
from allmlp.recipe import Affine, Augment

ROLLED = Augment(mixup=0.4, cutmix=1.0, affine=Affine(degrees=15, translate=0.1))
MIRRORED = ROLLED.with_(mixup_kind="timm")
sizes = {"batch_size": st.integers(1, 40), "count": st.integers(1, 9), "parts": st.integers(1, 5)}


@given(**sizes, mirrored=st.booleans())
def test_each_image_is_computed_once_and_in_the_part_it_has_in_one_process(batch_size, count, parts, mirrored):
    shares = [Share(rank, count, parts).rows(batch_size, mirrored) for rank in range(count)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(batch_size))
    used = min(parts, batch_size)
    for rows in shares:
        for part in range(used):
            assert (rows[part::used] % used == part).all()


@given(**sizes, augment=st.sampled_from([ROLLED, MIRRORED, Augment()]))
def test_every_process_holds_the_partners_of_its_images_and_the_weights_add_up(batch_size, count, parts, augment):
    places = [place(batch_size, augment, Share(rank, count, parts)) for rank in range(count)]
    assert sum(where.weight for where in places) == pytest.approx(1)
    for where in places:
        if augment.mixup:
            np.testing.assert_array_equal(where.rows[where.partners],
                                          partner_rows(batch_size, augment)[where.rows[: where.own]])
        assert len(set(where.rows.tolist())) == len(where.rows)


@pytest.mark.parametrize(("augment", "more"), [(ROLLED, 1), (MIRRORED, 0), (Augment(), 0)],
                         ids=["roll", "timm", "none"])
def test_mixing_costs_at_most_one_more_image_per_process(augment, more):
    for rank in range(4):
        where = place(64, augment, Share(rank, 4, parts=2))
        assert (where.own, len(where.rows)) == (16, 16 + more)


@pytest.mark.parametrize("augment", [ROLLED, MIRRORED, ROLLED.with_(mixup_kind="google"), ROLLED.with_(cutmix=0.0)],
                         ids=["roll", "timm", "google", "mixup only"])
@pytest.mark.parametrize("count", [2, 3])
def test_augmented_parts_of_a_batch_are_the_parts_of_the_augmented_batch(augment, count):
    images = torch.randint(0, 256, (11, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = torch.eye(11)
    for step in range(6):
        whole, whole_targets = augment_batch(images, targets, augment, 1, step)
        for rank in range(count):
            where = place(11, augment, Share(rank, count, parts=2))
            part, part_targets = augment_batch(images[where.rows], targets[where.rows], augment, 1, step, where)
            own = where.rows[: where.own]
            torch.testing.assert_close(part, whole[own], rtol=0, atol=0)
            torch.testing.assert_close(part_targets, whole_targets[own], rtol=0, atol=0)


class Numbers:
    """Images that show their own number."""

    classes = ("a", "b")

    def __init__(self, count: int):
        self.labels = np.arange(count) % 2

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return np.full((6, 6, 3), index, np.uint8)

    def name(self, index: int) -> str:
        return f"numbers/{index}"


@pytest.mark.parametrize("repeated", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_loaders_of_several_processes_give_the_batches_of_one_however_they_are_entered(repeated, workers):
    augment = Augment(random_resized_crop=(0.5, 1.0), horizontal_flip=0.5, random_erasing=0.5, repeated=repeated)
    size = Preprocess(image_size=(4, 4))
    whole = list(Loader(Numbers(23), size, augment, 7, seed=4).epoch(2))
    for rank in range(3):
        loader = Loader(Numbers(23), size, augment, 7, seed=4, workers=workers, share=Share(rank, 3))
        for batch, complete in zip(loader.epoch(2, 1), whole[1:], strict=True):
            assert torch.equal(batch.images, complete.images[batch.place.rows])
            assert torch.equal(batch.indices, complete.indices[batch.place.rows])
            assert torch.equal(batch.labels, complete.labels[batch.place.rows])


def test_repeated_images_come_as_often_in_a_batch_each_time_otherwise_and_never_side_by_side():
    augment = Augment(random_erasing=1.0, repeated=3)
    size = Preprocess(image_size=(6, 6), crop_ratio=1.0)
    batches = list(Loader(Numbers(60), size, augment, 12, seed=0).epoch(0))
    assert [len(batch.indices) for batch in batches] == [12] * 5  # as long an epoch as without
    seen = torch.cat([batch.indices for batch in batches]).unique()
    assert len(seen) == 20  # of a third of the images
    for batch in batches:
        numbers, counts = batch.indices.unique(return_counts=True)
        assert counts.tolist() == [3] * 4
        assert (batch.indices != batch.indices.roll(1)).all()
        for number in numbers:
            copies = batch.images[batch.indices == number].flatten(1)
            assert len(copies.unique(dim=0)) > 1
