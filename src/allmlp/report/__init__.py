"""One run on one page: a self-contained `report.html`."""

from allmlp.report.content import MistakePicture, RunReport, Speed, mistake_pictures
from allmlp.report.page import render, write_report

__all__ = ["MistakePicture", "RunReport", "Speed", "mistake_pictures", "render", "write_report"]
