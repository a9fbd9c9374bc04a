// Sensors, power supplies, event log, service state and disks of the chosen appliances.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, events, gauge, of, serviceState } from './kit.mjs';

const EVENTS_ONLY = 'ipmievd reports a sensor only when a limit is crossed: this is the last report, not a live value.';

const LIMITS = [
  ['lower_non_recoverable', 'Lower non-rec.'],
  ['lower_critical', 'Lower crit.'],
  ['lower_non_critical', 'Lower'],
  ['upper_non_critical', 'Upper'],
  ['upper_critical', 'Upper crit.'],
  ['upper_non_recoverable', 'Upper non-rec.'],
];

const readings = (title, units, unit) =>
  kit.linesWithLimits({
    title,
    about: `Reading that came with the last threshold message of each sensor, and the threshold in it, dashed. ${EVENTS_ONLY}`,
    width: 8,
    queries: [
      kit.range(gauge('appliance, name', of('ipmi_sensor_reading', `unit=~"${units}"`)), '{{appliance}} {{name}}'),
      kit.range(
        gauge('appliance, name, threshold', of('ipmi_sensor_threshold', `unit=~"${units}"`)),
        '{{appliance}} {{name}} {{threshold}} limit',
      ),
    ],
    unit,
  });

const overview = [
  kit.stateTimeline({
    title: 'Service state',
    about: 'State in the status lines of sysstatd: in service, in service with trouble, out of service, off line.',
    width: 8,
    height: 6,
    queries: [kit.range(serviceState, '{{appliance}}')],
    mappings: kit.SERVICE,
  }),
  kit.stat({
    title: 'Worst sensor',
    about: 'Worst state of any IPMI sensor, from ipmievd messages.',
    width: 4,
    height: 6,
    queries: [kit.instant(gauge('appliance', of('ipmi_sensor_state')), '{{appliance}}')],
    mappings: kit.STATE,
  }),
  kit.stat({
    title: 'Service errors',
    about: 'Error codes in the latest status line of sysstatd.',
    width: 4,
    height: 6,
    queries: [
      kit.instant(
        `sum by (appliance) (${gauge('appliance, code', of('appliance_service_error'))})`,
        '{{appliance}}',
      ),
    ],
    unit: 'short',
    thresholds: kit.ANY_IS_WARN,
  }),
  kit.stat({
    title: 'Log disk used',
    about: 'Fill level in the DISK FULL lines of crontab, which appear at 75, 90 and 95 %.',
    width: 4,
    height: 6,
    queries: [kit.instant(gauge('appliance', of('appliance_log_disk_used_ratio')), '{{appliance}}')],
    unit: 'percentunit',
    thresholds: kit.FILLING,
  }),
  kit.stat({
    title: 'Uptime',
    about: 'Uptime in the lines of logger and lush.',
    width: 4,
    height: 6,
    queries: [kit.instant(gauge('appliance', of('appliance_uptime_seconds')), '{{appliance}}')],
    unit: 's',
  }),
];

