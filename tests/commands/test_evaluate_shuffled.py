"""`allmlp evaluate --permute`: images shuffled for the test only."""

import json

import pytest


def test_a_shuffle_of_the_test_images_alone_costs_a_trained_network_much(cli, trained):
    def accuracy(*arguments: object) -> float:
        code, out, _ = cli("evaluate", trained, "digits", "--json", *arguments)
        assert code == 0
        return json.loads(out)["top1_percent"]

    plain = accuracy()
    assert accuracy("--permute", "global") < plain - 40
    assert accuracy("--permute", "patches") == accuracy("--permute", "patches", "--permute-seed", 0) < plain - 40
    assert accuracy("--permute", "patches") != accuracy("--permute", "patches", "--permute-seed", 3)
    _, out, _ = cli("evaluate", trained, "digits", "--permute", "pixels")
    assert "images shuffled for the test only: pixels" in out


@pytest.mark.parametrize("options, message", [
    (["--permute-seed", 1], "give --permute too"),
    (["--permute", "patches", "--few-shot", 5], "leave out --permute"),
    (["--permute", "patches", "--temperature"], "give one of the two"),
    (["--permute", "rows"], "invalid choice: 'rows'"),
])
def test_what_does_not_go_together_is_one_line(options: list, message: str, cli, trained):
    code, _, err = cli("evaluate", trained, "digits", *options)
    assert code == 2
    assert message in err
