"""The page in headless Chromium, on a phone and on a wide screen."""

import numpy as np
import pytest
from PIL import Image

from mmseg_dafm.experiments.report.page import write_report
from tests.experiments.report import browser
from tests.experiments.report.common import fake_suite, toy_suite

pytestmark = pytest.mark.skipif(browser.find() is None, reason=f'needs one of {", ".join(browser.NAMES)} on PATH')
UNFOLD = 'page.querySelectorAll("details").forEach(part => part.open = true);'


@pytest.fixture
def page(root, tmp_path):
    suite = toy_suite(root, tmp_path)
    Image.new('RGB', (2000, 700), 'white').save(tmp_path / 'run0/fisher_sensitivity.png')
    return write_report(suite, tmp_path / 'out', images=1)


@pytest.mark.slow
def test_nothing_sticks_out_and_all_pictures_are_decoded(page, tmp_path):
    for width, height, dark in ((360, 740, False), (1600, 1000, True)):
        folder = tmp_path / f'browser{width}'
        folder.mkdir()
        seen = browser.look(page, width, height, folder, UNFOLD, dark=dark)
        assert seen['width'] == width
        assert seen['scroll'] <= width
        assert seen['console'] == []
        # five images with label and two predictions, one plot
        assert (seen['images'], seen['broken']) == (21, 0)
        assert seen['font'] >= 15
        assert seen['dark'] == dark
        corner = np.asarray(Image.open(seen['picture']).convert('L'))[5, 5]
        assert corner < 60 if dark else corner > 200


def test_a_phone_shows_whole_numbers_beside_the_methods(page, tmp_path):
    action = """
      const box = page.querySelector('#results .scroll'), wide = cell => cell.getBoundingClientRect().width;
      const cells = [...box.querySelectorAll('td.number')];
      const result = {box: box.clientWidth, method: wide(box.querySelector('tbody th')), number: Math.max(...cells.map(wide)),
                      position: frame.contentWindow.getComputedStyle(box.querySelector('tbody th')).position};
    """
    seen = browser.look(page, 360, 740, tmp_path, action)['result']
    assert seen['position'] == 'sticky'
    assert seen['box'] - seen['method'] >= seen['number'] > 100


@pytest.mark.slow
def test_a_phone_shows_pictures_at_their_own_size_in_a_box_that_scrolls(page, tmp_path):
    action = (
        UNFOLD
        + """
      const picture = page.querySelector('.pictures img'), box = picture.parentElement;
      const result = [picture.clientWidth, box.scrollWidth > box.clientWidth, box.clientWidth];
    """
    )
    width, scrolls, box = browser.look(page, 360, 740, tmp_path, action)['result']
    assert (width, scrolls) == (1400, True)
    assert box <= 360
    width, scrolls, box = browser.look(page, 1600, 740, tmp_path, action)['result']
    assert (width <= box, scrolls) == (True, False)


def test_a_click_sorts_a_table_and_another_reverses_it(tmp_path):
    page = write_report(fake_suite(tmp_path), tmp_path / 'out', images=0)
    action = """
      const table = page.querySelector('table.sortable'), button = table.tHead.rows[0].cells[2].querySelector('button');
      const rows = () => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[2].textContent) || 0);
      const result = [rows()];
      for (let i = 0; i < 2; i++) { button.click(); result.push(rows()); }
    """
    seen = browser.look(page, 800, 600, tmp_path, action)
    assert seen['console'] == []
    start, down, up = seen['result']
    assert down == sorted(start, reverse=True)
    # what was not run stays at the end
    assert up == [*sorted(value for value in start if value), 0]


def test_a_broken_page_would_be_noticed(tmp_path):
    page = tmp_path / 'broken.html'
    page.write_text(
        '<!doctype html><p style="width:700px;font-size:9px">wide</p><img src="data:image/png;base64,AAAA"><script>f()</script>'
    )
    seen = browser.look(page, 360, 740, tmp_path)
    assert seen['scroll'] >= 700
    assert seen['broken'] == 1
    assert seen['font'] == 9
    assert 'f is not defined' in ' '.join(seen['console'])
