from __future__ import annotations

import pytest

from townhall.serve.counters import Counters


@pytest.mark.parametrize(
    ("statuses", "field"),
    [
        ((100, 101), "informational"),
        ((200, 204, 299), "successful"),
        ((301, 304), "redirected"),
        ((400, 404, 499), "refused_client"),
        ((500, 503, 599), "failed_server"),
    ],
)
def test_answers_are_counted_by_their_class(statuses: tuple[int, ...], field: str) -> None:
    counters = Counters()
    for status in statuses:
        counters.answered(status)
    assert getattr(counters, field) == len(statuses)
    assert sum(getattr(counters, name) for name in counters.__struct_fields__) == len(statuses)
