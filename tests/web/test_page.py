"""The page in a real browser, on the real service: what it says is what Python says."""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import allmlp
from allmlp.backends import load_predictor
from allmlp.data.digits import open_digits
from allmlp.errors import CannotDownload
from allmlp.models.variants import create_model

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT = 1e-5  # of logits around 1: float32 in two runtimes
LIMIT_ON_GPU = 1e-3  # sums in another order, and exp and erf as the shading language has them
IMAGES = 200


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it says is random and spread wide, so that a wrong pixel shows."""
    model = create_model("mixer_p2_8", classes=[f"digit {k}" for k in range(10)], seed=0)
    model.head.weight.data.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    allmlp.save(model, path)
    return path


@pytest.fixture(scope="module")
def address(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("onnxruntime")
    from allmlp.web.runtime import runtime_files

    try:
        runtime_files()
    except CannotDownload as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("page") / "page"
    export = [sys.executable, "-m", "allmlp", "export", str(model_file), "--to", "browser", "--output", str(folder),
              "--data", "digits"]
    subprocess.run(export, check=True, capture_output=True)
    process = subprocess.Popen([sys.executable, "-m", "allmlp", "serve", str(folder), "--port", "0", "--quiet"],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"page at (http://\S+/)", process.stdout.readline())
    assert found
    yield found[1]
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, ready; nothing may be asked of other hosts, and nothing may go wrong unseen."""
    opened = browser.new_page(viewport={"width": 1000, "height": 1600})
    asked, errors = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: message.type == "error" and errors.append(message.text))
    opened.goto(address)
    opened.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    yield opened
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
    opened.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of axe-core, which looks for what keeps people out."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    archives: list[Path] = []
    if npm is not None:
        subprocess.run([npm, "pack", "--silent", "axe-core@4.10.2"], cwd=folder, capture_output=True)
        archives = list(folder.glob("*.tgz"))
    if not archives:
        pytest.skip("axe-core is not to be had from npm here")
    with tarfile.open(archives[0]) as tar:
        program = tar.extractfile("package/axe.min.js")
        assert program is not None
        return program.read().decode()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def various(count: int) -> list[np.ndarray]:
    """Real digits as they are, and enlarged to other sizes and shapes."""
    test, rng = open_digits().splits["test"], np.random.default_rng(0)
    images = []
    for index in range(count):
        image = test.image(index)
        if index % 2:
            height, width = (int(side) for side in rng.integers(5, 90, 2))
            image = np.asarray(Image.fromarray(image).resize((width, height)))
        images.append(image)
    return images


def test_logits_in_the_browser_are_those_of_python(page: Any, model_file: Path) -> None:
    from allmlp.preprocess import fit

    images = various(IMAGES)
    predictor = load_predictor(model_file, "cpu")
    wanted = predictor(np.stack([fit(image, predictor.preprocess) for image in images]))
    found = []
    for image in images:
        bytes_ = json.dumps(list(png(image)))
        found.append(page.evaluate(f"""async () => {{
            const raw = await window.allmlp.decode(new Blob([new Uint8Array({bytes_})], {{ type: "image/png" }}));
            return Array.from(await window.allmlp.logits(raw));
        }}"""))
    found = np.array(found)
    print(f"largest difference of {found.size} logits: {np.abs(found - wanted).max():.2g}")
    assert np.abs(found - wanted).max() < LIMIT
    assert np.array_equal(found.argmax(1), wanted.argmax(1))


SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
ON_WEBGPU = """
import json, sys
from playwright.sync_api import sync_playwright
chromium, address, flags, images = json.load(sys.stdin)
with sync_playwright() as started:
    browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", *flags])
    page = browser.new_page()
    page.goto(address + "?on=webgpu")
    page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    answers = [page.evaluate("async (image) => Array.from(await window.allmlp.logits("
                             "{ ...image, rgb: Uint8Array.from(image.rgb) }))", image) for image in images]
    print(json.dumps([page.inner_text("#state"), answers]))
    browser.close()
"""


