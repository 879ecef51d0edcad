"""Elements, marks, dot plots and pictures by themselves."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmseg_dafm.analysis.qualitative import colourise
from mmseg_dafm.experiments.report.markup import COLOURS, SHAPES, draw_mark, join, label_map, marks, photo, tag
from mmseg_dafm.experiments.report.tables import LEFT, RIGHT, axis, domains, panel
from mmseg_dafm.experiments.suites.results import read_folder
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.table import class_table, main_table
from tests.experiments.report.common import fake_suite


@given(st.text(), st.text())
def test_any_text_comes_back_from_elements_and_attributes(text, value):
    seen = []

    class Reader(HTMLParser):
        def handle_starttag(self, name, attributes):
            seen.append((name, attributes))

        def handle_data(self, data):
            seen.append(data)

    reader = Reader()
    reader.feed(tag('p', text, title=value))
    reader.close()
    assert seen[0] == ('p', [('title', value)])
    assert ''.join(seen[1:]) == text


def test_elements_are_not_escaped_twice():
    assert join(tag('b', '<'), '<', None) == '<b>&lt;</b>&lt;'
    assert tag('img', src='a', alt='', hidden=True, class_=None) == '<img src="a" alt="" hidden>'
    assert tag('td', class_='x', data_key=1) == '<td class="x" data-key="1"></td>'


def test_marks_differ_and_equal_titles_share_one():
    count = len(COLOURS) * len(SHAPES)
    found = marks([str(i % count) for i in range(2 * count)])
    assert len(set(found.values())) == len(found) == count
    assert len({draw_mark(mark, 0, 0) for mark in found.values()}) == count


def test_two_methods_of_a_suite_never_share_a_mark(root):
    files = sorted((root / 'configs/suites').glob('*.py'))
    assert len(files) > 10
    for file in files:
        suite = load_suite(str(file))
        titles = [row.title for row in main_table(suite, {}).rows]
        drawn = {draw_mark(mark, 0, 0) for mark in marks(titles).values()}
        assert len(drawn) == len(set(titles)), file.name


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_an_axis_holds_its_values_and_stays_within_percent(one, other):
    low, high = sorted((one / 10, other / 10))
    first, last, step = axis(low, high)
    assert 0 <= first <= low <= high <= last <= 100
    assert first < last
    assert round((last - first) / step) == pytest.approx((last - first) / step)
    assert (last - first) / step <= 6


def results_of(suite):
    return {run.name: [read_folder(folder, 'x') for folder in run.folder] for run in suite.runs}


def test_the_dots_of_a_panel_lie_where_the_means_of_the_table_are(tmp_path):
    suite = fake_suite(tmp_path)
    results = results_of(suite)
    assert domains(suite, results) == ['fog', 'night']
    table = class_table(suite, results, 'fog')
    found = marks(row.title for row in table.rows)
    svg = panel(table, table.columns[0], found)
    # 30, 31 and 40, 41 with deviations of 0.7
    first, last, _ = axis(30.5 - 0.5**0.5, 40.5 + 0.5**0.5)
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"[^>]*stroke="currentColor"', svg)]
    assert places == pytest.approx([LEFT + (RIGHT - LEFT) * (mean - first) / (last - first) for mean in (30.5, 40.5)], abs=0.06)
    spreads = [float(b) - float(a) for a, b in re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)"[^>]*stroke="#', svg)]
    assert spreads == pytest.approx([(RIGHT - LEFT) * 2 * 0.5**0.5 / (last - first)] * 2, abs=0.11)
    assert '>30.5</text>' in svg
    assert 'Nothing yet' not in svg
    assert '&lt;b&gt;&amp;&quot;x&quot;: 40.50 ± 0.71' in svg
    # the class has no pixel anywhere
    assert 'no value' in panel(table, table.columns[3], found)


def decoded(element):
    return Image.open(io.BytesIO(base64.b64decode(re.search(r'base64,([^"]+)"', element)[1])))


def test_a_label_map_has_the_colours_of_the_palette_and_black():
    palette = np.array([[128, 64, 128], [255, 0, 0], [0, 0, 1]], np.uint8)
    ids = np.array([[0, 1, 2, 255], [2, 3, 77, 0]])
    image = decoded(label_map(ids, palette, '"'))
    np.testing.assert_array_equal(np.asarray(image.convert('RGB')), colourise(ids, palette))


def test_a_photo_is_not_wider_than_it_should_be():
    image = decoded(photo(Image.fromarray(np.full((100, 300, 3), 200, np.uint8)), 'x', width=150))
    assert image.size == (150, 50)
    assert abs(np.asarray(image).astype(int) - 200).max() < 4
