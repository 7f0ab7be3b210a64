"""The papers' main tables, published numbers beside measured ones (MLP-Mixer, tables 2 and 3; ResMLP, table 3).

At laptop scale what needs no data: parameters and multiply-adds of every network that we or timm can build, and the
speed of those that are small enough, measured in turns. At paper scale also ImageNet accuracy of every row for which
weights are public. A row without them says so; its accuracy is nowhere measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from allmlp import figures
from allmlp.compare.contenders import open_contender
from allmlp.compare.pareto import log_axis
from allmlp.evaluate.cost import measure_costs
from allmlp.evaluate.cost_process import macs
from allmlp.evaluate.dataset import evaluate_dataset
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.config import ModelConfig
from allmlp.models.variants import VARIANTS, create_model
from allmlp.plan.published import MIXER_SPEED
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.learn import open_job
from allmlp.reproduce.published_systems import IN1K, IN21K, JFT, SYSTEMS, TIMM, System

SPEED = "speed here"
MOST_MACS = 7e9  # of a network whose speed is measured at laptop scale
ROUNDS, SECONDS = 3, 0.3
ROUNDING_POINTS = 0.3  # an accuracy this near the published one counts as the same
AT_448 = {row.name: row.config for row in MIXER_SPEED if row.name.endswith("at 448")}


def arms(job: Job) -> Iterator[Arm]:
    for system in SYSTEMS[::8] if job.reduced else SYSTEMS:
        yield Arm(system.label, 0, partial(row_of, job, system))
    yield Arm(SPEED, 0, partial(speeds, job))


def row_of(job: Job, system: System) -> Mapping[str, Any]:
    parameters, count = size_of(system)
    return {
        "system": system.name, "data_of_weights": system.data, "network": system.network, "parameters": parameters,
        "macs": count, "accuracy_percent": accuracy_of(job, system), "weights": system.weights,
        "weights_name": system.weights_name, "published_parameters_m": system.millions,
        "published_gmacs": system.gmacs, "published_accuracy_percent": system.imagenet,
        "published_real_percent": system.real, "published_avg5_percent": system.avg5,
        "published_vtab_percent": system.vtab, "published_v2_percent": system.v2,
        "published_images_per_second": system.images_per_second, "published_core_days": system.core_days,
    }


def size_of(system: System) -> tuple[int | None, int | None]:
    """Parameters and multiply-adds at the row's image size; nothing is computed. None where nobody can build it, and
    for the multiply-adds of a size that is not stated."""
    if system.network is None:
        return None, None
    if not system.network.startswith(TIMM):
        config = config_of(system)
        return count_parameters(config), count_macs(config)
    with torch.device("meta"):
        network = timm_network(system.network.removeprefix(TIMM), system.px)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return parameters, None if system.px is None else macs(network, torch.zeros(1, 3, system.px, system.px))


def config_of(system: System) -> ModelConfig:
    assert system.network is not None, "only of rows that we can build"
    return AT_448[f"{system.name} at 448"] if system.px == 448 else VARIANTS[system.network]


def timm_network(name: str, px: int | None = None) -> nn.Module:
    import timm

    about = timm.get_pretrained_cfg(name)
    fixed = about is not None and about.fixed_input_size
    options: dict[str, Any] = {"img_size": px} if fixed and px else {}
    return timm.create_model(name, **options)


def network_of(name: str) -> nn.Module:
    """A network of the tables at 224 pixels, with fresh weights."""
    return timm_network(name.removeprefix(TIMM)) if name.startswith(TIMM) else create_model(name, seed=0)


def accuracy_of(job: Job, system: System) -> float | None:
    """Top-1 on the validation images of --data, where weights with an ImageNet head are public."""
    if job.scale == "laptop" or system.weights_name is None or system.weights == "pre-trained only":
        return None
    splits = open_job(job, "").splits
    contender = open_contender(system.weights_name, 1000, device=job.device)
    return evaluate_dataset(contender.predict, splits.get("val") or splits["test"]).score_percent


def speeds(job: Job) -> Iterator[Mapping[str, Any]]:
    """A row for each network of the tables at 224 pixels that is small enough, one image at a time on one thread."""
    sizes = {system.network: size_of(system)[1] for system in SYSTEMS if system.px == 224 and system.network}
    chosen = [name for name, count in sorted(sizes.items(), key=lambda item: item[1] or 0)
              if count is not None and (count <= MOST_MACS or job.scale == "paper")]
    laptop = job.scale == "laptop"
    costs = measure_costs({name: partial(network_of, name) for name in (chosen[:2] if job.reduced else chosen)},
                          (224, 224), (1,) if laptop else (1, 32), rounds=1 if job.reduced else ROUNDS,
                          seconds=0.1 if job.reduced else SECONDS)
    for name, cost in costs.items():
        yield {"network": name, "macs": sizes[name], "parameters": cost.parameters,
               "images_per_second": cost.images_per_second, "slowest": cost.speeds[0].slowest,
               "fastest": cost.speeds[-1].fastest, "peak_memory_mib": cost.peak_memory_mib}


def speed_here(rows: Sequence[Row]) -> dict[str, float]:
    return {str(row["network"]): float(row["images_per_second"] or 0) for row in rows if row["what"] == SPEED}


def speed_pairs(rows: Sequence[Row]) -> list[tuple[str, float, float]]:
    """System, published speed on a TPUv3 core, speed here, of each network once; at 224 pixels."""
    here, found = speed_here(rows), {}
    for row in rows:
        what, network, published = str(row["what"]), str(row["network"]), row["published_images_per_second"]
        if what.startswith("Mixer T3") and what.endswith(" 224 px") and network in here and published:
            found[network] = (str(row["system"]), float(published), here[network])
    return list(found.values())


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    drawn, accuracy, speed, resmlp = figures.new(figures.TEXT_WIDTH_CM, 7.4, columns=3)
    for data, colour, marker in zip((IN1K, IN21K, JFT), figures.COLOURS, figures.MARKERS, strict=False):
        shown = [row for row in rows if str(row["what"]).startswith("Mixer T3") and row["data_of_weights"] == data
                 and row["macs"]]
        for mixers in (True, False):
            here = [row for row in shown if str(row["system"]).startswith("Mixer") == mixers]
            accuracy.plot([row["macs"] for row in here], [row["published_accuracy_percent"] for row in here],
                          linestyle="none", color=colour, marker=marker, markerfacecolor=colour if mixers else "white",
                          label=data if mixers else None)
    log_axis(accuracy)
    accuracy.set(title="a  MLP-Mixer, table 3", xlabel="multiply-adds (counted)",
                 ylabel="ImageNet accuracy (published), %")
    for label, face in (("Mixer", figures.QUIET), ("ViT, BiT", "white")):
        accuracy.plot([], [], linestyle="none", color=figures.QUIET, marker="o", markerfacecolor=face, label=label)
    accuracy.legend(loc="upper left", handletextpad=0.2)

    for name, published, here in speed_pairs(rows):
        family = name.partition("-")[0]
        speed.plot(published, here, linestyle="none", marker="o",
                   color=figures.FAMILIES.get(family, figures.FAMILIES["ResNet"]))
        speed.annotate(name, (published, here), xytext=(-5, -7), textcoords="offset points", ha="right", fontsize=6)
    if speed.lines:  # a logarithmic axis of nothing has no ends
        speed.set_xscale("log")
        speed.margins(x=0.6, y=0.1)
        log_axis(speed)
        log_axis(speed, "y")
    speed.set(title="b  speed", xlabel="images/s, a TPUv3 core (published)", ylabel="images/s, one core here")

    shown = [row for row in rows if str(row["what"]).startswith("ResMLP T3") and row["macs"]]
    for row in shown:
        resmlp.plot(row["published_gmacs"], float(row["macs"] or 0) / 1e9, linestyle="none", marker="s",
                    color=figures.FAMILIES["ResMLP"])
    ends = [2.5, 120]
    resmlp.plot(ends, ends, color=figures.QUIET, linewidth=0.8, zorder=0)
    log_axis(resmlp)
    log_axis(resmlp, "y")
    resmlp.set(title="c  ResMLP, table 3", xlabel="“FLOPs” (published), G", ylabel="multiply-adds (counted), G")
    return drawn


def found(rows: Sequence[Row]) -> Found:
    sized = [row for row in rows if row["published_parameters_m"] and row["parameters"]]
    same = [row for row in sized if round(float(row["parameters"]) / 1e6, 1) == row["published_parameters_m"]
            and abs(float(row["macs"]) / 1e9 - float(row["published_gmacs"])) <= 0.05 * float(row["published_gmacs"])]
    accurate = [row for row in rows if row["accuracy_percent"] and row["weights"] == "same weights"]
    near = [row for row in accurate
            if abs(float(row["accuracy_percent"]) - float(row["published_accuracy_percent"])) <= ROUNDING_POINTS]
    rows_with = {kind: sum(row["weights"] == kind for row in rows) for kind in
                 ("same weights", "close", "other recipe", "pre-trained only", "none public")}
    pairs = speed_pairs(rows)
    text = (f"Parameters (to the tables' digit) and multiply-adds (within 5 %) agree with the published ones in "
            f"{len(same)} of the {len(sized)} rows that print them and that are built here. ")
    if len(pairs) > 2:
        text += (f"Speed here ranks the {len(pairs)} networks of MLP-Mixer's table 3 that were measured as their speed "
                 f"on a TPU does with a rank correlation of {rank_correlation(pairs):.2f}. ")
    text += (f"Accuracy was measured of {len(accurate)} rows with the papers' own weights, and {len(near)} are within "
             f"{ROUNDING_POINTS} points of the published one. " if accurate else
             "No accuracy was measured: that needs ImageNet (--scale paper --data imagenet:DIR). ")
    text += "Public weights, by row: " + ", ".join(f"{kind} {count}" for kind, count in rows_with.items()) + "."
    whole = len(same) == len(sized) and len(near) == len(accurate)
    return Found("as claimed" if whole and accurate else "in part" if whole or near else "not found", text)


def rank_correlation(pairs: Sequence[tuple[str, float, float]]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr([pair[1] for pair in pairs], [pair[2] for pair in pairs])[0])  # type: ignore[arg-type]


EXPERIMENT = Experiment(
    name="tables",
    title="The papers' main tables",
    source="MLP-Mixer, tables 2 and 3; ResMLP, table 3",
    claim="""Every number of the three tables stands in the rows below as published: accuracy on ImageNet (ReaL labels,
    V2, the mean of five sets, VTAB-1k where given), images per second of one TPUv3 core (ResMLP: of one V100), the cost
    of pre-training in TPUv3-core-days, parameters and FLOPs (ResMLP; multiply-adds by our words).

    In short: Mixer-H/14 reaches 87.94 % and comes near ViT-H/14 at 2.5 times its speed; ResMLP-S24 has 79.4 % with 30
    million parameters, trained on ImageNet alone.""",
    laptop="""No data is needed. Parameters and multiply-adds of every row's network that we or timm can build, at the
    row's image size, counted by PyTorch without computing anything. Images per second of those at 224 pixels up to
    7 billion multiply-adds: one image at a time on one core, float32, in turns, the median of 3 rounds; a TPU's best
    batch is another thing, so only the order can be compared. What the rows of ResMLP's other variants cost is in
    `allmlp reproduce resmlp-ablations`. Which weights are public stands in every row: most rows, all those pre-trained
    on JFT-300M among them, cannot be measured by anybody outside.""",
    paper="""Also top-1 accuracy on the validation images of --data imagenet:DIR, of every row with public weights that
    have an ImageNet head: the papers' own ("same weights"), the authors' at another size ("close"), or the same
    network trained otherwise ("other recipe"). Each in its own published preprocessing. Speed of all networks at 224
    pixels.""",
    columns=("system", "data_of_weights", "network", "parameters", "macs", "images_per_second", "slowest", "fastest",
             "peak_memory_mib", "accuracy_percent", "weights", "weights_name", "published_parameters_m",
             "published_gmacs", "published_accuracy_percent", "published_real_percent", "published_avg5_percent",
             "published_vtab_percent", "published_v2_percent", "published_images_per_second", "published_core_days"),
    arms=arms,
    figure=figure,
    found=found,
)
