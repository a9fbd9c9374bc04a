// What the eight dashboards have in common: variables, selectors, mappings and the few kinds of panel that they use.
//
// A dashboard says what it shows; how that looks is decided here, so that a colour or a "no data" means the same
// everywhere. Nothing here reads a file or a clock: the same source gives the same JSON.

import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  FieldColorBuilder,
  FieldColorModeId,
  MappingType,
  QueryVariableBuilder,
  RowBuilder,
  SpecialValueMatch,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard';
import {
  BigValueColorMode,
  BigValueGraphMode,
  GraphDrawStyle,
  LegendDisplayMode,
  LegendPlacement,
  LineStyleBuilder,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TableCellDisplayMode,
  TableSortByFieldStateBuilder,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizOrientation,
  VizTextDisplayOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as StateTimelineBuilder } from '@grafana/grafana-foundation-sdk/statetimeline';
import { PanelBuilder as TableBuilder } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeSeriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

export const TAG = 'appliance-log-exporter';

/** uid and title of every dashboard. Links and bookmarks hang on the uids: they never change. */
export const DASHBOARDS = {
  fleet: { uid: 'appliance-fleet', title: 'Appliances / Fleet' },
  hardware: { uid: 'appliance-hardware', title: 'Appliances / Hardware' },
  hsm: { uid: 'appliance-hsm', title: 'Appliances / HSM and NTLS' },
  ipsec: { uid: 'appliance-ipsec', title: 'Appliances / IPsec' },
  ktls: { uid: 'appliance-ktls', title: 'Appliances / kTLS' },
  access: { uid: 'appliance-access', title: 'Appliances / Access' },
  exporter: { uid: 'appliance-log-exporter', title: 'Appliances / Exporter' },
  shards: { uid: 'appliance-shards', title: 'Appliances / Shards' },
};

const PROMETHEUS = { type: 'prometheus', uid: '${datasource}' };

// ---------------------------------------------------------------------------------------------------------- selectors

/**
 * A series of an appliance. Series fed by lines with the appliance's test marker carry `test="true"` and are left
 * out: a trap test must not look like a fault.
 */
export const of = (metric, matchers = '') =>
  `${metric}{job=~"$job", appliance=~"$appliance", test=""${matchers && ', ' + matchers}}`;

/** A series of the exporter itself. */
export const own = (metric, matchers = '') =>
  `appliance_log_exporter_${metric}{job=~"$job", instance=~"$instance"${matchers && ', ' + matchers}}`;

/** A recorded series about appliances (rules/alerts): of several collectors it has what the latest one says. */
export const recorded = (metric, matchers = '') =>
  `${metric}{appliance=~"$appliance"${matchers && ', ' + matchers}}`;

/** One gauge per label set, though two exporters may read the same lines: the larger one. */
export const gauge = (by, series) => `max by (${by}) (${series})`;

// Two collectors that count the same lines are not added up: the larger count is the truth. Whatever the scrape job makes
// of `instance`, one of these labels tells them apart.
const COLLECTOR = 'collector, instance, job';
const counted = (by, counts) => {
  const labels = [...new Set(['site', 'appliance', ...by.split(', ').filter(Boolean)])].join(', ');
  return `sum${by && ` by (${by})`} (max by (${labels}) (sum by (${labels}, ${COLLECTOR}) (${counts})))`;
};

/**
 * Events per step, for bars. The window of `rate()` reaches one scrape further than the step, so that windows share no
 * pair of samples and leave none out: the bars of an hour add up to what happened in that hour.
 */
export const events = (by, series) =>
  `${counted(by, `rate(${series}[$__rate_interval])`)} * $__interval_ms / 1000 > 0`;

/** Events per second of all chosen appliances, for lines. */
export const rate = (series) => counted('', `rate(${series}[$__rate_interval])`);

/** Events in the time range shown, for numbers; `happened` leaves out what was never counted. */
export const total = (by, series) => counted(by, `increase(${series}[$__range])`);
/** The same for tables: the `most` label sets with the most events, those without any left out. */
export const happened = (by, series, most = 100) => `topk(${most}, ${total(by, series)} > 0.5)`;

/** A state over time that loses nothing between two points: the worst since the point before. */
export const worstSince = (series) => `max_over_time(${series}[$__rate_interval])`;

/**
 * Of `expr`, the series with these labels that were worst in the time range, as far as they were bad at all. No more than a
 * timeline has space for: Grafana orders them by name, so that what does not fit may be the worst.
 */
export const troubled = (expr, by, series, most = 12) =>
  `${expr}\nand on (${by}) topk(${most}, max by (${by}) (max_over_time(${series}[$__range] @ end())) > 0)`;
