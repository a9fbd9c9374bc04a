// Draws one dashboard from query results, with Grafana's own components where its packages have them: PanelChrome,
// BigValue, TimeSeries, TableNG, the theme, units, value mappings and transformations. State timelines
// are not published as a component; they are drawn here, with the same colours and words.
//
// `window.page` holds the dashboard, the results of each panel and the time range: see take.mjs.

import { dateTime, FieldColorModeId, FieldType, getDisplayProcessor, standardTransformers, createTheme } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, PanelContextProvider, ThemeContext, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { initPluginTranslations } from '@grafana/i18n';
import { createRoot } from 'react-dom/client';
import { lastValueFrom, of } from 'rxjs';

const COLUMN = 60;
const ROW = 38;
const GAP = 8;

const { dashboard, results, from, to, mode } = window.page;
const theme = createTheme({ colors: { mode } });
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const timeZone = 'utc';

const TRANSFORMERS = {
  merge: standardTransformers.mergeTransformer,
  filterFieldsByName: standardTransformers.filterFieldsByNameTransformer,
  organize: standardTransformers.organizeFieldsTransformer,
};

// ------------------------------------------------------------------------------- from answers of Prometheus to frames

const legend = (target, labels) =>
  target.legendFormat === '__auto'
    ? Object.entries(labels)
        .filter(([name]) => name !== '__name__')
        .map(([name, value]) => `${name}="${value}"`)
        .join(' ')
    : target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_, name) => labels[name] ?? '');

const number = (text) => ({ '+Inf': Infinity, '-Inf': -Infinity })[text] ?? Number(text);
const time = (values) => ({ name: 'Time', type: FieldType.time, config: {}, values });

const frame = (refId, fields) => ({ refId, fields, length: fields[0].values.length });

const seriesFrames = (target, answer) =>
  answer.map(({ metric, values, value }) => {
    const points = values ?? [value];
    const name = legend(target, metric);
    return {
      ...frame(target.refId, [
        time(points.map(([at]) => at * 1000)),
        {
          name: 'Value',
          type: FieldType.number,
          labels: metric,
          config: { displayNameFromDS: name },
          values: points.map(([, text]) => number(text)),
        },
      ]),
      name,
    };
  });

const tableFrames = (target, answer, several) => {
  const names = [...new Set(answer.flatMap(({ metric }) => Object.keys(metric)))].filter((name) => name !== '__name__');
  if (answer.length === 0) return [];
  return [
    frame(target.refId, [
      time(answer.map(({ value: [at] }) => at * 1000)),
      ...names.map((name) => ({
        name,
        type: FieldType.string,
        config: {},
        values: answer.map(({ metric }) => metric[name] ?? ''),
      })),
      {
        name: several ? `Value #${target.refId}` : 'Value',
        type: FieldType.number,
        config: {},
        values: answer.map(({ value: [, text] }) => number(text)),
      },
    ]),
  ];
};

// A Prometheus range answer leaves out the steps without a value; a gap must stay a gap.
const withGaps = (frames, stepMs) =>
  frames.map((it) => {
    const [times, values] = it.fields;
    const allTimes = [];
    const allValues = [];
    times.values.forEach((at, index) => {
      const before = times.values[index - 1];
      if (before !== undefined && at - before > 1.5 * stepMs) {
        allTimes.push(before + stepMs);
        allValues.push(null);
      }
      allTimes.push(at);
      allValues.push(values.values[index]);
    });
    return { ...it, length: allTimes.length, fields: [{ ...times, values: allTimes }, { ...values, values: allValues }] };
  });

// ----------------------------------------------------------------------------------------------- field configuration

const matches = (matcher, name) =>
  matcher.id === 'byName' ? matcher.options === name : new RegExp(`^(?:${matcher.options})$`).test(name);

const put = (config, path, value) => {
  const keys = path.split('.');
  const last = keys.pop();
  let at = config;
  for (const key of keys) at = at[key] = { ...at[key] };
  at[last] = value;
};

