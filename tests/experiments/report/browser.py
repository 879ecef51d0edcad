"""Open a page in headless Chromium at any width, measure it and take its picture."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
# a window cannot be narrower than 500 pixels, a frame can
FRAME = """<!doctype html><style>html,body{{margin:0;background:#888}}iframe{{border:0;display:block}}</style>
<iframe width="{width}" height="{height}" srcdoc="{page}"></iframe><pre id="measured"></pre>
<script>
addEventListener('load', () => {{
  const frame = document.querySelector('iframe'), page = frame.contentDocument, root = page.documentElement;
  {action}
  const images = [...page.images];
  const seen = [...page.querySelectorAll('body *')].filter(e => e.getClientRects().length && e.textContent.trim());
  const sizes = seen.filter(e => !e.closest('sup')).map(e => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize));
  document.getElementById('measured').textContent = JSON.stringify({{
    width: frame.contentWindow.innerWidth, scroll: root.scrollWidth, height: root.scrollHeight,
    images: images.length, broken: images.filter(image => !image.naturalWidth).length, font: Math.min(...sizes),
    dark: frame.contentWindow.matchMedia('(prefers-color-scheme: dark)').matches,
    result: typeof result === 'undefined' ? null : result,
  }});
  {after}
}});
</script>"""


def find() -> str | None:
    """The browser's path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def look(page: Path, width: int, height: int, folder: Path, action: str = '', scroll: str = '0', dark: bool = False) -> dict:
    """Measure a page; its picture is ``folder/<page>_<width>.png``.

    Args:
        page: The HTML file.
        width: Of the frame, in CSS pixels.
        height: Of the frame.
        folder: Of the frame's file and of the picture.
        action: JavaScript before the measurement; it may declare ``result``.
        scroll: JavaScript that gives the top of the picture.
        dark: Whether the system prefers dark colours.

    Returns:
        What the frame measures, and ``console``: the lines of the console.
    """
    # the frame must not run under the page's policy, which a srcdoc page would not need to carry
    text = html.escape(page.read_text())
    frame = folder / f'{page.stem}_{width}.html'
    after = f'frame.contentWindow.scrollTo({{top: {scroll}, behavior: "instant"}});'
    frame.write_text(FRAME.format(width=width, height=height, page=text, action=action, after=after))
    command = [find(), '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--enable-logging=stderr']
    command += [f'--user-data-dir={folder / "profile"}', f'--window-size={max(width, 500)},{height + 120}']
    command += ['--force-dark-mode'] if dark else []
    picture = frame.with_suffix('.png')
    for last in ('--dump-dom', f'--screenshot={picture}'):
        done = subprocess.run([*command, last, frame.as_uri()], capture_output=True, text=True, timeout=120)
        if last == '--dump-dom':
            measured = json.loads(html.unescape(re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
            measured['console'] = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
    measured['picture'] = picture
    return measured
