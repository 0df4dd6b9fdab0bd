import re
import xml.etree.ElementTree as ElementTree

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.build import notebook_rules, offline_pages

MATHML = "{http://www.w3.org/1998/Math/MathML}"


def formulas(text):
    return [ElementTree.fromstring(found) for found in re.findall(r"<math.*?</math>", text, re.S)]


def said(formula):
    return "".join(formula.itertext())


def test_formulas_become_mathml_on_one_line():
    text = offline_pages.with_mathml("The unit $h_{l,u}$ fires where\n\n$$A_u(z) >\nT_u$$\n\n| $D_l$ | mean |")
    unit, block, cell = formulas(text)
    subscript = unit.find(f".//{MATHML}msub")
    assert [said(part) for part in subscript] == ["h", "l,u"]
    assert (unit.get("display"), block.get("display")) == ("inline", "block")
    assert said(block) == "Au(z)>Tu"
    assert text.splitlines()[-1].startswith("| <math") and text.splitlines()[-1].endswith("</math> | mean |")
    assert all(math.count("\n") == 0 for math in re.findall(r"<math.*?</math>", text, re.S))


@pytest.mark.parametrize("text", ["`f$a$`", "```\ncost=$1$\n```", r"a \$x\$ escaped", "from $ 3 to $ 4", "$5"])
def test_code_and_money_stay_as_they_are(text):
    assert offline_pages.with_mathml(text) == text


@pytest.mark.parametrize("path", notebook_rules.paths(), ids=lambda path: path.stem)
def test_every_formula_of_the_suite_is_drawn(path):
    nb = nbformat.read(path, as_version=4)
    prose = "".join(offline_pages.CODE.sub("", cell.source) for cell in nb.cells if cell.cell_type == "markdown")
    assert not re.search(r"\\[a-z]+", offline_pages.with_mathml(prose)), "a command that the converter does not know"
    assert "$" not in offline_pages.with_mathml(prose)


def test_page_needs_no_network_and_leads_to_other_pages():
    cells = [
        new_markdown_cell("# Title\n\nnext: [01 d values](01_d_values.ipynb)\n\n| Symbol |\n|---|\n| $\\lambda$ |"),
        new_code_cell("price = '$a$'"),
    ]
    nb = new_notebook(cells=cells)
    html = offline_pages.page(nb, "00_start_here")
    assert "<script" not in html and not re.search(r'(?:src|href)="(?:https?:)?//', html)
    assert 'href="01_d_values.html"' in html and "$a$" in html and "<title>00_start_here</title>" in html
    assert re.search(r"<td[^>]*><math[^>]*>.*λ.*</math></td>", html)
    assert nb.cells[0].source.endswith("$\\lambda$ |")  # what was given is not changed
