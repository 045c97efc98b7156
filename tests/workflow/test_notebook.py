"""The notebook of the tutorials runs: check, a whole run and figures, from Python."""

from __future__ import annotations

import json
import os

import pytest
from support.campaign import REPOSITORY
from support.notebook import execute

PAGE = REPOSITORY / "docs" / "tutorials" / "notebook.ipynb"


def text_of(cell) -> str:
    return "".join(
        "".join(output.get("text", output.get("data", {}).get("text/plain", []))) for output in cell["outputs"]
    )


def stored():
    return json.loads(PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = stored()
    folder = tmp_path_factory.mktemp("a notebook")
    execute(notebook, folder)
    if os.environ.get("STEMPHONY_FIGURES"):
        PAGE.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return notebook, folder


def test_every_cell_of_the_notebook_runs(executed):
    notebook, folder = executed
    assert (folder / "results/srtio3_small/stem.nc").is_file()
    shown = [output["output_type"] for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert shown.count("display_data") == 5
    assert (folder / "haadf.pdf").read_bytes().startswith(b"%PDF")


def test_the_stored_notebook_shows_what_its_cells_show(executed):
    """Kinds of outputs, because times and noise of text differ. STEMPHONY_FIGURES=1 renews them."""
    notebook, _ = executed

    def kinds(of):
        return [[output["output_type"] for output in cell.get("outputs", [])] for cell in of["cells"]]

    assert kinds(stored()) == kinds(notebook)


def test_a_run_shows_its_progress_and_a_mistake_its_message(executed):
    notebook, _ = executed
    texts = [text_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert "2/2 jobs" in "\n".join(texts)
    assert any("probe.energy_kv" in text and "energy_kev" in text for text in texts), texts


def test_a_failed_run_raises_what_it_said(executed):
    import stemphony as st

    _, folder = executed
    crystal = (folder / "srtio3.cif").read_text()
    (folder / "srtio3.cif").write_text("nothing\n")
    try:
        with pytest.raises(st.StemphonyError, match=r"(?s)exit status 1:.*srtio3\.cif"):
            st.run(folder / "srtio3.yaml", cores=1, directory=folder)
    finally:
        (folder / "srtio3.cif").write_text(crystal)
