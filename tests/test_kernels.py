import os
import time

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.build.kernels import FAILURES, ask, execute, kernel, peak_bytes


def gone(pid, patience=60):
    """Wait until a process has ended; False if it has not."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_kernel_ends_with_its_notebook():
    nb = new_notebook(cells=[new_code_cell("import os; print(os.getpid())"), new_code_cell("print(os.environ['X'])")])
    with kernel(nb, X="asked for") as client:
        assert execute(client, nb) > 0 and peak_bytes(client) > 2**20
        pid = int(nb.cells[0].outputs[0].text)
        os.kill(pid, 0)  # it lives
        assert ask(client, "print(os.getpid())") == f"{pid}\n" and len(nb.cells) == 2
    assert nb.cells[1].outputs[0].text == "asked for\n" and gone(pid)


def test_a_kernel_ends_although_a_cell_fails():
    nb = new_notebook(cells=[new_code_cell("import os; print(os.getpid())"), new_code_cell("1 / 0")])
    with pytest.raises(FAILURES, match="ZeroDivisionError"), kernel(nb) as client:
        execute(client, nb)
    assert gone(int(nb.cells[0].outputs[0].text))
