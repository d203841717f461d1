"""The figures of the course, one module each: an idea that a reader gets by dragging."""
