"""A step of training: ours beside timm's training script's and a plain PyTorch loop around timm's network.

    python benchmarks/train_step.py [--models mixer_s16_224 …] [--precisions fp32 bf16] [--rounds 5] [--threads 2]

Every contender is a process of its own, so that its peak memory is its own; one of them works at a time. In each round
every contender has its turn: a step that does not count, since the memory it touches has been idle or given back, and
one that does (of a small network, the mean of 20). Ratios are taken within a round. Same images, labels, AdamW and
learning rate for all, random weights, nothing loaded or augmented while the clock runs.

- ours: `allmlp.train.step.take_step`, as `allmlp train` calls it, with soft targets and checks for a loss that is not
  finite; from uint8 pixels, as it gets them; compiled block by block with `compiled`, and with activation checkpointing
- timm: what its training script does for a batch: its network, its AdamW (`create_optimizer_v2`), class numbers as
  targets, already normalised images; `compiled` compiles the whole network, as its --torchcompile
- plain: timm's network with torch's fused AdamW, nothing else

Both precisions are measured where asked for; bf16 is autocast. A processor without bf16 instructions computes bf16
products many times slower than fp32 ones. Rows go to results/train_step.csv, in place of those that the same kind of
processor gave before.
"""

import argparse
import json
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rows import read, write
from turns import machine_columns, ratio, seconds_of, spread_percent, start, wait_for_turns

RESULTS = Path(__file__).parent.parent / "results" / "train_step.csv"
COLUMNS = ("model", "batch_size", "precision", "contender", "images_per_second", "spread_percent", "times_timm_eager",
           "times_best_peer", "peak_memory_mib", "memory_of_timm_eager", "rounds", "threads", "processor",
           "instructions", "torch", "timm", "commit", "date", "command")
BATCH_SIZES = {"mixer_s16_224": 32, "mixer_b16_224": 32, "mixer_p2_8": 128}
STEPS = {"mixer_s16_224": 1, "mixer_b16_224": 1, "mixer_p2_8": 20}  # in each turn
CONTENDERS = ("timm eager", "timm compiled", "plain eager", "plain compiled", "ours eager", "ours compiled",
              "ours checkpointing")
PEERS = CONTENDERS[:4]
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05


