"""The command line run in this process, and a small trained run to use it on."""

import pytest

from allmlp.cli import main


@pytest.fixture
def cli(capsys):
    """`cli("models")` -> (exit code, stdout, stderr)."""

    def run(*arguments: object):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run folder: four epochs on digits."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "digits", "--epochs", "4", "--output", str(folder), "--quiet", "--threads", "1"]) == 0
    return folder


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory):
    """The digits as folders of PNG files."""
    folder = tmp_path_factory.mktemp("digits") / "png"
    assert main(["data", "write", "digits", str(folder)]) == 0
    return folder
