"""Our own small models: is a stem of convolutions worth its time in networks for images of 32, 96 and 224 pixels?

What `hybrids` found at one cost is put to the test where it shall be used: the networks `mixer_stem_*` of `allmlp
models` beside the same ones with patches, by accuracy and by measured latency.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from statistics import fmean
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allmlp import figures
from allmlp.compare.pareto import front, log_axis
from allmlp.data.seeds import derived_seed
from allmlp.errors import BadSetting
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.config import ModelConfig
from allmlp.models.model import Model, build
from allmlp.models.stems import PatchStem
from allmlp.models.variants import list_models, model_config
from allmlp.preprocess import Preprocess
from allmlp.recipes import RECIPES
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.hybrid_speed import ENGINE, ONNX, PYTORCH, speeds, there
from allmlp.reproduce.learn import CLASSES, learn, open_job, part_to_measure
from allmlp.reproduce.small import accuracy_percent, recipe
from allmlp.reproduce.spread import at_end, beyond, deviation, points

FAMILY, RECIPE = "mixer_stem", "scenes"
STEPS = {32: 300, 96: 150, 224: 100}  # by image size; larger images take longer
MOST_SEEDS = {96: 1, 224: 1}  # they take minutes each
COLUMN, SPEED = "test_accuracy_percent", "speed"
RUNTIMES = (PYTORCH, ONNX, ENGINE)


class Network(NamedTuple):
    """One of the family, or what it is compared with."""

    name: str
    config: ModelConfig

    @property
    def size_px(self) -> int:
        return self.config.image_size[0]

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(image_size=self.config.image_size, crop_ratio=1.0)

    @property
    def has_stem(self) -> bool:
        return self.name.startswith(FAMILY)


@cache
def networks() -> dict[str, Network]:
    """The family by name, each before the same network with patches: "mixer_p8_32" of "mixer_stem_p8_32"."""
    made = {}
    for name in list_models(f"{FAMILY}_*"):
        config = model_config(name, num_classes=CLASSES)
        plain = name.replace(f"{FAMILY}_", "mixer_")
        made[name] = Network(name, config)
        made[plain] = Network(plain, config.with_(stem=PatchStem()))
    return made


def fresh(name: str, seed: int = 0) -> Model:
    network = networks()[name]
    draws = torch.Generator().manual_seed(derived_seed(seed, "small-models", name))
    return build(network.config, network.preprocess, generator=draws)


def arms(job: Job) -> Iterator[Arm]:
    if job.scale == "paper":
        raise BadSetting("--scale paper: small-models has none, as these networks are ours; leave it out")
    chosen = [name for name, network in networks().items() if not job.reduced or network.size_px == min(STEPS)]
    for seed in range(job.seeds):
        for name in chosen:
            if seed < MOST_SEEDS.get(networks()[name].size_px, job.seeds):
                yield Arm(name, seed, partial(trained, job, name, seed))
        yield Arm(f"recipe {RECIPE}", seed, partial(by_recipe, job, seed))
    for size in dict.fromkeys(networks()[name].size_px for name in chosen):
        for runtime in RUNTIMES:
            if there(runtime):
                yield Arm(f"{SPEED}, {size} px, {runtime}", 0, partial(measured, job, size, runtime))


def trained(job: Job, name: str, seed: int) -> Mapping[str, Any]:
    network = networks()[name]
    data = open_job(job, "digit-scenes")
    steps = 3 if job.reduced else STEPS[network.size_px]
    model = learn(fresh(name, seed), recipe(seed, steps), data.splits["train"], preprocess=network.preprocess,
                  device=job.device)
    return {"network": name, "size_px": network.size_px, "steps": steps,
            COLUMN: accuracy_percent(model, part_to_measure(data), network.preprocess),
            "parameters": count_parameters(network.config), "macs": count_macs(network.config)}


def by_recipe(job: Job, seed: int) -> Mapping[str, Any]:
    """The recipe of the family, as `allmlp train` runs it."""
    plan = RECIPES[RECIPE].with_(seed=seed)
    plan = plan.with_(schedule=plan.schedule.with_(steps=3, warmup_steps=0)) if job.reduced else plan
    data, network = open_job(job, plan.data), networks()[plan.model]
    model = learn(fresh(plan.model, seed), plan, data.splits["train"], preprocess=network.preprocess, device=job.device)
    return {"network": plan.model, "size_px": network.size_px,
            COLUMN: accuracy_percent(model, part_to_measure(data), network.preprocess),
            "parameters": count_parameters(network.config), "macs": count_macs(network.config)}


def measured(job: Job, size_px: int, runtime: str) -> Iterator[Mapping[str, Any]]:
    chosen = {name: partial(fresh, name) for name, network in networks().items() if network.size_px == size_px}
    preprocess = networks()[next(iter(chosen))].preprocess
    for row in speeds(job, runtime, chosen, preprocess, CLASSES, mark=f"{size_px}-"):
        yield {**row, "size_px": size_px}


def latencies(rows: Sequence[Row], size_px: int, runtime: str) -> dict[str, float]:
    """Milliseconds of one image, by network."""
    return {str(row["network"]): float(row["latency_ms"]) for row in rows
            if row["what"] == f"{SPEED}, {size_px} px, {runtime}" and row["latency_ms"] is not None}


def runtime_of(rows: Sequence[Row], size_px: int) -> str:
    return ONNX if latencies(rows, size_px, ONNX) else PYTORCH


def on_front(rows: Sequence[Row], size_px: int) -> list[str]:
    """Networks that no other of this size beats in accuracy and latency, from the fastest to the most accurate."""
    latency = latencies(rows, size_px, runtime_of(rows, size_px))
    there = [name for name in latency if at_end(rows, name, COLUMN)]
    return [there[i] for i in front([latency[name] for name in there],
                                    [fmean(at_end(rows, name, COLUMN)) for name in there])]


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    sizes = [size for size in STEPS if latencies(rows, size, PYTORCH)]
    drawn, *panels = figures.new(figures.TEXT_WIDTH_CM, 6.6, columns=len(sizes))
    for axes, size in zip(panels, sizes, strict=True):
        over_latency(axes, rows, size)
    panels[0].set_ylabel("test accuracy, %")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawn


def over_latency(axes: Axes, rows: Sequence[Row], size_px: int) -> None:
    """Accuracy over latency of the networks for one size; hollow by the engine, where it can run them."""
    runtime = runtime_of(rows, size_px)
    latency, engine = latencies(rows, size_px, runtime), latencies(rows, size_px, ENGINE)
    for stem, label, colour, marker in ((True, "stem of convolutions", figures.COLOURS[1], "s"),
                                        (False, "patches", figures.COLOURS[0], "o")):
        here = [name for name in latency if networks()[name].has_stem == stem]
        heights = {name: at_end(rows, name, COLUMN) for name in here}
        axes.errorbar([latency[name] for name in here], [fmean(heights[name]) for name in here],
                      yerr=[deviation(heights[name]) for name in here], color=colour, marker=marker, elinewidth=0.8,
                      linewidth=1, label=f"{label}, {runtime}")
        quick = [name for name in here if name in engine]
        if quick:
            axes.plot([engine[name] for name in quick], [fmean(heights[name]) for name in quick], color=colour,
                      marker=marker, markerfacecolor="white", linestyle=":", linewidth=1, label=f"{label}, our engine")
        for name in here:
            axes.annotate(name.split("_")[-2], (latency[name], fmean(heights[name])), xytext=(5, -8),
                          textcoords="offset points", fontsize=6.5, color=figures.QUIET)
    axes.margins(x=0.18, y=0.12)
    log_axis(axes)
    axes.set(title=f"{size_px} pixels, {STEPS[size_px]} steps", xlabel="latency of one image, ms, one core")


def surely(here: Sequence[float], there: Sequence[float]) -> str:
    if min(len(here), len(there)) < 2:
        return "one seed"
    return f"{'beyond' if beyond(here, there) else 'within'} the spread"


def found(rows: Sequence[Row]) -> Found:
    told = []
    for size in STEPS:
        latency = latencies(rows, size, runtime_of(rows, size))
        for name in (name for name in latency if networks()[name].has_stem):
            plain = name.replace(f"{FAMILY}_", "mixer_")
            here, there = (at_end(rows, each, COLUMN) for each in (name, plain))
            told.append(f"{name} {fmean(here):.1f} ± {deviation(here):.1f} % in {latency[name]:.2f} ms, beside "
                        f"{fmean(there):.1f} % with patches in {latency[plain]:.2f} ms ({points(here, there)}, "
                        f"{surely(here, there)})")
        if latency:
            told.append(f"on the front at {size} pixels: {', '.join(on_front(rows, size))}")
    runtimes = ", ".join(dict.fromkeys(runtime_of(rows, size) for size in STEPS))
    ends = at_end(rows, f"recipe {RECIPE}", COLUMN)
    return Found("not claimed", f"Latency in {runtimes}. {'; '.join(told)}. By the recipe {RECIPE}, "
                                f"{RECIPES[RECIPE].model} reaches {fmean(ends):.1f} ± {deviation(ends):.1f} %.")


EXPERIMENT = Experiment(
    name="small-models",
    title="Our small models: Mixers with a stem of convolutions",
    source="ours, after the experiment hybrids",
    claim="""Nothing is published. `hybrids` found that of all ideas a stem of convolutions helps a small Mixer most at
    equal multiply-adds.""",
    laptop="""The networks mixer_stem_* (pico: 4 blocks of 64 channels; nano: 6 of 96) for images of 32, 96 and 224
    pixels, with a token for 8 x 8, 16 x 16 and 32 x 32 pixels, and the same networks with patches of these sizes. All
    learn the 5,748 digit scenes, enlarged to their size, for 300, 150 and 100 steps of 64 images by one plain recipe;
    measured on the 1,440 test scenes; three seeds at 32 pixels, one at 96 and 224. Enlarged scenes hold no more detail
    than at 32 pixels, so this compares networks of one size, not sizes; and so few steps favour what learns fast.
    Latency of one image: float32, one thread, in turns, median of 5 rounds; the engine runs those with patches only.

    The recipe is `allmlp train digit-scenes --recipe scenes`, for all of its steps.""",
    paper="There is none: these networks are ours.",
    columns=("network", "size_px", "steps", COLUMN, "parameters", "macs", "runtime", "latency_ms", "images_per_second",
             "slowest", "fastest", "batch_size"),
    arms=arms,
    figure=figure,
    found=found,
)
