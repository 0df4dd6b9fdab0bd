"""What can be studied: the rendered churches with exact label maps, folders of photos, generators with planted defects
whose truth is known, and stand-ins for what a domain lacks. `helpers.domains` is its door; from outside also
`churches.render` and `planted.plant`.
"""
