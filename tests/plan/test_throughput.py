"""Speed and cost beside the papers' tables, and a plan's arithmetic."""

import pytest

from allmlp.errors import AllMLPError, BadSetting
from allmlp.plan import MACHINES, Layout, estimate, job_of, papers_recipe, parse_machine
from allmlp.plan.check import all_rows, cost_rows, memory_rows, other_calibrations, speed_rows
from allmlp.plan.estimate import paper_core_days, parts_that_fit, smallest, smallest_of_all
from allmlp.plan.throughput import efficiency
from allmlp.recipe import Dino, Optimizer, Recipe
from allmlp.recipes import RECIPES

GOAL_PERCENT = 20  # of the papers' throughput, for every Mixer row


def test_every_mixer_row_is_within_the_goal_whichever_two_rows_it_was_calibrated_on():
    rows = speed_rows("xla")
    assert [row.note for row in rows].count("calibrated on") == 2
    for row in rows:
        assert abs(row.error_percent) < (1e-6 if row.note else GOAL_PERCENT), row
    assert len(other_calibrations()) == 7
    assert all(pair.worst_percent < GOAL_PERCENT for pair in other_calibrations())


def test_efficiencies_are_possible():
    for software in ("xla", "pytorch"):
        found = efficiency(software)
        assert 0.5 < found.arithmetic <= 1
        assert 1 < found.passes < 10


def test_resmlp_rows_that_were_not_fitted_agree():
    (s24,) = [row for row in speed_rows("pytorch") if not row.note]
    assert abs(s24.error_percent) < 1
    assert all(abs(row.error_percent) < 1 for row in memory_rows())


def test_core_days_of_the_large_networks_agree_and_those_of_the_small_ones_are_too_low():
    rows = [row for row in cost_rows() if row.note == ""]
    for row in rows:
        if "L/16" in row.row or "H/14" in row.row:
            assert abs(row.error_percent) < 10, row
        assert -50 < row.error_percent < 20, row
    assert len(all_rows()) == 9 + 3 + 13 + 3


def test_a_training_is_three_forward_passes_of_every_image_and_four_with_checkpointing():
    job = job_of(papers_recipe("mixer_b16_224"), images=1_000_000)
    plain = estimate(job, Layout(MACHINES["a100"], 8))
    again = estimate(job, Layout(MACHINES["a100"], 8, checkpointing=True))
    assert job.epochs == 300
    assert plain.flops == pytest.approx(3 * 2 * 12.6018e9 * 300 * 1e6, rel=1e-4)  # multiply-adds: FACTS 1.5
    assert again.flops == pytest.approx(4 / 3 * plain.flops)
    assert plain.hours < again.hours < 4 / 3 * plain.hours  # the update is not repeated
    assert again.memory.peak < plain.memory.peak


def test_the_papers_run_of_mixer_l16_is_planned_in_the_papers_unit():
    job = job_of(papers_recipe("mixer_l16_224").with_(batch_size=4096), images=300_000_000, classes=18_291)
    short = job.epochs / 14
    assert paper_core_days(job) / short == pytest.approx(450, rel=0.1)


def test_sam_learns_twice_and_dino_from_every_crop():
    plain = papers_recipe("mixer_s16_224")
    layout = Layout(MACHINES["a100"], 8)
    base = estimate(job_of(plain), layout)
    sam = estimate(job_of(plain.with_(optimizer=Optimizer(sam_rho=0.1))), layout)
    dino = estimate(job_of(plain.with_(dino=Dino(local_crops=2))), layout)
    assert sam.flops == 2 * base.flops
    assert sam.memory == base.memory
    assert dino.flops == pytest.approx((4 * 3 + 2) / 3 * base.flops)
    assert dino.memory.activations == 4 * base.memory.activations


def test_the_smallest_machine_fits_and_half_of_it_does_not():
    job = job_of(papers_recipe("mixer_b16_224"))
    for found in smallest_of_all(job):
        devices = found.layout.devices
        assert found.fits
        if devices > 1:
            assert not estimate(job, Layout(found.layout.machine, devices // 2)).fits
    assert smallest(job_of(papers_recipe("mixer_b4_224").with_(batch_size=2, precision="bf16")), MACHINES["tpu-v3"])


def test_fewer_images_at_a_time_make_a_batch_fit():
    job = job_of(papers_recipe("mixer_b16_224"))
    layout = Layout(MACHINES["rtx4090"], 2)
    assert not estimate(job, layout).fits
    parts = parts_that_fit(job, layout)
    assert parts is not None
    assert estimate(job_of(papers_recipe("mixer_b16_224").with_(gradient_accumulation=parts)), layout).fits


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_planned(name: str):
    job = job_of(RECIPES[name], images=50_000_000, classes=10)
    found = estimate(job, Layout(MACHINES["b200"], 1))
    assert found.hours > 0
    assert found.memory.peak > 0


def test_unknown_data_needs_the_number_of_images():
    with pytest.raises(BadSetting, match="--images N"):
        job_of(Recipe(name="x", model="mixer_p2_8", data="elsewhere"))


@pytest.mark.parametrize("text", ["h1", "h100:", "h100:0", "h100:x", "h100:99999", "h100:-1", "", "tpu-v3:1:2"])
def test_a_wrong_machine_is_refused_in_one_line(text: str):
    with pytest.raises(AllMLPError) as error:
        parse_machine(text)
    assert "\n" not in str(error.value)


def test_machines_multiply_only_as_they_can():
    assert parse_machine("TPU-v3:128") == (MACHINES["tpu-v3"], 128)
    job = job_of(papers_recipe("mixer_b16_224"))
    with pytest.raises(BadSetting, match="v100 has no bf16 arithmetic; take --precision fp32"):
        estimate(job, Layout(MACHINES["v100"]))
    assert not {"v100", "t4"} & {found.layout.machine.name for found in smallest_of_all(job)}
    with pytest.raises(BadSetting, match="without an image"):
        estimate(job, Layout(MACHINES["h100"], 8192))
    assert all(machine.bandwidth > 1e11 and machine.memory_bytes > 1e10 for machine in MACHINES.values())
