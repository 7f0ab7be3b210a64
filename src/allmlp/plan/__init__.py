"""What a training run would take, before it is run: time, memory and machines, with the errors of the models used."""

from allmlp.plan.estimate import Estimate, Layout, estimate
from allmlp.plan.job import Job, job_of, papers_recipe
from allmlp.plan.machines import MACHINES, parse_machine

__all__ = ["MACHINES", "Estimate", "Job", "Layout", "estimate", "job_of", "papers_recipe", "parse_machine"]
