"""The style sheet: system fonts, one accent colour, light and dark, phone to print."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f6f7f9; --ink: 23 26 33; --text: #171a21; --muted: #626b7a; --rule: #e3e6eb;
  --accent: 47 92 220; --on-accent: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161b; --raised: #1c1f26; --ink: 231 234 240; --text: #e7eaf0; --muted: #98a1b1; --rule: #2c313b;
    --accent: 122 158 255; --on-accent: #0d1017;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 56px 32px 96px; max-width: 1040px; background: var(--paper); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; overflow-wrap: break-word;
}
h1 { margin: 0; font-size: 34px; line-height: 1.2; letter-spacing: -.02em; font-weight: 650; }
h1 span { color: var(--muted); font-weight: 400; }
h2 { margin: 0 0 4px; font-size: 21px; letter-spacing: -.01em; font-weight: 620; }
h3 { margin: 14px 0 12px; font-size: 15px; font-weight: 600; }
section { margin-top: 64px; }
p { margin: 0; }
p.lead { color: var(--muted); margin-bottom: 22px; max-width: 68ch; }
header p { color: var(--muted); margin-top: 8px; }

.headline { display: flex; flex-wrap: wrap; align-items: center; gap: 28px 56px; margin-top: 40px; }
.score b { display: block; font-size: 72px; line-height: 1; letter-spacing: -.035em; font-weight: 680;
  color: rgb(var(--accent)); }
.score span { display: block; margin-top: 12px; color: var(--muted); }
.tiles { flex: 1 1 360px; display: grid; grid-template-columns: repeat(auto-fit, minmax(122px, 1fr)); gap: 22px 28px; }
.tiles b { display: block; font-size: 21px; font-weight: 600; letter-spacing: -.01em; }
.tiles span { display: block; color: var(--muted); font-size: 13.5px; line-height: 1.4; }

.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 36px 48px;
  align-items: start; }
.pair > * { min-width: 0; }
figure { margin: 0; }
figcaption { font-size: 14px; }
figcaption .key { color: var(--muted); margin-left: 16px; white-space: nowrap; font-size: 13px; }
.key i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px; vertical-align: 3px; }
.key i.accent { background: rgb(var(--accent)); } .key i.quiet { background: rgb(var(--ink) / .38); }

svg { display: block; width: 100%; height: auto; margin-top: 6px; overflow: visible; }
svg text { font-size: 11.5px; fill: var(--muted); } svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.accent { stroke: rgb(var(--accent)); } .line.quiet { stroke: rgb(var(--ink) / .38); }
circle.accent { fill: rgb(var(--accent)); } circle.quiet { fill: rgb(var(--ink) / .5); }
.mark { fill: var(--paper); stroke: rgb(var(--accent)); stroke-width: 2; }
.ideal { stroke: rgb(var(--ink) / .45); stroke-width: 1.2; stroke-dasharray: 4 4; }
.bar { fill: rgb(var(--accent) / .2); } .amount { fill: rgb(var(--ink) / .22); }
.square { max-width: 440px; }
.strip rect { fill: transparent; }
.strip > :not(rect) { visibility: hidden; pointer-events: none; }
.strip line { stroke: rgb(var(--ink) / .3); }
.strip text { fill: var(--text); paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.strip:hover > * { visibility: visible; }

.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; }
th { text-align: left; font-weight: 500; color: var(--muted); }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
thead th { font-size: 13px; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
td:has(.meter) { width: 26%; min-width: 80px; padding: 7px 0 7px 14px; vertical-align: middle; }
.meter { height: 6px; border-radius: 3px; background: rgb(var(--ink) / .08); }
.meter i { display: block; height: 100%; border-radius: 3px; background: rgb(var(--accent)); }
.facts th { width: 34%; min-width: 110px; padding-right: 20px; }
.facts tr:last-child > * { border-bottom: 0; }
.version { display: inline-block; margin-right: 14px; white-space: nowrap; }

.confusion { width: auto; border-collapse: separate; border-spacing: 2px; font-size: 13.5px; }
.confusion th, .confusion td { border: 0; padding: 0; text-align: center; vertical-align: middle; }
.confusion td { min-width: 38px; height: 38px; border-radius: 4px; background: rgb(var(--ink) / .025); }
.confusion tbody th { text-align: right; padding-right: 10px; white-space: nowrap; position: sticky; left: 0;
  background: var(--paper); }
.confusion thead th { vertical-align: bottom; padding-bottom: 6px; }
.turned thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 140px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.confusion .corner { font-size: 12px; font-weight: 400; text-align: right; padding-right: 10px; }
.confusion .right { background: rgb(var(--ink) / var(--strength)); }
.confusion .wrong { background: rgb(var(--accent) / var(--strength)); }
.confusion .strong { color: var(--on-accent); }
.dense { border-spacing: 1px; } .dense th, .dense td { font-size: 10.5px !important; }
.dense td { min-width: 20px; height: 21px; border-radius: 2px; }
.confusion tbody th { max-width: 170px; overflow: hidden; text-overflow: ellipsis; }
.confusion.dense tbody th { max-width: 128px; padding-right: 6px; }

.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 26px 20px; }
.gallery.plain { grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)); gap: 8px; }
.gallery img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px;
  background: var(--raised); }
.gallery .pixels { image-rendering: pixelated; }
.gallery figcaption { margin-top: 8px; line-height: 1.35; }
.gallery small { display: block; margin-top: 2px; color: var(--muted); font-size: 12px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }

pre { margin: 0; padding: 16px 18px; border-radius: 8px; background: var(--raised); overflow-x: auto;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
details { margin-top: 16px; }
summary { cursor: pointer; color: rgb(var(--accent)); font-size: 14.5px; padding: 4px 0 10px; }
ul { margin: 0; padding-left: 20px; } li { margin-bottom: 6px; }
footer { margin-top: 72px; color: var(--muted); font-size: 13px; }

@media (max-width: 560px) {
  body { padding: 28px 18px 64px; font-size: 15px; }
  h1 { font-size: 27px; } section { margin-top: 48px; } .score b { font-size: 58px; }
  .tiles { gap: 18px 20px; } .gallery { grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); gap: 22px 16px; }
  td:has(.meter) { display: none; } .confusion td { min-width: 27px; height: 30px; }
  .confusion .corner { font-size: 0; } .dense td { min-width: 20px; height: 20px; }
  th, td { padding-right: 10px; }
}
@page { margin: 16mm; }
@media print {
  :root { color-scheme: light; --paper: #fff; --raised: #f6f7f9; --ink: 23 26 33; --text: #171a21; --muted: #555d6b;
    --rule: #dde0e6; --accent: 47 92 220; --on-accent: #fff; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { padding: 0; max-width: none; font-size: 11pt; } section { margin-top: 28pt; }
  h2, h3, p.lead { break-after: avoid; } figure, tr, .headline { break-inside: avoid; }
  p.lead, .facts, .confusion { break-inside: avoid; } .pair { grid-template-columns: 1fr 1fr; }
  .gallery { grid-template-columns: repeat(6, 1fr); } .gallery.plain { grid-template-columns: repeat(12, 1fr); }
  .wide { overflow: visible; } pre { white-space: pre-wrap; }
}
"""
