"""Following runs of a table."""

from concurrent.futures import Future

from mmseg_dafm.tool_runs import follow


def test_failures_are_told_and_the_rest_goes_on(capsys):
    futures = {(0, 'a'): Future(), (0, 'b'): Future(), (1, 'a'): Future()}
    futures[0, 'a'].set_result('x')
    futures[0, 'b'].set_exception(RuntimeError('train.py stopped'))
    futures[1, 'a'].set_result('y')
    ended = []
    assert follow(futures, lambda *job: ended.append(job)) == ['b seed 0: train.py stopped']
    assert ended == list(futures)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith('[2/3] b seed 0: train.py stopped; 0 min')
    assert lines[2].endswith('at most 0 left')
