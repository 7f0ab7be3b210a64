"""How soon the page of a model draws, is ready, and answers, in headless Chromium on loopback.

    python benchmarks/page.py [PAGE] [--rounds 10]

PAGE is a folder of `allmlp export MODEL --to browser` (default: one of a network trained on digits). Each round is a
new browser context, so that nothing is cached; the service is `allmlp serve`. "First drawn" is the browser's own
first-contentful-paint; an answer is one image of the network's size, from bytes to logits, the median of 50. Rows go to
results/page.csv.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from digits_model import digits_model
from rows import write

RESULTS = Path(__file__).parent.parent / "results" / "page.csv"
COLUMNS = ("page", "parameters", "rounds", "first_drawn_ms", "first_drawn_most_ms", "ready_ms", "ready_most_ms",
           "answer_ms", "answer_most_ms", "browser", "processor", "commit", "date", "command")
ANSWER = """async () => {
    const { about, logits } = window.allmlp, [height, width] = about.preprocess.image_size;
    const times = [];
    for (let k = 0; k < 50; k++) {
        const image = { rgb: new Uint8Array(height * width * 3).fill(k), height, width };
        const started = performance.now();
        await logits(image);
        times.push(performance.now() - started);
    }
    return times;
}"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("page", nargs="?")
    options.add_argument("--rounds", type=int, default=10)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(RESULTS, COLUMNS, [measure(chosen.page or digits_page(Path(folder)), chosen.rounds)])


def digits_page(folder: Path) -> str:
    page = folder / "digits"
    subprocess.run([sys.executable, "-m", "allmlp", "export", str(digits_model(folder / "run")), "--to", "browser",
                    "--output", str(page)], check=True, stdout=subprocess.DEVNULL)
    return str(page)


def measure(folder: str, rounds: int) -> dict:
    from playwright.sync_api import sync_playwright

    from allmlp.train.run_folder import machine

    service = subprocess.Popen([sys.executable, "-m", "allmlp", "serve", folder, "--port", "0", "--quiet"],
                               stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    found = re.search(r"page at (http://\S+/)", service.stdout.readline())
    assert found, f"{folder} is no page"
    drawn, ready, answers = [], [], []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for _ in range(rounds):
                page = browser.new_context().new_page()
                started = time.monotonic()
                page.goto(found[1])
                page.wait_for_selector("html[data-ready=yes]")
                ready.append(1000 * (time.monotonic() - started))
                drawn.append(page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                answers.append(statistics.median(page.evaluate(ANSWER)))
                page.context.close()
            version = browser.version
            browser.close()
    finally:
        service.terminate()
    about = machine()
    said = json.loads(Path(folder, "model.json").read_text())["description"]
    parameters = re.search(r"([\d,]+) parameters", said)
    assert parameters
    row = {"page": Path(folder).name, "parameters": parameters[1].replace(",", ""), "rounds": rounds,
           "first_drawn_ms": statistics.median(drawn), "first_drawn_most_ms": max(drawn),
           "ready_ms": statistics.median(ready), "ready_most_ms": max(ready),
           "answer_ms": statistics.median(answers), "answer_most_ms": max(answers), "browser": f"Chromium {version}",
           "processor": about["processor"], "commit": about["commit"], "date": time.strftime("%Y-%m-%d"),
           "command": "python benchmarks/page.py"}
    print(", ".join(f"{key} {value}" for key, value in row.items()))
    return row


if __name__ == "__main__":
    main()