const configured = (frames, { defaults, overrides }) => {
  let seriesIndex = 0;
  return frames.map((it) => ({
    ...it,
    fields: it.fields.map((field) => {
      const displayName = field.config.displayName ?? field.config.displayNameFromDS ?? field.name;
      const config = { color: { mode: FieldColorModeId.Thresholds }, ...structuredClone(defaults), ...field.config };
      config.custom = { ...config.custom };
      for (const { matcher, properties } of overrides) {
        if (!matches(matcher, displayName)) continue;
        for (const { id, value } of properties) put(config, id, value);
      }
      delete config.links;
      const done = { ...field, config, getLinks: () => [] };
      done.state = { displayName, seriesIndex: field.type === FieldType.number ? seriesIndex++ : 0 };
      done.display = getDisplayProcessor({ field: done, theme, timeZone });
      return done;
    }),
  }));
};

// -------------------------------------------------------------------------------------------------------------- panels

const NoData = ({ width, height, text }) => (
  <div
    style={{
      width,
      height,
      display: 'flex',
      alignItems: 'center',
      justifyContent: 'center',
      color: theme.colors.text.secondary,
    }}
  >
    {text}
  </div>
);

const Stat = ({ frames, panel, width, height }) => {
  const { options } = panel;
  const many = frames.length;
  const columns = width > height ? Math.min(many, Math.max(1, Math.floor(width / 120))) : 1;
  const lines = Math.ceil(many / columns);
  return (
    <div style={{ display: 'flex', flexWrap: 'wrap' }}>
      {frames.map((it, index) => {
        const field = it.fields[1];
        const last = field.values.findLast((value) => value !== null && !Number.isNaN(value));
        const value = field.display(last ?? null);
        return (
          <BigValue
            key={index}
            theme={theme}
            width={width / columns}
            height={height / lines}
            value={{ ...value, title: many > 1 || field.state.displayName ? field.state.displayName.trim() : undefined }}
            colorMode={options.colorMode}
            graphMode="none"
            justifyMode={options.justifyMode}
            text={options.text}
            textMode={many > 1 ? 'value_and_name' : 'auto'}
          />
        );
      })}
    </div>
  );
};

const Series = ({ frames, panel, width, height, step }) => (
  <TimeSeries
    frames={withGaps(frames, step * 1000)}
    width={width}
    height={height}
    timeRange={timeRange}
    timeZone={timeZone}
    legend={{ ...panel.options.legend, showLegend: true }}
  />
);

const States = ({ frames, panel, width, height, step }) => {
  const labelWidth = Math.min(320, 14 + 7.3 * Math.max(...frames.map((it) => it.fields[1].state.displayName.length)));
  const axis = 34;
  const shown = frames.slice(0, Math.max(1, Math.floor((height - axis) / 13)));
  const rowHeight = Math.min(34, (height - axis) / shown.length);
  const x = (at) => labelWidth + ((at - from) / (to - from)) * (width - labelWidth);
  const rows = shown.map((it, row) => {
    const [times, field] = it.fields;
    const runs = [];
    times.values.forEach((at, index) => {
      const value = field.values[index];
      const last = runs.at(-1);
      if (last && last.value === value && at - last.end < 1.5 * step * 1000) last.end = at + step * 1000;
      else runs.push({ value, start: at, end: at + step * 1000 });
    });
    const top = row * rowHeight;
    return (
      <g key={row}>
        <text x={labelWidth - 6} y={top + rowHeight / 2 + 4} textAnchor="end" fill={theme.colors.text.secondary}>
          {field.state.displayName}
        </text>
        {runs.map((run, index) => {
          const display = field.display(run.value);
          const left = x(run.start);
          const wide = Math.max(1, x(Math.min(run.end, to)) - left);
          return (
            <g key={index}>
              <rect x={left} y={top + 2} width={wide} height={rowHeight - 4} fill={display.color} fillOpacity={0.8} />
              {wide > 9 * display.text.length && rowHeight > 12 && (
                <text x={left + 5} y={top + rowHeight / 2 + 4} fill={theme.colors.getContrastText(display.color)}>
                  {display.text}
                </text>
              )}
            </g>
          );
        })}
      </g>
    );
  });
  const ticks = [0.1, 0.3, 0.5, 0.7, 0.9].map((part) => from + part * (to - from));
  const seen = new Map();
  for (const it of frames) {
    for (const value of it.fields[1].values) {
      const display = it.fields[1].display(value);
      seen.set(display.text, display.color);
    }
  }
  return (
    <svg width={width} height={height} style={{ fontSize: 12 }}>
      {rows}
      {ticks.map((at) => (
        <text key={at} x={x(at)} y={height - 20} textAnchor="middle" fill={theme.colors.text.secondary}>
          {new Date(at).toISOString().slice(11, 16)}
        </text>
      ))}
      {[...seen].map(([text, color], index) => (
        <g key={text}>
          <rect x={labelWidth + index * 110} y={height - 9} width={14} height={4} fill={color} />
          <text x={labelWidth + 19 + index * 110} y={height - 3} fill={theme.colors.text.secondary}>
            {text}
          </text>
        </g>
      ))}
    </svg>
  );
};

