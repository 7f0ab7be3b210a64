"""Do two machines that train together come to what one process comes to?

    sudo python benchmarks/two_hosts.py [--sharding fsdp] [--no-results]

Two network namespaces of this machine stand for two hosts: each has its own loopback and one end of a veth pair
(10.77.0.1, 10.77.0.2), and nothing else, so that whatever one says to the other crosses that wire. On each, torchrun
starts two processes; they find each other by torchrun's own rendezvous at the first host's address, and train on
scikit-learn's digits with mixup, CutMix, accumulated gradients, stochastic depth and a moving average. Compared with
the same recipe in one process are every weight, average and moment, and the losses of the history: SGD, as Adam
divides noise by noise. Needs root, for the namespaces; says so in one line and exits with code 2 where it cannot have
them, and with 1 where the results differ by more than `TOLERANCE`. A row goes to results/two_hosts.csv.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from allmlp.files import load_tensors
from allmlp.train.run_folder import machine
from rows import read, write

RESULTS = Path(__file__).parent.parent / "results" / "two_hosts.csv"
COLUMNS = ("hosts", "processes", "sharding", "epochs", "largest_difference_weights", "largest_difference_losses",
           "tolerance", "megabytes_over_the_wire", "seconds", "processor", "torch", "commit", "date", "command")
HOSTS = {"allmlp-a": "10.77.0.1", "allmlp-b": "10.77.0.2"}
PORT = 29_400
TOLERANCE = 2e-6  # float32 sums in another order, over some dozens of steps, on weights of the order of 1
EPOCHS = 2
RECIPE = ["digits", "--model", "mixer_p2_8", "--epochs", str(EPOCHS), "--batch-size", "100", "--seed", "3", "--device",
          "cpu", "--threads", "1", "--quiet", "--logger", "none", "--set", "optimizer.name=sgd",
          "--set", "optimizer.learning_rate=0.05", "--set", "augment.mixup=0.2", "--set", "augment.cutmix=1.0",
          "--set", "gradient_accumulation=2", "--set", "stochastic_depth=0.1", "--set", "ema_decay=0.9"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sharding", choices=("none", "fsdp"), default="none")
    parser.add_argument("--no-results", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("two_hosts.py: needs root and the command `ip` (iproute2), to make two network namespaces; run it with "
              "sudo on Linux", file=sys.stderr)
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        try:
            with hosts():
                train_on_both(two, options.sharding)
                megabytes = sent_bytes() / 1e6
        except subprocess.CalledProcessError as error:
            print(f"two_hosts.py: {' '.join(map(str, error.cmd))}: {(error.stderr or '').strip() or error.returncode}; "
                  "namespaces may be forbidden here (a container without CAP_SYS_ADMIN)", file=sys.stderr)
            return 2
        subprocess.run([sys.executable, "-m", "allmlp", "train", *RECIPE, "--output", str(one)], check=True,
                       stdout=subprocess.DEVNULL)
        weights, losses = differences(one, two)
    print(f"largest difference: weights {weights:.2e}, losses {losses:.2e}; {megabytes:.1f} MB over the wire")
    if not options.no_results:
        about = machine()
        row = {"hosts": 2, "processes": 4, "sharding": options.sharding, "epochs": EPOCHS,
               "largest_difference_weights": f"{weights:.2e}", "largest_difference_losses": f"{losses:.2e}",
               "tolerance": TOLERANCE, "megabytes_over_the_wire": round(megabytes, 1),
               "seconds": round(time.monotonic() - started), "processor": about["processor"],
               "torch": about["versions"]["torch"], "commit": about["commit"], "date": time.strftime("%Y-%m-%d"),
               "command": " ".join(["python benchmarks/two_hosts.py", *sys.argv[1:]])}
        write_row(row)
    return 0 if max(weights, losses) <= TOLERANCE else 1


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """Two namespaces joined by a wire, for as long as this lasts."""
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        first, second = HOSTS
        ip("link", "add", "wire", "netns", first, "type", "veth", "peer", "name", "wire", "netns", second)
        for host, address in HOSTS.items():
            ip("-n", host, "address", "add", f"{address}/24", "dev", "wire")
            ip("-n", host, "link", "set", "wire", "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "delete", host)


def train_on_both(output: Path, sharding: str) -> None:
    """The same command on both hosts, as one would type it there."""
    running = []
    for host, address in HOSTS.items():
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2",
                    "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{HOSTS['allmlp-a']}:{PORT}", "--rdzv-id", "digits",
                    # Both have the name of this machine, so torchrun cannot tell by it which one is meant.
                    "--rdzv-conf", f"is_host={host == 'allmlp-a':d}",
                    "--local-addr", address]
        running.append(subprocess.Popen(
            ["ip", "netns", "exec", host, *torchrun, "-m", "allmlp", "train", *RECIPE, "--sharding", sharding,
             "--output", str(output)], stdout=subprocess.DEVNULL, env={**os.environ, "GLOO_SOCKET_IFNAME": "wire"}))
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"two_hosts.py: training ended with exit codes {codes}")


def sent_bytes() -> int:
    shown = subprocess.run(["ip", "-n", "allmlp-a", "-json", "-statistics", "link", "show", "wire"], check=True,
                           capture_output=True, text=True)
    return json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"]


def differences(one: Path, two: Path) -> tuple[float, float]:
    """The largest difference of any number in the states, and of any loss in the histories."""
    ours, theirs = (load_tensors(run / "state.safetensors")[0] for run in (one, two))
    weights = max((ours[name] - theirs[name]).abs().max().item() for name in ours)
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    losses = max(abs(mine[key] - yours[key]) for mine, yours in zip(*rows, strict=True)
                 for key in ("train_loss", "eval_loss"))
    return weights, losses


def write_row(row: dict) -> None:
    """In place of an earlier row of its kind."""
    write(RESULTS, COLUMNS, [*(old for old in read(RESULTS) if old["sharding"] != row["sharding"]), row])


if __name__ == "__main__":
    sys.exit(main())
