"""What becomes of a page's code when the page is published."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from astroformer.reproduce import stage

TEXT = new_output("execute_result", {"text/plain": "1"}, execution_count=1)
GLUED = new_output("display_data", {"application/papermill.record/text/plain": "'1'"})
STREAM = new_output("stream", name="stdout", text="a line")


@pytest.mark.parametrize(
    ("tags", "outputs", "after"),
    [
        ([], [TEXT], ["hide-input"]),
        ([], [STREAM], ["hide-input"]),
        ([], [GLUED, TEXT], ["hide-input"]),
        ([], [], ["remove-input"]),
        ([], [GLUED], ["remove-input"]),
        (["hide-input"], [], ["remove-input"]),
        (["hide-input", "optional"], [TEXT], ["optional", "hide-input"]),
        (["show-input"], [TEXT], ["show-input"]),
        (["remove-cell"], [TEXT], ["remove-cell"]),
        (["remove-input"], [TEXT], ["remove-input"]),
        (["injected-parameters", "hide-input"], [], ["injected-parameters", "hide-input"]),
    ],
)
def test_code_stands_behind_a_click_and_only_above_what_it_shows(tags, outputs, after):
    cell = new_code_cell("1", metadata={"tags": list(tags)}, outputs=outputs)
    notebook = new_notebook(cells=[cell])
    stage._fold_code(notebook)
    assert notebook.cells[0].metadata["tags"] == after
    nbformat.validate(notebook)


@pytest.mark.parametrize(("columns", "after"), [(11, []), (12, ["full-width"])])
def test_a_table_of_many_columns_may_lie_over_the_margin(columns, after):
    row = "<tr>" + "<th>a</th>" * columns + "</tr>"
    table = f"<table><thead>{row}</thead><tbody>{row}</tbody></table>"
    shown = new_output("execute_result", {"text/html": table}, execution_count=1)
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[shown])])
    stage._widen(notebook)
    assert notebook.cells[0].metadata.get("tags", []) == after
