"""Executing cells side by side."""

import threading
import time

import pytest

from mmseg_dafm.experiments.suites.execute import Progress, run_all


def test_needs_come_first_slots_are_shared_and_failures_stop_only_what_needs_them():
    needs = {'b': ['a'], 'd': ['c'], 'e': ['d'], 'f': ['elsewhere']}
    order, places, lines, lock = [], [], {}, threading.Lock()

    def execute(cell, slot):
        with lock:
            order.append(cell)
            places.append(slot)
            assert len(places) <= 2, 'more cells than slots at the same time'
            assert len(set(places)) == len(places), 'two cells in one slot'
        time.sleep(0.02)
        with lock:
            places.remove(slot)
        if cell == 'c':
            raise RuntimeError('out of memory')
        return True

    failed = run_all('bcdeaf', needs, execute, ['x', 'y'], lambda cell, problem: lines.update({cell: problem}), poll=0.05)
    assert order.index('a') < order.index('b')
    assert sorted(order) == ['a', 'b', 'c', 'f']
    assert failed == ['c', 'd', 'e']
    assert lines == dict(
        a='', b='', f='', c='out of memory', d='not started, because c failed', e='not started, because d failed'
    )


def test_two_slots_are_really_used_at_once():
    barrier = threading.Barrier(2, timeout=10)
    assert run_all([0, 1], {}, lambda *_: barrier.wait() >= 0, [None, None], lambda *_: None) == []


@pytest.mark.parametrize('attempts', [1, 3])
def test_a_cell_of_another_process_is_waited_for_and_its_followers_too(attempts):
    tried, ended = [], []

    def execute(cell, slot):
        tried.append(cell)
        return cell != 'a' or tried.count('a') > attempts

    assert run_all('ab', {'b': ['a']}, execute, [None], lambda cell, _: ended.append(cell), poll=0.02) == []
    assert tried == ['a'] * (attempts + 1) + ['b']
    assert ended == ['a', 'b']


def test_progress_tells_count_time_and_what_is_left():
    now = iter([0.0, 60.0, 60.0, 240.0]).__next__
    progress = Progress(4, now)
    assert progress.line(('lp', 0), '') == '[1/4] lp seed 0: done; 1.0 min, about 3 left'
    # what was not started says nothing about the time of a run
    assert progress.line(('x', 1), 'not started, because y') == '[2/4] x seed 1: not started, because y; 1.0 min, about 2 left'
    assert progress.line(('ft', 0), 'died') == '[3/4] ft seed 0: died; 4.0 min, about 2 left'
