// All appliances on one page, problems first.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, applianceLink, conditions, events, gauge, of, serviceState } from './kit.mjs';

// What can be open, and which programs' messages open and close it.
const FED =
  'sensors and SEL (ipmievd), disks (smartd), NTLS and its certificate (NTLS, certmonitord), service state and error ' +
  'codes (sysstatd), log disk (crontab), tunnels (kmd)';
const heard = gauge('appliance', of('log_last_message_timestamp_seconds'));
// One row per appliance that was ever heard: NaN, shown as "no data", where a query has nothing to say about it.
const everyAppliance = (expr) => `(${expr})\nor on (appliance)\n(0 / 0) * ${heard}`;
const WATCHDOG = 'ALERTS{alertname=~".*Watchdog", alertstate="firing"}';
// The worst of what is open and of what fires: an appliance whose faults are events (kTLS, drops) has only the latter.
const worst = `max by (appliance) (
${conditions}
or label_replace(2 * (count by (appliance) (${alerts('severity="critical"')}) > bool 0), "condition", "critical alert", "", "")
or label_replace(count by (appliance) (${alerts('severity="warning"')}) > bool 0, "condition", "warning alert", "", "")
)`;
// No alert firing is 0 only if rules are evaluated at all, which the watchdog alert, always firing, proves.
const firing = (matchers, by) =>
  `count ${by} (${alerts(matchers)})\nor ${by && 'on (appliance) '}(0 * ${by ? heard : `count(${heard})`} and on () ${WATCHDOG})`;

const stats = [
  kit.stat({
    title: 'Longest silence',
    about:
      'Time since the last line of the appliance that has been quiet longest. Everything below is as old as its last ' +
      'line. Fed by every log message.',
    queries: [kit.instant(`max(time() - ${heard})`)],
    unit: 's',
    thresholds: kit.SILENCE,
  }),
  kit.stat({
    title: 'Appliances',
    about: 'Appliances that have sent at least one line. Fed by every log message.',
    queries: [kit.instant(`count(${heard})`)],
    unit: 'short',
  }),
  kit.stat({
    title: 'Critical',
    about: `Appliances whose worst open condition or firing alert is critical. Conditions: ${FED}.`,
    queries: [kit.instant(`sum(${worst} == bool 2)`)],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
  }),
  kit.stat({
    title: 'Warning',
    about: `Appliances whose worst open condition or firing alert is a warning. Conditions: ${FED}.`,
    queries: [kit.instant(`sum(${worst} == bool 1)`)],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
  }),
  kit.stat({
    title: 'Critical alerts',
    about: 'Firing alerts of severity critical, from the shipped rules, which look at what log messages told. No data if no rule is evaluated.',
    queries: [kit.instant(firing('severity="critical"', ''))],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
  }),
  kit.stat({
    title: 'Warning alerts',
    about: 'Firing alerts of severity warning, from the shipped rules, which look at what log messages told. No data if no rule is evaluated.',
    queries: [kit.instant(firing('severity="warning"', ''))],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
  }),
];

const appliances = kit.table({
  title: 'Appliances, problems first',
  about:
    `One row per appliance. Open counts what a log message has opened and none has closed: ${FED}. ` +
    'Worst is the worst of these and of the alerts that fire. "no data" means that no line has ever told. Click a name for more.',
  width: 24,
  height: 10,
  queries: [
    kit.rows(everyAppliance(worst)),
    kit.rows(everyAppliance(`sum by (appliance) ((${conditions}) > bool 0)`)),
    kit.rows(everyAppliance(serviceState)),
    kit.rows(everyAppliance(gauge('appliance', of('ntls_up')))),
    kit.rows(
      everyAppliance(
        `(min by (appliance) (${of('ntls_certificate_expiry_timestamp_seconds')}) - time()) / 86400`,
      ),
    ),
    kit.rows(
      everyAppliance(
        `sum by (appliance) (${gauge('appliance, vpn, remote_address', of('ipsec_vpn_up'))} == bool 0)`,
      ),
    ),
    kit.rows(`time() - ${heard}`),
    kit.rows(everyAppliance(firing('', 'by (appliance)'))),
  ],
  columns: [
    {
      from: 'appliance',
      as: 'Appliance',
      links: [
        applianceLink(DASHBOARDS.hardware),
        applianceLink(DASHBOARDS.hsm),
        applianceLink(DASHBOARDS.ipsec),
        applianceLink(DASHBOARDS.ktls),
        applianceLink(DASHBOARDS.access),
      ],
    },
    { from: 'Value #A', as: 'Worst', mappings: kit.STATE },
    { from: 'Value #B', as: 'Open', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN, decimals: 0 },
    { from: 'Value #C', as: 'Service', mappings: kit.SERVICE },
    { from: 'Value #D', as: 'NTLS', mappings: kit.UP },
    {
      from: 'Value #E',
      as: 'Certificate',
      unit: 'd',
      decimals: 0,
      mappings: kit.NO_DATA,
      thresholds: kit.DAYS_LEFT,
    },
    { from: 'Value #F', as: 'Tunnels down', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT, decimals: 0 },
    { from: 'Value #G', as: 'Last line', unit: 's', decimals: 0, thresholds: kit.SILENCE },
    { from: 'Value #H', as: 'Alerts', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN, decimals: 0 },
  ],
  sort: ['Worst', 'Open', 'Alerts'],
});