/** Of `expr`, the `most` series with the highest value (or lowest, with `bottomk`) in the time range. */
export const extreme = (expr, by, most = 20, operator = 'topk') =>
  `${expr}\nand on (${by}) ${operator}(${most}, ${operator === 'topk' ? 'max' : 'min'}_over_time((${expr})[$__range:] @ end()))`;

/** Firing alerts. Alerts about the exporter have no appliance and are shown where that is what one looks at. */
export const alerts = (matchers = '', name = 'Appliance.+') =>
  `ALERTS{alertname=~"${name}", alertstate="firing", appliance=~"$appliance"${matchers && ', ' + matchers}}`;
/** An alert that always fires: whether rules are evaluated at all. */
export const WATCHDOG = 'ALERTS{alertname="ApplianceWatchdog", alertstate="firing"}';

// ------------------------------------------------------------------------------------------------ colours and mappings

const OK = 'green';
const WARN = 'orange';
const CRIT = 'red';
const UNKNOWN = 'text';

const value = (options) => ({ type: MappingType.ValueToText, options });
// No line has told: a dash, in the colour of text.
const noData = {
  type: MappingType.SpecialValue,
  options: { match: SpecialValueMatch.NullAndNan, result: { text: '–', color: UNKNOWN, index: 99 } },
};

/** A gauge of 0 and 1: which of them is bad, its word, and the word of the other. */
const bad = (at, word, other, color = CRIT, otherColor = OK) => [
  value({ [at]: { text: word, color, index: 1 }, [1 - at]: { text: other, color: otherColor, index: 0 } }),
  noData,
];

/** 0, 1, 2 as ipmi_exporter encodes a state. The word comes with the colour, so that nobody needs to see colours. */
export const STATE = [
  value({
    0: { text: 'OK', color: OK, index: 0 },
    1: { text: 'WARN', color: WARN, index: 1 },
    2: { text: 'CRIT', color: CRIT, index: 2 },
  }),
  noData,
];
/** 1 is good. */
export const UP = bad(0, 'DOWN', 'UP');
export const READY = bad(0, 'BEHIND', 'yes');
export const HEALTHY = bad(0, 'FAILED', 'OK');
/** 1 is bad. */
export const ASSERTED = bad(1, 'ASSERTED', 'OK');
export const FAILED = bad(1, 'FAILED', 'no');
export const EXCEEDED = bad(1, 'EXCEEDED', 'kept');
/** A condition that is worth a look. */
export const CONDITION = bad(1, 'ASSERTED', 'no', WARN, UNKNOWN);
export const PRESENT = bad(0, 'ABSENT', 'present');
/** The worst alert of an appliance, or that nobody watches it. */
export const WORST = [
  value({
    0: { text: 'OK', color: OK, index: 0 },
    1: { text: 'WARN', color: WARN, index: 1 },
    2: { text: 'CRIT', color: CRIT, index: 2 },
    3: { text: 'NOT WATCHED', color: CRIT, index: 3 },
  }),
  noData,
];
/** 1 is bad, as the recorded states have it. */
export const DOWN = bad(1, 'DOWN', 'UP');
/** The severity of an alert, as its label has it. */
export const SEVERITY = [
  value({ critical: { text: 'CRITICAL', color: CRIT, index: 0 }, warning: { text: 'WARNING', color: WARN, index: 1 } }),
];
export const TRUE = bad(1, 'YES', 'no');
export const TROUBLE = bad(1, 'YES', 'no', WARN);
export const FULL = bad(1, 'FULL', 'no');
export const MISSING = bad(1, 'MISSING', 'present');
/** The service states in the order of METRICS: what `max` of (state × rank) gives. */
export const SERVICE = [
  value({
    0: { text: 'IN SERVICE', color: OK, index: 0 },
    1: { text: 'TROUBLE', color: WARN, index: 1 },
    2: { text: 'OUT OF SERVICE', color: CRIT, index: 2 },
    3: { text: 'OFF LINE', color: CRIT, index: 3 },
  }),
  noData,
];
export const NO_DATA = [noData];
/** Text for label values, such as message ids. */
export const words = (map) => [
  value(Object.fromEntries(Object.entries(map).map(([key, text], index) => [key, { text, index }]))),
];

/** The service state as a number: see SERVICE. */
export const serviceState = ['in_service', 'in_service_trouble', 'out_of_service', 'off_line']
  .map(
    (state, rank) =>
      `max by (site, appliance) (${rank} * (${recorded('appliance:service_state:latest', `state="${state}"`)} == 1))`,
  )
  .join('\nor ');

