// Tunnels, negotiations and dropped packets of Juniper and Clavister gateways.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, events, gauge, of, total } from './kit.mjs';

// cOS Stream message ids whose gateway action is Drop, in our words.
const DROPS = {
  133: 'reassembled packet too big',
  135: 'payload too small',
  254: 'bad IP version',
  264: 'packet too small',
  278: 'anti-replay check',
  282: 'decryption failed',
  339: 'sequence number overflow',
  413: 'no reassembly buffer',
  464: 'bad next header',
  487: 'reassembly failed',
  572: 'encryption failed',
  579: 'buffer could not grow',
  604: 'bad padding',
  606: 'bad ciphertext length',
  611: 'integrity check failed',
  768: 'ECN mismatch',
  1057: 'no IV',
};

const up = gauge('appliance, vpn, remote_address', of('ipsec_vpn_up'));
const LEGEND = '{{appliance}} {{vpn}} {{remote_address}}';

const tunnels = [
  kit.stat({
    title: 'Tunnels up',
    about: 'Tunnels whose last alarm was up, from VPN_UP_ALARM_USER messages of kmd.',
    queries: [kit.instant(`sum(${up})`)],
    unit: 'short',
  }),
  kit.stat({
    title: 'Tunnels down',
    about: 'Tunnels whose last alarm was down, from VPN_DOWN_ALARM_USER messages of kmd.',
    queries: [kit.instant(`sum(${up} == bool 0)`)],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
  }),
  kit.stat({
    title: 'Tunnel changes',
    about: 'Times that a tunnel went up or down in the time range, from the alarms of kmd, as far as two scrapes could tell.',
    queries: [kit.instant(`sum(max by (appliance, vpn, remote_address) (changes(${of('ipsec_vpn_up')}[$__range])))`)],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
  }),
  kit.stat({
    title: 'Failed negotiations',
    about: 'IKE negotiations that failed in the time range, from kmd messages.',
    queries: [kit.instant(`sum(${total('appliance', of('ike_negotiation_failures_total'))})`)],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
  }),
  kit.stat({
    title: 'Dropped packets logged',
    about: 'Clavister messages whose action is Drop, in the time range. Firewalls may sample what they log.',
    queries: [kit.instant(`sum(${total('appliance', of('ipsec_drops_total'))})`)],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
  }),
  kit.stat({
    title: 'KMD messages',
    about: 'Messages of kmd, the Juniper key management daemon, in the time range.',
    queries: [kit.instant(`sum(${total('appliance', of('kmd_messages_total'))})`)],
    unit: 'short',
  }),
  kit.statusHistory({
    title: 'Tunnels',
    about: 'Each tunnel: up or down after its last alarm, from KMD_ and IKE_VPN_UP/DOWN_ALARM_USER messages.',
    height: 10,
    queries: [kit.range(up, LEGEND)],
    mappings: kit.UP,
  }),
  kit.bars({
    title: 'Flaps',
    about: 'Changes of each tunnel, from the alarms of kmd. A tunnel that changes again and again is worse than one that is down.',
    queries: [
      kit.range(
        kit.happened(
          `max by (appliance, vpn, remote_address) (changes(${of('ipsec_vpn_up')}[$__rate_interval]))`,
        ),
        LEGEND,
      ),
    ],
  }),
  kit.bars({
    title: 'Negotiation failures by reason',
    about: 'IKE negotiations that failed, by reason and phase (1 or 2), from kmd messages.',
    queries: [
      kit.range(
        kit.happened(events('appliance, phase, reason', of('ike_negotiation_failures_total'))),
        '{{appliance}} {{reason}} {{phase}}',
      ),
    ],
  }),
];

const drops = [
  kit.bars({
    title: 'Drops by message',
    about: 'Clavister messages whose action is Drop, by id. The table beside says what an id means.',
    height: 9,
    queries: [kit.range(kit.happened(events('appliance, id', of('ipsec_drops_total'))), '{{appliance}} {{id}}')],
  }),
  kit.table({
    title: 'Drops by meaning',
    about: 'The same Clavister messages in the time range, with the meaning of cOS Stream ids. Eight-digit ids are from cOS Core.',
    queries: [
      kit.rows(
        `label_replace(${kit.happened(total('appliance, id', of('ipsec_drops_total')))}, "meaning", "$1", "id", "(.*)")`,
      ),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'id', as: 'Id' },
      { from: 'meaning', as: 'Meaning', mappings: kit.words(DROPS), plain: true },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
];

const messages = [
  kit.table({
    title: 'KMD messages by id',
    about: 'Messages of kmd, the key management daemon, in the time range, by message id.',
    queries: [kit.rows(kit.happened(total('appliance, id', of('kmd_messages_total'))))],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'id', as: 'Message' },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
  kit.table({
    title: 'Clavister messages by id and action',
    about: 'IPsec messages in the time range, drops included. Action none means that only a log line was written.',
    queries: [kit.rows(kit.happened(total('appliance, id, action', of('ipsec_messages_total'))))],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'id', as: 'Id' },
      { from: 'action', as: 'Action' },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
];

export default kit.dashboard(
  DASHBOARDS.ipsec,
  'Tunnels, negotiations and drops, from the messages of Juniper’s kmd and of Clavister gateways.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [...tunnels, kit.row('Drops'), ...drops, kit.row('Messages'), ...messages],
);
