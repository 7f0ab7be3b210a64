"""The rows of results/engine_peers.csv as the tables of docs/speed.md."""

from collections.abc import Mapping, Sequence

Row = Mapping[str, str]
PRECISIONS = ("fp32", "bf16", "int8")
ENGINE = "allmlp engine"


def table(rows: Sequence[Row]) -> str:
    """Markdown: our engine beside the best peer of equal precision, then every contender by network."""
    return "\n\n".join([ratios(rows), *(speeds(rows, model) for model in dict.fromkeys(row["model"] for row in rows))])


def order(cell: tuple[str, str]) -> tuple[int, int]:
    """Of (batch, threads): more threads first, then by the batch."""
    return -int(cell[1]), int(cell[0])


def speeds(rows: Sequence[Row], model: str) -> str:
    """Images per second and share of the peak, a column for each number of threads and batch size."""
    here = [row for row in rows if row["model"] == model]
    cells = sorted({(row["batch"], row["threads"]) for row in here}, key=order)
    by_key = {(row["batch"], row["threads"], row["contender"], row["precision"]): row for row in here}
    who = sorted({(row["contender"], row["precision"]) for row in here},
                 key=lambda name: (PRECISIONS.index(name[1]), name[0] != ENGINE, name[0]))
    lines = [f"{short(model)}, images per second (share of the instruction peak), threads × batch:", "",
             "| | " + " | ".join(f"{threads} × {batch}" for batch, threads in cells)
             + " | ready s | peak MB | file MB | error |", "|---|" + "---:|" * (len(cells) + 4)]
    for contender, precision in who:
        found = [by_key.get((*cell, contender, precision)) for cell in cells]
        first = next(row for row in found if row)
        name = f"{contender} {precision}"
        lines.append("| " + " | ".join([f"**{name}**" if contender == ENGINE else name, *map(speed, found), *(
            number(first[column]) for column in ("ready_seconds", "peak_memory_mb", "file_mb", "error"))]) + " |")
    return "\n".join(lines)


def ratios(rows: Sequence[Row]) -> str:
    lines = ["Our engine over the fastest peer of equal precision, and int8 over timm's network in PyTorch fp32:", "",
             "| network | threads | batch | fp32 | bf16 | int8 | int8 over timm eager fp32 |",
             "|---|---:|---:|---|---|---|---:|"]
    ours = {(row["model"], row["batch"], row["threads"], row["precision"]): row for row in rows
            if row["contender"] == ENGINE}
    models = list(dict.fromkeys(key[0] for key in ours))
    cells = sorted({key[:3] for key in ours}, key=lambda cell: (models.index(cell[0]), order(cell[1:])))
    for model, batch, threads in cells:
        found = [ours.get((model, batch, threads, precision)) for precision in PRECISIONS]
        over = [f"{times(row['ratio_to_best_peer'])} ({row['best_peer']})" if row else "–" for row in found]
        last = times(found[-1]["ratio_to_timm_fp32"]) if found[-1] else "–"
        lines.append(f"| {short(model)} | {threads} | {batch} | {' | '.join(over)} | {last} |")
    return "\n".join(lines)


def short(model: str) -> str:
    return model.removesuffix("_224")


def speed(row: Row | None) -> str:
    if row is None:
        return "–"
    share = f" ({100 * float(row['share_of_peak']):.0f} %)" if row["share_of_peak"] else ""
    return number(row["images_per_second"]) + share


def number(text: str) -> str:
    """Three digits, as a person writes them."""
    if not text:
        return "–"
    value = float(text)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 or value == 0 else f"{value:.0e}"


def times(text: str) -> str:
    return f"{float(text):.2f} ×" if text else "–"
