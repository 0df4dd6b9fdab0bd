"""What the widgets compute and draw, without widgets, and so testable; and the parts that every view is made of. Only
`views`, `raters` and `painter` import ipywidgets. `helpers.widgets` and `helpers.show` are its doors; from outside
nothing.
"""
