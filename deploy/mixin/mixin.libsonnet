// Made from rules/alerts by tests/it/alerts.rs.
{
  prometheusAlerts+:: {
  "groups": [
    {
      "name": "appliance-access",
      "rules": [
        {
          "alert": "ApplianceSshBruteForce",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} ssh logins to {{ $labels.appliance }} failed in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceSshBruteForce.md",
            "summary": "Somebody is trying passwords over ssh."
          },
          "expr": "sum by (appliance) (increase(sshd_login_failures_total{test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ssh_login_failures\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "access",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceSshLoginAfterFailures",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} ssh logins to {{ $labels.appliance }} failed in 30 minutes, and then one was accepted.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceSshLoginAfterFailures.md",
            "summary": "An ssh login succeeded after many failed ones."
          },
          "expr": "sum by (appliance) (increase(sshd_login_failures_total{test=\"\"}[30m])) > scalar(appliance:threshold{name=\"ssh_login_failures\"})\nand on (appliance)\n  sum by (appliance) (increase(sshd_logins_accepted_total{test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "access",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceConsoleLoginFailures",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} console logins to {{ $labels.appliance }} failed in 15 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceConsoleLoginFailures.md",
            "summary": "Logins at the console keep failing."
          },
          "expr": "sum by (appliance) (increase(login_failures_total{test=\"\"}[15m])) > scalar(appliance:threshold{name=\"console_login_failures\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "access",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceAdminApiLoginFailures",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} logins to the Admin API of {{ $labels.appliance }} failed in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceAdminApiLoginFailures.md",
            "summary": "Logins to the Admin API keep failing."
          },
          "expr": "sum by (appliance) (increase(adminapi_logins_total{result=\"failed\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"adminapi_login_failures\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "access",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceAdminApiDenylisted",
          "annotations": {
            "description": "The Admin API of {{ $labels.appliance }} logged {{ $labels.event }}: a client did wrong so often that it is locked out.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceAdminApiDenylisted.md",
            "summary": "The Admin API denies an address that misbehaved."
          },
          "expr": "sum by (appliance, event) (increase(adminapi_events_total{event=~\"client_denylisted|denylisted_client_connected\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "access",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceAccountChanged",
          "annotations": {
            "description": "{{ $labels.program }} on {{ $labels.appliance }} logged the account change {{ $labels.event }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceAccountChanged.md",
            "summary": "An account on an appliance was changed."
          },
          "expr": "sum by (appliance, program, event) (increase(account_changes_total{test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "access",
            "severity": "warning"
          }
        }
      ]
    },
    {
      "name": "appliance-disk",
      "rules": [
        {
          "alert": "ApplianceDiskFailing",
          "annotations": {
            "description": "Disk {{ $labels.device }} of {{ $labels.appliance }} says that it is about to fail.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceDiskFailing.md",
            "summary": "A disk fails its own health check."
          },
          "expr": "min by (appliance, device) (smart_health_ok{test=\"\"}) == 0\n",
          "labels": {
            "component": "disk_drive",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceDiskAttributeFailed",
          "annotations": {
            "description": "Attribute {{ $labels.attribute_id }} {{ $labels.attribute_name }} of disk {{ $labels.device }} of {{ $labels.appliance }} has reached the threshold at which the maker calls it failed.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceDiskAttributeFailed.md",
            "summary": "An attribute of a disk has reached its failure threshold."
          },
          "expr": "max by (appliance, device, attribute_id, attribute_name) (smart_attribute_failed{test=\"\"}) == 1\n",
          "labels": {
            "component": "disk_drive",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceDiskPendingSectors",
          "annotations": {
            "description": "Disk {{ $labels.device }} of {{ $labels.appliance }} has {{ $value }} unreadable sectors that wait to be replaced.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceDiskPendingSectors.md",
            "summary": "A disk has sectors that it cannot read."
          },
          "expr": "max by (appliance, device) (smart_pending_sectors{test=\"\"}) > 0\n",
          "labels": {
            "component": "disk_drive",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceDiskUncorrectableSectors",
          "annotations": {
            "description": "Disk {{ $labels.device }} of {{ $labels.appliance }} has {{ $value }} sectors that its offline scan could not correct.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceDiskUncorrectableSectors.md",
            "summary": "A disk has sectors that it cannot repair."
          },
          "expr": "max by (appliance, device) (smart_offline_uncorrectable_sectors{test=\"\"}) > 0\n",
          "labels": {
            "component": "disk_drive",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceDiskTemperatureCritical",
          "annotations": {
            "description": "Disk {{ $labels.device }} of {{ $labels.appliance }} has reached {{ $value }} °C, its critical limit.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceDiskTemperatureCritical.md",
            "summary": "A disk is critically hot."
          },
          "expr": "max by (appliance, device) (smart_temperature_celsius{test=\"\"})\n>= on (appliance, device)\n  (\n      max by (appliance, device) (smart_temperature_limit_celsius{limit=\"critical\",test=\"\"})\n    or\n      max by (appliance, device) (smart_temperature_celsius{test=\"\"} * 0 + scalar(appliance:threshold{name=\"disk_temperature_critical_celsius\"}))\n  )\n",
          "labels": {
            "component": "disk_drive",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceDiskTemperatureHigh",
          "annotations": {
            "description": "Disk {{ $labels.device }} of {{ $labels.appliance }} has been at {{ $value }} °C, above its limit, for 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceDiskTemperatureHigh.md",
            "summary": "A disk is hot."
          },
          "expr": "max by (appliance, device) (smart_temperature_celsius{test=\"\"})\n>= on (appliance, device)\n  (\n      max by (appliance, device) (smart_temperature_limit_celsius{limit=\"informal\",test=\"\"})\n    or\n      max by (appliance, device) (smart_temperature_celsius{test=\"\"} * 0 + scalar(appliance:threshold{name=\"disk_temperature_warning_celsius\"}))\n  )\n",
          "for": "10m",
          "labels": {
            "component": "disk_drive",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceDiskSelfTestFailed",
          "annotations": {
            "description": "Disk {{ $labels.device }} of {{ $labels.appliance }} failed a self-test.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceDiskSelfTestFailed.md",
            "summary": "A self-test of a disk has failed."
          },
          "expr": "sum by (appliance, device) (increase(smart_self_tests_total{result=\"failed\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "1h",
          "labels": {
            "component": "disk_drive",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceNvmeCriticalWarning",
          "annotations": {
            "description": "Disk {{ $labels.device }} of {{ $labels.appliance }} reports the critical warning mask {{ $value }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNvmeCriticalWarning.md",
            "summary": "An NVMe disk raises a critical warning."
          },
          "expr": "max by (appliance, device) (nvme_critical_warning{test=\"\"}) > 0\n",
          "labels": {
            "component": "disk_drive",
            "severity": "critical"
          }
        }
      ]
    },
    {
      "name": "appliance-exporter",
      "rules": [
        {
          "alert": "ApplianceWatchdog",
          "annotations": {
            "description": "Prometheus evaluates rules, and Alertmanager delivers. An outside service must raise the alarm when this stops arriving.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceWatchdog.md",
            "summary": "This alert always fires; silence means that alerting is broken."
          },
          "expr": "vector(1)",
          "labels": {
            "component": "exporter",
            "severity": "none"
          }
        },
        {
          "alert": "ApplianceMonitoringDown",
          "annotations": {
            "description": "Prometheus has reached no appliance log exporter for 2 minutes, or knows of none.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceMonitoringDown.md",
            "summary": "No exporter answers, so that no appliance is watched."
          },
          "expr": "(max(appliance:exporter:up) or vector(0)) == 0\n",
          "for": "2m",
          "labels": {
            "component": "exporter",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceExporterDown",
          "annotations": {
            "description": "Prometheus has not reached the exporter {{ $labels.instance }} for 2 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterDown.md",
            "summary": "An exporter does not answer."
          },
          "expr": "appliance:exporter:up == 0\n",
          "for": "2m",
          "labels": {
            "component": "exporter",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceExporterUnreadableFiles",
          "annotations": {
            "description": "The exporter {{ $labels.instance }} has found files of {{ $labels.source }} for 5 minutes that it cannot read: {{ printf \"%.0f\" $value }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterUnreadableFiles.md",
            "summary": "The exporter cannot read a log that it should follow."
          },
          "expr": "max by (job, instance, source) (appliance_log_exporter_unreadable_files) > 0",
          "for": "5m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceExporterLags",
          "annotations": {
            "description": "The exporter {{ $labels.instance }} has been behind for 10 minutes on {{ $labels.source }}, now by {{ $value | humanize1024 }}B.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterLags.md",
            "summary": "The exporter reads slower than a log grows."
          },
          "expr": "max by (job, instance, source) (appliance_log_exporter_source_lag_bytes) > scalar(appliance:threshold{name=\"source_lag_bytes\"})\n",
          "for": "10m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceExporterLostBytes",
          "annotations": {
            "description": "The exporter {{ $labels.instance }} lost {{ printf \"%.0f\" $value }} bytes of {{ $labels.source }}; reason: {{ $labels.reason }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterLostBytes.md",
            "summary": "Log lines were lost before the exporter could read them."
          },
          "expr": "sum by (job, instance, source, reason) (increase(appliance_log_exporter_lost_bytes_total[10m])) > 0",
          "keep_firing_for": "15m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceExporterDropsLines",
          "annotations": {
            "description": "The exporter {{ $labels.instance }} dropped {{ printf \"%.0f\" $value }} lines of {{ $labels.source }}; reason: {{ $labels.reason }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterDropsLines.md",
            "summary": "The exporter drops log lines."
          },
          "expr": "sum by (job, instance, source, reason) (increase(appliance_log_exporter_lines_dropped_total[10m])) > 0",
          "keep_firing_for": "15m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceExporterDropsSeries",
          "annotations": {
            "description": "The exporter {{ $labels.instance }} has no room for more series of {{ $labels.metric }}; new ones are counted under \"other\".",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterDropsSeries.md",
            "summary": "A metric has reached its limit of series."
          },
          "expr": "sum by (job, instance, metric) (increase(appliance_log_exporter_series_dropped_total[10m])) > 0",
          "keep_firing_for": "15m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceExporterReloadFailed",
          "annotations": {
            "description": "The exporter {{ $labels.instance }} still runs with its old configuration or rules.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterReloadFailed.md",
            "summary": "The exporter could not load its new configuration."
          },
          "expr": "min by (job, instance) (appliance_log_exporter_config_last_reload_successful) == 0",
          "for": "5m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceExporterCheckpointOld",
          "annotations": {
            "description": "The last checkpoint of the exporter {{ $labels.instance }} is {{ $value | humanizeDuration }} old. A restart would start from there, and lines of files that are gone by then would be missing.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceExporterCheckpointOld.md",
            "summary": "The exporter no longer saves its state."
          },
          "expr": "max by (job, instance) (appliance_log_exporter_checkpoint_age_seconds) > scalar(appliance:threshold{name=\"checkpoint_age_seconds\"})\n",
          "for": "5m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceAlertingMisconfigured",
          "annotations": {
            "description": "Prometheus has {{ $value }} of the 28 thresholds of rules/alerts/site.yaml. An alert without its threshold never fires.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceAlertingMisconfigured.md",
            "summary": "Thresholds of alerts are missing or loaded twice."
          },
          "expr": "(count(appliance:threshold) or vector(0)) != 28\n",
          "for": "5m",
          "labels": {
            "component": "exporter",
            "severity": "warning"
          }
        }
      ]
    },
    {
      "name": "appliance-hardware",
      "rules": [
        {
          "alert": "ApplianceFanFailed",
          "annotations": {
            "description": "Fan {{ $labels.name }} of {{ $labels.appliance }} is below a critical limit.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceFanFailed.md",
            "summary": "A fan has stopped or turns far too slowly."
          },
          "expr": "max by (appliance, name) (ipmi_sensor_state{type=\"Fan\",name!~\"PSU.*\",test=\"\"}) == 2\n",
          "labels": {
            "component": "fan",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceFanDegraded",
          "annotations": {
            "description": "Fan {{ $labels.name }} of {{ $labels.appliance }} has been past a non-critical limit for 5 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceFanDegraded.md",
            "summary": "A fan turns slower than it should."
          },
          "expr": "max by (appliance, name) (ipmi_sensor_state{type=\"Fan\",name!~\"PSU.*\",test=\"\"}) == 1\n",
          "for": "5m",
          "labels": {
            "component": "fan",
            "severity": "warning"
          }
        },
        {
          "alert": "AppliancePowerSupplyFailed",
          "annotations": {
            "description": "{{ $labels.name }} of {{ $labels.appliance }} reports a failure or a value beyond a critical limit.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/AppliancePowerSupplyFailed.md",
            "summary": "A power supply has failed."
          },
          "expr": "(\n    max by (appliance, name) (ipmi_sensor_state{type=~\"Power Supply|Power Unit\",test=\"\"})\n  or\n    max by (appliance, name) (ipmi_sensor_state{name=~\"PSU.*\",test=\"\"})\n) == 2\n",
          "labels": {
            "component": "power_supply",
            "severity": "critical"
          }
        },
        {
          "alert": "AppliancePowerSupplyAbsent",
          "annotations": {
            "description": "{{ $labels.name }} of {{ $labels.appliance }} has not been present for 2 minutes. The appliance runs without a spare.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/AppliancePowerSupplyAbsent.md",
            "summary": "A power supply was taken out."
          },
          "expr": "min by (appliance, name) (ipmi_sensor_condition_asserted{type=\"Power Supply\",condition=\"presence_detected\",test=\"\"}) == 0\n",
          "for": "2m",
          "labels": {
            "component": "power_supply",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceTemperatureCritical",
          "annotations": {
            "description": "Temperature {{ $labels.name }} of {{ $labels.appliance }} is beyond a critical limit.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceTemperatureCritical.md",
            "summary": "A temperature is beyond a critical limit."
          },
          "expr": "max by (appliance, name) (ipmi_sensor_state{type=\"Temperature\",name!~\"PSU.*\",test=\"\"}) == 2\n",
          "labels": {
            "component": "motherboard",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceTemperatureHigh",
          "annotations": {
            "description": "Temperature {{ $labels.name }} of {{ $labels.appliance }} has been beyond a non-critical limit for 5 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceTemperatureHigh.md",
            "summary": "A temperature is beyond a non-critical limit."
          },
          "expr": "max by (appliance, name) (ipmi_sensor_state{type=\"Temperature\",name!~\"PSU.*\",test=\"\"}) == 1\n",
          "for": "5m",
          "labels": {
            "component": "motherboard",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceVoltageCritical",
          "annotations": {
            "description": "Voltage {{ $labels.name }} of {{ $labels.appliance }} is beyond a critical limit.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceVoltageCritical.md",
            "summary": "A voltage is beyond a critical limit."
          },
          "expr": "max by (appliance, name) (ipmi_sensor_state{type=\"Voltage\",name!~\"PSU.*\",test=\"\"}) == 2\n",
          "labels": {
            "component": "motherboard",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceVoltageAbnormal",
          "annotations": {
            "description": "Voltage {{ $labels.name }} of {{ $labels.appliance }} has been beyond a non-critical limit for 5 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceVoltageAbnormal.md",
            "summary": "A voltage is beyond a non-critical limit."
          },
          "expr": "max by (appliance, name) (ipmi_sensor_state{type=\"Voltage\",name!~\"PSU.*\",test=\"\"}) == 1\n",
          "for": "5m",
          "labels": {
            "component": "motherboard",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceSensorCritical",
          "annotations": {
            "description": "Sensor {{ $labels.name }} ({{ $labels.type }}) of {{ $labels.appliance }} is in a critical state.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceSensorCritical.md",
            "summary": "A hardware sensor reports a critical state."
          },
          "expr": "max by (appliance, name, type) (\n  ipmi_sensor_state{type!~\"Fan|Power Supply|Power Unit|Temperature|Voltage\",name!~\"PSU.*\",test=\"\"}\n) == 2\n",
          "labels": {
            "component": "motherboard",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceSensorAbnormal",
          "annotations": {
            "description": "Sensor {{ $labels.name }} ({{ $labels.type }}) of {{ $labels.appliance }} has been in an abnormal state for 5 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceSensorAbnormal.md",
            "summary": "A hardware sensor reports a state that is not critical."
          },
          "expr": "(\n    max by (appliance, name, type) (ipmi_sensor_state{type!~\"Fan|Temperature|Voltage\",test=\"\"})\n  or\n    max by (appliance, name, type) (ipmi_sensor_state{name=~\"PSU.*\",test=\"\"})\n) == 1\n",
          "for": "5m",
          "labels": {
            "component": "motherboard",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceSelFilling",
          "annotations": {
            "description": "The event log of the management controller of {{ $labels.appliance }} is {{ $value | humanizePercentage }} full. When it is full, new hardware events are lost.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceSelFilling.md",
            "summary": "The hardware event log is filling up."
          },
          "expr": "max by (appliance) (ipmi_sel_used_ratio{test=\"\"}) >= scalar(appliance:threshold{name=\"sel_used_ratio\"})\n",
          "labels": {
            "component": "sel",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceSelOverflowed",
          "annotations": {
            "description": "The event log of the management controller of {{ $labels.appliance }} is full. Until it is cleared, no new fan, power or temperature event is reported.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceSelOverflowed.md",
            "summary": "The hardware event log is full, and hardware faults go unnoticed."
          },
          "expr": "max by (appliance) (ipmi_sel_overflowed{test=\"\"}) == 1\n",
          "labels": {
            "component": "sel",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceNeedsAttention",
          "annotations": {
            "description": "{{ $labels.appliance }} logged a condition of its subsystem {{ $labels.subsystem }} for which its own SNMP trap agent would send a notification.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNeedsAttention.md",
            "summary": "The appliance asks for attention."
          },
          "expr": "sum by (appliance, subsystem) (increase(appliance_attention_total{state=\"assert\",test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "{{ $labels.subsystem }}",
            "severity": "warning"
          }
        }
      ]
    },
    {
      "name": "appliance-hsm",
      "rules": [
        {
          "alert": "ApplianceHsmZeroized",
          "annotations": {
            "description": "The HSM of {{ $labels.appliance }} was zeroized; cause: {{ $labels.cause }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmZeroized.md",
            "summary": "An HSM has erased its keys."
          },
          "expr": "sum by (appliance, cause) (increase(hsm_zeroizations_total{test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "1h",
          "labels": {
            "component": "crypto",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceHsmTampered",
          "annotations": {
            "description": "The HSM of {{ $labels.appliance }} raised the tamper alarm {{ $labels.alarm }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmTampered.md",
            "summary": "An HSM has detected tampering."
          },
          "expr": "sum by (appliance, alarm) (increase(hsm_alarms_total{alarm=~\"ALM00(0[1-9]|1[01])\",test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "1h",
          "labels": {
            "component": "crypto",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceHsmBatteryLow",
          "annotations": {
            "description": "The HSM of {{ $labels.appliance }} raised ALM0014, low battery.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmBatteryLow.md",
            "summary": "The battery of an HSM is low."
          },
          "expr": "sum by (appliance) (increase(hsm_alarms_total{alarm=\"ALM0014\",test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "1h",
          "labels": {
            "component": "crypto",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceHsmAlarm",
          "annotations": {
            "description": "The HSM of {{ $labels.appliance }} raised the alarm {{ $labels.alarm }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmAlarm.md",
            "summary": "An HSM has raised an alarm."
          },
          "expr": "sum by (appliance, alarm) (increase(hsm_alarms_total{alarm!~\"ALM00(0[1-9]|1[014])\",test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "crypto",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceHsmCrashed",
          "annotations": {
            "description": "The firmware of the HSM of {{ $labels.appliance }} crashed.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmCrashed.md",
            "summary": "The firmware of an HSM has crashed."
          },
          "expr": "sum by (appliance) (increase(log_events_total{event=\"hsm_crashed\",test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "crypto",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceHsmCriticalEvent",
          "annotations": {
            "description": "The HSM of {{ $labels.appliance }} reported a critical event and wrote a dump.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmCriticalEvent.md",
            "summary": "An HSM has reported a critical event."
          },
          "expr": "sum by (appliance) (increase(hsm_critical_events_total{test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "crypto",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceHsmNonCriticalEvents",
          "annotations": {
            "description": "The HSM of {{ $labels.appliance }} reported {{ printf \"%.0f\" $value }} events of level {{ $labels.level }} in one hour.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmNonCriticalEvents.md",
            "summary": "An HSM has reported events that are not critical."
          },
          "expr": "sum by (appliance, level) (increase(hsm_noncritical_events_total{level!=\"info\",test=\"\"}[1h])) > 0\n",
          "labels": {
            "component": "crypto",
            "severity": "info"
          }
        },
        {
          "alert": "ApplianceHsmLoginFailed",
          "annotations": {
            "description": "A login to the HSM of {{ $labels.appliance }} as {{ $labels.role }} failed. Three failures in a row zeroize it.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmLoginFailed.md",
            "summary": "A login to an HSM as its administrator has failed."
          },
          "expr": "sum by (appliance, role) (increase(hsm_login_failures_total{test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "crypto",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceHsmNearZeroization",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} logins to the HSM of {{ $labels.appliance }} as {{ $labels.role }} failed within a day. Three in a row zeroize it.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHsmNearZeroization.md",
            "summary": "One more failed login can erase an HSM."
          },
          "expr": "round(sum by (appliance, role) (increase(hsm_login_failures_total{test=\"\"}[1d]))) >= scalar(appliance:threshold{name=\"hsm_login_failures\"})\n",
          "labels": {
            "component": "crypto",
            "severity": "critical"
          }
        }
      ]
    },
    {
      "name": "appliance-ipsec",
      "rules": [
        {
          "alert": "ApplianceVpnDown",
          "annotations": {
            "description": "VPN {{ $labels.vpn }} of {{ $labels.appliance }} has been down, with every peer, for 2 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceVpnDown.md",
            "summary": "A VPN is down."
          },
          "expr": "max by (appliance, vpn) (ipsec_vpn_up{test=\"\"}) == 0\n",
          "for": "2m",
          "labels": {
            "component": "ipsec",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceVpnPeerDown",
          "annotations": {
            "description": "VPN {{ $labels.vpn }} of {{ $labels.appliance }} has been down with {{ $labels.remote_address }} for 15 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceVpnPeerDown.md",
            "summary": "One peer of a VPN is down while others are up."
          },
          "expr": "max by (appliance, vpn, remote_address) (ipsec_vpn_up{test=\"\"}) == 0\nand on (appliance, vpn)\n  max by (appliance, vpn) (ipsec_vpn_up{test=\"\"}) == 1\n",
          "for": "15m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceVpnFlapping",
          "annotations": {
            "description": "VPN {{ $labels.vpn }} of {{ $labels.appliance }} changed its state {{ $value }} times in 30 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceVpnFlapping.md",
            "summary": "A VPN goes up and down."
          },
          "expr": "max by (appliance, vpn) (changes(ipsec_vpn_up{test=\"\"}[30m])) > scalar(appliance:threshold{name=\"vpn_changes\"})\n",
          "keep_firing_for": "10m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIkeNegotiationFailures",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} IKE negotiations of phase {{ $labels.phase }} on {{ $labels.appliance }} failed in 15 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIkeNegotiationFailures.md",
            "summary": "IKE negotiations keep failing."
          },
          "expr": "sum by (appliance, phase) (increase(ike_negotiation_failures_total{test=\"\"}[15m])) > scalar(appliance:threshold{name=\"ike_negotiation_failures\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceVpnFailoverImpossible",
          "annotations": {
            "description": "{{ $labels.appliance }} logged {{ $labels.id }}: a tunnel did not move to another peer.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceVpnFailoverImpossible.md",
            "summary": "A tunnel lost its peer and could not fail over."
          },
          "expr": "sum by (appliance, id) (increase(kmd_messages_total{id=~\"KMD_DPD_FAILOVER_.*\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ipsec",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceKmdResources",
          "annotations": {
            "description": "{{ $labels.appliance }} logged {{ $labels.id }}: memory, interfaces of a pool, or security associations could not be had.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceKmdResources.md",
            "summary": "The key management daemon runs out of something."
          },
          "expr": "sum by (appliance, id) (\n  increase(\n    kmd_messages_total{\n      id=~\"KMD_CFG_IF_ID_POOL_.*|KMD_PM_DYNAMIC_SA_INSTALL_FAILED|KMD_PM_SA_INDEX_GEN_FAILED|KMD_SNMP_MALLOC_FAILED\",\n      test=\"\"\n    }[10m]\n  )\n) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIpsecReplayDrops",
          "annotations": {
            "description": "{{ $labels.appliance }} dropped {{ printf \"%.0f\" $value }} late or repeated IPsec packets in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecReplayDrops.md",
            "summary": "IPsec packets are dropped as late or repeated."
          },
          "expr": "sum by (appliance) (increase(ipsec_drops_total{id=~\"278|339\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ipsec_replay_drops\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIpsecIntegrityDrops",
          "annotations": {
            "description": "{{ $labels.appliance }} dropped {{ printf \"%.0f\" $value }} IPsec packets that failed the integrity check in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecIntegrityDrops.md",
            "summary": "IPsec packets fail the integrity check."
          },
          "expr": "sum by (appliance) (increase(ipsec_drops_total{id=~\"611\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ipsec_integrity_drops\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIpsecDecryptionDrops",
          "annotations": {
            "description": "{{ $labels.appliance }} dropped {{ printf \"%.0f\" $value }} IPsec packets that it could not decrypt in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecDecryptionDrops.md",
            "summary": "IPsec packets cannot be decrypted."
          },
          "expr": "sum by (appliance) (increase(ipsec_drops_total{id=~\"282|604|606\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ipsec_decryption_drops\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIpsecOtherDrops",
          "annotations": {
            "description": "{{ $labels.appliance }} dropped {{ printf \"%.0f\" $value }} IPsec packets with message id {{ $labels.id }} in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecOtherDrops.md",
            "summary": "Many IPsec packets are dropped."
          },
          "expr": "sum by (appliance, id) (increase(ipsec_drops_total{id!~\"278|339|611|282|604|606\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ipsec_other_drops\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIpsecStaleRouteOrPolicy",
          "annotations": {
            "description": "{{ $labels.appliance }} could not remove a dynamic route (1682) or IPsec policy rules (1696); message id: {{ $labels.id }}.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecStaleRouteOrPolicy.md",
            "summary": "A route or a policy of a closed tunnel stayed in force."
          },
          "expr": "sum by (appliance, id) (increase(ipsec_messages_total{id=~\"1682|1696\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ipsec",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceIpsecRouteNotAdded",
          "annotations": {
            "description": "{{ $labels.appliance }} could not add a dynamic route, so that traffic may not find its tunnel.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecRouteNotAdded.md",
            "summary": "The route of a tunnel could not be added."
          },
          "expr": "sum by (appliance) (increase(ipsec_messages_total{id=\"1683\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIpsecSadMemoryLow",
          "annotations": {
            "description": "{{ $labels.appliance }} had too little memory for its table of security associations and made it smaller.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecSadMemoryLow.md",
            "summary": "The table of security associations was made smaller for want of memory."
          },
          "expr": "sum by (appliance) (increase(ipsec_messages_total{id=\"632\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ipsec",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceIpsecSadMemoryExhausted",
          "annotations": {
            "description": "{{ $labels.appliance }} could not set up its table of security associations; IPsec does not work.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceIpsecSadMemoryExhausted.md",
            "summary": "There is no memory for the table of security associations."
          },
          "expr": "sum by (appliance) (increase(ipsec_messages_total{id=\"633\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ipsec",
            "severity": "critical"
          }
        }
      ]
    },
    {
      "name": "appliance-ktls",
      "rules": [
        {
          "alert": "ApplianceKtlsBadAuthentication",
          "annotations": {
            "description": "{{ $labels.appliance }} received {{ printf \"%.0f\" $value }} TLS messages with a wrong authentication in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceKtlsBadAuthentication.md",
            "summary": "Many TLS messages carry a wrong authentication."
          },
          "expr": "sum by (appliance) (increase(ktls_bad_auth_total{test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ktls_bad_auth\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ktls",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceKtlsBadAuthenticationFromOne",
          "annotations": {
            "description": "{{ $labels.appliance }} received {{ printf \"%.0f\" $value }} TLS messages with a wrong authentication from {{ $labels.peer }} in 10 minutes. It may be an attack.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceKtlsBadAuthenticationFromOne.md",
            "summary": "One address keeps sending TLS messages with a wrong authentication."
          },
          "expr": "sum by (appliance, peer) (increase(ktls_bad_auth_total{peer!=\"\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ktls_bad_auth_one_address\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ktls",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceKtlsHandshakeLimit",
          "annotations": {
            "description": "{{ $labels.appliance }} reached its limit of concurrent TLS handshakes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceKtlsHandshakeLimit.md",
            "summary": "The limit of concurrent TLS handshakes is reached, and new connections fail."
          },
          "expr": "sum by (appliance) (increase(ktls_handshake_limit_reached_total{test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ktls",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceKtlsConnectionsFail",
          "annotations": {
            "description": "TLS connections of {{ $labels.appliance }} in IPspace {{ $labels.ipspace }} failed several times with the same host.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceKtlsConnectionsFail.md",
            "summary": "TLS connections with a host keep failing."
          },
          "expr": "sum by (appliance, ipspace) (increase(ktls_connection_failures_total{test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ktls",
            "severity": "warning"
          }
        }
      ]
    },
    {
      "name": "appliance-logs",
      "rules": [
        {
          "alert": "ApplianceSilent",
          "annotations": {
            "description": "{{ $labels.appliance }} was last heard {{ $value | humanizeDuration }} ago.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceSilent.md",
            "summary": "An appliance has stopped logging, so that its faults go unnoticed."
          },
          "expr": "time() - max by (appliance) (log_last_message_timestamp_seconds{test=\"\"}) > scalar(appliance:threshold{name=\"appliance_silence_seconds\"})\n",
          "labels": {
            "component": "logs",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceProgramSilent",
          "annotations": {
            "description": "{{ $labels.program }} on {{ $labels.appliance }} was last heard {{ $value | humanizeDuration }} ago, while the appliance still logs.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceProgramSilent.md",
            "summary": "A program that logs daily has fallen silent."
          },
          "expr": "time() - appliance_program:watched_last_message_timestamp_seconds:max > scalar(appliance:threshold{name=\"program_silence_seconds\"})\nunless on (appliance)\n  time() - max by (appliance) (log_last_message_timestamp_seconds{test=\"\"}) > scalar(appliance:threshold{name=\"appliance_silence_seconds\"})\n",
          "labels": {
            "component": "logs",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceUnmatchedLines",
          "annotations": {
            "description": "{{ $value | humanizePercentage }} of the lines of {{ $labels.program }} on {{ $labels.appliance }} meet no rule, more than twice as many as a day ago. The vendor may have changed its wording.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceUnmatchedLines.md",
            "summary": "Many lines of a program are no longer recognised."
          },
          "expr": "appliance_program:log_unmatched:ratio_rate1h > scalar(appliance:threshold{name=\"unmatched_ratio\"})\nunless on (appliance, program)\n  appliance_program:log_unmatched:ratio_rate1h offset 1d > appliance_program:log_unmatched:ratio_rate1h / 2\nand on (appliance, program)\n  sum by (appliance, program) (increase(log_unmatched_messages_total{test=\"\"}[1h])) > scalar(appliance:threshold{name=\"unmatched_lines\"})\n",
          "for": "15m",
          "labels": {
            "component": "logs",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceTestEvent",
          "annotations": {
            "description": "{{ $labels.appliance }} sent {{ printf \"%.0f\" $value }} lines with the test marker in 5 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceTestEvent.md",
            "summary": "A test line has arrived, so the path from the appliance to here works."
          },
          "expr": "sum by (appliance) (increase(log_messages_total{test=\"true\"}[5m])) > 0\n",
          "labels": {
            "component": "test",
            "severity": "info"
          }
        }
      ]
    },
    {
      "name": "appliance-ntls",
      "rules": [
        {
          "alert": "ApplianceNtlsDown",
          "annotations": {
            "description": "NTLS on {{ $labels.appliance }} has been down for one minute.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsDown.md",
            "summary": "The Network Trust Link service is down, and no client reaches the HSM."
          },
          "expr": "min by (appliance) (ntls_up{test=\"\"}) == 0\n",
          "for": "1m",
          "labels": {
            "component": "ntls",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceNtlsErrors",
          "annotations": {
            "description": "NTLS on {{ $labels.appliance }} logged the error {{ $labels.event }}, which a healthy appliance never logs.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsErrors.md",
            "summary": "The Network Trust Link service reports an internal error."
          },
          "expr": "sum by (appliance, event) (increase(ntls_errors_total{test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "ntls",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceNtlsHandshakeFailures",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} NTLS handshakes with {{ $labels.appliance }} failed in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsHandshakeFailures.md",
            "summary": "Many clients fail the NTLS handshake."
          },
          "expr": "sum by (appliance) (increase(ntls_handshake_failures_total{test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ntls_handshake_failures\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ntls",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceNtlsNoClientGetsIn",
          "annotations": {
            "description": "{{ printf \"%.0f\" $value }} NTLS handshakes with {{ $labels.appliance }} failed in 10 minutes, and no client was authenticated.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsNoClientGetsIn.md",
            "summary": "No client gets through the NTLS handshake."
          },
          "expr": "sum by (appliance) (increase(ntls_handshake_failures_total{test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ntls_handshake_failures\"})\nunless on (appliance)\n  sum by (appliance) (increase(ntls_clients_authenticated_total{test=\"\"}[10m])) > 0\n",
          "for": "5m",
          "labels": {
            "component": "ntls",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceNtlsCredentialFailures",
          "annotations": {
            "description": "{{ $labels.appliance }} could not verify the credentials of {{ printf \"%.0f\" $value }} NTLS clients in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsCredentialFailures.md",
            "summary": "Clients with unknown credentials try to use the HSM."
          },
          "expr": "sum by (appliance) (increase(ntls_connection_failures_total{event=~\"client_credentials_unverified.*\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ntls_credential_failures\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ntls",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceNtlsConnectionFailures",
          "annotations": {
            "description": "{{ $labels.appliance }} logged {{ printf \"%.0f\" $value }} failed client connections ({{ $labels.event }}) in 10 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsConnectionFailures.md",
            "summary": "Many client connections to NTLS are refused or break."
          },
          "expr": "sum by (appliance, event) (increase(ntls_connection_failures_total{event!~\"client_credentials_unverified.*\",test=\"\"}[10m])) > scalar(appliance:threshold{name=\"ntls_connection_failures\"})\n",
          "keep_firing_for": "5m",
          "labels": {
            "component": "ntls",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceNtlsCertificateMissing",
          "annotations": {
            "description": "{{ $labels.appliance }} has had no NTLS server certificate for 5 minutes. New client connections fail.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsCertificateMissing.md",
            "summary": "The NTLS server certificate is missing."
          },
          "expr": "max by (appliance) (ntls_certificate_missing{test=\"\"}) == 1\n",
          "for": "5m",
          "labels": {
            "component": "ntls",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceNtlsCertificateExpiring",
          "annotations": {
            "description": "The NTLS server certificate of {{ $labels.appliance }} has {{ $value | humanizeDuration }} left.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsCertificateExpiring.md",
            "summary": "The NTLS server certificate expires soon."
          },
          "expr": "min by (appliance) (ntls_certificate_expiry_timestamp_seconds{test=\"\"}) - time() < scalar(appliance:threshold{name=\"certificate_warning_seconds\"})\n",
          "labels": {
            "component": "ntls",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceNtlsCertificateExpiringNow",
          "annotations": {
            "description": "The NTLS server certificate of {{ $labels.appliance }} has {{ $value | humanizeDuration }} left; a minus means that it has expired.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceNtlsCertificateExpiringNow.md",
            "summary": "The NTLS server certificate expires within days or has expired."
          },
          "expr": "min by (appliance) (ntls_certificate_expiry_timestamp_seconds{test=\"\"}) - time() < scalar(appliance:threshold{name=\"certificate_critical_seconds\"})\n",
          "labels": {
            "component": "ntls",
            "severity": "critical"
          }
        }
      ]
    },
    {
      "name": "appliance-platform",
      "rules": [
        {
          "alert": "ApplianceOutOfService",
          "annotations": {
            "description": "{{ $labels.appliance }} has reported the state {{ $labels.state }} for 2 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceOutOfService.md",
            "summary": "An appliance is out of service."
          },
          "expr": "max by (appliance, state) (appliance_service_state{state=~\"out_of_service|off_line\",test=\"\"}) == 1\n",
          "for": "2m",
          "labels": {
            "component": "appliance",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceServiceTrouble",
          "annotations": {
            "description": "{{ $labels.appliance }} has reported the state \"in service with trouble\" for 5 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceServiceTrouble.md",
            "summary": "An appliance is in service with trouble."
          },
          "expr": "max by (appliance) (appliance_service_state{state=\"in_service_trouble\",test=\"\"}) == 1\n",
          "for": "5m",
          "labels": {
            "component": "appliance",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceServiceError",
          "annotations": {
            "description": "{{ $labels.appliance }} has reported status code {{ $labels.code }} for 5 minutes.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceServiceError.md",
            "summary": "The status daemon of an appliance reports an error code."
          },
          "expr": "max by (appliance, code) (appliance_service_error{code!=\"30\",test=\"\"}) == 1\n",
          "for": "5m",
          "labels": {
            "component": "appliance",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceCryptoServiceError",
          "annotations": {
            "description": "{{ $labels.appliance }} reports status code 30: the HSM is not working.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceCryptoServiceError.md",
            "summary": "The status daemon of an appliance reports that its HSM has failed."
          },
          "expr": "max by (appliance) (appliance_service_error{code=\"30\",test=\"\"}) == 1\n",
          "labels": {
            "component": "crypto",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceLogDiskFilling",
          "annotations": {
            "description": "The log disk of {{ $labels.appliance }} is {{ $value | humanizePercentage }} full.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceLogDiskFilling.md",
            "summary": "The log disk of an appliance is filling up."
          },
          "expr": "max by (appliance) (appliance_log_disk_used_ratio{test=\"\"}) >= scalar(appliance:threshold{name=\"log_disk_warning_ratio\"})\n",
          "labels": {
            "component": "appliance",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceLogDiskFull",
          "annotations": {
            "description": "The log disk of {{ $labels.appliance }} is {{ $value | humanizePercentage }} full. The appliance deletes logs at 90 % and stops NTLS at 95 %.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceLogDiskFull.md",
            "summary": "The log disk of an appliance is nearly full; logs are deleted, then NTLS is stopped."
          },
          "expr": "max by (appliance) (appliance_log_disk_used_ratio{test=\"\"}) >= scalar(appliance:threshold{name=\"log_disk_critical_ratio\"})\n",
          "labels": {
            "component": "appliance",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceFileSystemReadOnly",
          "annotations": {
            "description": "{{ $labels.appliance }} could not write a file that it always writes; its file system is probably read-only.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceFileSystemReadOnly.md",
            "summary": "The file system of an appliance has become read-only."
          },
          "expr": "sum by (appliance) (increase(log_events_total{event=\"anacron_pid_file_failed\",test=\"\"}[10m])) > 0\n",
          "keep_firing_for": "1h",
          "labels": {
            "component": "appliance",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceHardwareWatchdogOff",
          "annotations": {
            "description": "The watchdog that restarts {{ $labels.appliance }} when it hangs was closed or switched off more than 15 minutes ago and has not been switched on again.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceHardwareWatchdogOff.md",
            "summary": "The hardware watchdog of an appliance is off."
          },
          "expr": "sum by (appliance) (\n    increase(log_events_total{event=~\"watchdog_closed_unexpectedly|watchdog_not_stopped|watchdog_disabled\",test=\"\"}[1h])\n  ) > 0\nunless on (appliance)\n  sum by (appliance) (increase(log_events_total{event=\"watchdog_enabled\",test=\"\"}[1h])) > 0\n",
          "for": "15m",
          "labels": {
            "component": "appliance",
            "severity": "warning"
          }
        },
        {
          "alert": "ApplianceKernelPanic",
          "annotations": {
            "description": "The management controller of {{ $labels.appliance }} recorded a kernel panic.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceKernelPanic.md",
            "summary": "The kernel of an appliance has panicked."
          },
          "expr": "sum by (appliance) (increase(log_events_total{event=\"kernel_panic\",test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "appliance",
            "severity": "critical"
          }
        },
        {
          "alert": "ApplianceProgramCrashed",
          "annotations": {
            "description": "{{ $labels.program }} on {{ $labels.appliance }} crashed.",
            "runbook_url": "https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/ApplianceProgramCrashed.md",
            "summary": "A program on an appliance has crashed."
          },
          "expr": "sum by (appliance, program) (increase(log_crashes_total{test=\"\"}[5m])) > 0\n",
          "keep_firing_for": "15m",
          "labels": {
            "component": "appliance",
            "severity": "critical"
          }
        }
      ]
    }
  ]
},
  prometheusRules+:: {
  "groups": [
    {
      "name": "appliance-logs",
      "rules": [
        {
          "expr": "sum by (appliance, program) (rate(log_unmatched_messages_total{test=\"\"}[1h]))\n/\n  sum by (appliance, program) (rate(log_messages_total{test=\"\"}[1h]))\n",
          "record": "appliance_program:log_unmatched:ratio_rate1h"
        }
      ]
    },
    {
      "name": "appliance-selectors",
      "rules": [
        {
          "expr": "max by (job, instance) (up{job=~\"appliance_logs|appliance-log-exporter.*\"})",
          "record": "appliance:exporter:up"
        },
        {
          "expr": "max by (appliance, program) (log_last_message_timestamp_seconds{program=~\"crond?|crontab|anacron|logger\",test=\"\"})",
          "record": "appliance_program:watched_last_message_timestamp_seconds:max"
        }
      ]
    },
    {
      "name": "appliance-thresholds",
      "rules": [
        {
          "expr": "vector(0.8)",
          "labels": {
            "name": "sel_used_ratio"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(60)",
          "labels": {
            "name": "disk_temperature_warning_celsius"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(70)",
          "labels": {
            "name": "disk_temperature_critical_celsius"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(10)",
          "labels": {
            "name": "ntls_handshake_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(3)",
          "labels": {
            "name": "ntls_credential_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(10)",
          "labels": {
            "name": "ntls_connection_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(30 * 86400)",
          "labels": {
            "name": "certificate_warning_seconds"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(7 * 86400)",
          "labels": {
            "name": "certificate_critical_seconds"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(2)",
          "labels": {
            "name": "hsm_login_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(0.75)",
          "labels": {
            "name": "log_disk_warning_ratio"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(0.9)",
          "labels": {
            "name": "log_disk_critical_ratio"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(20)",
          "labels": {
            "name": "ssh_login_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(3)",
          "labels": {
            "name": "console_login_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(5)",
          "labels": {
            "name": "adminapi_login_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(4)",
          "labels": {
            "name": "vpn_changes"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(5)",
          "labels": {
            "name": "ike_negotiation_failures"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(100)",
          "labels": {
            "name": "ipsec_replay_drops"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(10)",
          "labels": {
            "name": "ipsec_integrity_drops"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(10)",
          "labels": {
            "name": "ipsec_decryption_drops"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(500)",
          "labels": {
            "name": "ipsec_other_drops"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(10)",
          "labels": {
            "name": "ktls_bad_auth"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(5)",
          "labels": {
            "name": "ktls_bad_auth_one_address"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(2 * 3600)",
          "labels": {
            "name": "appliance_silence_seconds"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(26 * 3600)",
          "labels": {
            "name": "program_silence_seconds"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(0.1)",
          "labels": {
            "name": "unmatched_ratio"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(10)",
          "labels": {
            "name": "unmatched_lines"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(1e6)",
          "labels": {
            "name": "source_lag_bytes"
          },
          "record": "appliance:threshold"
        },
        {
          "expr": "vector(300)",
          "labels": {
            "name": "checkpoint_age_seconds"
          },
          "record": "appliance:threshold"
        }
      ]
    }
  ]
},
}
