"""The toy suite's runs on the tiny VPD."""

import pytest

from tests.experiments.suites.toy_runs import check_runs


@pytest.mark.slow
def test_every_run_trains_from_where_the_suite_says_and_gives_the_columns(root, tmp_path):
    check_runs(root, tmp_path, 'vpd')
