"""The live tariff, learnt from small files."""

from __future__ import annotations

import pytest
import responses
from tests.clock import Clocked

from doubleword.pricing.live import all_live_prices
from doubleword.server.api import Api
from doubleword.server.errors import ApiError


@responses.activate
def test_a_model_whose_name_is_no_text_crashes_nothing() -> None:
    """Half an emoji, as servers hand on what somebody typed: the server's refusal is what is told."""
    responses.post("https://a.test/v1/files", status=400, body="Line 1: Missing 'model' field in request body")
    system = Clocked()
    with pytest.raises(ApiError, match="Line 1"):
        all_live_prices(Api("https://a.test/v1", "k", system), system, ["m\ud83d"], ["24h"])
