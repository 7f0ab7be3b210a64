"""The command line: every command on one page. stdout carries results, stderr everything else.

Exit codes: 0 ok; 1 a check failed or training could not go on; 2 the user's mistake, in one line; 130 and 143 stopped
by Ctrl-C and SIGTERM. Written with argparse, so that `--help` needs nothing heavy.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Sequence

import allmlp
from allmlp.commands.arguments import (
    block_numbers,
    image_size,
    l2,
    not_negative,
    not_negative_number,
    positive,
    shots,
    thread_count,
)
from allmlp.commands.mistakes import in_one_line, out_of_memory
from allmlp.commands.parser import Parser
from allmlp.errors import AllMLPError, TrainingStopped


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="allmlp", description="All-MLP vision models: train, evaluate and use MLP-Mixer, ResMLP, gMLP.",
                 epilog="MODEL is a weights file, a run folder, published weights by name, or hf-hub:owner/name; where "
                        "it only has to answer (evaluate, predict, serve, bench), an exported folder too. "
                        "DATA is a folder of images (or of parquet files or tar shards), a name such as digits or "
                        "cifar10, imagenet:DIR, hf:owner/name, or shards:PATTERN; docs/data.md has all.")
    top.add_argument("--version", action="version", version=f"allmlp {allmlp.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, summary: str) -> Parser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.add_argument("--json", action="store_true", help="print the result as one JSON object")
        return added

    def machine(to: Parser, workers: bool = True, threads: str = "torch's; of an export its runtime's") -> None:
        to.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
        to.add_argument("--threads", type=thread_count, help=f"CPU threads (default: {threads})")
        if workers:
            to.add_argument("--workers", type=not_negative, default=0,
                            help="processes that load images (default: 0, load in this process)")

    def size(to: Parser) -> None:
        to.add_argument("--image-size", type=image_size, metavar="N|HxW",
                        help="pixels, e.g. 96 or 64x96 (default: the network's own); weights are resized to it")

    def any_size(to: Parser) -> None:
        to.add_argument("--any-size", choices=("aspect", "native"),
                        help="images keep their shape, at the network's area or at their own size, for a network that "
                             "takes any size; those of one size are computed together")

    def task(to: Parser, found: str) -> None:
        to.add_argument("--task", choices=("classification", "segmentation"),
                        help=f"one class for an image, or one for every pixel (default: by {found})")

    def other_sizes(to: Parser) -> None:
        to.add_argument("--other-sizes", choices=("windows", "resize"),
                        help="of segmentation: images of another size by overlapping windows, or resized as a whole "
                             "(default: as the network was trained for)")

    def source(to: Parser, fraction: str = "0.2") -> None:
        to.add_argument("--val-fraction", type=float, metavar="F",
                        help=f"part held out where DATA has no splits (default: {fraction})")
        to.add_argument("--split-seed", type=not_negative, metavar="N", help="which part (default: 0)")
        to.add_argument("--skip-bad", action="store_true", help="leave out broken images and say which")
        to.add_argument("--data-dir", metavar="DIR", help="where named data sets lie (else $ALLMLP_DATA, else data)")
        to.add_argument("--download", action="store_true", help="fetch a named data set or one of the Hub if need be")

    train = command("train", "Train a network on DATA; writes a run folder with checkpoints and report.html.")
    train.add_argument("data", nargs="?", metavar="DATA", help="a folder of images, a name such as digits, …")
    train.add_argument("--model", metavar="NAME|FILE",
                       help="a name of `allmlp models`, or a network's config, FILE.json (default: by the image size)")
    train.add_argument("--recipe", metavar="NAME|FILE", help="a name of `allmlp recipes`, or a recipe.json")
    train.add_argument("--init", metavar="MODEL", help="start from the weights of a MODEL")
    train.add_argument("--output", metavar="DIR", help="the run folder (default: runs/DATE-MODEL-DATA)")
    train.add_argument("--epochs", type=float, metavar="N",
                       help="as --set schedule.epochs=N, and of these a tenth of warm-up at most; 1.5 is possible")
    train.add_argument("--batch-size", type=positive, metavar="N", help="short for --set batch_size=N")
    train.add_argument("--lr", type=float, metavar="X", help="short for --set optimizer.learning_rate=X")
    train.add_argument("--seed", type=not_negative, metavar="N", help="short for --set seed=N")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                       help="any number of the recipe by its dotted name, e.g. augment.mixup=0.2; may be repeated")
    train.add_argument("--show-recipe", action="store_true", help="print the recipe as it would run, and stop")
    train.add_argument("--resume", metavar="RUN", help="go on with a stopped run, exactly; its data may be at DATA now")
    train.add_argument("--overwrite", action="store_true", help="replace a run in --output")
    train.add_argument("--time-limit", type=not_negative_number, metavar="MINUTES",
                       help="stop after so long, ready to be resumed")
    train.add_argument("--save-every", type=not_negative_number, default=60.0, metavar="SECONDS",
                       help="how much work a kill may cost (default: 60)")
    train.add_argument("--logger", default="tensorboard", metavar="NAME,…",
                       help="tensorboard, wandb, trackio, or none (default: tensorboard)")
    train.add_argument("--quiet", action="store_true", help="no progress")
    train.add_argument("--devices", type=positive, default=1, metavar="N",
                       help="train in N processes of this machine, on a GPU each; torchrun does it on several machines")
    train.add_argument("--sharding", choices=("none", "fsdp"), default="none",
                       help="fsdp: spread parameters and optimizer over the processes")
    train.add_argument("--compile", action="store_true", help="compile the network's blocks (torch.compile)")
    train.add_argument("--activation-checkpointing", action="store_true",
                       help="less memory for about a third more time: compute blocks again in the backward pass")
    task(train, "what DATA has: masks or not")
    size(train)
    machine(train, threads="torch's; 1 for small networks")
    source(train)

    evaluate = command("evaluate", "Measure MODEL on DATA.")
    evaluate.add_argument("model", metavar="MODEL", help="weights file, run folder, published name, Hub id, export")
    evaluate.add_argument("data", metavar="DATA",
                          help="a folder of images, a name such as digits, …; vtab: its 19 tasks")
    evaluate.add_argument("--split", choices=("train", "val", "test"), help="default: test, else val, else train")
    evaluate.add_argument("--per-class", action="store_true", help="precision, recall and F1 of each class")
    instead = evaluate.add_mutually_exclusive_group()
    instead.add_argument("--knn", type=positive, metavar="K",
                         help="not the head but the K nearest training images by frozen features (DINO's way: 20)")
    instead.add_argument("--linear-probe", action="store_true",
                         help="not the head but logistic regression on frozen features of the training images")
    instead.add_argument("--few-shot", type=shots, metavar="N,…",
                         help="not the head but least squares on the features of N training images of each class; "
                              "published are 1,5,10,25")
    evaluate.add_argument("--few-shot-seeds", type=positive, metavar="N", help="draws of these images (default: 3)")
    evaluate.add_argument("--l2", type=l2, metavar="X|grid",
                          help="of few-shot (default: 1024, as published); grid: of 2^-10 … 2^19 the best on further "
                               "training images")
    evaluate.add_argument("--permute", choices=("patches", "pixels", "patches+pixels", "global"),
                          help="shuffle patches, the pixels in each, or all pixels, at test time only; what a network "
                               "that learns shuffled images reaches is `allmlp reproduce permutation`")
    evaluate.add_argument("--permute-seed", type=not_negative, metavar="N", help="which permutation (default: 0)")
    evaluate.add_argument("--tta", choices=("flip", "crops5", "crops10"), help="average the logits of several views")
    evaluate.add_argument("--temperature", action="store_true",
                          help="calibration before and after temperature scaling, fitted on validation images")
    evaluate.add_argument("--real-labels", metavar="FILE|timm",
                          help="also by ImageNet's reassessed labels: real.json, or the list that timm ships")
    evaluate.add_argument("--and", nargs=2, action="append", default=[], metavar=("MODEL", "DATA"), dest="pairs",
                          help="measure this too, and the mean (Avg-5, if these are its five sets); may be repeated")
    task(evaluate, "the network")
    other_sizes(evaluate)
    size(evaluate)
    any_size(evaluate)
    machine(evaluate)
    source(evaluate)

    predict = command("predict", "Name what is on images, or every pixel of them.")
    predict.add_argument("model", metavar="MODEL", help="weights file, run folder, published name, Hub id, export")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or globs")
    predict.add_argument("--top", type=positive, metavar="K", help="classes to show (default: 3)")
    predict.add_argument("--csv", metavar="FILE", help="write file, class, probability, … as CSV ('-': stdout)")
    predict.add_argument("--skip-bad", action="store_true", help="leave out broken images and say which")
    predict.add_argument("--output", metavar="DIR", help="of segmentation: where masks and overlays go "
                                                          "(default: predicted)")
    task(predict, "the network")
    other_sizes(predict)
    size(predict)
    any_size(predict)
    machine(predict, workers=False)

    serve = command("serve", "Answer over HTTP: POST /predict with an image, classes and probabilities come back.")
    serve.add_argument("model", metavar="MODEL", help="weights file, run folder, published name, Hub id, export")
    serve.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1, reached from this machine only)")
    serve.add_argument("--port", type=not_negative, default=8000, help="(default: 8000; 0: any free one)")
    serve.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                       help="a name by which the service may be called; may be repeated (default: those of loopback)")
    serve.add_argument("--page", metavar="FOLDER", help="an export --to browser, shown at / (default: MODEL, if it is)")
    serve.add_argument("--api-key-file", metavar="FILE", help="what clients show (else $ALLMLP_API_KEY, else none)")
    serve.add_argument("--max-batch", type=positive, metavar="N", help="images computed at once (default: 32)")
    serve.add_argument("--max-waiting", type=positive, metavar="N", help="images in the queue (default: 256)")
    serve.add_argument("--latency-budget-ms", type=float, metavar="MS",
                       help="a request that would wait longer gets a 429 (default: 1000)")
    serve.add_argument("--max-images", type=positive, metavar="N", help="of one request (default: 32)")
    serve.add_argument("--max-body-mb", type=float, metavar="MB", help="of one request (default: 20)")
    serve.add_argument("--max-megapixels", type=float, metavar="MP", help="of one image (default: 50)")
    serve.add_argument("--quiet", action="store_true", help="no line of log per request")
    size(serve)
    machine(serve, workers=False)

    inspect = command("inspect", "Pictures of what MODEL has learnt, and of what it sees in IMAGEs; PNG, SVG, a page.")
    inspect.add_argument("model", metavar="MODEL", help="weights file, run folder, published name, Hub id")
    inspect.add_argument("more", nargs="*", metavar="MODEL|IMAGE",
                         help="further networks, put side by side; and image files, folders or globs")
    inspect.add_argument("--along-training", action="store_true", help="MODEL is a run: the checkpoints it kept")
    inspect.add_argument("--blocks", type=block_numbers, metavar="N,…",
                         help="which blocks, from 0, e.g. 0,3,5 or 0-5 (default: the first three; of maps between "
                              "tokens the first, the middle and the last)")
    inspect.add_argument("--data", metavar="DATA", help="show the features of these images too")
    inspect.add_argument("--split", choices=("train", "val", "test"), help="default: test, else val, else train")
    inspect.add_argument("--embedding", choices=("tsne", "umap"), help="(default: tsne)")
    inspect.add_argument("--most-images", type=positive, metavar="N",
                         help="of DATA, drawn from more (default: 2000)")
    inspect.add_argument("--output", metavar="DIR", help="(default: inspect-NAME)")
    inspect.add_argument("--overwrite", action="store_true", help="write into --output although it holds something")
    size(inspect)
    machine(inspect, threads="torch's")
    source(inspect)

    export = command("export", "Write MODEL for another runtime, run it there, and compare it with PyTorch.")
    export.add_argument("model", metavar="MODEL", help="weights file, run folder, published name, Hub id")
    export.add_argument("--to", required=True,
                        choices=("native", "onnx", "openvino", "executorch", "pt2", "timm", "browser"))
    export.add_argument("--precision", choices=("fp32", "bf16", "int8", "auto"), default="fp32",
                        help="auto: the fastest within --max-drop (default: fp32)")
    export.add_argument("--quantiser", metavar="NAME",
                        help="who finds int8's scales: ours, ort, nncf, xnnpack (default: by the runtime)")
    export.add_argument("--max-drop", type=not_negative_number, metavar="POINTS",
                        help="refuse what loses more accuracy than this, or is slower than fp32; needs DATA")
    export.add_argument("--data", metavar="DATA", help="to calibrate (train split) and compare (default: the run's)")
    export.add_argument("--images", type=positive, metavar="N",
                        help="to compare on (default: 64, with --max-drop the whole split)")
    export.add_argument("--runtime", metavar="DIR",
                        help="browser: an unpacked npm package onnxruntime-web (default: npm fetches it once)")
    export.add_argument("--calibration-images", type=positive, metavar="N", help="of int8 (default: 64)")
    export.add_argument("--calibration", choices=("minmax", "percentile", "mse"),
                        help="our int8: the ranges of activations (default: mse, the least loss)")
    export.add_argument("--migrate", type=float, metavar="ALPHA",
                        help="our int8: how far scales move from channels into weights, 0 to 1 (default: 0.5)")
    export.add_argument("--activations", choices=("static", "dynamic"),
                        help="our int8: ranges by tensor from calibration, or of each token and channel when it runs, "
                             "onnx only (default: static)")
    export.add_argument("--sensitivity", action="store_true", help="what our int8 costs each layer alone")
    export.add_argument("--float-layers", nargs="+", action="extend", metavar="LAYER",
                        help="our int8: leave these in float, e.g. stem blocks.3 'blocks.*.tokens'")
    export.add_argument("--output", metavar="DIR", help="(default: exports/NAME-RUNTIME-PRECISION)")
    export.add_argument("--overwrite", action="store_true", help="replace an export in --output")
    export.add_argument("--threads", type=thread_count, help="CPU threads to compare with (default: all)")
    size(export)
    source(export)

    bench = command("bench", "How fast MODELs answer in each runtime, and how well: side by side, asked in turn.")
    bench.add_argument("models", nargs="+", metavar="MODEL",
                       help="weights files, run folders, published names, exported folders; a name of `allmlp models`")
    bench.add_argument("--backend", nargs="+", metavar="NAME",
                       help="run a MODEL that is no export in these: native, onnx, openvino, executorch, pt2, timm, "
                            "pytorch, all (default: pytorch)")
    bench.add_argument("--precision", nargs="+", choices=("fp32", "bf16", "int8"),
                       help="in each of them (default: fp32)")
    bench.add_argument("--batch", type=positive, nargs="+", default=[1, 16], metavar="N", help="(default: 1 16)")
    bench.add_argument("--threads", type=thread_count, nargs="+", default=[1], metavar="N", help="(default: 1)")
    bench.add_argument("--data", metavar="DATA", help="measure top-1 on its test split (default: the run's own)")
    bench.add_argument("--rounds", type=positive, metavar="N", help="at most (default: 50; with --quick 10)")
    bench.add_argument("--quick", action="store_true", help="some seconds in all; accuracy only with --data")
    bench.add_argument("--csv", metavar="FILE", help="write rows with timm's column names ('-': stdout)")
    bench.add_argument("--figure", metavar="PATH", help="draw PATH.png and PATH.svg")
    size(bench)
    source(bench)

    command("doctor", "What works on this machine, and why the rest does not: runtimes, kernels, libraries.")

    models = command("models", "List the networks, or show one in detail.")
    models.add_argument("--pretrained", action="store_true", help="list the published weights instead")
    models.add_argument("--config", action="store_true", help="print the config of one network, for --model FILE.json")
    models.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="a name, or e.g. 'mixer*'")

    recipes = command("recipes", "List the recipes, or show one in full: what was published, and every number.")
    recipes.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="a name, or e.g. 'mixer*'")

    plan = command("plan", "What training MODEL or RECIPE would take: time, memory and the machines that hold it.")
    plan.add_argument("target", nargs="?", metavar="MODEL|RECIPE",
                      help="a network, trained as in the papers; or a recipe")
    plan.add_argument("--images", type=positive, metavar="N", help="training images (default: the recipe's data)")
    plan.add_argument("--classes", type=positive, metavar="N", help="(default: the data's, else the network's)")
    plan.add_argument("--epochs", type=float, metavar="N", help="(default: the recipe's)")
    plan.add_argument("--batch-size", type=positive, metavar="N", help="images per step, on all devices together")
    plan.add_argument("--accumulation", type=positive, metavar="N", help="parts a device's share is computed in")
    plan.add_argument("--machine", metavar="KIND:N", help="e.g. h100:8, v100, tpu-v3:128 (default: h100:8)")
    plan.add_argument("--precision", choices=("fp32", "bf16"), help="(default: the recipe's)")
    plan.add_argument("--sharding", choices=("none", "fsdp"), help="what FSDP spreads over the devices")
    plan.add_argument("--activation-checkpointing", action="store_true", help="compute activations a second time")
    plan.add_argument("--check", action="store_true", help="beside the papers' own tables: the error of every row")
    plan.add_argument("--csv", metavar="FILE", help="with --check: write the rows as CSV ('-': stdout)")
    size(plan)

    report = command("report", "Compare runs side by side on one page.")
    report.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    report.add_argument("--output", metavar="FILE", default="comparison.html", help="(default: comparison.html)")
    report.add_argument("--csv", action="store_true", help="print the table as CSV")
    report.add_argument("--overwrite", action="store_true", help="replace the page in --output")

    compare = command("compare", "Networks side by side on DATA, ours and timm's, under one protocol.")
    compare.add_argument("data", metavar="DATA", help="a folder of images, a name such as digits, …")
    compare.add_argument("models", nargs="+", metavar="MODEL",
                         help="as everywhere; a name of `allmlp models`; timm:NAME, timm:NAME.TAG, timm:NAME=FILE")
    compare.add_argument("--pretrained", action="store_true",
                         help="names without a tag: their published weights, not fresh ones")
    compare.add_argument("--output", metavar="DIR", default="comparison",
                         help="where table, figure and page go (default: comparison)")
    compare.add_argument("--overwrite", action="store_true", help="replace the comparison in --output")
    compare.add_argument("--split", choices=("train", "val", "test"), help="measure on it (default: test, else val)")
    compare.add_argument("--few-shot", type=positive, default=5, metavar="N",
                         help="training images of each class for the linear few-shot accuracy (default: 5)")
    compare.add_argument("--few-shot-seeds", type=positive, default=3, metavar="N", help="draws of them (default: 3)")
    compare.add_argument("--knn", type=positive, default=20, metavar="K", help="neighbours (default: 20)")
    compare.add_argument("--train-images", type=positive, default=10_000, metavar="N",
                         help="look at no more training images, drawn at random (default: 10000)")
    compare.add_argument("--test-images", type=positive, metavar="N", help="measure on no more (default: all)")
    compare.add_argument("--no-speed", action="store_true", help="leave speed, latency and memory out")
    compare.add_argument("--batch-size", type=positive, metavar="N", help="of the speed (default: 32)")
    compare.add_argument("--rounds", type=positive, metavar="N", help="of the speed (default: 5)")
    size(compare)
    machine(compare)
    source(compare)

    reproduce = command("reproduce", "Run an experiment of the papers; writes a table, a figure and a page.")
    reproduce.add_argument("experiment", nargs="?", metavar="NAME", help="a name of `allmlp reproduce --list`")
    reproduce.add_argument("--list", action="store_true", help="show the experiments")
    reproduce.add_argument("--scale", choices=("laptop", "paper"), default="laptop",
                           help="laptop: the effect, small, in minutes on a CPU (default); paper: the exact protocol")
    reproduce.add_argument("--seeds", type=positive, default=3, metavar="N", help="(default: 3)")
    reproduce.add_argument("--only", metavar="TEXT", help="only the arms whose name contains TEXT")
    reproduce.add_argument("--data", metavar="DATA", help="in place of the experiment's own; --scale paper needs it")
    reproduce.add_argument("--data-dir", metavar="DIR", help="where named data sets lie (else $ALLMLP_DATA, else data)")
    reproduce.add_argument("--download", action="store_true", help="fetch a named data set if need be")
    reproduce.add_argument("--output", metavar="DIR",
                           help="where table, figure and page go; a stopped experiment goes on there "
                                "(default: reproduced/NAME)")
    reproduce.add_argument("--overwrite", action="store_true", help="begin again, without the rows that are there")
    reproduce.add_argument("--reduced", action="store_true",
                           help="a few steps of everything: shows in a minute that it runs, and nothing else")
    reproduce.add_argument("--threads", type=thread_count, help="CPU threads (default: 1 at laptop scale; torch's)")
    reproduce.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps (default: cpu at laptop scale, else auto)")

    def shards(to: Parser) -> None:
        to.add_argument("data", metavar="DATA", help="a folder of images, a name such as digits, …")
        to.add_argument("folder", metavar="OUT", help="must not exist, or be empty")
        to.add_argument("--images-per-shard", type=positive, default=10_000, metavar="N", help="(default: 10000)")
        to.set_defaults(action="shard")
        source(to, "0")

    shards(command("shard", "Write DATA as WebDataset tar shards; the same as `allmlp data shard`."))

    data = command("data", "Look at a data set, or write it in another form.")
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    check = actions.add_parser("check", help="the data doctor: splits, classes, broken files, duplicates, sizes")
    check.add_argument("data", metavar="DATA", help="a folder of images, a name such as digits, …")
    write = actions.add_parser("write", help="write a data set as folders of PNG files")
    write.add_argument("data", metavar="DATA", help="a name such as digits, shards:PATTERN, …")
    write.add_argument("folder", metavar="DIR", help="must not exist, or be empty")
    for action in (check, write):
        source(action, "0")
    shard = actions.add_parser("shard", help="write a data set as WebDataset tar shards")
    shards(shard)
    for action in (check, write, shard):
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS,  # or it undoes one before ACTION
                            help="print the result as one JSON object")
    return top


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raises `AllMLPError` for an option with an empty text: what a script's unset variable leaves, and else would be
    taken for no option at all."""
    for option, value in itertools.pairwise([*arguments, "-"]):
        alone = option.endswith("=") and option.count("=") == 1
        if option.startswith("--") and (alone or value == ""):
            raise AllMLPError(f"{option.rstrip('=')} '': the value is empty; give one, or leave the option out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Never shows a traceback for the user's mistake."""
    options = argparse.Namespace()
    try:
        refuse_empty(sys.argv[1:] if arguments is None else arguments)
        options = parser().parsed(arguments)
        from allmlp import commands

        if getattr(options, "devices", 1) > 1 and "RANK" not in os.environ:
            from allmlp.commands.launch import launch

            return launch(options.devices, sys.argv[1:] if arguments is None else arguments)
        return commands.COMMANDS[options.command](options)
    except TrainingStopped as error:
        print(f"allmlp: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `allmlp models | head`
        sys.stderr.close()
        return 0
    except (AllMLPError, OSError) as error:
        if (line := in_one_line(error, options)) is None:
            raise
        print(f"allmlp: {line}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if (line := out_of_memory(error)) is None:
            raise
        print(f"allmlp: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print("; ".join(["allmlp: stopped", *map(str, stopped.args)]), file=sys.stderr)
        return 130
