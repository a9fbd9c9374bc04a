// Sensors, power supplies, event log, service state and disks of the chosen appliances.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, applianceLink, events, gauge, happened, of, recorded, serviceState } from './kit.mjs';

const EVENTS_ONLY = 'ipmievd reports a sensor only when a limit is crossed: this is the last report, not a live value.';
const APPLIANCE = { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.hardware)] };

const LIMITS = [
  ['lower_non_recoverable', 'Lower non-rec.'],
  ['lower_critical', 'Lower crit.'],
  ['lower_non_critical', 'Lower'],
  ['upper_non_critical', 'Upper'],
  ['upper_critical', 'Upper crit.'],
  ['upper_non_recoverable', 'Upper non-rec.'],
];

const readings = (title, units, unit, operator) => {
  const reading = gauge('appliance, name', of('ipmi_sensor_reading', `unit=~"${units}"`));
  const which = operator === 'topk' ? 'highest' : 'lowest';
  return kit.linesWithLimits({
    title,
    about:
      `Reading that came with the last threshold message of each sensor, and the threshold in it, dashed. The 20 ${which}. ` +
      EVENTS_ONLY,
    width: 8,
    queries: [
      kit.range(kit.extreme(reading, 'appliance, name', 20, operator), '{{appliance}} {{name}}'),
      kit.range(
        `${gauge('appliance, name, threshold', of('ipmi_sensor_threshold', `unit=~"${units}"`))}\n` +
          `and on (appliance, name) ${operator}(20, ${reading})`,
        '{{appliance}} {{name}} {{threshold}} limit',
      ),
    ],
    unit,
    empty: 'no message has told of one',
  });
};

const STATE = recorded('appliance:ipmi_sensor_state:latest');
const disk = (metric) => gauge('appliance, device', of(metric));
const latest = (metric, by = 'appliance') => gauge(by, recorded(`appliance:${metric}:latest`));

