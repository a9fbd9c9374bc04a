// The HSM and the Network Trust Link that clients reach it through.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, events, gauge, of, serviceState, total } from './kit.mjs';

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

const count = (title, about, by, metric, legend, extra = {}) =>
  kit.stat({
    title,
    about,
    queries: [kit.instant(total(by, metric), legend)],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
    ...extra,
  });

const now = [
  kit.stat({
    title: 'NTLS',
    about: 'UP after “is online and operational”, DOWN after NTLS terminated, failed to start or crashed.',
    queries: [kit.instant(gauge('appliance', of('ntls_up')), '{{appliance}}')],
    mappings: kit.UP,
  }),
  kit.stat({
    title: 'Certificate',
    about: 'Days until the NTLS server certificate expires, from certmonitord messages.',
    queries: [
      kit.instant(
        `(min by (appliance) (${of('ntls_certificate_expiry_timestamp_seconds')}) - time()) / 86400`,
        '{{appliance}}',
      ),
    ],
    unit: 'd',
    thresholds: kit.DAYS_LEFT,
  }),
  kit.stat({
    title: 'Certificate file',
    about: 'Whether certmonitord has found the NTLS server certificate.',
    queries: [kit.instant(gauge('appliance', of('ntls_certificate_missing')), '{{appliance}}')],
    mappings: kit.MISSING,
  }),
  count(
    'Zeroizations',
    'Times the HSM was zeroized or decommissioned in the time range, from lunash, kernel and oamp messages.',
    'appliance',
    of('hsm_zeroizations_total'),
    '{{appliance}}',
  ),
  count(
    'HSM alarms',
    'ALM messages of the HSM in the time range, from kernel lines.',
    'appliance',
    of('hsm_alarms_total'),
    '{{appliance}}',
  ),
  count(
    'HSM critical events',
    'Critical events of the HSM in the time range, from oamp messages. The vendor’s SNMP MIB reports 0 here always.',
    'appliance',
    of('hsm_critical_events_total'),
    '{{appliance}}',
  ),
];

const history = [
  kit.statusHistory({
    title: 'NTLS over time',
    about: 'Whether NTLS was up, from its start, stop and crash messages.',
    width: 12,
    height: 6,
    queries: [kit.range(gauge('appliance', of('ntls_up')), '{{appliance}}')],
    mappings: kit.UP,
  }),
  kit.stateTimeline({
    title: 'Service state',
    about: 'State in the status lines of sysstatd.',
    width: 12,
    height: 6,
    queries: [kit.range(serviceState, '{{appliance}}')],
    mappings: kit.SERVICE,
  }),
];

const clients = [
  kit.bars({
    title: 'Client connections',
    about: 'Connections that NTLS accepted, clients that it authenticated, and disconnects, from NTLS info messages.',
    queries: [
      kit.range(events('appliance', of('ntls_connections_accepted_total')), '{{appliance}} accepted'),
      kit.range(events('appliance', of('ntls_clients_authenticated_total')), '{{appliance}} authenticated'),
      kit.range(events('appliance', of('ntls_disconnects_total')), '{{appliance}} disconnected'),
    ],
  }),
  kit.bars({
    title: 'Handshake failures by reason',
    about:
      'TLS handshakes with a client that failed, from NTLS: “Fail to establish a secure channel” and “Failed handshake”, by RC_ name.',
    queries: [
      kit.range(
        kit.happened(events('appliance, reason', of('ntls_handshake_failures_total'))),
        '{{appliance}} {{reason}}',
      ),
    ],
  }),
  kit.table({
    title: 'Refused and broken connections',
    about:
      'Client connections that NTLS refused (credentials, foreign clients) or lost, other than at the handshake, in ' +
      'the time range.',
    queries: [
      kit.rows(kit.happened(total('appliance, event, reason', of('ntls_connection_failures_total')))),
    ],
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
    about: 'Messages of NTLS of severity err or crit that are not about one client, in the time range.',
    queries: [kit.rows(kit.happened(total('appliance, event, code, reason', of('ntls_errors_total'))))],
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
      kit.rows(
        `label_replace(${kit.happened(total('appliance, alarm', of('hsm_alarms_total')))}, "meaning", "$1", "alarm", "(.*)")`,
      ),
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
    title: 'Zeroizations by cause',
    about: 'bad_login: lunash; firmware: ALM2007; decommission: ALM2006 and oamp; power_loss and unknown: oamp.',
    height: 9,
    queries: [kit.range(kit.happened(events('appliance, cause', of('hsm_zeroizations_total'))), '{{appliance}} {{cause}}')],
  }),
  kit.bars({
    title: 'HSM login failures',
    about: 'Wrong password or PED key, by role, from lunash messages. Three in a row zeroize the HSM.',
    width: 8,
    queries: [kit.range(kit.happened(events('appliance, role', of('hsm_login_failures_total'))), '{{appliance}} {{role}}')],
  }),
  kit.bars({
    title: 'HSM events',
    about: 'Critical and non-critical events of the HSM, from oamp messages.',
    width: 8,
    queries: [
      kit.range(kit.happened(events('appliance', of('hsm_critical_events_total'))), '{{appliance}} critical'),
      kit.range(
        kit.happened(events('appliance, level', of('hsm_noncritical_events_total'))),
        '{{appliance}} non-critical {{level}}',
      ),
    ],
  }),
  kit.stateTimeline({
    title: 'Service error codes',
    about: 'Codes in the status lines of sysstatd. The vendor publishes no table of them; 30 is the HSM.',
    width: 8,
    height: 8,
    queries: [kit.range(gauge('appliance, code', of('appliance_service_error')), '{{appliance}} {{code}}')],
    mappings: kit.ASSERTED,
  }),
];

export default kit.dashboard(
  DASHBOARDS.hsm,
  'The HSM and the Network Trust Link Service, from the messages of NTLS, oamp, lunash, certmonitord and the kernel.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [...now, ...history, kit.row('Clients'), ...clients, kit.row('HSM'), ...hsm],
);