const sensors = [
  kit.stateTimeline({
    title: 'Sensor states',
    about:
      'State of each IPMI sensor: worst limit that is exceeded, or a failure. From ipmievd messages; a state holds ' +
      'until the message that takes it back.',
    height: 12,
    queries: [kit.range(gauge('appliance, name', of('ipmi_sensor_state')), '{{appliance}} {{name}}')],
    mappings: kit.STATE,
  }),
  kit.table({
    title: 'Sensors, worst first',
    about: `State, last reading and the limits that the appliance has named so far, from ipmievd messages. ${EVENTS_ONLY}`,
    width: 24,
    queries: [
      kit.rows(gauge('appliance, name', of('ipmi_sensor_state'))),
      kit.rows(gauge('appliance, name, unit', of('ipmi_sensor_reading'))),
      ...LIMITS.map(([threshold]) =>
        kit.rows(gauge('appliance, name, unit', of('ipmi_sensor_threshold', `threshold="${threshold}"`))),
      ),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'name', as: 'Sensor' },
      { from: 'Value #A', as: 'State', mappings: kit.STATE },
      { from: 'Value #B', as: 'Reading' },
      { from: 'unit', as: 'Unit' },
      ...LIMITS.map(([, as], index) => ({ from: `Value #${'CDEFGH'[index]}`, as })),
    ],
    sort: ['State'],
  }),
  kit.stateTimeline({
    title: 'Limits',
    about: 'Each limit that a sensor has crossed: exceeded, or kept again. From ipmievd threshold messages.',
    queries: [
      kit.range(
        gauge('appliance, name, threshold', of('ipmi_sensor_threshold_asserted')),
        '{{appliance}} {{name}} {{threshold}}',
      ),
    ],
    mappings: kit.EXCEEDED,
  }),
  readings('Fans', '(?i)rpm', 'rotrpm'),
  readings('Temperatures', '(?i)degrees.*|celsius', 'celsius'),
  readings('Voltages', '(?i)volts?', 'volt'),
  kit.stateTimeline({
    title: 'Power supplies and other discrete sensors',
    about: 'Conditions of sensors without a reading: presence, failure, lost input. From ipmievd messages.',
    width: 12,
    queries: [
      kit.range(
        gauge('appliance, name, condition', of('ipmi_sensor_condition_asserted')),
        '{{appliance}} {{name}} {{condition}}',
      ),
    ],
    mappings: kit.CONDITION,
  }),
  kit.bars({
    title: 'Sensor messages',
    about: 'Assert and deassert messages of ipmievd, by sensor. Many of both: a reading that hovers at its limit.',
    height: 9,
    queries: [
      kit.range(
        kit.happened(events('appliance, name, state', of('ipmi_sensor_events_total'))),
        '{{appliance}} {{name}} {{state}}',
      ),
    ],
  }),
  kit.stat({
    title: 'SEL used',
    about: 'Fill level of the system event log that ipmievd has warned about. It says nothing below its limit.',
    width: 6,
    height: 5,
    queries: [kit.instant(gauge('appliance', of('ipmi_sel_used_ratio')), '{{appliance}}')],
    unit: 'percentunit',
    thresholds: kit.FILLING,
  }),
  kit.stat({
    title: 'SEL overflow',
    about: 'The system event log is full and takes no more entries, from ipmievd messages.',
    width: 6,
    height: 5,
    queries: [kit.instant(gauge('appliance', of('ipmi_sel_overflowed')), '{{appliance}}')],
    mappings: kit.ASSERTED,
  }),
  kit.lines({
    title: 'Load average',
    about: 'Load over one, five and fifteen minutes, from the uptime lines of logger and lush.',
    height: 5,
    queries: [
      kit.range(
        gauge('appliance, period', of('appliance_load_average')),
        '{{appliance}} {{period}}',
      ),
    ],
    unit: 'short',
  }),
];

