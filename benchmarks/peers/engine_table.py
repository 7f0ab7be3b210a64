"""The rows of results/engine_peers.csv as the tables of docs/export.md."""

from collections.abc import Mapping, Sequence

Row = Mapping[str, str]
PRECISIONS = ("fp32", "bf16", "int8")
ENGINE = "allmlp engine"


def table(rows: Sequence[Row]) -> str:
    """Markdown: every contender by network, then our engine beside the best peer of equal precision."""
    return "\n\n".join([*(speeds(rows, threads) for threads in sorted({row["threads"] for row in rows}, reverse=True)),
                        ratios(rows)])


def speeds(rows: Sequence[Row], threads: str) -> str:
    """Images per second and share of the peak, a column for each network and batch size."""
    here = [row for row in rows if row["threads"] == threads]
    cells = list(dict.fromkeys((row["model"], row["batch"]) for row in here))
    cells.sort(key=lambda cell: ([row["model"] for row in here].index(cell[0]), int(cell[1])))
    by_key = {(row["model"], row["batch"], row["contender"], row["precision"]): row for row in here}
    who = sorted({(row["contender"], row["precision"]) for row in here},
                 key=lambda name: (PRECISIONS.index(name[1]), name[0] != ENGINE, name[0]))
    lines = [f"Images per second (share of the instruction peak), {threads} thread{'s' if threads != '1' else ''}:", "",
             "| | " + " | ".join(f"{short(model)} × {batch}" for model, batch in cells)
             + " | ready s | peak MB | file MB | error |", "|---|" + "---:|" * (len(cells) + 4)]
    for contender, precision in who:
        found = [by_key.get((*cell, contender, precision)) for cell in cells]
        first = next(row for row in found if row)
        name = f"{contender} {precision}"
        lines.append("| " + " | ".join([f"**{name}**" if contender == ENGINE else name, *map(speed, found), *(
            number(first[column]) for column in ("ready_seconds", "peak_memory_mb", "file_mb", "error"))]) + " |")
    return "\n".join([*lines, "", f"The last four columns are of {short(cells[0][0])} × {cells[0][1]}."])


def ratios(rows: Sequence[Row]) -> str:
    lines = ["Our engine over the fastest peer of equal precision, and int8 over timm's network in PyTorch fp32:", "",
             "| network | batch | threads | fp32 | bf16 | int8 | int8 over timm eager fp32 |",
             "|---|---:|---:|---|---|---|---:|"]
    ours = {(row["model"], row["batch"], row["threads"], row["precision"]): row for row in rows
            if row["contender"] == ENGINE}
    for model, batch, threads in dict.fromkeys(key[:3] for key in ours):
        found = [ours.get((model, batch, threads, precision)) for precision in PRECISIONS]
        over = [f"{times(row['ratio_to_best_peer'])} ({row['best_peer']})" if row else "–" for row in found]
        last = times(found[-1]["ratio_to_timm_fp32"]) if found[-1] else "–"
        lines.append(f"| {short(model)} | {batch} | {threads} | {' | '.join(over)} | {last} |")
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
