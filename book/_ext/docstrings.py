"""The engine's docstrings, written in plain text with `code` in backticks, as reStructuredText."""

import re

CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def as_restructured_text(app, what, name, obj, options, lines):
    """Backticks become literals; a bar is a bar. Examples stay as they are."""
    example = False
    for i, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if example:
            continue
        parts = re.split(r"(`+[^`\n]+`+)", line)
        parts[::2] = [part.replace("|", r"\|").replace("*", r"\*") for part in parts[::2]]
        lines[i] = CODE.sub(r"``\1``", "".join(parts))


def setup(app):
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
