// Kernel TLS on ONTAP nodes.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, events, gauge, of, total } from './kit.mjs';

const count = (title, about, metric) =>
  kit.stat({
    title,
    about,
    width: 6,
    queries: [kit.instant(total('appliance', of(metric)), '{{appliance}}')],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
  });

export default kit.dashboard(
  DASHBOARDS.ktls,
  'TLS connections of ONTAP nodes, from their ktls.* events. ONTAP logs them all as notice.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [
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
    kit.stat({
      title: 'Handshake limit',
      about: 'How many handshakes may run at once, as named in the last ktls.cnxnHandshakeLimit event.',
      width: 6,
      queries: [kit.instant(gauge('appliance', of('ktls_handshake_limit')), '{{appliance}}')],
      unit: 'short',
    }),
    kit.bars({
      title: 'Bad authentications by IPspace',
      about: 'ktls.badAuth events: TLS messages whose authentication was wrong.',
      queries: [
        kit.range(kit.happened(events('appliance, ipspace', of('ktls_bad_auth_total'))), '{{appliance}} {{ipspace}}'),
      ],
    }),
    kit.bars({
      title: 'Connection failures by IPspace',
      about: 'ktls.failed events: TLS with a remote host failed several times.',
      queries: [
        kit.range(
          kit.happened(events('appliance, ipspace', of('ktls_connection_failures_total'))),
          '{{appliance}} {{ipspace}}',
        ),
      ],
    }),
    kit.bars({
      title: 'Handshake limit reached over time',
      about: 'ktls.cnxnHandshakeLimit events: further connections failed.',
      width: 24,
      queries: [kit.range(kit.happened(events('appliance', of('ktls_handshake_limit_reached_total'))), '{{appliance}}')],
    }),
  ],
);