const steps = (list) =>
  new ThresholdsConfigBuilder()
    .mode(ThresholdsMode.Absolute)
    .steps(list.map(([from, color]) => ({ value: from, color })));
export const PLAIN = [[null, UNKNOWN]];
export const ANY_IS_CRIT = [
  [null, OK],
  [1, CRIT],
];
export const ANY_IS_WARN = [
  [null, OK],
  [1, WARN],
];
// ------------------------------------------------------------------------------------------------------------- queries

/** A query over the time range shown. */
export const range = (expr, legend) =>
  new DataqueryBuilder().expr(expr).legendFormat(legend).format(PromQueryFormat.TimeSeries).range();
/** A query at the end of the time range. */
export const instant = (expr, legend = '__auto') =>
  new DataqueryBuilder().expr(expr).legendFormat(legend).format(PromQueryFormat.TimeSeries).instant();
/** A query at the end of the time range, one row per series. */
export const rows = (expr) =>
  new DataqueryBuilder().expr(expr).legendFormat('__auto').format(PromQueryFormat.Table).instant();

// -------------------------------------------------------------------------------------------------------------- panels

// What a panel says that has nothing to show.
const NOTHING = 'no such message in this time range';
const NO_STATE = 'no message has told of one';
const ALL_WELL = 'all well in this time range';

const dress = (
  panel,
  { title, about, queries, width, height, unit, mappings, thresholds, decimals, min, max, empty = 'no data' },
) => {
  panel
    .title(title)
    .description(about)
    .datasource(PROMETHEUS)
    .span(width)
    .height(height)
    .noValue(empty)
    .thresholds(steps(thresholds ?? PLAIN));
  queries.forEach((query, index) => panel.withTarget(query.refId(String.fromCharCode(65 + index))));
  if (unit) panel.unit(unit);
  if (mappings) panel.mappings(mappings);
  if (decimals !== undefined) panel.decimals(decimals);
  if (min !== undefined) panel.min(min);
  if (max !== undefined) panel.max(max);
  return panel;
};

/** One number per series. Names get a size that can be read: left alone, Grafana shrinks them with the room. */
export const stat = ({ width = 4, height = 4, graph = false, ...rest }) =>
  dress(new StatBuilder(), { width, height, decimals: 0, ...rest })
    .text(new VizTextDisplayOptionsBuilder().titleSize(14))
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .colorMode(BigValueColorMode.Value)
    .graphMode(graph ? BigValueGraphMode.Area : BigValueGraphMode.None)
    .orientation(VizOrientation.Auto)
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']).fields('').values(false));

// Bars have the colours of what they mean: warm ones for failures, cold ones for what is neither good nor bad. Which of them
// a series has depends on the first letter of its name, so that it stays the same whatever else is there.
const shades = (color) => new FieldColorBuilder().mode(FieldColorModeId.Shades).fixedColor(color);
export const FAILURES = ['red', 'orange', 'dark-red', 'yellow', 'dark-orange'];
export const NEUTRAL = ['blue', 'light-purple', 'dark-blue', 'super-light-blue', 'purple'];
const INITIALS = ['[a-cA-C0-1].*', '[d-hD-H2-3].*', '[i-nI-N4-5].*', '[o-rO-R6-7].*', '[s-zS-Z8-9].*'];
/** Series with these names, as a regular expression, have another colour than the rest of their panel. */
export const coloured = (panel, names, color) =>
  panel.overrideByRegexp(names, [{ id: 'color', value: shades(color).build() }]);
export const BAD = 'red';
export const GOOD = 'green';
export const PLAIN_COLOR = 'blue';
export const SUSPECT = 'orange';

const series = ({ width = 12, height = 8, ...rest }) =>
  dress(new TimeSeriesBuilder(), { width, height, ...rest })
    .axisSoftMax(1)
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .calcs([]),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));

/** Lines over time. A gap stays a gap. Colours tell one series from another, and mean nothing else. */
export const lines = (options) =>
  series({ min: 0, ...options })
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic))
    .drawStyle(GraphDrawStyle.Line)
    .lineWidth(1)
    .fillOpacity(0)
    .showPoints(VisibilityMode.Never)
    .spanNulls(false);

/**
 * Lines with the limits that the appliance itself reported, dashed and orange: names that end in ` limit`, which are in the
 * tooltip and not in the legend. May be negative.
 */
export const linesWithLimits = (options) =>
  lines({ ...options, min: undefined })
    .overrideByRegexp('.* limit$', [
      { id: 'custom.lineStyle', value: new LineStyleBuilder().fill('dash').dash([8, 8]).build() },
      { id: 'color', value: { mode: FieldColorModeId.Fixed, fixedColor: SUSPECT } },
      { id: 'custom.hideFrom', value: { legend: true, tooltip: false, viz: false } },
    ]);

