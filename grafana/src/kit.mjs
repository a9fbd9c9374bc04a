// What the seven dashboards have in common: variables, selectors, mappings and the few kinds of panel that they use.
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
import { PanelBuilder as StatusHistoryBuilder } from '@grafana/grafana-foundation-sdk/statushistory';
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

/**
 * One gauge per label set, though two exporters may read the same lines (a mirrored pair): the worse one counts.
 */
export const gauge = (by, series) => `max by (${by}) (${series})`;

/** Events per step, for bars. A mirrored pair would count double, hence `max` over the instances. */
export const events = (by, series) =>
  `max by (${by}) (sum by (${by}, instance) (increase(${series}[$__rate_interval])))`;

/** Events in the time range shown, for numbers and tables. */
export const total = (by, series) => `max by (${by}) (sum by (${by}, instance) (increase(${series}[$__range])))`;

/**
 * Series above zero; where all are zero, a single one that says so. A reader can then tell "nothing happened" (somebody
 * counts, and counted nothing) from "no data" (nobody has told). `label` is one that the legend or a column shows.
 */
export const happened = (expr, label = 'appliance', word = 'nothing') =>
  `(${expr}) > 0\nor on ()\nlabel_replace(0 * count(${expr}), "${label}", "${word}", "", "")`;

/** Firing alerts. Alerts about the exporter have no appliance and are shown where that is what one looks at. */
export const alerts = (matchers = '') =>
  `ALERTS{alertstate="firing", appliance=~"$appliance"${matchers && ', ' + matchers}}`;

// ------------------------------------------------------------------------------------- what open conditions there are

// Each is a fault that a log line opened and no log line has closed since: 0 fine, 1 warning, 2 critical, one series
// per appliance and item. `item` names the label that says which one.
const CONDITIONS = [
  ['sensor', 'name', of('ipmi_sensor_state')],
  ['SEL overflow', '', of('ipmi_sel_overflowed')],
  ['disk health', 'device', `2 * (${of('smart_health_ok')} == bool 0)`],
  ['disk attribute', 'device', `2 * ${of('smart_attribute_failed')}`],
  ['disk sectors', 'device', `${of('smart_pending_sectors')} > bool 0`],
  ['disk uncorrectable', 'device', `${of('smart_offline_uncorrectable_sectors')} > bool 0`],
  ['NVMe warning', 'device', `2 * (${of('nvme_critical_warning')} > bool 0)`],
  ['NTLS', '', `2 * (${of('ntls_up')} == bool 0)`],
  ['certificate missing', '', `2 * ${of('ntls_certificate_missing')}`],
  [
    'certificate expiry',
    '',
    `(${of('ntls_certificate_expiry_timestamp_seconds')} - time() < bool 30 * 86400) + ` +
      `(${of('ntls_certificate_expiry_timestamp_seconds')} - time() < bool 7 * 86400)`,
  ],
  ['service in trouble', '', of('appliance_service_state', 'state="in_service_trouble"')],
  ['out of service', 'state', `2 * ${of('appliance_service_state', 'state=~"out_of_service|off_line"')}`],
  ['service error', 'code', of('appliance_service_error', 'code!="30"')],
  ['HSM error', 'code', `2 * ${of('appliance_service_error', 'code="30"')}`],
  ['log disk full', '', `${of('appliance_log_disk_used_ratio')} >= bool 0.9`],
  ['tunnel down', 'vpn', `2 * (${of('ipsec_vpn_up')} == bool 0)`],
];

/** Every condition with its weight (0, 1 or 2), as series with the labels appliance, condition and item. */
export const conditions = CONDITIONS.map(([name, item, expr]) => {
  const by = item ? `appliance, ${item}` : 'appliance';
  const named = item
    ? `label_replace(${gauge(by, expr)}, "item", "$1", "${item}", "(.*)")`
    : gauge(by, expr);
  return `label_replace(max by (appliance${item && ', item'}) (${named}), "condition", "${name}", "", "")`;
}).join('\nor ');

// ------------------------------------------------------------------------------------------------ colours and mappings

const OK = 'green';
const WARN = 'orange';
const CRIT = 'red';
const UNKNOWN = 'text';

