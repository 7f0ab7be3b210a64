"""How a network is measured while it learns, and at the end."""

from allmlp.backends import Predictor
from allmlp.backends.pytorch import PyTorchPredictor
from allmlp.data.dataset import ImageDataset
from allmlp.evaluate.knn import NEIGHBOURS, knn_predictor
from allmlp.models.model import Model


def judge(network: Model, train: ImageDataset, workers: int = 0) -> Predictor:
    """`network` as a predictor; one without classes, as DINO makes it, by its nearest neighbours in `train`.

    The neighbours are those of this moment: the features of the training images are computed here.
    """
    if network.num_classes:
        return PyTorchPredictor(network)
    return knn_predictor(PyTorchPredictor(network), train, min(NEIGHBOURS, len(train)), workers=workers)


def kind_of_score(network: Model, name: str) -> str:
    """`name` of a score ("accuracy") as it is to be read: "k-NN accuracy" where neighbours gave it."""
    return name if network.num_classes else f"k-NN {name}"