/** Events over time, stacked. */
export const bars = ({ color = FAILURES, ...options }) =>
  INITIALS.reduce(
    (panel, names, index) => coloured(panel, names, color[index]),
    series({ min: 0, decimals: 0, unit: 'short', empty: NOTHING, ...options }),
  )
    .colorScheme(shades(color[0]))
    .interval('1m')
    .drawStyle(GraphDrawStyle.Bars)
    .lineWidth(1)
    .fillOpacity(60)
    .stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A'));

/** States over time, one line per thing that was in trouble, with the word in each box that has room for it. */
export const stateTimeline = ({ width = 24, height = 8, ...rest }) =>
  dress(new StateTimelineBuilder(), { width, height, empty: ALL_WELL, ...rest })
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .mergeValues(true)
    .showValue(VisibilityMode.Auto)
    .rowHeight(0.85)
    .fillOpacity(80)
    .lineWidth(0)
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .calcs([]),
    );

const colouredText = { id: 'custom.cellOptions', value: { type: TableCellDisplayMode.ColorText } };

// Columns that need little room and leave it to the others.
const WIDTHS = {
  Times: 80, Lines: 100, Series: 100, Id: 90, Code: 110, Alarm: 100, Action: 90, State: 90, Site: 90, Severity: 100,
  Since: 110, Ago: 110,
};

/**
 * A table. `columns` lists what is shown, in that order: `{from, as, …}`, where `from` is a label, or `Value` with the
 * query's letter (`Value` alone if there is one query), and `as` the heading. It is sorted by the headings in
 * `sortAscending`, smallest first, then by those in `sort`, biggest first.
 */
export const table = ({ width = 12, height = 9, columns, sort = [], sortAscending = [], ...rest }) => {
  const panel = dress(new TableBuilder(), { width, height, empty: NOTHING, ...rest }).showHeader(true).minWidth(70).filterable(true);
  if (rest.queries.length > 1) panel.withTransformation({ id: 'merge', options: {} });
  const shown = columns.map(({ from }) => from);
  panel.withTransformation({
    id: 'filterFieldsByName',
    options: { include: { names: shown } },
  });
  panel.withTransformation({
    id: 'organize',
    options: {
      excludeByName: {},
      indexByName: Object.fromEntries(shown.map((name, index) => [name, index])),
      renameByName: Object.fromEntries(columns.map(({ from, as }) => [from, as])),
    },
  });
  const by = (heading, desc) => new TableSortByFieldStateBuilder().displayName(heading).desc(desc);
  panel.sortBy([...sortAscending.map((heading) => by(heading, false)), ...sort.map((heading) => by(heading, true))]);
  for (const { from, as, unit, decimals, mappings, thresholds, links, plain, width = WIDTHS[as] } of columns) {
    // A label that a series does not have is blank: it is a value that may be missing.
    const properties = from.startsWith('Value') ? [] : [{ id: 'noValue', value: '' }];
    if (unit) properties.push({ id: 'unit', value: unit });
    if (decimals !== undefined) properties.push({ id: 'decimals', value: decimals });
    if (mappings) properties.push({ id: 'mappings', value: mappings });
    if (thresholds) properties.push({ id: 'thresholds', value: steps(thresholds).build() });
    if ((thresholds || mappings) && !plain) properties.push(colouredText);
    if (width) properties.push({ id: 'custom.width', value: width });
    if (links) properties.push({ id: 'links', value: links });
    if (properties.length) panel.overrideByName(as, properties);
  }
  return panel;
};

/** A link to another dashboard for the appliance in the clicked cell, with everything else that is chosen. */
export const applianceLink = (to) => ({
  title: to.title,
  url: `/d/${to.uid}?var-appliance=\${__value.raw:percentencode}&\${datasource:queryparam}&\${job:queryparam}&\${__url_time_range}`,
  targetBlank: false,
});

const RUNBOOKS = 'https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks';

/**
 * What is wrong, and since when: the alerts that fire, with their runbooks. `matchers` choose some of them; `own` takes
 * those about the exporters too.
 */
