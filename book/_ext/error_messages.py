"""Where a cell fails on purpose, show what a reader is to read: the error's name and message.

The frames above it show the files of the machine that built the book, and change with every release
of the engine. JupyterLab, where one may want to step through them, shows them as ever.
"""

import re

from docutils import nodes


def message_of(traceback: str) -> str:
    """The end of a traceback, from the line on that names the error.

    >>> message_of("Traceback (most recent call last)\\nCell In[1], line 1\\nValueError: no\\n  why: x")
    'ValueError: no\\n  why: x'
    """
    lines = traceback.rstrip().split("\n")
    for start in range(len(lines) - 1, -1, -1):
        if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b", lines[start]):
            return "\n".join(lines[start:])
    return traceback


def shorten(app, doctree: nodes.document) -> None:
    for block in doctree.findall(nodes.literal_block):
        if "traceback" in block["classes"]:
            text = message_of(block.astext())
            block.rawsource = text
            block.children = [nodes.Text(text)]


def setup(app):
    app.connect("doctree-read", shorten)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