const value = (options) => ({ type: MappingType.ValueToText, options });
const noData = {
  type: MappingType.SpecialValue,
  options: { match: SpecialValueMatch.NullAndNan, result: { text: 'no data', color: UNKNOWN, index: 99 } },
};

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
export const UP = [
  value({ 0: { text: 'DOWN', color: CRIT, index: 1 }, 1: { text: 'UP', color: OK, index: 0 } }),
  noData,
];
export const HEALTHY = [
  value({ 0: { text: 'FAILED', color: CRIT, index: 1 }, 1: { text: 'OK', color: OK, index: 0 } }),
  noData,
];
/** 1 is bad. */
export const ASSERTED = [
  value({ 0: { text: 'OK', color: OK, index: 0 }, 1: { text: 'ASSERTED', color: CRIT, index: 1 } }),
  noData,
];
export const FAILED = [
  value({ 0: { text: 'no', color: OK, index: 0 }, 1: { text: 'FAILED', color: CRIT, index: 1 } }),
  noData,
];
export const EXCEEDED = [
  value({ 0: { text: 'kept', color: OK, index: 0 }, 1: { text: 'EXCEEDED', color: CRIT, index: 1 } }),
  noData,
];
/** Neither is bad in itself: presence is good, failure is not. */
export const CONDITION = [
  value({ 0: { text: 'not asserted', color: 'blue', index: 0 }, 1: { text: 'ASSERTED', color: 'purple', index: 1 } }),
  noData,
];
export const MISSING = [
  value({ 0: { text: 'present', color: OK, index: 0 }, 1: { text: 'MISSING', color: CRIT, index: 1 } }),
  noData,
];
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
export const serviceState = gauge(
  'appliance',
  ['in_service', 'in_service_trouble', 'out_of_service', 'off_line']
    .map((state, rank) => `${rank} * (${of('appliance_service_state', `state="${state}"`)} == 1)`)
    .join(' or '),
);

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
export const DAYS_LEFT = [
  [null, CRIT],
  [7, WARN],
  [30, OK],
];
export const SILENCE = [
  [null, OK],
  [3600, WARN],
  [7200, CRIT],
];
export const FILLING = [
  [null, OK],
  [0.75, WARN],
  [0.9, CRIT],
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

const dress = (panel, { title, about, queries, width, height, unit, mappings, thresholds, decimals, min, max }) => {
  panel
    .title(title)
    .description(about)
    .datasource(PROMETHEUS)
    .span(width)
    .height(height)
    .noValue('no data')
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

const series = ({ width = 12, height = 8, ...rest }) =>
  dress(new TimeSeriesBuilder(), { width, height, ...rest })
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic))
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .calcs([]),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));

/** Lines over time. A gap stays a gap. */
export const lines = (options) =>
  series({ min: 0, ...options })
    .drawStyle(GraphDrawStyle.Line)
    .lineWidth(1)
    .fillOpacity(0)
    .showPoints(VisibilityMode.Never)
    .spanNulls(false);

/** Lines with the limits that the appliance itself reported, dashed: legends that end in ` limit`. May be negative. */
export const linesWithLimits = (options) =>
  lines({ ...options, min: undefined }).overrideByRegexp('.* limit$', [
    { id: 'custom.lineStyle', value: new LineStyleBuilder().fill('dash').dash([8, 8]).build() },
  ]);

/** Events over time, stacked. */
export const bars = (options) =>
  series({ min: 0, decimals: 0, unit: 'short', ...options })
    .interval('1m')
    .drawStyle(GraphDrawStyle.Bars)
    .lineWidth(1)
    .fillOpacity(60)
    .stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A'));

/** States over time, one line per thing, that keep their value until the next message. */
export const stateTimeline = ({ width = 24, height = 9, ...rest }) =>
  dress(new StateTimelineBuilder(), { width, height, ...rest })
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

/** States sampled in equal steps, one box per step. */
export const statusHistory = ({ width = 24, height = 9, ...rest }) =>
  dress(new StatusHistoryBuilder(), { width, height, ...rest })
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .maxDataPoints(100)
    .showValue(VisibilityMode.Never)
    .rowHeight(0.85)
    .fillOpacity(80)
    .lineWidth(1)
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .calcs([]),
    );

const colouredText = { id: 'custom.cellOptions', value: { type: TableCellDisplayMode.ColorText } };

// Columns that need little room and leave it to the others.
const WIDTHS = { Times: 80, Lines: 100, Series: 100, Instances: 90, Id: 90, Code: 110, Alarm: 100, Action: 90, State: 80 };

/**
 * A table. `columns` lists what is shown, in that order: `{from, as, …}`, where `from` is a label, or `Value` with the
 * query's letter (`Value` alone if there is one query), and `as` the heading. `sort` lists headings, biggest first;
 * `sortAscending` is one, smallest first.
 */
export const table = ({ width = 12, height = 9, columns, sort = [], sortAscending, ...rest }) => {
  const panel = dress(new TableBuilder(), { width, height, ...rest }).showHeader(true).minWidth(70).filterable(true);
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
  panel.sortBy(sortAscending ? [by(sortAscending, false)] : sort.map((heading) => by(heading, true)));
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

export const row = (title) => new RowBuilder(title);

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
  built.panels.forEach((panel, index) => {
    panel.id = index + 1;
  });
  return built;
};
