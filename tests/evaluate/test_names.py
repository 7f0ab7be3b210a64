"""Labels are matched with the model's classes by name."""

import numpy as np
import pytest

from allmlp.errors import BadData
from allmlp.evaluate import align_labels
from allmlp.weights.labels import words

LABELS = np.array([0, 1, 1, 2])


def test_equal_classes_leave_the_labels_alone_and_say_nothing():
    labels, note = align_labels(["a", "b", "c"], ("a", "b", "c"), LABELS)
    assert labels is LABELS
    assert note is None


def test_equal_classes_may_have_equal_names():
    assert align_labels(["crane", "crane"], ["crane", "crane"], np.array([0, 1]))[1] is None  # ImageNet has two cranes


def test_other_order_is_matched_by_name():
    dataset, model = ["a", "b", "c"], ["c", "a", "b"]
    labels, note = align_labels(dataset, model, LABELS)
    assert [model[k] for k in labels] == [dataset[k] for k in LABELS]
    assert note is not None
    assert "another order" in note


def test_fewer_classes_than_the_models_are_allowed_and_said():
    dataset, model = ["b", "c", "e"], list("abcdefghij")
    labels, note = align_labels(dataset, model, LABELS)
    assert [model[k] for k in labels] == [dataset[k] for k in LABELS]
    assert note == "the data set has 3 of the model's 10 classes, without 'a', 'd', 'f', 'g', 'h' and 2 more"


def test_imagenets_folders_are_matched_with_the_words_of_published_weights():
    labels, note = align_labels(["n01443537", "n01440764"], words("imagenet-1k"), np.array([0, 1, 1]))
    assert labels.tolist() == [1, 0, 0]  # goldfish, tench, tench
    assert note is not None
    assert note.startswith("the data set has 2 of the model's 1000 classes, without 'great white shark'")


def test_columns_of_multi_label_data_are_moved_by_name():
    given = np.array([[1, 0], [1, 1]], np.uint8)
    labels, _ = align_labels(["dog", "cat"], ["cat", "bird", "dog"], given)
    np.testing.assert_array_equal(labels, [[0, 0, 1], [1, 0, 1]])
    assert labels.dtype == np.uint8


def test_model_without_class_names_is_taken_to_have_the_data_sets():
    labels, note = align_labels(["a", "b", "c"], None, LABELS)
    assert labels is LABELS
    assert note is not None
    assert "no class names" in note


def test_class_unknown_to_the_model_names_what_either_side_lacks():
    with pytest.raises(BadData) as error:
        align_labels(["cat", "cow"], ["cat", "dog"], np.array([0, 1]))
    assert "does not know: 'cow'; the data set lacks 'dog' of the model's" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("dataset", "model", "whose"), [(["a", "a"], ["a", "b"], "the data set"),
                                                         (["a", "b"], ["b", "b", "a"], "the model")])
def test_names_that_stand_twice_cannot_be_matched(dataset, model, whose):
    with pytest.raises(BadData, match=f"class names of {whose} are not unique"):
        align_labels(dataset, model, np.array([0, 1]))
