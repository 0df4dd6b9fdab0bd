"""Turn an executed notebook into one page that a browser shows whole without a network, formulas included."""

import copy
import logging
import re

from latex2mathml.converter import convert

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\s](?:[^$\n]*[^$\s])?)\$(?!\$)", re.S)
SCRIPT = re.compile(r"<script\b.*?</script>", re.S)  # libraries that it would fetch for what a still page does not have


def page(nb, title):
    """Return the HTML of a notebook; formulas are MathML, which browsers draw by themselves."""
    from nbconvert import HTMLExporter

    logging.getLogger("traitlets").setLevel(logging.ERROR)  # nbconvert's remarks on alternative texts
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = with_mathml(cell.source)
    html, _ = HTMLExporter().from_notebook_node(nb, {"metadata": {"name": title}})
    html = SCRIPT.sub("", html)
    return re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', html)


def with_mathml(text):
    """Replace the formulas of a markdown text, $...$ and $$...$$, by MathML; code stays as it is."""
    parts = CODE.split(text)
    parts[::2] = [FORMULA.sub(_mathml, part) for part in parts[::2]]
    return "".join(parts)


def _mathml(match):
    block = match["block"]
    # On one line: markdown would end a table's row, or a paragraph, within it.
    return " ".join(convert(block or match["inline"], display="block" if block else "inline").split("\n"))
