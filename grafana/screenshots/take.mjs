// Takes pictures of the dashboards: asks a Prometheus every query of every panel and draws the answers in Chromium.
//
//   npm ci --ignore-scripts
//   node take.mjs http://localhost:9090 OUT.png-prefix [minutes [dashboard...]]
//
// Writes PREFIX-fleet.png and so on. Fails on a query that Prometheus refuses. With THEME=light it draws them in light
// colours, with ROWS=open it opens the rows that are closed, and APPLIANCE chooses appliances by a regular expression.

import { readFileSync, readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const [prometheus, prefix, minutes = '10', ...only] = process.argv.slice(2);
const here = fileURLToPath(new URL('.', import.meta.url));
const to = Math.floor(Date.now() / 1000);
const from = to - 60 * Number(minutes);

const { THEME: mode = 'dark', ROWS: rows = 'closed', APPLIANCE: appliance = '.+' } = process.env;

const api = async (path, parameters) => {
  const answer = await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const json = await answer.json();
  if (json.status !== 'success') throw new Error(`${json.error}: ${parameters.query}`);
  return json.data;
};

const { activeTargets } = await api('targets', {});
const scrapeInterval = Math.min(...activeTargets.map((it) => Number.parseFloat(it.scrapeInterval)));

const ask = async (panel, target) => {
  // As Grafana works it out: a point per pixel or two, never below the scrape interval or the panel's own.
  const points = panel.maxDataPoints ?? 300;
  const least = Math.max(scrapeInterval, Number.parseFloat(panel.interval ?? '0') * (to - from > 1800 ? 60 : 10));
  const step = Math.max(least, Math.ceil((to - from) / points));
  const query = target.expr
    .replaceAll('$__rate_interval', `${Math.ceil(Math.max(step + scrapeInterval, 4 * scrapeInterval))}s`)
    .replaceAll('$__interval_ms', `${1000 * step}`)
    .replaceAll('$__range_s', `${to - from}`)
    .replaceAll('$__range', `${to - from}s`)
    .replaceAll('$appliance', appliance)
    .replaceAll(/\$(job|instance)\b/g, '.+');
  const data = target.instant
    ? await api('query', { query, time: to })
    : await api('query_range', { query, start: from, end: to, step });
  return { answer: data.result, step };
};

const { outputFiles } = await build({
  entryPoints: [`${here}app.jsx`],
  bundle: true,
  write: false,
  outdir: 'unused',
  format: 'iife',
  jsx: 'automatic',
  minify: true,
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'text', '.woff2': 'empty', '.woff': 'empty', '.ttf': 'empty' },
  logLevel: 'error',
});
const [script, style] = ['.js', '.css'].map((end) => outputFiles.find(({ path }) => path.endsWith(end)).text);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});
// As Grafana lays the page out: what is in a closed row is not there, and what is below moves up.
const lay = (dashboard) => {
  if (rows === 'open') {
    dashboard.panels = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
    return;
  }
  let saved = 0;
  for (const panel of dashboard.panels) {
    panel.gridPos.y -= saved;
    if (!panel.panels?.length) continue;
    const bottom = Math.max(...panel.panels.map(({ gridPos: { y, h } }) => y + h));
    saved += bottom - saved - panel.gridPos.y - 1;
  }
};

for (const file of readdirSync(`${here}../dashboards`)) {
  const name = basename(file, '.json');
  if (only.length && !only.includes(name)) continue;
  const dashboard = JSON.parse(readFileSync(`${here}../dashboards/${file}`, 'utf8'));
  lay(dashboard);
  const results = {};
  for (const panel of dashboard.panels.filter(({ type }) => type !== 'row')) {
    const answers = [];
    let step = 0;
    for (const target of panel.targets) {
      const got = await ask(panel, target);
      answers.push(got.answer);
      step = got.step;
    }
    results[panel.id] = { answers, step };
    if (answers.every((answer) => answer.length === 0)) {
      console.log(`${name}: ${panel.title}: ${panel.fieldConfig.defaults.noValue}`);
    }
  }
  // As high as the page, since tables out of sight stay empty.
  const height = 38 * Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h)) + 100;
  const page = await browser.newPage({ viewport: { width: 1456, height } });
  page.on('pageerror', (error) => console.error(`${name}: ${error.stack}`));
  page.on('console', (message) => {
    // Icons and fonts are not fetched, and not missed.
    const text = message.text();
    if (message.type() === 'error' && !text.includes('ERR_FAILED')) console.error(`${name}: ${text}`);
  });
  // A page with an origin, since the components want local storage; nothing is ever fetched from anywhere.
  const body = '<!doctype html><html><body style="margin:0"><div id="root"></div></body></html>';
  await page.route('**', (route) =>
    route.request().isNavigationRequest() ? route.fulfill({ contentType: 'text/html', body }) : route.abort(),
  );
  await page.goto('http://dashboards.invalid/');
  const state = JSON.stringify({ dashboard, results, from: from * 1000, to: to * 1000, mode });
  await page.evaluate(`window.page = ${state}`);
  await page.addStyleTag({ content: style });
  await page.addScriptTag({ content: script });
  const drawn = page.locator('#page');
  await drawn.waitFor({ timeout: 20000 });
  await page.waitForTimeout(1500);
  await drawn.screenshot({ path: `${prefix}-${name}.png` });
  await page.close();
}
await browser.close();
