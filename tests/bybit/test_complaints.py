from __future__ import annotations

import logging

import pytest

from wld.bybit.complaints import Complaints


def test_a_kind_is_told_once_a_minute_with_the_number_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    complaints = Complaints(logging.getLogger("wld.test"), lambda: now[0])
    complaints.tell_all([("json", "json: one"), ("json", "json: two"), ("binary", "binary: one"), ("json", "json: 3")])
    now[0] += 59.9
    complaints.tell("json", "json: four")
    now[0] += 0.1
    complaints.tell("json", "json: five")
    assert caplog.messages == ["json: one", "binary: one", "json: five (and 3 more of this kind)"]
