"""What a killed export leaves beside its place, and who may remove it."""

from pathlib import Path

import pytest

from allmlp.backends.leftovers import exporting

pytest.importorskip("fcntl", reason="no locks on folders here, and so all stays")


def test_what_a_killed_export_left_is_removed_if_nobody_is_at_it_and_nothing_else_is(tmp_path: Path):
    left = {".made.0123abcd.tmp": "model.onnx", ".made.int8.0123abcd.tmp": "index.html",
            "..made.bf16.0123abcd.tmp.89abcdef.tmp": ".model.onnx.01234567.tmp"}
    kept = {".made.0123abcd.old": "model.onnx", ".made.notes.tmp": "model.onnx", ".other.0123abcd.tmp": "model.onnx",
            ".made.76543210.tmp": "thesis.tex", "made.0123abcd.tmp": "model.onnx"}
    for name, file in {**left, **kept}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    (tmp_path / ".made.int8.0123abcd.tmp" / "manifest.json").touch()
    (tmp_path / ".made.aaaaaaaa.tmp").symlink_to(tmp_path / ".made.0123abcd.old")
    everything = {path.name for path in tmp_path.iterdir()}
    with exporting(tmp_path / "another"), exporting(tmp_path / "made"):  # as two processes
        assert {path.name for path in tmp_path.iterdir()} == everything
    with exporting(tmp_path / "made"):
        assert {path.name for path in tmp_path.iterdir()} == everything - {*left}
    with exporting(tmp_path / "new" / "made"):
        assert (tmp_path / "new").is_dir()
    (tmp_path / "file").touch()
    with exporting(tmp_path / "file" / "made"):  # whoever writes there says that nothing can be
        pass
