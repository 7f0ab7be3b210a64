"""What int8 costs one layer; read from manifests without PyTorch."""

from allmlp.values import Value


class LayerCost(Value):
    """`rms_error`: of the logits, over their standard deviation, when `layer` alone is in int8. `block`: None for the
    stem."""

    layer: str
    block: int | None
    rms_error: float
    top1_agreement_percent: float
