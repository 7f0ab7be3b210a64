"""Images and logits as memoryviews: the engine without numpy, and the same answers as with it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import allmlp
from allmlp.backends.native import export
from allmlp.testing import randomise

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")

SIZE, LARGER = (8, 12), (20, 30)

WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None  # whoever imports it fails
import allmlp_native
model = allmlp_native.Model(sys.argv[1], threads=2)
photos = [memoryview(sys.stdin.buffer.read(1800)).cast("B", (20, 30, 3)) for _ in range(7)]
logits = model.predict(photos)
assert logits.shape == (7, model.num_classes) and logits.format == "f"
assert model.about and allmlp_native.kernels() and allmlp_native.peak("int8", seconds=0.001, repeats=1) > 0
sys.stdout.buffer.write(logits.tobytes())
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = allmlp.create_model("mixer_p2_8", image_size=SIZE).eval()
    randomise(model, seed=0)
    export(model, tmp_path / "m", "fp32")
    return tmp_path / "m"


def images(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_a_program_without_numpy_gets_the_logits_of_one_with_it(file: Path):
    photos = images(7, LARGER)
    found = subprocess.run([sys.executable, "-c", WITHOUT_NUMPY, str(file)], input=photos.tobytes(),
                           capture_output=True, timeout=60)
    assert found.returncode == 0, found.stderr.decode()
    assert found.stdout == allmlp_native.Model(file, threads=2).predict(list(photos)).tobytes()


def test_memoryviews_give_memoryviews_and_arrays_arrays(file: Path):
    model = allmlp_native.Model(file)
    expected, pixels = model(images(4)), images(4)
    for given in (pixels.data, pixels.data[::2], memoryview(pixels.tobytes()).cast("B", pixels.shape)):
        logits = model(given)
        assert isinstance(logits, memoryview)
        assert np.array_equal(np.asarray(logits), expected[:: 4 // len(given)])
    photo = images(1, LARGER)[0]
    fitted = model.fit(photo.data)
    assert isinstance(fitted, memoryview)
    assert np.array_equal(np.asarray(fitted), model.fit(photo))
    together = model.predict([pixels[0].data, pixels[1]])
    assert isinstance(together, np.ndarray)
    assert np.array_equal(together, expected[:2])


@pytest.mark.parametrize("given,said", [
    (images(1)[0], r"uint8 \(8, 12, 3\)"), (images(1)[0].data, r"a memoryview of 'B' \(8, 12, 3\)"),
    (images(1).data, r"a memoryview of 'B' \(1, 8, 12, 3\)"), (memoryview(b""), r"a memoryview of 'B' \(0,\)"),
    (5, r"int64 \(\)"), (bytearray(288), "bytearray of 288"), (bytes(288), "bytes of 288"),
])  # fmt: skip
def test_one_image_where_a_list_is_expected_says_so(file: Path, given: object, said: str):
    with pytest.raises(ValueError, match=f"expected a list of images, got {said}; give \\[image\\]"):
        allmlp_native.Model(file).predict(given)  # type: ignore[arg-type]


def test_no_images_are_no_logits(file: Path):
    model = allmlp_native.Model(file)
    assert model(images(0).data).tolist() == model(images(0)).tolist() == []


@pytest.mark.parametrize("given,said", [
    (np.zeros((1, *SIZE, 3), np.float32).data, r"a memoryview of 'f' \(1, 8, 12, 3\)"),
    (images(1)[0].data, r"a memoryview of 'B' \(8, 12, 3\)"),
    (np.zeros((1, 12, 8, 3), np.uint8).data, r"a memoryview of 'B' \(1, 12, 8, 3\)"),
    (memoryview(bytes(288)), r"a memoryview of 'B' \(288,\)"),
    (images(1).data.cast("B").cast("b"), r"a memoryview of 'b' \(288,\)"),
    (bytes(288), r"bytes of 288"),
])  # fmt: skip
def test_memoryviews_of_another_kind_are_refused(given: memoryview | bytes, said: str, file: Path):
    model = allmlp_native.Model(file)
    with pytest.raises(ValueError, match=rf"^expected uint8 \(N, 8, 12, 3\), got .*{said}$"):
        model(given)
    if getattr(given, "shape", ()) != (*SIZE, 3):
        with pytest.raises(ValueError, match=rf"^an image must be uint8 \(H, W, 3\), not .*{said}$"):
            model.fit(given)