const Rows = ({ frames, panel, width, height }) => (
  <TableNG
    data={frames[0]}
    width={width}
    height={height}
    columnMinWidth={60}
    sortBy={panel.options.sortBy}
    sortByBehavior="initial"
    enableVirtualization={false}
    disableKeyboardEvents
    timeRange={timeRange}
  />
);

const KINDS = { stat: Stat, timeseries: Series, 'state-timeline': States, table: Rows };

const prepared = async (panel) => {
  const { answers, step } = results[panel.id];
  let frames = panel.targets.flatMap((target, index) =>
    target.format === 'table'
      ? tableFrames(target, answers[index], panel.targets.length > 1)
      : seriesFrames(target, answers[index]),
  );
  for (const { id, options } of panel.transformations ?? []) {
    const operator = TRANSFORMERS[id].operator(options, { interpolate: (text) => text });
    frames = await lastValueFrom(of(frames).pipe(operator));
  }
  return { frames: configured(frames, panel.fieldConfig).filter((it) => it.length > 0), step };
};

const Panel = ({ panel, frames, step }) => {
  const Kind = KINDS[panel.type];
  const { x, y, w, h } = panel.gridPos;
  return (
    <div style={{ position: 'absolute', left: x * COLUMN + GAP, top: y * ROW + GAP }}>
      <PanelChrome title={panel.title} width={w * COLUMN - GAP} height={h * ROW - GAP}>
        {(width, height) =>
          frames.length === 0 ? (
            <NoData width={width} height={height} text={panel.fieldConfig.defaults.noValue} />
          ) : (
            <Kind frames={frames} panel={panel} width={width} height={height} step={step} />
          )
        }
      </PanelChrome>
    </div>
  );
};

const Heading = ({ panel }) => (
  <div
    style={{
      position: 'absolute',
      left: GAP,
      top: panel.gridPos.y * ROW + GAP + 10,
      fontWeight: 500,
      color: theme.colors.text.primary,
    }}
  >
    {panel.panels?.length ? `› ${panel.title} (${panel.panels.length} panels)` : panel.title}
  </div>
);

const start = async () => {
  await initPluginTranslations('screenshots');
  const panels = [];
  for (const panel of dashboard.panels) {
    panels.push(
      panel.type === 'row' ? (
        <Heading key={panel.id} panel={panel} />
      ) : (
        <Panel key={panel.id} panel={panel} {...(await prepared(panel))} />
      ),
    );
  }
  const height = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * ROW + 60;
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={{ eventsScope: 'page', eventBus: { getStream: () => of(), publish: () => {} } }}>
        <div id="page" style={{ width: 24 * COLUMN + 2 * GAP, height, background: theme.colors.background.canvas }}>
          <div style={{ padding: 12, fontSize: 18, color: theme.colors.text.primary }}>
            {dashboard.title}
          </div>
          <div style={{ position: 'relative' }}>{panels}</div>
        </div>
      </PanelContextProvider>
    </ThemeContext.Provider>,
  );
};
start();
