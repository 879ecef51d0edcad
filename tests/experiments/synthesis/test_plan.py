"""The plan: shares of processes, domains in turn, seeds."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseg_dafm.experiments.synthesis.layouts import Layout
from mmseg_dafm.experiments.synthesis.plan import plan, seed_of

DOMAINS = ['fog', 'night', 'rain', 'snow']


def layouts_of(count):
    return [Layout(f'city_{i:06d}_000019', 'city', Path(f'/labels/{i}.png')) for i in range(count)]


@given(count=st.integers(0, 9), world=st.integers(1, 6), per_layout=st.sampled_from([None, 1, 2, 3]))
def test_shares_are_disjoint_even_and_complete(count, world, per_layout):
    everything = plan(layouts_of(count), DOMAINS, Path('out'), per_layout=per_layout)
    shares = [plan(layouts_of(count), DOMAINS, Path('out'), rank, world, per_layout) for rank in range(world)]
    assert len(everything) == count * (per_layout or 4)
    assert sorted(job for share in shares for job in share) == sorted(everything)
    assert len({job.target for job in everything}) == len(everything)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize('per_layout', [1, 2, 3])
def test_domains_take_turns(per_layout):
    jobs = plan(layouts_of(8), DOMAINS, Path('out'), per_layout=per_layout)
    assert Counter(job.domain for job in jobs) == dict.fromkeys(DOMAINS, 2 * per_layout)
    assert set(Counter(job.layout for job in jobs).values()) == {per_layout}


def test_target_keeps_the_folder_of_the_label():
    (job,) = plan(layouts_of(1), ['night'], Path('out'))
    assert job.target == Path('out/night/city/city_000000_000019.png')


def test_refusals():
    with pytest.raises(ValueError, match='--rank must lie between 0 and --world-size - 1 = 1, got 2'):
        plan(layouts_of(1), DOMAINS, Path('out'), 2, 2)
    for wrong in (0, 5):
        with pytest.raises(ValueError, match=f'--domains-per-layout must lie between 1 and .* 4; got {wrong}'):
            plan(layouts_of(1), DOMAINS, Path('out'), per_layout=wrong)


def test_seeds_differ_by_each_argument_and_never_change():
    seeds = {seed_of(layout, domain, seed) for layout in 'abcde' for domain in DOMAINS for seed in range(5)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    # the first eight bytes, halved, of: printf '0/night/aachen_000000_000019' | sha256sum
    assert seed_of('aachen_000000_000019', 'night', 0) == 0x78FA11ADD26D3A47 >> 1
