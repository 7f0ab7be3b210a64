"""Learning a class for every pixel. `models.segment` has the heads, `train.pixel_losses` the losses."""

from typing import Self

import pydantic
from pydantic import Field

from allmlp.models.segment import SegmentConfig, TokenHeadConfig
from allmlp.values import Value


class Segmentation(Value):
    """`head`: what answers for pixels, and how images of other sizes are answered for. `cross_entropy`, `dice`: the
    weights of the two losses, of which one may be 0."""

    head: SegmentConfig = TokenHeadConfig()
    cross_entropy: float = Field(default=1.0, ge=0, le=1e6)
    dice: float = Field(default=1.0, ge=0, le=1e6)

    @pydantic.model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not self.cross_entropy and not self.dice:
            raise ValueError("cross_entropy and dice are both 0, which leaves nothing to learn; give one of them")
        return self