def step_of(contender: str, name: str, batch_size: int, precision: str) -> Callable[[], float]:
    """One training step of a contender on a fixed random batch, as a function that returns the loss."""
    import torch
    from torch.nn import functional as F

    who, how = contender.split()
    generator = torch.Generator().manual_seed(0)
    config = our_config(name)
    pixels = torch.randint(0, 256, (batch_size, 3, *config.image_size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, config.num_classes, (batch_size,), generator=generator)
    if who == "ours":
        return our_step(name, how, pixels, labels, precision)

    model = timms_network(name)
    images = (pixels.float() / 255 - 0.5) / 0.5
    if who == "timm":
        from timm.optim._optim_factory import create_optimizer_v2

        optimizer = create_optimizer_v2(model, opt="adamw", lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    network = torch.compile(model) if how == "compiled" else model

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def our_config(name: str):
    from allmlp.models.variants import VARIANTS

    return VARIANTS[name]


def our_step(name: str, how: str, pixels, labels, precision: str) -> Callable[[], float]:
    from torch.nn import functional as F

    from allmlp.models.variants import create_model
    from allmlp.recipe import Optimizer, Recipe
    from allmlp.train.distributed import ALONE
    from allmlp.train.engine import Engine, distribute
    from allmlp.train.losses import build_loss
    from allmlp.train.optimizer import build_optimizer
    from allmlp.train.step import take_step
    from allmlp.train.supervised import Supervised

    settings = Optimizer(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=None)
    recipe = Recipe(name="benchmark", model=name, optimizer=settings, batch_size=len(pixels),
                    precision="bf16" if precision == "bf16" else "fp32")
    model = create_model(name, seed=0).train()
    optimizer = build_optimizer(model, settings)
    objective = Supervised(model.preprocess, build_loss(recipe.loss, labels.numpy(), model.num_classes, pixels.device))
    engine = Engine(compile=how == "compiled", activation_checkpointing=how == "checkpointing")
    network = distribute(model, None, engine, ALONE)
    targets = F.one_hot(labels, model.num_classes).float()
    count = iter(range(1 << 30))
    return lambda: take_step(network, objective, optimizer, pixels.float(), targets, recipe, next(count))


def timms_network(name: str):
    """timm's network of the same sizes; our small ones are made of its parts."""
    import timm
    import torch
    from timm.layers.mlp import Mlp
    from timm.models.mlp_mixer import MixerBlock, MlpMixer

    from allmlp.models.blocks.mixer import MixerConfig

    torch.manual_seed(0)
    if name in timm.list_models():
        return timm.create_model(name).train()
    config = our_config(name)
    block = config.layers[0]
    assert isinstance(block, MixerConfig)
    ratio = (block.token_hidden / config.width, block.channel_hidden / config.width)
    return MlpMixer(num_classes=config.num_classes, img_size=config.image_size[0], patch_size=config.patch_size[0],
                    num_blocks=config.depth, embed_dim=config.width, mlp_ratio=ratio, block_layer=MixerBlock,
                    mlp_layer=Mlp).train()


# --- a contender's process -------------------------------------------------------------------------------------------


def contend(contender: str, name: str, batch_size: int, precision: str, threads: int) -> None:
    """Take turns of some steps; then say the process's peak memory in MiB."""
    import ctypes

    import torch

    give_back = ctypes.CDLL(None).malloc_trim  # what ours keeps, so that all contenders fit into memory
    torch.set_num_threads(threads)
    step = step_of(contender, name, batch_size, precision)
    step()  # compiling, and the optimizer's moments
    give_back(0)

    def turn() -> float:
        step()
        start = time.perf_counter()
        for _ in range(STEPS[name]):
            step()
        seconds = (time.perf_counter() - start) / STEPS[name]
        give_back(0)
        return seconds

    wait_for_turns(turn)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


# --- the one that measures -------------------------------------------------------------------------------------------


def measure(name: str, precision: str, chosen: argparse.Namespace) -> list[dict]:
    batch_size = BATCH_SIZES[name]
    contenders = [contender for contender in CONTENDERS if contender in ("timm eager", *chosen.contenders)]
    # One after the other: compiling two at once would disturb nobody, but memory might.
    waiting = {contender: start(__file__, [contender, name, batch_size, precision, chosen.threads],
                                f"{contender}, {name} in {precision},") for contender in contenders}
    seconds = seconds_of(waiting, chosen.rounds, f"{name} {precision}", chosen.hold)
    memory = {contender: float(process.communicate()[0]) for contender, process in waiting.items()}

    best_peer = min((peer for peer in PEERS if peer in seconds), key=lambda peer: statistics.median(seconds[peer]))
    rows = []
    for contender in contenders:
        times = seconds[contender]
        rows.append({
            "model": name, "batch_size": batch_size, "precision": precision, "contender": contender,
            "images_per_second": f"{batch_size / statistics.median(times):.2f}",
            "spread_percent": spread_percent(times),
            "times_timm_eager": ratio(seconds["timm eager"], times),
            "times_best_peer": ratio(seconds[best_peer], times),
            "peak_memory_mib": f"{memory[contender]:.0f}",
            "memory_of_timm_eager": f"{memory[contender] / memory['timm eager']:.2f}",
        })
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description="Time a training step beside timm's.")
    options.add_argument("--models", nargs="+", default=list(BATCH_SIZES), choices=BATCH_SIZES)
    options.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    options.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS,
                         help="beside timm eager; all of them unless given")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--hold", action="store_true", help="wait for a line on stdin before each round")
    options.add_argument("--contend", type=json.loads, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.contend:
        contend(*chosen.contend)
        return

    fixed = {"rounds": chosen.rounds, "threads": chosen.threads, **machine_columns(),
             "command": shlex.join(["python", "benchmarks/train_step.py", *sys.argv[1:]])}
    old = read(RESULTS)
    for name in chosen.models:
        for precision in chosen.precisions:
            rows = [row | fixed for row in measure(name, precision, chosen)]
            key = (name, precision, fixed["processor"], fixed["instructions"])
            old = [row for row in old
                   if (row["model"], row["precision"], row["processor"], row["instructions"]) != key] + rows
            write(RESULTS, COLUMNS, old)


if __name__ == "__main__":
    main()