const open = kit.table({
  title: 'Open conditions',
  about:
    `What a log message has opened and none has closed: ${FED}.`,
  width: 12,
  queries: [kit.rows(kit.happened(conditions, 'condition', 'nothing is open'))],
  columns: [
    { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.hardware)] },
    { from: 'condition', as: 'Condition' },
    { from: 'item', as: 'Item' },
    { from: 'Value', as: 'State', mappings: kit.STATE },
  ],
  sort: ['State'],
});

const firingTable = kit.table({
  title: 'Firing alerts',
  about: 'Alerts of the shipped rules that fire now, for the chosen appliances. No data if no rule is evaluated.',
  width: 12,
  queries: [kit.rows(
      `count by (alertname, appliance, severity) (${alerts()})\nor on ()\n` +
        `label_replace(0 * count(${WATCHDOG}), "alertname", "no alert fires", "", "")`,
    )],
  columns: [
    { from: 'severity', as: 'Severity', width: 80 },
    { from: 'alertname', as: 'Alert' },
    { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.hardware)], width: 120 },
    { from: 'Value', as: 'Instances', decimals: 0, unit: 'short' },
  ],
  sortAscending: 'Severity',
});

const notable = kit.table({
  title: 'Latest notable events',
  about:
    'How long ago each event that an alert looks at last became known, newest first. There is no row before the first. Fed by ' +
    'every log message that a rule marks as notable.',
  width: 24,
  queries: [
    kit.rows(
      `bottomk(100, time() - max by (appliance, program, event) (${of('log_event_last_timestamp_seconds')}))`,
    ),
  ],
  columns: [
    { from: 'Value', as: 'Ago', unit: 's', decimals: 0, width: 120 },
    { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.hardware)] },
    { from: 'program', as: 'Program' },
    { from: 'event', as: 'Event' },
  ],
  sortAscending: 'Ago',
});

const history = [
  kit.stateTimeline({
    title: 'Worst state over time',
    about: `The worst open condition or firing alert of each appliance. Conditions: ${FED}.`,
    queries: [kit.range(worst, '{{appliance}}')],
    mappings: kit.STATE,
  }),
  kit.bars({
    title: 'Attention notices',
    about:
      'Conditions under which the appliance’s own trap agent would send a notification: ipmievd, smartd, NTLS, ' +
      'sysstatd and kernel messages.',
    queries: [
      kit.range(
        kit.happened(events('appliance, subsystem, state', of('appliance_attention_total'))),
        '{{appliance}} {{subsystem}} {{state}}',
      ),
    ],
  }),
  kit.bars({
    title: 'Crashes',
    about: 'Programs on an appliance that logged CRASH AND BURN.',
    queries: [
      kit.range(kit.happened(events('appliance, program', of('log_crashes_total'))), '{{appliance}} {{program}}'),
    ],
  }),
  kit.lines({
    title: 'Lines by appliance',
    about: 'Log lines per second. A line that goes flat at zero is an appliance that has gone quiet.',
    queries: [
      kit.range(
        `max by (appliance) (sum by (appliance, instance) (rate(${of('log_messages_total')}[$__rate_interval])))`,
        '{{appliance}}',
      ),
    ],
    unit: 'cps',
  }),
  kit.bars({
    title: 'Lines by severity',
    about: 'Log lines of severity warning and worse. Severity is the sender’s opinion; Luna logs failures as info.',
    queries: [
      kit.range(
        kit.happened(events('severity', of('log_messages_total', 'severity=~"warning|err|crit|alert|emerg"')), 'severity'),
        '{{severity}}',
      ),
    ],
  }),
  kit.table({
    title: 'Events',
    about:
      'What rules have recognised in the time range, most frequent first. Every message that a vendor documents is an ' +
      'event with a name of its own.',
    width: 24,
    queries: [kit.rows(`topk(200, ${kit.total('appliance, program, event', of('log_events_total'))} > 0)`)],
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
  'All appliances, problems first. Everything comes from their log lines; what no line has told reads as no data.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [...stats, appliances, open, firingTable, notable, kit.row('Over time'), ...history],
);
