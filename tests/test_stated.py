from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.build import stated

HERE = Path("05_here.ipynb")


def shows(*texts, kind="text/plain"):
    return [new_output("stream", text=t) if kind == "stream" else new_output("display_data", {kind: t}) for t in texts]


def notebook(sentence, *texts, source="", kind="text/plain"):
    cell = new_code_cell(source, outputs=shows(*texts, kind=kind))
    return new_notebook(cells=[new_markdown_cell("# 05"), cell, new_markdown_cell(sentence)])


def found(nb, every=(HERE,)):
    return list(stated.problems(nb, HERE, list(every)))


@pytest.mark.parametrize(
    ("sentence", "texts"),
    [
        ("From 593 to 1,537 artifacts, 9 of them dark.", ["593", "1537"]),
        ("1,537 and 0.85; a minus counts as -1.4.", ["1,537 [0.846, 0.851]", "-1.38"]),
        ("It has 47 %, then 26 %, and 5% of all.", ["| 0.4731 | 0.2600 |", "0.049"]),
        ("Of 80 to 95 % nothing is left.", ["0.803 0.95"]),
        ("At 47.0 %.", ["47.04"]),
        ("Small: 0.0005.", ["5e-04"]),
    ],
)
@pytest.mark.parametrize("kind", ["text/plain", "text/html", "stream"])
def test_what_is_shown_may_be_stated_rounded(sentence, texts, kind):
    assert found(notebook(sentence, *texts, kind=kind)) == []


@pytest.mark.parametrize(
    ("sentence", "text", "number"),
    [
        ("There are 593.", "1537", "593"),
        ("It is 0.84.", "0.851", "0.84"),
        ("It is 0.850.", "0.8562", "0.850"),
        ("It is 47.", "0.47", "47"),  # no percentage
        ("It is 47 %.", "0.4762", "47"),
        ("Up by 5 %.", "0.06", "5"),
        ("1,537 (n).", "537", "1,537"),
        ("**What we see.** Of 48 none.", "<td>49</td>", "48"),
    ],
)
def test_what_nothing_shows_is_found(sentence, text, number):
    (problem,) = found(notebook(sentence, text))
    assert problem.startswith(f"cell 2 states {number}, which nothing shows")


@pytest.mark.parametrize(
    "text",
    [
        "In 3 of 9 layers (12 minutes), with 95 % bootstrap intervals.",
        "See notebook 77, notebooks 60 to 65, section 12 and Figure 15b (Karras et al. 2018).",
        "At 16x16 and 32 x 32 of `x[123]` with $\\tau = 0.005$ and 10^-3 in StyleGAN2-128.",
        "| Time | 110 s |\n|---|---|",
        "# 88 - A title\n\n```python\nx = 12345\n```",
        "<details><summary>Answer</summary>\n\nIt is 0.77.\n\n</details>",
        "[77](77_other.ipynb) and ![Key](../docs/figures/55.png)",
        "previous: [77 other](77_other.ipynb) <!-- navigation 99 -->",
    ],
)
def test_what_is_no_result_is_not_looked_at(text):
    assert found(notebook(text)) == []


def test_settings_may_stand_in_the_code_as_they_are():
    source = "ids = range(900, 1400)\nPORTION, N = 0.2, env.scaled(2000, 60)"
    assert found(notebook("Of ids 900 to 1,399, 20 % of 2,000.", source=source)) == [
        "cell 2 states 1,399, which nothing shows: correct it, or say why: <!-- stated: 1,399: ... -->"
    ]
    assert len(found(notebook("It is 0.84.", source="x = 0.8437"))) == 1  # code does not round


def test_a_comment_with_a_reason_excuses_what_it_lists_and_no_more():
    nb = notebook("The paper has 117.9 and 1,131 here, then 12.\n\n<!-- stated: 117.9, 1,131: Table 4 -->")
    assert found(nb) == ["cell 2 states 12, which nothing shows: correct it, or say why: <!-- stated: 12: ... -->"]
    nb = notebook("The paper has 117.9.\n\n<!-- stated: 117.9 -->")  # no reason
    assert len(found(nb)) == 1


@pytest.mark.parametrize(("text", "excused"), [("It is 12.", "13"), ("It is 7.", "7")])
def test_a_comment_that_excuses_nothing_is_found(text, excused):
    nb = notebook(f"{text}\n\n<!-- stated: {excused}: no reason -->", "12")
    assert found(nb) == [f"cell 2 excuses {excused}, which it does not state: take it out of the comment"]


def test_a_comment_names_no_other_source(tmp_path):
    other = tmp_path / "03_scores.ipynb"
    nbformat.write(notebook("", "11.8"), other)
    nb = notebook("It is 11.8, and 5.1.\n\n<!-- stated: 5.1: as in notebook 03 -->")
    assert [problem[:18] for problem in found(nb, [HERE, other])] == ["cell 2 states 11.8"]


def test_what_another_notebook_shows_may_be_stated_where_it_is_named(tmp_path):
    other = tmp_path / "03_scores.ipynb"
    nbformat.write(notebook("", "11.8"), other)
    for named in ("notebook 03", "Notebook 03", "[scores](03_scores.ipynb)", "notebooks 01 to 03"):
        assert found(notebook(f"As in {named}: 11.8."), [HERE, other]) == []
    assert len(found(notebook("As in notebook 04: 11.8."), [HERE, other])) == 1


def test_figures_without_numbers_leave_nothing_to_check():
    assert found(notebook("It is 0.84.", "<Figure size 720x320 with 1 Axes>")) == []
    assert len(found(notebook("It is 0.84.", "Figure.\n0.7 0.8"))) == 1