@pytest.mark.parametrize("flags,state", [
    (SOFTWARE_GPU, r": WebGPU\.$"), ([], r": WebAssembly, one thread\. Not on WebGPU: there is none here\.$")])
def test_on_webgpu_or_where_it_is_missing_the_logits_are_those_of_python(
    address: str, model_file: Path, flags: list[str], state: str
) -> None:
    """By Chromium's software adapter, which computes with WebGPU's own shaders. In a process of its own, as Playwright
    runs one browser's event loop in a thread."""
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from allmlp.preprocess import fit

    images = various(10)
    predictor = load_predictor(model_file, "cpu")
    wanted = predictor(np.stack([fit(image, predictor.preprocess) for image in images]))
    given = [{"rgb": image.ravel().tolist(), "height": image.shape[0], "width": image.shape[1]} for image in images]
    done = subprocess.run([sys.executable, "-c", ON_WEBGPU], capture_output=True, text=True, check=True,
                          input=json.dumps([CHROMIUM, address, flags, given]))
    said, found = json.loads(done.stdout)
    assert re.search(state, said), said
    print(f"largest difference: {np.abs(np.array(found) - wanted).max():.2g}")
    assert np.abs(np.array(found) - wanted).max() < LIMIT_ON_GPU


def first_class(page: Any) -> str:
    return page.inner_text("#classes li:first-child .name span:first-child")


def test_a_file_an_example_and_a_drawing_are_answered(page: Any) -> None:
    page.set_input_files("#file", {"name": "digit.png", "mimeType": "image/png", "buffer": png(various(1)[0])})
    page.wait_for_selector("#classes li")
    assert first_class(page).startswith("digit ")
    page.click("#examples button:nth-child(2)")
    before = page.inner_text("#classes")
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 120, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 200, steps=8)
    page.mouse.up()
    page.wait_for_timeout(300)
    assert page.inner_text("#classes") != before
    page.focus("#pad")
    page.click("#clear")
    page.focus("#pad")
    before = page.inner_text("#classes")
    for key in ("Space", *["ArrowDown"] * 8):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.inner_text("#classes") != before


def test_wrong_files_are_told_and_change_nothing(page: Any) -> None:
    page.set_input_files("#file", {"name": "good.png", "mimeType": "image/png", "buffer": png(various(1)[0])})
    page.wait_for_selector("#classes li")
    before = page.inner_text("#classes")
    for content in (b"", b"hello", png(various(1)[0])[:60]):
        page.set_input_files("#file", {"name": "bad.png", "mimeType": "image/png", "buffer": content})
        page.wait_for_timeout(200)
        assert "bad.png: not an image" in page.inner_text("#trouble")
        assert page.inner_text("#classes") == before


def test_shuffling_and_covering_show_what_the_network_says_then(page: Any) -> None:
    page.click("#examples button:nth-child(3)")
    page.wait_for_selector("#occlude:not([disabled])")
    before = page.inner_text("#classes")
    page.focus("#share")
    page.keyboard.press("End")  # all patches
    page.wait_for_timeout(300)
    assert page.inner_text("#share-shown") == "100 %"
    assert page.inner_text("#classes") != before
    assert page.inner_text("#shuffled-says").startswith(first_class(page) + ", ")
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    assert page.inner_text("#classes") == before
    page.click("#occlude")
    page.wait_for_selector("#occlusion:not([hidden])")
    assert "points" in page.inner_text("#heat-caption")
    page.select_option("#what", "pixels")
    assert page.is_hidden("#occlusion")  # it was that of another image


@pytest.mark.parametrize("width,scheme", [(1000, "light"), (1000, "dark"), (360, "light")])
def test_nothing_overflows_and_axe_finds_nothing(page: Any, axe: str, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.click("#examples button:nth-child(1)")
    page.wait_for_selector("#classes li")
    page.click("#occlude")
    page.wait_for_selector("#occlusion:not([hidden])")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.evaluate(axe)  # by the debugger's hand, which the page's policy does not bind
    violations = page.evaluate("async () => (await axe.run()).violations")
    assert [f"{found['id']}: {found['nodes'][0]['html'][:120]}" for found in violations] == []
