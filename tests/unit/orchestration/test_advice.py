"""Advice of the plan: time, memory, patterns and windows."""

from __future__ import annotations

import pytest
from stemphony.experiment.model import MRAD
from stemphony.orchestration.advice import job_row, memory_hint, resolution_rows, size_in_words, window_hint
from support.experiments import experiment, planned

WIDE = (60.0, 60.0, 40.0)
GRID = {"gpts": [512, 512]}


def test_the_row_of_a_job_names_time_threads_and_limit():
    assert job_row(75.0, 2, 10) == (
        "time of one job",
        "about 75 s of CPU with 2 threads; on a cluster it asks for 10 min",
    )


def test_a_long_time_limit_is_given_in_hours():
    assert job_row(75.0, 2, 19926)[1].endswith("on a cluster it asks for 332 h 06 min")


@pytest.mark.parametrize(
    ("megabytes", "text"), [(300, "300 MB"), (9999, "9999 MB"), (12000, "12 GB"), (1175300, "1175 GB"), (4e7, "40 TB")]
)
def test_sizes_are_given_in_units_that_can_be_read(megabytes, text):
    assert size_in_words(megabytes) == text


def test_a_job_larger_than_this_machine_is_named_with_what_makes_it_smaller():
    assert memory_hint(1.0, experiment()) == []
    (note,) = memory_hint(1e9, experiment(cbed={"enabled": True, "max_mrad": 30.0}))
    assert note.startswith("one job needs about 1000 TB of memory, and this machine has ")
    assert note.endswith("cbed.max_mrad and cbed.size make them smaller.")


def test_the_step_without_loss_is_half_of_the_finest_detail():
    """An image of a probe with semi-angle α has no spatial frequency above 2α/λ."""
    e = experiment()
    ((_, text),) = resolution_rows(e)
    finest = e.wavelength / (2 * e.semiangle)
    assert float(text.split(" ")[0]) == pytest.approx(finest / 2, abs=1e-4)


def test_the_pixels_of_patterns_are_those_of_the_cell_or_of_the_size_asked_for():
    e = experiment(cbed={"enabled": True, "max_mrad": 30.0})
    _, (_, text) = resolution_rows(e)
    pixel = e.wavelength / e.cell[0] / MRAD
    assert f"pixels of {pixel:.3g} × {pixel:.3g} mrad" in text
    assert f"{2 * e.semiangle / MRAD / pixel:.1f} × " in text
    coarse = experiment(cbed={"enabled": True, "max_mrad": 30.0, "size": [5, 5]})
    assert resolution_rows(coarse)[1][1].startswith("5 × 5 pixels")


def test_a_window_is_proposed_where_it_saves_hours_and_holds_the_probe():
    e = experiment(WIDE, grating=GRID)
    (note,) = window_hint(planned(grating=GRID), e, 5.0)
    assert note.startswith("grating.window_angstrom: 30 would cost about 2")
    assert window_hint(planned(grating=GRID), e, 0.1) == []
    narrow = experiment()
    assert window_hint(planned(), narrow, 5.0) == []
    windowed = {**GRID, "window_angstrom": 30.0}
    assert window_hint(planned(grating=windowed), experiment(WIDE, grating=windowed), 5.0) == []
