"""How int8 is fitted to a network, as a value; needs no PyTorch."""

from dataclasses import dataclass
from typing import Literal, get_args

from allmlp.errors import BadSetting

Calibration = Literal["minmax", "percentile", "mse"]


@dataclass(frozen=True)
class Choices:
    """How int8 is fitted to a network; the arithmetic is the same for all.

    `migrate`: from 0, channels of one operand keep their own scales' differences, to 1, all have one range and the
    weights behind them the differences. `fit`: round weights for sums of real activations, and let the layers' shifts
    take back what is lost on average. `headroom`: how many times its range each channel that token mixing sees is
    given, since so few images show little of a single channel and the next one may go beyond. `activations`: in the
    fixed ranges of calibration, by tensor (`int8.py`), or each token and channel in that of the moment (`dynamic.py`).
    """

    calibration: Calibration = "mse"
    migrate: float = 0.5
    fit: bool = True
    headroom: float = 1.4
    activations: Literal["static", "dynamic"] = "static"

    def __post_init__(self) -> None:
        if self.calibration not in get_args(Calibration):
            raise BadSetting(f"calibration {self.calibration!r}; accepted: {', '.join(get_args(Calibration))}")
        if self.activations not in ("static", "dynamic"):
            raise BadSetting(f"activations {self.activations!r}; accepted: static, dynamic")
        if not 0 <= self.migrate <= 1:
            raise BadSetting(f"migrate {self.migrate:g}; accepted: 0 to 1")
        if not 1 <= self.headroom <= 4:
            raise BadSetting(f"headroom {self.headroom:g}; accepted: 1 to 4")


BEST = Choices()  # by results/int8_choices.csv
