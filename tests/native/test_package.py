"""What the engine's package carries besides the engine."""

from importlib import metadata
from pathlib import Path
from typing import cast

import pytest

allmlp_native = pytest.importorskip("allmlp_native", reason="the engine is not built: make native")


def test_the_package_carries_its_licences_and_says_that_it_is_typed():
    files = {file.name: file for file in metadata.files("allmlp-native") or ()}
    repository = Path(__file__).parents[2]
    for name, of in (("LICENSE", "LICENSE"), ("LICENSE.nanobind", "native/LICENSE.nanobind")):
        assert Path(files[name].locate()).read_text() == (repository / of).read_text()
    assert (Path(cast(str, allmlp_native.__file__)).parent / "py.typed").is_file()
