"""Certificates for the tests of gateways."""

from __future__ import annotations

import pytest

from tests.mobility.gateway.world import Files, make_files


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("certificates"))
