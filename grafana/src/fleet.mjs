// All appliances on one page, problems first. What it asks of hours is recorded (rules/alerts/overview.yaml), so that it
// costs Prometheus as little for hundreds of appliances as for a few.

import * as kit from './kit.mjs';
import { DASHBOARDS, WATCHDOG, alerts, applianceLink, events, happened, of, recorded, serviceState } from './kit.mjs';

const WORST = recorded('appliance:worst:max');
// What was watched at some time of the range, and is not now: its collector is away, or forgot it.
const LOST = `last_over_time(${WORST}[$__range]) unless ${WORST}`;
const count = (of, all = WORST) => `count(${of}) or 0 * count(${all})`;

const stats = [
  kit.stat({
    title: 'Critical',
    about: 'Appliances with a critical alert that fires, about what their log messages told.',
    queries: [kit.instant(count(`${WORST} == 2`))],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
    empty: 'no rules loaded',
  }),
  kit.stat({
    title: 'Warning',
    about: 'Appliances whose worst firing alert is a warning, about what their log messages told.',
    queries: [kit.instant(count(`${WORST} == 1`))],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
    empty: 'no rules loaded',
  }),
  kit.stat({
    title: 'Well',
    about: 'Appliances that have sent a log message, and that no alert fires for.',
    queries: [kit.instant(count(`${WORST} == 0`))],
    unit: 'short',
    empty: 'no rules loaded',
  }),
  kit.stat({
    title: 'Not watched',
    about:
      'Appliances whose log messages were counted within the time range, and that no collector tells of now; and those that the ' +
      'configuration lists and nobody ever heard.',
    queries: [
      kit.instant(
        `count((${LOST}) or (max by (site, appliance) (${of('appliance_expected')}) unless ${WORST})) or 0 * count(${WATCHDOG})`,
      ),
    ],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
    empty: 'no rules loaded',
  }),
  kit.stat({
    title: 'Silent',
    about: 'Appliances that should have sent a log message by now, by the thresholds of site.yaml.',
    queries: [kit.instant(count(alerts('', 'ApplianceSilent')))],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
    empty: 'no rules loaded',
  }),
  kit.stat({
    title: 'Collectors down',
    about: 'Exporters that Prometheus cannot scrape. What they alone knew is missing on every page.',
    queries: [kit.instant('count(appliance:exporter:up == 0) or 0 * count(appliance:exporter:up)')],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
    empty: 'none known',
  }),
];

const firing = (severity) =>
  `count by (site, appliance) (${recorded('appliance:alert:since_timestamp_seconds', `severity="${severity}"`)})`;
const appliances = kit.table({
  title: 'Appliances, problems first',
  about:
    'One row per appliance. Worst is the worst alert that fires; NOT WATCHED means that no collector tells of it any more. ' +
    'Fed by all log messages: service state (sysstatd), NTLS (NTLS), certificate (certmonitord), VPNs (kmd). A dash means that ' +
    'no line has ever told. Click a name for more.',
  width: 24,
  height: 10,
  queries: [
    kit.rows(`${WORST} or 3 + 0 * (${LOST})`),
    kit.rows(firing('critical')),
    kit.rows(firing('warning')),
    kit.rows(serviceState),
    kit.rows(`max by (site, appliance) (${recorded('appliance:ntls_down:latest')})`),
    kit.rows(`(min by (site, appliance) (${of('ntls_certificate_expiry_timestamp_seconds')}) - time()) / 86400`),
    kit.rows(`sum by (site, appliance) (${recorded('appliance:ipsec_vpn_down:latest')})`),
    kit.rows(`time() - last_over_time(${recorded('appliance:last_message_timestamp_seconds:max')}[$__range])`),
  ],
  columns: [
    { from: 'site', as: 'Site' },
    {
      from: 'appliance',
      as: 'Appliance',
      links: ['hardware', 'hsm', 'ipsec', 'ktls', 'access'].map((name) => applianceLink(DASHBOARDS[name])),
    },
    { from: 'Value #A', as: 'Worst', mappings: kit.WORST, width: 130 },
    { from: 'Value #B', as: 'Critical', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT, decimals: 0, width: 90 },
    { from: 'Value #C', as: 'Warnings', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN, decimals: 0, width: 100 },
    { from: 'Value #D', as: 'Service', mappings: kit.SERVICE },
    { from: 'Value #E', as: 'NTLS', mappings: kit.DOWN, width: 90 },
    { from: 'Value #F', as: 'Certificate, days', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
    { from: 'Value #G', as: 'VPNs down', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT, decimals: 0, width: 110 },
    { from: 'Value #H', as: 'Last line', unit: 'dtdurations', decimals: 0, mappings: kit.NO_DATA, plain: true },
  ],
  sort: ['Worst', 'Critical', 'Warnings'],
  empty: 'no appliance was heard, or the shipped rules are not loaded',
});

const history = kit.stateTimeline({
  title: 'Worst alert over time',
  about:
    'The worst alert of each appliance, of those 12 that had the worst, from what their log messages told. Nothing is lost between ' +
    'two points: a box is as bad as its worst moment.',
  queries: [
    kit.range(kit.troubled(kit.worstSince(WORST), 'site, appliance', WORST), '{{site}} {{appliance}}'),
  ],
  mappings: kit.WORST,
});

const notable = kit.table({
  title: 'Latest notable events',
  about:
    'How long ago each event that an alert looks at last became known, newest first: the last 50. There is no row before the ' +
    'first. Fed by every log message that a rule marks as notable.',
  width: 24,
  queries: [
    kit.rows(
      `bottomk(50, time() - max by (site, appliance, program, event) (${of('log_event_last_timestamp_seconds')}))`,
    ),
  ],
  columns: [
    { from: 'Value', as: 'Ago', unit: 'dtdurations', decimals: 0 },
    { from: 'site', as: 'Site' },
    { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.hardware)] },
    { from: 'program', as: 'Program' },
    { from: 'event', as: 'Event' },
  ],
  sortAscending: ['Ago'],
  empty: 'no notable event has ever become known',
});

