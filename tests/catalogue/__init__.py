"""The catalogue of mistakes: what a learner does wrong, and what the engines answer.

One mistake is a program, `programs/<name>.py`. Its docstring is for the reader::

    \"\"\"Two sample statements with one name                a title, as a reader would search for it

    group: Names                                         one of cases.GROUPS
    why: What the engine cannot do with it, and why.
    cure: What to type instead. `code` stands in backticks.
    site: x                                              the site it is about; `-` if it has none
    leaves: loc                                          (optional) parameters that rightly stay
    \"\"\"

Its body is what the learner typed, 15 lines at most, with the names of `cases.PRELUDE` and no
others: the same text runs on pplkit and, the prelude's imports changed, on Pyro. The line that an
error must name ends with the comment `# <- here`; readers do not see it. The value of a last
expression is the outcome, as in a notebook.

Beside it stands our answer, `programs/<name>.txt`: the whole message as a notebook shows it, the
program being cell 1. `ModelError: ...` is an error, `PplkitWarning: ...` a warning, and `accepted:
...` a program that is no mistake here, with its outcome. Pyro's answers are in `pyro.json`.

    python -m tests.catalogue.record NAME ...          record our answers; read them before you
                                                       commit them
    python -m tests.catalogue.record --pyro NAME ...   record Pyro's; without names, of all

Both print what changed.
"""
