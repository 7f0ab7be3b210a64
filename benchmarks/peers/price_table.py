"""The rows of results/accuracy_price.csv as the tables of docs/export.md, and what they say of our goals."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

Row = Mapping[str, str]
OURS, PRECISIONS = "allmlp", ("fp32", "bf16", "int8")
CASE = ("network", "seed", "weights")
FP32_ERROR, BF16_POINTS, INT8_POINTS = 1e-5, 0.1, 0.3  # the goals: of logits over their deviation; of top-1


def table(rows: Sequence[Row]) -> str:
    """Markdown: for each data set what each contender costs each network, then our goals."""
    return "\n\n".join("\n\n".join(_data([row for row in rows if row["data"] == data], data))
                       for data in dict.fromkeys(row["data"] for row in rows))


def _data(rows: Sequence[Row], data: str) -> Iterator[str]:
    images, seeds = rows[0]["images"], sorted({row["seed"] for row in rows})
    yield (f"{data}: {images} test images, seeds {', '.join(seeds)}. Root mean square error of the logits in percent, "
           "mean ± deviation over seeds:")
    yield _grid(rows, "rms_error", lambda found: _spread([100 * value for value in found]))
    yield "Top-1 less PyTorch's in points, mean (lowest to highest):"
    yield _grid(rows, "top1_difference", lambda found: f"{statistics.mean(found):+.2f} ({min(found):+.2f} to "
                                                       f"{max(found):+.2f})" if any(found) else "0")
    yield "\n".join(_goals(rows))


def _grid(rows: Sequence[Row], column: str, cell: Callable[[Sequence[float]], str]) -> str:
    kinds = list(dict.fromkeys((row["weights"], row["network"]) for row in rows))
    kinds.sort(key=lambda kind: kind[0] == "planted")
    who = sorted({(row["contender"], row["precision"]) for row in rows},
                 key=lambda name: (name[0] != OURS, PRECISIONS.index(name[1]), name[0]))
    lines = ["| | " + " | ".join(f"{network}, {weights}" for weights, network in kinds) + " |",
             "|---|" + "---:|" * len(kinds)]
    for name in who:
        cells = []
        for kind in kinds:
            here = [row for row in rows if (row["contender"], row["precision"]) == name
                    and (row["weights"], row["network"]) == kind]
            found = [float(row[column]) for row in here if not row["failure"]]
            cells.append(cell(found) if found else "fails" if here else "")
        lines.append(f"| {' '.join(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    digits = ".1e" if mean < 0.001 else ".1f" if mean >= 10 else ".2f"
    return f"{mean:{digits}}" + (f" ± {statistics.stdev(values):{digits}}" if len(values) > 1 else "")


def _goals(rows: Sequence[Row]) -> Iterator[str]:
    ours = {precision: {_case(row): row for row in rows if row["contender"] == OURS and row["precision"] == precision}
            for precision in PRECISIONS}
    largest = max(float(row["largest_error"]) for row in ours["fp32"].values())
    yield f"- fp32: the largest error of a logit is {largest:.1e} of the deviation (goal: {FP32_ERROR:.0e})."
    for precision, goal in (("bf16", BF16_POINTS), ("int8", INT8_POINTS)):
        cases = ours[precision]
        missed = [f"{' '.join(case)} {float(row['top1_difference']):+.2f}" for case, row in cases.items()
                  if float(row["top1_difference"]) < -goal]
        mean = statistics.mean(float(row["top1_difference"]) for row in cases.values())
        yield (f"- {precision}: top-1 at most {goal} points lower in {len(cases) - len(missed)} of {len(cases)} cases, "
               f"{mean:+.3f} points on average"
               + (f"; not in {', '.join(missed)}" if missed else "") + ".")
    won, lost, peers = 0, [], [row for row in rows if row["contender"] != OURS and not row["failure"]]
    if not peers:
        return
    for case, row in ours["int8"].items():
        better = [f"{' '.join(case)}: {peer['contender']} has {float(peer['rms_error']) / float(row['rms_error']):.3f} "
                  "of our error" for peer in peers
                  if _case(peer) == case and float(peer["rms_error"]) <= float(row["rms_error"])]  # fmt: skip
        won += not better
        lost += better
    yield "\n  - ".join([f"- int8: a smaller error than every peer in {won} of {len(ours['int8'])} cases.", *lost])


def _case(row: Row) -> tuple[str, ...]:
    return tuple(row[column] for column in CASE)
