"""How good a predictor is: logits of a whole data set, then plain functions on arrays.

    evaluate_dataset(predictor, dataset).metrics

Every rate is in percent and says so in its name. What is not defined (the recall of a class without images) is None.
"""

from allmlp.evaluate.classification import Metrics, classification_metrics
from allmlp.evaluate.dataset import Evaluation, evaluate_dataset
from allmlp.evaluate.mistakes import Mistake, worst_mistakes
from allmlp.evaluate.multilabel import MultiLabelMetrics, multilabel_metrics
from allmlp.evaluate.names import align_labels
from allmlp.evaluate.predict import predict_dataset
from allmlp.evaluate.segmentation import SegmentationEvaluation, SegmentationMetrics, evaluate_segmentation

__all__ = [
    "Evaluation", "Metrics", "Mistake", "MultiLabelMetrics", "SegmentationEvaluation", "SegmentationMetrics",
    "align_labels", "classification_metrics", "evaluate_dataset", "evaluate_segmentation", "multilabel_metrics",
    "predict_dataset", "worst_mistakes",
]
