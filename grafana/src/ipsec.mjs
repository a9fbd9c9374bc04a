// Tunnels, negotiations and dropped packets of Juniper and Clavister gateways.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, applianceLink, events, gauge, happened, of, recorded, total } from './kit.mjs';

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

const TUNNEL = 'site, appliance, vpn, remote_address';
const DOWN = recorded('appliance:ipsec_vpn_down:latest');
// Those that may be down are shown too.
const down = `(${gauge(TUNNEL, DOWN)} or 1 - min by (${TUNNEL}) (${of('ipsec_vpn_up')}))`;
const LEGEND = '{{site}} {{appliance}} {{vpn}} {{remote_address}}';
const changes = (range) => `max by (${TUNNEL}) (changes(${of('ipsec_vpn_up')}[${range}]))`;

const tunnels = [
  kit.stat({
    title: 'Tunnels up',
    about: 'Tunnels whose last alarm was up, from VPN_UP_ALARM_USER messages of kmd and iked.',
    queries: [kit.instant(`count(${down} == 0) or 0 * count(${down})`)],
    unit: 'short',
    empty: 'none',
  }),
  kit.stat({
    title: 'Tunnels down',
    about: 'Tunnels whose last alarm was down, from VPN_DOWN_ALARM_USER messages of kmd and iked, without those that site.yaml lets be down.',
    queries: [kit.instant(`count(${DOWN} == 1) or 0 * count(${DOWN})`)],
    unit: 'short',
    thresholds: kit.ANY_IS_CRIT,
    empty: 'none',
  }),
  kit.stat({
    title: 'Tunnel changes',
    about: 'Times that a tunnel went up or down in the time range, from the alarms of kmd and iked, as far as two scrapes could tell.',
    queries: [kit.instant(`sum(${changes('$__range')})`)],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
    empty: 'none',
  }),
  kit.stat({
    title: 'Failed negotiations',
    about: 'IKE negotiations that failed in the time range, from kmd messages.',
    queries: [kit.instant(total('', of('ike_negotiation_failures_total')))],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
    empty: 'none',
  }),
  kit.stat({
    title: 'Dropped packets logged',
    about: 'Clavister messages whose action is Drop, in the time range. Firewalls may sample what they log.',
    queries: [kit.instant(total('', of('ipsec_drops_total')))],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
    empty: 'none',
  }),
  kit.stat({
    title: 'KMD messages',
    about: 'Messages of kmd, the Juniper key management daemon, in the time range.',
    queries: [kit.instant(total('', of('kmd_messages_total')))],
    unit: 'short',
    empty: 'none',
  }),
  kit.stateTimeline({
    title: 'Tunnels that were down',
    about:
      'Each tunnel that was down in the time range, 12 at most, from KMD_ and IKE_VPN_UP/DOWN_ALARM_USER messages of kmd and iked. An ' +
      'outage is never lost between two points.',
    height: 9,
    queries: [kit.range(kit.troubled(kit.worstSince(DOWN), TUNNEL, DOWN), LEGEND)],
    mappings: kit.DOWN,
  }),
  kit.table({
    title: 'Tunnels, those that change most first',
    about:
      'State of each tunnel after its last alarm, and how often it changed in the time range, from the messages of kmd and iked; 200 at most. A ' +
      'tunnel that changes again and again is worse than one that is down.',
    width: 24,
    queries: [kit.rows(`topk(200, ${changes('$__range')})`), kit.rows(`${down} and on (${TUNNEL}) topk(200, ${changes('$__range')})`)],
    columns: [
      { from: 'site', as: 'Site' },
      { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.ipsec)] },
      { from: 'vpn', as: 'VPN' },
      { from: 'remote_address', as: 'Peer' },
      { from: 'Value #B', as: 'State', mappings: kit.DOWN },
      { from: 'Value #A', as: 'Changes', unit: 'short', decimals: 0, width: 100 },
    ],
    sort: ['Changes', 'State'],
    empty: 'no message has told of a tunnel',
  }),
  kit.bars({
    title: 'Negotiation failures by reason',
    about: 'IKE negotiations that failed, by reason and phase (1 or 2), from kmd messages.',
    height: 9,
    queries: [
      kit.range(events('phase, reason', of('ike_negotiation_failures_total')), '{{reason}}, phase {{phase}}'),
    ],
  }),
  kit.bars({
    title: 'Negotiation failures by VPN',
    about:
      'Negotiations that failed, by the VPN that the message names, from kmd messages and those of Clavister cOS Core (EFW). Nobody may ' +
      'have said that it is down.',
    height: 9,
    queries: [kit.range(events('vpn', of('ike_vpn_negotiation_failures_total')), '{{vpn}}')],
  }),
];

const drops = [
  // A number and its meaning: the name of a series is the id.
  Object.entries(DROPS).reduce(
    (panel, [id, meaning]) => panel.overrideByName(id, [{ id: 'displayName', value: `${id} ${meaning}` }]),
    kit.bars({
      title: 'Drops by message',
      about: 'Clavister messages whose action is Drop, by id and meaning. Eight-digit ids are from cOS Core.',
      height: 9,
      queries: [kit.range(events('id', of('ipsec_drops_total')), '{{id}}')],
    }),
  ),
  kit.table({
    title: 'Drops by appliance',
    about: 'The same Clavister messages in the time range, with the meaning of cOS Stream ids; the 100 most frequent.',
    queries: [
      kit.rows(`label_replace(${happened('appliance, id', of('ipsec_drops_total'))}, "meaning", "$1", "id", "(.*)")`),
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
    about: 'Messages of kmd, the key management daemon, in the time range, by message id; the 100 most frequent.',
    queries: [kit.rows(happened('appliance, id', of('kmd_messages_total')))],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'id', as: 'Message' },
      { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
    ],
    sort: ['Times'],
  }),
  kit.table({
    title: 'Clavister messages by id and action',
    about: 'IPsec messages in the time range, drops included; the 100 most frequent. Action none means that only a log line was written.',
    queries: [kit.rows(happened('appliance, id, action', of('ipsec_messages_total')))],
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
  [
    kit.wrong({
      title: 'IPsec that is wrong, and since when',
      about: 'Alerts that fire about tunnels, negotiations and dropped packets.',
      matchers: 'component="ipsec"',
      height: 6,
    }),
    ...tunnels,
    kit.row('Drops'),
    ...drops,
    kit.closed('Messages', messages),
  ],
);
