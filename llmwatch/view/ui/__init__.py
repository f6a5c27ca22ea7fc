"""The local page and the report: one front end over a `View`, in a browser.

``static/`` is the front end: plain scripts, styles, and uPlot for charts; nothing is built.
`answers` is what it can ask. `app` answers over HTTP, `report` writes all answers into one file.
"""
