"""Every published checkpoint of these families, by name: network and tag, `mixer_b16_224.goog_in1k`.

Tags are timm's where timm has the weights. Ours are for files in Google's bucket: `goog_in1k`, `goog_npz_in21k`,
`goog_sam_in1k`, `goog_gsam_in1k`. Google's files have the tanh GELU, which they were trained with; timm converted four
of them and computes the erf GELU, so both are here, and differ by little.

**A misnomer.** timm's tag `goog_in21k_ft_in1k` says "pretrained on ImageNet-21k, fine-tuned on ImageNet-1k", but Google
published no such Mixer. The weights were trained on ImageNet-1k from scratch: one of the authors says so (timm pull
request 651), and the accuracies, 76.6 and 72.1 %, are the paper's from-scratch 76.44 and 71.76, not 80.64 and 82.89.

Where the facts are from: Google's bucket and its listing in vision_transformer's `vit_jax.ipynb`; the addresses in
deit's `resmlp_models.py`; timm's `mlp_mixer.py` and `results/results-imagenet.csv`; the papers. None of the addresses
has been tried, and no accuracy been measured, by allmlp's tests. The licence is that of the code which the weights came
with (vision_transformer and deit: Apache-2.0); timm states the same for every checkpoint here.
"""

import fnmatch
from typing import Any, Literal

from allmlp.errors import UnknownName, unknown_name
from allmlp.models.variants import VARIANTS
from allmlp.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from allmlp.values import Value
from allmlp.weights.labels import LabelSet

GOOGLE = "https://storage.googleapis.com/mixer_models"
FACEBOOK = "https://dl.fbaipublicfiles.com/deit"
TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download"

