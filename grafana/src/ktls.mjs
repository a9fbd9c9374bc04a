// TLS in the kernel of ONTAP: what clients and replication partners fail at.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, applianceLink, events, gauge, of, total } from './kit.mjs';

const count = (title, about, metric) =>
  kit.stat({
    title,
    about,
    width: 8,
    queries: [kit.instant(total('', of(metric)))],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
    empty: 'no ONTAP node was heard',
  });

export default kit.dashboard(
  DASHBOARDS.ktls,
  'TLS connections of ONTAP nodes, from their ktls.* events. ONTAP logs them all as notice, and nothing about those that work.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [
    kit.wrong({
      title: 'TLS that is wrong, and since when',
      about: 'Alerts that fire about TLS in the kernel of ONTAP nodes.',
      matchers: 'component="ktls"',
      height: 5,
    }),
    count(
      'Bad authentications',
      'TLS messages whose authentication was wrong, in the time range, from ktls.badAuth. Many may mean an attack.',
      'ktls_bad_auth_total',
    ),
    count(
      'Connection failures',
      'Remote hosts with which TLS failed several times, in the time range, from ktls.failed.',
      'ktls_connection_failures_total',
    ),
    count(
      'Handshake limit reached',
      'Times that no more handshakes could run at once, in the time range, from ktls.cnxnHandshakeLimit.',
      'ktls_handshake_limit_reached_total',
    ),
    kit.coloured(kit.bars({
      title: 'Failures over time',
      about: 'ktls.badAuth, ktls.failed and ktls.cnxnHandshakeLimit events of all chosen nodes, by IPspace.',
      queries: [
        kit.range(events('ipspace', of('ktls_bad_auth_total')), 'bad authentication, {{ipspace}}'),
        kit.range(events('ipspace', of('ktls_connection_failures_total')), 'connection failed, {{ipspace}}'),
        kit.range(events('', of('ktls_handshake_limit_reached_total')), 'handshake limit'),
      ],
      height: 9,
    }), 'connection failed.*', kit.SUSPECT),
    kit.table({
      title: 'Each node',
      about: 'The same ktls events by node in the time range, and the handshake limit that it named last.',
      queries: [
        kit.rows(`${total('appliance', of('ktls_bad_auth_total'))} > 0.5`),
        kit.rows(`${total('appliance', of('ktls_connection_failures_total'))} > 0.5`),
        kit.rows(`${total('appliance', of('ktls_handshake_limit_reached_total'))} > 0.5`),
        kit.rows(gauge('appliance', of('ktls_handshake_limit'))),
      ],
      columns: [
        { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.ktls)] },
        { from: 'Value #A', as: 'Bad auth.', unit: 'short', decimals: 0, mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN },
        { from: 'Value #B', as: 'Failed', unit: 'short', decimals: 0, mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN },
        { from: 'Value #C', as: 'Limit reached', unit: 'short', decimals: 0, mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT },
        { from: 'Value #D', as: 'Limit', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
      ],
      sort: ['Bad auth.', 'Failed'],
    }),
  ],
);
