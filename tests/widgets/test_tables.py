"""What a function returns: checked, and packed into bytes."""

from __future__ import annotations

import pytest
import torch

from pplwidgets import tables

from .conftest import decoded


def test_columns_alone_are_the_table_data():
    made = tables.checked({"x": torch.arange(3), "y": torch.zeros(3)})
    assert list(made) == ["data"] and list(made["data"]) == ["x", "y"]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (torch.tensor([1.5, float("nan"), float("-inf")]), torch.float32),
        (torch.tensor([1 / 3, 1e300], dtype=torch.float64), torch.float64),
        (torch.tensor([2**40 + 1, -1]), torch.float64),
        (torch.tensor([True, False]), torch.bool),
        (torch.tensor([1.5], dtype=torch.bfloat16), torch.float32),
        (torch.tensor(2.5), torch.float32),
        ([1, 2, 3], torch.float64),
        (torch.zeros(0), torch.float32),
        (torch.ones(3, requires_grad=True), torch.float32),
        (torch.arange(6.0)[::2], torch.float32),
    ],
    ids=str,
)
def test_bytes_hold_what_was_returned(column, kind):
    made = tables.checked({"x": column})
    assert made["data"]["x"].dtype == kind
    described, buffers = tables.packed(made)
    if not described[0]["rows"]:
        assert buffers == [b""]
        return
    got = decoded(described, buffers)["data"]["x"]
    expected = torch.as_tensor(column).detach().reshape(-1).double()
    assert torch.equal(got.double().nan_to_num(7.0), expected.nan_to_num(7.0))


def test_a_column_is_a_copy():
    column = torch.zeros(3)
    made = tables.checked({"x": column})
    column += 1
    assert made["data"]["x"].sum() == 0


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned NoneType"),
        ({}, "returned dict"),
        (torch.zeros(3), "returned Tensor"),
        ({"x": torch.zeros(2, 3)}, r"'x' of table 'data' has shape \(2, 3\)"),
        ({"x": "text"}, "'x' of table 'data' must be a 1-D tensor"),
        ({"x": [[1], [2, 3]]}, "'x' of table 'data' must be a 1-D tensor"),
        ({"x": torch.zeros(2, dtype=torch.complex64)}, "complex"),
        ({3: torch.zeros(2)}, "named by a string"),
        ({"curve": {}}, "'curve' has no columns"),
        ({"curve": {"x": torch.zeros(2)}, "y": torch.zeros(2)}, "beside them, the column 'y'"),
        (
            {"curve": {"x": torch.zeros(3), "y": torch.zeros(4)}},
            "one length, but in table 'curve' x has 3, y has 4",
        ),
    ],
    ids=str,
)
def test_what_are_no_tables_is_refused_with_names(returned, words):
    with pytest.raises((TypeError, ValueError), match=words):
        tables.checked(returned)


def test_numbers_that_cannot_be_drawn_are_told():
    made = tables.checked(
        {"x": torch.tensor([1.0, float("nan"), float("inf")]), "ok": torch.zeros(3)}
    )
    assert tables.remarks(made) == [
        "2 of 3 values of data.x are not finite numbers and are not drawn."
    ]
    assert tables.rows(made["data"])[1:] == [{"x": None, "ok": 0.0}, {"x": None, "ok": 0.0}]
