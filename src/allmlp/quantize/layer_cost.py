"""What int8 costs one layer; read from manifests without PyTorch."""

import pydantic

from allmlp.values import Value


class LayerCost(Value):
    """`rms_error`: of the logits, over their standard deviation, when `layer` alone is in int8. `block`: None for the
    stem."""

    layer: str
    block: int | None = pydantic.Field(ge=0, strict=True)
    rms_error: float = pydantic.Field(ge=0, strict=True)
    top1_agreement_percent: float = pydantic.Field(ge=0, le=100, strict=True)
