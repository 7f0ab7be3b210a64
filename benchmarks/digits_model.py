"""A network trained on digits, for the programs here that need some network."""

import subprocess
import sys
from pathlib import Path


def digits_model(folder: Path) -> Path:
    """The run folder of `allmlp train digits`, made there if it is not there yet."""
    if not (folder / "best.safetensors").exists():
        subprocess.run([sys.executable, "-m", "allmlp", "train", "digits", "--output", str(folder), "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
    return folder