const now = [
  kit.stateTimeline({
    title: 'Sensors that were not well',
    about:
      'Worst state of each IPMI sensor that was bad in the time range, the 12 worst, from ipmievd messages. A state holds until ' +
      'the message that takes it back. Nothing is lost between two points.',
    queries: [kit.range(kit.troubled(kit.worstSince(STATE), 'site, appliance, name', STATE), '{{site}} {{appliance}} {{name}}')],
    mappings: kit.STATE,
  }),
  kit.table({
    title: 'Each appliance',
    about:
      'State and error codes of sysstatd, fill level of the event log that ipmievd warned about, of the log disk (crontab), load and ' +
      'uptime (logger, lush). A dash means that no line has ever told.',
    width: 24,
    height: 8,
    queries: [
      kit.rows(serviceState),
      kit.rows(`sum by (site, appliance) (${recorded('appliance:service_error:latest')})`),
      kit.rows(latest('ipmi_sel_used_ratio', 'site, appliance')),
      kit.rows(latest('ipmi_sel_overflowed', 'site, appliance')),
      kit.rows(latest('log_disk_used_ratio', 'site, appliance')),
      kit.rows(gauge('site, appliance', of('appliance_load_average', 'period="15m"'))),
      kit.rows(gauge('site, appliance', of('appliance_uptime_seconds'))),
    ],
    columns: [
      { from: 'site', as: 'Site' },
      APPLIANCE,
      { from: 'Value #A', as: 'Service', mappings: kit.SERVICE },
      { from: 'Value #B', as: 'Error codes', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN, decimals: 0 },
      { from: 'Value #C', as: 'Event log', unit: 'percentunit', decimals: 0, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #D', as: 'Log full', mappings: kit.FULL },
      { from: 'Value #E', as: 'Log disk', unit: 'percentunit', decimals: 0, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #F', as: 'Load', unit: 'short', decimals: 2, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #G', as: 'Uptime', unit: 's', decimals: 0, mappings: kit.NO_DATA, plain: true },
    ],
    sort: ['Service', 'Error codes'],
    empty: 'no message has told of one',
  }),
  kit.table({
    title: 'Disks, unreadable sectors first',
    about:
      'What smartd has reported for each disk: its own verdict, temperature with lowest and highest ever, sectors, the drive’s own ' +
      'error counts. The 100 worst.',
    width: 24,
    height: 8,
    queries: [
      kit.rows(latest('smart_health_failed', 'appliance, device')),
      kit.rows(latest('smart_temperature_celsius', 'appliance, device')),
      kit.rows(disk('smart_temperature_min_celsius')),
      kit.rows(disk('smart_temperature_max_celsius')),
      kit.rows(latest('smart_pending_sectors', 'appliance, device')),
      kit.rows(latest('smart_offline_uncorrectable_sectors', 'appliance, device')),
      kit.rows(disk('smart_ata_errors')),
      kit.rows(disk('smart_self_test_log_errors')),
    ],
    columns: [
      APPLIANCE,
      { from: 'device', as: 'Disk' },
      { from: 'Value #A', as: 'Health', mappings: kit.FAILED },
      { from: 'Value #B', as: 'Temperature', unit: 'celsius', decimals: 0, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #C', as: 'Lowest', unit: 'celsius', decimals: 0, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #D', as: 'Highest', unit: 'celsius', decimals: 0, mappings: kit.NO_DATA, plain: true },
      { from: 'Value #E', as: 'Pending', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN, decimals: 0 },
      { from: 'Value #F', as: 'Uncorrectable', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN, decimals: 0 },
      { from: 'Value #G', as: 'ATA errors', mappings: kit.NO_DATA, plain: true },
      { from: 'Value #H', as: 'Test errors', mappings: kit.NO_DATA, plain: true },
    ],
    sort: ['Health', 'Pending', 'Uncorrectable'],
    empty: 'no message has told of a disk',
  }),
];

const sensors = [
  readings('Fans', '(?i)rpm', 'rotrpm', 'bottomk'),
  readings('Temperatures', '(?i)degrees.*|celsius', 'celsius', 'topk'),
  readings('Voltages', '(?i)volts?', 'volt', 'bottomk'),
  kit.table({
    title: 'Sensors, worst first',
    about:
      'State, last reading and the limits that the appliance has named so far, from ipmievd messages. Choose an appliance: of many ' +
      `only the 500 worst are shown. ${EVENTS_ONLY}`,
    width: 24,
    queries: [
      kit.rows(`topk(500, ${latest('ipmi_sensor_state', 'appliance, name')})`),
      ...[
        gauge('appliance, name, unit', of('ipmi_sensor_reading')),
        ...LIMITS.map(([threshold]) => gauge('appliance, name, unit', of('ipmi_sensor_threshold', `threshold="${threshold}"`))),
      ].map((expr) => kit.rows(`${expr} and on (appliance, name) topk(500, ${latest('ipmi_sensor_state', 'appliance, name')})`)),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'name', as: 'Sensor' },
      { from: 'Value #A', as: 'State', mappings: kit.STATE },
      { from: 'Value #B', as: 'Reading', mappings: kit.NO_DATA, plain: true },
      { from: 'unit', as: 'Unit' },
      ...LIMITS.map(([, as], index) => ({ from: `Value #${'CDEFGH'[index]}`, as, mappings: kit.NO_DATA, plain: true })),
    ],
    sort: ['State'],
    empty: 'no message has told of a sensor',
  }),
  kit.stateTimeline({
    title: 'Limits that were exceeded',
    about: 'Each limit that a sensor has crossed in the time range, the 12 worst: exceeded, or kept again. From ipmievd threshold messages.',
    queries: [
      kit.range(
        kit.troubled(
          gauge('appliance, name, threshold', kit.worstSince(of('ipmi_sensor_threshold_asserted'))),
          'appliance, name, threshold',
          of('ipmi_sensor_threshold_asserted'),
        ),
        '{{appliance}} {{name}} {{threshold}}',
      ),
    ],
    mappings: kit.EXCEEDED,
  }),
  kit
    .stateTimeline({
      title: 'Power supplies and other discrete sensors',
      about: 'Conditions of sensors without a reading: presence, failure, lost input; 20 at most. From ipmievd messages.',
      width: 12,
      queries: [
        kit.range(
          kit.extreme(
            gauge('appliance, name, condition', kit.worstSince(of('ipmi_sensor_condition_asserted', 'condition!="presence_detected"'))),
            'appliance, name, condition',
            30,
          ),
          '{{appliance}} {{name}} {{condition}}',
        ),
        kit.range(
          `1 - ${kit.extreme(gauge('appliance, name', kit.worstSince(recorded('appliance:ipmi_power_supply_absent:latest'))), 'appliance, name', 30)}`,
          '{{appliance}} {{name}} presence',
        ),
      ],
      mappings: kit.CONDITION,
    })
    .overrideByRegexp('.* presence', [{ id: 'mappings', value: kit.PRESENT }]),
  kit.coloured(
    kit.bars({
      title: 'Sensor messages',
      about: 'Messages of ipmievd by kind of sensor, as something begins (assert) and ends (deassert). Many of both: a reading that hovers at its limit.',
      queries: [
        kit.range(events('type, state', of('ipmi_sensor_events_total')), '{{type}} {{state}}'),
      ],
    }),
    '.* deassert',
    kit.GOOD,
  ),
  kit.lines({
    title: 'Load average',
    about: 'Load over fifteen minutes, from the uptime lines of logger and lush; the 20 highest.',
    queries: [
      kit.range(
        kit.extreme(gauge('appliance', of('appliance_load_average', 'period="15m"')), 'appliance'),
        '{{appliance}}',
      ),
    ],
    unit: 'short',
    empty: 'no message has told of one',
  }),
  kit.bars({
    title: 'Faults that the kernel reports',
    about: 'Disks, file systems, memory and programs, as the kernel names their faults.',
    queries: [kit.range(events('fault', of('kernel_faults_total')), '{{fault}}')],
  }),
];

const ATTRIBUTE = 'appliance, device, attribute_id, attribute_name';
const disks = [
  kit.linesWithLimits({
    title: 'Disk temperatures',
    about:
      'Temperature in smartd messages, which appear when it changes, and the limits that smartd named, dashed. The 20 highest. ' +
      'Attribute 194 is not used: its normalised value is no temperature.',
    width: 16,
    queries: [
      kit.range(
        kit.extreme(latest('smart_temperature_celsius', 'appliance, device'), 'appliance, device'),
        '{{appliance}} {{device}}',
      ),
      kit.range(
        `${gauge('appliance, device, limit', of('smart_temperature_limit_celsius'))}\n` +
          `and on (appliance, device) topk(20, ${disk('smart_temperature_celsius')})`,
        '{{appliance}} {{device}} {{limit}} limit',
      ),
    ],
    unit: 'celsius',
    empty: 'no message has told of one',
  }),
  kit.coloured(
    kit.bars({
      title: 'Disk self-tests',
      about: 'Self-tests that ended, by result, from smartd messages.',
      width: 8,
      queries: [kit.range(events('result', of('smart_self_tests_total')), '{{result}}')],
    }),
    'passed|completed.*',
    kit.GOOD,
  ),
  kit.table({
    title: 'NVMe disks',
    about:
      'What smartd has reported for each NVMe disk: warning bits, entries of its error log, spare blocks left, wear, ' +
      'media errors, and new errors in the time range.',
    width: 24,
    height: 7,
    queries: [
      kit.rows(latest('nvme_critical_warning', 'appliance, device')),
      ...['nvme_error_log_entries', 'nvme_available_spare_ratio', 'nvme_percentage_used_ratio', 'nvme_media_errors'].map(
        (metric) => kit.rows(disk(metric)),
      ),
      kit.rows(kit.total('appliance, device', of('nvme_new_errors_total'))),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'device', as: 'Disk' },
      { from: 'Value #A', as: 'Warning bits', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT, decimals: 0 },
      { from: 'Value #B', as: 'Log entries', mappings: kit.NO_DATA, plain: true },
      { from: 'Value #C', as: 'Spare left', unit: 'percentunit', mappings: kit.NO_DATA, plain: true },
      { from: 'Value #D', as: 'Worn', unit: 'percentunit', mappings: kit.NO_DATA, plain: true },
      { from: 'Value #E', as: 'Media errors', mappings: kit.NO_DATA, plain: true },
      { from: 'Value #F', as: 'New errors', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
    ],
    sort: ['Warning bits'],
    empty: 'no message has told of an NVMe disk',
  }),
  kit.table({
    title: 'Disk attributes',
    about:
      'SMART attributes that smartd has seen change: normalised value (higher is better), raw value, and whether the ' +
      'attribute has failed. Choose an appliance: of many only 500 are shown, the failed ones first.',
    width: 24,
    queries: [
      kit.rows(`topk(500, ${latest('smart_attribute_failed', ATTRIBUTE)})`),
      ...['smart_attribute_value', 'smart_attribute_raw_value'].map((metric) =>
        kit.rows(`topk(500, ${gauge(ATTRIBUTE, of(metric))})`),
      ),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'device', as: 'Disk' },
      { from: 'attribute_id', as: 'Id' },
      { from: 'attribute_name', as: 'Attribute' },
      { from: 'Value #B', as: 'Value', mappings: kit.NO_DATA, plain: true },
      { from: 'Value #C', as: 'Raw', mappings: kit.NO_DATA, plain: true },
      { from: 'Value #A', as: 'Failed', mappings: kit.FAILED },
    ],
    sort: ['Failed'],
    empty: 'no message has told of one',
  }),
];

export default kit.dashboard(
  DASHBOARDS.hardware,
  'Sensors, power supplies, event log and disks of an appliance, from the messages of ipmievd, smartd and sysstatd.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [
    kit.wrong({
      title: 'Hardware that is wrong, and since when',
      about: 'Alerts that fire about sensors, power supplies, event log, disks and the appliance itself.',
      matchers: 'component=~"fan|power_supply|motherboard|sel|disk_drive|appliance"',
      height: 7,
    }),
    ...now,
    kit.closed('Readings and sensors', sensors),
    kit.closed('Disks in detail', disks),
  ],
);
