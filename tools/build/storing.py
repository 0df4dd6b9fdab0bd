"""Make of an executed notebook what is stored: text and pictures that a reader sees, as small as is needed."""

import base64
from io import BytesIO

import nbformat
from PIL import Image

import helpers
from tools.build import notebook_rules as rules

KEPT = ("text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/svg+xml")


def clean(nb, replaced):
    """Keep of an executed notebook only what a reader sees: text and pictures, no state, times, paths or versions.

    replaced: {machine path: what to write instead}.
    """
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "helpers": {"version": helpers.__version__, "source_sha256": rules.source_sha256(nb)},
        }
    )
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")})
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_cleaned, cell.outputs) if output]
            for output in cell.outputs:
                _rename(output, replaced)


def _cleaned(output):
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if output.output_type == "error":  # the frames name files of this machine
        output.traceback = [f"{output.ename}: {output.evalue}"]
        return output
    if any("widget" in kind for kind in output.data):
        return None  # the static picture above it stays
    output.data = {kind: data for kind, data in output.data.items() if kind in KEPT}
    output.metadata = {}
    return output if output.data else None


def _rename(output, replaced):
    for old, new in replaced.items():
        if output.output_type == "stream":
            output.text = output.text.replace(old, new)
        elif output.output_type == "error":
            output.evalue = output.evalue.replace(old, new)
            output.traceback = [line.replace(old, new) for line in output.traceback]
        else:
            texts = {kind: text.replace(old, new) for kind, text in output.data.items() if kind != "image/png"}
            output.data.update(texts)


def shrink(nb, budget=rules.BUDGET):
    """Store pictures as small as is needed: all without loss, then the largest ones in 256 colours, then in 128."""
    shown = [(rules.tagged(cell, "key"), output) for cell in rules.code_cells(nb) for output in cell.outputs]
    pictures = [(key, output) for key, output in shown if "image/png" in output.get("data", {})]
    for _, output in pictures:
        _recode(output, lambda picture: picture)
    for colours in (256, 128):
        for _, output in sorted(pictures, key=lambda pair: (pair[0], -len(pair[1].data["image/png"]))):  # the key last
            if len(nbformat.writes(nb)) <= 0.97 * budget:
                return
            # No dithering: its noise would cost more bytes than the colours save.
            _recode(output, lambda picture, colours=colours: picture.quantize(colours, dither=Image.Dither.NONE))


def _recode(output, change):
    before = base64.b64decode(output.data["image/png"])
    picture = Image.open(BytesIO(before)).convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    buffer = BytesIO()
    change(Image.alpha_composite(page, picture).convert("RGB")).save(buffer, "PNG", optimize=True)
    if len(buffer.getvalue()) < len(before):
        output.data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