export const wrong = ({ title, matchers, about, exporters = false, height = 8 }) =>
  table({
    title,
    about:
      `${about} Since is when the alert began to fire, over a restart of Prometheus too. It ends up to 15 minutes after ` +
      'its cause. Click an alert for its runbook, an appliance for its dashboards.',
    width: 24,
    height,
    empty: 'nothing is wrong, or the shipped rules are not loaded',
    queries: [
      rows(
        `label_join(${numbered(`time() - appliance:alert:since_timestamp_seconds{appliance=~"$appliance${exporters ? '|' : ''}"` +
          `${matchers ? ', ' + matchers : ''}}`)}, "what", " ", ${WHAT.map((label) => `"${label}"`).join(', ')})`,
      ),
    ],
    columns: [
      { from: 'severity', as: 'Severity', mappings: SEVERITY },
      { from: 'Value', as: 'Since', unit: 'dtdurations', decimals: 0, mappings: NO_DATA, plain: true },
      { from: 'site', as: 'Site' },
      {
        from: 'appliance',
        as: 'Appliance',
        width: 160,
        links: ['hardware', 'hsm', 'ipsec', 'ktls', 'access'].map((name) => applianceLink(DASHBOARDS[name])),
      },
      {
        from: 'alertname',
        as: 'Alert',
        width: 280,
        links: [{ title: 'Runbook', url: `${RUNBOOKS}/\${__value.raw}.md`, targetBlank: true }],
      },
      { from: 'what', as: 'What' },
    ],
    sortAscending: ['Severity', 'Since'],
  });
// Bare numbers say what they are.
const numbered = (expr) =>
  ['phase', 'code'].reduce((sum, label) => `label_replace(${sum}, "${label}", "${label} $1", "${label}", "(.+)")`, expr);
// Labels that name what an alert is about; each alert has a few of them.
const WHAT = [
  'name', 'device', 'vpn', 'remote_address', 'program', 'event', 'state', 'code', 'phase', 'role', 'id', 'peer',
  'threshold', 'subsystem', 'source', 'metric', 'reason', 'collector',
];

export const row = (title) => new RowBuilder(title);
/** A row that is closed until somebody opens it: its panels take no room and ask nothing. */
export const closed = (title, panels) =>
  panels.reduce((closing, panel) => closing.withPanel(panel), row(title).collapsed(true));

// ---------------------------------------------------------------------------------------------------------- dashboards

const variable = (name, label, query) =>
  new QueryVariableBuilder(name)
    .label(label)
    .datasource(PROMETHEUS)
    .query(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.NaturalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.+')
    .current({ selected: true, text: ['All'], value: ['$__all'] })
    .options([]);

/** Variables of a dashboard about appliances. */
export const APPLIANCE_VARIABLES = [
  () => variable('job', 'Job', 'label_values(log_last_message_timestamp_seconds, job)'),
  () =>
    variable('appliance', 'Appliance', 'label_values(log_last_message_timestamp_seconds{job=~"$job"}, appliance)'),
];
/** Variables of the dashboard about the exporter. */
export const EXPORTER_VARIABLES = [
  () => variable('job', 'Job', 'label_values(appliance_log_exporter_build_info, job)'),
  () => variable('instance', 'Instance', 'label_values(appliance_log_exporter_build_info{job=~"$job"}, instance)'),
];

/** A whole dashboard as classic JSON. `panels` is a list of rows and panels. */
export const dashboard = ({ uid, title }, about, variables, annotationExpr, panels) => {
  const builder = new DashboardBuilder(title)
    .uid(uid)
    .description(about)
    .tags([TAG])
    .readonly()
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: 'now-6h', to: 'now' })
    .refresh('1m')
    .version(1)
    .link(
      new DashboardLinkBuilder('Appliances')
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .icon('external link')
        .tooltip('')
        .includeVars(true)
        .keepTime(true),
    )
    .annotation(
      new AnnotationQueryBuilder()
        .name('Alerts')
        .datasource(PROMETHEUS)
        .enable(true)
        .iconColor('red')
        .expr(annotationExpr)
        .step('60s')
        .titleFormat('{{alertname}}')
        .textFormat('{{appliance}} {{severity}}')
        .tagKeys('severity'),
    )
    .withVariable(
      new DatasourceVariableBuilder('datasource')
        .label('Data source')
        .type('prometheus')
        .current({ selected: false, text: 'default', value: 'default' }),
    );
  for (const make of variables) builder.withVariable(make());
  for (const panel of panels) {
    if (panel instanceof RowBuilder) builder.withRow(panel);
    else builder.withPanel(panel);
  }
  const built = builder.build();
  // Classic JSON of schema version 39: old Grafana servers load it and new ones migrate it. The builder writes the
  // newest number; of what came after 39, nothing is used here.
  built.schemaVersion = 39;
  built.id = null;
  let id = 0;
  for (const panel of built.panels) {
    for (const it of [panel, ...(panel.panels ?? [])]) it.id = ++id;
  }
  return built;
};
