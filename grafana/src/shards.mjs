// Partitions of Kafka's topics: who counts them, whether something waits, whether something was lost.

import * as kit from './kit.mjs';
import { DASHBOARDS, own } from './kit.mjs';

const NONE = 'no source reads a topic';
const rate = (by, series) => `sum by (${by}) (rate(${series}[$__rate_interval]))`;
const lost = (by, series) => `sum by (${by}) (rate(${series}[$__rate_interval])) * $__interval_ms / 1000 > 0`;
const largest = (expr, by) => kit.extreme(expr, by, 20);
const of = 'instance, source, partition';
const shard = '{{instance}} {{source}}/{{partition}}';
const worst = (metric) => `max by (${of}) (${own(metric)})`;
const worstSince = (metric) => `max by (${of}) (${kit.worstSince(own(metric))})`;
// The instance of these may have been relabelled to the appliance.
const appliances = 'max by (appliance, source, partition) (appliance_shard{job=~"$job"})';
const counted = `sum by (source) (max by (source, partition) (${own('shard_state', 'state="active"')}))`;

export default kit.dashboard(
  DASHBOARDS.shards,
  'Whether each partition of the topics is counted by one exporter, keeps up, and loses nothing.',
  kit.EXPORTER_VARIABLES,
  'ALERTS{alertname=~"ApplianceShard.+|ApplianceInTwoPartitions", alertstate="firing"}',
  [
    kit.wrong({
      title: 'Shards that are wrong, and since when',
      about: 'Alerts that fire about partitions and whoever reads them.',
      matchers: 'alertname=~"ApplianceShard.+"',
      exporters: true,
      height: 5,
    }),
    kit.table({
      title: 'Each topic',
      about:
        'Counted: partitions that an exporter has in its scrapes. Waiting: records that are not read yet. Lost: records that were ' +
        'deleted before they were read. Replaced: times that another log was found. Skipped: records that could not be used. These ' +
        'three and the lines are for the time range.',
      width: 24,
      height: 5,
      queries: [
        kit.rows(`max by (source) (${own('shard_partitions')})`),
        kit.rows(counted),
        kit.rows(`sum by (source) (${own('shard_lag_records')})`),
        kit.rows(`sum by (source) (increase(${own('shard_lost_records_total')}[$__range]))`),
        kit.rows(`sum by (source) (increase(${own('shard_log_replaced_total')}[$__range]))`),
        kit.rows(`sum by (source) (increase(${own('shard_records_dropped_total')}[$__range]))`),
        kit.rows(`sum by (source) (increase(${own('lines_read_total')}[$__range]) and on (job, instance, source) ${own('shard_partitions')})`),
      ],
      columns: [
        { from: 'source', as: 'Source' },
        { from: 'Value #A', as: 'Partitions', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #B', as: 'Counted', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #C', as: 'Waiting', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #D', as: 'Lost', decimals: 0, mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT },
        { from: 'Value #E', as: 'Replaced', decimals: 0, mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT },
        { from: 'Value #F', as: 'Skipped', decimals: 0, mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN },
        { from: 'Value #G', as: 'Lines', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
      ],
      sortAscending: ['Source'],
      empty: NONE,
    }),
    kit.table({
      title: 'Each shard',
      about:
        'One row for each partition and exporter that reads it, the one that is behind for longest first; 500 of them. Only an active ' +
        'one is in scrapes. Heard: how long ago the leader said where the partition ends. Saved: age of the checkpoint.',
      width: 24,
      height: 9,
      queries: [
        kit.rows(`topk(500, max by (instance, source, partition, state) (${own('shard_state')} == 1))`),
        kit.rows(worst('shard_next_offset')),
        kit.rows(worst('shard_lag_records')),
        kit.rows(worst('shard_lag_seconds')),
        kit.rows(worst('shard_contact_age_seconds')),
        kit.rows(worst('shard_checkpoint_age_seconds')),
      ],
      columns: [
        { from: 'source', as: 'Source' },
        { from: 'partition', as: 'Partition', width: 90 },
        { from: 'instance', as: 'Exporter' },
        { from: 'state', as: 'State', width: 120 },
        { from: 'Value #B', as: 'Next offset', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #C', as: 'Waiting', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #D', as: 'Behind', unit: 's', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #E', as: 'Heard', unit: 's', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #F', as: 'Saved', unit: 's', decimals: 0, mappings: kit.NO_DATA, plain: true },
      ],
      sort: ['Behind', 'Heard'],
      empty: NONE,
    }),
    kit.row('Reading'),
    kit.lines({
      title: 'Partitions and those that are counted',
      about: 'Where the second line is below the first, appliances are not watched.',
      queries: [
        kit.range(`max by (source) (${own('shard_partitions')})`, '{{source}} partitions'),
        kit.range(counted, '{{source}} counted'),
      ],
      unit: 'short',
      decimals: 0,
      empty: NONE,
    }),
    kit.lines({
      title: 'Behind',
      about: 'For how long a record has waited; the 20 longest.',
      queries: [kit.range(largest(worstSince('shard_lag_seconds'), of), shard)],
      unit: 's',
      empty: NONE,
    }),
    kit.lines({
      title: 'Heard of the leader',
      about:
        'Age of the last answer of a partition\'s leader, which is asked every five seconds; the 20 oldest. One that rises: nobody knows ' +
        'what is in this partition.',
      queries: [kit.range(largest(worstSince('shard_contact_age_seconds'), of), shard)],
      unit: 's',
      empty: NONE,
    }),
    kit.bars({
      title: 'Lost and skipped',
      empty: 'none in this time range',
      about:
        'Records that were deleted before they were read, other logs that were found, records of the state topic that were missing, and ' +
        'records that could not be used, by reason.',
      queries: [
        kit.range(lost('source, partition', own('shard_lost_records_total')), 'lost of {{source}}/{{partition}}'),
        kit.range(lost('source, partition', own('shard_log_replaced_total')), 'another log in {{source}}/{{partition}}'),
        kit.range(lost('source, partition', own('shard_state_missing_total')), 'state missing of {{source}}/{{partition}}'),
        kit.range(lost('source, reason', own('shard_records_dropped_total')), 'skipped of {{source}}: {{reason}}'),
      ],
    }),
    kit.bars({
      title: 'Troubles with brokers',
      empty: 'none in this time range',
      about: 'As librdkafka names them. It tries again by itself.',
      queries: [kit.range(lost('instance, source, error', own('kafka_errors_total')), '{{instance}} {{source}} {{error}}')],
    }),
    kit.lines({
      title: 'Age of checkpoints',
      about: 'A line that rises without falling back: the state of this shard cannot be written. The 20 oldest.',
      queries: [kit.range(largest(worst('shard_checkpoint_age_seconds'), of), shard)],
      unit: 's',
      empty: 'no state directory or topic, or no source that reads a topic',
    }),
    kit.lines({
      title: 'Rest of leases',
      about: 'For how long the last commit still allows to show a shard that keeps its state in a topic. At 0 it is hidden. The 20 shortest.',
      queries: [kit.range(`bottomk(20, min by (instance, source, partition) (${own('shard_lease_seconds')}))`, shard)],
      unit: 's',
      empty: 'no state topic',
    }),
    kit.bars({
      title: 'Changes of owners',
      empty: 'none in this time range',
      about: 'Shards with a state topic that were restored, released, fenced off or contended, or whose lease was over.',
      queries: [kit.range(lost('instance, event', own('shard_events_total')), '{{instance}} {{event}}')],
    }),
    kit.row('Keys'),
    kit.lines({
      title: 'Lines of each exporter',
      about: 'Lines per second; the 20 largest.',
      queries: [
        kit.range(
          largest(
            `${rate('instance, source', own('lines_read_total'))} and on (instance, source) ${own('shard_partitions')}`,
            'instance, source',
          ),
          '{{instance}} {{source}}',
        ),
      ],
      unit: 'short',
      empty: NONE,
    }),
    kit.table({
      title: 'Appliances of each partition',
      about: 'How keys are spread over partitions. Each log message is counted in the partition that its appliance\'s key leads to.',
      width: 6,
      height: 8,
      queries: [kit.rows(`topk(500, count by (source, partition) (${appliances}))`)],
      columns: [
        { from: 'source', as: 'Source' },
        { from: 'partition', as: 'Partition', width: 90 },
        { from: 'Value', as: 'Appliances', unit: 'short', decimals: 0 },
      ],
      sort: ['Appliances'],
      empty: NONE,
    }),
    kit.table({
      title: 'Appliances in several partitions',
      about: 'Their log messages have several keys, or producers place one key differently. The order of their lines is lost.',
      width: 6,
      height: 8,
      queries: [kit.rows(`topk(100, count by (appliance) (${appliances}) > 1)`)],
      columns: [
        { from: 'appliance', as: 'Appliance' },
        { from: 'Value', as: 'Partitions', unit: 'short', decimals: 0, thresholds: kit.ANY_IS_CRIT },
      ],
      sort: ['Partitions'],
      empty: 'none',
    }),
  ],
);
