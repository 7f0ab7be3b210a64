"""docs/adding.md is true: the block that it shows is the one in the package, and its examples run."""

import re
from pathlib import Path

import pytest

from allmlp.models.blocks import AnyBlock

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
FILE, *EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_block_it_shows_is_the_file_in_the_package():
    path = re.search(r"^`(src/.+\.py)`$", TEXT, re.MULTILINE)
    assert path is not None
    assert (ROOT / path[1]).read_text(encoding="utf-8") == FILE


def test_its_examples_run_from_top_to_bottom():
    assert len(EXAMPLES) >= 5
    namespace: dict = {}
    for number, example in enumerate(EXAMPLES, 1):
        exec(compile(example, f"docs/adding.md, example {number}", "exec"), namespace)
    assert {"shifts", "pyramid", "any_size"} <= namespace.keys()


@pytest.mark.parametrize("kind", [kind.model_fields["kind"].default for kind in AnyBlock.__args__])
def test_every_kind_of_block_stands_in_its_table(kind):
    table = TEXT.partition("| kind |")[2].partition("\n\n")[0]
    assert f"`{kind}`" in table