const disk = (metric) => gauge('appliance, device', of(metric));
const disks = [
  kit.stat({
    title: 'Disk health',
    about: 'The disk’s own verdict: FAILED SMART self-check or a SCSI SMART Failure, from smartd messages.',
    width: 6,
    height: 8,
    queries: [kit.instant(disk('smart_health_ok'), '{{appliance}} {{device}}')],
    mappings: kit.HEALTHY,
  }),
  kit.linesWithLimits({
    title: 'Disk temperatures',
    about:
      'Temperature in smartd messages, which appear when it changes, and the limits that smartd named, dashed. ' +
      'Attribute 194 is not used: its normalised value is no temperature.',
    width: 18,
    queries: [
      kit.range(disk('smart_temperature_celsius'), '{{appliance}} {{device}}'),
      kit.range(
        gauge('appliance, device, limit', of('smart_temperature_limit_celsius')),
        '{{appliance}} {{device}} {{limit}} limit',
      ),
    ],
    unit: 'celsius',
  }),
  kit.table({
    title: 'Disks, pending sectors first',
    about:
      'What smartd has reported for each disk: temperature with lowest and highest ever, sectors, the drive’s own ' +
      'error counts.',
    width: 24,
    queries: [
      'smart_temperature_celsius',
      'smart_temperature_min_celsius',
      'smart_temperature_max_celsius',
      'smart_pending_sectors',
      'smart_offline_uncorrectable_sectors',
      'smart_ata_errors',
      'smart_self_test_log_errors',
    ].map((metric) => kit.rows(disk(metric))),
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'device', as: 'Disk' },
      { from: 'Value #A', as: 'Temperature', unit: 'celsius' },
      { from: 'Value #B', as: 'Lowest', unit: 'celsius' },
      { from: 'Value #C', as: 'Highest', unit: 'celsius' },
      { from: 'Value #D', as: 'Pending', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN },
      { from: 'Value #E', as: 'Uncorrectable', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_WARN },
      { from: 'Value #F', as: 'ATA errors' },
      { from: 'Value #G', as: 'Test errors' },
    ],
    sort: ['Pending'],
  }),
  kit.table({
    title: 'NVMe disks',
    about:
      'What smartd has reported for each NVMe disk: warning bits, entries of its error log, spare blocks left, wear, ' +
      'media errors, and new errors in the time range.',
    width: 24,
    height: 7,
    queries: [
      ...[
        'nvme_critical_warning',
        'nvme_error_log_entries',
        'nvme_available_spare_ratio',
        'nvme_percentage_used_ratio',
        'nvme_media_errors',
      ].map((metric) => kit.rows(disk(metric))),
      kit.rows(kit.total('appliance, device', of('nvme_new_errors_total'))),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'device', as: 'Disk' },
      { from: 'Value #A', as: 'Warning bits', mappings: kit.NO_DATA, thresholds: kit.ANY_IS_CRIT },
      { from: 'Value #B', as: 'Log entries' },
      { from: 'Value #C', as: 'Spare left', unit: 'percentunit' },
      { from: 'Value #D', as: 'Worn', unit: 'percentunit' },
      { from: 'Value #E', as: 'Media errors' },
      { from: 'Value #F', as: 'New errors', unit: 'short', decimals: 0 },
    ],
    sort: ['Warning bits'],
  }),
  kit.table({
    title: 'Disk attributes',
    about:
      'SMART attributes that smartd has seen change: normalised value (higher is better), raw value, and whether the ' +
      'attribute has failed.',
    width: 16,
    queries: [
      kit.rows(gauge('appliance, device, attribute_id, attribute_name', of('smart_attribute_value'))),
      kit.rows(gauge('appliance, device, attribute_id, attribute_name', of('smart_attribute_raw_value'))),
      kit.rows(gauge('appliance, device, attribute_id, attribute_name', of('smart_attribute_failed'))),
    ],
    columns: [
      { from: 'appliance', as: 'Appliance' },
      { from: 'device', as: 'Disk' },
      { from: 'attribute_id', as: 'Id' },
      { from: 'attribute_name', as: 'Attribute' },
      { from: 'Value #A', as: 'Value' },
      { from: 'Value #B', as: 'Raw' },
      { from: 'Value #C', as: 'Failed', mappings: kit.FAILED },
    ],
    sort: ['Failed'],
  }),
  kit.bars({
    title: 'Disk self-tests',
    about: 'Self-tests that ended, by result, from smartd messages.',
    width: 8,
    height: 9,
    queries: [
      kit.range(
        kit.happened(events('appliance, device, result', of('smart_self_tests_total'))),
        '{{appliance}} {{device}} {{result}}',
      ),
    ],
  }),
  kit.bars({
    title: 'Faults that the kernel reports',
    about: 'Disks, file systems, memory and programs, as the kernel names their faults.',
    width: 24,
    queries: [
      kit.range(kit.happened(events('appliance, fault', of('kernel_faults_total'))), '{{appliance}} {{fault}}'),
    ],
  }),
];

export default kit.dashboard(
  DASHBOARDS.hardware,
  'Sensors, power supplies, event log and disks of an appliance, from the messages of ipmievd, smartd and sysstatd.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [...overview, kit.row('Sensors'), ...sensors, kit.row('Disks'), ...disks],
);
