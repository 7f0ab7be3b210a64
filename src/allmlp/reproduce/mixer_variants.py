"""Mixer's token mixing as its authors tried it and did not keep it (arXiv 2105.01601, appendix A.1).

A token MLP for each channel; groups of channels mixed together with the tokens, neighbours or learned views; pyramids,
whose second block leaves a quarter of the tokens. Their equations are in `models/blocks/mixer_variants.py` and
`models/pyramid.py`.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from allmlp import figures
from allmlp.models.blocks.mixer import MixerConfig
from allmlp.models.blocks.mixer_variants import MixerVariantConfig
from allmlp.models.config import ModelConfig
from allmlp.models.pyramid import PyramidConfig
from allmlp.models.variants import VARIANTS
from allmlp.recipes import RECIPES
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.spread import deviation
from allmlp.reproduce.table import cell
from allmlp.reproduce.variations import COLUMNS, STEPS, Variation, arms, by_group, changes, digits_recipe, first

BASE, GROUP = "Mixer", "token mixing"
WORDS = {"untied": "no gain", "grouped": "below 1 to 2 points", "views": "3 to 4 points in S/32",
         "pyramid": "good on JFT only"}  # the paper's; there are no numbers beyond


def laptop_size() -> ModelConfig:
    block = MixerConfig(token_hidden=32, channel_hidden=96, activation="erf")
    return ModelConfig(image_size=(8, 8), patch_size=(2, 2), width=48, depth=4, blocks=(block,))


def variations(scale: str) -> Iterator[Variation]:
    base = laptop_size() if scale == "laptop" else VARIANTS["mixer_s32_224"]
    recipe = digits_recipe(model="mixer_p2_8")
    if scale == "paper":
        recipe = RECIPES["mixer_b16_imagenet"].with_(model="mixer_s32_224")
    block = base.blocks[0]
    assert isinstance(block, MixerConfig)
    sizes: dict[str, Any] = {"token_hidden": block.token_hidden, "channel_hidden": block.channel_hidden,
                             "activation": block.activation}

    def line(what: str, **fields: Any) -> Variation:
        config = base.with_(blocks=(MixerVariantConfig(**sizes, **fields),))
        return Variation(GROUP, what, BASE, config, recipe)

    yield Variation(GROUP, BASE, BASE, base, recipe)
    yield line("untied", mixing="untied")
    for groups in (2, 4):
        yield line(f"grouped, G = {groups}", mixing="grouped", groups=groups)
    for groups in (2, 4):
        yield line(f"views, G = {groups}", mixing="views", groups=groups)
    # 4 x 4 tokens become 2 x 2, and S/32's 7 x 7, which 2 does not divide, 1 x 7.
    pyramid = PyramidConfig(**sizes, factor=(2, 2) if scale == "laptop" else (7, 1))
    yield Variation(GROUP, "pyramid", BASE, base.with_(blocks=(block, pyramid, *[block] * (base.depth - 2))), recipe)


def all_arms(job: Job) -> Iterator[Arm]:
    return arms(job, list(variations(job.scale)))


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    """Accuracy and cross-entropy of each variation, every seed a point, and what its token mixing costs."""
    names = [name for group in by_group(rows).values() for name in group]
    drawn, *all_axes = figures.new(figures.TEXT_WIDTH_CM, 1.8 + 0.85 * len(names), columns=3, sharey=True,
                                   width_ratios=(3, 3, 2.4))
    places = np.arange(len(names))
    columns = (("test_accuracy_percent", "test accuracy, %"), ("test_cross_entropy", "test cross-entropy, nats"))
    for axes, (column, label) in zip(all_axes, columns, strict=False):
        for place, name in zip(places, names, strict=True):
            values = [row[column] for row in rows if row["what"] == name]
            axes.plot(values, np.full(len(values), place + 0.22), ".", color=figures.COLOURS[5], markersize=4)
            axes.errorbar(fmean(values), place, xerr=deviation(values), fmt="o", color=figures.COLOURS[0])
        axes.axvline(fmean([row[column] for row in rows if row["what"] == BASE]), color=figures.QUIET, linewidth=0.8)
        axes.set_xlabel(label)
    all_axes[2].barh(places, [first(rows, name)["parameters"] / 1e3 for name in names], height=0.5,
                     color=figures.COLOURS[6])
    all_axes[2].set_xlabel("parameters, thousands")
    told = [next((f"\nthe paper: {words}" for kind, words in WORDS.items() if name.startswith(kind)), "")
            for name in names]
    all_axes[0].set(yticks=places, yticklabels=[f"{name}{words}" for name, words in zip(names, told, strict=True)],
                    ylim=(len(names) - 0.5, -0.5))
    for axes in all_axes:
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return drawn


def found(rows: Sequence[Row]) -> Found:
    """The claim is that nothing but views helps, and views a small network. A pyramid may be as good and cheaper."""
    helps, hurts, told = [], [], []
    for name in (name for group in by_group(rows).values() for name in group if name != BASE):
        here = changes(rows, name)
        mean, spread = fmean(here), deviation(here.tolist())
        if abs(mean) > spread:
            (helps if mean > 0 else hurts).append(name)
        told.append(f"{name} {mean:+.1f} ± {spread:.1f}")
    gains = {kind for kind in WORDS if any(name.startswith(kind) for name in helps)}
    cheaper = first(rows, "pyramid")["million_macs"] / first(rows, BASE)["million_macs"]
    parameters = first(rows, "untied")["parameters"] / first(rows, BASE)["parameters"]
    base = cell([row["test_accuracy_percent"] for row in rows if row["what"] == BASE])
    text = (f"Mixer has {base} %. Changes against it, in points: {'; '.join(told)}. Beyond the spread over seeds "
            f"{'help' if len(helps) != 1 else 'helps'} {'; '.join(helps) or 'none'}, and "
            f"{'hurt' if len(hurts) != 1 else 'hurts'} {'; '.join(hurts) or 'none'}. Untied token mixing takes "
            f"{parameters:.1f} times the parameters of the whole network, the pyramid {cheaper:.2f} times the "
            "multiply-adds.").replace(" -", " −")
    return Found("as claimed" if gains == {"views"} else "in part" if "views" in gains else "not found", text)


EXPERIMENT = Experiment(
    name="mixer-variants",
    title="Token mixing that Mixer's authors did not keep",
    source="MLP-Mixer, appendix A.1",
    claim="""Pre-trained on JFT-300M and measured by few-shot accuracy: a token MLP of its own for each channel
    ("untied") gives no gain for more cost; mixing G neighbouring channels together with the tokens ("grouped") less
    than 1 to 2 points; G learned maps from C to C/G channels before that ("views") 3 to 4 points for S/32, and none
    for larger networks. Pyramids, whose token MLPs leave fewer tokens, were cheaper at equal quality on JFT-300M, and
    that did not carry over to ImageNet.""",
    laptop=f"""A Mixer of 4 blocks and 48 channels (token MLPs of 32 hidden units, channel MLPs of 96) learns
    scikit-learn's 1,437 training digits of 8 x 8 pixels in patches of 2 (16 tokens) for {STEPS} steps of 64 images:
    AdamW, random affine maps, label smoothing; all variants by the same recipe. Grouped MLPs keep the number of hidden
    units, and so of multiply-adds. Test accuracy of the last step on the 360 test digits, one of which is 0.28 points;
    supervised accuracy, where the paper has few-shot accuracy after pre-training. The pyramid's second block leaves 4
    of the 16 tokens.""",
    paper="""Mixer-S/32 with each token mixing (`allmlp models "mixer_*_s32_224"`) by B/16's
    recipe mixer_b16_imagenet on ImageNet, as JFT-300M is not public; the pyramid's second block leaves 7 of 49 tokens.
    UNVERIFIED: the paper gives no numbers in a table, neither G nor hidden widths nor where pyramids shrink; and it
    calls the measure of the gain of views "top-5", by which it may mean 5-shot accuracy.""",
    columns=COLUMNS,
    arms=all_arms,
    figure=figure,
    found=found,
)
