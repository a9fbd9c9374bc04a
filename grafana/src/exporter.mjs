// The exporter itself: does it keep up, does it lose anything, does it understand what it reads.

import * as kit from './kit.mjs';
import { DASHBOARDS, own } from './kit.mjs';

const process = (metric) => `process_${metric}{job=~"$job", instance=~"$instance"}`;
const rate = (by, series) => `sum by (${by}) (rate(${series}[$__rate_interval]))`;
const lost = (by, series) => `sum by (${by}) (rate(${series}[$__rate_interval])) * $__interval_ms / 1000 > 0`;
const largest = (expr, by) => kit.extreme(expr, by, 20);
const each = (expr) => kit.rows(`${expr}`);
// The lines themselves: they carry the exporter's job, but their instance may have been relabelled to the appliance.
const linesOf = (metric) => `${metric}{job=~"$job"}`;

export default kit.dashboard(
  DASHBOARDS.exporter,
  'Whether the exporter keeps up with its files, loses nothing, and understands what it reads.',
  kit.EXPORTER_VARIABLES,
  'ALERTS{alertname=~"Appliance.+", alertstate="firing", component="exporter", severity=~"critical|warning"}',
  [
    kit.wrong({
      title: 'Exporters that are wrong, and since when',
      about: 'Alerts that fire about the exporters themselves, and about log messages that they do not know.',
      matchers: 'component=~"exporter|logs"',
      exporters: true,
      height: 6,
    }),
    kit.table({
      title: 'Each exporter',
      about:
        'One row per target of Prometheus that is the exporter. Ready: the backlog of its start is read. Checkpoint: when offsets and ' +
        'counters were last saved; a dash without --state.dir. Lost: bytes that went before they could be read, in the time range.',
      width: 24,
      height: 7,
      queries: [
        each('min by (instance) (appliance:exporter:up{job=~"$job", instance=~"$instance"})'),
        each(`min by (instance) (${own('ready')})`),
        each(`max by (instance) (${own('source_lag_bytes')})`),
        each(`sum by (instance) (${own('followed_files')})`),
        each(`sum by (instance) (${own('unreadable_files')})`),
        each(`sum by (instance) (increase(${own('lost_bytes_total')}[$__range]))`),
        each(`min by (instance) (${own('config_last_reload_successful')})`),
        each(`max by (instance) (${own('checkpoint_age_seconds')})`),
        each(`(min by (instance) (${own('certificate_expiry_timestamp_seconds')} or ${own('syslog_certificate_expiry_timestamp_seconds')}) - time()) / 86400`),
        each(`max by (instance) (${own('rules_loaded')})`),
        each(`max by (instance, version) (${own('build_info')})`),
      ],
      columns: [
        { from: 'instance', as: 'Exporter' },
        { from: 'Value #A', as: 'Up', mappings: kit.UP, width: 80 },
        { from: 'Value #B', as: 'Ready', mappings: kit.READY, width: 90 },
        { from: 'Value #C', as: 'Lag', unit: 'bytes', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #D', as: 'Files', decimals: 0, mappings: kit.NO_DATA, plain: true, width: 70 },
        { from: 'Value #E', as: 'Unreadable', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT, decimals: 0 },
        { from: 'Value #F', as: 'Lost', unit: 'bytes', decimals: 0, mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT },
        { from: 'Value #G', as: 'Last reload', mappings: kit.HEALTHY },
        { from: 'Value #H', as: 'Checkpoint', unit: 's', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #I', as: 'Certificate, days', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #J', as: 'Rules', decimals: 0, mappings: kit.NO_DATA, plain: true, width: 70 },
        { from: 'version', as: 'Version', width: 90 },
      ],
      sortAscending: ['Up', 'Ready'],
      empty: 'Prometheus scrapes no exporter',
    }),
    kit.row('Reading'),
    kit.lines({
      title: 'Lines read',
      about: 'Lines per second, by source; the 20 largest.',
      queries: [kit.range(largest(rate('instance, source', own('lines_read_total')), 'instance, source'), '{{instance}} {{source}}')],
      unit: 'short',
    }),
    kit.lines({
      title: 'Bytes read',
      about: 'Bytes per second, by source; the 20 largest.',
      queries: [kit.range(largest(rate('instance, source', own('bytes_read_total')), 'instance, source'), '{{instance}} {{source}}')],
      unit: 'Bps',
    }),
    kit.lines({
      title: 'Lag',
      about: 'Bytes that are in the files and have not been read yet, by source; the 20 largest.',
      queries: [
        kit.range(
          largest(`max by (instance, source) (max_over_time(${own('source_lag_bytes')}[$__rate_interval]))`, 'instance, source'),
          '{{instance}} {{source}}',
        ),
      ],
      unit: 'bytes',
    }),
    kit.coloured(kit.bars({
      title: 'Rotations and truncations',
      empty: 'none in this time range',
      color: kit.NEUTRAL,
      about: 'How often a file was replaced or cut, by source. A truncation can lose lines: rotate by renaming.',
      queries: [
        kit.range(lost('instance, source', own('rotations_total')), '{{instance}} {{source}} rotated'),
        kit.range(lost('instance, source', own('truncations_total')), '{{instance}} {{source}} truncated'),
      ],
    }), '.* truncated', kit.BAD),
    kit.bars({
      title: 'Losses',
      empty: 'none in this time range',
      about: 'Lines that were dropped, and bytes that went before they could be read, by reason.',
      queries: [
        kit.range(
          lost('instance, source, reason', own('lines_dropped_total')),
          '{{instance}} {{source}} lines {{reason}}',
        ),
        kit.range(
          lost('instance, source, reason', own('lost_bytes_total')),
          '{{instance}} {{source}} bytes {{reason}}',
        ),
      ],
    }),
    kit.lines({
      title: 'Checkpoint age over time',
      about: 'A line that rises without falling back: the state directory cannot be written.',
      queries: [kit.range(`max by (instance) (${own('checkpoint_age_seconds')})`, '{{instance}}')],
      unit: 's',
    }),
    kit.row('Understanding'),
    kit.lines({
      title: 'Lines that no rule knows',
      empty: 'no such line in this time range',
      about:
        'Share of the log lines of known programs that no rule matches. A step up after a firmware update: the vendor ' +
        'changed a wording. Run explain on the file to see the lines.',
      queries: [
        kit.range(
          kit.extreme(
            `sum by (program) (rate(${linesOf('log_unmatched_messages_total')}[$__rate_interval])) / (sum by (program) (rate(${linesOf('log_messages_total')}[$__rate_interval])) > 0)`,
            'program',
          ),
          '{{program}}',
        ),
      ],
      unit: 'percentunit',
      max: 1,
    }),
    kit.table({
      title: 'Rules by hits',
      about: 'The rules that matched most lines in the time range.',
      height: 8,
      queries: [
        kit.rows(`topk(50, sum by (rule) (increase(${own('rule_hits_total')}[$__range])) > 0)`),
      ],
      columns: [
        { from: 'rule', as: 'Rule' },
        { from: 'Value', as: 'Lines', unit: 'short', decimals: 0 },
      ],
      sort: ['Lines'],
    }),
    kit.closed('Receiving', [
    kit.lines({
      title: 'Messages received',
      empty: 'no source listens for syslog',
      about: 'Messages per second that came over the network, by what marked their end; the 20 largest.',
      queries: [
        kit.range(largest(rate('instance, source, framing', own('syslog_frames_total')), 'instance, source, framing'), '{{instance}} {{source}} {{framing}}'),
      ],
      unit: 'short',
    }),
    kit.bars({
      title: 'Not received',
      empty: 'none in this time range',
      about:
        'Datagrams that the kernel dropped, messages that were cut or dropped, lines that name another appliance, and connections ' +
        'that were closed, by reason.',
      queries: [
        kit.range(lost('instance, source', own('syslog_datagrams_dropped_total')), '{{instance}} {{source}} datagrams'),
        kit.range(lost('instance, source, reason', own('syslog_lines_dropped_total')), '{{instance}} {{source}} messages {{reason}}'),
        kit.range(lost('source, appliance', own('syslog_forged_lines_total')), '{{source}} forged by {{appliance}}'),
        kit.range(
          lost('instance, source, transport, result', own('syslog_connections_total', 'result!="accepted"')),
          '{{instance}} {{source}} {{transport}} connections {{result}}',
        ),
      ],
    }),
    kit.lines({
      title: 'Received and not counted yet',
      empty: 'no source listens for syslog',
      about: 'Bytes in the spool, or in memory without a state directory. Segments stay until a checkpoint has them.',
      queries: [kit.range(`max by (instance, source) (${own('syslog_spool_bytes')})`, '{{instance}} {{source}}')],
      unit: 'bytes',
    }),
    kit.lines({
      title: 'Time without space',
      empty: 'no source listens for syslog',
      about: 'Share of the time in which nothing could be received for want of space: senders over TCP waited, datagrams were dropped.',
      queries: [kit.range(rate('instance, source', own('syslog_spool_full_seconds_total')), '{{instance}} {{source}}')],
      unit: 'percentunit',
      max: 1,
    }),
    ]),
    kit.closed('Bounds and resources', [
    kit.table({
      title: 'Series by metric',
      about: 'Series that the exporter holds, by metric. Each metric has a limit.',
      queries: [kit.rows(`topk(50, sum by (metric) (${own('series')}))`)],
      columns: [
        { from: 'metric', as: 'Metric' },
        { from: 'Value', as: 'Series', unit: 'short', decimals: 0 },
      ],
      sort: ['Series'],
    }),
    kit.bars({
      title: 'Series refused or given up',
      empty: 'none in this time range',
      about: 'Samples for which a limit allowed no new series, and series that were given up for want of memory, by metric. Raise the limit or find who floods the log.',
      height: 9,
      queries: [
        kit.range(lost('metric', own('series_dropped_total')), '{{metric}} refused'),
        kit.range(lost('metric', own('series_evicted_total')), '{{metric}} given up'),
      ],
    }),
    kit.lines({
      title: 'Memory',
      about: 'Resident memory of the exporter.',
      width: 8,
      queries: [kit.range(`max by (instance) (${process('resident_memory_bytes')})`, '{{instance}}')],
      unit: 'bytes',
    }),
    kit.lines({
      title: 'CPU',
      about: 'Processor time used by the exporter: 1 is one core.',
      width: 8,
      queries: [kit.range(rate('instance', process('cpu_seconds_total')), '{{instance}}')],
      unit: 'short',
    }),
    kit.lines({
      title: 'Open files',
      about: 'File descriptors that the exporter holds.',
      width: 8,
      queries: [kit.range(`max by (instance) (${process('open_fds')})`, '{{instance}}')],
      unit: 'short',
    }),
    ]),
  ],
);
