"""Parts that the charts of the course share."""

from __future__ import annotations

from collections.abc import Sequence

# Told apart by colour and, where colours cannot be, by these.
DASHES = ([1, 0], [6, 4], [2, 3], [10, 3, 2, 3])


def table(name: str):
    """A chart over one of the tables that a figure's function returns.

    >>> table("curve").data.name
    'curve'
    """
    import altair as alt

    return alt.Chart(alt.NamedData(name))


def axis(column: str, domain: Sequence[float] | None, title: str, way: str = "x", **settings):
    """A position on an axis that holds still.

    >>> axis("z", (-4, 4), "z").to_dict()["scale"]
    {'domain': [-4, 4], 'nice': False}
    """
    import altair as alt

    made = (alt.X if way == "x" else alt.Y)(f"{column}:Q")
    made = made.scale(domain=list(domain), nice=False) if domain else made.scale(nice=False)
    return made.axis(**settings).title(title) if settings else made.title(title)


def told_apart(names: Sequence[str], dashes: Sequence | None = None, legend: bool = True) -> dict:
    """Encodings of a column `curve` by colour and by dash, in this order.

    >>> sorted(told_apart(["prior", "posterior"]))
    ['color', 'strokeDash']
    """
    import altair as alt

    names, dashes = list(names), [list(dash) for dash in (dashes or DASHES)][: len(names)]
    color = alt.Color("curve:N").scale(domain=names).title(None)
    dash = alt.StrokeDash("curve:N").scale(domain=names, range=dashes).title(None)
    if not legend:
        color, dash = color.legend(None), dash.legend(None)
    return {"color": color, "strokeDash": dash}


def called(chart, name: str):
    """A chart with the column `curve`, which holds this name in every row.

    >>> called(table("prior"), "prior").transform[0].calculate
    "'prior'"
    """
    return chart.transform_calculate(curve=f"'{name}'")


TICK = {"shape": "stroke", "angle": 90, "size": 130, "strokeWidth": 1.4, "color": "currentColor"}

_INKS = ["first", "second", "third", "fourth"]


def inked(chart, place: int):
    """A mark in a colour of the theme, light or dark; what else tells it apart is its maker's.

    >>> inked(table("curve").mark_area(), 0).encoding.color.to_dict()["field"]
    'ink'
    """
    import altair as alt

    chart = chart.transform_calculate(ink=f"'{_INKS[place]}'")
    return chart.encode(color=alt.Color("ink:N").scale(domain=_INKS).legend(None))


def line(chart, place: int, width: float = 2.25, **settings):
    """A curve in one of the theme's colours, with the dash that goes with it.

    >>> line(table("curve"), 1).encoding.strokeDash.to_dict()
    {'value': [6, 4]}
    """
    import altair as alt

    marked = chart.mark_line(strokeWidth=width, clip=True, **settings)
    return inked(marked, place).encode(strokeDash=alt.value(list(DASHES[place])))


def dot(chart, place: int, shape: str = "circle", size: int = 70, **settings):
    """A filled point in one of the theme's colours.

    >>> dot(table("points"), 0).encoding.shape.to_dict()
    {'value': 'circle'}
    """
    import altair as alt

    marked = chart.mark_point(filled=True, size=size, **{"opacity": 1, **settings})
    return inked(marked, place).encode(shape=alt.value(shape))
