// The exporter itself: does it keep up, does it lose anything, does it understand what it reads.

import * as kit from './kit.mjs';
import { DASHBOARDS, own } from './kit.mjs';

const process = (metric) => `process_${metric}{job=~"$job", instance=~"$instance"}`;
const rate = (by, series) => `sum by (${by}) (rate(${series}[$__rate_interval]))`;
const lost = (by, series) =>
  kit.happened(`sum by (${by}) (increase(${series}[$__rate_interval]))`, by.split(',')[0]);
// The lines themselves: they carry the exporter's job, but their instance may have been relabelled to the appliance.
const linesOf = (metric) => `${metric}{job=~"$job"}`;

export default kit.dashboard(
  DASHBOARDS.exporter,
  'Whether the exporter keeps up with its files, loses nothing, and understands what it reads.',
  kit.EXPORTER_VARIABLES,
  'ALERTS{alertstate="firing", job=~"$job", severity=~"critical|warning"}',
  [
    kit.stat({
      title: 'Exporters up',
      about: 'Whether Prometheus could scrape the exporter, by target.',
      queries: [kit.instant('min by (instance) (up{job=~"$job", instance=~"$instance"})', '{{instance}}')],
      mappings: kit.UP,
    }),
    kit.stat({
      title: 'Largest lag',
      about: 'Bytes that are in a file and have not been read yet, for the file that is furthest behind.',
      queries: [kit.instant(`max(${own('source_lag_bytes')})`)],
      unit: 'bytes',
    }),
    kit.stat({
      title: 'Unreadable files',
      about: 'Files that are there and cannot be read: most often the service is not in their group.',
      queries: [kit.instant(`sum(${own('unreadable_files')})`)],
      unit: 'short',
      thresholds: kit.ANY_IS_CRIT,
    }),
    kit.stat({
      title: 'Last reload',
      width: 3,
      about: 'Whether the last reload of settings and rules was good. After a bad one, the old rules stay in force.',
      queries: [kit.instant(`min by (instance) (${own('config_last_reload_successful')})`, '{{instance}}')],
      mappings: kit.HEALTHY,
    }),
    kit.stat({
      title: 'Rules',
      width: 3,
      about: 'Rules that are loaded.',
      queries: [kit.instant(`max by (instance) (${own('rules_loaded')})`, '{{instance}}')],
      unit: 'short',
    }),
    kit.stat({
      title: 'Checkpoint age',
      width: 3,
      about: 'Time since offsets and counters were last saved. No data without --state.dir.',
      queries: [kit.instant(`max by (instance) (${own('checkpoint_age_seconds')})`, '{{instance}}')],
      unit: 's',
    }),
    kit.stat({
      title: 'Lost bytes',
      width: 3,
      about: 'Bytes that were in a file and could not be read before they went, in the time range.',
      queries: [kit.instant(`sum(increase(${own('lost_bytes_total')}[$__range]))`)],
      unit: 'bytes',
      thresholds: kit.ANY_IS_CRIT,
    }),
    kit.row('Reading'),
    kit.lines({
      title: 'Lines read',
      about: 'Lines per second, by source.',
      queries: [kit.range(rate('instance, source', own('lines_read_total')), '{{instance}} {{source}}')],
      unit: 'cps',
    }),
    kit.lines({
      title: 'Bytes read',
      about: 'Bytes per second, by source.',
      queries: [kit.range(rate('instance, source', own('bytes_read_total')), '{{instance}} {{source}}')],
      unit: 'Bps',
    }),
    kit.lines({
      title: 'Lag',
      about: 'Bytes that are in the files and have not been read yet, by source.',
      queries: [
        kit.range(`max by (instance, source) (${own('source_lag_bytes')})`, '{{instance}} {{source}}'),
      ],
      unit: 'bytes',
    }),
    kit.bars({
      title: 'Rotations and truncations',
      about: 'How often a file was replaced or cut, by source. A truncation can lose lines: rotate by renaming.',
      queries: [
        kit.range(lost('instance, source', own('rotations_total')), '{{instance}} {{source}} rotated'),
        kit.range(lost('instance, source', own('truncations_total')), '{{instance}} {{source}} truncated'),
      ],
    }),
    kit.bars({
      title: 'Losses',
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
      about:
        'Share of the log lines of known programs that no rule matches. A step up after a firmware update: the vendor ' +
        'changed a wording. Run explain on the file to see the lines.',
      queries: [
        kit.range(
          `sum by (program) (rate(${linesOf('log_unmatched_messages_total')}[$__rate_interval]))\n/ (sum by (program) (rate(${linesOf('log_messages_total')}[$__rate_interval])) > 0)`,
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
    kit.row('Bounds'),
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
      title: 'Series refused',
      about: 'Samples for which a limit allowed no new series, by metric. Raise the limit or find who floods the log.',
      height: 9,
      queries: [kit.range(lost('metric', own('series_dropped_total')), '{{metric}}')],
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
  ],
);