// What the sender calls it, worst first, with one colour each.
const SEVERITIES = { emerg: 'dark-red', alert: 'red', crit: 'semi-dark-red', err: 'orange', warning: 'yellow' };
const bySeverity = Object.entries(SEVERITIES).reduce(
  (panel, [severity, fixedColor]) =>
    panel.overrideByName(severity, [{ id: 'color', value: { mode: 'fixed', fixedColor } }]),
  kit.bars({
    title: 'Lines by severity',
    about: 'Log messages of severity warning and worse. Severity is the sender’s opinion; Luna logs failures as info.',
    queries: [
      kit.range(
        events('severity', of('log_messages_total', 'severity=~"warning|err|crit|alert|emerg"')),
        '{{severity}}',
      ),
    ],
  }),
);

const volume = [
  kit.coloured(
    kit.bars({
      title: 'Attention notices',
      about:
        'Conditions under which an appliance’s own trap agent would send a notification, as they begin (assert) and end ' +
        '(deassert): ipmievd, smartd, NTLS, sysstatd and kernel messages.',
      queries: [
        kit.range(events('subsystem, state', of('appliance_attention_total')), '{{subsystem}} {{state}}'),
      ],
    }),
    '.* deassert',
    kit.GOOD,
  ),
  kit.bars({
    title: 'Crashes',
    about: 'Programs of an appliance that logged CRASH AND BURN.',
    queries: [kit.range(events('program', of('log_crashes_total')), '{{program}}')],
  }),
  kit.lines({
    title: 'Lines by appliance',
    about: 'Log messages per second of the 20 appliances that log most. A line that goes flat at zero is one that has gone quiet.',
    queries: [
      kit.range(
        kit.extreme(recorded('appliance:log_messages:rate5m'), 'site, appliance'),
        '{{site}} {{appliance}}',
      ),
    ],
    unit: 'short',
  }),
  bySeverity,
  kit.table({
    title: 'Events',
    about:
      'What rules have recognised in the time range, most frequent first. Every log message that a vendor documents is an ' +
      'event with a name of its own.',
    width: 24,
    queries: [kit.rows(happened('appliance, program, event', of('log_events_total'), 200))],
    columns: [
      { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.hardware)] },
      { from: 'program', as: 'Program' },
      { from: 'event', as: 'Event' },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
];

export default kit.dashboard(
  DASHBOARDS.fleet,
  'All appliances, problems first: what is wrong, since when, and what to do. Everything comes from their log lines.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [
    ...stats,
    kit.wrong({
      title: 'What is wrong, and since when',
      about: 'Alerts that fire about appliances, from what their log messages told, and about the exporters.',
      exporters: true,
    }),
    appliances,
    history,
    notable,
    kit.closed('What is logged', volume),
  ],
);
