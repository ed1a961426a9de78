"""The colours and type of every page, the service's and the reports: custom properties of CSS.

One accent. Ink on page, quiet on page and accent on page have a contrast of 4.5 and more in both
schemes (WCAG 2.2, 1.4.3); a test works them out.
"""

LOOK = """\
:root {
  color-scheme: light dark;
  --page: #fdfbf7; --panel: #f6f1e8; --line: #e2dacc; --ink: #26221c; --quiet: #6b6357;
  --accent: #a33f12; --on-accent: #fffaf5; --tint: 163, 63, 18;
  --text: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --names: ui-serif, "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif;
  --code: ui-monospace, "SF Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #191714; --panel: #221f1b; --line: #3a352e; --ink: #ece6dc; --quiet: #a59b8c;
    --accent: #f2a274; --on-accent: #24140b; --tint: 242, 162, 116;
  }
}
"""
