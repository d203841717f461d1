"""A real Chromium against a real JupyterLab and against the built book.

`watch` sees what a page complains of and keeps it on this machine; `servers` starts JupyterLab and serves
the book; `notebook` and `figure` act on a page as a reader does. `conftest` turns them into fixtures.
Set PPLKIT_PICTURES to a folder to keep a picture of every page that the tests look at.
"""
