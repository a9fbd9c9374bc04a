// The HSM and the Network Trust Link that clients reach it through.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, applianceLink, events, happened, of, recorded, serviceState, total } from './kit.mjs';

// In our words; the number is what to look up in the vendor's guide.
const ALARMS = {
  ALM0001: 'soft tamper: over-voltage',
  ALM0002: 'soft tamper: temperature',
  ALM0003: 'soft tamper: cause unknown',
  ALM0004: 'hard tamper: too hot',
  ALM0005: 'hard tamper: too cold',
  ALM0006: 'hard tamper: over-voltage',
  ALM0007: 'hard tamper: internal data damaged',
  ALM0008: 'hard tamper: enclosure opened',
  ALM0009: 'hard tamper: oscillator',
  ALM0010: 'hard tamper: decommission signal',
  ALM0011: 'hard tamper: cause unknown',
  ALM0012: 'hardware error',
  ALM0013: 'high temperature',
  ALM0014: 'battery low',
  ALM0015: 'PCIe link failed',
  ALM0016: 'device error',
  ALM0017: 'request timed out',
  ALM2006: 'decommissioned by firmware',
  ALM2007: 'zeroized',
  ALM2014: 'auto-activation data invalid, deactivated',
};

const count = (title, about, metric) =>
  kit.stat({
    title,
    about,
    width: 6,
    queries: [kit.instant(total('', of(metric)))],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
    empty: 'none ever counted',
  });

// One zeroization is told by lunash and by the kernel: appliances are counted, not messages.
const ZEROIZED =
  'event=~"hsm_zeroized|hsm_decommissioned|zeroized_after_bad_logins|zeroized_on_power_loss|zeroized_for_unknown_reason|zeroizing_after_decommission"';
const now = [
  kit.stat({
    title: 'HSMs zeroized',
    about: 'Appliances whose HSM was zeroized or decommissioned in the time range, from lunash, kernel and oamp messages.',
    width: 6,
    queries: [
      kit.instant(
        `count(time() - max by (site, appliance) (${of('log_event_last_timestamp_seconds', ZEROIZED)}) < $__range_s) or ` +
          `0 * count(${recorded('appliance:worst:max')})`,
      ),
    ],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
  }),
  count('HSM alarms', 'ALM messages of the HSM in the time range, from kernel lines.', 'hsm_alarms_total'),
  count(
    'HSM critical events',
    'Critical events of the HSM in the time range, from oamp messages. The vendor’s SNMP MIB reports 0 here always.',
    'hsm_critical_events_total',
  ),
  count('Failed HSM logins', 'Wrong HSM password or PED key in the time range, from lunash messages.', 'hsm_login_failures_total'),
  kit.table({
    title: 'Each HSM',
    about:
      'NTLS: up after “is online and operational”, down after it terminated, failed to start or crashed. Certificate: whether ' +
      'certmonitord has found it, and the days that it is good for. Service state: sysstatd. A dash means that no line has ever told.',
    width: 24,
    height: 8,
    queries: [
      kit.rows(`max by (site, appliance) (${recorded('appliance:ntls_down:latest')})`),
      kit.rows(serviceState),
      kit.rows(`max by (site, appliance) (${recorded('appliance:ntls_certificate_missing:latest')})`),
      kit.rows(`(min by (site, appliance) (${of('ntls_certificate_expiry_timestamp_seconds')}) - time()) / 86400`),
      kit.rows(total('site, appliance', of('ntls_clients_authenticated_total'))),
      kit.rows(total('site, appliance', of('ntls_handshake_failures_total'))),
    ],
    columns: [
      { from: 'site', as: 'Site' },
      { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.hsm), applianceLink(DASHBOARDS.hardware)] },
      { from: 'Value #A', as: 'NTLS', mappings: kit.DOWN },
      { from: 'Value #B', as: 'Service', mappings: kit.SERVICE },
      { from: 'Value #C', as: 'Certificate', mappings: kit.MISSING },
      { from: 'Value #D', as: 'Good for, days', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #E', as: 'Clients let in', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #F', as: 'Failed handshakes', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
    ],
    sort: ['NTLS', 'Service', 'Failed handshakes'],
    empty: 'no message has told of an HSM',
  }),
  kit.stateTimeline({
    title: 'NTLS that was down',
    about: 'Appliances whose NTLS was down in the time range, 12 at most, from its start, stop and crash messages. Nothing is lost between two points.',
    width: 12,
    height: 7,
    queries: [
      kit.range(
        kit.troubled(kit.worstSince(recorded('appliance:ntls_down:latest')), 'site, appliance', recorded('appliance:ntls_down:latest')),
        '{{site}} {{appliance}}',
      ),
    ],
    mappings: kit.DOWN,
  }),
  kit
    .stateTimeline({
    title: 'Service states that were not good',
    about: 'States other than in service that sysstatd told of in the time range, 12 at most.',
    width: 12,
    height: 7,
    queries: [
      kit.range(
        kit.troubled(
          kit.worstSince(recorded('appliance:service_state:latest', 'state!="in_service"')),
          'site, appliance, state',
          recorded('appliance:service_state:latest', 'state!="in_service"'),
        ),
        '{{site}} {{appliance}} {{state}}',
      ),
    ],
    mappings: kit.TRUE,
  })
    .overrideByRegexp('.* in_service_trouble', [{ id: 'mappings', value: kit.TROUBLE }]),
];

