"""The page's preprocessing beside Python's, byte for byte."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import allmlp.web
from allmlp.preprocess import Preprocess, fit

NODE = shutil.which("node")
PAGE = Path(allmlp.web.__file__).parent
PROGRAM = """
import { readFileSync } from "node:fs";
import { fit } from "./preprocess.js";
const cases = JSON.parse(readFileSync(0, "utf8"));
const answers = cases.map(({ rgb, height, width, preprocess }) => {
  const image = { rgb: new Uint8Array(Buffer.from(rgb, "base64")), height, width };
  return Buffer.from(fit(image, preprocess).rgb).toString("base64");
});
console.log(JSON.stringify(answers));
"""
SIZES = [(8, 8), (7, 9), (1, 1), (33, 20), (20, 33), (64, 200), (101, 50), (300, 17)]
TARGETS = [(8, 8), (16, 24), (13, 11), (56, 56)]


@pytest.mark.skipif(NODE is None, reason="node runs the page's code here")
def test_every_way_to_resize_gives_pillows_bytes(tmp_path: Path) -> None:
    import base64

    rng = np.random.default_rng(0)
    cases, wanted = [], []
    for height, width in SIZES:
        # Noise of full contrast, which the negative lobes of the bicubic filter drive out of 0..255.
        image = (rng.random((height, width, 3)) < 0.5).astype(np.uint8) * 255 if height % 2 else \
            rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for target in TARGETS:
            for mode in ("shorter", "squash_crop", "squash"):
                for interpolation in ("bicubic", "bilinear", "nearest"):
                    preprocess = Preprocess(image_size=target, resize=mode, interpolation=interpolation,
                                            crop_ratio=0.9 if width % 2 else 0.875)
                    cases.append({"rgb": base64.b64encode(image.tobytes()).decode(), "height": height, "width": width,
                                  "preprocess": preprocess.model_dump(mode="json")})
                    wanted.append(fit(image, preprocess))
    for name in ("preprocess.js",):
        (tmp_path / name).write_text((PAGE / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "program.js").write_text(PROGRAM)
    assert NODE is not None
    done = subprocess.run([NODE, "program.js"], input=json.dumps(cases), capture_output=True, text=True, check=True,
                          cwd=tmp_path)
    answers = [np.frombuffer(base64.b64decode(text), np.uint8) for text in json.loads(done.stdout)]
    assert len(answers) == len(SIZES) * len(TARGETS) * 9
    for answer, expected, case in zip(answers, wanted, cases, strict=True):
        about = (case["height"], case["width"], case["preprocess"])
        assert np.array_equal(answer.reshape(expected.shape), expected), about