HALF_BICUBIC = Preprocess(image_size=(224, 224))
IMAGENET_BICUBIC = HALF_BICUBIC.with_(mean=IMAGENET_MEAN, std=IMAGENET_STD)
RESMLP_CROP = IMAGENET_BICUBIC.with_(crop_ratio=0.9)  # deit's README_resmlp; timm takes 0.875
MIIL = HALF_BICUBIC.with_(mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear")

TIMM_CSV = "timm, results-imagenet.csv"
MIXER_PAPER = "MLP-Mixer, Table 3"
DEIT_README = "deit, README_resmlp.md"

MISNOMER = ("trained on ImageNet-1k from scratch, whatever the name says: no Mixer fine-tuned from ImageNet-21k was "
            "published; the same weights as goog_in1k")
SAM = "trained with SAM (arXiv 2106.01548); accuracy of this file unverified"
GSAM = ("trained with GSAM (arXiv 2203.08065); accuracy unverified; Google's first upload was damaged "
        "(vision_transformer issue 195)")
ORDER_21K = "order of the classes as in timm's list for this head, not checked against the weights"
DINO = "self-supervised, for its features: no head (one in the file is left out); k-NN accuracy {} % (deit's README)"


class Accuracy(Value):
    """Top-1 in percent on ImageNet-1k's validation images, and who says so."""

    top1: float
    source: str


class Published(Value):
    """A published checkpoint. Either address may be missing, not both."""

    name: str  # network.tag
    url: str | None
    hub_id: str | None  # a repository with model.safetensors
    sha256: str | None  # the first digits of the checksum of what `url` gives, where they are known
    size_mib: float  # as listed with the files, or else four bytes for each parameter
    layout: Literal["google npz", "facebook pth", "timm pth"]  # of what `url` gives
    gelu: Literal["tanh", "erf"] | None  # None: the gated gmixer has another activation
    num_classes: int  # 0: features only
    labels: LabelSet | None  # what the classes are
    preprocess: Preprocess
    licence: str = "apache-2.0"
    accuracies: tuple[Accuracy, ...] = ()
    note: str = ""

    @property
    def network(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_default(self) -> bool:
        """Whether the network's name without a tag means this one: it is the first in the table, as in timm."""
        return DEFAULTS[self.network] == self.name


def _google(name: str, file: str, size_mib: float, *accuracies: Accuracy, note: str = "") -> Published:
    labels: LabelSet = "imagenet-21k" if "in21k" in name else "imagenet-1k"
    return Published(
        name=name, url=f"{GOOGLE}/{file}.npz", hub_id=None, sha256=None, size_mib=size_mib, layout="google npz",
        gelu="tanh", num_classes=21843 if labels == "imagenet-21k" else 1000, labels=labels, preprocess=HALF_BICUBIC,
        accuracies=accuracies, note=note,
    )  # fmt: skip


def _timm(
    name: str, release: str, file: str, size_mib: float, preprocess: Preprocess, top1: float | None = None,
    labels: LabelSet = "imagenet-1k", note: str = "",
) -> Published:
    """`file` ends with the first digits of its checksum, as torch.hub has it."""
    classes = {"imagenet-1k": 1000, "imagenet-21k": 21843, "imagenet-21k-p": 11221}
    return Published(
        name=name, url=f"{TIMM}/{release}/{file}.pth", hub_id=f"timm/{name}", sha256=file.rpartition("-")[2],
        size_mib=size_mib, layout="timm pth", gelu=None if name.startswith("gmixer") else "erf",
        num_classes=classes[labels], labels=labels, preprocess=preprocess,
        accuracies=() if top1 is None else (Accuracy(top1=top1, source=TIMM_CSV),), note=note,
    )  # fmt: skip


def _facebook(
    name: str, file: str, size_mib: float, official: Accuracy | None, timms: float | None, note: str = ""
) -> Published:
    accuracies = [official] if official else []
    if timms is not None:
        accuracies.append(Accuracy(top1=timms, source=f"{TIMM_CSV} (crop 0.875)"))
    return Published(
        name=name, url=f"{FACEBOOK}/{file}.pth", hub_id=f"timm/{name}", sha256=None, size_mib=size_mib,
        layout="facebook pth", gelu="erf", num_classes=1000 if official else 0,
        labels="imagenet-1k" if official else None,
        preprocess=RESMLP_CROP, accuracies=tuple(accuracies), note=note,
    )  # fmt: skip


def _paper(top1: float, source: str) -> Accuracy:
    return Accuracy(top1=top1, source=source)


# The first of a network is its default. Sizes in MiB.
PUBLISHED = (
    _timm("mixer_b16_224.goog_in21k_ft_in1k", "v0.1-vitjx", "jx_mixer_b16_224-76587d61", 228.4, HALF_BICUBIC, 76.616,
          note=MISNOMER),
    _google("mixer_b16_224.goog_in1k", "imagenet1k/Mixer-B_16", 228.47, _paper(76.44, MIXER_PAPER)),
    _google("mixer_b16_224.goog_sam_in1k", "sam/Mixer-B_16", 228.47, note=SAM),
    _google("mixer_b16_224.goog_gsam_in1k", "gsam/Mixer-B_16", 228.4, note=GSAM),
    _timm("mixer_b16_224.goog_in21k", "v0.1-vitjx", "jx_mixer_b16_224_in21k-617b3de2", 289.6, HALF_BICUBIC,
          labels="imagenet-21k", note=ORDER_21K),
    _google("mixer_b16_224.goog_npz_in21k", "imagenet21k/Mixer-B_16", 289.61,
            note=f"Google's own file of the weights that timm calls goog_in21k; {ORDER_21K}"),
    _timm("mixer_b16_224.miil_in21k_ft_in1k", "v0.1-tresnet", "mixer_b16_224_miil-9229a591", 228.4, MIIL, 82.314,
          note="images in [0, 1], bilinear; pretrained by arXiv 2104.10972"),
    _timm("mixer_b16_224.miil_in21k", "v0.1-tresnet", "mixer_b16_224_miil_in21k-2a558a71", 258.4, MIIL,
          labels="imagenet-21k-p", note=f"images in [0, 1], bilinear; arXiv 2104.10972; {ORDER_21K}"),
    _timm("mixer_l16_224.goog_in21k_ft_in1k", "v0.1-vitjx", "jx_mixer_l16_224-92f9adc4", 794.2, HALF_BICUBIC, 72.084,
          note=MISNOMER),
    _google("mixer_l16_224.goog_in1k", "imagenet1k/Mixer-L_16", 794.29, _paper(71.76, MIXER_PAPER)),
    _timm("mixer_l16_224.goog_in21k", "v0.1-vitjx", "jx_mixer_l16_224_in21k-846aa33c", 875.7, HALF_BICUBIC,
          labels="imagenet-21k", note=ORDER_21K),
    _google("mixer_l16_224.goog_npz_in21k", "imagenet21k/Mixer-L_16", 875.78,
            note=f"Google's own file of the weights that timm calls goog_in21k; {ORDER_21K}"),
    _google("mixer_b32_224.goog_sam_in1k", "sam/Mixer-B_32", 230.04, note=SAM),
    _google("mixer_b32_224.goog_gsam_in1k", "gsam/Mixer-B_32", 230.0, note=GSAM),
    _google("mixer_s32_224.goog_gsam_in1k", "gsam/Mixer-S_32", 72.91, note=GSAM),
    _google("mixer_s16_224.goog_gsam_in1k", "gsam/Mixer-S_16", 70.71, note=GSAM),
    _google("mixer_s8_224.goog_gsam_in1k", "gsam/Mixer-S_8", 78.79, note=GSAM),
    _timm("gmixer_24_224.ra3_in1k", "v0.1-weights", "gmixer_24_224_raa-7daf7ae6", 94.3, IMAGENET_BICUBIC, 78.048,
          note="an experiment of timm's author, without a paper"),
    _facebook("resmlp_12_224.fb_in1k", "resmlp_12_no_dist", 58.6, _paper(76.6, "ResMLP, Table D.3"), 76.660),
    _facebook("resmlp_12_224.fb_distilled_in1k", "resmlp_12_dist", 58.6, _paper(77.8, DEIT_README), 77.948),
    _facebook("resmlp_12_224.fb_dino", "resmlp_12_dino", 58.6, None, None, DINO.format(62.6)),
    _facebook("resmlp_24_224.fb_in1k", "resmlp_24_no_dist", 114.5, _paper(79.4, "ResMLP, Table D.3"), 79.380),
    _facebook("resmlp_24_224.fb_distilled_in1k", "resmlp_24_dist", 114.5, _paper(80.8, DEIT_README), 80.766),
    _facebook("resmlp_24_224.fb_dino", "resmlp_24_dino", 114.5, None, None, DINO.format(69.4)),
    _facebook("resmlp_36_224.fb_in1k", "resmlp_36_no_dist", 170.5, _paper(79.7, "ResMLP, Table D.3"), 79.772),
    _facebook("resmlp_36_224.fb_distilled_in1k", "resmlp_36_dist", 170.5, _paper(81.1, DEIT_README), 81.150),
    _facebook("resmlp_big_24_224.fb_in1k", "resmlpB_24_no_dist", 492.6, _paper(81.0, "ResMLP, Table 3"), 81.034,
              "the paper's B24/8"),
    _facebook("resmlp_big_24_224.fb_distilled_in1k", "resmlpB_24_dist", 492.6, _paper(83.6, DEIT_README), 83.594),
    _facebook("resmlp_big_24_224.fb_in22k_ft_in1k", "resmlpB_24_22k", 492.6, _paper(84.4, DEIT_README), 84.414,
              "pretrained on ImageNet-21k"),
    _timm("gmlp_s16_224.ra3_in1k", "v0.1-weights", "gmlp_s16_224_raa-10536d42", 74.1, HALF_BICUBIC, 79.652),
)  # fmt: skip

CATALOGUE: dict[str, Published] = {row.name: row for row in PUBLISHED}
DEFAULTS: dict[str, str] = {
    network: next(row.name for row in PUBLISHED if row.network == network)
    for network in dict.fromkeys(row.network for row in PUBLISHED)
}


def find_published(name: str) -> Published:
    """The checkpoint called `name`, or the default one of a network. Raises `UnknownName`."""
    network, dot, tag = name.partition(".")
    if network not in VARIANTS:
        raise unknown_name("model", network, VARIANTS, "`allmlp models` lists them")
    if network not in DEFAULTS:
        raise UnknownName(f"no weights of {network!r} were ever published; networks with weights: "
                          f"{', '.join(DEFAULTS)}")
    if dot and name not in CATALOGUE:
        tags = [row.name.partition(".")[2] for row in PUBLISHED if row.network == network]
        raise unknown_name(f"weights of {network}:", tag, tags, "`allmlp models --pretrained` lists them")
    return CATALOGUE[name if dot else DEFAULTS[network]]


def list_published(pattern: str = "*") -> list[Published]:
    """The rows whose name, or whose network's name, matches a shell pattern, in the order of the table."""
    return [row for row in PUBLISHED if fnmatch.fnmatch(row.name, pattern) or fnmatch.fnmatch(row.network, pattern)]


def as_dict(row: Published) -> dict[str, Any]:
    """A row as plain values, for JSON."""
    return {**row.model_dump(mode="json"), "network": row.network, "default": row.is_default}


def as_text(rows: list[Published]) -> str:
    """A table for a terminal: one line for each row, and below it the notes that rows point to by number."""
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    lines = [f"{'':1} {'name':38} {'MiB':>6} {'classes':>7} {'top-1 %':>8}  {'licence':10}  from"]
    for row in rows:
        top1 = f"{row.accuracies[0].top1:.2f}" if row.accuracies else "-"
        host = row.hub_id or (row.url or "").replace("https://storage.googleapis.com/", "gs://")
        number = f"  [{notes.index(row.note) + 1}]" if row.note else ""
        lines.append(f"{'*' if row.is_default else ' '} {row.name:38} {row.size_mib:>6.1f} {row.num_classes:>7} "
                     f"{top1:>8}  {row.licence:10}  {host}{number}")
    lines.append("* is what the name without a tag means. Top-1 is published, on ImageNet-1k; --json says by whom.")
    return "\n".join(lines + [f"[{number}] {note}." for number, note in enumerate(notes, 1)])
