"""How the page looks, and how its tables are sorted."""

STYLE = """
:root{color-scheme:light dark;--page:#fff;--soft:#f4f6f8;--line:#d5dbe1;--text:#1a2027;--weak:#5b6671;--accent:#0b5ea8;
--best:#dcebf8;--paper:#6a4a00;--warn:#fff4dc;--warn-line:#b77900}
@media (prefers-color-scheme:dark){:root{--page:#12161b;--soft:#1b2128;--line:#343d47;--text:#e4e8ec;--weak:#9aa6b2;
--accent:#7dbcf5;--best:#173a58;--paper:#e6bd6a;--warn:#33290f;--warn-line:#d39a2a}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
header,main{max-width:100rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.75rem}
main{padding-bottom:4rem}
h1{font-size:clamp(1.5rem,4vw,2.25rem);line-height:1.2;margin:0 0 .5rem;text-wrap:balance}
h2{font-size:1.4rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:2px solid var(--line)}
h3{font-size:1.1rem;margin:1.25rem 0 .5rem}
summary h3{display:inline}
summary{cursor:pointer;padding:.35rem 0}
p,dl,.warning ul{max-width:75ch}
a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:.35rem 1.25rem;margin:1rem 0 0}
.facts{display:flex;flex-wrap:wrap;gap:.1rem 1.25rem;list-style:none;margin:0 0 .5rem;padding:0;color:var(--weak)}
progress{width:100%;max-width:24rem;height:.5rem;accent-color:var(--accent);display:block}
.warning{background:var(--warn);border-left:4px solid var(--warn-line);padding:.5rem 1rem;margin:1rem 0}
.warning ul{margin:.25rem 0;padding-left:1.1rem}
.warning h3{margin:.25rem 0}
.note{color:var(--weak);margin:.4rem 0;font-size:15px}
.missing{color:var(--weak)}
code{font:15px/1.4 ui-monospace,"DejaVu Sans Mono",monospace}
dt{color:var(--weak)}
dd{margin:0 0 .5rem}
.scroll{overflow-x:auto;max-width:100%;border:1px solid var(--line);border-radius:6px;width:fit-content}
table{border-collapse:separate;border-spacing:0;font-variant-numeric:tabular-nums;font-size:15px;overflow-wrap:normal}
th,td{padding:.4rem .75rem;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line);background:var(--page)}
tbody tr:last-child>*{border-bottom:0}
thead th{background:var(--soft);vertical-align:bottom}
th.number,td.number,th.paper,td.paper{text-align:right}
th.method{position:sticky;left:0;z-index:1;font-weight:500;border-right:1px solid var(--line)}
thead th.method{font-weight:600}
td.group,td.seeds,.under{color:var(--weak)}
.under{display:none;font-weight:400}
td.paper,th.paper,.of-paper td{color:var(--paper);font-style:italic}
.of-paper th{color:var(--paper);font-style:italic;font-weight:400}
td.missing{color:var(--weak);font-style:normal}
td.best{background:var(--best)}
td.options{white-space:normal;min-width:10rem}
td.options code{display:block;overflow-wrap:anywhere;min-width:18rem}
th button{all:unset;cursor:pointer;white-space:nowrap}
th button:focus-visible,.scroll:focus-visible,.wide:focus-visible,
summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
.swatch{width:1em;height:1em;vertical-align:-.12em;margin-right:.4em;overflow:visible}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;margin:.75rem 0;padding:0;font-size:15px}
.legend li{display:flex;align-items:center}
.colour{width:1.1em;height:1.1em;border-radius:3px;margin-right:.4em;border:1px solid var(--line)}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20.5rem),1fr));gap:.75rem 1.5rem;margin:.5rem 0}
figure{margin:0}
.panel{padding:.5rem 0 .25rem}
.panel figcaption{font-weight:600;border-bottom:1px solid var(--line);margin-bottom:.35rem}
.panel svg{display:block;width:100%;max-width:26rem;height:auto;overflow:visible}
.panel text{font-size:15px;fill:var(--text)}
.panel text.group{fill:var(--weak);font-style:italic}
.panel text.tick{fill:var(--weak);text-anchor:middle}
.panel text.value{text-anchor:end;font-variant-numeric:tabular-nums}
.panel text.best{font-weight:700}
.panel line.tick{stroke:var(--line)}
.panel circle.paper{fill:none;stroke:var(--paper);stroke-width:1.8}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(var(--tile),46%),1fr));gap:.75rem}
.tiles .group{grid-column:1/-1;margin:.25rem 0 -.5rem;color:var(--weak);font-style:italic}
.tiles img{width:100%;height:auto;display:block;border-radius:4px}
.tiles img.map{image-rendering:pixelated}
figcaption{font-size:15px;line-height:1.35;padding-top:.2rem}
.pictures{columns:30rem;column-gap:1rem;margin:.5rem 0}
.pictures figure{break-inside:avoid;padding-bottom:1rem}
.pictures img{width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:6px}
@media (max-width:48rem){.wide{overflow-x:auto}.pictures{columns:auto}
.pictures img{width:auto;min-width:100%;max-width:none}}
@media (max-width:30rem){header,main{padding-left:.9rem;padding-right:.9rem}
th,td{padding:.35rem .5rem}th.group,td.group{display:none}.under{display:block}
th.method{white-space:normal;overflow-wrap:anywhere;min-width:8.5rem;max-width:8.5rem}}
@media print{nav,progress{display:none}}
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => head.querySelector('button').addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') !== 'descending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const text = row => row.cells[place].textContent;
    const words = !head.matches('.number, .paper');
    const value = row => parseFloat(text(row));
    const order = (a, b) => {
      if (words) return text(b).localeCompare(text(a));
      // what was not run stays at the end
      if (isNaN(value(a)) || isNaN(value(b))) return (isNaN(value(a)) - isNaN(value(b))) * (down ? 1 : -1);
      return value(b) - value(a);
    };
    body.append(...[...body.rows].sort((a, b) => (down ? 1 : -1) * order(a, b)));
  }));
}
"""
