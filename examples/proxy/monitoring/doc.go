// Package monitoring holds files for those who watch proxies with Prometheus and Grafana: alert
// rules with their unit tests, and a dashboard. README.md says what each metric and each alert
// means, and what to do. Tests compare all of them with the metrics that there are.
package monitoring
