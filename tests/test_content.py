"""Content of responses: JSON."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from resource_server.content import json_bytes


class TestJson:
    def test_a_value_that_contains_itself(self) -> None:
        inner: list[object] = []
        inner.append({"inner": inner})
        with pytest.raises(ValueError, match="contains itself"):
            json_bytes(inner)
        # What failed leaves nothing behind.
        assert json_bytes([[1], {"a": 2}]) == b'[[1],{"a":2}]'

    def test_one_value_in_many_threads(self) -> None:
        value = [{"text": "ä" * 50, "number": number} for number in range(500)]
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(json_bytes, [value] * 40))) == 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
    def test_what_json_has_no_number_for(self, value: object) -> None:
        with pytest.raises(ValueError, match="JSON"):
            json_bytes(value)

    def test_what_json_has_no_type_for(self) -> None:
        with pytest.raises(TypeError, match="set"):
            json_bytes({"a": {1}})
