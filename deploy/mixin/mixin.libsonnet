// Alerts, recording rules and dashboards of appliance_log_exporter for other mixins to add to. What can be set is in
// config.libsonnet. rules.json is made from rules/alerts by tests/it/alerts.rs.
local groups = import 'rules.json';

local unit = { s: 1, m: 60, h: 3600, d: 86400 };
local durations = ['1m', '2m', '5m', '10m', '15m', '30m', '1h', '2h', '6h', '1d', '7d'];

(import 'config.libsonnet') {
  local config = $._config,

  // A duration such as `10m`, scaled.
  local scaled(text) =
    if config.timeFactor == 1 then text else
      local last = std.length(text) - 1;
      local seconds = std.parseInt(std.substr(text, 0, last)) * unit[text[last]];
      '%dms' % std.max(1, std.floor(seconds * 1000 * config.timeFactor + 0.5)),

  local replaced(text, pairs) =
    std.foldl(function(sum, pair) std.strReplace(sum, pair[0], pair[1]), pairs, text),

  // An expression with the selector, and its windows and holds scaled.
  local expression(text) =
    local selected =
      if config.selector == '' then text
      else std.strReplace(text, 'test=""', 'test="",' + config.selector);
    if config.timeFactor == 1 then selected else replaced(
      selected,
      [['[' + duration + ']', '[' + scaled(duration) + ']'] for duration in durations] +
      [['offset ' + duration, 'offset ' + scaled(duration)] for duration in durations] +
      [['/ 60', '/ %g' % (60 * config.timeFactor)]] +
      // In two steps, or an hour that became 60 seconds would be taken for a minute.
      [['* 3600', '* HOUR'], ['* 60', '* MINUTE']] +
      [['* HOUR', '* %g' % (3600 * config.timeFactor)], ['* MINUTE', '* %g' % (60 * config.timeFactor)]]
    ),

  local alert(rule) = rule {
    expr: expression(super.expr),
    [if 'for' in rule then 'for']: scaled(rule['for']),
    [if 'keep_firing_for' in rule then 'keep_firing_for']: scaled(rule.keep_firing_for),
    labels+: {
      [if rule.alert in config.severities then 'severity']: config.severities[rule.alert],
    },
    annotations+: {
      dashboard_url: config.dashboardURLPrefix + super.dashboard_url,
      runbook_url: config.runbookURLPattern % rule.alert,
    },
  },

  local record(rule) = rule {
    local name = if rule.record == 'appliance:threshold' then rule.labels.name else '',
    expr:
      if name in config.thresholds then 'vector(%s)' % config.thresholds[name]
      else expression(super.expr),
  },

  local part(key, suffix, change) = [
    {
      name: group.name + suffix,
      rules: [change(rule) for rule in group.rules if key in rule],
    }
    for group in groups
    if std.length([rule for rule in group.rules if key in rule]) > 0
  ],

  prometheusAlerts+:: { groups+: part('alert', '', alert) },
  prometheusRules+:: { groups+: part('record', '.rules', record) },
  // Alerts in tables lead to the same runbooks.
  local linked(property) = property {
    [if property.id == 'links' then 'value']: [
      link { url: if link.title == 'Runbook' then config.runbookURLPattern % '${__value.raw}' else link.url }
      for link in property.value
    ],
  },
  local override(rule) = rule { properties: [linked(property) for property in rule.properties] },
  local panel(it) = it {
    [if 'fieldConfig' in it then 'fieldConfig']: it.fieldConfig {
      overrides: [override(rule) for rule in it.fieldConfig.overrides],
    },
  },
  local dashboard(json) = json { panels: [panel(it) for it in json.panels] },

  grafanaDashboards+:: {
    'access.json': dashboard(import '../../grafana/dashboards/access.json'),
    'exporter.json': dashboard(import '../../grafana/dashboards/exporter.json'),
    'fleet.json': dashboard(import '../../grafana/dashboards/fleet.json'),
    'hardware.json': dashboard(import '../../grafana/dashboards/hardware.json'),
    'hsm.json': dashboard(import '../../grafana/dashboards/hsm.json'),
    'ipsec.json': dashboard(import '../../grafana/dashboards/ipsec.json'),
    'ktls.json': dashboard(import '../../grafana/dashboards/ktls.json'),
    'shards.json': dashboard(import '../../grafana/dashboards/shards.json'),
  },
}
