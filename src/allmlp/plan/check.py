"""The models of speed and memory beside what the papers measured: an error for every row.

Rows that the model was calibrated on agree by construction and are marked. The core-days need a number of cores, which
the paper does not state: 512, the power of two that comes nearest for Mixer-L/16 at 14 epochs of JFT-300M.
"""

import itertools
from typing import Literal, NamedTuple

from allmlp.plan.machines import MACHINES, NUMBER_BYTES
from allmlp.plan.memory import inference_peak
from allmlp.plan.published import (
    BIG_VISION_BATCH,
    BIG_VISION_CORES,
    BIG_VISION_MINUTES,
    IMAGES,
    MIXER_COST,
    MIXER_SPEED,
    RESMLP_BATCH,
    RESMLP_MEMORY,
    ROUNDING_CORE_DAYS,
)
from allmlp.plan.throughput import (
    CALIBRATED_ON,
    MEASURED_ON,
    TRAINING,
    calibrate,
    efficiency,
    forward_seconds,
    update_seconds,
)

BATCH, CORES = 4096, 512
DAY_SECONDS = 86_400
COLUMNS = ("table", "row", "unit", "published", "predicted", "error_percent", "note")
Software = Literal["pytorch", "xla"]


class Row(NamedTuple):
    """One line: what a paper says, what the model says. `note`: "calibrated on", or what to bear in mind."""

    table: str
    row: str
    unit: str
    published: float
    predicted: float
    note: str = ""

    @property
    def error_percent(self) -> float:
        return 100 * (self.predicted / self.published - 1)


def all_rows() -> list[Row]:
    return [*speed_rows("xla"), *speed_rows("pytorch"), *cost_rows(), *memory_rows()]


def speed_rows(software: Software) -> list[Row]:
    machine, precision, rows = MEASURED_ON[software]
    table = "MLP-Mixer T2, T3" if software == "xla" else "ResMLP T1"
    unit = "images/s, one TPUv3 core" if software == "xla" else "images/s, one V100, fp32"
    return [Row(table, row.name, unit, row.images_per_second,
                1 / forward_seconds(row.config, MACHINES[machine], precision),
                "calibrated on" if row.name in CALIBRATED_ON[software] else "") for row in rows]


def cost_rows() -> list[Row]:
    core = MACHINES["tpu-v3"]

    def core_days(config, images: float, cores: int) -> float:
        each = TRAINING * forward_seconds(config, core, "bf16") + update_seconds(config, core, False) * cores / BATCH
        return images * each / DAY_SECONDS

    rows = []
    for row in MIXER_COST:
        predicted = core_days(row.config, IMAGES[row.data] * row.epochs, CORES)
        within = abs(predicted - row.core_days) <= ROUNDING_CORE_DAYS
        rows.append(Row("MLP-Mixer T3", f"{row.name}, {row.data}, {row.epochs} epochs", "TPUv3-core-days",
                        row.core_days, predicted, "within the table's rounding" if within else ""))
    measured = BIG_VISION_MINUTES * BIG_VISION_CORES / 1440
    b16 = next(row.config for row in MIXER_COST if row.name == "Mixer-B/16")
    assert BIG_VISION_BATCH == BATCH
    rows.append(Row("big_vision", "Mixer-B/16, ImageNet, 300 epochs", "TPUv3-core-days", measured,
                    core_days(b16, IMAGES["ImageNet"] * 300, BIG_VISION_CORES)))
    return rows


def memory_rows() -> list[Row]:
    return [Row("ResMLP T1", row.name, f"MiB, inference of {RESMLP_BATCH}", row.mebibytes,
                inference_peak(row.config, RESMLP_BATCH, "fp32") / 2**20) for row in RESMLP_MEMORY]


class Pair(NamedTuple):
    """Another choice of two Mixer rows to calibrate on, and the largest error on any Mixer row that follows."""

    rows: tuple[str, str]
    arithmetic: float
    worst_percent: float


def other_calibrations() -> list[Pair]:
    """Every pair of the Mixer rows at 224 pixels whose efficiency is possible: at most 1, and memory passed over."""
    core, pairs = MACHINES["tpu-v3"], []
    for first, second in itertools.combinations(MIXER_SPEED[:7], 2):
        found = calibrate(first, second, core, "bf16")
        if 0 < found.arithmetic <= 1 and found.passes > 0:
            worst = max(abs(1 / forward_seconds(row.config, core, "bf16", found) / row.images_per_second - 1)
                        for row in MIXER_SPEED)
            pairs.append(Pair((first.name, second.name), found.arithmetic, 100 * worst))
    return pairs


def as_text(rows: list[Row]) -> str:
    width = max(len(row.row) for row in rows)
    lines = []
    for table, group in itertools.groupby(rows, lambda row: (row.table, row.unit)):
        lines += [f"{table[0]}: {table[1]}", f"  {'':{width}} {'published':>10} {'predicted':>10} {'error':>8}"]
        lines += [f"  {row.row:{width}} {row.published:>10,.4g} {row.predicted:>10,.4g} {row.error_percent:>+7.1f}%"
                  f"{'  ' + row.note if row.note else ''}" for row in group]
    for software in ("xla", "pytorch"):
        found = efficiency(software)
        machine, precision, _ = MEASURED_ON[software]
        lines.append(f"{software} on {machine}, {precision}: {100 * found.arithmetic:.1f} % of the peak, every output "
                     f"passed over {found.passes:.2f} times ({found.passes * NUMBER_BYTES[precision]:.1f} bytes)")
    pairs = other_calibrations()
    worst = max(pair.worst_percent for pair in pairs)
    lines.append(f"Of 21 pairs of Mixer rows at 224 pixels, {len(pairs)} give an efficiency of at most 1 to calibrate "
                 f"with; with any of them the error of every Mixer row is at most {worst:.1f} %.")
    lines.append("Left out: rows of ViT, BiT and others, whose attention and convolutions our counts do not cover.")
    return "\n".join(lines)
