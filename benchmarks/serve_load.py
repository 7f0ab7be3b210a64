"""Requests per second and latencies of `allmlp serve`, beside LitServe and a bare FastAPI endpoint.

    pip install litserve
    python benchmarks/serve_load.py [MODEL] [--requests 4000] [--rounds 3] [--memory 20000]

The same network (default: one trained on digits), one CPU thread, the same form with one digit as a PNG file, over
loopback with kept connections. All three services run all the time; in each round every one is loaded in turn with 1, 8
and 64 clients, each of which sends its next request when it has its answer. The client is one process, which takes a
core's time of its own. LitServe batches up to 32, waiting for none; the bare endpoint predicts one image per request in
FastAPI's threads. Then `--memory` requests to ours alone: resident memory after each tenth. Rows go to
results/serve_load.csv.
"""

import argparse
import asyncio
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from digits_model import digits_model
from rows import write

RESULTS = Path(__file__).parent.parent / "results" / "serve_load.csv"
PEERS = Path(__file__).parent / "peers"
COLUMNS = ("service", "clients", "requests", "failed", "requests_per_second", "spread_percent", "times_best_peer",
           "p50_ms", "p95_ms", "p99_ms", "rounds", "memory_mib", "processor", "versions", "commit", "date", "command")
SERVICES = ("allmlp", "litserve", "fastapi")
CLIENTS = (1, 8, 64)
BOUNDARY = "a-boundary"


# --- the load --------------------------------------------------------------------------------------------------------


def digit() -> bytes:
    from PIL import Image

    from allmlp.data.digits import open_digits

    file = io.BytesIO()
    Image.fromarray(open_digits().splits["test"].image(0)).save(file, "PNG")
    return file.getvalue()


def request(port: int, image: bytes) -> bytes:
    body = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="request"; filename="digit.png"\r\n'
            f"Content-Type: image/png\r\n\r\n").encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


async def load(port: int, clients: int, requests: int, content: bytes) -> tuple[float, list[float], int]:
    """(seconds in all, seconds of each answered request, failures)."""
    left, times, failed = requests, [], 0

    async def client() -> None:
        nonlocal left, failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left > 0:
            left -= 1
            started = time.perf_counter()
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                          if line.startswith(b"content-length"))
            await reader.readexactly(length)
            times.append(time.perf_counter() - started)
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - started, times, failed


def resident_mib(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


async def until_ready(port: int, content: bytes) -> None:
    for _ in range(600):
        try:
            _, _, failed = await load(port, 1, 1, content)
            if not failed:
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.1)
    raise SystemExit(f"the service on port {port} does not answer")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", nargs="?")
    options.add_argument("--requests", type=int, default=4000, help="of each service, with each number of clients")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--memory", type=int, default=20_000)
    options.add_argument("--first-port", type=int, default=8740)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen.model = chosen.model or str(digits_model(Path(folder) / "run"))
        write(RESULTS, COLUMNS, compare(chosen))


def compare(chosen: argparse.Namespace) -> list[dict]:
    ports = {name: chosen.first_port + number for number, name in enumerate(SERVICES)}
    commands = {name: [sys.executable, str(PEERS / f"serve_{name}.py"), chosen.model, str(ports[name])]
                for name in SERVICES[1:]}
    commands["allmlp"] = [sys.executable, "-m", "allmlp", "serve", chosen.model, "--port", str(ports["allmlp"]),
                          "--threads", "1", "--quiet"]
    running = {name: subprocess.Popen(commands[name], stdout=subprocess.DEVNULL, start_new_session=True)
               for name in SERVICES}
    try:
        return measure(chosen, ports, running["allmlp"].pid)
    finally:
        for process in running.values():
            os.killpg(process.pid, signal.SIGTERM)


def measure(chosen: argparse.Namespace, ports: dict[str, int], ours: int) -> list[dict]:
    from importlib.metadata import version

    from allmlp.train.run_folder import machine

    image = digit()
    contents = {name: request(port, image) for name, port in ports.items()}
    for name, port in ports.items():
        asyncio.run(until_ready(port, contents[name]))
    found: dict[tuple[str, int], list[tuple[float, list[float], int]]] = {}
    for number in range(chosen.rounds):
        for clients in CLIENTS:
            for name in SERVICES if number % 2 == 0 else SERVICES[::-1]:
                few = chosen.requests // (4 if clients == 1 else 1)
                done = asyncio.run(load(ports[name], clients, few, contents[name]))
                found.setdefault((name, clients), []).append(done)
    about = machine()
    where = {"rounds": chosen.rounds, "processor": about["processor"], "commit": about["commit"],
             "versions": ", ".join(f"{name} {version(name)}" for name in ("fastapi", "litserve", "torch", "uvicorn")),
             "date": time.strftime("%Y-%m-%d"),
             "command": f"python benchmarks/serve_load.py --requests {chosen.requests} --rounds {chosen.rounds}"}
    rates = {key: [len(times) / seconds for seconds, times, _ in rounds] for key, rounds in found.items()}
    rows: list[dict] = []
    for name, clients in found:
        here = rates[name, clients]
        peers = [max(rates[peer, clients][k] for peer in SERVICES[1:]) for k in range(chosen.rounds)]
        times = sorted(time for _, times, _ in found[name, clients] for time in times)
        row = {"service": name, "clients": clients, "requests": len(times),
               "failed": sum(failed for _, _, failed in found[name, clients]),
               "requests_per_second": statistics.median(here),
               "spread_percent": 100 * (max(here) - min(here)) / statistics.median(here),
               "times_best_peer": statistics.median(our / peer for our, peer in zip(here, peers, strict=True)),
               **{f"p{p}_ms": 1000 * times[min(len(times) - 1, len(times) * p // 100)] for p in (50, 95, 99)}, **where}
        rows.append(row)
        print(", ".join(f"{key} {row[key]:.4g}" if isinstance(row[key], float) else f"{key} {row[key]}"
                        for key in COLUMNS[:10]), flush=True)
    for _ in range(10 if chosen.memory else 0):
        _, times, failed = asyncio.run(load(ports["allmlp"], 64, chosen.memory // 10, contents["allmlp"]))
        rows.append({"service": "allmlp", "clients": 64, "requests": len(times), "failed": failed,
                     "memory_mib": resident_mib(ours), **where})
        print(f"{len(times)} more requests, {failed} failed: {rows[-1]['memory_mib']:.1f} MiB", flush=True)
    return rows


if __name__ == "__main__":
    main()
