"""Programs built on all the rest: suites of runs, sweeps, the report page, synthetic images. Tools alone import them."""