const clients = [
  kit.lines({
    title: 'Client connections per minute',
    about:
      'Connections that NTLS accepted, clients that it authenticated, and disconnects, of all chosen appliances, from NTLS info ' +
      'messages. They stand beside each other: the same client is in all three.',
    queries: [
      ['ntls_connections_accepted_total', 'accepted'],
      ['ntls_clients_authenticated_total', 'authenticated'],
      ['ntls_disconnects_total', 'disconnected'],
    ].map(([metric, name]) => kit.range(`60 * ${kit.rate(of(metric))}`, name)),
    unit: 'short',
    empty: 'no message has told of a client',
  }),
  kit.bars({
    title: 'Handshake failures by reason',
    about:
      'TLS handshakes with a client that failed, from NTLS: “Fail to establish a secure channel” and “Failed handshake”, by RC_ name.',
    queries: [kit.range(events('reason', of('ntls_handshake_failures_total')), '{{reason}}')],
  }),
  kit.table({
    title: 'Refused and broken connections',
    about:
      'Client connections that NTLS refused (credentials, foreign clients) or lost, other than at the handshake, in ' +
      'the time range; the 100 most frequent.',
    queries: [kit.rows(happened('appliance, event, reason', of('ntls_connection_failures_total')))],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'event', as: 'Event' },
      { from: 'reason', as: 'Reason' },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
  kit.table({
    title: 'NTLS errors by code',
    about: 'Messages of NTLS of severity err or crit that are not about one client, in the time range; the 100 most frequent.',
    queries: [kit.rows(happened('appliance, event, code, reason', of('ntls_errors_total')))],
    columns: [
      { from: 'appliance', as: 'Appliance', width: 110 },
      { from: 'event', as: 'Event' },
      { from: 'code', as: 'Code' },
      { from: 'reason', as: 'Reason' },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
];

const hsm = [
  kit.table({
    title: 'Alarms by meaning',
    about: 'ALM messages in kernel lines, in the time range, with the meaning of the number.',
    queries: [
      kit.rows(`label_replace(${happened('appliance, alarm', of('hsm_alarms_total'))}, "meaning", "$1", "alarm", "(.*)")`),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'alarm', as: 'Alarm' },
      { from: 'meaning', as: 'Meaning', mappings: kit.words(ALARMS), plain: true },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
  kit.bars({
    title: 'Zeroization messages by cause',
    about:
      'One zeroization may be told twice. bad_login: lunash; firmware: ALM2007 of the kernel; decommission: ALM2006 and oamp; ' +
      'power_loss and unknown: oamp.',
    height: 9,
    queries: [kit.range(events('cause', of('hsm_zeroizations_total')), '{{cause}}')],
  }),
  kit.bars({
    title: 'HSM login failures',
    about: 'Wrong password or PED key, by role, from lunash messages. Three in a row zeroize the HSM.',
    width: 8,
    queries: [kit.range(events('role', of('hsm_login_failures_total')), '{{role}}')],
  }),
  kit.coloured(
    kit.bars({
      title: 'HSM events',
      about: 'Critical and other events of the HSM, from oamp messages.',
      width: 8,
      queries: [
        kit.range(events('', of('hsm_critical_events_total')), 'critical'),
        kit.range(events('level', of('hsm_noncritical_events_total')), 'not critical, {{level}}'),
      ],
    }),
    'not critical.*',
    kit.PLAIN_COLOR,
  ),
  kit.stateTimeline({
    title: 'Service error codes',
    about: 'Codes in the status lines of sysstatd in the time range, 12 at most. The vendor publishes no table of them; 30 is the HSM.',
    width: 8,
    height: 8,
    queries: [
      kit.range(
        kit.troubled(
          kit.worstSince(recorded('appliance:service_error:latest')),
          'site, appliance, code',
          recorded('appliance:service_error:latest'),
        ),
        '{{site}} {{appliance}} {{code}}',
      ),
    ],
    mappings: kit.ASSERTED,
  }),
];

export default kit.dashboard(
  DASHBOARDS.hsm,
  'The HSM and the Network Trust Link Service, from the messages of NTLS, oamp, lunash, certmonitord and the kernel.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [
    kit.wrong({
      title: 'HSM and NTLS that are wrong, and since when',
      about: 'Alerts that fire about the HSM and the Network Trust Link service.',
      matchers: 'component=~"crypto|ntls"',
      height: 6,
    }),
    ...now,
    kit.row('Clients'),
    ...clients,
    kit.closed('The HSM in detail', hsm),
  ],
);
