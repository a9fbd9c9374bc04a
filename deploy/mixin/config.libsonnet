{
  _config+:: {
    // Narrows every series about appliances, as `tenant="a"`.
    selector: '',
    // Where runbooks lie; `%s` is the alert.
    runbookURLPattern: 'https://github.com/appliance-log-exporter/appliance_log_exporter/blob/main/docs/runbooks/%s.md',
    // Goes before the path of a dashboard. Without it the template of Alertmanager puts Grafana's address there.
    dashboardURLPrefix: '',
    // Other thresholds than those of rules/alerts/site.yaml, by name: a number or an expression.
    thresholds: {},
    // Other severities, by alert.
    severities: {},
    // Multiplies every duration: windows, holds, silence. For tests, where a minute must be a second.
    timeFactor: 1,
  },
}
